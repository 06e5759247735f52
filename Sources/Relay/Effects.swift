// SPDX-License-Identifier: Apache-2.0

/// Names a request to RADOS; its reply carries the same.
public struct RequestID: Hashable, Comparable, Sendable {
    public let value: UInt64
    public static func < (a: RequestID, b: RequestID) -> Bool { a.value < b.value }
}

/// Names something the kernel was asked to do and answers when done.
public struct TaskID: Hashable, Comparable, Sendable {
    public let value: UInt64
    public static func < (a: TaskID, b: TaskID) -> Bool { a.value < b.value }
}

/// Names a notification that waits for this node's acknowledgement. The driver chooses the value.
public struct NotificationID: Hashable, Sendable {
    public let value: UInt64
    public init(_ value: UInt64) { self.value = value }
}

// MARK: - What comes in

/// Everything that can happen to a ``Machine``.
public enum Input: Sendable {
    /// The relay is attached to the kernel. The first input, once. `clients`: addresses to blocklist should this node be
    /// fenced, as things are now: the krbd client's if images are mapped, and the relay's own.
    case attached(KernelState, clients: [String])
    /// ``Machine/wakeAt`` has come; also harmless at any other time.
    case tick
    /// An event that the kernel wants every member to have done.
    case event(KernelEvent)
    /// The kernel's answer to ``KernelCommand/apply(_:_:)``: 0, or a positive errno.
    case applied(TaskID, code: UInt32)
    /// The kernel's answer to ``KernelCommand/quiesce(_:_:)``: no session is left, nothing is in flight.
    case quiesced(TaskID)
    /// The answer to ``KernelCommand/remap(_:)``: a new krbd client instance, and a number nobody has used before.
    case remapped(TaskID, instance: UInt64, clients: [String])
    /// The kernel's answer to ``KernelCommand/arm(epoch:instance:until:hold:)``: whether it holds this lease now.
    case armed(epoch: UInt64, Bool)
    /// The kernel's lease of this epoch has lapsed.
    case lapsed(epoch: UInt64)
    /// The kernel's answer to ``KernelCommand/report(_:)``: whether writes of sessions that are gone are in flight.
    case orphans(TaskID, Bool)
    /// RADOS has answered. Each request gets exactly one reply, within the driver's op time-out.
    case reply(RequestID, Reply)
    /// Somebody sent a notify on the group object (the own ones arrive, too).
    case notification(NotificationID, [UInt8])
    /// The watch is gone; the driver has closed it.
    case watchLost
    /// Leave in order: drain, then take the record out.
    case leave
    /// Fence `node` now, at an operator's word, whether its beat moves or not.
    case fence(node: String)
}

/// What the kernel holds when a relay attaches.
public struct KernelState: Hashable, Sendable {
    /// Instance of the last lease armed; `nil` if none has been since the images were mapped.
    public var instance: UInt64?
    public var epoch: UInt64
    public var until: Instant
    public var hold: Instant
    public var lapsed: Bool
    /// The krbd client's epoch barrier.
    public var barrier: UInt32
    /// Events that no relay has answered.
    public var events: [KernelEvent]

    public init(
        instance: UInt64? = nil, epoch: UInt64 = 0, until: Instant = Instant(nanoseconds: 0),
        hold: Instant = Instant(nanoseconds: 0), lapsed: Bool = false, barrier: UInt32 = 0,
        events: [KernelEvent] = []
    ) {
        self.instance = instance
        self.epoch = epoch
        self.until = until
        self.hold = hold
        self.lapsed = lapsed
        self.barrier = barrier
        self.events = events
    }
}

/// Something that has happened on this node and must happen on all.
///
/// The kernel has done its own part, and changed whatever state in RADOS belongs to it, before it raises the event.
public struct KernelEvent: Hashable, Sendable {
    /// Ascending within one instance.
    public var id: UInt64
    /// Opaque to the relay; at most ``Message/maximumPayload`` bytes.
    public var payload: [UInt8]
    /// When the kernel stops waiting; `nil` waits for as long as it takes.
    public var deadline: Instant?

    public init(id: UInt64, payload: [UInt8], deadline: Instant? = nil) {
        self.id = id
        self.payload = payload
        self.deadline = deadline
    }
}

/// What RADOS says to a ``Request``.
public enum Reply: Hashable, Sendable {
    /// To `watch`: it stands.
    case watching
    /// To `read`.
    case members(Snapshot)
    /// To `swap`: every guard held and every change was made, in one step.
    case swapped
    /// To `swap`: some guard did not hold and nothing was changed.
    case mismatch
    /// To `notify`, complete or timed out: what the watchers that did answer said.
    case notified([[UInt8]])
    /// To `blocklist`: the OSD map of this epoch has all of them.
    case blocklisted(epoch: UInt32)
    /// To any: what happened is unknown, and it may still happen.
    case failed(Failure)
}

public enum Failure: Hashable, Sendable {
    /// No answer, or an error that may pass.
    case unavailable
    /// The cluster refuses this client: somebody has fenced this node (EBLOCKLISTED).
    case blocklisted
}

