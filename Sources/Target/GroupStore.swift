// SPDX-License-Identifier: Apache-2.0
import ClusterModel
import Foundation
import Rados

/// A group's config in RADOS: object `clio.group.<group>`, replaced as a whole by compare-and-swap.
///
/// The object's omap and version change all the time (members, beats), so what is compared is the config itself.
public struct GroupStore: Sendable {
    public let pool: Pool
    /// Name of the group.
    public let group: String

    public init(pool: Pool, group: String) {
        self.pool = pool
        self.group = group
    }

    private var object: String { StoredGroup.objectName(for: group) }
    /// Its hold on its images.
    public var claim: ImageClaim { ImageClaim(group: group, pool: pool.name) }
    /// Where the group is kept, for messages: `rbd/clio.group.default`.
    public var place: String { pool.describe(object) }

    /// Why a group could not be read or replaced.
    public enum Failure: Error, CustomStringConvertible {
        /// There is no such group.
        case missing(group: String, place: String)
        /// It is there already, at this version.
        case exists(group: String, version: Int)
        /// Someone else replaced it since it was read.
        case changed(group: String, version: Int)
        /// An earlier version is not kept.
        case forgotten(group: String, version: Int, current: Int)

        public var description: String {
            switch self {
            case .missing(let group, let place):
                "there is no group \"\(group)\" (object \(place)); create it with: clio group init --group \(group)"
            case .exists(let group, let version): "group \"\(group)\" is there already, at version \(version)"
            case .changed(let group, let version):
                "group \"\(group)\" was changed by someone else since version \(version) was read; nothing was written. "
                    + "Look at the difference with --dry-run, then apply again"
            case .forgotten(let group, let version, let current):
                "version \(version) of group \"\(group)\" is not kept; clio history shows which are (it is at \(current))"
            }
        }
    }

    /// A group and the bytes it was read from.
    public struct Snapshot: Sendable {
        public let stored: StoredGroup
        let bytes: [UInt8]
    }

    /// Reads the group.
    ///
    /// - Throws: ``Failure``, `RadosError`, ``StoredGroup/Unreadable``.
    public func load() async throws -> Snapshot {
        let bytes = try await content()
        // The object may be there with an omap only.
        if bytes.isEmpty { throw Failure.missing(group: group, place: place) }
        return Snapshot(stored: try StoredGroup(decoding: bytes), bytes: bytes)
    }

    private func content() async throws -> [UInt8] {
        do {
            return try await pool.readAll(object).bytes
        } catch {
            throw error.kind == .notFound ? Failure.missing(group: group, place: place) : error
        }
    }

    /// Creates an empty group, unless there is one: then ``Failure/exists(group:version:)``.
    public func create() async throws -> StoredGroup {
        let stored = StoredGroup(creating: group)
        var operation = WriteOperation()
        operation.create(exclusive: true)
        operation.writeFull(try stored.encoded())
        do {
            try await pool.execute(operation, on: object)
        } catch {
            guard error.kind == .alreadyExists else { throw error }
            throw Failure.exists(group: group, version: try await load().stored.version)
        }
        return stored
    }

    /// What is notified to the group's object when the configuration has changed. Relays take it on at once; one that does
    /// not hear of it looks by itself before long.
    public static let announcement = Array("clio: group changed\n".utf8)

    /// How many earlier versions are kept.
    public static let kept = 100

    /// What a command of this machine does now.
    public static func change(by command: String) -> StoredGroup.Change {
        StoredGroup.Change(
            time: Date().timeIntervalSince1970.rounded(), host: SystemFiles.hostName, command: command)
    }

