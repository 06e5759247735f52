// SPDX-License-Identifier: Apache-2.0
import ClusterModel
import Exposition
import Logging
import Netlink
import Rados
import Relay
import SystemPackage
import Target

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// The relay of one node: drives a ``Machine`` with the kernel, RADOS and the gateway of this machine.
public actor Daemon {
    public struct Options: Sendable {
        public var group: String
        /// The node's name in the group; `nil`: the host name.
        public var node: String?
        /// Pool that holds the group.
        public var pool: String
        public var ceph: Cluster.Options
        /// How long hosts have to move to other paths before the ports close, when the node leaves.
        public var drain = Duration.seconds(2)
        /// How long commands in flight have to end after that, before whoever wants the node to leave is told of them.
        public var leaving = Duration.seconds(30)
        /// How often everything that the node has is compared with the group, for what somebody has changed by hand; `nil`:
        /// only when asked to, see ``Daemon/reload()``.
        public var resync: Duration? = .seconds(600)

        public init(group: String, node: String?, pool: String, ceph: Cluster.Options) {
            self.group = group
            self.node = node
            self.pool = pool
            self.ceph = ceph
        }
    }

    /// How ``run()`` ended.
    public enum Ending: Sendable {
        /// The node has left the group and serves nothing.
        case left
        /// Only the relay is gone: the lease runs on for the next one.
        case detached
    }

    /// What a person, or systemd, may want to know at once.
    public enum Announcement: Sendable, Hashable {
        /// Hosts are served.
        case serving
        /// None are, as somebody wants it; the node waits to be resumed.
        case drained
        /// One line on what the node is doing.
        case status(String)
    }

    private let options: Options
    private let logger: Logger
    private let announce: @Sendable (Announcement) -> Void
    private let gateway = Gateway()
    private let lane = Lane()
    private let reading = Reading()
    private let started = Relay.Instant.now

    // What outlives a machine.
    private var node = ""
    private var stored: StoredGroup?
    private var isStopping = false
    private var isLeaving = false
    /// Leaves to come back with another client of Ceph's.
    private var isRejoining = false
    /// Who waits for the node to have left.
    private var leavers: [Int: (continuation: CheckedContinuation<[String], Never>, limit: Task<Void, Never>)] = [:]
    private var lastLeaver = 0
    private var events = NodeReport.Events()
    private var problems: [NodeReport.Problem] = []
    /// LUNs whose images cannot be used, if nothing else does not work.
    private var unusable: Set<Int> = []
    /// When the configuration was taken on that the node has, seconds since 1970.
    private var storedSince = 0.0
    /// The node has been built by ``stored``. What an earlier relay has left may have another version.
    private var isBuilt = false
    /// The times that the machine was made with.
    private var timing = Timing()
    /// The node's own ports are open.
    private var isOpen = false
    private var sights = Sights()
    /// The phase as it was last told, and since when, seconds since 1970.
    private var phase: (name: String, since: Double) = ("", WallClock.now)
    private var kernelLease: BlkCluster.Lease?
    /// What hosts were last told about the ports of each node.
    private var available: Set<String>?

    // One machine's life.
    private var life = 0
    private var machine: Machine?
    private var kernel: BlkCluster?
    private var cluster: Cluster?
    private var object: GroupObject?
    /// Addresses that are blocklisted should this node be fenced, as its record names them.
    private var recorded: Set<String> = []
    private var commands: AsyncStream<KernelCommand>.Continuation?
    /// The next look at the group's configuration.
    private var looking: Task<Void, Never>?
    /// The one that is being taken on, or was last.
    private var takingOn: Task<Gateway.Report?, any Error>?
    /// Highest version of the group that was seen.
    private var wantedVersion = 0
    private var counters = NodeMetrics.Counters()
    private var sessions = 0
    /// When all of it was compared with what the node has.
    private var syncedAt = Relay.Instant.now
    /// How often in a row something of it did not work.
    private var failures = 0
    /// For images. They are looked at with other time-outs than the relay's.
    private var images: Cluster?
    private var wake: Task<Void, Never>?
    private var wakeAt = Relay.Instant.never
    private var ended: CheckedContinuation<LifeEnd, Never>?
    private var notifications: [NotificationID: WatchNotification] = [:]
    private var lastNotification: UInt64 = 0
    private var quiescing: Quiescing?
    /// Other nodes' events that the kernel is doing.
    private var applying: [UInt64: TaskID] = [:]

    private enum LifeEnd: Sendable {
        case left
        case detached
        /// Begin anew, with what the kernel has.
        case again
    }

    private struct Quiescing {
        let task: TaskID
        var isSettled = false
        var isClosed = false
    }

    /// What keeps the daemon from working at all.
    public struct Failure: Error, CustomStringConvertible { public let description: String }

    /// - Parameter announce: called on state changes; must not block.
    public init(
        _ options: Options, logger: Logger, announce: @escaping @Sendable (Announcement) -> Void = { _ in }
    ) {
        self.options = options
        self.logger = logger
        self.announce = announce
    }

    // MARK: - Life

    /// Relays until the node has left or ``detach()`` is called.
    ///
    /// - Throws: what a person has to mend first: the kernel lacks the relay's side, another relay is attached, the group
    ///   has no such node. What may pass, such as Ceph being out of reach, is waited for.
    public func run() async throws -> Ending {
        try Gateway.requireRoot("up")
        guard let connected = try await connectAtFirst() else { return await finishEarly() }
        node = try Gateway.nodeName(options.node, in: connected.stored.config)
        stored = connected.stored
        let prepared = await lane.run { [gateway] in Result { try gateway.prepare() } }
        for change in try prepared.get().changes { logger.debug("\(change)") }

        var fresh: Cluster? = connected.cluster
        while !isStopping {
            switch try await live(fresh) {
            case .left:
                let problems = await clear()
                if isLeaving {
                    finish(leaving: problems)
                    return .left
                }
            case .detached: return .detached
            case .again: break
            }
            fresh = nil
            try? await Task.sleep(for: .milliseconds(200))
        }
        return .detached
    }

    /// Stops relaying and leaves the lease to the next relay.
    public func detach() {
        isStopping = true
        end(.detached)
        finish(leaving: ["cliod is being stopped"])
    }

    /// The node leaves before it has joined.
    private func finishEarly() async -> Ending {
        guard isLeaving else { return .detached }
        finish(leaving: await clear())
        return .left
    }

    /// Connects, trying again until it works or the relay is to end.
    ///
    /// - Throws: `Gateway.Failure` if Ceph says that there is no such group.
    private func connectAtFirst() async throws -> (cluster: Cluster, stored: StoredGroup)? {
        var told = ""
        while !isStopping, !isLeaving {
            do {
                return try await connect()
            } catch let error as GroupStore.Failure {
                throw Gateway.Failure("\(error)")
            } catch {
                let text = "\(error)"
                if text != told {
                    logger.warning("waiting for Ceph: \(text)")
                    announce(.status("waiting for Ceph: \(text)"))
                }
                told = text
                try? await Task.sleep(for: .seconds(2))
            }
        }
        return nil
    }

    /// A connection for the relay's own requests, and the group as it is now.
    private func connect() async throws -> (cluster: Cluster, stored: StoredGroup) {
        var ceph = options.ceph
        if let timing = stored?.config.timing { ceph = GroupObject.tune(ceph, timing) }
        var cluster = try await CephAccess.connect(ceph)
        let now = try await GroupStore(pool: cluster.pool(options.pool), group: options.group).load().stored
        if now.config.timing != stored?.config.timing {
            // The relay's time-outs follow from the group's.
            cluster = try await Cluster.connect(GroupObject.tune(options.ceph, now.config.timing))
        }
        return (cluster, now)
    }

    private func live(_ fresh: Cluster?) async throws -> LifeEnd {
        life += 1
        let life = life
        let cluster: Cluster
        if let fresh {
            cluster = fresh
        } else {
            guard let connected = try await connectAtFirst() else { return isLeaving ? .left : .detached }
            cluster = connected.cluster
            stored = connected.stored
        }
        guard let stored else { return .again }
        // It may have been taken out while it was away.
        _ = try Gateway.nodeName(node, in: stored.config)
        let kernel = try await BlkCluster()
        // What an earlier relay has left mapped is left in order, too.
        if stored.drained?[node] != nil, try await !kernel.devices().contains(where: \.leased) {
            kernel.close()
            return try await waitWhileDrained(cluster)
        }
        try kernel.observe()
        let lease = try await attach(kernel)
        kernelLease = lease
        self.kernel = kernel
        self.cluster = cluster
        object = try await groupObject(cluster, stored, life)
        quiescing = nil
        available = nil
        notifications = [:]
        applying = [:]
        isOpen = false
        isRejoining = false
        isBuilt = false
        timing = stored.config.timing
        machine = Machine(node: node, timing: timing)
        let (stream, continuation) = AsyncStream.makeStream(of: KernelCommand.self)
        commands = continuation
        let worker = Task { for await command in stream { await self.carryOut(command, kernel, life) } }
        let listener = Task {
            do {
                for try await notification in kernel.notifications { self.heard(notification, life) }
            } catch {
                self.lost(kernel: error, life)
            }
        }
        // Only what is mapped under the lease can have been armed for.
        let devices = try await kernel.devices().filter(\.leased)
        let state = KernelState(
            instance: devices.isEmpty || lease.instance == 0 ? nil : lease.instance, epoch: lease.epoch,
            until: Relay.Instant(kernel: lease.until), hold: Relay.Instant(kernel: lease.hold), lapsed: lease.lapsed,
            barrier: lease.barrier)
        logger.info("attached to the kernel", metadata: ["node": "\(node)", "lease": "\(lease.epoch)"])
        let end = await withCheckedContinuation { continuation in
            ended = continuation
            if isStopping { return self.end(.detached) }
            feed(.attached(state, clients: clients(stored, cluster)), life)
            if stored.drained?[node] != nil { return stepAside(life) }
            if isLeaving { feed(.leave, life) }
        }

        self.life += 1
        wake?.cancel()
        looking?.cancel()
        listener.cancel()
        commands = nil
        continuation.finish()
        worker.cancel()
        kernel.close()
        machine = nil
        self.kernel = nil
        let object = object
        self.object = nil
        await object?.close()
        self.cluster = nil
        return end
    }

    /// Serves nothing until the node is resumed.
    ///
    /// - Throws: ``Failure`` once the group does not have it any more.
    private func waitWhileDrained(_ cluster: Cluster) async throws -> LifeEnd {
        let store = GroupStore(pool: try await cluster.pool(options.pool), group: options.group)
        var told = false
        while !isStopping, !isLeaving {
            if let now = try? await store.load().stored {
                stored = now
                _ = try Gateway.nodeName(node, in: now.config)
                guard let drained = now.drained?[node] else { return .again }
                if !told { logger.notice("drained from \(drained.host): \(drained.command)") }
                told = true
                announce(.drained)
                announce(.status("drained from \(drained.host); clio node resume \(node) lets it serve again"))
            }
            // Not long: an order to end is seen then.
            try? await Task.sleep(for: .milliseconds(500))
        }
        return isLeaving ? .left : .detached
    }

    /// Leaves, to come back when it may.
    private func stepAside(_ life: Int) {
        logger.info("drained: leaving the group until the node is resumed")
        announce(.status("drained: leaving the group"))
        isRejoining = true
        feed(.leave, life)
    }

    /// Becomes the relay. One that has just gone may still hold the place.
    private func attach(_ kernel: BlkCluster) async throws -> BlkCluster.Lease {
        for _ in 0..<30 {
            do {
                return try await kernel.attach()
            } catch {
                guard error.errno == .resourceBusy else { throw error }
                try? await Task.sleep(for: .milliseconds(100))
            }
        }
        throw Failure(description: "another cliod is attached to the kernel: there is one a node")
    }

    private func groupObject(_ cluster: Cluster, _ stored: StoredGroup, _ life: Int) async throws -> GroupObject {
        let pool = try await cluster.pool(options.pool)
        let expiry = Duration.seconds(stored.config.timing.dead)
        return GroupObject(pool: pool, group: options.group, expiry: expiry, logger: logger) { happening in
            Task { await self.happened(happening, life) }
        }
    }

    /// Addresses to blocklist should this node be fenced, for its record.
    private func clients(_ stored: StoredGroup, _ cluster: Cluster) -> [String] {
        var all = Set(gateway.mappings(stored: stored, fsid: cluster.fsid).map(\.clientAddress))
        if let own = try? cluster.addresses() { all.insert(own) }
        recorded = all.filter { !$0.isEmpty }
        return recorded.sorted()
    }

    private func end(_ how: LifeEnd) {
        ended?.resume(returning: how)
        ended = nil
    }

    // MARK: - The machine

    private func feed(_ input: Input, _ life: Int) {
        logger.trace("\(input)")
        guard life == self.life, let effects = machine?.handle(input, now: .now) else { return }
        for effect in effects { carryOut(effect, life) }
        schedule(life)
        followPeers(life)
        noteTimes()
    }

    private func schedule(_ life: Int) {
        guard let machine, machine.wakeAt != wakeAt || wake == nil else { return }
        wakeAt = machine.wakeAt
        wake?.cancel()
        guard wakeAt != .never else {
            wake = nil
            return
        }
        let delay = Relay.Instant.now.duration(to: wakeAt)
        wake = Task {
            // Cancelled means that another one has been set.
            guard (try? await Task.sleep(for: max(delay, .zero))) != nil else { return }
            self.tick(life)
        }
    }

    /// The relay's phase as people are told it.
    private var shownPhase: Machine.Phase? {
        // Hosts are not served before they can come in.
        guard let phase = machine?.phase, phase == .serving else { return machine?.phase }
        return !isOpen ? .arming : isRejoining ? .departing : .serving
    }

    /// Keeps since when the phase and the records are as they are.
    private func noteTimes() {
        guard let machine, let stored, let shownPhase else { return }
        let now = WallClock.now
        if let snapshot = machine.status.snapshot {
            sights.note(snapshot, of: stored.config.nodes.map(\.name), now: now)
        }
        let name = NodeReport.name(shownPhase)
        if phase.name != name { phase = (name, now) }
    }

    private func tick(_ life: Int) {
        guard life == self.life else { return }
        wake = nil
        feed(.tick, life)
    }

    private func carryOut(_ effect: Effect, _ life: Int) {
        logger.trace("\(effect)")
        switch effect {
        case .rados(let id, let request):
            guard let object else { return }
            Task {
                let reply = await object.perform(request)
                self.replied(id, reply, object, life)
            }
        case .kernel(let command): commands?.yield(command)
        case .acknowledge(let id, let bytes):
            // Librados refuses only what its connection can tell us, too.
            try? notifications.removeValue(forKey: id)?.acknowledge(bytes)
        case .notice(let notice): tell(notice)
        }
    }

    private func replied(_ id: RequestID, _ reply: Reply, _ object: GroupObject, _ life: Int) {
        guard object === self.object else { return }
        // It may have been lost again before anyone heard that it stood.
        let reply = reply == .watching && !object.isWatching ? .failed(.unavailable) : reply
        feed(.reply(id, reply), life)
    }

    private func happened(_ happening: GroupObject.Happening, _ life: Int) {
        guard life == self.life else { return }
        switch happening {
        case .watchLost: feed(.watchLost, life)
        case .notification(let notification):
            if notification.payload == GroupStore.announcement {
                // Nobody is kept waiting for what may take long.
                try? notification.acknowledge()
                look(in: .zero, life)
                return
            }
            if notification.payload == NodeReport.question {
                Task { try? notification.acknowledge(await self.report()?.encoded ?? []) }
                return
            }
            lastNotification += 1
            let id = NotificationID(lastNotification)
            notifications[id] = notification
            feed(.notification(id, notification.payload), life)
        }
    }

    // MARK: - The kernel

    private func heard(_ notification: BlkCluster.Notification, _ life: Int) {
        guard life == self.life else { return }
        switch notification {
        case .event(let event):
            events.sent += 1
            logger.info(
                "event \(event.id): \(event.kind) of \(event.unit)", metadata: ["event": "\(event.id)"])
            feed(
                .event(
                    KernelEvent(
                        id: event.id, payload: event.payload,
                        deadline: event.deadline.map { Relay.Instant(kernel: $0) })), life)
        case .settled(let task): progress(life, task) { $0.isSettled = true }
        case .applied(let task, let error):
            events.applied += 1
            if error != 0 { events.failed += 1 }
            if let task = applying.removeValue(forKey: task) { feed(.applied(task, code: error), life) }
        case .lapsed(let lease): feed(.lapsed(epoch: lease.epoch), life)
        case .raised, .ended: break
        }
    }

    private func lost(kernel error: any Error, _ life: Int) {
        guard life == self.life else { return }
        logger.error("attaching anew: \(error)")
        end(.again)
    }

    /// One command after the other, in the order the machine gave them.
    private func carryOut(_ command: KernelCommand, _ kernel: BlkCluster, _ life: Int) async {
        guard life == self.life else { return }
        switch command {
        case .arm(let epoch, let instance, let until, let hold):
            do {
                try await kernel.arm(epoch: epoch, instance: instance, until: until.kernel, hold: hold.kernel)
                feed(.armed(epoch: epoch, true), life)
            } catch {
                logger.error("lease \(epoch) cannot be armed: \(error)")
                feed(.armed(epoch: epoch, false), life)
            }
        case .renew(let epoch, let until, let hold):
            do {
                let lease = try await kernel.renew(epoch: epoch, until: until.kernel, hold: hold.kernel)
                kernelLease = lease
            } catch {
                if error.errno == .staleNFSFileHandle {
                    feed(.lapsed(epoch: epoch), life)
                } else {
                    logger.error("lease \(epoch) cannot be renewed: \(error)")
                }
            }
        case .report(let task):
            do {
                let lease = try await kernel.lease()
                kernelLease = lease
                feed(.orphans(task, lease.orphans > 0), life)
            } catch {
                logger.error("the lease cannot be read: \(error)")
            }
        case .quiesce(let task, let why):
            // Beside: renewals go on while hosts are given time.
            quiescing = Quiescing(task: task)
            isOpen = false
            Task { await self.quiesce(task, why, kernel, life) }
        case .remap(let task): remap(task, life)
        case .apply(let task, .states):
            // The kernel reads them when it needs them.
            feed(.applied(task, code: 0), life)
        case .apply(let task, .barrier(let epoch)):
            Task {
                let code = await Self.code { try await kernel.barrier(epoch: epoch) }
                self.feed(.applied(task, code: code), life)
            }
        case .apply(let task, .event(let origin, _, let payload)):
            applying[task.value] = task
            let code = await Self.code {
                try await kernel.apply(task.value, origin: origin.node, payload: payload)
            }
            guard code != 0, applying.removeValue(forKey: task.value) != nil else { return }
            events.failed += 1
            feed(.applied(task, code: code), life)
        case .done(let event, let outcome): await finish(event, outcome, kernel)
        }
    }

    /// 0, or the kernel's positive errno.
    private static func code(_ body: () async throws -> Void) async -> UInt32 {
        do {
            try await body()
            return 0
        } catch {
            return UInt32(clamping: (error as? NetlinkError)?.errno.rawValue ?? EIO)
        }
    }

    private func finish(_ event: UInt64, _ outcome: Outcome, _ kernel: BlkCluster) async {
        let result: (BlkCluster.Outcome, [String])
        switch outcome {
        case .done:
            events.acknowledged += 1
            result = (.done, [])
        case .refused(let nodes):
            events.refused += 1
            result = (.refused, nodes.keys.sorted())
        case .late(let nodes):
            events.late += 1
            result = (.late, nodes)
        case .fenced:
            events.fenced += 1
            result = (.fenced, [])
        }
        let names = result.1.isEmpty ? "" : ": \(result.1.joined(separator: ", "))"
        logger.info("event \(event): \(result.0)\(names)", metadata: ["event": "\(event)"])
        do throws(NetlinkError) {
            try await kernel.finish(event: event, result.0, late: result.1)
        } catch {
            // Nobody waits for it any more: a lapse has ended it.
            if error.errno != .noSuchFileOrDirectory { logger.error("event \(event): \(error)") }
        }
    }

    // MARK: - The gateway

    private func openPorts(_ life: Int) {
        guard let stored else { return }
        lane.add { [gateway, node, logger] in
            guard await self.isServing(life) else { return }
            for problem in gateway.openPorts(of: node, stored: stored) { logger.error("\(problem)") }
            await self.opened(life)
        }
    }

    private func isServing(_ life: Int) -> Bool { life == self.life && machine?.phase == .serving }

    private func opened(_ life: Int) {
        guard isServing(life) else { return }
        isOpen = true
        noteTimes()
        announce(.serving)
        // It may have changed while the node was joining.
        look(in: .zero, life)
    }

    /// No session is left and nothing is in flight: then the machine goes on.
    private func quiesce(_ task: TaskID, _ why: Quiesce, _ kernel: BlkCluster, _ life: Int) async {
        guard let stored else { return }
        let settling: BlkCluster.Settling
        switch why {
        case .lapsed: settling = .lapsed
        case .fenced: settling = .fenced
        case .leaving:
            settling = .leaving
            // Hosts are told first, and have some time to go elsewhere.
            await drain(stored)
        }
        // A newer one replaces it.
        guard life == self.life, quiescing?.task == task else { return }
        do throws(NetlinkError) {
            try await kernel.settle(task.value, settling)
        } catch {
            return lost(kernel: error, life)
        }
        lane.add { [gateway, node, logger] in
            for problem in gateway.closePorts(of: node, stored: stored) { logger.error("\(problem)") }
            await self.progress(life, task.value) { $0.isClosed = true }
        }
    }

    private func drain(_ stored: StoredGroup) async {
        let peers = (available ?? []).subtracting([node])
        available = peers
        let problems = await lane.run { [gateway] in gateway.setAvailable(peers, stored: stored) }
        for problem in problems { logger.error("\(problem)") }
        try? await Task.sleep(for: options.drain)
    }

    private func progress(_ life: Int, _ task: UInt64, _ change: (inout Quiescing) -> Void) {
        guard life == self.life, var now = quiescing, now.task.value == task else { return }
        change(&now)
        quiescing = now
        guard now.isSettled, now.isClosed else { return }
        quiescing = nil
        feed(.quiesced(now.task), life)
    }

    /// Takes everything of the group off this machine and builds it anew, with new clients of Ceph's.
    private func remap(_ task: TaskID, _ life: Int) {
        let old = object
        let fresh = old?.isUsed == false ? cluster : nil
        object = nil
        notifications = [:]
        available = nil
        lane.add {
            await old?.close()
            var fresh = fresh
            while await self.isCurrent(life) {
                do {
                    let (cluster, stored, problems) = try await self.rebuild(fresh)
                    await self.note(problems)
                    return try await self.remapped(task, cluster, stored, life)
                } catch {
                    await self.note(["cannot serve yet: \(error)"])
                    fresh = nil
                    try? await Task.sleep(for: .seconds(2))
                }
            }
        }
    }

    /// An attempt to take on the configuration has ended, and this does not work. What did not work before keeps its time.
    private func note(_ texts: [String]) {
        let before = Dictionary(problems.map { ($0.text, $0.since) }, uniquingKeysWith: min)
        let now = WallClock.now
        for text in texts where before[text] == nil { logger.error("\(text)") }
        for text in before.keys.sorted() where !texts.contains(text) { logger.notice("no longer: \(text)") }
        problems = texts.map { NodeReport.Problem(text: $0, since: before[$0] ?? now) }
        unusable = []
        counters.reconciliations += 1
        if !problems.isEmpty { counters.reconciliationErrors += 1 }
    }

    private func isCurrent(_ life: Int) -> Bool { life == self.life && !isStopping }

    /// Runs on the lane.
    private nonisolated func rebuild(_ fresh: Cluster?) async throws -> (Cluster, StoredGroup, [String]) {
        let before = await stored
        let node = await node
        let down = try gateway.down(group: options.group, stored: before)
        for change in down.changes { logger.debug("\(change)") }
        // What is still mapped still has the old client, and may still write.
        if let problem = down.problems.first { throw Failure(description: problem) }
        let (cluster, stored): (Cluster, StoredGroup)
        if let fresh, let before {
            (cluster, stored) = (fresh, before)
        } else {
            (cluster, stored) = try await connect()
        }
        let images = try await Cluster.connect(options.ceph)
        let up = try await gateway.up(
            node: node, stored: stored, cluster: images, claim: claim,
            members: MemberStatus.clients(of: stored, in: cluster.pool(options.pool)), leased: true, opening: false)
        for change in up.changes { logger.debug("\(change)") }
        return (cluster, stored, Self.problems(up))
    }

    private func remapped(_ task: TaskID, _ cluster: Cluster, _ stored: StoredGroup, _ life: Int) async throws {
        guard life == self.life else { return }
        let object = try await groupObject(cluster, stored, life)
        guard life == self.life else { return }
        self.cluster = cluster
        take(stored)
        self.object = object
        feed(.remapped(task, instance: cluster.instanceID, clients: clients(stored, cluster)), life)
    }

    /// Says through this node's ports which nodes can be reached.
    private func followPeers(_ life: Int) {
        guard let machine, let stored, machine.phase == .serving, let snapshot = machine.status.snapshot else { return }
        let members = snapshot.members.filter { $0.value.state == .up }.keys
        let now = Set(members).intersection(stored.config.nodes.map(\.name)).union(isLeaving ? [] : [node])
        guard now != available else { return }
        available = now
        let others = stored.config.nodes.map(\.name).filter { !now.contains($0) }
        let rest = others.isEmpty ? "" : "; unavailable: \(others.joined(separator: ", "))"
        logger.info("ports of \(now.sorted().joined(separator: ", ")) are active\(rest)")
        lane.add { [gateway, logger] in
            for problem in gateway.setAvailable(now, stored: stored) { logger.error("\(problem)") }
        }
    }

    // MARK: - Orders

    /// Leaves the group in order and takes everything off this machine: hosts are told, what runs is finished, then the
    /// record goes. ``run()`` ends then.
    ///
    /// - Returns: what did not work; or, after a while, what this node still waits for. It goes on leaving all the same.
    public func leave() async -> [String] {
        await withCheckedContinuation { continuation in
            lastLeaver += 1
            // Weakly: who has left goes, and with it the connections to Ceph, which would hold up the process's end.
            let limit = Task { [weak self, lastLeaver, options] in
                guard (try? await Task.sleep(for: options.drain + options.leaving)) != nil else { return }
                await self?.giveUpWaiting(lastLeaver)
            }
            leavers[lastLeaver] = (continuation, limit)
            guard !isLeaving else { return }
            isLeaving = true
            logger.info("leaving the group")
            announce(.status("leaving the group"))
            // Without clients there is neither a record nor a lease to give back.
            if machine?.phase == .mapping { return end(.left) }
            feed(.leave, life)
        }
    }

    private func giveUpWaiting(_ leaver: Int) async {
        guard leavers[leaver] != nil else { return }
        let problems = await whatHolds()
        for problem in problems { logger.warning("leaving: \(problem)") }
        leavers.removeValue(forKey: leaver)?.continuation.resume(returning: problems)
    }

    /// What keeps this node from leaving: commands of which nobody can say what became of them.
    private func whatHolds() async -> [String] {
        let isFenced = machine?.phase == .quiescing(.remap)
        let served = isFenced ? "The other nodes have fenced it, and serve its hosts. " : ""
        let devices = (try? await kernel?.devices()) ?? []
        let images = devices.filter { $0.leased && $0.inFlight > 0 }
        guard !images.isEmpty else {
            return [
                "node \(node) has not left yet, and goes on leaving. \(served)The log of its cliod says how far it is"
            ]
        }
        var problems: [String] = []
        for device in images {
            let count = "\(device.inFlight) command\(device.inFlight == 1 ? "" : "s")"
            let image = await reading.run(within: Self.readingLimit) { [gateway] in gateway.waitingImage(device.disk) }
            let osds = (image?.requests.keys.sorted() ?? []).map { $0 < 0 ? "an OSD that is up" : "osd.\($0)" }
            let awaited = osds.isEmpty ? "Ceph" : osds.joined(separator: ", ")
            problems.append(
                "image \(image?.name ?? device.disk): \(count) in flight, for which this machine waits for \(awaited). "
                    + "Node \(node) goes on leaving, and has left once there is an answer. \(served)Mend what keeps "
                    + "\(awaited) from answering this machine, or reset the machine")
        }
        return problems
    }

    /// Takes everything of the group off this machine.
    private func clear() async -> [String] {
        let stored = stored
        let problems = await lane.run { [gateway, options, logger] in
            do {
                let report = try gateway.down(group: options.group, stored: stored)
                for change in report.changes { logger.debug("\(change)") }
                return report.problems
            } catch {
                return ["\(error)"]
            }
        }
        for problem in problems { logger.error("\(problem)") }
        return problems
    }

    private func finish(leaving problems: [String]) {
        for leaver in leavers.values {
            leaver.limit.cancel()
            leaver.continuation.resume(returning: problems)
        }
        leavers = [:]
    }

    // MARK: - Configuration

    /// How often the group's configuration is looked at, should nobody say that it has changed.
    private static let lookAgain = Duration.seconds(30)
    /// After what time something that did not work is tried again, at first; it doubles up to ``lookAgain``.
    private static let firstRetry = Duration.seconds(2)

    private static func problems(_ report: Gateway.Report) -> [String] {
        report.problems + report.skipped.map { "left out because of that: \($0)" }
    }

    private func take(_ stored: StoredGroup) {
        if stored.version != self.stored?.version || !isBuilt { storedSince = WallClock.now }
        self.stored = stored
        wantedVersion = max(wantedVersion, stored.version)
        isBuilt = true
    }

    /// Has the configuration looked at, instead of whenever it was to be.
    private func look(in delay: Duration, _ life: Int) {
        guard life == self.life else { return }
        looking?.cancel()
        looking = Task {
            guard (try? await Task.sleep(for: delay)) != nil else { return }
            // What has begun is not to be cancelled by the next one.
            Task { await self.look(life) }
        }
    }

    /// Takes the group's configuration on if it has changed, or did not work the last time.
    private func look(_ life: Int) async {
        guard isServing(life), isOpen, !isLeaving, !isRejoining else { return look(in: Self.lookAgain, life) }
        do {
            let before = stored?.version
            let resync = options.resync.map { syncedAt.duration(to: .now) >= $0 } ?? false
            guard let report = try await takeOn(all: resync) else { return look(in: nextLook, life) }
            if !report.changes.isEmpty {
                let what = stored?.version == before ? "put right what was not as in" : "took on"
                let changes = report.changes.count
                logger.notice("\(what) version \(stored?.version ?? 0) of the group, \(changes) changes")
            }
        } catch is Drained {
            return
        } catch {
            note(["the group's configuration cannot be taken on: \(error)"])
        }
        failures = problems.isEmpty ? 0 : min(failures + 1, 8)
        look(in: failures == 0 ? nextLook : min(Self.firstRetry * (1 << (failures - 1)), Self.lookAgain), life)
    }

    private var nextLook: Duration {
        guard let resync = options.resync else { return Self.lookAgain }
        return min(Self.lookAgain, max(resync - syncedAt.duration(to: .now), .seconds(1)))
    }

    /// Takes on the group's configuration as it is now, and looks at everything that this node has.
    public func reload() async throws -> Gateway.Report { try await takeOn(all: true) ?? Gateway.Report() }

    /// The group has it that this node serves nothing.
    private struct Drained: Error, CustomStringConvertible {
        let description: String
    }

    /// Takes on the group's configuration as it is now.
    ///
    /// - Parameter all: look at everything that this node has, instead of what has changed since it last worked.
    /// - Returns: `nil` if that is nothing.
    private func takeOn(all: Bool) async throws -> Gateway.Report? {
        let before = takingOn
        let task = Task {
            // One after the other: what was read last is what has to stand.
            _ = await before?.result
            return try await self.takeOnNow(all: all)
        }
        takingOn = task
        return try await task.value
    }

    private func takeOnNow(all: Bool) async throws -> Gateway.Report? {
        let life = life
        guard isServing(life) else { throw notServing }
        let images: Cluster
        let stored: StoredGroup
        do {
            (images, stored) = try await configuration()
        } catch {
            self.images = nil
            throw error
        }
        if let drained = stored.drained?[node] {
            if isServing(life) { stepAside(life) }
            throw Drained(
                description: "node \(node) was drained from \(drained.host) (\(drained.command)): clio node resume "
                    + "\(node) lets it serve again")
        }
        wantedVersion = max(wantedVersion, stored.version)
        // What worked for the version before does so still, but for what is different: the cost is that of the change.
        let known = all || !isBuilt || (!problems.isEmpty && unusable.isEmpty) ? nil : self.stored
        if known == stored, unusable.isEmpty { return nil }
        let scope = known.flatMap { stored.changedLUNs(since: $0) }?.union(unusable)
        let members = Set(machine?.status.snapshot?.members.values.flatMap(\.clients) ?? [])
        let findings = await gateway.examine(
            node: node, stored: stored, cluster: images, claim: claim, members: members, scope: scope)
        let result = await lane.run { [gateway, node] () async -> Result<Gateway.Report, any Error> in
            guard let clients = await self.servingClients(life) else { return .failure(await self.notServing) }
            do {
                return .success(
                    try await gateway.build(
                        node: node, stored: stored, fsid: images.fsid, findings, leased: true, clients: clients,
                        scope: scope))
            } catch {
                return .failure(error)
            }
        }
        switch result {
        case .failure(let error):
            if error is Gateway.MoreChanged { return try await takeOnNow(all: true) }
            guard error is Gateway.NewClient else { throw error }
            // The record does not name the client, so nobody could fence it: join anew with it.
            logger.info("joining anew with another client of Ceph's")
            if life == self.life {
                isRejoining = true
                feed(.leave, life)
            }
            var report = Gateway.Report()
            report.changes = ["joined anew with another client of Ceph's"]
            return report
        case .success(let report):
            take(stored)
            if scope == nil { syncedAt = .now }
            if let scope, let available {
                lane.add { [gateway, logger] in
                    for problem in gateway.setAvailable(available, stored: stored, scope: scope) {
                        logger.error("\(problem)")
                    }
                }
            } else {
                available = nil
            }
            for change in report.changes { logger.debug("\(change)") }
            var problems = Self.problems(report)
            if stored.config.timing != timing {
                problems.append(
                    "the group's times have changed since this cliod began: restart it (systemctl restart "
                        + "cliod@\(options.group)), and those of the other nodes")
            }
            if !stored.config.nodes.contains(where: { $0.name == node }) {
                problems.append("the group no longer has node \(node): clio node down has it leave")
            }
            note(problems)
            if problems.count == report.unusable.count { unusable = report.unusable }
            followPeers(life)
            return report
        }
    }

    private nonisolated var claim: ImageClaim { ImageClaim(group: options.group, pool: options.pool) }

    /// The group as it is now, and the connection to look at its images with.
    private func configuration() async throws -> (Cluster, StoredGroup) {
        var images: Cluster
        if let known = self.images { images = known } else { images = try await Cluster.connect(options.ceph) }
        self.images = images
        let store = GroupStore(pool: try await images.pool(options.pool), group: options.group)
        return (images, try await store.completing(try await store.load(), in: images).stored)
    }

    /// The addresses in this node's record, while it serves.
    private func servingClients(_ life: Int) -> Set<String>? { isServing(life) ? recorded : nil }

    private var notServing: Failure {
        Failure(
            description: "the node is \(machine.map { NodeReport.name($0.phase) } ?? "starting"), not serving yet: "
                + "it takes on the group's configuration when it does")
    }

    /// How long to wait for what configfs and sysfs tell.
    private static let readingLimit = Duration.milliseconds(500)

    /// The node in numbers, in Prometheus' text format.
    public func metrics() async -> String {
        guard let report = await report(), let stored else {
            let name = node.isEmpty ? options.node ?? Gateway.shortHostName : node
            let drained = stored?.drained?[name] != nil
            return NodeMetrics.idle(group: options.group, node: name, isDrained: drained).text
        }
        let snapshot = machine?.status.snapshot
        let expected = stored.config.nodes.map(\.name).filter { stored.drained?[$0] == nil }
        let members = expected.map { ($0, snapshot?.members[$0]?.state == .up) }
        var metrics = NodeMetrics(
            group: options.group, report: report, counters: counters, wantedVersion: wantedVersion,
            members: Dictionary(members, uniquingKeysWith: { first, _ in first }),
            isDrained: stored.drained?[node] != nil, version: Release.version)
        if let devices = try? await kernel?.devices() { metrics.devices = devices }
        let read = await reading.run(within: Self.readingLimit * 4) { [gateway] in gateway.statistics(of: stored) }
        metrics.isComplete = read != nil
        if let read { (metrics.luns, metrics.logins) = read }
        return metrics.exposition.text
    }

    /// How things are; `nil` before the relay is attached.
    public func report() async -> NodeReport? {
        guard let machine, let stored else { return nil }
        if let lease = try? await kernel?.lease() { kernelLease = lease }
        // What was last known will do.
        sessions =
            await reading.run(within: Self.readingLimit) { [gateway, node] in
                gateway.sessionCount(of: node, stored: stored)
            } ?? sessions
        let now = Relay.Instant.now
        var status = machine.status
        status.phase = shownPhase ?? status.phase
        noteTimes()
        return NodeReport(
            node: node, status: status, since: phase.since, seen: sights.inWords, now: now,
            lease: .seconds(stored.config.timing.lease),
            sessions: sessions, inFlight: kernelLease?.inFlight ?? 0, orphans: kernelLease?.orphans ?? 0,
            events: events, version: isBuilt ? stored.version : 0, versionSince: storedSince,
            uptime: started.duration(to: now),
            problems: problems)
    }

    /// Whether the actor answers; for the watchdog.
    public func isAlive() -> Bool { true }

    /// Whether it maps images and builds LIO's configuration, and nothing has kept it from that so far.
    public var isBuilding: Bool { machine?.phase == .mapping && problems.isEmpty }

    // MARK: - Words

    private func tell(_ notice: Notice) {
        let text: String
        var level = Logger.Level.notice
        switch notice {
        case .joined(let instance): text = "joined the group as \(node)#\(String(instance, radix: 16))"
        case .serving(let epoch):
            text = "serving, lease \(epoch)"
            openPorts(life)
        case .lapsed:
            level = .warning
            counters.lapses += 1
            text = "the lease is lost: dropping sessions until it can be had again"
        case .fenced:
            level = .warning
            counters.fenced += 1
            text = "this node has been fenced: beginning anew with a new client of Ceph's"
        case .left:
            text = "left the group"
        case .nameInUse:
            level = .error
            text = "another machine is alive in the group as \(node): stop it, or give this one its own name (--node)"
        case .peerDead(let peer):
            level = .warning
            text = "\(peer) shows no sign of life: fencing it"
        case .peerFenced(let peer, let epoch):
            counters.fencings += 1
            text = "\(peer) is on the blocklist as of OSD map \(epoch)"
        case .peerSettled(let peer): text = "\(peer) can write no more"
        case .watchLost:
            level = .warning
            counters.watchesLost += 1
            text = "the watch on the group object is lost"
        }
        logger.log(level: level, "\(text)")
        announce(.status(text))
        if case .left = notice { end(.left) }
    }
}
