// SPDX-License-Identifier: Apache-2.0

import ClusterModel

/// The group's times as one node applies them to its own clock.
///
/// Clocks of two nodes, and of a host and a node, run at rates that differ by up to ``drift`` thousandths. Where a rule
/// is about another clock, the figure here already holds for the worst pair.
public struct Schedule: Hashable, Sendable {
    /// Largest difference between two clock rates, in thousandths: each may be 1 % off, in opposite directions.
    public static let drift = 21

    /// Time between two renewals of the lease.
    public var renew: Duration
    /// Time between two looks at the membership.
    public var poll: Duration
    /// L, on the clock of the node that holds the lease.
    public var lease: Duration
    /// L, on the clock of a node that waits for somebody else's lease to end.
    public var foreignLease: Duration
    /// D: a beat that has stood still this long is a dead node's.
    public var dead: Duration
    /// F, on the clock of a node that must stop before a host's clock says that F is over. The host counts from when it gave
    /// up the path, which it did no sooner than a node gives up a silent host: `ping` + `pingTimeout`, on two clocks again.
    public var bound: Duration
    /// Longer than this without an answer from RADOS, and a node starts watching its peers' beats anew: what stood still
    /// may have been the cluster.
    public var blind: Duration
    /// How long writes of a dropped session may stay unsettled before the node gives up its client instance.
    public var orphanGrace: Duration
    /// Time-out of one notify, whole seconds (the OSD counts in seconds).
    public var notifyTimeout: Duration
    /// Pause before something that failed is tried again.
    public var retry: Duration
    /// How long the node that began to fence a peer may rest before others go on in its place.
    public var takeover: Duration
    /// How much later the next node in line takes over.
    public var takeoverStep: Duration

    public init(_ timing: Timing) {
        let renew = Duration.seconds(timing.renew)
        self.renew = renew
        poll = renew / 2
        lease = .seconds(timing.lease)
        foreignLease = .seconds(timing.lease) * (1000 + Self.drift) / 1000
        dead = .seconds(timing.dead)
        let silence = Duration.seconds(timing.ping + timing.pingTimeout)
        bound = .seconds(timing.bound) * (1000 - Self.drift) / 1000 - silence * (2 * Self.drift) / 1000
        blind = renew * 2
        orphanGrace = .seconds(Timing.margin) / 3
        notifyTimeout = .seconds(2)
        retry = .milliseconds(200)
        takeover = renew
        takeoverStep = .milliseconds(100)
    }
}
