// SPDX-License-Identifier: Apache-2.0
import Reservations
import Testing

/// The checker of live histories finds an order where there is one, and none in a history with a fault.
@Suite struct HistoryCheckTests {
    /// Hosts that send commands which overlap; each takes effect at a random moment in between.
    ///
    /// - Parameter troubled: whether sessions are lost, units are reset and some commands have no answer.
    static func history(
        seed: UInt64, hosts: Int = 6, commands: Int = 40, troubled: Bool = false
    ) -> ReservationHistory {
        var random = Seeded(seed)
        struct Pending {
            var host: Int
            let sent: UInt64
            let effect: UInt64
            var answered: UInt64
        }
        var pending: [Pending] = []
        for host in 0..<hosts {
            var time = UInt64.random(in: 0..<50, using: &random)
            for _ in 0..<commands {
                let effect = time + .random(in: 1..<100, using: &random)
                let answered = effect + .random(in: 1..<100, using: &random)
                pending.append(Pending(host: host, sent: time, effect: effect, answered: answered))
                time = answered + .random(in: 1..<20, using: &random)
            }
        }
        var state = ReservationState()
        var oracle = Oracle()
        var history = ReservationHistory()
        for one in pending.sorted(by: { ($0.effect, $0.host) < ($1.effect, $1.host) }) {
            let kind: ReservationHistory.Operation.Kind
            var one = one
            if troubled, Int.random(in: 0..<6, using: &random) == 0 {
                // Over long after it took effect; until then its host has gone on.
                one.host = 1000 + history.operations.count
                one.answered += 500
                let command = HistoryTests.command(&random, oracle)
                switch Int.random(in: 0..<4, using: &random) {
                case 0:
                    _ = oracle.apply(command)
                    _ = state.apply(command.sent)
                    kind = .aborted(command.sent)
                case 1: kind = .aborted(command.sent)
                case 2:
                    let nexus = state.reserver ?? command.sent.nexus
                    kind = .nexusLoss(nexus)
                    if oracle.reserver == nexus { oracle.reserver = nil }
                    state.lose(nexus)
                default:
                    kind = .reset(isComplete: true)
                    oracle.reserver = nil
                    state.reset()
                }
            } else if troubled, Int.random(in: 0..<3, using: &random) == 0 {
                let nexus = HistoryTests.nexuses.randomElement(using: &random) ?? HistoryTests.nexuses[0]
                let cdb: [UInt8] = [Bool.random(using: &random) ? 0x8A : 0x88] + [UInt8](repeating: 0, count: 15)
                kind = .medium(
                    nexus, cdb: cdb, isGood: state.rights(of: nexus).isSuperset(of: Rights.needed(for: cdb)))
            } else if Int.random(in: 0..<4, using: &random) == 0, state.reserver == nil {
                let cdb = ReadTests.cdb(3, length: 4096)
                kind = .read(cdb: cdb, data: state.read(cdb).data)
            } else {
                let command = HistoryTests.command(&random, oracle)
                _ = oracle.apply(command)
                kind = .change(command.sent, state.apply(command.sent))
            }
            history.operations.append(
                ReservationHistory.Operation(
                    host: one.host, sent: one.sent, answered: one.answered, kind: kind))
        }
        return history
    }

    @Test(arguments: 0..<10 as Range<UInt64>) func findsTheOrder(seed: UInt64) throws {
        #expect(throws: Never.self) { try Self.history(seed: seed).check() }
    }

    @Test(arguments: 0..<10 as Range<UInt64>) func findsTheOrderInSpiteOfTrouble(seed: UInt64) throws {
        #expect(throws: Never.self) { try Self.history(seed: seed, troubled: true).check() }
    }

