// SPDX-License-Identifier: Apache-2.0

import CNetlink
import SystemPackage

/// The kernel's side of a gateway node: family `blk-cluster`, described by `kernel/spec/blk-cluster.yaml`.
///
/// All times are boottime (CLOCK_BOOTTIME) in nanoseconds of this node.
public struct BlkCluster: Sendable {
    /// The family's name.
    public static let familyName = BLK_CLUSTER_FAMILY_NAME
    /// Most bytes an event's payload may have.
    public static let payloadMaximum = Int(BLK_CLUSTER_PAYLOAD_MAX)

    private let socket: GenericNetlink
    private let family: GenericNetlink.Family

    /// Finds the family.
    ///
    /// - Throws: `noFamily` if module blk_cluster is not loaded, or is one without a relay.
    public init() async throws(NetlinkError) {
        socket = try GenericNetlink()
        family = try await socket.family(Self.familyName)
    }

    /// Ends being the relay; the lease runs on until it lapses.
    public func close() { socket.close() }

    // MARK: Lease

    /// The node's lease.
    public struct Lease: Sendable, Hashable, Codable {
        /// Number of the lease; each arming has a higher one. 0: there never was one.
        public var epoch: UInt64
        /// The member instance that armed it.
        public var instance: UInt64
        /// Nothing is submitted from this time on. Once it has passed the lease has lapsed for good.
        public var until: UInt64
        /// From this time on commands are answered BUSY. It may be moved after it has passed.
        public var hold: UInt64
        /// The lease has lapsed, or has been given back.
        public var lapsed: Bool
        /// Commands that have been handed to a device and are not settled.
        public var inFlight: UInt32
        /// Of those, the ones whose initiator's connection is gone.
        public var orphans: UInt32
        /// Highest OSD map epoch demanded by ``BlkCluster/barrier(epoch:)``.
        public var barrier: UInt32

        init(_ attributes: Attributes) {
            func number(_ type: Int) -> UInt64 { attributes.number(UInt16(type), as: UInt64.self) ?? 0 }
            func small(_ type: Int) -> UInt32 { attributes.number(UInt16(type), as: UInt32.self) ?? 0 }
            epoch = number(BLK_CLUSTER_A_LEASE_EPOCH)
            instance = number(BLK_CLUSTER_A_LEASE_INSTANCE)
            until = number(BLK_CLUSTER_A_LEASE_UNTIL)
            hold = number(BLK_CLUSTER_A_LEASE_HOLD)
            lapsed = attributes.flag(UInt16(BLK_CLUSTER_A_LEASE_LAPSED))
            inFlight = small(BLK_CLUSTER_A_LEASE_IN_FLIGHT)
            orphans = small(BLK_CLUSTER_A_LEASE_ORPHANS)
            barrier = small(BLK_CLUSTER_A_LEASE_BARRIER)
        }
    }

    /// Becomes the relay, until ``close()``. The events that have no outcome follow as ``Notification/event(_:)``.
    ///
    /// - Throws: `EBUSY` while another relay is attached.
    public func attach() async throws(NetlinkError) -> Lease {
        try await lease(Int(BLK_CLUSTER_CMD_RELAY_ATTACH), "relay-attach")
    }

    /// The lease as it is.
    public func lease() async throws(NetlinkError) -> Lease {
        try await lease(Int(BLK_CLUSTER_CMD_LEASE_GET), "lease-get")
    }

    private func lease(
        _ command: Int, _ operation: String, _ attributes: Attributes = Attributes()
    ) async throws(NetlinkError) -> Lease {
        guard let reply = try await socket.request(family, UInt8(command), operation, attributes) else {
            throw .malformed(family.name, operation, "no answer but an acknowledgement")
        }
        return Lease(reply.attributes)
    }

