// SPDX-License-Identifier: Apache-2.0
import ClusterModel
import Foundation
import Relay

/// What a relay says of itself when it is asked.
public struct NodeReport: Codable, Sendable, Hashable {
    /// Events of this node's, by how they ended, and other nodes' that were done here.
    public struct Events: Codable, Sendable, Hashable {
        /// Raised by this node's kernel.
        public var sent = 0
        /// Done by every member.
        public var acknowledged = 0
        /// Done, but some member answered with an error.
        public var refused = 0
        /// Some member did not answer in time.
        public var late = 0
        /// Ended because this node was fenced or its lease lapsed.
        public var fenced = 0
        /// Other nodes' events that were done here.
        public var applied = 0
        /// Of those, the ones that failed.
        public var failed = 0
    }

    public var node: String
    /// `serving`, `joining`, …
    public var phase: String
    /// Since when, in seconds since 1970; `nil` from a relay that does not tell.
    public var phaseSince: Double?
    /// Hexadecimal, as the member record has it; empty if there is none.
    public var instance: String
    /// Number of the kernel's lease.
    public var epoch: UInt64
    /// Seconds since the last renewal was sent; `nil` without a lease.
    public var leaseAge: Double?
    /// Seconds that the lease runs on; `nil` without one.
    public var leaseLeft: Double?
    /// Seconds until commands wait for new signs of life of the peers; `nil` without a lease.
    public var holdLeft: Double?
    /// The node's own beat, if it is known.
    public var beat: UInt64?
    /// OSD map epoch that the kernel's requests demand.
    public var barrier: UInt32
    public var isWatching: Bool
    /// Hosts that are logged in to the node's own ports.
    public var sessions: Int
    /// Commands handed to devices and not settled.
    public var inFlight: UInt32
    /// Of those, the ones whose session is gone.
    public var orphans: UInt32
    public var events: Events
    /// Version of the group's configuration that the node has taken on, but for ``problems``; 0 until it has.
    public var version: Int
    /// When it did, seconds since 1970.
    public var versionSince: Double
    /// For how many seconds the relay has run.
    public var uptime: Double
    /// What of the group's configuration this node cannot serve, or why it serves nothing yet.
    public var problems: [Problem]
    /// The other nodes' records, as this node has seen them; `nil` from a relay that does not tell.
    public var seen: [String: Sight]?

    /// What a node's record says, in ``MemberStatus/state``'s words, and since when some relay has seen it so.
    public struct Sight: Codable, Sendable, Hashable {
        public var state: String
        /// Seconds since 1970.
        public var since: Double
    }

    /// Something that does not work, and for how long.
    public struct Problem: Codable, Sendable, Hashable {
        /// Object, reason, remedy.
        public var text: String
        /// Seconds since 1970.
        public var since: Double
    }

    /// Most problems that a report names: it has to fit into an answer to a notification.
    static let mostProblems = 100

    /// Whether hosts are served.
    public var isServing: Bool { phase == Self.name(.serving) }

    /// What is notified to ask every relay for its report.
    public static let question = Array("clio: report\n".utf8)

    public var encoded: [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return (try? encoder.encode(self)).map(Array.init) ?? []
    }

    /// `nil` for what no relay says: names and texts go to terminals, which none may command.
    public init?(decoding bytes: [UInt8]) {
        guard bytes.first == UInt8(ascii: "{"),
            var report = try? JSONDecoder().decode(NodeReport.self, from: Data(bytes)), report.isPlausible
        else { return nil }
        // Relays of another version may tell errors as they are.
        for i in report.problems.indices { report.problems[i].text = Self.line(report.problems[i].text) }
        self = report
    }

    /// One line without control characters.
    private static func line(_ text: String) -> String {
        String(String.UnicodeScalarView(text.unicodeScalars.map { $0.isControl ? " " : $0 }))
    }

    private var isPlausible: Bool {
        let seen = seen ?? [:]
        let names = [node] + seen.keys
        let texts = [phase, instance] + seen.values.map(\.state)
        let times = problems.map(\.since) + seen.values.map(\.since) + [versionSince, phaseSince ?? 0]
        return names.allSatisfy { Group.fault(nodeName: $0) == nil } && problems.count <= Self.mostProblems + 1
            && texts.allSatisfy { !$0.unicodeScalars.contains(where: \.isControl) }
            && times.allSatisfy(StoredGroup.Change.times.contains)
    }

    init(
        node: String, status: Status, since: Double, seen: [String: Sight] = [:], now: Relay.Instant, lease: Duration,
        sessions: Int, inFlight: UInt32,
        orphans: UInt32, events: Events, version: Int, versionSince: Double, uptime: Duration,
        problems: [Problem]
    ) {
        self.node = node
        phase = Self.name(status.phase)
        phaseSince = since
        self.seen = seen
        instance = status.instance == 0 ? "" : String(status.instance, radix: 16)
        epoch = status.epoch
        leaseLeft = status.until.map { now.duration(to: $0).seconds }
        leaseAge = leaseLeft.map { max(0, lease.seconds - $0) }
        holdLeft = status.hold.map { min(now.duration(to: $0).seconds, 1e6) }
        beat = status.snapshot?.beats[node]
        barrier = status.barrier
        isWatching = status.isWatching
        self.sessions = sessions
        self.inFlight = inFlight
        self.orphans = orphans
        self.events = events
        self.version = version
        self.versionSince = versionSince
        self.uptime = uptime.seconds
        self.problems = problems.prefix(Self.mostProblems).map { Problem(text: Self.line($0.text), since: $0.since) }
        if problems.count > Self.mostProblems, let first = problems.map(\.since).min() {
            let rest = problems.count - Self.mostProblems
            self.problems.append(Problem(text: "and \(rest) more; the log names them", since: first))
        }
    }

    /// A word for a phase.
    static func name(_ phase: Machine.Phase) -> String {
        switch phase {
        case .detached: "detached"
        case .resuming: "resuming"
        case .quiescing(.arm): "lapsed"
        case .quiescing(.remap): "fenced"
        case .quiescing(.depart): "draining"
        case .mapping: "mapping"
        case .joining: "joining"
        case .arming: "arming"
        case .serving: "serving"
        case .departing: "departing"
        case .left: "left"
        }
    }
}

extension Duration {
    /// In seconds.
    var seconds: Double {
        let (seconds, attoseconds) = components
        return Double(seconds) + Double(attoseconds) / 1e18
    }
}
