// SPDX-License-Identifier: Apache-2.0

import Foundation

/// Writers that increment counters by COMPARE AND WRITE through several portals at once: read, add one, compare and write;
/// on a miscompare start over. If the logical unit is one, the counters add up to the number of successes.
public struct CompareAndWriteRace: Sendable {
    /// What came of it.
    public struct Outcome: Sendable {
        /// Increments that the writers were told had been written.
        public let successes: Int
        /// Attempts that ended in a miscompare.
        public let miscompares: Int
        /// The sum of the counters afterwards.
        public let counter: Int
        /// Length of the race in seconds.
        public let seconds: Double

        /// Successes that the counters do not show: updates that were lost.
        public var lost: Int { successes - counter }
        /// Successes a second.
        public var rate: Double { Double(successes) / seconds }
    }

    /// The IQN of the target.
    public var target: String
    /// The portals; writers are dealt to them in turn.
    public var portals: [String]
    public var lun = 0
    /// The first block that holds a counter.
    public var lba: UInt64 = 0
    /// How many blocks hold a counter each; each writer goes round them.
    public var blocks = 1
    public var writers = 4
    /// Length in seconds.
    public var duration = 5.0
    /// The network namespace that the portals are reached from; nil for the process's own.
    public var namespace: String?

    public init(target: String, portals: [String]) {
        self.target = target
        self.portals = portals
    }

    /// Clears the counters, runs the writers, and reads the counters back through the first portal.
    ///
    /// - Throws: `ISCSIError` if a session cannot be set up, or a command ends in anything but GOOD or MISCOMPARE.
    public func run() async throws -> Outcome {
        let race = self
        try await blocking(in: namespace) {
            let session = try race.session(portal: 0, name: "referee")
            for block in 0..<race.blocks {
                try session.good(.write(race.lba + UInt64(block), [UInt8](repeating: 0, count: 512)), lun: race.lun)
            }
        }
        let start = Date()
        let end = start + duration
        let tallies = try await withThrowingTaskGroup(of: (successes: Int, miscompares: Int).self) { group in
            for writer in 0..<writers {
                group.addTask { try await blocking(in: namespace) { try race.write(writer, until: end) } }
            }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        let seconds = Date().timeIntervalSince(start)
        let counter = try await blocking(in: namespace) {
            let session = try race.session(portal: 0, name: "referee")
            return try (0..<race.blocks).reduce(0) { sum, block in
                let data = try session.good(.read(race.lba + UInt64(block), blocks: 1), lun: race.lun)
                return sum + Int(UInt64(bigEndian: data))
            }
        }
        return Outcome(
            successes: tallies.reduce(0) { $0 + $1.successes },
            miscompares: tallies.reduce(0) { $0 + $1.miscompares }, counter: counter, seconds: seconds)
    }

    private func session(portal: Int, name: String) throws -> ISCSISession {
        let session = try ISCSISession(
            portal: portals[portal % portals.count], target: target, initiator: "iqn.2026-11.example.clio:\(name)")
        try session.ready(lun: lun)
        return session
    }

    private func write(_ writer: Int, until end: Date) throws -> (successes: Int, miscompares: Int) {
        let session = try session(portal: writer, name: "writer\(writer)")
        var successes = 0
        var miscompares = 0
        var block = writer
        while Date() < end {
            let lba = lba + UInt64(block % blocks)
            let old = try session.good(.read(lba, blocks: 1), lun: lun)
            var new = old
            new.replaceSubrange(0..<8, with: (UInt64(bigEndian: old) + 1).bigEndianBytes)
            let reply = try session.send(.compareAndWrite(lba, expected: old, new: new), lun: lun)
            if reply.isGood {
                successes += 1
                block += 1
            } else if reply.isMiscompare {
                miscompares += 1
            } else {
                throw ISCSIError(
                    operation: "COMPARE AND WRITE", portal: session.portal,
                    text: "\(reply)")
            }
        }
        return (successes, miscompares)
    }
}