    /// Begins a new lease.
    ///
    /// - Throws: `EBUSY` unless the last one is over and settled, `ESTALE` unless the epoch is higher than the last one's,
    ///   `ERANGE` for a time that has passed or is more than a minute away.
    public func arm(epoch: UInt64, instance: UInt64, until: UInt64, hold: UInt64) async throws(NetlinkError) {
        var attributes = Attributes()
        attributes.put(UInt16(BLK_CLUSTER_A_LEASE_EPOCH), epoch)
        attributes.put(UInt16(BLK_CLUSTER_A_LEASE_INSTANCE), instance)
        attributes.put(UInt16(BLK_CLUSTER_A_LEASE_UNTIL), until)
        attributes.put(UInt16(BLK_CLUSTER_A_LEASE_HOLD), hold)
        try await ask(Int(BLK_CLUSTER_CMD_LEASE_ARM), "lease-arm", attributes)
    }

    /// Moves the lease's two bounds; neither ever moves backwards.
    ///
    /// - Throws: `ESTALE` if the lease of this epoch is not the one that is armed, or has lapsed.
    public func renew(epoch: UInt64, until: UInt64, hold: UInt64) async throws(NetlinkError) -> Lease {
        var attributes = Attributes()
        attributes.put(UInt16(BLK_CLUSTER_A_LEASE_EPOCH), epoch)
        attributes.put(UInt16(BLK_CLUSTER_A_LEASE_UNTIL), until)
        attributes.put(UInt16(BLK_CLUSTER_A_LEASE_HOLD), hold)
        return try await lease(Int(BLK_CLUSTER_CMD_LEASE_RENEW), "lease-renew", attributes)
    }

    /// Why commands have to be settled.
    public enum Settling: Sendable, Hashable {
        /// The lease has lapsed. Writes in flight end when they are answered.
        case lapsed
        /// Other nodes have fenced this one. The lease, if there is one, ends now.
        case fenced
        /// The node leaves. What runs may finish, nothing new begins.
        case leaving

        fileprivate var raw: UInt32 {
            switch self {
            case .lapsed: BLK_CLUSTER_SETTLING_LAPSED.rawValue
            case .fenced: BLK_CLUSTER_SETTLING_FENCED.rawValue
            case .leaving: BLK_CLUSTER_SETTLING_LEAVING.rawValue
            }
        }
    }

    /// Ends the lease; ``Notification/settled(_:)`` with this number follows as soon as no command that was handed to a
    /// device is in flight. A newer one replaces it.
    public func settle(_ id: UInt64, _ why: Settling) async throws(NetlinkError) {
        var attributes = Attributes()
        attributes.put(UInt16(BLK_CLUSTER_A_TASK_ID), id)
        attributes.put(UInt16(BLK_CLUSTER_A_TASK_SETTLING), why.raw)
        try await ask(Int(BLK_CLUSTER_CMD_SETTLE), "settle", attributes)
    }

    /// Has every request to a device from now on be refused by whoever stores its data until they know this OSD map epoch,
    /// 1 or more. Returns when all devices have it, which may take as long as a new map.
    public func barrier(epoch: UInt32) async throws(NetlinkError) {
        var attributes = Attributes()
        attributes.put(UInt16(BLK_CLUSTER_A_BARRIER_EPOCH), epoch)
        try await ask(Int(BLK_CLUSTER_CMD_BARRIER), "barrier", attributes, beside: true)
    }

    private func ask(
        _ command: Int, _ operation: String, _ attributes: Attributes, beside: Bool = false
    ) async throws(NetlinkError) {
        try await socket.request(family, UInt8(command), operation, attributes, beside: beside)
    }

    // MARK: Events

    /// What an event asks of every node.
    public enum Kind: Sendable, Hashable, CustomStringConvertible {
        case lunReset
        case clearTaskSet
        case reservation
        /// One this client does not know.
        case other(UInt32)

        init(_ raw: UInt32) {
            switch raw {
            case BLK_CLUSTER_KIND_LUN_RESET.rawValue: self = .lunReset
            case BLK_CLUSTER_KIND_CLEAR_TASK_SET.rawValue: self = .clearTaskSet
            case BLK_CLUSTER_KIND_RESERVATION.rawValue: self = .reservation
            default: self = .other(raw)
            }
        }

