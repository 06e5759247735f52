// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import Initiator

@Suite struct DecodingTests {
    @Test func fixedSenseOfAMiscompare() throws {
        let bytes: [UInt8] = [0xF0, 0, 0x0E, 0, 0, 1, 0x2C, 10, 0, 0, 0, 0, 0x1D, 0, 0, 0, 0, 0]
        let sense = try #require(Sense(bytes))
        #expect(sense.key == 0x0E)
        #expect(sense.additional == 0x1D00)
        #expect(sense.information == 300)
    }

    @Test func informationCountsOnlyWithVALID() throws {
        let bytes: [UInt8] = [0x70, 0, 0x0E, 0, 0, 1, 0x2C, 10, 0, 0, 0, 0, 0x1D, 0]
        #expect(try #require(Sense(bytes)).information == nil)
    }

    @Test func descriptorSense() throws {
        let information: [UInt8] = [0, 10, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 0]
        let sense = try #require(Sense([0x72, 0x0E, 0x1D, 0, 0, 0, 0, 16, 2, 2, 0, 0] + information))
        #expect(sense.key == 0x0E)
        #expect(sense.information == 256)
    }

    @Test(arguments: [[], [0x70], [0x7F, 0, 0, 0, 0, 0, 0, 0]] as [[UInt8]])
    func senseThatIsNone(_ bytes: [UInt8]) {
        #expect(Sense(bytes) == nil)
    }

    @Test func designatorsAreToldApart() {
        let naa: [UInt8] = [0x01, 0x03, 0, 4, 0x60, 0x01, 0x40, 0x5A]
        let port: [UInt8] = [0x51, 0x94, 0, 4, 0, 0, 0, 7]
        let found = Identity.designators([0, 0x83, 0, 16] + naa + port)
        #expect(found.map(\.type) == [3, 4])
        #expect(found.map(\.association) == [0, 1])
        #expect(found[1].value == [0, 0, 0, 7])
    }

    @Test func designatorsCutShortAreNotReadBeyond() {
        #expect(Identity.designators([0, 0x83, 0, 16, 1, 3, 0, 200, 1]).first?.value == [1])
        #expect(Identity.designators([]).isEmpty)
    }

    @Test func portGroupsWithTheirPorts() {
        let groups: [UInt8] = [0, 7, 0, 2, 0, 0, 0, 1, 0, 0, 0, 9] + [3, 7, 0, 1, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 5]
        let found = Identity.portGroups([0, 0, 0, UInt8(groups.count)] + groups)
        #expect(found.map(\.group) == [1, 2])
        #expect(found.map(\.state) == [3, 0])
        #expect(found.map(\.ports) == [[4, 5], [9]])
    }

    @Test func compareAndWriteCarriesBothBuffers() {
        let command = SCSICommand.compareAndWrite(
            0x0102, expected: [UInt8](repeating: 1, count: 512), new: [UInt8](repeating: 2, count: 512))
        #expect(command.cdb == [0x89, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 1, 0, 0])
        #expect(command.output.count == 1024)
    }

    @Test func keysOfReadKeys() {
        let keys = [UInt8](repeating: 0, count: 7) + [0xA] + [1] + [UInt8](repeating: 0, count: 7)
        #expect(PersistentReserveIn.keys(in: [0, 0, 0, 9, 0, 0, 0, 16] + keys) == [0xA, 1 << 56])
        #expect(PersistentReserveIn.keys(in: [0, 0, 0, 9, 0, 0, 0, 16] + keys.dropLast()) == [0xA], "cut off")
        #expect(PersistentReserveIn.keys(in: [0, 0, 0, 9, 0, 0, 0, 0]) == [])
        #expect(PersistentReserveIn.keys(in: []) == [])
    }
}
