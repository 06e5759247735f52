// SPDX-License-Identifier: Apache-2.0

import Foundation
import Synchronization

/// Hosts that write ever higher stamps, each into a block of its own, and notice if an older stamp ever stands over one
/// that was acknowledged.
///
/// Each host does what one with dm-multipath would: it sends a WRITE through one path; if there is no answer, it gives the
/// path up, waits until F has passed since the path's last sign of life, and sends a newer stamp through another. The
/// connection of the path it gave up stays open, so that the kernel's TCP goes on delivering what it holds.
///
/// ```swift
/// let writes = StampedWrites(target: iqn, portals: portals)
/// try await writes.start()
/// // break something
/// try await writes.settle(within: .seconds(30))
/// // repair it; old writes may arrive now
/// try await Task.sleep(for: .seconds(5))
/// let report = await writes.finish()
/// ```
public final class StampedWrites: Sendable {
    /// Where and how to write.
    public struct Options: Sendable {
        /// The IQN of the target.
        public var target: String
        /// The paths; hosts begin with one each in turn.
        public var portals: [String]
        public var lun = 0
        /// The block of the first host; each has the next.
        public var firstBlock: UInt64 = 0
        public var hosts = 8
        /// F: seconds after a path's last sign of life during which nothing may be sent elsewhere that had no answer.
        public var bound = 10.0
        /// Seconds without an answer after which a host gives up a path.
        public var patience = 3
        /// Longest pause between two writes of a host, in milliseconds.
        public var pause = 20
        /// The network namespace that the portals are reached from; nil for the process's own.
        public var namespace: String?

        public init(target: String, portals: [String]) {
            self.target = target
            self.portals = portals
        }
    }

    /// An older stamp that stood over an acknowledged one.
    public struct StaleWrite: Sendable, CustomStringConvertible {
        public let block: UInt64
        public let acknowledged: UInt64
        public let found: UInt64
        /// The portal that it was read through.
        public let portal: String

        public var description: String {
            "block \(block): stamp \(acknowledged) was acknowledged, \(portal) reads \(found)"
        }
    }

    /// What came of it.
    public struct Report: Sendable {
        /// Writes that were acknowledged.
        public var writes = 0
        /// Paths that were given up with a write unanswered.
        public var failovers = 0
        /// The longest time from the first sending of a stamp to the acknowledgement of it or a newer one.
        public var longestPause: Duration = .zero
        /// One at most for each block.
        public var stale: [StaleWrite] = []
    }

    fileprivate enum Phase { case writing, settling, done }
    fileprivate struct State {
        var phase = Phase.writing
        /// Hosts whose last write has been acknowledged.
        var settled = 0
        var report = Report()
        var tasks: [Task<Void, Never>] = []
    }

    public let options: Options
    private let state = Mutex(State())

    public init(_ options: Options) { self.options = options }