        /// As the spec names it.
        public var description: String {
            switch self {
            case .lunReset: "lun-reset"
            case .clearTaskSet: "clear-task-set"
            case .reservation: "reservation"
            case .other(let raw): "kind \(raw)"
            }
        }
    }

    /// How an event has ended.
    public enum Outcome: Sendable, Hashable, CustomStringConvertible {
        /// Every member has done it, or can do nothing any more.
        case done
        /// The same, but some member answered with an error.
        case refused
        /// The event's deadline has passed and some member has not answered.
        case late
        /// This node is no member any more.
        case fenced

        init?(_ raw: UInt32) {
            switch raw {
            case BLK_CLUSTER_OUTCOME_DONE.rawValue: self = .done
            case BLK_CLUSTER_OUTCOME_REFUSED.rawValue: self = .refused
            case BLK_CLUSTER_OUTCOME_LATE.rawValue: self = .late
            case BLK_CLUSTER_OUTCOME_FENCED.rawValue: self = .fenced
            default: return nil
            }
        }

        fileprivate var raw: UInt32 {
            switch self {
            case .done: BLK_CLUSTER_OUTCOME_DONE.rawValue
            case .refused: BLK_CLUSTER_OUTCOME_REFUSED.rawValue
            case .late: BLK_CLUSTER_OUTCOME_LATE.rawValue
            case .fenced: BLK_CLUSTER_OUTCOME_FENCED.rawValue
            }
        }

        public var description: String {
            switch self {
            case .done: "done"
            case .refused: "refused"
            case .late: "late"
            case .fenced: "fenced"
            }
        }
    }

    /// Something that every node has to do.
    public struct Event: Sendable, Hashable {
        /// Ascending while the module is loaded.
        public var id: UInt64
        public var kind: Kind
        /// Names the same device on every node.
        public var unit: String
        /// For ``BlkCluster/apply(_:origin:payload:)`` on the other nodes, as it is. Empty in what observers get.
        public var payload: [UInt8]
        /// When the kernel stops waiting; `nil` if it waits for as long as it takes.
        public var deadline: UInt64?
        /// When it was raised.
        public var sent: UInt64

        init?(_ attributes: Attributes) {
            guard let id = attributes.number(UInt16(BLK_CLUSTER_A_EVENT_ID), as: UInt64.self) else { return nil }
            self.id = id
            kind = Kind(attributes.number(UInt16(BLK_CLUSTER_A_EVENT_KIND), as: UInt32.self) ?? .max)
            unit = attributes.string(UInt16(BLK_CLUSTER_A_EVENT_UNIT)) ?? ""
            payload = attributes.bytes(UInt16(BLK_CLUSTER_A_EVENT_PAYLOAD)) ?? []
            deadline = attributes.number(UInt16(BLK_CLUSTER_A_EVENT_DEADLINE), as: UInt64.self)
            sent = attributes.number(UInt16(BLK_CLUSTER_A_EVENT_SENT), as: UInt64.self) ?? 0
        }
    }

    /// Tells the kernel how an event has ended.
    ///
    /// - Parameter late: nodes that refused or are missing.
    /// - Throws: `ENOENT` if nobody waits for it.
    public func finish(event id: UInt64, _ outcome: Outcome, late: [String] = []) async throws(NetlinkError) {
        var attributes = Attributes()
        attributes.put(UInt16(BLK_CLUSTER_A_EVENT_ID), id)
        attributes.put(UInt16(BLK_CLUSTER_A_EVENT_OUTCOME), outcome.raw)
        for node in late { attributes.put(UInt16(BLK_CLUSTER_A_EVENT_LATE), string: node) }
        try await ask(Int(BLK_CLUSTER_CMD_EVENT_DONE), "event-done", attributes)
    }

