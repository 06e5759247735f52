// SPDX-License-Identifier: Apache-2.0

import Initiator
import Reservations

/// What reservations cost, through one gateway.
public struct ReservationTimes: Sendable {
    /// Answer to a REGISTER that changes a key, median.
    public var register: Duration
    /// Time of one read while 16 of them are outstanding, median of several rounds.
    public var read: Duration
}

extension Lab {
    /// How many nexuses have registered.
    public enum Registrations: Sendable {
        case none
        /// One, which holds a reservation and measures.
        case one
        /// 512, of 256 hosts at two target ports; one of them as before. Needs two gateways that act as one.
        case many
    }

    /// Measures reservations through the first gateway, and leaves none behind.
    ///
    /// - Parameter count: REGISTER commands; the reads are 200 times as many.
    /// - Throws: `ISCSIError` if the gateway refuses something.
    public func reservationTimes(
        _ registrations: Registrations, count: Int = 50, lun: Int = 0
    ) async throws -> ReservationTimes {
        guard let portal = description().nodes.compactMap(\.portal).first else {
            throw LabError("lab", "has no gateway")
        }
        let name = "iqn.2026-11.example.clio:holder"
        let nexus = try await Nexus.login(
            portal: portal, target: Self.targetName, initiator: name, namespace: netns)
        try await nexus.ready(lun: lun)
        var key: UInt64 = 1
        switch registrations {
        case .none: break
        case .one: try await nexus.good(.persistentReserveOut(.register, actionKey: key), lun: lun)
        case .many: try await nexus.good(try Self.registerMany(key: key), lun: lun)
        }
        if registrations != .none {
            try await nexus.good(.persistentReserveOut(.reserve, key: key, type: 5), lun: lun)
        }

        var registers: [Duration] = []
        for _ in 0..<count {
            let start = ContinuousClock.now
            let old = registrations == .none ? 0 : key
            let command = SCSICommand.persistentReserveOut(.register, key: old, actionKey: key + 1)
            try await nexus.good(command, lun: lun)
            registers.append(ContinuousClock.now - start)
            key += 1
            if registrations == .none {
                try await nexus.good(.persistentReserveOut(.register, key: key), lun: lun)
            }
        }

        var reads: [Duration] = []
        for _ in 0..<5 {
            let each = count * 40
            let start = ContinuousClock.now
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<16 {
                    group.addTask { for _ in 0..<each / 16 { try await nexus.good(.read(0, blocks: 1), lun: lun) } }
                }
                try await group.waitForAll()
            }
            reads.append((ContinuousClock.now - start) / (each / 16 * 16))
        }

        if registrations != .none { try await nexus.good(.persistentReserveOut(.clear, key: key), lun: lun) }
        await nexus.close()
        return ReservationTimes(register: registers.sorted()[count / 2], read: reads.sorted()[reads.count / 2])
    }

    /// REGISTER with SPEC_I_PT and ALL_TG_PT: the sender and 255 others, at each target port (SPC-4, 6.16.3).
    private static func registerMany(key: UInt64) throws -> SCSICommand {
        var others: [UInt8] = []
        for number in 1...255 {
            guard let id = TransportID(iscsi: "iqn.2026-11.example.clio:host\(number)", isid: 0) else {
                throw LabError("host\(number)", "is not an initiator's name")
            }
            others += id.bytes
        }
        func big<T: FixedWidthInteger>(_ value: T) -> [UInt8] { withUnsafeBytes(of: value.bigEndian) { Array($0) } }
        let (specifyInitiators, allPorts): (UInt8, UInt8) = (0x08, 0x04)
        let parameters =
            big(UInt64(0)) + big(key) + [0, 0, 0, 0, specifyInitiators | allPorts, 0, 0, 0]
            + big(UInt32(others.count)) + others
        return SCSICommand(cdb: [0x5F, 0, 0, 0, 0] + big(UInt32(parameters.count)) + [0], output: parameters)
    }
}
