// SPDX-License-Identifier: Apache-2.0
import Reservations
import Testing

/// Commands and states in a few characters, so that a rule and its test fit on a line.
///
/// A nexus is an initiator and a target port: `a1`. Initiators: `a`, `b`, `c` are iSCSI ports, `A`, `B`, `C` all ports
/// of theirs (no ISID), `f` is of Fibre Channel, `s` of SAS, `r` of SRP. Commands:
///
///     a1 register KEY ACTIONKEY [all] [aptpl] [spec INITIATORS] [TYPE]
///     a1 ignore ACTIONKEY ...                        REGISTER AND IGNORE EXISTING KEY
///     a1 reserve KEY TYPE                            release, clear, preempt, abort (PREEMPT AND ABORT) likewise
///     a1 move KEY ACTIONKEY to b2 [unreg] [aptpl]    REGISTER AND MOVE
///     a1 RESERVE, a1 RELEASE                         SPC-2
///     reset, lose a1, lose 1
///
/// Keys are hexadecimal. Types are WE, EA, WE-RO, EA-RO, WE-AR, EA-AR.
enum Script {
    static let ports: [UInt16] = [1, 2, 3]
    static let types: [(String, ReservationType)] = [
        ("WE", .writeExclusive), ("EA", .exclusiveAccess),
        ("WE-RO", .writeExclusiveRegistrantsOnly), ("EA-RO", .exclusiveAccessRegistrantsOnly),
        ("WE-AR", .writeExclusiveAllRegistrants), ("EA-AR", .exclusiveAccessAllRegistrants),
    ]

    struct Wrong: Error, CustomStringConvertible {
        let description: String

        init(_ text: String) { description = "the test's script is wrong: \(text)" }
    }

    static func initiator(_ name: Character) throws -> TransportID {
        let id: TransportID? =
            switch name {
            case "a", "b", "c": TransportID(iscsi: "iqn.2026-01.x:\(name)", isid: 0x00_023d_00_0001)
            case "A", "B", "C": TransportID(iscsi: "iqn.2026-01.x:\(name.lowercased())")
            case "f": TransportID(fibreChannel: 0x2100_000e_1e09_a2b4)
            case "s": TransportID(sas: 0x5000_c500_1234_5678)
            case "r": TransportID(srp: 0x1234_5678_9abc_def0, 0xfec0_ffee_0000_0001)
            default: nil
            }
        return try id ?? { throw Wrong("no initiator \(name)") }()
    }

    static func nexus(_ text: String) throws -> Nexus {
        guard let name = text.first, let port = UInt16(text.dropFirst()) else { throw Wrong("no nexus \(text)") }
        return Nexus(try initiator(name), port: port)
    }

    static let nexuses: [(String, Nexus)] = "abcABCfsr".flatMap { name in
        (0...9).compactMap { port in
            (try? nexus("\(name)\(port)")).map { ("\(name)\(port)", $0) }
        }
    }

    static func name(_ nexus: Nexus) -> String { nexuses.first { $0.1 == nexus }?.0 ?? "\(nexus)" }

    /// Runs `commands`, each ended by `;`.
    static func run(_ commands: String, on state: inout ReservationState) throws {
        for command in commands.split(separator: ";") where command.contains(where: { $0 != " " }) {
            let status = try step(String(command), on: &state)
            if status != .good { throw Wrong("\"\(command)\" was answered \(describe(status))") }
        }
    }

    /// Runs one command.
    static func step(_ text: String, on state: inout ReservationState) throws -> CommandStatus {
        let words = text.split(separator: " ").map(String.init)
        switch words.first {
        case "reset":
            state.reset()
            return .good
        case "lose":
            if let port = UInt16(words[1]) { state.losePort(port) } else { state.lose(try nexus(words[1])) }
            return .good
        default:
            return state.apply(try command(words))
        }
    }

    static func command(_ words: [String]) throws -> ReservationCommand {
        let from = try nexus(words[0])
        if words[1] == "RESERVE" || words[1] == "RELEASE" {
            let cdb: [UInt8] = [words[1] == "RESERVE" ? 0x16 : 0x17, 0, 0, 0, 0, 0]
            return ReservationCommand(nexus: from, cdb: cdb)
        }
        let actions = [
            "register": 0, "reserve": 1, "release": 2, "clear": 3, "preempt": 4, "abort": 5, "ignore": 6, "move": 7,
            "replace": 8,
        ]
        guard let action = actions[words[1]] else { throw Wrong("no service action \(words[1])") }
        var rest = words.dropFirst(2)
        var keys: [UInt64] = []
        while keys.count < 2, let word = rest.first, word == word.lowercased(), let key = UInt64(word, radix: 16) {
            keys.append(key)
            rest = rest.dropFirst()
        }
        if action == 6, keys.count == 1 { keys.insert(0xdead, at: 0) }
        while keys.count < 2 { keys.append(0) }
        var type: UInt8 = 0
        var list: [TransportID] = []
        var flags: UInt8 = 0
        var to: Nexus?
        while let word = rest.popFirst() {
            switch word {
            case "all": flags |= 0x04
            case "aptpl": flags |= 0x01
            case "unreg": flags |= 0x02
            case "spec":
                flags |= 0x08
                list = try (rest.popFirst() ?? "").map(initiator)
            case "to": to = try nexus(rest.popFirst() ?? "")
            default:
                guard let known = types.first(where: { $0.0 == word }) else { throw Wrong("what is \(word)?") }
                type = known.1.rawValue
            }
        }
        return .persistentReserveOut(
            from, action: UInt8(action), key: keys[0], actionKey: keys[1], type: type, flags: flags, list: list, to: to)
    }

