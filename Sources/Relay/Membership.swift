// SPDX-License-Identifier: Apache-2.0

/// One life of a node in the group: the name, and the number it drew when it joined. Never reused.
public struct Member: Hashable, Comparable, Sendable, CustomStringConvertible {
    public var node: String
    public var instance: UInt64

    public init(node: String, instance: UInt64) {
        self.node = node
        self.instance = instance
    }

    public static func < (a: Member, b: Member) -> Bool { (a.node, a.instance) < (b.node, b.instance) }

    public var description: String { "\(node)#\(String(instance, radix: 16))" }
}

/// A member record: omap `member.<node>` of the group object. Only ever replaced by compare-and-swap.
///
/// The life of a record, and there is no other:
///
///     absent ──► up ──► leaving ──► absent; settled, if an earlier life was fenced
///                 │         │
///                 └────┬────┘
///                      ▼
///                   marked ──► blocklisted ──► settled ──► up (a new instance)
public struct Record: Hashable, Sendable {
    /// How far the fencing of a node has come.
    public enum Fencing: Hashable, Sendable {
        /// It can no longer renew. Its lease may still run and its writes may still land.
        case marked
        /// No OSD that knows map `epoch` takes its writes any more.
        case blocklisted(epoch: UInt32)
        /// Every live member's requests demand map `epoch`, and its lease is over: it can do nothing more.
        case settled(epoch: UInt32)
    }

    public enum State: Hashable, Sendable {
        /// Takes part: has, or is about to have, a lease; acknowledges events.
        case up
        /// On its way out: still acknowledges events, takes no more commands.
        case leaving
        /// Declared dead by the node `by`.
        case fenced(Fencing, by: String)
    }

    public var instance: UInt64
    /// Addresses of its Ceph clients as `ceph osd blocklist add` takes them: the krbd client's, and the relay's own.
    public var clients: [String]
    public var state: State
    /// OSD map epoch that ended this node's lives before this one, 0 if none. A member that joins later may have an older
    /// map, and the record of that life is gone.
    public var fencedBefore: UInt32

    public init(instance: UInt64, clients: [String], state: State = .up, fencedBefore: UInt32 = 0) {
        self.instance = instance
        self.clients = clients
        self.state = state
        self.fencedBefore = fencedBefore
    }

    /// Whether it may hold a lease with the record as it is: `up` or `leaving`.
    public var isLive: Bool {
        switch state {
        case .up, .leaving: true
        case .fenced: false
        }
    }

    /// Whether it can do nothing any more.
    public var isSettled: Bool {
        if case .fenced(.settled, _) = state { true } else { false }
    }

    /// The highest OSD map epoch known to have ended a life of this node's, 0 if none.
    public var fenceEpoch: UInt32 { max(endEpoch ?? 0, fencedBefore) }

    /// The OSD map epoch that ends its writes, once that is known.
    public var endEpoch: UInt32? {
        switch state {
        case .fenced(.blocklisted(let epoch), _), .fenced(.settled(let epoch), _): epoch
        case .up, .leaving, .fenced(.marked, _): nil
        }
    }

    /// The same record in another state.
    func with(_ state: State) -> Record {
        var copy = self
        copy.state = state
        return copy
    }
}

/// The group object's records and beats at one version of the object.
public struct Snapshot: Hashable, Sendable {
    /// Version of the object that was read; grows with each change (librados: the object's user version).
    public var version: UInt64
    public var members: [String: Record]
    public var beats: [String: UInt64]

    public init(version: UInt64, members: [String: Record] = [:], beats: [String: UInt64] = [:]) {
        self.version = version
        self.members = members
        self.beats = beats
    }
}

/// What this node knows about the others, and since when.
struct Membership: Sendable {
    /// One peer's beat, as seen from here.
    struct Peer: Sendable {
        var instance: UInt64
        var beat: UInt64
        /// When an answer first showed this beat, or when watching began anew. The renewal behind it had landed by then.
        var seenAt: Instant
        /// A time at which the peer was certainly alive, held a lease and had no orphaned write, if there is one.
        var evidence: Instant?
        /// Beats of late, each with the time the last read that returned it was sent.
        var marks: [(beat: UInt64, sentAt: Instant)]
    }