    /// Replaces the group that was read by another, keeps what was read as history, and tells the nodes.
    ///
    /// - Parameter command: what changes it, for the history.
    /// - Throws: ``Failure/changed(group:version:)`` if it is no longer what was read. A time-out leaves open whether it
    ///   happened: read again.
    public func replace(_ snapshot: Snapshot, with next: StoredGroup, command: String) async throws {
        var next = next
        next.change = Self.change(by: command)
        // First: each version that anyone ever saw is kept. Who loses the race has written the same bytes as the winner.
        let version = snapshot.stored.version
        try await pool.writeFull(StoredGroup.historyName(for: group, version: version), snapshot.bytes)
        var operation = WriteOperation()
        operation.assertExists()
        operation.compare(snapshot.bytes)
        operation.writeFull(try next.encoded())
        try await execute(operation, after: version)
        // It stands, whether or not somebody can be told.
        _ = try? await pool.notify(object, Self.announcement, timeout: .seconds(2))
        if version > Self.kept {
            try? await pool.remove(StoredGroup.historyName(for: group, version: version - Self.kept))
        }
    }

    /// Deletes the group, with its history.
    ///
    /// - Throws: ``Failure/changed(group:version:)`` if it is no longer what was read.
    public func remove(_ snapshot: Snapshot) async throws {
        let version = snapshot.stored.version
        var operation = WriteOperation()
        operation.assertExists()
        operation.compare(snapshot.bytes)
        operation.remove()
        try await execute(operation, after: version)
        for old in version - Self.kept..<version where old > 0 {
            try? await pool.remove(StoredGroup.historyName(for: group, version: old))
        }
    }

    /// - Throws: ``Failure`` for an object that is not what version `version` was.
    private func execute(_ operation: WriteOperation, after version: Int) async throws {
        do {
            try await pool.execute(operation, on: object)
        } catch {
            switch error.kind {
            case .mismatch, .comparisonFailed: throw Failure.changed(group: group, version: version)
            case .notFound: throw Failure.missing(group: group, place: place)
            default: throw error
            }
        }
    }

    /// An earlier version, or the present one.
    ///
    /// - Throws: ``Failure/forgotten(group:version:current:)``, `RadosError`, ``StoredGroup/Unreadable``.
    public func version(_ number: Int, now: StoredGroup) async throws -> StoredGroup {
        if number == now.version { return now }
        let forgotten = Failure.forgotten(group: group, version: number, current: now.version)
        guard (1..<now.version).contains(number) else { throw forgotten }
        do {
            let name = StoredGroup.historyName(for: group, version: number)
            let found = try StoredGroup(decoding: try await pool.readAll(name).bytes)
            guard found.version == number, found.config.name == group else { throw forgotten }
            return found
        } catch let error as RadosError where error.kind == .notFound {
            throw forgotten
        }
    }

    /// The present version and those before it that are kept, newest first.
    public func history(of now: StoredGroup, limit: Int) async throws -> [StoredGroup] {
        var out = [now]
        var number = now.version - 1
        while number > 0, number >= now.version - Self.kept, out.count < limit {
            do {
                out.append(try await version(number, now: now))
            } catch Failure.forgotten {
                // Written before versions were kept.
            }
            number -= 1
        }
        return out
    }

    /// Gives LUNs that were applied before their image was there what follows from it: its id, and the serial derived from
    /// that.
    ///
    /// - Parameter cluster: where images are looked at.
    /// - Returns: the group as it is then.
    public func completing(_ snapshot: Snapshot, in cluster: Cluster) async throws -> Snapshot {
        let stored = snapshot.stored
        guard stored.config.luns.contains(where: { $0.imageID == nil }) else { return snapshot }
        let identities = try await ImageCheck.identities(
            of: stored.config.luns.filter { $0.imageID == nil }.map(\.image), in: cluster)
        guard !identities.isEmpty else { return snapshot }
        let complete = try stored.config.completed(fsid: cluster.fsid, images: identities, previous: stored.config)
        guard let next = try stored.applying(complete) else { return snapshot }
        do {
            try await replace(snapshot, with: next, command: "cliod: images that have come")
        } catch Failure.changed {
            // Most likely another node has done the same.
        }
        return try await load()
    }
}
