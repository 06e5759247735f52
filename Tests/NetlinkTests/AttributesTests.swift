// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import Netlink

@Suite struct AttributesTests {
    /// As `nlmsg_put` and `nla_put` lay it out on a little-endian machine.
    @Test(.enabled(if: Int(littleEndian: 1) == 1)) func wireFormat() {
        var inner = Attributes()
        inner.put(1, UInt8(0xab))
        var attributes = Attributes()
        attributes.put(2, string: "nlctrl")
        attributes.put(3, UInt64(0x0102_0304_0506_0708))
        attributes.put(flag: 4)
        attributes.put(5, nested: inner)
        let wire: [UInt8] = [
            11, 0, 2, 0, 0x6e, 0x6c, 0x63, 0x74, 0x72, 0x6c, 0, 0,
            12, 0, 3, 0, 8, 7, 6, 5, 4, 3, 2, 1,
            4, 0, 4, 0,
            12, 0, 5, 0x80, 5, 0, 1, 0, 0xab, 0, 0, 0,
        ]
        #expect(attributes.encoded == wire)
        #expect(Attributes(decoding: wire) == attributes)
        let message = GenericMessage(family: 16, command: 3, version: 2, attributes: attributes)
        let frame = Frame.request(message, flags: 5, sequence: 7, port: 9)
        #expect(Array(frame.prefix(20)) == [60, 0, 0, 0, 16, 0, 5, 0, 7, 0, 0, 0, 9, 0, 0, 0, 3, 2, 0, 0])
        #expect(Frame.decode(frame) == [Frame(sequence: 7, flags: 5, content: .message(message))])
    }

    @Test func reads() {
        var attributes = Attributes()
        attributes.put(1, UInt32(7))
        attributes.put(2, string: "gw1")
        attributes.put(2, string: "gw2")
        attributes.put(flag: 3)
        #expect(attributes.number(1, as: UInt32.self) == 7)
        #expect(attributes.number(1, as: UInt64.self) == nil, "another width")
        #expect(attributes.number(9, as: UInt32.self) == nil)
        #expect(attributes.string(2) == "gw1")
        #expect(attributes.strings(2) == ["gw1", "gw2"])
        #expect(attributes.flag(3) && !attributes.flag(4))
        attributes.put(5, bytes: [0xff, 0xfe])
        #expect(attributes.string(5) == nil, "no UTF-8")
    }

    /// Whatever is put in comes out, also with the last one's padding cut off.
    @Test(arguments: 0..<200) func roundTrip(seed: UInt64) {
        var random = Xorshift(seed: seed)
        let attributes = Self.random(&random, depth: 3)
        let wire = attributes.encoded
        #expect(wire.count % 4 == 0)
        #expect(Attributes(decoding: wire) == attributes)
        if let last = attributes.list.last {
            let padding = (4 - last.payload.count % 4) % 4
            #expect(Attributes(decoding: wire.dropLast(padding)) == attributes)
        }
    }

    /// Nothing that comes in crashes, and what is taken is what is encoded again.
    @Test(arguments: 0..<200) func malformed(seed: UInt64) {
        var random = Xorshift(seed: seed)
        var wire = Self.random(&random, depth: 2).encoded
        for _ in 0..<4 where !wire.isEmpty {
            wire[Int.random(in: 0..<wire.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
        }
        wire = Array(wire.prefix(Int.random(in: 0...wire.count, using: &random)))
        if let attributes = Attributes(decoding: wire) { #expect(attributes.encoded.count >= wire.count) }
        _ = Frame.decode(wire)
    }

    private static func random(_ random: inout Xorshift, depth: Int) -> Attributes {
        var attributes = Attributes()
        for _ in 0..<Int.random(in: 0...6, using: &random) {
            let type = UInt16.random(in: 0..<(1 << 14), using: &random)
            switch Int.random(in: 0..<(depth > 0 ? 6 : 5), using: &random) {
            case 0: attributes.put(type, UInt8.random(in: 0...255, using: &random))
            case 1: attributes.put(type, UInt64.random(in: 0...UInt64.max, using: &random))
            case 2: attributes.put(type, string: String(repeating: "é", count: Int.random(in: 0..<9, using: &random)))
            case 3: attributes.put(flag: type)
            case 4:
                let count = Int.random(in: 0..<40, using: &random)
                attributes.put(type, bytes: (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) })
            default: attributes.put(type, nested: Self.random(&random, depth: depth - 1))
            }
        }
        return attributes
    }
}

/// Numbers that a seed decides.
struct Xorshift: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed &* 0x9e37_79b9_7f4a_7c15 | 1 }

    mutating func next() -> UInt64 {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return state
    }
}
