// SPDX-License-Identifier: Apache-2.0

import Relay

/// A gateway node: its kernel's part and its relay, of which the ``Machine`` is the real one.
final class Node {
    private enum Part { case kernel, relay }

    /// A command that has been handed to the device and is not settled.
    private struct Flight {
        let operation: Operation
        let command: Command
    }

    private let world: World
    private let cluster: Cluster
    private let ceph: Ceph
    let name: String
    let clock: Clock
    /// To Ceph and to the hosts.
    let osds: Link
    let hosts: Link

    // The machine.
    private(set) var isUp = false
    private(set) var isFrozen = false
    /// The kernel that runs; another after each boot.
    private var kernel = Sender()
    private var deferred: [(part: Part, action: () -> Void)] = []

    // The kernel.
    private var krbd: Client?
    private var delayed: (osd: Int, until: Time) = (0, 0)
    private var barrier: UInt32 = 0
    private var lease = KernelState(lapsed: true)
    private var isQuiesced = true
    private var quiesceTask: TaskID?
    private var sessions: [Session] = []
    private var flights: [Flight] = []
    private var drains: [(upTo: Int, action: () -> Void)] = []
    private var lastEvent: UInt64 = 0
    /// Numbers in ``Cluster/events`` of those that this kernel has done, and of complete ones that it has not.
    private var done: Set<Int> = []
    private var missed: Set<Int> = []

    // The relay.
    private(set) var machine: Machine?
    /// Number of the relay process.
    private(set) var life = 0
    private var relay: Client?
    /// What it has told the kernel and the kernel has not begun with: it does one thing after the other.
    private var orders: [KernelCommand] = []
    private var isArming = false
    private var wake: Time = .max
    private var acknowledgements: [NotificationID: ([UInt8]) -> Void] = [:]
    private var lastNotification: UInt64 = 0
    /// When the latest renewal that landed was sent.
    private var renewedAt: Instant?

    /// Whether somebody has told it to leave.
    private var isLeaving = false
    private(set) var hasLeft = false
    /// Whether it has no watch and gets none.
    private(set) var isDeaf = false

    init(_ cluster: Cluster, name: String) {
        self.cluster = cluster
        world = cluster.world
        ceph = cluster.ceph
        self.name = name
        clock = Clock(&world.random)
        osds = Link(world)
        hosts = Link(world)
    }

    private var now: Instant { clock.show(world.now) }

    /// Runs `action`, or keeps it until the node thaws.
    private func gate(_ part: Part, _ action: @escaping () -> Void) {
        if isFrozen { deferred.append((part, action)) } else { action() }
    }

    /// The same, unless the node has been down in between.
    private func kernelSoon(_ delay: Time, _ action: @escaping () -> Void) {
        let kernel = kernel
        world.after(delay) { [self] in
            gate(.kernel) { [self] in
                if isUp, kernel === self.kernel { action() }
            }
        }
    }
}

// MARK: - What happens to it

extension Node {
    func boot() {
        guard !isUp else { return }
        world.tell("\(name): boot")
        isUp = true
        isLeaving = false
        hasLeft = false
        cluster.reset(connectionsTo: self)
        connectivityChanged()
        startRelay()
    }

    func crash() {
        guard isUp else { return }
        world.tell("\(name): crash")
        stopRelay()
        isUp = false
        isFrozen = false
        deferred = []
        kernel.isGone = true
        kernel = Sender()
        unmap()
        for session in sessions { session.isOpenAtNode = false }
        connectivityChanged()
        sessions = []
        lease = KernelState(lapsed: true)
        isQuiesced = true
        lastEvent = 0
    }

    func freeze() {
        guard isUp, !isFrozen else { return }
        world.tell("\(name): freeze")
        isFrozen = true
        connectivityChanged()
    }

    func thaw() {
        guard isFrozen else { return }
        world.tell("\(name): thaw")
        isFrozen = false
        connectivityChanged()
        let kernelFirst = world.random.chance(0.5)
        let waiting = deferred
        deferred = []
        for part in kernelFirst ? [Part.kernel, .relay] : [.relay, .kernel] {
            let pause = world.random.time(0...20 * millisecond)
            for entry in waiting where entry.part == part {
                world.after(pause) { [self] in gate(part, entry.action) }
            }
        }
    }

    func stopRelay() {
        guard machine != nil else { return }
        world.tell("\(name): relay ends")
        life += 1
        machine = nil
        relay?.isGone = true
        relay = nil
        orders = []
        isArming = false
        acknowledgements = [:]
    }

