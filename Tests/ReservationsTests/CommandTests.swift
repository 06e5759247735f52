// SPDX-License-Identifier: Apache-2.0
import Reservations
import Testing

/// A command as bytes, and how a unit on which `a1` holds a WE reservation with key Ah answers it.
struct Malformed: CustomTestStringConvertible, Sendable {
    let testDescription: String
    let answer: String
    let command: ReservationCommand

    init(_ description: String, _ answer: String, _ cdb: [UInt8], _ parameters: [UInt8]) {
        testDescription = description
        self.answer = answer
        command = ReservationCommand(nexus: Nexus(a, port: 1), cdb: cdb, parameters: parameters, ports: [1, 2])
    }
}

private let a = TransportID(fibreChannel: 0xa)
private let b = TransportID(fibreChannel: 0xb)

private func cdb(_ action: UInt8, _ length: Int, _ scopeType: UInt8 = 1) -> [UInt8] {
    [0x5f, action, scopeType, 0, 0] + big(UInt64(length), 4) + [0]
}

private func basic(_ key: UInt64, _ actionKey: UInt64 = 0, flags: UInt8 = 0, more: [UInt8] = []) -> [UInt8] {
    big(key, 8) + big(actionKey, 8) + [0, 0, 0, 0, flags, 0, 0, 0] + more
}

private func moving(_ length: Int, _ more: [UInt8], port: UInt64 = 2) -> [UInt8] {
    big(0xa, 8) + big(0xb, 8) + [0, 0] + big(port, 2) + big(UInt64(length), 4) + more
}

/// The bytes of an iSCSI TransportID with this text, well-formed or not.
private func iscsi(_ text: String, format: UInt8 = 0x45, length: Int = 40, fill: UInt8 = 0) -> [UInt8] {
    let text = Array(text.utf8)
    return [format, 0] + big(UInt64(length), 2) + text + [UInt8](repeating: fill, count: max(0, length - text.count))
}

@Suite struct CommandTests {
    static let malformed: [Malformed] = [
        Malformed("no parameter list", "bad length", cdb(0, 0), []),
        Malformed("a parameter list too short", "bad length", cdb(0, 23), basic(0xa)),
        Malformed("a parameter list too long", "bad length", cdb(0, 28), basic(0xa, 0xb, more: [0, 0, 0, 0])),
        Malformed("less transferred than announced", "bad length", cdb(0, 24), Array(basic(0xa).dropLast())),
        Malformed("more transferred than announced", "good", cdb(0, 24), basic(0xa, 0xb, more: [1, 2, 3, 4])),
        Malformed("a list of 4 GiB", "bad length", cdb(0, 0xffff_ffff), basic(0xa)),
        Malformed("a CDB of 6 bytes", "bad cdb", Array(cdb(0, 24).prefix(6)), basic(0xa)),
        Malformed("a CDB of 5 bytes", "check 5 32 0", Array(cdb(0, 24).prefix(5)), basic(0xa)),
        Malformed("another command", "check 5 32 0", [0x28] + cdb(0, 24).dropFirst(), basic(0xa)),
        Malformed("no such service action", "bad cdb", cdb(9, 24), basic(0xa)),
        Malformed("the last service action", "bad cdb", cdb(0x1f, 24), basic(0xa)),
        Malformed("RESERVE, element scope", "bad cdb", cdb(1, 24, 0x21), basic(0xa)),
        Malformed("RESERVE, a reserved type", "bad cdb", cdb(1, 24, 2), basic(0xa)),
        Malformed("RELEASE, element scope", "bad release", cdb(2, 24, 0x21), basic(0xa)),
        Malformed("PREEMPT, element scope", "bad cdb", cdb(4, 24, 0x21), basic(0xa, 0xa)),
        Malformed("PREEMPT, a reserved type", "bad cdb", cdb(4, 24, 0x0f), basic(0xa, 0xa)),

        Malformed(
            "REGISTER AND MOVE, well-formed", "good", cdb(7, 48), moving(24, b.bytes)),
        Malformed("REGISTER AND MOVE, no TransportID", "bad parameter", cdb(7, 24), moving(0, [])),
        Malformed("REGISTER AND MOVE, TransportID cut off", "bad length", cdb(7, 44), moving(24, b.bytes)),
        Malformed(
            "REGISTER AND MOVE, TransportID too short", "bad parameter", cdb(7, 44),
            moving(20, Array(b.bytes.prefix(20)))),
        Malformed("REGISTER AND MOVE, two TransportIDs", "bad parameter", cdb(7, 72), moving(48, b.bytes + b.bytes)),
        Malformed(
            "REGISTER AND MOVE, length of 4 GiB", "bad length", cdb(7, 48), moving(0xffff_ffff, b.bytes)),
        Malformed("REGISTER AND MOVE, target port 0", "bad parameter", cdb(7, 48), moving(24, b.bytes, port: 0)),

        Malformed("RESERVE(6), third party", "bad cdb", [0x16, 0x10, 0, 0, 0, 0], []),
        Malformed("RESERVE(6), extent", "bad cdb", [0x16, 0x01, 0, 0, 0, 0], []),
        Malformed("RESERVE(10), third party with a long id", "bad cdb", [0x56, 0x12, 0, 0, 0, 0, 0, 0, 8, 0], []),
        Malformed("RELEASE(10), long id", "bad cdb", [0x57, 0x02, 0, 0, 0, 0, 0, 0, 0, 0], []),
        Malformed("RESERVE(10)", "good", [0x56, 0, 0, 0, 0, 0, 0, 0, 0, 0], []),
    ]

