// SPDX-License-Identifier: Apache-2.0

import Initiator

/// How long LOGICAL UNIT RESETs took, from request to response.
public struct ResetTimes: Sendable {
    /// With nothing else going on.
    public let idle: Duration
    /// With reads and writes under way through every gateway.
    public let loaded: Duration
}

extension Lab {
    /// Measures LOGICAL UNIT RESETs through the first gateway.
    ///
    /// - Parameter count: how many of each kind; the medians are reported.
    /// - Throws: `ISCSIError` if a portal cannot be logged in to, or a reset does not succeed.
    public func resetTimes(count: Int = 30, lun: Int = 0) async throws -> ResetTimes {
        let portals = description().nodes.compactMap(\.portal)
        func logIn(_ portal: String, _ name: String) async throws -> Nexus {
            let nexus = try await Nexus.login(
                portal: portal, target: Self.targetName, initiator: "iqn.2026-11.example.clio:\(name)",
                namespace: netns)
            try await nexus.ready(lun: lun)
            return nexus
        }
        let manager = try await logIn(portals[0], "manager")
        func median(of count: Int) async throws -> Duration {
            var times: [Duration] = []
            for _ in 0..<count {
                let start = ContinuousClock.now
                guard try await manager.manage(.logicalUnitReset, lun: lun) == .complete else {
                    throw LabError("LUN \(lun)", "LOGICAL UNIT RESET through \(portals[0]) failed")
                }
                times.append(ContinuousClock.now - start)
                try await Task.sleep(for: .milliseconds(20))
            }
            return times.sorted()[count / 2]
        }

        let idle = try await median(of: count)
        let load = try await withThrowingTaskGroup(of: Void.self) { group in
            for (index, portal) in portals.enumerated() {
                let nexus = try await logIn(portal, "load\(index)")
                for lane in 0..<8 {
                    group.addTask {
                        let lba = UInt64(index * 8 + lane) * 8
                        let data = [UInt8](repeating: 0x5A, count: 4096)
                        while !Task.isCancelled {
                            _ = try await nexus.send(.write(lba, data), lun: lun)
                            _ = try await nexus.send(.read(lba, blocks: 8), lun: lun)
                        }
                    }
                }
            }
            defer { group.cancelAll() }
            return try await median(of: count)
        }
        await manager.close()
        return ResetTimes(idle: idle, loaded: load)
    }
}
