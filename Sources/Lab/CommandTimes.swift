// SPDX-License-Identifier: Apache-2.0

import Initiator

/// What a host's commands take through one gateway.
public struct CommandTimes: Sendable {
    /// 4 KiB of one command; many are 32.
    public let read: Depths
    public let write: Depths
    /// Of one block; many are 16, each of another block.
    public let compareAndWrite: Depths

    /// Time of one command, as ``Swift/Array/fastest()`` has it: what else the machine does only ever adds to it.
    public struct Depths: Sendable {
        /// While no other is outstanding.
        public let one: Duration
        /// Time over number, while many are.
        public let many: Duration
    }

    /// Measures commands through the first gateway of each of several labs, in turn and a few at a time, so that what
    /// else the machine does meets all of them alike.
    ///
    /// - Parameter rounds: how many turns each lab has.
    /// - Throws: `ISCSIError` if a gateway refuses something.
    public static func measure(_ labs: [Lab], rounds: Int) async throws -> [CommandTimes] {
        var nexuses: [Nexus] = []
        for lab in labs {
            guard let portal = lab.description().nodes.compactMap(\.portal).first else {
                throw LabError("lab \(lab.options.name)", "has no gateway")
            }
            let nexus = try await Nexus.login(
                portal: portal, target: Lab.targetName, initiator: "iqn.2026-11.example.clio:timer",
                namespace: lab.netns)
            try await nexus.ready()
            nexuses.append(nexus)
        }

        let page = [UInt8](repeating: 0x5A, count: 4096)
        @Sendable func address(_ lane: Int, _ turn: Int) -> UInt64 { UInt64(lane * 64 + turn % 64) * 8 }
        // In this order: what is read is there.
        let write = try await depths(nexuses, rounds, 32) { .write(address($0, $1), page) }
        let read = try await depths(nexuses, rounds, 32) { .read(address($0, $1), blocks: 8) }
        // To and fro, so that each turn begins with what the last one began with.
        let values = [UInt8(0), 1].map { [UInt8](repeating: $0, count: 512) }
        for nexus in nexuses {
            for lane in 0..<16 { try await nexus.good(.write(UInt64(lane), values[0])) }
        }
        let swap = try await depths(nexuses, rounds, 16) { lane, turn in
            .compareAndWrite(UInt64(lane), expected: values[turn % 2], new: values[(turn + 1) % 2])
        }
        for nexus in nexuses { await nexus.close() }
        return labs.indices.map { CommandTimes(read: read[$0], write: write[$0], compareAndWrite: swap[$0]) }
    }

    /// How many commands follow one another in a turn, of one and of each of many; even, see COMPARE AND WRITE. Few: a
    /// turn that another process interrupts is none of the fastest.
    private static let turns = (one: 8, many: 2)

    private static func depths(
        _ nexuses: [Nexus], _ rounds: Int, _ many: Int,
        _ command: @escaping @Sendable (_ lane: Int, _ turn: Int) -> SCSICommand
    ) async throws -> [Depths] {
        var one = [[Duration]](repeating: [], count: nexuses.count)
        var lanes = one
        for round in 0..<rounds {
            for step in nexuses.indices {
                let index = (round + step) % nexuses.count
                let nexus = nexuses[index]
                // The first ones find caches cold, which another lab has just used.
                for turn in 0..<2 { try await nexus.good(command(0, turn)) }
                for turn in 0..<turns.one {
                    let start = ContinuousClock.now
                    try await nexus.good(command(0, turn))
                    one[index].append(ContinuousClock.now - start)
                }
                let start = ContinuousClock.now
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for lane in 0..<many {
                        group.addTask { for turn in 0..<turns.many { try await nexus.good(command(lane, turn)) } }
                    }
                    try await group.waitForAll()
                }
                lanes[index].append((ContinuousClock.now - start) / (many * turns.many))
            }
        }
        return nexuses.indices.map { Depths(one: one[$0].fastest(), many: lanes[$0].fastest()) }
    }
}

extension [Duration] {
    /// Mean of the fastest twentieth, at least of one: steadier than the fastest, and hardly more disturbed.
    public func fastest() -> Duration {
        let best = sorted().prefix(Swift.max(1, count / 20))
        return best.isEmpty ? .zero : best.reduce(.zero, +) / best.count
    }
}