    @Test(arguments: malformed) func refused(_ malformed: Malformed) throws {
        var state = ReservationState()
        let nexus = Nexus(a, port: 1)
        #expect(state.apply(.persistentReserveOut(nexus, action: 0, actionKey: 0xa)) == .good)
        #expect(state.apply(.persistentReserveOut(nexus, action: 1, key: 0xa, type: 1)) == .good)
        let before = state
        #expect(Script.describe(state.apply(malformed.command)) == malformed.answer)
        if malformed.answer != "good" { #expect(state == before) }
    }

    /// SCOPE and TYPE say what reservation is established, and are of no interest where none is (5.7.11.4.4).
    @Test(arguments: [4, 5] as [UInt8], [0x00, 0x02, 0x0f, 0x21, 0xf0] as [UInt8])
    func preemptOfARegistrationIgnoresScopeAndType(action: UInt8, scopeType: UInt8) {
        var state = ReservationState()
        let holder = Nexus(a, port: 1)
        #expect(state.apply(.persistentReserveOut(holder, action: 0, actionKey: 0xa)) == .good)
        #expect(state.apply(.persistentReserveOut(Nexus(b, port: 1), action: 0, actionKey: 0xb)) == .good)
        func preempt(_ key: UInt64) -> ReservationCommand {
            ReservationCommand(nexus: holder, cdb: cdb(action, 24, scopeType), parameters: basic(0xa, key), ports: [1])
        }
        var unreserved = state
        #expect(unreserved.apply(preempt(0xb)) == .good)
        #expect(unreserved.type == nil && unreserved.registrations.count == 1)

        #expect(state.apply(.persistentReserveOut(holder, action: 1, key: 0xa, type: 1)) == .good)
        #expect(state.apply(preempt(0xb)) == .good)
        #expect(state.type == .writeExclusive && state.registrations.count == 1)
        #expect(Script.describe(state.apply(preempt(0xa))) == "bad cdb")
    }

    /// What may follow the 24 bytes of REGISTER with SPEC_I_PT (6.14.3), and how it is answered.
    static let lists: [(String, length: Int?, [UInt8], String)] = [
        ("none", nil, [], "bad length"),
        ("half a length", nil, [0, 0], "bad length"),
        ("empty", 0, [], "good"),
        ("one", 24, b.bytes, "good"),
        ("two", 64, iscsi("iqn.a") + Array(repeating: 0, count: 20), "bad parameter"),
        ("something behind the list", 24, b.bytes + [1, 2, 3, 4], "good"),
        ("length beyond the end", 28, b.bytes, "bad length"),
        ("length of 4 GiB", 0xffff_ffff, b.bytes, "bad length"),
        ("cut off", 20, Array(b.bytes.prefix(20)), "bad parameter"),
        ("unknown protocol", 24, [3] + b.bytes.dropFirst(), "bad parameter"),
        ("unknown format", 24, [0x40] + b.bytes.dropFirst(), "bad parameter"),
        ("iSCSI", 44, iscsi("iqn.a,i,0x00023d000001"), "good"),
        ("iSCSI, short ISID", 44, iscsi("iqn.a,i,0x1"), "good"),
        ("iSCSI, upper case ISID", 44, iscsi("iqn.a,i,0x00023D000001"), "good"),
        ("iSCSI, long ISID", 44, iscsi("iqn.a,i,0x0000023d000001"), "bad parameter"),
        ("iSCSI, no digits", 44, iscsi("iqn.a,i,0x"), "bad parameter"),
        ("iSCSI, no hexadecimal digits", 44, iscsi("iqn.a,i,0xg"), "bad parameter"),
        ("iSCSI, no ISID", 44, iscsi("iqn.a"), "bad parameter"),
        ("iSCSI, half a separator", 44, iscsi("iqn.a,i,0"), "bad parameter"),
        ("iSCSI, ISID in the format without", 44, iscsi("iqn.a,i,0x1", format: 5), "bad parameter"),
        ("iSCSI without ISID", 44, iscsi("iqn.a", format: 5), "good"),
        ("iSCSI, format 10b", 44, iscsi("iqn.a", format: 0x85), "bad parameter"),
        ("iSCSI, no name", 44, iscsi(",i,0x1"), "bad parameter"),
        ("iSCSI, nothing", 44, iscsi("", format: 5), "bad parameter"),
        ("iSCSI, a space", 44, iscsi("iqn a", format: 5), "bad parameter"),
        ("iSCSI, no NUL", 44, iscsi("iqn.a,i,0x1", fill: 0x31), "bad parameter"),
        ("iSCSI, length not a multiple of 4", 45, iscsi("iqn.a", format: 5, length: 41), "bad parameter"),
        ("iSCSI, too short", 20, iscsi("iqn.a", format: 5, length: 16), "bad parameter"),
        ("iSCSI, longer than the list", 24, iscsi("iqn.a", format: 5), "bad parameter"),
        ("iSCSI, longest name", 228, iscsi(String(repeating: "x", count: 223), format: 5, length: 224), "good"),
        (
            "iSCSI, name too long", 232, iscsi(String(repeating: "x", count: 224), format: 5, length: 228),
            "bad parameter"
        ),
    ]

    @Test(arguments: lists)
    func specIPT(_ name: String, length: Int?, ids: [UInt8], answer: String) {
        var state = ReservationState()
        let list = (length.map { big(UInt64($0), 4) } ?? []) + ids
        let parameters = basic(0, 0xa, flags: 0x08, more: list)
        let command = ReservationCommand(
            nexus: Nexus(a, port: 1), cdb: cdb(0, parameters.count), parameters: parameters)
        #expect(Script.describe(state.apply(command)) == answer, "\(name)")
        #expect(state.version == (answer == "good" ? 1 : 0))
    }

    @Test func allRegistrationsAreUsed() {
        var state = ReservationState()
        // 64 hosts with 8 paths each, registered by SPEC_I_PT and ALL_TG_PT
        let hosts = (0..<64).map { TransportID(sas: 0x5000_0000_0000_0000 + UInt64($0)) }
        let ports = [UInt16](1...8)
        var command = ReservationCommand.persistentReserveOut(
            Nexus(hosts[0], port: 1), action: 0, actionKey: 0xa, flags: 0x0c, list: hosts, ports: ports)
        #expect(state.apply(command) == .good)
        #expect(state.registrations.count == 512)
        // More than fit: all of them or none
        let more = (0..<65).map { TransportID(sas: 0x6000_0000_0000_0000 + UInt64($0)) }
        command = .persistentReserveOut(
            Nexus(more[0], port: 1), action: 0, actionKey: 0xb, flags: 0x0c, list: more, ports: ports)
        let before = state
        #expect(Script.describe(state.apply(command)) == "no room")
        #expect(state == before)
        // As many as fit
        for host in more.dropLast() {
            let key: UInt64 = host == more[0] ? 0xd : 0xb
            #expect(
                state.apply(
                    .persistentReserveOut(
                        Nexus(host, port: 1), action: 6, actionKey: key, flags: 0x04, ports: ports)) == .good)
        }
        #expect(state.registrations.count == 1024)
        #expect(
            Script.describe(state.apply(.persistentReserveOut(Nexus(a, port: 1), action: 0, actionKey: 1))) == "no room"
        )
        #expect(
            Script.describe(
                state.apply(
                    .persistentReserveOut(Nexus(hosts[0], port: 1), action: 1, key: 0xa, type: 1))) == "good")
        #expect(
            Script.describe(
                state.apply(
                    .persistentReserveOut(
                        Nexus(hosts[0], port: 1), action: 7, key: 0xa, actionKey: 0xc, to: Nexus(a, port: 2))))
                == "no room"
        )
        #expect(state.encoded().count < ReservationState.maximumEncodedSize)
        #expect((try? ReservationState(decoding: state.encoded())) == state)
        // Those who lost theirs make room, who lost it first before the others
        for key: UInt64 in [0xd, 0xb] {
            #expect(
                state.apply(.persistentReserveOut(Nexus(hosts[0], port: 1), action: 4, key: 0xa, actionKey: key))
                    == .good)
        }
        #expect(state.registrations.count == 512)
        #expect(state.remembered.count == 512)
        #expect(state.apply(.persistentReserveOut(Nexus(a, port: 1), action: 0, actionKey: 1)) == .good)
        #expect(state.registrations.count == 513)
        #expect(state.remembered.count == 511)
        #expect(state.remembered.filter { $0.initiator == more[0] }.count == 7)
    }

    @Test func longestStateFits() {
        var state = ReservationState()
        for index in 0..<1024 {
            let name = String(repeating: "n", count: 219) + String(1000 + index)
            guard let id = TransportID(iscsi: name, isid: 1) else {
                Issue.record("no id")
                return
            }
            #expect(state.apply(.persistentReserveOut(Nexus(id, port: 1), action: 0, actionKey: 1)) == .good)
        }
        #expect(state.encoded().count > 1024 * 260)
        #expect(state.encoded().count < ReservationState.maximumEncodedSize)
    }
}
