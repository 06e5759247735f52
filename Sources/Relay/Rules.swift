// SPDX-License-Identifier: Apache-2.0

/// The rules of the protocol that the simulator can break one at a time, to show that each is needed and that its checks
/// would notice. The argument for each is in docs/safety.md.
package enum Rule: String, CaseIterable, Sendable {
    /// Lease: a lease runs from before the renewal was sent, not from its reply.
    case leaseFromSend
    /// Lease: a renewal compares the member record with what this node wrote.
    case renewalGuarded
    /// Lapse is sticky: after a lapse sessions are dropped and writes settled before a new lease is armed.
    case stickyLapse
    /// Lease: a node serves when the kernel has said that it holds the lease, and not when it has been asked to.
    case serveOnKernelsWord
    /// The bound F: no beat while a write of a dropped session is unsettled, and an end to the instance if that lasts.
    case noBeatOverOrphans
    /// The bound F: a node submits only while each peer was alive less than F ago, or is fenced behind the barrier.
    case evidence
    /// Dead peers (2): the client instance is blocklisted.
    case blocklist
    /// Dead peers (3): live members raise their epoch barrier.
    case barrier
    /// Dead peers (4): the lease that the peer may still hold is waited out.
    case leaseWaitedOut
    /// Dead peers: a fenced node comes back with a new client instance.
    case newInstance
    /// Events: complete only when the slowest member has acknowledged.
    case everyMember
    /// Events: a member that is being fenced counts until it is fenced for good.
    case fencedCountsUntilSettled
    /// Events: the membership is read after the state was changed.
    case membershipAfterState
    /// Events: a joiner writes its record before it reads the states.
    case recordBeforeStates
    /// Events: a notify that was lost is sent again.
    case retransmission
    /// cliod may die: events that the kernel hands over are relayed again.
    case handOver
    /// cliod may die: a node that cannot hear events lets its lease lapse.
    case deafnessEndsLease
}
