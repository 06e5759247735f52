// SPDX-License-Identifier: Apache-2.0

/// What a person may want to see of a ``Machine``.
public struct Status: Hashable, Sendable {
    public var phase: Machine.Phase
    /// This node's instance, 0 if it has none.
    public var instance: UInt64
    /// Number of the kernel's lease.
    public var epoch: UInt64
    /// End of the kernel's lease; `nil` if it has none.
    public var until: Instant?
    /// From when on commands wait unless peers give new signs of life.
    public var hold: Instant?
    /// OSD map epoch that the kernel's requests demand.
    public var barrier: UInt32
    public var isWatching: Bool
    /// The membership as last read.
    public var snapshot: Snapshot?
    /// For how long each node's beat has stood still as seen from here.
    public var silence: [String: Duration]
    /// This node's events that are not complete, and who has not answered; `nil`: not known yet.
    public var events: [UInt64: [String]?]
}

extension Machine {
    /// As of the last input.
    public var status: Status {
        Status(
            phase: phase, instance: instance, epoch: lease.epoch, until: lease.state == .armed ? lease.until : nil,
            hold: lease.state == .armed ? lease.hold : nil, barrier: barrier, isWatching: watch.isEstablished,
            snapshot: membership.snapshot, silence: membership.peers.mapValues { $0.seenAt.duration(to: now) },
            events: outgoing.mapValues { $0.round.missing.map { $0.map(\.node).sorted() } })
    }
}
