// SPDX-License-Identifier: Apache-2.0

import ClusterModel

/// The relay of one node as a pure state machine: what has happened goes in, what is to be done comes out.
///
/// A driver executes the effects and reports what became of them as further inputs, one at a time. The machine reads no
/// clock, sends nothing and waits for nothing, so the same code runs a node and the simulator's fifty.
///
/// What is pending is looked at anew after each input by the `pursue` functions: each takes its next step if it may, and
/// else leaves a time to look again in ``wakeAt``. Nothing depends on an input coming only once or in a certain order.
public struct Machine: Sendable {
    /// Where this node stands.
    public enum Phase: Hashable, Sendable {
        /// Not attached to the kernel.
        case detached
        /// A lease of an earlier relay's may still run; see whether its record stands.
        case resuming
        /// The kernel settles what is in flight; what comes then is the argument.
        case quiescing(Next)
        /// A new client instance is being made.
        case mapping
        /// Without a record, or with one of an earlier life's that must be fenced first.
        case joining
        /// The record is written; the lease still needs states, barrier, evidence and the kernel's word.
        case arming
        /// The kernel has a lease.
        case serving
        /// Quiesced for good; the record is still to go.
        case departing
        /// Over. A new relay begins with a new machine.
        case left

        public enum Next: Hashable, Sendable {
            case arm
            case remap
            case depart
        }
    }

    public let node: String
    let schedule: Schedule
    private let broken: Rule?

    // The input at hand.
    private(set) var now = Instant(nanoseconds: 0)
    /// Number of the input at hand.
    private(set) var turn: UInt64 = 0
    private var effects: [Effect] = []
    /// When to give the machine a `tick` if nothing else comes first.
    public private(set) var wakeAt = Instant.never

    // This node.
    public internal(set) var phase = Phase.detached
    /// The client instance that the kernel has, 0 if none.
    var instance: UInt64 = 0
    private var clients: [String] = []
    /// This node's record, as the last read showed it; `nil` unless it is live and this instance's.
    private(set) var mine: Record?
    var lease = Lease()
    /// The driver's watch on the group object.
    private(set) var watch = Watch()
    var statesLoaded = false
    private var isLeaving = false
    /// Number of the input that answered the last change of the own record: a read sent then or later shows what became
    /// of it.
    private var recordTurn: UInt64 = 0
    private var recordRetryAt = Instant(nanoseconds: 0)
    private var nameInUse = false
    /// When this instance began to join.
    private var joiningSince = Instant(nanoseconds: 0)

    // Barrier.
    /// The OSD map epoch that the kernel's requests demand.
    var barrier: UInt32 = 0
    /// The highest that another node's message asked for.
    var demandedEpoch: UInt32 = 0
    var barrierTask: TaskID?
    var barrierWaiters: [(notification: NotificationID, epoch: UInt32)] = []

    // The others.
    var membership = Membership()
    var fences: [String: Fence] = [:]
    /// Whom an operator wants fenced.
    private(set) var forced: Set<Member> = []
    /// Whether to tell the others to look at the membership.
    var sendHint = false

    // Events.
    var outgoing: [UInt64: Outgoing] = [:]
    var incoming: [Member: [UInt64: Incoming]] = [:]
    /// Events that came before it was known whether this node is a member.
    private var early: [KernelEvent] = []

    // What has been asked for.
    private var pending: [RequestID: Purpose] = [:]
    private var tasks: [TaskID: Work] = [:]
    private var lastID: UInt64 = 0
    private var readWanted: UInt64?
    private var readDueAt = Instant(nanoseconds: 0)

    public init(node: String, timing: Timing) {
        self.init(node: node, schedule: Schedule(timing))
    }

    /// A machine that breaks one rule of the protocol.
    package init(node: String, schedule: Schedule, breaking broken: Rule? = nil) {
        self.node = node
        self.schedule = schedule
        self.broken = broken
    }