    func startRelay() {
        guard isUp, machine == nil, !hasLeft else { return }
        world.tell("\(name): relay starts")
        life += 1
        wake = .max
        machine = Machine(node: name, schedule: cluster.schedule, breaking: cluster.broken)
        let client = ceph.newClient("relay", lease.instance ?? 0)
        relay = client
        toRelay { [self] in
            var state = lease
            state.barrier = barrier
            state.events = cluster.events.indices.filter { isWaiting(for: $0) }.map { cluster.events[$0].event }
            return .attached(state, clients: [krbd?.name, client.name].compactMap { $0 })
        }
        if isLeaving { toRelay { .leave } }
    }

    /// Leaves in order and stays away until ``join()``.
    func leave() {
        guard isUp, machine != nil, !isLeaving else { return }
        world.tell("\(name): told to leave")
        isLeaving = true
        toRelay { .leave }
    }

    func join() {
        guard isUp, hasLeft else { return }
        isLeaving = false
        hasLeft = false
        startRelay()
    }

    /// What its kernel sends to one OSD gets there late.
    func delayWrites(to osd: Int, until: Time) {
        world.tell("\(name): writes to OSD \(osd) are delayed")
        delayed = (osd, until)
    }

    func deafen() {
        world.tell("\(name): deaf from now on")
        isDeaf = true
        ceph.forgetWatches(of: self)
    }

    func fence(_ other: Node) {
        toRelay { .fence(node: other.name) }
    }

    func cut(osds toOSDs: Bool, hosts toHosts: Bool) {
        // Sometimes only one direction fails.
        let way = world.random.index(4)
        world.tell("\(name): cut\(toOSDs ? " from the OSDs" : "")\(toHosts ? " from the hosts" : "") (\(way))")
        if toOSDs { osds.cut(toNode: way != 0, fromNode: way != 1) }
        if toHosts { hosts.cut(toNode: way != 0, fromNode: way != 1) }
        connectivityChanged()
    }

    func heal() {
        guard !osds.isUp || !hosts.isUp else { return }
        world.tell("\(name): healed")
        osds.heal()
        hosts.heal()
        connectivityChanged()
    }
}

// MARK: - Kernel

extension Node {
    /// Whether the kernel would take a command now.
    private var admits: Bool { !lease.lapsed && now < lease.until && now < lease.hold }

    private var hasOrphans: Bool { flights.contains { !$0.command.session.isOpenAtNode } }

    /// Whether a host can log in.
    var accepts: Bool { isUp && !isFrozen && hosts.isUp && !lease.lapsed && now < lease.until }

    func open(_ session: Session) {
        // A login reinstates the session: what came over the one before is dropped (RFC 7143, 6.3.5).
        for old in sessions where old.host === session.host { close(old) }
        sessions.append(session)
        session.watch(linkIsCut: !hosts.isUp, nodeIsSilent: !isUp || isFrozen)
    }

    /// Each end finds out by itself that nothing comes from the other any more.
    private func connectivityChanged() {
        for session in sessions { session.watch(linkIsCut: !hosts.isUp, nodeIsSilent: !isUp || isFrozen) }
    }

    /// Pings have had no answer for too long.
    func giveUp(_ session: Session) {
        gate(.kernel) { [self] in close(session) }
    }

    func close(_ session: Session) {
        guard session.isOpenAtNode else { return }
        session.isOpenAtNode = false
        sessions.removeAll { $0 === session }
        hosts.send(.fromNode, over: session.toHost, from: kernel, delay: world.latency()) {
            session.host.lost(session)
        }
    }

    func receive(_ command: Command) {
        gate(.kernel) { [self] in
            guard isUp, command.session.isOpenAtNode else { return }
            if !lease.lapsed, now >= lease.until { lapse() }
            guard !lease.lapsed, let krbd else { return answer(command, .refused) }
            guard now < lease.hold else { return answer(command, .busy) }
            check()
            let operation = Operation(
                number: cluster.nextOperation(), block: command.block, stamp: command.stamp, client: krbd,
                acceptedAt: world.now)
            flights.append(Flight(operation: operation, command: command))
            kernelSoon(world.random.time(0...millisecond)) { [self] in submit(operation) }
        }
    }

    /// What must hold whenever a write is accepted.
    private func check() {
        let record = ceph.group.members[name]
        if record?.instance != lease.instance || record?.isSettled != false {
            world.fail("\(name) accepts a write, and its record is gone or settled")
        }
        if let renewedAt, now < renewedAt.advanced(by: cluster.schedule.lease) {
        } else {
            world.fail("\(name) accepts a write, and no renewal that landed allows it")
        }
        if let event = missed.min() {
            world.fail("\(name) accepts a write without having done event \(event), which is complete")
        }
    }

