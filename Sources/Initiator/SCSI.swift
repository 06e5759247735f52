// SPDX-License-Identifier: Apache-2.0

/// How a SCSI command ended.
public struct SCSIReply: Sendable {
    /// The status byte (SAM-5, 5.3.1): 0 GOOD, 2 CHECK CONDITION, 18h RESERVATION CONFLICT, …
    public let status: Int
    /// What the device sent of the Data-In Buffer; empty unless the status is GOOD.
    public let data: [UInt8]
    /// The sense data that came with a CHECK CONDITION.
    public let sense: Sense?
    /// Bytes of the command's buffer that were not transferred; less than zero: that it was too short for (RFC 7143,
    /// 11.4.5.1 and 11.4.5.2).
    public var residual = 0

    /// Whether the status is GOOD.
    public var isGood: Bool { status == 0 }
    /// Whether the command found other data than it was to compare with (SBC-4, 5.3): MISCOMPARE DURING VERIFY OPERATION.
    public var isMiscompare: Bool { sense?.key == 0x0E && sense?.additional == 0x1D00 }
    /// Whether the command met a reservation that it has to respect (SAM-5, 5.3.1).
    public var isReservationConflict: Bool { status == 0x18 }
    /// The device server has no room for the command (SAM-5, 5.3.1).
    public var isTaskSetFull: Bool { status == 0x28 }
    /// The device server asks to send the command again later (SAM-5, 5.3.1).
    public var isBusy: Bool { status == 0x08 }
    /// Another nexus aborted the command, and TAS is 1 (SAM-5 5.3.1).
    public var isTaskAborted: Bool { status == 0x40 }

    /// The data of a command that had to end well.
    ///
    /// - Throws: `ISCSIError` with status and sense if it did not.
    func requireGood(_ command: SCSICommand, lun: Int, portal: String) throws(ISCSIError) -> [UInt8] {
        guard isGood else {
            throw ISCSIError(operation: "\(command.name) to LUN \(lun)", portal: portal, text: description)
        }
        return data
    }
}

extension SCSIReply: CustomStringConvertible {
    public var description: String {
        let sense = sense.map { sense in
            let information = sense.information.map { ", information \($0)" } ?? ""
            return ", sense \(String(sense.key, radix: 16))h/\(String(sense.additional, radix: 16))h\(information)"
        }
        return "status \(String(status, radix: 16))h\(sense ?? "")"
    }
}

/// Sense data, fixed or descriptor format (SPC-4, 4.5).
public struct Sense: Sendable, Hashable {
    /// The sense key, 0 to 15.
    public let key: UInt8
    /// ADDITIONAL SENSE CODE and its qualifier: `1D00h` is MISCOMPARE DURING VERIFY OPERATION.
    public let additional: UInt16
    /// The INFORMATION field, if VALID is set.
    public let information: UInt64?

    /// Decodes sense data; nil if there is too little of it or the response code is unknown.
    public init?(_ bytes: [UInt8]) {
        guard bytes.count >= 8 else { return nil }
        switch bytes[0] & 0x7F {
        case 0x70, 0x71:
            key = bytes[2] & 0x0F
            additional = bytes.count >= 14 ? UInt16(bigEndian: bytes[12...]) : 0
            information = bytes[0] & 0x80 != 0 ? UInt64(UInt32(bigEndian: bytes[3...])) : nil
        case 0x72, 0x73:
            key = bytes[1] & 0x0F
            additional = UInt16(bigEndian: bytes[2...])
            information = Self.informationDescriptor(bytes.dropFirst(8))
        default:
            return nil
        }
    }

    /// The information descriptor (SPC-4, 4.5.2.2): type 0, length 10, VALID in the third byte.
    private static func informationDescriptor(_ descriptors: ArraySlice<UInt8>) -> UInt64? {
        var rest = descriptors
        while rest.count >= 2 {
            let descriptor = rest.prefix(2 + Int(rest[rest.startIndex + 1]))
            if descriptor.first == 0, descriptor.count >= 12, descriptor[descriptor.startIndex + 2] & 0x80 != 0 {
                return UInt64(bigEndian: descriptor.dropFirst(4))
            }
            rest = rest.dropFirst(descriptor.count)
        }
        return nil
    }
}

