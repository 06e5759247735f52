// SPDX-License-Identifier: Apache-2.0
import ClusterModel
import Logging
import Rados
import Relay

/// A node as the group object and its own relay show it.
public struct MemberStatus: Codable, Sendable, Hashable {
    public var node: String
    /// Of the member record: `up`, `leaving`, `fenced (…)`, `absent`; `drained` if there is none and shall be none.
    public var state: String
    /// Since when it is as it is, seconds since 1970: its relay's phase if that answers, else its record as other relays have
    /// seen it, for as long as they have been there. `nil` if nobody says.
    public var since: Double?
    /// By what it is to serve nothing, if it is.
    public var drained: StoredGroup.Change?
    /// Hexadecimal; `nil` without a record.
    public var instance: String?
    /// Its beat in RADOS.
    public var beat: UInt64?
    /// Addresses that are blocklisted should it be fenced.
    public var clients: [String]
    /// What its relay says; `nil` if it does not answer.
    public var report: NodeReport?
    /// Whether hosts may still be served by it.
    public var isLive: Bool
    /// Whether it may still write: it is live, or its fencing has not come to its end.
    public var isUnsettled: Bool
}

extension MemberStatus {
    /// All nodes of the group's, and whoever else has a record.
    ///
    /// Asks the relays by a notify, which those that are alive answer at once; one that is not costs ``patience``.
    public static func all(of stored: StoredGroup, in pool: Pool) async throws -> [MemberStatus] {
        let object = GroupObject(reading: stored, in: pool)
        let snapshot = try await object.snapshot()
        var reports: [String: NodeReport] = [:]
        if snapshot.members.values.contains(where: \.isLive) {
            let reply = try await pool.notify(object.object, NodeReport.question, timeout: patience)
            for answer in reply.acknowledged {
                if let report = NodeReport(decoding: answer.payload) { reports[report.node] = report }
            }
        }
        let names = stored.config.nodes.map(\.name)
        let others = Set(snapshot.members.keys).union(reports.keys).subtracting(names)
        return (names + others.sorted()).map { name in
            let record = snapshot.members[name]
            let drained = stored.drained?[name]
            let state = word(for: record?.state, of: name)
            let sights = reports.values.compactMap { $0.seen?[name] }.filter { $0.state == state }
            return MemberStatus(
                node: name, state: state == "absent" && drained != nil ? "drained" : state,
                since: reports[name]?.phaseSince ?? sights.map(\.since).min(), drained: drained,
                instance: record.map { String($0.instance, radix: 16) }, beat: snapshot.beats[name],
                clients: record?.clients ?? [], report: reports[name], isLive: record?.isLive ?? false,
                isUnsettled: record.map { !$0.isSettled } ?? false)
        }
    }

    /// Addresses of the Ceph clients of all that have a record.
    public static func clients(of stored: StoredGroup, in pool: Pool) async throws -> Set<String> {
        Set(try await GroupObject(reading: stored, in: pool).snapshot().members.values.flatMap(\.clients))
    }

    /// How long a relay has to answer.
    static let patience = Duration.seconds(2)

    static func word(for state: Record.State?, of node: String) -> String {
        switch state {
        case nil: "absent"
        case .up: "up"
        case .leaving: "leaving"
        case .fenced(.marked, let by): "being fenced by \(by)"
        case .fenced(.blocklisted(let epoch), let by): "being fenced by \(by), OSD map \(epoch)"
        // What a node leaves behind that was fenced in an earlier life.
        case .fenced(.settled, let by) where by == node: "absent"
        case .fenced(.settled(let epoch), let by): "fenced by \(by), OSD map \(epoch)"
        }
    }
}

extension GroupObject {
    /// For one look, without a watch.
    convenience init(reading stored: StoredGroup, in pool: Pool) {
        self.init(
            pool: pool, group: stored.config.name, expiry: .seconds(stored.config.timing.dead),
            logger: Logger(label: "clio") { _ in SwiftLogNoOpLogHandler() }
        ) { _ in }
    }
}

/// The group object's records as they change.
///
/// They are read again and again: a watch would have every event of the group wait for whoever follows it.
public struct MemberChanges: Sendable {
    /// A node whose record or liveness differs from what was seen before.
    public struct Change: Sendable, Hashable {
        public var node: String
        public var state: String
    }

    private let pool: Pool
    private let stored: StoredGroup
    private var seen: [String: String]?

    public init(of stored: StoredGroup, in pool: Pool) {
        self.stored = stored
        self.pool = pool
    }

    /// Reads once; everything counts as changed the first time.
    public mutating func next() async throws -> [Change] {
        let snapshot = try await GroupObject(reading: stored, in: pool).snapshot()
        var now: [String: String] = [:]
        for node in stored.config.nodes.map(\.name) { now[node] = "absent" }
        for (node, record) in snapshot.members {
            let state = MemberStatus.word(for: record.state, of: node)
            now[node] = "\(state), instance \(String(record.instance, radix: 16))"
        }
        defer { seen = now }
        return now.filter { seen?[$0.key] != $0.value }.map { Change(node: $0.key, state: $0.value) }
            .sorted { $0.node < $1.node }
    }
}