    /// A session's SPC-2 reservation ends with it, unless nobody noticed.
    @Test func lossEndsAReservationOrNot() throws {
        let a = try Script.nexus("a1")
        let b = try Script.nexus("b2")
        let reserve: [UInt8] = [0x16, 0, 0, 0, 0, 0]
        for (lost, status, fits) in [
            (a, CommandStatus.good, true), (a, .reservationConflict, true), (b, .good, false),
            (b, .reservationConflict, true),
        ] {
            let history = ReservationHistory(operations: [
                .init(
                    host: 0, sent: 0, answered: 10,
                    kind: .change(ReservationCommand(nexus: a, cdb: reserve), .good)),
                .init(host: 2, sent: 11, answered: .max, kind: .nexusLoss(lost)),
                .init(
                    host: 1, sent: 20, answered: 30,
                    kind: .change(ReservationCommand(nexus: b, cdb: reserve), status)),
            ])
            if fits {
                #expect(throws: Never.self) { try history.check() }
            } else {
                #expect(throws: ReservationHistory.Violation.self) { try history.check() }
            }
        }
    }

    /// A reset that has been answered has ended the SPC-2 reservation.
    @Test(arguments: [true, false]) func aResetEndsAReservation(isComplete: Bool) throws {
        let a = try Script.nexus("a1")
        let b = try Script.nexus("b2")
        let reserve: [UInt8] = [0x16, 0, 0, 0, 0, 0]
        let history = ReservationHistory(operations: [
            .init(
                host: 0, sent: 0, answered: 10, kind: .change(ReservationCommand(nexus: a, cdb: reserve), .good)),
            .init(host: 1, sent: 11, answered: 15, kind: .reset(isComplete: isComplete)),
            .init(
                host: 1, sent: 20, answered: 30,
                kind: .change(ReservationCommand(nexus: b, cdb: reserve), .reservationConflict)),
        ])
        if isComplete {
            #expect(throws: ReservationHistory.Violation.self) { try history.check() }
        } else {
            #expect(throws: Never.self) { try history.check() }
        }
    }

    /// Writes are checked by copies of the state that change one after the other while the change has no answer, and are all
    /// the same before and after.
    @Test func writesMayMeetTheOldOrTheNewState() throws {
        let a = try Script.nexus("a1")
        let b = try Script.nexus("b2")
        let cdb: [UInt8] = [0x8A] + [UInt8](repeating: 0, count: 15)
        func fits(_ writes: [(sent: UInt64, isGood: Bool)]) -> Bool {
            var history = ReservationHistory(operations: [
                .init(
                    host: 0, sent: 0, answered: 10,
                    kind: .change(.persistentReserveOut(a, action: 0, actionKey: 1), .good)),
                .init(
                    host: 0, sent: 100, answered: 200,
                    kind: .change(.persistentReserveOut(a, action: 1, key: 1, type: 1), .good)),
            ])
            for write in writes {
                history.operations.append(
                    .init(
                        host: 1, sent: write.sent, answered: write.sent + 10,
                        kind: .medium(b, cdb: cdb, isGood: write.isGood)))
            }
            return (try? history.check()) != nil
        }
        #expect(Rights.needed(for: cdb) == .write)
        #expect(fits([(20, true), (120, false), (140, true), (160, false), (210, false)]))
        #expect(fits([(195, true)]), "sent before the answer")
        #expect(!fits([(20, false)]), "before there was a reservation")
        #expect(!fits([(210, true)]), "after GOOD")
    }

    /// Whatever may have happened or not takes time to search; there is an end to that.
    @Test func givesUp() throws {
        let history = Self.history(seed: 1)
        guard case .undecided = history.search(limit: 3) else {
            Issue.record("found it by three points")
            return
        }
    }

