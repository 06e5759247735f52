// SPDX-License-Identifier: Apache-2.0
import Reservations
import Testing

/// The checker of live histories finds an order where there is one, and none in a history with a fault.
@Suite struct HistoryCheckTests {
    /// Hosts that send commands which overlap; each takes effect at a random moment in between.
    static func history(seed: UInt64, hosts: Int = 6, commands: Int = 40) -> ReservationHistory {
        var random = Seeded(seed)
        struct Pending {
            let host: Int
            let sent: UInt64
            let effect: UInt64
            let answered: UInt64
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
            if Int.random(in: 0..<4, using: &random) == 0, state.reserver == nil {
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