    /// Logs in, writes a first stamp for each host, and goes on writing.
    ///
    /// - Throws: `ISCSIError` if a portal cannot be logged in to.
    public func start() async throws {
        let hosts = try await withThrowingTaskGroup(of: StampedHost.self) { group in
            for index in 0..<options.hosts {
                group.addTask {
                    let host = StampedHost(index, self)
                    try await host.logIn()
                    return host
                }
            }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        state.withLock { $0.tasks = hosts.map { host in Task { await host.run() } } }
    }

    /// No new writes; waits until each host has had its last one acknowledged, be it through another path. From then on
    /// hosts only read.
    ///
    /// - Throws: `ISCSIError` if that takes longer.
    public func settle(within limit: Duration) async throws {
        state.withLock { $0.phase = .settling }
        let end = ContinuousClock.now + limit
        while true {
            let settled = state.withLock { $0.settled }
            if settled == options.hosts { return }
            guard ContinuousClock.now < end else {
                throw ISCSIError(
                    operation: "write through any path", portal: options.portals.joined(separator: ", "),
                    text: "\(options.hosts - settled) of \(options.hosts) hosts had no success within \(limit)")
            }
            try await Task.sleep(for: .milliseconds(50))
        }
    }

    /// Ends it, and reads each block through every portal that answers.
    public func finish() async -> Report {
        let tasks = state.withLock { state in
            state.phase = .done
            return state.tasks
        }
        for task in tasks { await task.value }
        return state.withLock { $0.report }
    }

    fileprivate var phase: Phase { state.withLock { $0.phase } }

    fileprivate func record(_ change: (inout Report) -> Void) { state.withLock { change(&$0.report) } }

    fileprivate func hostIsSettled() { state.withLock { $0.settled += 1 } }
}

/// One host and its block.
private actor StampedHost {
    private let writes: StampedWrites
    private let options: StampedWrites.Options
    private let index: Int
    private let block: UInt64

    private var stamp: UInt64 = 0
    private var acknowledged: UInt64 = 0
    private var path: Int
    private var nexus: Nexus?
    /// When the path last gave an answer.
    private var signOfLife = ContinuousClock.now
    /// Paths that were given up; kept, and with them their connections.
    private var abandoned: [Nexus] = []
    private var foundStale = false

    init(_ index: Int, _ writes: StampedWrites) {
        self.index = index
        self.writes = writes
        options = writes.options
        block = options.firstBlock + UInt64(index)
        path = index % options.portals.count
    }

    func logIn() async throws {
        nexus = try await logIn(path)
        signOfLife = .now
    }

    func run() async {
        await write()
        while writes.phase == .writing {
            await write()
            await check()
            // A host that always waits for an answer has nothing to send to a gateway that has just died.
            try? await Task.sleep(for: .milliseconds(Int.random(in: 0...options.pause)))
        }
        await write()
        writes.hostIsSettled()
        while writes.phase == .settling {
            await check()
            try? await Task.sleep(for: .milliseconds(200))
        }
        // Without an acknowledgement of the last stamp nobody can say what has to be there.
        for portal in options.portals.indices where acknowledged == stamp {
            guard let reader = try? await logIn(portal) else { continue }
            _ = await look(through: reader)
            await reader.close()
        }
        let nexuses = abandoned + [nexus].compactMap(\.self)
        // One whose other end is dead logs out late or never; nobody has to wait for that.
        for nexus in nexuses { Task { await nexus.close() } }
    }

    /// Writes a new stamp, through whichever path takes it; gives up if none has by the end of it all.
    private func write() async {
        let start = ContinuousClock.now
        stamp += 1
        while true {
            guard writes.phase != .done else { return }
            if nexus == nil { await findPath() }
            guard let nexus else {
                try? await Task.sleep(for: .milliseconds(100))
                continue
            }
            do {
                let reply = try await nexus.send(.write(block, data(stamp)), lun: options.lun)
                signOfLife = .now
                if reply.isGood { break }
                if reply.isPortUnavailable {
                    // Refused: it is not under way, so another path may have it at once.
                    await leavePath()
                } else {
                    try? await Task.sleep(for: .milliseconds(50))
                }
            } catch {
                writes.record { $0.failovers += 1 }
                let safe = signOfLife + .seconds(options.bound)
                await leavePath()
                try? await Task.sleep(until: safe)
                // The old one may still land, but not over this.
                stamp += 1
            }
        }
        acknowledged = stamp
        let pause = ContinuousClock.now - start
        writes.record {
            $0.writes += 1
            $0.longestPause = max($0.longestPause, pause)
        }
    }

    private func check() async {
        guard let nexus else { return await findPath() }
        if await look(through: nexus) { signOfLife = .now } else { await leavePath() }
    }

    /// Reads the block; false if there was no answer. All that was ever sent and not acknowledged is older than what was.
    private func look(through nexus: Nexus) async -> Bool {
        for _ in 0..<4 {
            guard let reply = try? await nexus.send(.read(block, blocks: 1), lun: options.lun) else { return false }
            guard reply.isGood else {
                if reply.isPortUnavailable { return false }
                continue
            }
            let found = UInt64(bigEndian: reply.data)
            if found != acknowledged, !foundStale {
                foundStale = true
                let stale = StampedWrites.StaleWrite(
                    block: block, acknowledged: acknowledged, found: found, portal: nexus.portal)
                writes.record { $0.stale.append(stale) }
            }
            return true
        }
        return true
    }

    private func leavePath() async {
        if let nexus { abandoned.append(nexus) }
        nexus = nil
        path = (path + 1) % options.portals.count
    }

    private func findPath() async {
        for _ in options.portals {
            if let found = try? await logIn(path) {
                nexus = found
                signOfLife = .now
                return
            }
            path = (path + 1) % options.portals.count
        }
    }

    /// Logs in within the host's patience.
    private func logIn(_ path: Int) async throws -> Nexus {
        try await Nexus.login(
            within: .seconds(options.patience), portal: options.portals[path], target: options.target,
            initiator: "iqn.2026-11.example.clio:stamps\(index)", timeout: Int32(options.patience),
            namespace: options.namespace)
    }

    private func data(_ stamp: UInt64) -> [UInt8] {
        stamp.bigEndianBytes + UInt64(index).bigEndianBytes + [UInt8](repeating: UInt8(index & 0xFF), count: 496)
    }
}

extension SCSIReply {
    /// LOGICAL UNIT NOT ACCESSIBLE, TARGET PORT IN UNAVAILABLE STATE (SPC-4, 5.15.2.4.5): the command was refused.
    public var isPortUnavailable: Bool { sense?.key == 0x02 && sense?.additional == 0x040C }
}