    private func submit(_ operation: Operation) {
        let client = operation.client
        guard !client.isGone else { return }
        operation.epoch = client.epoch
        let osd = ceph.osd(of: operation.block)
        let delay = osd == delayed.osd ? max(0, delayed.until - world.now) : 0
        let total = delay + world.latency(stuck: cluster.stuckWrites)
        osds.send(.fromNode, over: client.toOSD[osd], from: client, delay: total) { [self] in
            ceph.arrive(at: osd) { [self] in
                let executed = ceph.execute(operation)
                osds.send(.toNode, over: client.fromOSD[osd], from: ceph, delay: world.latency()) { [self] in
                    gate(.kernel) { [self] in settle(operation, executed) }
                }
            }
        }
    }

    private func settle(_ operation: Operation, _ executed: Bool) {
        guard let index = flights.firstIndex(where: { $0.operation === operation }) else { return }
        let command = flights.remove(at: index).command
        if executed, command.session.isOpenAtNode { answer(command, .good) }
        drained()
    }

    private func answer(_ command: Command, _ result: Command.Result) {
        hosts.send(.fromNode, over: command.session.toHost, from: kernel, delay: world.latency()) {
            command.session.host.answered(command, result)
        }
    }

    /// Runs `action` when all that is in flight now is settled.
    private func drain(_ action: @escaping () -> Void) {
        drains.append((cluster.lastOperation, action))
        drained()
    }

    private func drained() {
        let oldest = flights.map(\.operation.number).min() ?? .max
        let ready = drains.filter { $0.upTo < oldest }
        drains.removeAll { $0.upTo < oldest }
        for entry in ready { kernelSoon(0, entry.action) }
    }

    private func lapse() {
        guard !lease.lapsed else { return }
        lease.lapsed = true
        let epoch = lease.epoch
        world.tell("\(name): kernel: lease \(epoch) lapsed")
        toRelay { .lapsed(epoch: epoch) }
    }

    private func unmap() {
        krbd?.isGone = true
        krbd = nil
        barrier = 0
        flights = []
        drains = []
        lease.instance = nil
        // Nobody waits for the events of an instance that is gone.
        for index in cluster.events.indices where isWaiting(for: index) { cluster.events[index].ended = true }
        done = []
        missed = cluster.completed
    }

    private func isWaiting(for index: Int) -> Bool {
        cluster.events[index].origin === self && !cluster.events[index].ended
    }

    /// Something that every node must do begins here, if it can.
    func raise(deadline: Bool) {
        guard isUp, !isFrozen, admits, krbd != nil else { return }
        drain { [self] in
            guard admits, krbd != nil else { return }
            lastEvent += 1
            let index = cluster.events.count
            let payload = [UInt8](repeating: 0, count: 1) + withUnsafeBytes(of: UInt32(index).littleEndian, Array.init)
            let end = deadline ? now.advanced(by: .seconds(4)) : nil
            let event = KernelEvent(id: lastEvent, payload: payload, deadline: end)
            cluster.events.append(Cluster.Event(event: event, origin: self, raisedAt: world.now))
            done.insert(index)
            world.tell("\(name): kernel: event \(index)")
            toRelay { .event(event) }
        }
    }

    private func complete(_ id: UInt64, _ outcome: Outcome) {
        guard
            let index = cluster.events.indices.last(where: { isWaiting(for: $0) && cluster.events[$0].event.id == id })
        else { return }
        world.tell("\(name): event \(index): \(outcome)")
        cluster.events[index].ended = true
        switch outcome {
        case .late, .fenced: return
        case .done, .refused: break
        }
        cluster.completed.insert(index)
        ceph.completedEvents.append((cluster.events[index].raisedAt, world.now))
        for node in cluster.nodes { node.completed(index) }
    }

    private func completed(_ index: Int) {
        guard !done.contains(index) else { return }
        missed.insert(index)
        if isUp, krbd != nil, admits {
            world.fail("event \(index) completes, and \(name) serves without having done it")
        }
    }

    private func note(done index: Int) {
        done.insert(index)
        missed.remove(index)
    }

    /// Reads what is in RADOS; it shows every event that has been raised.
    private func readStates() {
        for index in cluster.events.indices { note(done: index) }
    }

    /// Carries out what the relay has told it to, in order.
    private func obey() {
        while !isArming, !orders.isEmpty { command(orders.removeFirst()) }
    }