    /// Takes in what has happened, at `now` of this node's boot-time clock, and returns what is to be done.
    public mutating func handle(_ input: Input, now: Instant) -> [Effect] {
        self.now = max(self.now, now)
        turn += 1
        wakeAt = .never
        lapseIfDue()
        take(input)
        pursue()
        defer { effects = [] }
        return effects
    }

    private mutating func take(_ input: Input) {
        switch input {
        case .attached(let kernel, let clients): attach(kernel, clients)
        case .tick: break
        case .event(let event): raise(event)
        case .applied(let task, let code): applied(task, code)
        case .quiesced(let task): quiesced(task)
        case .remapped(let task, let instance, let clients): remapped(task, instance, clients)
        case .armed(let epoch, let holds): armed(epoch: epoch, holds)
        case .lapsed(let epoch): if epoch == lease.epoch, lease.state != .over { lapse() }
        case .orphans(let task, let exist):
            if tasks.removeValue(forKey: task) == .report { reported(task, exist) }
        case .reply(let id, let reply): replied(id, reply)
        case .notification(let id, let bytes): receive(bytes, id)
        case .watchLost:
            // The answer to a request for a new one may still be on its way, and this may be about that one.
            watch.isSpoiled = isPending(.watch)
            guard watch.isEstablished else { break }
            watch.isEstablished = false
            watch.lostAt = now
            notice(.watchLost)
        case .leave:
            isLeaving = true
            if phase == .detached { leave() }
        case .fence(let name):
            if let record = membership.snapshot?.members[name], record.isLive {
                forced.insert(Member(node: name, instance: record.instance))
                fences[name]?.restsUntil = now
            }
        }
    }

    private mutating func pursue() {
        guard speaks else { return }
        pursueWatch()
        pursueRecord()
        guard speaks else { return }
        pursueOrphans()
        pursueRenewal()
        pursueBarrier()
        pursueStates()
        pursueArming()
        pursueHold()
        pursueFencing()
        pursueEvents()
        pursueRead()
        pursueHint()
    }

    /// Whether this node has anything to say to RADOS, and a client to say it with.
    private var speaks: Bool {
        switch phase {
        case .detached, .mapping, .quiescing(.remap), .left: false
        case .resuming, .quiescing(.arm), .quiescing(.depart), .joining, .arming, .serving, .departing: true
        }
    }

    /// This node as a member, if it is one.
    var me: Member? { mine.map { Member(node: node, instance: $0.instance) } }
}

/// The state of the watch.
struct Watch: Sendable {
    var isEstablished = false
    /// Whether a watch was lost while another was being asked for.
    var isSpoiled = false
    /// When it was lost, or when there was none yet.
    var lostAt: Instant
    var retryAt = Instant(nanoseconds: 0)

    init(lostAt: Instant = Instant(nanoseconds: 0)) { self.lostAt = lostAt }
}

/// What a request to RADOS is for.
enum Purpose: Sendable {
    case watch
    case read(sentAt: Instant, turn: UInt64)
    case renewal(sentAt: Instant, beat: UInt64)
    case record
    case fence(String)
    case blocklist(String)
    case round(RoundOwner)
    case hint

    enum Kind: Hashable, Sendable {
        case watch, read, renewal, record, fence, round, hint
    }

    var kind: Kind {
        switch self {
        case .watch: .watch
        case .read: .read
        case .renewal: .renewal
        case .record: .record
        case .fence, .blocklist: .fence
        case .round: .round
        case .hint: .hint
        }
    }
}

/// Whose message goes round.
enum RoundOwner: Hashable, Sendable {
    case event(UInt64)
    case barrier(String, UInt32)
}

/// What the kernel has been asked to do.
enum Work: Hashable, Sendable {
    case quiesce
    case remap
    case report
    case states
    case barrier(UInt32)
    case event(origin: Member, id: UInt64)
}

// MARK: - What the other files build on

extension Machine {
    /// Whether this machine keeps a rule; the simulator has some that do not.
    func keeps(_ rule: Rule) -> Bool { broken != rule }