    private(set) var snapshot: Snapshot? {
        didSet {
            let members = (snapshot?.members ?? [:])
            func of(_ records: [String: Record]) -> Set<Member> {
                Set(records.map { Member(node: $0.key, instance: $0.value.instance) })
            }
            live = of(members.filter(\.value.isLive))
            unsettled = of(members.filter { !$0.value.isSettled })
        }
    }
    /// Who may hold a lease.
    private(set) var live: Set<Member> = []
    /// Who may still do something.
    private(set) var unsettled: Set<Member> = []
    /// Number of the input during which the read behind `snapshot` was sent.
    private(set) var turn: UInt64 = 0
    private(set) var answeredAt: Instant?
    private(set) var peers: [String: Peer] = [:]
    private var lastSentAt: Instant?

    /// Takes in the answer to a read. Returns `false` if it is older than what is known.
    mutating func observe(
        _ new: Snapshot, sentAt: Instant, turn: UInt64, now: Instant, _ schedule: Schedule
    ) -> Bool {
        if let snapshot, new.version < snapshot.version { return false }
        let wasBlind = isBlind(at: now, schedule)
        for node in peers.keys where new.members[node] == nil { peers[node] = nil }
        for (node, record) in new.members {
            let beat = new.beats[node] ?? 0
            guard var peer = peers[node], peer.instance == record.instance else {
                // It joined after the last read that did not show it was sent.
                peers[node] = Peer(
                    instance: record.instance, beat: beat, seenAt: now, evidence: lastSentAt, marks: [(beat, sentAt)])
                continue
            }
            if peer.beat != beat || wasBlind { peer.seenAt = now }
            peer.beat = beat
            peer.note(beat, sentAt: sentAt)
            peers[node] = peer
        }
        snapshot = new
        self.turn = max(self.turn, turn)
        answeredAt = now
        lastSentAt = max(lastSentAt ?? sentAt, sentAt)
        return true
    }

    /// RADOS has not answered for so long that a beat that stands still says nothing.
    func isBlind(at now: Instant, _ schedule: Schedule) -> Bool {
        answeredAt.map { $0.duration(to: now) > schedule.blind } ?? true
    }

    /// No renewal of `node` that this node has not seen can give it a lease beyond this, by this node's clock. Holds only
    /// once its beat cannot move any more.
    func leaseEnd(of node: String, _ schedule: Schedule) -> Instant {
        peers[node].map { $0.seenAt.advanced(by: schedule.foreignLease) } ?? .never
    }

    /// **The bound F.** Until when this node may submit as far as its peers are concerned: F after the time for which
    /// each is known to have been alive. A peer fenced by an epoch that this node's requests demand does not count. One
    /// that the last read did not show joined after that read was sent. `nil`: some peer has given no evidence of life.
    func hold(for node: String, barrier: UInt32, _ schedule: Schedule) -> Instant? {
        guard let snapshot, let lastSentAt else { return nil }
        var hold = lastSentAt.advanced(by: schedule.bound)
        for (other, record) in snapshot.members where other != node {
            if let epoch = record.endEpoch, epoch <= barrier { continue }
            guard let evidence = peers[other]?.evidence else { return nil }
            hold = min(hold, evidence.advanced(by: schedule.bound))
        }
        return hold
    }

    /// The highest OSD map epoch that fenced somebody.
    var fenceEpoch: UInt32 { snapshot?.members.values.map(\.fenceEpoch).max() ?? 0 }
}

extension Membership.Peer {
    /// Evidence of life that no delay can forge. A node has one renewal in flight at a time, and sends the one to beat
    /// v + 2 only after the one to v + 1 has landed. So when a read sent at t returned v and a later one returns v + 2, the
    /// peer sent a renewal, and was alive, after t. One step alone proves nothing: an OSD may have sat on it for minutes.
    ///
    /// One that goes back is not a relay's, nor one that has no next: then nothing seen before counts any more.
    mutating func note(_ beat: UInt64, sentAt: Instant) {
        if let last = marks.last, beat < last.beat { marks = [] }
        while let first = marks.first, beat - first.beat >= 2 {
            evidence = max(evidence ?? first.sentAt, first.sentAt)
            marks.removeFirst()
        }
        if let last = marks.indices.last, marks[last].beat == beat {
            marks[last].sentAt = max(marks[last].sentAt, sentAt)
        } else {
            marks.append((beat, sentAt))
        }
    }
}