    /// An update that was lost: one host's change never happened for those that read later.
    @Test func findsALostUpdate() throws {
        let a = try Script.nexus("a1")
        let b = try Script.nexus("b2")
        let cdb = ReadTests.cdb(0, length: 4096)
        var history = ReservationHistory()
        func add(_ host: Int, _ from: UInt64, _ to: UInt64, _ kind: ReservationHistory.Operation.Kind) {
            history.operations.append(
                ReservationHistory.Operation(host: host, sent: from, answered: to, kind: kind))
        }
        add(0, 0, 10, .change(.persistentReserveOut(a, action: 0, actionKey: 1), .good))
        add(1, 5, 15, .change(.persistentReserveOut(b, action: 0, actionKey: 2), .good))
        add(0, 20, 30, .read(cdb: cdb, data: big(2, 4) + big(16, 4) + big(1, 8) + big(2, 8)))
        #expect(throws: Never.self) { try history.check() }
        history.operations.removeLast()
        add(0, 20, 30, .read(cdb: cdb, data: big(1, 4) + big(8, 4) + big(2, 8)))
        #expect(throws: ReservationHistory.Violation.self) { try history.check() }
    }

    /// Two preempt each other's key at once: only one of them can have been there to do it.
    @Test func findsTwoWinners() throws {
        let a = try Script.nexus("a1")
        let b = try Script.nexus("b2")
        var history = ReservationHistory()
        for (host, nexus, key) in [(0, a, UInt64(1)), (1, b, 2)] {
            history.operations.append(
                ReservationHistory.Operation(
                    host: host, sent: 0, answered: 10,
                    kind: .change(.persistentReserveOut(nexus, action: 0, actionKey: key), .good)))
            history.operations.append(
                ReservationHistory.Operation(
                    host: host, sent: 20, answered: 30,
                    kind: .change(
                        .persistentReserveOut(nexus, action: 4, key: key, actionKey: 3 - key, type: 1), .good)))
        }
        #expect(throws: ReservationHistory.Violation.self) { try history.check() }
    }

    /// A REGISTER that was aborted is there for those that read later, or never was.
    @Test func anAbortedCommandMayHaveTakenEffect() throws {
        let a = try Script.nexus("a1")
        let cdb = ReadTests.cdb(0, length: 4096)
        for (data, fits) in [
            ([big(0, 4) + big(0, 4), big(0, 4) + big(0, 4)], true),
            ([big(1, 4) + big(8, 4) + big(1, 8), big(1, 4) + big(8, 4) + big(1, 8)], true),
            ([big(0, 4) + big(0, 4), big(1, 4) + big(8, 4) + big(1, 8)], false),
        ] {
            var history = ReservationHistory()
            history.operations = [
                .init(
                    host: 0, sent: 0, answered: 10,
                    kind: .aborted(.persistentReserveOut(a, action: 0, actionKey: 1))),
                .init(host: 1, sent: 20, answered: 30, kind: .read(cdb: cdb, data: data[0])),
                .init(host: 1, sent: 40, answered: 50, kind: .read(cdb: cdb, data: data[1])),
            ]
            if fits {
                #expect(throws: Never.self) { try history.check() }
            } else {
                #expect(throws: ReservationHistory.Violation.self) { try history.check() }
            }
        }
    }

    /// A fault somewhere in a long history: an answer that is another, or a read of what was before.
    @Test(arguments: 0..<10 as Range<UInt64>) func findsAFault(seed: UInt64) throws {
        var history = Self.history(seed: seed, hosts: 4, commands: 30)
        let late = history.operations.indices.last {
            if case .read = history.operations[$0].kind { true } else { false }
        }
        let index = try #require(late)
        if case .read(let cdb, var data) = history.operations[index].kind {
            data[3] &-= 1  // PRGENERATION
            history.operations[index].kind = .read(cdb: cdb, data: data)
        }
        // One generation earlier may have been in force in between, but not for all reads that overlap nothing.
        history.operations[index].sent = (history.operations.map(\.answered).max() ?? 0) + 1
        history.operations[index].answered = history.operations[index].sent + 1
        history.operations[index].host = 99
        #expect(throws: ReservationHistory.Violation.self) { try history.check() }
    }
}