    mutating func kernel(_ command: KernelCommand) { effects.append(.kernel(command)) }

    mutating func notice(_ notice: Notice) { effects.append(.notice(notice)) }

    mutating func acknowledge(_ notification: NotificationID, _ bytes: [UInt8]) {
        effects.append(.acknowledge(notification, bytes))
    }

    mutating func request(_ request: Request, for purpose: Purpose) {
        lastID += 1
        let id = RequestID(value: lastID)
        pending[id] = purpose
        effects.append(.rados(id, request))
    }

    func isPending(_ kind: Purpose.Kind) -> Bool { pending.values.contains { $0.kind == kind } }

    mutating func apply(_ what: Apply, for work: Work) -> TaskID {
        let task = begin(work)
        kernel(.apply(task, what))
        return task
    }

    mutating func askForOrphans() -> TaskID {
        let task = begin(.report)
        kernel(.report(task))
        return task
    }

    private mutating func begin(_ work: Work) -> TaskID {
        lastID += 1
        let task = TaskID(value: lastID)
        tasks[task] = work
        return task
    }

    /// Has the machine look again at `instant`.
    mutating func wake(_ instant: Instant) { wakeAt = min(wakeAt, instant) }

    /// Whether `instant` has come; if not, the machine will look again when it has.
    mutating func isDue(_ instant: Instant) -> Bool {
        if now >= instant { return true }
        wake(instant)
        return false
    }

    /// Asks for a read of the membership that is sent no earlier than during input `turn`.
    mutating func look(since turn: UInt64) { readWanted = max(readWanted ?? turn, turn) }

    mutating func lookAgain() { look(since: turn) }
}

// MARK: - Kernel

extension Machine {
    private mutating func attach(_ kernel: KernelState, _ clients: [String]) {
        guard phase == .detached else { return }
        watch = Watch(lostAt: now)
        lease = Lease(epoch: kernel.epoch)
        early = (early + kernel.events).sorted { $0.id < $1.id }
        guard let instance = kernel.instance else {
            // Nothing of an earlier life's can be told to be done: whoever waited is gone, or is told so.
            for event in early { self.kernel(.done(event: event.id, .fenced)) }
            early = []
            remap()
            return
        }
        self.instance = instance
        self.clients = clients
        barrier = kernel.barrier
        lease.state = !kernel.lapsed && now < kernel.until ? .armed : .over
        lease.until = kernel.until
        lease.hold = kernel.hold
        phase = .resuming
        if !keeps(.handOver) { early = [] }
    }

    private mutating func raise(_ event: KernelEvent) {
        // Those of before may come before it is known what the kernel holds.
        if phase == .detached || phase == .resuming { early.append(event) } else { begin(event) }
    }

    private mutating func applied(_ task: TaskID, _ code: UInt32) {
        guard let work = tasks.removeValue(forKey: task) else { return }
        switch work {
        case .states:
            if code == 0 { statesLoaded = true }
        case .barrier(let epoch):
            barrierTask = nil
            if code == 0 { barrier = max(barrier, epoch) }
        case .event(let origin, let id): applied(event: id, of: origin, task, code: code)
        case .quiesce, .remap, .report: break
        }
    }

    /// Ends the lease, drops the sessions and settles what is in flight; then `next`.
    mutating func quiesce(_ next: Phase.Next, _ why: Quiesce) {
        lease.state = .over
        statesLoaded = false
        tasks = tasks.filter { $0.value != .quiesce && $0.value != .states }
        phase = .quiescing(next)
        kernel(.quiesce(begin(.quiesce), why))
    }

    private mutating func quiesced(_ task: TaskID) {
        guard tasks.removeValue(forKey: task) == .quiesce, case .quiescing(let next) = phase else { return }
        lease.orphans = .none
        lease.orphansSince = nil
        switch next {
        case .arm: phase = .arming
        case .depart: phase = .departing
        case .remap:
            if isLeaving {
                leave()
            } else if keeps(.newInstance) {
                remap()
            } else {
                instance += 1 << 32
                phase = .joining
            }
        }
        applyUnsettled()
    }