extension FixedWidthInteger {
    /// The number at the start of `bytes`, most significant byte first; bytes that are missing count as zero.
    init(bigEndian bytes: some Collection<UInt8>) {
        var value: Self = 0
        let size = Self.bitWidth / 8
        for byte in bytes.prefix(size) { value = value << 8 | Self(byte) }
        self = value << (8 * Swift.max(0, size - bytes.count))
    }

    /// The number as bytes, most significant first.
    var bigEndianBytes: [UInt8] {
        (0..<(Self.bitWidth / 8)).reversed().map { UInt8(truncatingIfNeeded: self >> (8 * $0)) }
    }
}

/// A command descriptor block and what it moves.
public struct SCSICommand: Sendable {
    /// The bytes of the CDB: 6, 10, 12 or 16.
    public var cdb: [UInt8]
    /// The Data-Out Buffer.
    public var output: [UInt8] = []
    /// The length of the Data-In Buffer in bytes.
    public var inputLength = 0
    /// How it is ordered among the others of the unit's task set.
    public var attribute = TaskAttribute.simple

    public init(cdb: [UInt8], output: [UInt8] = [], inputLength: Int = 0) {
        self.cdb = cdb
        self.output = output
        self.inputLength = inputLength
    }

    /// The same command with another task attribute.
    public func with(_ attribute: TaskAttribute) -> SCSICommand {
        var command = self
        command.attribute = attribute
        return command
    }

    /// What messages call it.
    var name: String { "command \(String(cdb.first ?? 0, radix: 16))h" }

    /// TEST UNIT READY (SPC-4, 6.47).
    public static let testUnitReady = SCSICommand(cdb: [0, 0, 0, 0, 0, 0])

    /// INQUIRY (SPC-4, 6.6): the standard data, or a vital product data page.
    public static func inquiry(page: UInt8? = nil, length: UInt16 = 255) -> SCSICommand {
        SCSICommand(
            cdb: [0x12, page == nil ? 0 : 1, page ?? 0] + length.bigEndianBytes + [0], inputLength: Int(length))
    }

    /// READ CAPACITY(16) (SBC-4, 5.20).
    public static let readCapacity = SCSICommand(
        cdb: [0x9E, 0x10] + UInt64(0).bigEndianBytes + UInt32(32).bigEndianBytes + [0, 0], inputLength: 32)

    /// REPORT TARGET PORT GROUPS (SPC-4, 6.37).
    public static let reportTargetPortGroups = SCSICommand(
        cdb: [0xA3, 0x0A, 0, 0, 0, 0] + UInt32(4096).bigEndianBytes + [0, 0], inputLength: 4096)

    /// READ(16) of `blocks` logical blocks (SBC-4, 5.18).
    public static func read(_ lba: UInt64, blocks: UInt32, blockSize: Int = 512) -> SCSICommand {
        SCSICommand(
            cdb: [0x88, 0] + lba.bigEndianBytes + blocks.bigEndianBytes + [0, 0], inputLength: Int(blocks) * blockSize)
    }

    /// WRITE(16) of whole logical blocks (SBC-4, 5.44).
    public static func write(_ lba: UInt64, _ data: [UInt8], blockSize: Int = 512) -> SCSICommand {
        SCSICommand(
            cdb: [0x8A, 0] + lba.bigEndianBytes + UInt32(data.count / blockSize).bigEndianBytes + [0, 0], output: data)
    }

    /// COMPARE AND WRITE (SBC-4, 5.3) of as many logical blocks as `expected` holds, at most 255.
    public static func compareAndWrite(
        _ lba: UInt64, expected: [UInt8], new: [UInt8], blockSize: Int = 512, flags: UInt8 = 0
    ) -> SCSICommand {
        SCSICommand(
            cdb: [0x89, flags] + lba.bigEndianBytes + [0, 0, 0, UInt8(expected.count / blockSize), 0, 0],
            output: expected + new)
    }

