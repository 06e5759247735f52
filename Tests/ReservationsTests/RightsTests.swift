// SPDX-License-Identifier: Apache-2.0
import Reservations
import Testing

/// Which commands conflict: SPC-4 r17 table 45, SBC-3 table 13, SPC-2 table 9.
@Suite struct RightsTests {
    /// Rights of the holder `a1`, the registered `b1` and the unregistered `c1`.
    static let table: [(String, holder: Rights, registered: Rights, other: Rights)] = [
        ("WE", .all, [.status, .read], [.status, .read]),
        ("EA", .all, .status, .status),
        ("WE-RO", .all, .all, [.status, .read]),
        ("EA-RO", .all, .all, .status),
        ("WE-AR", .all, .all, [.status, .read]),
        ("EA-AR", .all, .all, .status),
    ]

    @Test(arguments: table)
    func persistent(_ type: String, holder: Rights, registered: Rights, other: Rights) throws {
        var state = ReservationState()
        try Script.run("a1 register 0 a; b1 register 0 b;", on: &state)
        for name in ["a1", "b1", "c1"] { #expect(state.rights(of: try Script.nexus(name)) == .all) }
        try Script.run("a1 reserve a \(type);", on: &state)
        #expect(state.rights(of: try Script.nexus("a1")) == holder)
        #expect(state.rights(of: try Script.nexus("b1")) == registered)
        #expect(state.rights(of: try Script.nexus("c1")) == other)
        // Another port of the holder's host is another nexus.
        #expect(state.rights(of: try Script.nexus("a2")) == other)
        try Script.run("b1 preempt b \(type.hasSuffix("AR") ? "0" : "a") \(type);", on: &state)
        #expect(state.rights(of: try Script.nexus("a1")) == other)
        #expect(state.rights(of: try Script.nexus("b1")) == holder)
    }

    @Test func spc2() throws {
        var state = ReservationState()
        try Script.run("a1 RESERVE;", on: &state)
        #expect(state.rights(of: try Script.nexus("a1")) == .all)
        #expect(state.rights(of: try Script.nexus("a2")) == [])
        #expect(state.rights(of: try Script.nexus("b1")) == [])
        try Script.run("reset;", on: &state)
        #expect(state.rights(of: try Script.nexus("b1")) == .all)
    }

    @Test func initiatorWithoutISID() throws {
        var state = ReservationState()
        try Script.run("c1 register 0 c spec A; a1 reserve c EA;", on: &state)
        #expect(state.rights(of: try Script.nexus("a1")) == .all)
        #expect(state.rights(of: try Script.nexus("A1")) == .all)
        #expect(state.rights(of: try Script.nexus("a2")) == .status)
        #expect(state.rights(of: try Script.nexus("b1")) == .status)
    }

    static let commands: [(String, [UInt8], Rights)] = [
        ("TEST UNIT READY", [0x00], .status),
        ("REQUEST SENSE", [0x03], []),
        ("FORMAT UNIT", [0x04], .write),
        ("READ(6)", [0x08], .read),
        ("WRITE(6)", [0x0a], .write),
        ("INQUIRY", [0x12], []),
        ("MODE SELECT(6)", [0x15], .write),
        ("RESERVE(6)", [0x16], []),
        ("RELEASE(6)", [0x17], []),
        ("MODE SENSE(6)", [0x1a], .read),
        ("START STOP UNIT, start", [0x1b, 0, 0, 0, 0x01], []),
        ("START STOP UNIT, stop", [0x1b, 0, 0, 0, 0x00], .write),
        ("START STOP UNIT, standby", [0x1b, 0, 0, 0, 0x31], .write),
        ("RECEIVE DIAGNOSTIC RESULTS", [0x1c], .read),
        ("SEND DIAGNOSTIC", [0x1d], .write),
        ("PREVENT ALLOW MEDIUM REMOVAL, allow", [0x1e, 0, 0, 0, 0], []),
        ("PREVENT ALLOW MEDIUM REMOVAL, prevent", [0x1e, 0, 0, 0, 1], .write),
        ("READ CAPACITY(10)", [0x25], []),
        ("READ(10)", [0x28], .read),
        ("WRITE(10)", [0x2a], .write),
        ("WRITE AND VERIFY(10)", [0x2e], .write),
        ("VERIFY(10)", [0x2f], .read),
        ("PRE-FETCH(10)", [0x34], .read),
        ("SYNCHRONIZE CACHE(10)", [0x35], .write),
        ("WRITE BUFFER", [0x3b], .write),
        ("READ BUFFER", [0x3c], .read),
        ("WRITE SAME(10)", [0x41], .write),
        ("UNMAP", [0x42], .write),
        ("SANITIZE", [0x48], .write),
        ("LOG SELECT", [0x4c], .write),
        ("LOG SENSE", [0x4d], []),
        ("MODE SELECT(10)", [0x55], .write),
        ("RESERVE(10)", [0x56], []),
        ("RELEASE(10)", [0x57], []),
        ("MODE SENSE(10)", [0x5a], .read),
        ("PERSISTENT RESERVE IN", [0x5e], []),
        ("PERSISTENT RESERVE OUT", [0x5f], []),
        ("READ(32)", variable(0x0009), .read),
        ("VERIFY(32)", variable(0x000a), .read),
        ("WRITE(32)", variable(0x000b), .write),
        ("WRITE SAME(32)", variable(0x000d), .write),
        ("a variable length command that is cut off", [0x7f, 0, 0, 0, 0, 0], .write),
        ("EXTENDED COPY", [0x83], .write),
        ("RECEIVE COPY RESULTS", [0x84], .read),
        ("ACCESS CONTROL IN", [0x86], .status),
        ("READ(16)", [0x88], .read),
        ("COMPARE AND WRITE", [0x89], .write),
        ("WRITE(16)", [0x8a], .write),
        ("ORWRITE(16)", [0x8b], .write),
        ("VERIFY(16)", [0x8f], .read),
        ("SYNCHRONIZE CACHE(16)", [0x91], .write),
        ("WRITE SAME(16)", [0x93], .write),
        ("READ CAPACITY(16)", [0x9e, 0x10], []),
        ("READ LONG(16)", [0x9e, 0x11], .write),
        ("GET LBA STATUS", [0x9e, 0x12], .read),
        ("REPORT REFERRALS", [0x9e, 0x13], .status),
        ("REPORT LUNS", [0xa0], []),
        ("SECURITY PROTOCOL IN", [0xa2], .read),
        ("REPORT TARGET PORT GROUPS", [0xa3, 0x0a], .status),
        ("REPORT TARGET PORT GROUPS, extended header", [0xa3, 0x2a], .status),
        ("REPORT SUPPORTED OPERATION CODES", [0xa3, 0x0c], .read),
        ("REPORT TIMESTAMP", [0xa3, 0x0f], .status),
        ("an unknown MAINTENANCE IN", [0xa3, 0x1f], .write),
        ("SET TARGET PORT GROUPS", [0xa4, 0x0a], .write),
        ("READ(12)", [0xa8], .read),
        ("WRITE(12)", [0xaa], .write),
        ("READ MEDIA SERIAL NUMBER", [0xab, 0x01], .status),
        ("VERIFY(12)", [0xaf], .read),
        ("SECURITY PROTOCOL OUT", [0xb5], .write),
        ("an unknown command", [0xff], .write),
    ]

    static func variable(_ action: UInt64) -> [UInt8] { [0x7f, 0, 0, 0, 0, 0, 0, 24] + big(action, 2) }

    @Test(arguments: commands) func neededFor(_ name: String, cdb: [UInt8], rights: Rights) {
        let padded = cdb + [UInt8](repeating: 0, count: max(0, 6 - cdb.count))
        #expect(Rights.needed(for: padded) == rights, "\(name)")
    }
}