    /// Has another node's event done here; ``Notification/applied(_:error:)`` with this number follows.
    public func apply(_ id: UInt64, origin: String, payload: [UInt8]) async throws(NetlinkError) {
        var attributes = Attributes()
        attributes.put(UInt16(BLK_CLUSTER_A_TASK_ID), id)
        attributes.put(UInt16(BLK_CLUSTER_A_TASK_ORIGIN), string: origin)
        attributes.put(UInt16(BLK_CLUSTER_A_TASK_PAYLOAD), bytes: payload)
        try await ask(Int(BLK_CLUSTER_CMD_APPLY), "apply", attributes)
    }

    // MARK: Devices

    /// A device that can act as one with those of other nodes.
    public struct Device: Sendable, Hashable, Codable {
        /// Name of the disk: `rbd0`.
        public var disk: String
        public var major: UInt32
        public var minor: UInt32
        /// Names the same device on every node.
        public var unit: String
        /// Commands are admitted under the node's lease only.
        public var leased: Bool
        public var consumers: UInt32
        /// Commands that have been handed to the device and are not settled.
        public var inFlight: UInt32
        /// Commands admitted.
        public var admitted: UInt64
        /// Commands refused because the lease has lapsed.
        public var refused: UInt64
        /// Commands answered BUSY because a peer may still have writes in flight.
        public var held: UInt64
        /// COMPARE AND WRITE commands.
        public var compared: UInt64
        /// Of those, the ones that did not compare equal.
        public var miscompared: UInt64
        /// Task management events done, of this node and of others.
        public var resets: UInt64
        /// How long admitted commands took the device.
        public var latency: Latency
        /// PERSISTENT RESERVE IN commands.
        public var prIn: UInt64
        /// PERSISTENT RESERVE OUT, RESERVE and RELEASE commands, whatever came of them.
        public var prOut: UInt64

        /// Commands by the time from their admission until the device had done with them.
        public struct Latency: Sendable, Hashable, Codable {
            /// One count for each class, shortest first; empty if the kernel does not tell.
            public var counts: [UInt64]
            /// The sum of all times, ns.
            public var nanoseconds: UInt64

            public init(counts: [UInt64] = [], nanoseconds: UInt64 = 0) {
                self.counts = counts
                self.nanoseconds = nanoseconds
            }

            /// What a class's times are less than, in seconds; the last class has no such bound.
            public var bounds: [Double] { counts.indices.dropLast().map { Double(1 << (16 + 2 * $0)) / 1e9 } }
        }

        init(_ attributes: Attributes) {
            func number(_ type: Int) -> UInt64 { attributes.number(UInt16(type), as: UInt64.self) ?? 0 }
            func small(_ type: Int) -> UInt32 { attributes.number(UInt16(type), as: UInt32.self) ?? 0 }
            disk = attributes.string(UInt16(BLK_CLUSTER_A_DEVICE_DISK)) ?? ""
            major = small(BLK_CLUSTER_A_DEVICE_MAJOR)
            minor = small(BLK_CLUSTER_A_DEVICE_MINOR)
            unit = attributes.string(UInt16(BLK_CLUSTER_A_DEVICE_UNIT)) ?? ""
            leased = attributes.flag(UInt16(BLK_CLUSTER_A_DEVICE_LEASED))
            consumers = small(BLK_CLUSTER_A_DEVICE_CONSUMERS)
            inFlight = small(BLK_CLUSTER_A_DEVICE_IN_FLIGHT)
            admitted = number(BLK_CLUSTER_A_DEVICE_ADMITTED)
            refused = number(BLK_CLUSTER_A_DEVICE_REFUSED)
            held = number(BLK_CLUSTER_A_DEVICE_HELD)
            compared = number(BLK_CLUSTER_A_DEVICE_COMPARED)
            miscompared = number(BLK_CLUSTER_A_DEVICE_MISCOMPARED)
            resets = number(BLK_CLUSTER_A_DEVICE_RESETS)
            latency = Latency(
                counts: attributes.numbers(UInt16(BLK_CLUSTER_A_DEVICE_LATENCY), as: UInt64.self),
                nanoseconds: number(BLK_CLUSTER_A_DEVICE_TOOK))
            prIn = number(BLK_CLUSTER_A_DEVICE_PR_IN)
            prOut = number(BLK_CLUSTER_A_DEVICE_PR_OUT)
        }
    }

