// SPDX-License-Identifier: Apache-2.0
import Reservations
import Testing

@Suite struct TransportIDTests {
    static let texts: [(String, [UInt8])] = [
        (
            "fc:2100000e1e09a2b4",
            [0, 0, 0, 0, 0, 0, 0, 0, 0x21, 0, 0, 0x0e, 0x1e, 0x09, 0xa2, 0xb4, 0, 0, 0, 0, 0, 0, 0, 0]
        ),
        (
            "srp:fec0ffee0000000112345678deadbeef",
            [
                4, 0, 0, 0, 0, 0, 0, 0, 0xfe, 0xc0, 0xff, 0xee, 0, 0, 0, 1, 0x12, 0x34, 0x56, 0x78, 0xde, 0xad, 0xbe,
                0xef,
            ]
        ),
        (
            "sas:5000c50012345678",
            [6, 0, 0, 0, 0x50, 0, 0xc5, 0, 0x12, 0x34, 0x56, 0x78, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        ),
        ("iqn.x", [0x05, 0, 0, 20] + Array("iqn.x".utf8) + [UInt8](repeating: 0, count: 15)),
        (
            "iqn.2026-01.org:host", [0x05, 0, 0, 24] + Array("iqn.2026-01.org:host".utf8) + [0, 0, 0, 0]
        ),
        ("iqn.x,i,0x00023d000001", [0x45, 0, 0, 24] + Array("iqn.x,i,0x00023d000001".utf8) + [0, 0]),
        ("iqn.büro", [0x05, 0, 0, 20] + Array("iqn.büro".utf8) + [UInt8](repeating: 0, count: 11)),
    ]

    @Test(arguments: texts) func textAndBytes(_ text: String, bytes: [UInt8]) throws {
        let id = try #require(TransportID(text))
        #expect(id.bytes == bytes)
        #expect(id.description == text)
        #expect(TransportID(bytes) == id)
        let (first, length) = try #require(TransportID.parse(bytes + [1, 2, 3]))
        #expect(first == id)
        #expect(length == bytes.count)
        for end in 0..<bytes.count { #expect(TransportID(Array(bytes.prefix(end))) == nil) }
    }

    @Test(arguments: [
        "", " ", "iqn x", "iqn.x,i,0x", "iqn.x,i,0x1", "iqn.x,i,0x00023d00000g", "iqn.x,i,0x+0023d000001", "iqn.x,",
        ",i,0x00023d000001", "fc:", "fc:21", "fc:2100000e1e09a2b4a", "fc:+100000e1e09a2b4", "sas:5000c5001234567x",
        "srp:fec0ffee00000001", "iqn.\0x", String(repeating: "x", count: 224),
    ])
    func noTransportID(_ text: String) { #expect(TransportID(text) == nil) }

    /// One port has one form, however a host writes it.
    @Test func theOnlyForm() throws {
        let id = try #require(TransportID("iqn.x,i,0x0000000000ab"))
        func iscsi(_ text: String, _ length: Int) -> [UInt8] {
            [0x45, 0, 0, UInt8(length)] + Array(text.utf8) + [UInt8](repeating: 0, count: length - text.utf8.count)
        }
        for bytes in [
            iscsi("iqn.x,i,0xab", 20), iscsi("iqn.x,i,0xAB", 64), iscsi("iqn.x,i,0x0000000000aB", 24),
            [0x75, 9] + id.bytes.dropFirst(2), iscsi("iqn.x,i,0xab\0what is behind", 40),
        ] {
            #expect(TransportID(bytes) == id)
        }
        let fc = TransportID(fibreChannel: 1)
        #expect(TransportID([0x30, 1, 2, 3, 4, 5, 6, 7] + fc.bytes[8..<16] + [1, 2, 3, 4, 5, 6, 7, 8]) == fc)
    }

    @Test func longestNames() throws {
        let name = String(repeating: "x", count: 223)
        #expect(try #require(TransportID(iscsi: name)).bytes.count == 228)
        let port = try #require(TransportID(iscsi: name, isid: 0xffff_ffff_ffff))
        #expect(port.bytes.count == 248)
        #expect(TransportID(port.description) == port)
        #expect(TransportID(iscsi: "x", isid: 1 << 48) == nil)
    }
}
