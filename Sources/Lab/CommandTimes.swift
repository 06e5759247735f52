// SPDX-License-Identifier: Apache-2.0

import Initiator

/// What a host's commands take through one gateway.
public struct CommandTimes: Sendable {
    /// 4 KiB of one command; many are 32.
    public let read: Depths
    public let write: Depths
    /// Of one block; many are 16, each of another block.
    public let compareAndWrite: Depths

    /// Time of one command in the fastest of several rounds: what else the machine does only ever adds to it.
    public struct Depths: Sendable {
        /// While no other is outstanding.
        public let one: Duration
        /// Time over number, while many are.
        public let many: Duration
    }
}

extension Lab {
    /// Measures commands through the first gateway.
    ///
    /// - Parameter count: half of how many commands follow one another in each of twenty rounds.
    /// - Throws: `ISCSIError` if the gateway refuses something.
    public func commandTimes(count: Int = 30, lun: Int = 0) async throws -> CommandTimes {
        guard let portal = description().nodes.compactMap(\.portal).first else {
            throw LabError("lab", "has no gateway")
        }
        let nexus = try await Nexus.login(
            portal: portal, target: Self.targetName, initiator: "iqn.2026-11.example.clio:timer", namespace: netns)
        try await nexus.ready(lun: lun)
        // Even: see COMPARE AND WRITE.
        let turns = count * 2

        func fastest(_ lanes: Int, _ command: @escaping @Sendable (Int, Int) -> SCSICommand) async throws -> Duration {
            var times: [Duration] = []
            for _ in 0..<20 {
                let start = ContinuousClock.now
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for lane in 0..<lanes {
                        group.addTask {
                            for turn in 0..<turns { try await nexus.good(command(lane, turn), lun: lun) }
                        }
                    }
                    try await group.waitForAll()
                }
                times.append((ContinuousClock.now - start) / (lanes * turns))
            }
            return times.min() ?? .zero
        }
        func depths(_ many: Int, _ command: @escaping @Sendable (Int, Int) -> SCSICommand) async throws
            -> CommandTimes.Depths
        {
            CommandTimes.Depths(one: try await fastest(1, command), many: try await fastest(many, command))
        }

        let page = [UInt8](repeating: 0x5A, count: 4096)
        @Sendable func address(_ lane: Int, _ turn: Int) -> UInt64 { UInt64(lane * 64 + turn % 64) * 8 }
        // In this order: what is read is there.
        let write = try await depths(32) { .write(address($0, $1), page) }
        let read = try await depths(32) { .read(address($0, $1), blocks: 8) }
        // To and fro, so that each round begins with what the last one began with.
        let values = [UInt8(0), 1].map { [UInt8](repeating: $0, count: 512) }
        for lane in 0..<16 { try await nexus.good(.write(UInt64(lane), values[0]), lun: lun) }
        let swap = try await depths(16) { lane, turn in
            .compareAndWrite(UInt64(lane), expected: values[turn % 2], new: values[(turn + 1) % 2])
        }
        await nexus.close()
        return CommandTimes(read: read, write: write, compareAndWrite: swap)
    }
}