    /// All devices.
    public func devices() async throws(NetlinkError) -> [Device] {
        try await socket.dump(family, UInt8(BLK_CLUSTER_CMD_DEVICE_GET), "device-get").map { Device($0.attributes) }
    }

    // MARK: What the kernel says

    /// Something the kernel says without being asked.
    public enum Notification: Sendable, Hashable {
        /// To the relay: something that every node has to do.
        case event(Event)
        /// To the relay: nothing is in flight.
        case settled(UInt64)
        /// To the relay: the answer to ``BlkCluster/apply(_:origin:payload:)``, 0 or a positive errno.
        case applied(UInt64, error: UInt32)
        /// To observers: the lease has lapsed.
        case lapsed(Lease)
        /// To observers: an event was raised here.
        case raised(Event)
        /// To observers: an event raised here has ended; the names are of nodes that refused or are missing.
        case ended(Event, Outcome, late: [String])

        init?(_ message: GenericMessage) {
            let attributes = message.attributes
            let task = { attributes.number(UInt16(BLK_CLUSTER_A_TASK_ID), as: UInt64.self) }
            switch Int(message.command) {
            case Int(BLK_CLUSTER_CMD_EVENT):
                guard let event = Event(attributes) else { return nil }
                self = .event(event)
            case Int(BLK_CLUSTER_CMD_SETTLED):
                guard let id = task() else { return nil }
                self = .settled(id)
            case Int(BLK_CLUSTER_CMD_APPLIED):
                guard let id = task() else { return nil }
                let error = attributes.number(UInt16(BLK_CLUSTER_A_TASK_ERROR), as: UInt32.self) ?? 0
                self = .applied(id, error: error)
            case Int(BLK_CLUSTER_CMD_LEASE_LAPSED):
                self = .lapsed(Lease(attributes))
            case Int(BLK_CLUSTER_CMD_EVENT_RAISED):
                guard let event = Event(attributes) else { return nil }
                self = .raised(event)
            case Int(BLK_CLUSTER_CMD_EVENT_ENDED):
                guard let event = Event(attributes),
                    let raw = attributes.number(UInt16(BLK_CLUSTER_A_EVENT_OUTCOME), as: UInt32.self),
                    let outcome = Outcome(raw)
                else { return nil }
                self = .ended(event, outcome, late: attributes.strings(UInt16(BLK_CLUSTER_A_EVENT_LATE)))
            default: return nil
            }
        }
    }

    /// Listens to what the kernel tells observers (group `monitor`).
    public func observe() throws(NetlinkError) { try socket.join(BLK_CLUSTER_MCGRP_MONITOR, of: family) }

    /// What the kernel says, for one reader. Ends with a ``NetlinkError`` when the socket is closed, or when something was
    /// lost.
    public var notifications: Notifications { Notifications(messages: socket.notifications, family: family.id) }

    public struct Notifications: AsyncSequence, Sendable {
        public typealias Element = Notification
        fileprivate let messages: AsyncThrowingStream<GenericMessage, any Error>
        fileprivate let family: UInt16

        public func makeAsyncIterator() -> Iterator {
            Iterator(messages: messages.makeAsyncIterator(), family: family)
        }

        public struct Iterator: AsyncIteratorProtocol {
            fileprivate var messages: AsyncThrowingStream<GenericMessage, any Error>.Iterator
            fileprivate let family: UInt16

            public mutating func next() async throws -> Notification? {
                while let message = try await messages.next() {
                    if message.family == family, let notification = Notification(message) { return notification }
                }
                return nil
            }
        }
    }
}
