// SPDX-License-Identifier: Apache-2.0
import Reservations
import Testing

@Suite struct EncodingTests {
    typealias DecodingError = ReservationState.DecodingError

    static func state(_ script: String) throws -> ReservationState {
        var state = ReservationState()
        try Script.run(script, on: &state)
        return state
    }

    static let scripts = [
        "",
        "a1 register 0 a;",
        "a1 register 0 a all spec bcfsr aptpl; b1 reserve a WE-RO;",
        "a1 register 0 a; b1 register 0 b; c1 register 0 c; a1 reserve a WE-AR; b1 abort b c; a1 release a WE-AR;",
        "a1 register 0 a; b1 register 0 b; b1 clear b;",
        "f1 RESERVE;",
    ]

    /// Field by field, so that no change of the layout goes unnoticed: it is kept in RADOS.
    @Test func layout() throws {
        let state = try Self.state(
            "s1 register 0 a aptpl; f1 register 0 f aptpl; s1 reserve a WE-RO; s1 release a WE-RO; s1 abort a f;"
                + "s1 reserve a EA-RO;")
        func number(_ value: UInt8) -> [UInt8] { [value, 0, 0, 0, 0, 0, 0, 0] }
        var bytes: [UInt8] = [0x43, 0x4c, 0x50, 0x53, 1, 0, 0, 0]  // "CLPS", format 1
        bytes += number(6) + [120, 0, 0, 0]  // version, length
        bytes += [0, 0, 0, 0] + [3, 0, 0, 0]  // checksum, PRGENERATION
        bytes += [6, 1, 2, 0]  // exclusive access, registrants only; APTPL; two entries
        // Port, length and flags, TransportID; not registered: lost, released and aborted in these versions
        bytes += [1, 0, 24, 0x1c] + TransportID(fibreChannel: 0x2100_000e_1e09_a2b4).bytes
        bytes += number(5) + number(4) + number(5)
        // The holder, and its key
        bytes += [1, 0, 24, 0x21] + TransportID(sas: 0x5000_c500_1234_5678).bytes
        bytes += number(0xa)
        bytes.seal()
        #expect(state.encoded() == bytes)

        let reserved = try Self.state("f1 RESERVE;")
        bytes = [0x43, 0x4c, 0x50, 0x53, 1, 0, 0, 0] + number(1) + [60, 0, 0, 0]
        bytes += [0, 0, 0, 0] + [0, 0, 0, 0] + [0, 2, 0, 0]
        bytes += [1, 0, 24, 0] + TransportID(fibreChannel: 0x2100_000e_1e09_a2b4).bytes
        bytes.seal()
        #expect(reserved.encoded() == bytes)
    }

    @Test(arguments: scripts) func everyTruncation(_ script: String) throws {
        let bytes = try Self.state(script).encoded()
        #expect(try ReservationState(decoding: bytes).encoded() == bytes)
        for end in 0..<bytes.count {
            #expect(throws: DecodingError.truncated) { try ReservationState(decoding: Array(bytes.prefix(end))) }
        }
        #expect(throws: DecodingError.malformed) { try ReservationState(decoding: bytes + [0]) }
    }

    @Test(arguments: scripts) func everyBitFlipped(_ script: String) throws {
        let bytes = try Self.state(script).encoded()
        for bit in 0..<bytes.count * 8 {
            var damaged = bytes
            damaged[bit / 8] ^= 1 << UInt8(bit % 8)
            #expect(throws: DecodingError.self) { try ReservationState(decoding: damaged) }
        }
    }

    @Test func whatIsWrong() throws {
        let bytes = try Self.state("a1 register 0 a;").encoded()
        func decode(_ change: (inout [UInt8]) -> Void) throws(DecodingError) {
            var changed = bytes
            change(&changed)
            _ = try ReservationState(decoding: changed)
        }
        #expect(throws: DecodingError.truncated) { try ReservationState(decoding: []) }
        #expect(throws: DecodingError.foreign) { try decode { $0[0] = 0 } }
        #expect(throws: DecodingError.foreign) { try ReservationState(decoding: Array("something else".utf8)) }
        #expect(throws: DecodingError.newer) { try decode { $0[4] = 2 } }
        #expect(throws: DecodingError.damaged) { try decode { $0[8] ^= 1 } }
        #expect(throws: DecodingError.malformed) { try decode { $0[31] = 0xff } }
    }

    /// Versions are compared, so none may follow the last one; and what would be too large is refused.
    @Test func theLastVersion() throws {
        var bytes = try Self.state("a1 register 0 a;").encoded()
        bytes.replaceSubrange(8..<16, with: [UInt8](repeating: 0xff, count: 8))
        bytes.seal()
        #expect(throws: DecodingError.malformed) { try ReservationState(decoding: bytes) }
        bytes[8] = 0xfe
        bytes.seal()
        var state = try ReservationState(decoding: bytes)
        #expect(Script.describe(try Script.step("a1 register a b", on: &state)) == "no room")
        #expect(state.encoded() == bytes)

        bytes = try Self.state("f1 RESERVE;").encoded()
        bytes.replaceSubrange(8..<16, with: [0xfe] + [UInt8](repeating: 0xff, count: 7))
        bytes.seal()
        state = try ReservationState(decoding: bytes)
        state.reset()
        try state.lose(Script.nexus("f1"))
        #expect(state.encoded() == bytes)
    }