    private func arm(_ epoch: UInt64, _ new: KernelState) {
        let life = life
        isArming = true
        kernelSoon(world.latency(stuck: cluster.stuckArming)) { [self] in
            // The relay's end takes with it what the kernel has not begun with.
            guard life == self.life else { return }
            isArming = false
            let fails = world.random.chance(cluster.failingArming)
            let holds = isQuiesced && epoch > lease.epoch && krbd != nil && now < new.until && !fails
            world.tell("\(name): kernel: lease \(epoch)\(holds ? "" : " refused")")
            if holds {
                lease = new
                isQuiesced = false
                watchLease()
            }
            toRelay { .armed(epoch: epoch, holds) }
            obey()
        }
    }

    private func command(_ command: KernelCommand) {
        switch command {
        case .arm(let epoch, let instance, let until, let hold):
            arm(epoch, KernelState(instance: instance, epoch: epoch, until: until, hold: hold))
        case .renew(let epoch, let until, let hold):
            guard epoch == lease.epoch, !lease.lapsed, now < lease.until else { return }
            lease.until = max(lease.until, until)
            lease.hold = max(lease.hold, hold)
        case .report(let task):
            let exist = hasOrphans
            toRelay { .orphans(task, exist) }
        case .quiesce(let task, let why):
            world.tell("\(name): quiesce: \(why)")
            lease.lapsed = true
            isQuiesced = false
            quiesceTask = task
            if why != .leaving { for session in sessions { close(session) } }
            drain { [self] in
                guard quiesceTask == task else { return }
                for session in sessions { close(session) }
                isQuiesced = true
                toRelay { .quiesced(task) }
            }
        case .remap(let task):
            unmap()
            relay?.isGone = true
            remap(task)
        case .apply(let task, let what): apply(task, what)
        case .done(let event, let outcome): complete(event, outcome)
        }
    }

    private func watchLease() {
        let epoch = lease.epoch
        kernelSoon(max(0, clock.time(of: lease.until) - world.now)) { [self] in
            guard lease.epoch == epoch, !lease.lapsed else { return }
            if now >= lease.until { lapse() } else { watchLease() }
        }
    }

    private func remap(_ task: TaskID) {
        let life = life
        kernelSoon(world.random.time(100 * millisecond...second)) { [self] in
            guard life == self.life else { return }
            guard osds.isUp, ceph.monitorsStalledUntil <= world.now else { return remap(task) }
            let instance = world.random.next() | 1
            let krbd = ceph.newClient("krbd", instance)
            let relay = ceph.newClient("relay", instance)
            self.krbd = krbd
            self.relay = relay
            lease.lapsed = true
            isQuiesced = true
            world.tell("\(name): mapped as #\(instance), \(krbd.name), \(relay.name)")
            toRelay { .remapped(task, instance: instance, clients: [krbd.name, relay.name]) }
        }
    }

    private func apply(_ task: TaskID, _ what: Apply) {
        let life = life
        func finish(_ action: @escaping () -> Void) {
            kernelSoon(world.random.time(millisecond...30 * millisecond)) { [self] in
                action()
                if life == self.life { toRelay { .applied(task, code: 0) } }
            }
        }
        switch what {
        case .states: read(finish)
        case .barrier(let epoch):
            barrier = max(barrier, epoch)
            krbd?.epoch = max(krbd?.epoch ?? 0, epoch)
            read(finish)
        case .event(_, _, let payload):
            let index = payload.dropFirst().reversed().reduce(0) { $0 << 8 | Int($1) }
            let client = krbd
            drain { [self] in
                finish { [self] in
                    if client === krbd { note(done: index) }
                }
            }
        }
    }

    /// Reads the states as soon as the OSDs can be reached.
    private func read(_ finish: @escaping (@escaping () -> Void) -> Void) {
        let client = krbd
        kernelSoon(world.latency()) { [self] in
            guard client === krbd else { return }
            if osds.isUp { finish { [self] in if client === krbd { readStates() } } } else { read(finish) }
        }
    }
}

// MARK: - Relay

extension Node {
    /// Gives the relay of this life an input, a little later and in order.
    private func toRelay(_ input: @escaping () -> Input?) {
        let life = life
        world.after(50_000) { [self] in
            gate(.relay) { [self] in
                guard life == self.life else { return }
                if let input = input() { handle(input) }
            }
        }
    }