    static func describe(_ status: CommandStatus) -> String {
        switch status {
        case .good: "good"
        case .reservationConflict: "conflict"
        case .checkCondition(key: 5, code: 0x24, qualifier: 0): "bad cdb"
        case .checkCondition(key: 5, code: 0x26, qualifier: 0): "bad parameter"
        case .checkCondition(key: 5, code: 0x26, qualifier: 4): "bad release"
        case .checkCondition(key: 5, code: 0x1a, qualifier: 0): "bad length"
        case .checkCondition(key: 5, code: 0x55, qualifier: 4): "no room"
        case .checkCondition(let key, let code, let qualifier): "check \(key) \(code) \(qualifier)"
        }
    }

    /// Registrations with their keys, `*` with the holder's; the type; `aptpl`; who has an SPC-2 reservation.
    static func describe(_ state: ReservationState) -> String {
        var words = state.registrations.map {
            "\(name($0.nexus))=\(String($0.key, radix: 16))\($0.isHolder ? "*" : "")"
        }
        if let type = state.type { words += types.filter { $0.1 == type }.map(\.0) }
        if state.persistsThroughPowerLoss { words.append("aptpl") }
        if let reserver = state.reserver { words.append("reserved by \(name(reserver))") }
        return words.joined(separator: " ")
    }

    /// What a change did to nexuses, like `b1:03` for unit attention 2Ah/03h and `b1:abort`.
    static func effects(_ state: ReservationState, since version: UInt64) -> String {
        nexuses.filter { $0.0.first?.isLowercase ?? false }.compactMap { name, nexus in
            let effects = state.effects(on: nexus, since: version)
            var words: [String] = []
            if effects.contains(.reservationsPreempted) { words.append("03") }
            if effects.contains(.reservationsReleased) { words.append("04") }
            if effects.contains(.registrationsPreempted) { words.append("05") }
            if effects.contains(.abort) { words.append("abort") }
            return words.isEmpty ? nil : "\(name):\(words.joined(separator: ","))"
        }.joined(separator: " ")
    }

    /// What a command did: the answer; then ` unchanged`, or the new state, ` +1` if PRGENERATION grew, and effects.
    static func outcome(of text: String, after given: String) throws -> String {
        var state = ReservationState()
        try run(given, on: &state)
        let before = state
        let status = try step(text, on: &state)
        if state.version == before.version {
            #expect(state == before)
            return describe(status) + " unchanged"
        }
        #expect(state.version == before.version + 1)
        #expect(try ReservationState(decoding: state.encoded()) == state)
        let generation = state.generation == before.generation ? "" : " +\(state.generation - before.generation)"
        let effects = effects(state, since: before.version)
        let description = describe(state)
        return describe(status) + (description.isEmpty ? "" : " | " + description) + generation
            + (effects.isEmpty ? "" : " | " + effects)
    }
}

extension ReservationCommand {
    /// The CDB and parameter list of PERSISTENT RESERVE OUT (SPC-4 6.14).
    ///
    /// - Parameters:
    ///   - flags: byte 20, or byte 17 if there is a nexus to move to.
    ///   - list: the TransportIDs of SPEC_I_PT.
    static func persistentReserveOut(
        _ nexus: Nexus, action: UInt8, key: UInt64 = 0, actionKey: UInt64 = 0, type: UInt8 = 0, scope: UInt8 = 0,
        flags: UInt8 = 0, list: [TransportID] = [], to: Nexus? = nil, ports: [UInt16] = Script.ports
    ) -> ReservationCommand {
        var parameters = big(key, 8) + big(actionKey, 8)
        if let to {
            let id = to.initiator.bytes
            parameters += [0, flags] + big(UInt64(to.port), 2) + big(UInt64(id.count), 4) + id
        } else {
            parameters += [0, 0, 0, 0, flags, 0, 0, 0]
            if flags & 0x08 != 0 {
                let ids = list.flatMap(\.bytes)
                parameters += big(UInt64(ids.count), 4) + ids
            }
        }
        let cdb = [0x5f, action, scope << 4 | type, 0, 0] + big(UInt64(parameters.count), 4) + [0]
        return ReservationCommand(nexus: nexus, cdb: cdb, parameters: parameters, ports: ports)
    }
}

/// The last bytes of a big-endian number.
func big(_ value: UInt64, _ count: Int) -> [UInt8] {
    withUnsafeBytes(of: value.bigEndian) { Array($0.suffix(count)) }
}
