// SPDX-License-Identifier: Apache-2.0

/// What a logical unit says of itself through one port.
public struct Identity: Sendable, Hashable {
    /// One target port group of REPORT TARGET PORT GROUPS (SPC-4, 6.37).
    public struct PortGroup: Sendable, Hashable {
        /// TARGET PORT GROUP.
        public let group: UInt16
        /// ASYMMETRIC ACCESS STATE: 0 active/optimized, 1 active/non-optimized, 2 standby, 3 unavailable, Fh transitioning.
        public let state: UInt8
        /// RELATIVE TARGET PORT IDENTIFIER of each port, in ascending order.
        public let ports: [UInt16]
    }

    /// VPD page 80h: the unit serial number.
    public let serial: String
    /// VPD page 83h: the NAA designator of the logical unit, in hex.
    public let naa: String?
    /// VPD page 83h: the relative target port identifier of the port that was asked.
    public let relativePort: UInt16?
    /// VPD page B0h: MAXIMUM COMPARE AND WRITE LENGTH in logical blocks.
    public let maximumCompareAndWriteLength: UInt8
    /// What REPORT TARGET PORT GROUPS answers, by group.
    public let portGroups: [PortGroup]

    /// Asks a logical unit.
    public init(session: ISCSISession, lun: Int = 0) throws(ISCSIError) {
        try session.ready(lun: lun)
        let page80 = try session.good(.inquiry(page: 0x80), lun: lun)
        serial = String(decoding: page80.dropFirst(4), as: UTF8.self).filter { $0 != "\0" && $0 != " " }
        let designators = Self.designators(try session.good(.inquiry(page: 0x83, length: 1024), lun: lun))
        // SPC-4, 7.8.6.2: association 0 is the logical unit, 1 the target port; type 3 is NAA, 4 the relative port.
        naa = designators.first { $0.association == 0 && $0.type == 3 }
            .map { $0.value.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined() }
        relativePort = designators.first { $0.association == 1 && $0.type == 4 }
            .map { UInt16(bigEndian: $0.value.dropFirst(2)) }
        let limits = try session.good(.inquiry(page: 0xB0), lun: lun)
        maximumCompareAndWriteLength = limits.count > 5 ? limits[5] : 0
        portGroups = Self.portGroups(try session.good(.reportTargetPortGroups, lun: lun))
    }

    struct Designator {
        let association: UInt8
        let type: UInt8
        let value: [UInt8]
    }

    /// The designation descriptors of VPD page 83h (SPC-4, 7.8.6).
    static func designators(_ page: [UInt8]) -> [Designator] {
        var found: [Designator] = []
        var rest = page.dropFirst(4).prefix(Int(UInt16(bigEndian: page.dropFirst(2))))
        while rest.count >= 4 {
            let start = rest.startIndex
            let length = Int(rest[start + 3])
            found.append(
                Designator(
                    association: rest[start + 1] >> 4 & 3, type: rest[start + 1] & 15,
                    value: Array(rest.dropFirst(4).prefix(length))))
            rest = rest.dropFirst(4 + length)
        }
        return found
    }

    /// The target port group descriptors (SPC-4, table 290).
    public static func portGroups(_ data: [UInt8]) -> [PortGroup] {
        var found: [PortGroup] = []
        var rest = data.dropFirst(4).prefix(Int(UInt32(bigEndian: data)))
        while rest.count >= 8 {
            let start = rest.startIndex
            let count = Int(rest[start + 7])
            let ports = rest.dropFirst(8).prefix(4 * count)
            found.append(
                PortGroup(
                    group: UInt16(bigEndian: rest.dropFirst(2)), state: rest[start] & 15,
                    ports: stride(from: ports.startIndex, to: ports.endIndex, by: 4)
                        .map { UInt16(bigEndian: ports[$0...].dropFirst(2)) }
                        .sorted()))
            rest = rest.dropFirst(8 + 4 * count)
        }
        return found.sorted { $0.group < $1.group }
    }
}