    private func handle(_ input: Input) {
        guard let effects = machine?.handle(input, now: now) else { return }
        for effect in effects {
            switch effect {
            case .rados(let id, let request): perform(id, request)
            case .kernel(let command):
                orders.append(command)
                obey()
            case .acknowledge(let id, let bytes): acknowledgements.removeValue(forKey: id)?(bytes)
            case .notice(let notice):
                world.tell("\(name): \(notice)")
                if case .serving(let epoch) = notice, epoch != lease.epoch {
                    world.fail("\(name) is said to serve, and its kernel has not armed lease \(epoch)")
                }
                if notice == .left {
                    hasLeft = true
                    stopRelay()
                    unmap()
                    return
                }
            }
        }
        schedule()
    }

    private func schedule() {
        guard let machine, machine.wakeAt != .never else { return }
        let time = max(world.now, clock.time(of: machine.wakeAt))
        guard time < wake else { return }
        wake = time
        let life = life
        world.at(time) { [self] in
            gate(.relay) { [self] in
                guard life == self.life, wake == time else { return }
                wake = .max
                handle(.tick)
            }
        }
    }

    private func perform(_ id: RequestID, _ request: Request) {
        guard let client = relay else { return }
        let life = life
        var isAnswered = false
        func answer(_ reply: Reply) {
            guard !isAnswered, client === relay, life == self.life else { return }
            isAnswered = true
            toRelay { [self] in client === relay ? .reply(id, reply) : nil }
        }
        var patience = cluster.operationTimeout
        if case .notify(_, let timeout) = request { patience += timeout.nanoseconds }
        world.after(clock.wait(patience)) { [self] in gate(.relay) { answer(.failed(.unavailable)) } }

        var sentAt: Instant?
        if case .swap(let swap) = request {
            let isRenewal = swap.changes.contains { if case .beat(name, .some) = $0 { true } else { false } }
            if isRenewal { sentAt = now }
        }
        let isLost = world.random.chance(cluster.failingOperations)
        let isLostReply = world.random.chance(cluster.failingOperations)
        func reply(_ reply: Reply) {
            if reply == .swapped, let sentAt { renewedAt = max(renewedAt ?? sentAt, sentAt) }
            if isLostReply { return }
            let delay = world.latency(stuck: cluster.stuckReplies)
            osds.send(.toNode, over: client.fromOSD[0], from: ceph, delay: delay) { [self] in
                gate(.relay) { answer(reply) }
            }
        }
        let delay = world.latency(stuck: cluster.stuckOperations)
        osds.send(.fromNode, over: client.toOSD[0], from: client, delay: delay) { [self] in
            if isLost { return }
            if case .blocklist(let clients) = request {
                ceph.blocklist(clients) { reply(.blocklisted(epoch: $0)) }
                return
            }
            ceph.arrive(at: 0) { [self] in
                switch request {
                case .watch: reply(client === relay && !isDeaf ? ceph.watch(client, self) : .failed(.unavailable))
                case .notify(let bytes, let timeout): ceph.notify(client, bytes, timeout: timeout, reply)
                case .read, .swap, .blocklist: reply(ceph.operate(client, request))
                }
            }
        }
    }

    func isHeard(by client: Client, _ life: Int) -> Bool {
        isUp && !isFrozen && osds.isUp && client === relay && life == self.life
    }

    func loseWatch(_ client: Client, _ life: Int) {
        osds.send(.toNode, over: client.fromOSD[0], from: ceph, delay: world.random.time(0...3 * second)) { [self] in
            guard client === relay, life == self.life else { return }
            toRelay { [self] in client === relay ? .watchLost : nil }
        }
    }

    func notified(_ client: Client, _ life: Int, _ message: [UInt8], _ acknowledge: @escaping ([UInt8]) -> Void) {
        osds.send(.toNode, over: client.fromOSD[0], from: ceph, delay: world.latency()) { [self] in
            guard client === relay, life == self.life else { return }
            lastNotification += 1
            let id = NotificationID(lastNotification)
            acknowledgements[id] = { [self] bytes in
                osds.send(.fromNode, over: client.toOSD[0], from: client, delay: world.latency()) { [self] in
                    ceph.arrive(at: 0) { acknowledge(bytes) }
                }
            }
            toRelay { [self] in client === relay ? .notification(id, message) : nil }
        }
    }

    /// What is still to be done once all faults are over; `nil` if nothing is.
    var complaint: String? {
        if isDeaf { return nil }
        if isLeaving { return hasLeft ? nil : "\(name) has not left" }
        guard let machine else { return "\(name) has no relay" }
        guard machine.phase == .serving, admits else { return "\(name) does not serve: \(machine.phase)" }
        return nil
    }
}