    /// Damage that a checksum does not find, because it was made before: refused, or another state's only form.
    @Test(arguments: 0..<40 as Range<UInt64>) func randomDamageWithAGoodChecksum(seed: UInt64) throws {
        var random = Seeded(seed)
        for script in Self.scripts {
            let bytes = try Self.state(script).encoded()
            for _ in 0..<20 {
                var damaged = bytes
                for _ in 0...Int.random(in: 0..<3, using: &random) {
                    let at = Int.random(in: 6..<damaged.count, using: &random)
                    damaged[at] = Bool.random(using: &random) ? .random(in: 0...255, using: &random) : damaged[at] ^ 1
                }
                damaged.replaceSubrange(16..<20, with: [UInt8](little: UInt32(damaged.count)))
                damaged.seal()
                guard let state = try? ReservationState(decoding: damaged) else { continue }
                #expect(state.encoded() == damaged)
                try HistoryTests.check(state)
            }
        }
    }

    struct Contradiction: CustomTestStringConvertible, Sendable {
        let testDescription: String
        let change: @Sendable (inout [UInt8]) -> Void

        init(_ description: String, _ change: @escaping @Sendable (inout [UInt8]) -> Void) {
            testDescription = description
            self.change = change
        }
    }

    /// Changes of a state with two entries, `f1` who holds a WE reservation, and `s1`.
    static let contradictions = [
        Contradiction("another length") { $0[16] += 1 },
        Contradiction("reserved bytes") { $0[6] = 1 },
        Contradiction("unknown flags") { $0[29] = 4 },
        Contradiction("no such type") { $0[28] = 2 },
        Contradiction("a holder without a reservation") { $0[28] = 0 },
        Contradiction("a holder of an all registrants type") { $0[28] = 7 },
        Contradiction("no holder") { $0[35] ^= 1 },
        Contradiction("two holders") { $0[71] ^= 1 },
        Contradiction("one entry too few") { $0[30] -= 1 },
        Contradiction("one entry too many") { $0[30] += 1 },
        Contradiction("an SPC-2 reservation beside, not there") { $0[29] |= 2 },
        Contradiction("an SPC-2 reservation beside") { bytes in
            bytes[29] |= 2
            bytes.insert(contentsOf: [1, 0, 24, 0] + TransportID(fibreChannel: 1).bytes, at: 32)
            bytes[16] += 28
        },
        Contradiction("unknown flags of an entry") { $0[35] |= 0x40 },
        Contradiction("the wrong order") { $0[32] = 9 },
        Contradiction("the same nexus twice") { bytes in
            bytes.replaceSubrange(68..<96, with: bytes[32..<60])
            bytes[71] ^= 1
        },
        Contradiction("an unknown protocol") { $0[36] = 3 },
        Contradiction("a reserved byte in a TransportID") { $0[37] = 1 },
        Contradiction("a TransportID too short") { $0[34] = 20 },
        Contradiction("no TransportID") { $0[34] = 0 },
        Contradiction("cleared, but not lost") { $0[35] |= 2 },
        Contradiction("lost, but when?") { $0[35] |= 4 },
        Contradiction("neither registered nor lost") { $0[35] &= 0x1f },
        Contradiction("key zero") { $0.replaceSubrange(60..<68, with: [0, 0, 0, 0, 0, 0, 0, 0]) },
        Contradiction("lost in a version to come") { bytes in
            bytes[71] |= 4
            bytes += [4, 0, 0, 0, 0, 0, 0, 0]
            bytes[16] += 8
        },
    ]

    @Test(arguments: contradictions) func refused(_ contradiction: Contradiction) throws {
        var bytes = try Self.state("f1 register 0 f; s1 register 0 5; f1 reserve f WE;").encoded()
        bytes.seal()
        #expect(throws: Never.self) { try ReservationState(decoding: bytes) }
        contradiction.change(&bytes)
        bytes.seal()
        #expect(throws: DecodingError.self) { try ReservationState(decoding: bytes) }
    }
}

extension [UInt8] {
    init(little value: UInt32) { self = Swift.withUnsafeBytes(of: value.littleEndian) { Array($0) } }

    /// Puts in the checksum that the other bytes have.
    mutating func seal() {
        replaceSubrange(20..<24, with: [0, 0, 0, 0])
        var crc = ~UInt32(0)
        for byte in self {
            crc ^= UInt32(byte)
            for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0x82f6_3b78 : crc >> 1 }
        }
        replaceSubrange(20..<24, with: [UInt8](little: ~crc))
    }
}
