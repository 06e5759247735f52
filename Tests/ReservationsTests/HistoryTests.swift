// SPDX-License-Identifier: Apache-2.0
import Reservations
import Testing

/// Properties that hold whatever hosts do.
@Suite struct HistoryTests {
    static let initiators = ["a", "b", "f", "s"].compactMap { try? Script.initiator($0) }
    static let nexuses = initiators.flatMap { id in [1, 2, 4].map { Nexus(id, port: $0) } }

    static func command(_ random: inout Seeded, _ oracle: Oracle) -> Oracle.Command {
        let nexus = nexuses.randomElement(using: &random) ?? nexuses[0]
        let known = oracle.keys[nexus] ?? 0
        // Mostly the right key, so that something happens
        let key = Int.random(in: 0..<8, using: &random) == 0 ? .random(in: 0...3, using: &random) : known
        let new = UInt64.random(in: 0...3, using: &random)
        let victim = oracle.keys.values.sorted().randomElement(using: &random) ?? new
        var type = ReservationType.allCases.randomElement(using: &random) ?? .writeExclusive
        let yes = Bool.random(using: &random)
        let rare = Int.random(in: 0..<4, using: &random) == 0
        switch Int.random(in: 0..<20, using: &random) {
        case 0..<6:
            let list = rare ? initiators.filter { _ in Bool.random(using: &random) } : []
            return .register(
                nexus, key: key, new: new, ignore: yes, all: .random(using: &random), list: list, aptpl: rare)
        case 6..<9: return .register(nexus, key: 0, new: max(1, new), ignore: false, all: false, list: [], aptpl: yes)
        case 9..<12: return .reserve(nexus, key: key, type)
        case 12..<14:
            if !rare { type = oracle.type ?? type }
            return .release(nexus, key: key, type)
        case 14: return rare ? .clear(nexus, key: key) : .spc2(nexus, reserve: yes)
        case 15..<18:
            let scope: UInt8 = Int.random(in: 0..<4, using: &random) == 0 ? 2 : 0
            return .preempt(nexus, key: key, victim: rare ? 0 : victim, type, scope: scope, abort: yes)
        case 18:
            let to = nexuses.randomElement(using: &random) ?? nexus
            return .move(nexus, key: key, new: new, to: to, unregister: yes, aptpl: rare)
        default: return .spc2(nexus, reserve: yes)
        }
    }

    /// What holds of every state.
    static func check(_ state: ReservationState) throws {
        let registrations = state.registrations
        let holders = registrations.filter(\.isHolder)
        switch state.type {
        case nil: #expect(holders.isEmpty)
        case .some(let type) where type.isAllRegistrants: #expect(!holders.isEmpty)
        default: #expect(holders.count == 1)
        }
        #expect(registrations.allSatisfy { $0.key != 0 })
        #expect(Set(registrations.map(\.nexus)).count == registrations.count)
        if state.reserver != nil { #expect(registrations.isEmpty) }
        let bytes = state.encoded()
        let decoded = try ReservationState(decoding: bytes)
        #expect(decoded.encoded() == bytes)
        #expect(decoded.registrations == registrations)
        #expect(decoded.remembered == state.remembered)
    }

    @Test(arguments: 0..<100 as Range<UInt64>) func agreesWithTheRules(seed: UInt64) throws {
        var random = Seeded(seed)
        var state = ReservationState()
        var oracle = Oracle()
        var history: [Oracle.Command] = []
        for _ in 0..<100 {
            let command = Self.command(&random, oracle)
            history.append(command)
            let before = state
            let status = state.apply(command.sent)
            let expected = oracle.apply(command)
            let registrations = state.registrations
            let same =
                status == expected && state.type == oracle.type && state.generation == oracle.generation
                && state.reserver == oracle.reserver && state.persistsThroughPowerLoss == oracle.aptpl
                && Dictionary(uniqueKeysWithValues: registrations.map { ($0.nexus, $0.key) }) == oracle.keys
                && registrations.allSatisfy { $0.isHolder == oracle.holds($0.nexus) }
                && Self.nexuses.allSatisfy {
                    state.effects(on: $0, since: before.version) == oracle.effects[$0] ?? []
                        && state.rights(of: $0) == oracle.rights(of: $0)
                }
            if !same {
                Issue.record(
                    """
                    seed \(seed): \(status), expected \(expected), after \(history.count) commands, the last \(command)
                    before: \(Script.describe(before))
                    after: \(Script.describe(state))
                    effects: \(Script.effects(state, since: before.version)), expected \(oracle.effects)
                    """)
                return
            }
            if state.version == before.version { #expect(state == before) }
            try Self.check(state)
        }
    }

    /// Nodes that start from the same bytes and do the same in the same order have the same bytes.
    @Test(arguments: 0..<20 as Range<UInt64>) func deterministic(seed: UInt64) throws {
        var random = Seeded(seed)
        var first = ReservationState()
        var oracle = Oracle()
        for _ in 0..<100 {
            let command = Self.command(&random, oracle)
            _ = oracle.apply(command)
            var second = try ReservationState(decoding: first.encoded())
            let status = first.apply(command.sent)
            #expect(second.apply(command.sent) == status)
            #expect(first.encoded() == second.encoded())
        }
    }

    /// A nexus whose registration was taken away may not write while there is a reservation, until it registers again.
    @Test(arguments: 0..<20 as Range<UInt64>) func whoIsPreemptedIsOut(seed: UInt64) throws {
        var random = Seeded(seed)
        var state = ReservationState()
        var oracle = Oracle()
        var out: Set<Nexus> = []
        for _ in 0..<100 {
            let command = Self.command(&random, oracle)
            _ = oracle.apply(command)
            let before = state
            _ = state.apply(command.sent)
            for nexus in Self.nexuses {
                let effects = state.effects(on: nexus, since: before.version)
                if effects.contains(.registrationsPreempted) { out.insert(nexus) }
                if state.registrations.contains(where: { $0.nexus == nexus }) { out.remove(nexus) }
            }
            for nexus in out {
                if state.type != nil { #expect(!state.rights(of: nexus).contains(.write)) }
                var copy = state
                #expect(copy.apply(.persistentReserveOut(nexus, action: 1, key: 1, type: 1)) == .reservationConflict)
                #expect(copy == state)
            }
        }
    }

    /// A node that sees only some of the versions does what one does that sees them all.
    @Test(arguments: 0..<50 as Range<UInt64>) func versionsMayBeSkipped(seed: UInt64) throws {
        var random = Seeded(seed)
        var state = ReservationState()
        var oracle = Oracle()
        for _ in 0..<20 {
            let seen = state.version
            var told: [Nexus: Effects] = [:]
            for _ in 0..<Int.random(in: 1...8, using: &random) {
                let command = Self.command(&random, oracle)
                _ = oracle.apply(command)
                let version = state.version
                _ = state.apply(command.sent)
                for nexus in Self.nexuses {
                    told[nexus, default: []].formUnion(state.effects(on: nexus, since: version))
                }
            }
            let lost: Effects = [.reservationsPreempted, .registrationsPreempted]
            for nexus in Self.nexuses {
                let all = told[nexus] ?? []
                let effects = state.effects(on: nexus, since: seen)
                #expect(effects.subtracting(lost) == all.subtracting(lost))
                // Lost twice for two reasons: the last one is told.
                #expect(effects.isDisjoint(with: lost) == all.isDisjoint(with: lost))
                #expect(effects.isSubset(of: all))
            }
        }
    }
}
