// SPDX-License-Identifier: Apache-2.0
import ClusterModel
import Logging
import Rados
import Relay
import Synchronization

/// The group object in RADOS, as the relay uses it: `clio.group.<group>` with omap `member.<node>` (records) and
/// `beat.<node>` (decimal numbers), and its watch.
///
/// Every request is answered exactly once, and no later than the time-outs of the connection allow.
final class GroupObject: Sendable {
    enum Happening: Sendable {
        case notification(WatchNotification)
        /// The watch is gone and closed.
        case watchLost
    }

    let pool: Pool
    let object: String
    /// How long Ceph keeps the watch of a client that it does not hear of, and how long this side believes in one.
    private let expiry: Duration
    private let logger: Logger
    private let handler: @Sendable (Happening) -> Void
    private let current = Mutex<Watch?>(nil)
    private let used = Mutex(false)

    static let memberPrefix = "member."
    static let beatPrefix = "beat."
    /// How long a client stays on the blocklist: longer than any node is left frozen.
    static let blocklisted = Duration.seconds(30 * 86400)

    init(
        pool: Pool, group: String, expiry: Duration, logger: Logger,
        handler: @escaping @Sendable (Happening) -> Void
    ) {
        self.pool = pool
        object = StoredGroup.objectName(for: group)
        self.expiry = expiry
        self.logger = logger
        self.handler = handler
    }

    /// Time-outs and settings of the connection that the relay's requests need.
    static func tune(_ options: Cluster.Options, _ timing: Timing) -> Cluster.Options {
        var options = options
        // Longer than this and the next renewal had better be a new request.
        options.timeouts.osd = .seconds(timing.renew * 2)
        options.timeouts.monitor = .seconds(timing.lease)
        // A watch is confirmed at each tick; the default of 5 s is longer than some group's D.
        options.settings["objecter_tick_interval"] = String(timing.renew)
        return options
    }

    /// Whether anything has been asked of it.
    var isUsed: Bool { used.withLock { $0 } }

    var isWatching: Bool { current.withLock { $0 != nil } }

    // MARK: Requests

    func perform(_ request: Request) async -> Reply {
        used.withLock { $0 = true }
        do {
            switch request {
            case .watch: return try await watch()
            case .read: return .members(try await snapshot())
            case .swap(let swap): return try await carryOut(swap)
            case .notify(let bytes, let timeout):
                let reply = try await pool.notify(object, bytes, timeout: timeout)
                return .notified(reply.acknowledged.map(\.payload))
            case .blocklist(let clients):
                for client in clients { try await pool.cluster.blocklist(client, for: Self.blocklisted) }
                return .blocklisted(epoch: try await pool.cluster.osdMapEpoch())
            }
        } catch {
            logger.info("\(error)")
            return .failed((error as? RadosError)?.kind == .blocklisted ? .blocklisted : .unavailable)
        }
    }

    /// All records and beats at one moment.
    func snapshot() async throws -> Snapshot {
        var operation = ReadOperation()
        operation.assertExists()
        let memberStep = operation.omapValues(prefix: Self.memberPrefix)
        let beatStep = operation.omapValues(prefix: Self.beatPrefix)
        let result = try await pool.execute(operation, on: object)
        let (members, beats) = (result[memberStep], result[beatStep])
        guard !members.more, !beats.more else {
            throw Damaged(description: "\(pool.describe(object)) has more members than a group can have")
        }
        var snapshot = Snapshot(version: result.version)
        for (key, value) in members.values {
            guard let record = Record(decoding: value) else {
                throw Damaged(description: "\(pool.describe(object)): omap \(key) is no member record")
            }
            let node = String(key.dropFirst(Self.memberPrefix.count))
            guard Group.fault(nodeName: node) == nil else {
                throw Damaged(description: "\(pool.describe(object)): omap \(key.debugDescription) is of no node")
            }
            snapshot.members[node] = record
        }
        for (key, value) in beats.values {
            guard let beat = UInt64(String(decoding: value, as: UTF8.self)) else {
                throw Damaged(description: "\(pool.describe(object)): omap \(key) is no number")
            }
            snapshot.beats[String(key.dropFirst(Self.beatPrefix.count))] = beat
        }
        return snapshot
    }

    /// What is in the object was not put there by a relay.
    struct Damaged: Error, CustomStringConvertible { let description: String }

    private func carryOut(_ swap: Swap) async throws -> Reply {
        var operation = WriteOperation()
        operation.assertExists()
        for condition in swap.guards {
            switch condition {
            case .member(let node, let record):
                operation.omapCompare(Self.memberPrefix + node, .equal, record?.encoded ?? [])
            case .beat(let node, let beat): operation.omapCompare(Self.beatPrefix + node, .equal, Self.bytes(beat))
            }
        }
        for change in swap.changes {
            switch change {
            case .member(let node, let record?): operation.omapSet(Self.memberPrefix + node, record.encoded)
            case .member(let node, nil): operation.omapRemove(Self.memberPrefix + node)
            case .beat(let node, let beat?): operation.omapSet(Self.beatPrefix + node, Self.bytes(beat))
            case .beat(let node, nil): operation.omapRemove(Self.beatPrefix + node)
            }
        }
        do {
            try await pool.execute(operation, on: object)
            return .swapped
        } catch {
            guard error.kind == .comparisonFailed else { throw error }
            return .mismatch
        }
    }

    private static func bytes(_ beat: UInt64?) -> [UInt8] { beat.map { Array(String($0).utf8) } ?? [] }

    // MARK: Watching

    private func watch() async throws -> Reply {
        await unwatch()
        let watch = try await pool.watch(object, expiry: expiry)
        current.withLock { $0 = watch }
        let handler = handler
        Task { [weak self] in
            // Ends with an error when the watch is lost, and without one when it is closed.
            do { for try await notification in watch { handler(.notification(notification)) } } catch {}
            await self?.lose(watch)
        }
        Task { [weak self, expiry] in
            while let self, current.withLock({ $0 === watch }) {
                // Ceph has dropped a watch that it did not hear of for so long, whether it can say so or not.
                guard let age = try? watch.check(), age < expiry else { return await lose(watch) }
                try? await Task.sleep(for: .seconds(1))
            }
        }
        return .watching
    }

    private func lose(_ watch: Watch) async {
        let wasCurrent = current.withLock { current in
            guard current === watch else { return false }
            current = nil
            return true
        }
        guard wasCurrent else { return }
        handler(.watchLost)
        try? await watch.close()
    }

    private func unwatch() async {
        let watch = current.withLock { current in
            defer { current = nil }
            return current
        }
        try? await watch?.close()
    }

    /// Nothing is handed over after this.
    func close() async { await unwatch() }
}