// MARK: - What goes out

/// What a ``Machine`` wants done. Effects of one input are to be started in order.
public enum Effect: Hashable, Sendable {
    case rados(RequestID, Request)
    case kernel(KernelCommand)
    /// Acknowledge a notification with this reply.
    case acknowledge(NotificationID, [UInt8])
    /// For the log and for whoever watches: something a person may want to know.
    case notice(Notice)
}

/// Something to do in RADOS; all of it on the group object except `blocklist`.
public enum Request: Hashable, Sendable {
    /// Watch the group object. Watch time-out: about D, so that the watch of a dead relay does not slow notifies down.
    case watch
    /// Read all records and beats in one operation.
    case read
    case swap(Swap)
    case notify([UInt8], timeout: Duration)
    /// Blocklist these clients; answer with an OSD map epoch that has them all. The entries must last longer than any
    /// frozen node might: they may go once the node has joined again.
    case blocklist([String])
}

/// A change of the group object, made in one write operation if every guard holds.
public struct Swap: Hashable, Sendable {
    public var guards: [Guard]
    public var changes: [Change]

    public init(guards: [Guard], changes: [Change]) {
        self.guards = guards
        self.changes = changes
    }
}

/// What must be there for a ``Swap``; `nil` for nothing (RADOS compares an absent omap key as empty).
public enum Guard: Hashable, Sendable {
    case member(String, Record?)
    case beat(String, UInt64?)
}

/// What a ``Swap`` puts there; `nil` removes the key.
public enum Change: Hashable, Sendable {
    case member(String, Record?)
    case beat(String, UInt64?)
}

/// What the kernel is asked to do. All instants are this node's.
public enum KernelCommand: Hashable, Sendable {
    /// Commands may be submitted from now on while `now < until`, and wait (or are answered BUSY) while `now >= hold`. Only
    /// `until` is sticky. Refused by the kernel unless it is quiesced, `epoch` is higher than the last and `until` is still to
    /// come. The answer is ``Input/armed(epoch:_:)``; commands may have been submitted by then.
    case arm(epoch: UInt64, instance: UInt64, until: Instant, hold: Instant)
    /// Moves the two bounds. Ignored by the kernel if the epoch is not the armed one or its lease has lapsed.
    case renew(epoch: UInt64, until: Instant, hold: Instant)
    /// Say whether writes of sessions that are gone are in flight, as it is when the command is carried out; the answer is
    /// ``Input/orphans(_:_:)``. Without an answer there is no further renewal.
    case report(TaskID)
    /// End the lease, drop the sessions and settle what is in flight; the answer is ``Input/quiesced(_:)``. A newer one
    /// replaces it.
    case quiesce(TaskID, Quiesce)
    /// With no session left: unmap (by force), make a new krbd client and a new RADOS client, map again. All requests and
    /// the watch of before are void; their replies must not arrive any more. The answer is ``Input/remapped(_:instance:clients:)``.
    case remap(TaskID)
    /// The answer is ``Input/applied(_:code:)``, when it is done.
    case apply(TaskID, Apply)
    case done(event: UInt64, Outcome)
}

/// Why sessions go.
public enum Quiesce: Hashable, Sendable {
    /// The lease has lapsed. Writes in flight settle when they are answered.
    case lapsed
    /// This node is fenced: the lease, if any, ends now, and writes in flight are settled by the blocklist.
    case fenced
    /// This node leaves: take no new commands, let those that run finish.
    case leaving
}

/// Something of the cluster's for this node's kernel to do.
public enum Apply: Hashable, Sendable {
    /// Read the states of all devices from RADOS.
    case states
    /// From now on demand this OSD map epoch of every OSD, and read the states again: the node that was fenced may have
    /// changed one and died before it told.
    case barrier(epoch: UInt32)
    /// An event of another node's. Once for each event while the relay lives; a new relay may hand it over again.
    case event(origin: Member, id: UInt64, payload: [UInt8])
}

/// How an event of this node's ended.
public enum Outcome: Hashable, Sendable {
    /// Each member has done it, has left, or can do nothing any more.
    case done
    /// The same, but these nodes answered with an error (positive errno).
    case refused([String: UInt32])
    /// The deadline has passed; these nodes are missing. Empty: the membership could not even be read.
    case late([String])
    /// This node is fenced.
    case fenced
}

/// Things a person may want to know.
public enum Notice: Hashable, Sendable {
    /// The record is written; the lease is still to come.
    case joined(instance: UInt64)
    /// Commands are served: the kernel has said so.
    case serving(epoch: UInt64)
    /// The lease was lost; sessions are dropped.
    case lapsed
    /// This node has been fenced, or gives up its client instance itself.
    case fenced
    case left
    /// A node with this node's name is alive.
    case nameInUse
    case peerDead(String)
    case peerFenced(String, epoch: UInt32)
    case peerSettled(String)
    case watchLost
}