    /// WRITE SAME(10), operation code 41h (SBC-4): one logical block written to many.
    ///
    /// - Parameter unmap: whether they may be unmapped instead, if the block is zero.
    public static func writeSame10(
        _ lba: UInt32, blocks: UInt16, _ block: [UInt8], unmap: Bool = false
    ) -> SCSICommand {
        SCSICommand(
            cdb: [0x41, unmap ? 8 : 0] + lba.bigEndianBytes + [0] + blocks.bigEndianBytes + [0], output: block)
    }

    /// WRITE SAME(16), operation code 93h (SBC-4): one logical block written to many.
    ///
    /// - Parameters:
    ///   - block: its data; nil: zeros that are not sent (NDOB).
    ///   - unmap: whether they may be unmapped instead, if the block is zero.
    public static func writeSame16(
        _ lba: UInt64, blocks: UInt32, _ block: [UInt8]?, unmap: Bool = false
    ) -> SCSICommand {
        let flags: UInt8 = (unmap ? 8 : 0) | (block == nil ? 1 : 0)
        return SCSICommand(
            cdb: [0x93, flags] + lba.bigEndianBytes + blocks.bigEndianBytes + [
                0, 0,
            ],
            output: block ?? [])
    }

    /// UNMAP, operation code 42h (SBC-4).
    ///
    /// - Parameter ranges: one block descriptor each, at most 4095.
    public static func unmap(_ ranges: [Range<UInt64>]) -> SCSICommand {
        let descriptors = ranges.flatMap { range -> [UInt8] in
            range.lowerBound.bigEndianBytes + UInt32(range.count).bigEndianBytes + [0, 0, 0, 0]
        }
        let parameters =
            UInt16(6 + descriptors.count).bigEndianBytes + UInt16(descriptors.count).bigEndianBytes + [0, 0, 0, 0]
            + descriptors
        return SCSICommand(
            cdb: [0x42, 0, 0, 0, 0, 0, 0] + UInt16(parameters.count).bigEndianBytes + [0], output: parameters)
    }

    /// Blocks of a logical unit that EXTENDED COPY names by its NAA designator.
    public struct CopyPlace: Sendable {
        /// The designator of VPD page 83h, 16 bytes.
        public var naa: [UInt8]
        public var lba: UInt64

        public init(naa: [UInt8], lba: UInt64) {
            self.naa = naa
            self.lba = lba
        }
    }

    /// EXTENDED COPY(LID1), operation code 83h, service action 00h (SPC-4): one segment from block device to block device.
    ///
    /// - Parameters:
    ///   - blocks: logical blocks to copy.
    ///   - list: LIST IDENTIFIER, which no other copy of this nexus may have at the time.
    public static func extendedCopy(
        from source: CopyPlace, to destination: CopyPlace, blocks: UInt16, list: UInt8 = 1, blockSize: Int = 512
    ) -> SCSICommand {
        // Identification descriptor: binary NAA designator of the logical unit, padded to 20 bytes, and the block length.
        func descriptor(_ place: CopyPlace) -> [UInt8] {
            let padding = [UInt8](repeating: 0, count: max(0, 20 - place.naa.count))
            return [0xE4, 0, 0, 0, 1, 3, 0, UInt8(place.naa.count)] + place.naa + padding
                + UInt32(blockSize).bigEndianBytes
        }
        let ends = descriptor(source) + descriptor(destination)
        // Of type 02h, 18h more bytes: from CSCD 0 to CSCD 1. DC says that the number counts the destination's blocks.
        let segment =
            [0x02, 0x02, 0, 0x18, 0, 0, 0, 1, 0, 0] + blocks.bigEndianBytes + source.lba.bigEndianBytes
            + destination.lba.bigEndianBytes
        let parameters =
            [list, 0] + UInt16(ends.count).bigEndianBytes + [0, 0, 0, 0] + UInt32(segment.count).bigEndianBytes
            + [0, 0, 0, 0] + ends + segment
        return SCSICommand(
            cdb: [0x83, 0, 0, 0, 0, 0, 0, 0, 0, 0] + UInt32(parameters.count).bigEndianBytes + [0, 0],
            output: parameters)
    }

    /// SYNCHRONIZE CACHE(10) of the whole logical unit (SBC-4, 5.33).
    public static let synchronizeCache = SCSICommand(cdb: [0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0])