    private mutating func remap() {
        instance = 0
        barrier = 0
        barrierTask = nil
        pending = [:]
        tasks = [:]
        fences = [:]
        phase = .mapping
        kernel(.remap(begin(.remap)))
    }

    private mutating func remapped(_ task: TaskID, _ instance: UInt64, _ clients: [String]) {
        guard tasks.removeValue(forKey: task) == .remap else { return }
        self.instance = instance
        self.clients = clients
        nameInUse = false
        joiningSince = now
        watch = Watch(lostAt: now)
        phase = .joining
        if !keeps(.recordBeforeStates) { loadStates() }
        lookAgain()
    }

    /// Some other node, or this one itself, has ended this client instance. Nothing it began can be finished in its name.
    private mutating func becomeFenced() {
        guard speaks else { return }
        notice(.fenced)
        for id in outgoing.keys.sorted() + early.map(\.id) { kernel(.done(event: id, .fenced)) }
        outgoing = [:]
        early = []
        incoming = [:]
        for waiter in barrierWaiters { acknowledge(waiter.notification, []) }
        barrierWaiters = []
        forced = []
        mine = nil
        lease.reset()
        quiesce(.remap, .fenced)
    }

    private mutating func leave() {
        mine = nil
        phase = .left
        notice(.left)
    }

    private mutating func loadStates() {
        _ = apply(.states, for: .states)
    }

    /// A joiner writes its record first and reads the states afterwards.
    private mutating func pursueStates() {
        guard phase == .arming, !statesLoaded, !tasks.values.contains(.states) else { return }
        loadStates()
    }
}

// MARK: - RADOS

extension Machine {
    private mutating func replied(_ id: RequestID, _ reply: Reply) {
        guard let purpose = pending.removeValue(forKey: id) else { return }
        if reply == .failed(.blocklisted) {
            becomeFenced()
            return
        }
        switch purpose {
        case .watch:
            watch.isEstablished = reply == .watching && !watch.isSpoiled
            watch.isSpoiled = false
            watch.retryAt = now.advanced(by: schedule.retry)
        case .read(let sentAt, let turn):
            readDueAt = now.advanced(by: schedule.retry)
            if case .members(let snapshot) = reply { observed(snapshot, sentAt: sentAt, turn: turn) }
        case .renewal(let sentAt, let beat): renewed(reply, sentAt: sentAt, beat: beat)
        case .record:
            recordTurn = turn
            recordRetryAt = now.advanced(by: schedule.retry)
            if reply == .swapped { sendHint = true }
            lookAgain()
        case .fence(let name), .blocklist(let name): fenced(name, reply)
        case .round(let owner): answered(owner, reply)
        case .hint: break
        }
    }

    private mutating func pursueWatch() {
        guard !watch.isEstablished, !isPending(.watch), isDue(watch.retryAt) else { return }
        request(.watch, for: .watch)
    }

    private mutating func pursueRead() {
        guard !isPending(.read) else { return }
        guard readWanted != nil || isDue(readDueAt) else { return }
        readWanted = nil
        request(.read, for: .read(sentAt: now, turn: turn))
    }

    private mutating func pursueHint() {
        guard sendHint, !isPending(.hint) else { return }
        sendHint = false
        let origin = me ?? Member(node: node, instance: instance)
        request(.notify(Message.look(origin: origin).encoded, timeout: schedule.notifyTimeout), for: .hint)
    }

