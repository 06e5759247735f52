// SPDX-License-Identifier: Apache-2.0
import Reservations
import Testing

/// PERSISTENT RESERVE IN (SPC-4 r17 6.13).
@Suite struct ReadTests {
    static func cdb(_ action: UInt8, length: Int) -> [UInt8] {
        [0x5e, action, 0, 0, 0, 0, 0] + big(UInt64(length), 2) + [0]
    }

    static func state(_ script: String) throws -> ReservationState {
        var state = ReservationState()
        try Script.run(script, on: &state)
        return state
    }

    static func read(_ script: String, _ action: UInt8) throws -> [UInt8] {
        let (status, data) = try state(script).read(cdb(action, length: 0xffff))
        #expect(status == .good)
        return data
    }

    @Test func keys() throws {
        #expect(try Self.read("", 0) == big(0, 8))
        #expect(
            try Self.read("b1 register 0 b; a1 register 0 a; c2 register 0 a; c2 register a c;", 0)
                == big(4, 4) + big(24, 4) + big(0xa, 8) + big(0xb, 8) + big(0xc, 8))
        #expect(try Self.read("a1 register 0 a; b1 register 0 b; a1 clear a;", 0) == big(3, 4) + big(0, 4))
    }

    @Test(arguments: ReservationType.allCases) func reservation(_ type: ReservationType) throws {
        #expect(try Self.read("a1 register 0 a;", 1) == big(1, 4) + big(0, 4))
        let name = try #require(Script.types.first { $0.1 == type }?.0)
        let key: UInt64 = type.isAllRegistrants ? 0 : 0xa
        let expected = big(2, 4) + big(16, 4) + big(key, 8) + big(0, 4) + [0, type.rawValue, 0, 0]
        #expect(try Self.read("a1 register 0 a; b1 register 0 b; a1 reserve a \(name);", 1) == expected)
    }

    @Test func capabilities() throws {
        // CRH, SIP_C, ATP_C, PTPL_C; TMV, ALLOW COMMANDS 011b; all types
        #expect(try Self.read("a1 register 0 a;", 2) == [0, 8, 0x1d, 0xb0, 0xea, 0x01, 0, 0])
        // PTPL_A
        #expect(try Self.read("a1 register 0 a aptpl;", 2) == [0, 8, 0x1d, 0xb1, 0xea, 0x01, 0, 0])
    }

    static func descriptor(_ nexus: String, _ key: UInt64, _ holder: ReservationType?) throws -> [UInt8] {
        let nexus = try Script.nexus(nexus)
        let id = nexus.initiator.bytes
        return big(key, 8) + big(0, 4) + [holder == nil ? 0 : 1, holder?.rawValue ?? 0] + big(0, 4)
            + big(UInt64(nexus.port), 2) + big(UInt64(id.count), 4) + id
    }

    @Test func fullStatus() throws {
        #expect(try Self.read("", 3) == big(0, 8))
        let expected = try [
            Self.descriptor("f1", 0xf, nil), Self.descriptor("s1", 0x5, nil),
            Self.descriptor("a1", 0xa, .exclusiveAccess), Self.descriptor("B2", 0xb, nil),
        ].flatMap { $0 }
        // `preempt` leaves c1 to be told, which is nobody's business here
        let data = try Self.read(
            "a1 register 0 a; a1 reserve a EA; f1 register 0 f; s1 register 0 5; c1 register 0 c;"
                + "a2 register 0 b spec B; a2 register b 0; a1 preempt a c EA;", 3)
        #expect(data == big(7, 4) + big(UInt64(expected.count), 4) + expected)

        let all = try ["a1", "b1"].flatMap { try Self.descriptor($0, 0xa, .writeExclusiveAllRegistrants) }
        #expect(
            try Self.read("a1 register 0 a; b1 register 0 a; b1 reserve a WE-AR;", 3)
                == big(2, 4) + big(UInt64(all.count), 4) + all)
    }

    /// 6.13.1: "the contents of the ADDITIONAL LENGTH field are not altered based on the allocation length".
    @Test(arguments: [0, 1, 2, 3] as [UInt8]) func truncation(_ action: UInt8) throws {
        let state = try Self.state("a1 register 0 a; b1 register 0 b; a1 reserve a WE; f2 register 0 f;")
        let whole = state.read(Self.cdb(action, length: 0xffff)).data
        for length in 0...whole.count + 9 {
            #expect(state.read(Self.cdb(action, length: length)).data == Array(whole.prefix(length)))
        }
    }

    @Test func truncationOfManyRegistrations() {
        var state = ReservationState()
        for index in 0..<1024 {
            let nexus = Nexus(TransportID(fibreChannel: UInt64(index)), port: 1)
            #expect(state.apply(.persistentReserveOut(nexus, action: 0, actionKey: UInt64(index) + 1)) == .good)
        }
        let keys = state.read(Self.cdb(0, length: 0xffff)).data
        #expect(keys.count == 8 + 8 * 1024)
        // Of 48 bytes each
        let full = state.read(Self.cdb(3, length: 0xffff)).data
        #expect(full.count == 8 + 48 * 1024)
        #expect(Array(full.prefix(8)) == big(1024, 4) + big(48 * 1024, 4))
        #expect(state.read(Self.cdb(3, length: 1000)).data == Array(full.prefix(1000)))
    }

    @Test(arguments: [4, 5, 0x10, 0x1f] as [UInt8]) func noSuchServiceAction(_ action: UInt8) {
        let (status, data) = ReservationState().read(Self.cdb(action, length: 100))
        #expect(Script.describe(status) == "bad cdb")
        #expect(data.isEmpty)
    }

    @Test func conflictsWithReserve() throws {
        let state = try Self.state("a1 RESERVE;")
        for action in 0...4 as ClosedRange<UInt8> {
            #expect(state.read(Self.cdb(action, length: 100)).status == .reservationConflict)
        }
    }

    @Test func isNoOtherCommand() {
        #expect(ReservationState().read([0x5e, 0, 0, 0, 0, 8]).status != .good)
        #expect(ReservationState().read([0x12, 0, 0, 0, 0, 0, 0, 0, 8, 0]).status != .good)
    }
}