    /// RESERVE(6) of the whole logical unit (SPC-2, 7.21).
    public static let reserve6 = SCSICommand(cdb: [0x16, 0, 0, 0, 0, 0])

    /// RELEASE(6) of the whole logical unit (SPC-2, 7.17).
    public static let release6 = SCSICommand(cdb: [0x17, 0, 0, 0, 0, 0])

    /// PERSISTENT RESERVE IN (SPC-4, 6.15).
    public static func persistentReserveIn(_ action: PersistentReserveIn, length: UInt16 = 4096) -> SCSICommand {
        SCSICommand(
            cdb: [0x5E, action.rawValue, 0, 0, 0, 0, 0] + length.bigEndianBytes + [0], inputLength: Int(length))
    }

    /// PERSISTENT RESERVE OUT (SPC-4, 6.16) with the basic parameter list.
    ///
    /// - Parameters:
    ///   - key: RESERVATION KEY, the nexus's own.
    ///   - actionKey: SERVICE ACTION RESERVATION KEY.
    ///   - type: the reservation's type (SPC-4, table 212): 1 write exclusive, 3 exclusive access, 5 and 6 the same for
    ///     registrants only, 7 and 8 for all registrants. Its scope is the logical unit.
    ///   - flags: SPEC_I_PT (8), ALL_TG_PT (4), APTPL (1).
    public static func persistentReserveOut(
        _ action: PersistentReserveOut, key: UInt64 = 0, actionKey: UInt64 = 0, type: UInt8 = 0, flags: UInt8 = 0
    ) -> SCSICommand {
        let parameters = key.bigEndianBytes + actionKey.bigEndianBytes + [0, 0, 0, 0, flags, 0, 0, 0]
        return SCSICommand(
            cdb: [0x5F, action.rawValue, type, 0, 0] + UInt32(parameters.count).bigEndianBytes + [0],
            output: parameters)
    }
}

extension SCSICommand {
    /// PERSISTENT RESERVE OUT, REGISTER AND MOVE (SPC-4, 6.16.4).
    ///
    /// - Parameters:
    ///   - key: RESERVATION KEY, the nexus's own.
    ///   - newKey: SERVICE ACTION RESERVATION KEY, which the other nexus is registered with.
    ///   - port: the relative target port identifier of the other nexus.
    ///   - transportID: of its initiator port.
    ///   - unregister: whether this nexus is not registered any more.
    public static func registerAndMove(
        key: UInt64, newKey: UInt64, to port: UInt16, transportID: [UInt8], unregister: Bool = false
    ) -> SCSICommand {
        let parameters =
            key.bigEndianBytes + newKey.bigEndianBytes + [0, unregister ? 2 : 0] + port.bigEndianBytes
            + UInt32(transportID.count).bigEndianBytes + transportID
        return SCSICommand(
            cdb: [0x5F, 7, 0, 0, 0] + UInt32(parameters.count).bigEndianBytes + [0], output: parameters)
    }
}

/// Task attributes (SAM-5, 8.6), as iSCSI encodes them (RFC 7143, 11.3.1).
public enum TaskAttribute: UInt8, Sendable, CaseIterable {
    case simple = 1
    case ordered = 2
    case headOfQueue = 3
}

/// Service actions of PERSISTENT RESERVE IN (SPC-4, table 208).
public enum PersistentReserveIn: UInt8, Sendable, CaseIterable {
    case readKeys = 0
    case readReservation = 1
    case reportCapabilities = 2
    case readFullStatus = 3

    /// The reservation keys in what READ KEYS returns (SPC-4, 6.15.2), as far as it was not cut off.
    public static func keys(in data: [UInt8]) -> [UInt64] {
        stride(from: 8, to: data.count - 7, by: 8).map { start in
            data[start..<start + 8].reduce(0) { $0 << 8 | UInt64($1) }
        }
    }
}

/// Service actions of PERSISTENT RESERVE OUT (SPC-4, table 216) that take the basic parameter list.
public enum PersistentReserveOut: UInt8, Sendable, CaseIterable {
    case register = 0
    case reserve = 1
    case release = 2
    case clear = 3
    case preempt = 4
    case preemptAndAbort = 5
    case registerAndIgnoreExistingKey = 6
}