    private mutating func observed(_ snapshot: Snapshot, sentAt: Instant, turn: UInt64) {
        readDueAt = sentAt.advanced(by: schedule.poll)
        guard membership.observe(snapshot, sentAt: sentAt, turn: turn, now: now, schedule) else { return }
        pruneIncoming(snapshot)
        updateFences(snapshot)
        forced = forced.filter { snapshot.members[$0.node]?.instance == $0.instance }
        let record = snapshot.members[node]
        let isMine = record?.instance == instance
        switch phase {
        case .resuming:
            guard let record, isMine, record.isLive else { return becomeFenced() }
            if record.clients == clients { resume(record) }
        case .joining:
            guard isMine else { return checkName() }
            guard let record, record.isLive else { return becomeFenced() }
            adopt(record)
            phase = .arming
            notice(.joined(instance: instance))
        case .arming, .serving, .quiescing:
            guard let record, isMine, record.isLive else { return becomeFenced() }
            adopt(record)
        case .departing:
            guard let record, isMine, record.isLive else { return leave() }
            adopt(record)
        case .detached, .mapping, .left: break
        }
    }

    /// The record is this node's word and the only one: what it says is so, whatever became of the request that wrote it.
    private mutating func adopt(_ record: Record) {
        mine = record
        if lease.beat == nil, !isPending(.renewal) { know(membership.snapshot?.beats[node]) }
    }

    private mutating func resume(_ record: Record) {
        if lease.state == .armed {
            phase = .serving
            statesLoaded = true
            notice(.serving(epoch: lease.epoch))
        } else {
            notice(.lapsed)
            quiesce(.arm, .lapsed)
        }
        adopt(record)
        let events = early
        early = []
        for event in events { begin(event) }
    }

    private mutating func checkName() {
        // Marks from before are of this node's own beats.
        guard !nameInUse, let peer = membership.peers[node],
            let first = peer.marks.first(where: { $0.sentAt >= joiningSince }), first.beat != peer.beat
        else {
            return
        }
        nameInUse = true
        notice(.nameInUse)
    }

    /// The own record: join, resume, give up, leave. Each is tried until a read shows it done.
    private mutating func pursueRecord() {
        guard let snapshot = membership.snapshot, !isPending(.record) else { return }
        guard membership.turn >= recordTurn else { return look(since: recordTurn) }
        let record = snapshot.members[node]
        switch phase {
        case .joining:
            if isLeaving { return leave() }
            guard watch.isEstablished, record?.isSettled ?? true else { return }
            let joined = Record(instance: instance, clients: clients, fencedBefore: record?.fenceEpoch ?? 0)
            change(from: record, to: joined, and: [.beat(node, 1)])
        case .resuming:
            guard watch.isEstablished, var resumed = record else { return }
            resumed.clients = clients
            change(from: record, to: resumed)
        case .arming, .serving:
            guard let mine else { return }
            if shouldGiveUp(snapshot) {
                change(from: mine, to: mine.with(.fenced(.marked, by: node)))
            } else if isLeaving {
                if mine.state == .up { change(from: mine, to: mine.with(.leaving)) } else { quiesce(.depart, .leaving) }
            }
        case .quiescing(.depart):
            if let mine, shouldGiveUp(snapshot) { change(from: mine, to: mine.with(.fenced(.marked, by: node))) }
        case .departing:
            guard let mine, outgoing.isEmpty else { return }
            let epoch = mine.fencedBefore
            // Later joiners must learn of that epoch as long as this name is known.
            let rest = epoch == 0 ? nil : mine.with(.fenced(.settled(epoch: epoch), by: node))
            change(from: mine, to: rest, and: [.beat(node, nil)])
        case .detached, .quiescing, .mapping, .left: break
        }
    }

    private mutating func change(from old: Record?, to new: Record?, and changes: [Change] = []) {
        guard isDue(recordRetryAt) else { return }
        request(.swap(Swap(guards: [.member(node, old)], changes: [.member(node, new)] + changes)), for: .record)
    }

    /// Writes of dropped sessions do not settle, and others wait: only the end of this client instance settles them.
    private mutating func shouldGiveUp(_ snapshot: Snapshot) -> Bool {
        guard keeps(.noBeatOverOrphans), let since = lease.orphansSince,
            snapshot.members.contains(where: { $0.key != node && $0.value.isLive })
        else { return false }
        return isDue(since.advanced(by: schedule.orphanGrace))
    }
}
