// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import Initiator

/// The bytes of commands, as SBC-4 and SPC-4 lay them out.
@Suite struct CommandTests {
    private static let block = [UInt8](repeating: 0x5A, count: 512)

    @Test func writeSame10() {
        let command = SCSICommand.writeSame10(0x0102_0304, blocks: 0x0506, Self.block)
        #expect(command.cdb == [0x41, 0, 1, 2, 3, 4, 0, 5, 6, 0])
        #expect(command.output == Self.block)
        #expect(SCSICommand.writeSame10(0, blocks: 1, Self.block, unmap: true).cdb[1] == 0x08)
    }

    @Test func writeSame16() {
        let command = SCSICommand.writeSame16(0x0102_0304_0506_0708, blocks: 0x090A_0B0C, Self.block)
        #expect(command.cdb == [0x93, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 0])
        #expect(command.output == Self.block)
        #expect(SCSICommand.writeSame16(0, blocks: 1, Self.block, unmap: true).cdb[1] == 0x08)
    }

    @Test func writeSameWithoutData() {
        let command = SCSICommand.writeSame16(0, blocks: 1, nil, unmap: true)
        #expect(command.cdb[1] == 0x09)
        #expect(command.output.isEmpty)
    }

    @Test func unmapOfOneRange() {
        let command = SCSICommand.unmap([0x0102..<0x0104])
        #expect(command.cdb == [0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0])
        let descriptor: [UInt8] = [0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 2, 0, 0, 0, 0]
        #expect(command.output == [0, 22, 0, 16, 0, 0, 0, 0] + descriptor)
    }

    @Test func unmapOfManyRanges() {
        let command = SCSICommand.unmap((0..<300).map { $0 * 8..<$0 * 8 + 8 })
        #expect(command.output.count == 8 + 300 * 16)
        #expect(command.cdb[7...8] == [0x12, 0xC8])
        #expect(command.output.prefix(8) == [0x12, 0xC6, 0x12, 0xC0, 0, 0, 0, 0])
        #expect(command.output.suffix(16) == [0, 0, 0, 0, 0, 0, 0x09, 0x58, 0, 0, 0, 8, 0, 0, 0, 0])
    }

    @Test func extendedCopyOfOneSegment() {
        let naa = (0..<16).map { UInt8($0) | 0x60 }
        let command = SCSICommand.extendedCopy(
            from: .init(naa: naa, lba: 0x0102), to: .init(naa: naa, lba: 0x0304), blocks: 0x0506, list: 7)
        #expect(command.cdb == [0x83, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 108, 0, 0])
        #expect(command.output.count == 108)
        #expect(command.output[..<16] == [7, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 28, 0, 0, 0, 0])
        for start in [16, 48] {
            let descriptor = Array(command.output[start..<start + 32])
            #expect(descriptor[..<8] == [0xE4, 0, 0, 0, 1, 3, 0, 16])
            #expect(descriptor[8..<24] == naa[...])
            #expect(descriptor[24...] == [0, 0, 0, 0, 0, 0, 2, 0])
        }
        #expect(
            command.output[80...] == [
                2, 2, 0, 24, 0, 0, 0, 1, 0, 0, 5, 6, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 3, 4,
            ])
    }

    @Test func attributes() {
        #expect(SCSICommand.testUnitReady.attribute == .simple)
        #expect(SCSICommand.testUnitReady.with(.ordered).attribute == .ordered)
        #expect(SCSICommand.testUnitReady.with(.headOfQueue).cdb == SCSICommand.testUnitReady.cdb)
    }
}

/// ATTR of commands on their way to the target.
@Suite struct OutgoingHeaderTests {
    private static func pdu(_ opcode: UInt8, tag: UInt8, data: Int = 0, extra: UInt8 = 0) -> [UInt8] {
        var header = [UInt8](repeating: 0, count: 48)
        header[0] = opcode
        header[1] = 0xA1
        header[4] = extra
        header[6] = UInt8(data >> 8)
        header[7] = UInt8(data & 0xFF)
        header[19] = tag
        return header + [UInt8](repeating: 0x01, count: Int(extra) * 4 + (data + 3) / 4 * 4)
    }

    /// Commands with data and additional headers, data that looks like commands, and other PDUs; in pieces of every size.
    @Test(arguments: [1, 3, 47, 48, 49, 100, 4096]) func onlyTheCommandThatIsMeant(piece: Int) {
        let before =
            Self.pdu(0x01, tag: 1, data: 509) + Self.pdu(0x41, tag: 2, data: 512, extra: 2)
            + Self.pdu(0x05, tag: 2, data: 1024) + Self.pdu(0x00, tag: 2) + Self.pdu(0x01, tag: 3)
        var expected = before
        expected[48 + 512 + 1] = 0xA2
        expected[before.count - 48 + 1] = 0xA3
        var tags: [UInt32: TaskAttribute] = [2: .ordered, 3: .headOfQueue]
        var (headers, after) = (OutgoingHeaders(), [UInt8]())
        for start in stride(from: 0, to: before.count, by: piece) {
            var bytes = Array(before[start..<min(start + piece, before.count)])
            headers.pass(&bytes) { tags.removeValue(forKey: $0) }
            after += bytes
        }
        #expect(after == expected)
        #expect(tags.isEmpty)
    }
}
