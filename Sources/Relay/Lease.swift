// SPDX-License-Identifier: Apache-2.0

/// This node's lease: what the kernel has been told, and what it takes to go on.
struct Lease: Sendable {
    /// Number of the lease that the kernel holds or held last; each arming takes the next.
    var epoch: UInt64 = 0
    var state = State.over
    /// End of the lease as the kernel knows it, or has been told to.
    var until = Instant(nanoseconds: 0)
    /// End of the lease that the last renewal allows: L after the moment before it was sent.
    var earned: Instant?
    /// Until when the peers' signs of life allow submission, as the kernel knows it. Only ever grows: what was proved stays
    /// proved.
    var hold = Instant(nanoseconds: 0)
    /// This node's beat in RADOS, if that is known for certain.
    var beat: UInt64?
    var renewDueAt = Instant(nanoseconds: 0)
    /// Since when writes of dropped sessions have been in flight.
    var orphansSince: Instant?
    var orphans = Orphans.none

    /// Forgets everything but the epoch: another instance begins.
    mutating func reset() {
        self = Lease(epoch: epoch)
    }

    init(epoch: UInt64 = 0) { self.epoch = epoch }

    /// What the kernel does with the lease of this epoch.
    enum State: Hashable, Sendable {
        /// It holds none. Once `until` has passed that is so, whatever arrives later.
        case over
        /// It has been told to hold one and has not answered: it may submit commands already, or refuse.
        case asked
        case armed
    }
}

/// What is known of writes of dropped sessions since the beat at hand was known to have landed. Peers take the next beat
/// for a proof that there were none.
enum Orphans: Hashable, Sendable {
    case unknown
    case asked(TaskID)
    case none
    /// There are some; ask again.
    case some(askAt: Instant)
}

extension Machine {
    /// **Lapse is sticky.** Called before anything else is looked at: a reply that comes after the end finds no lease to
    /// extend.
    mutating func lapseIfDue() {
        if lease.state != .over && now >= lease.until { lapse() }
    }

    /// The lease is over. The kernel refuses commands from here on; drop the sessions, settle what is in flight, and only
    /// then start again.
    mutating func lapse() {
        lease.state = .over
        switch phase {
        case .serving: notice(.lapsed)
        case .arming: break
        default: return
        }
        // The next one takes another renewal, so that a kernel that refuses is not asked all the time.
        lease.earned = nil
        if keeps(.stickyLapse) {
            quiesce(.arm, .lapsed)
        } else {
            phase = .arming
            statesLoaded = true
        }
    }

    /// One renewal at a time: see ``Membership/Peer/note(_:sentAt:)`` for what hangs on that.
    mutating func pursueRenewal() {
        guard let mine, renews, !isPending(.renewal) else { return }
        if keeps(.noBeatOverOrphans), lease.orphans != .none { return }
        if keeps(.deafnessEndsLease), !watch.isEstablished {
            // It returns through the watch.
            let end = watch.lostAt.advanced(by: schedule.lease)
            if now >= end { return }
        }
        guard let beat = lease.beat else { return }
        guard isDue(lease.renewDueAt) else { return }
        var guards: [Guard] = [.beat(node, beat)]
        if keeps(.renewalGuarded) { guards.append(.member(node, mine)) }
        // Only somebody else can have written the last number there is.
        let next = beat &+ 1
        request(.swap(Swap(guards: guards, changes: [.beat(node, next)])), for: .renewal(sentAt: now, beat: next))
    }

    /// This node's beat is `beat` for certain.
    mutating func know(_ beat: UInt64?) {
        lease.beat = beat
        switch phase {
        case .serving, .quiescing(.depart): lease.orphans = .unknown
        case .arming where lease.state == .asked: lease.orphans = .unknown
        // Nothing is in flight.
        default: lease.orphans = .none
        }
    }

    /// Asks the kernel for orphans: after each beat that has landed, and while there are any.
    mutating func pursueOrphans() {
        switch lease.orphans {
        case .unknown: break
        case .some(let askAt) where isDue(askAt): break
        case .some, .asked, .none: return
        }
        lease.orphans = .asked(askForOrphans())
    }

    mutating func reported(_ task: TaskID, _ exist: Bool) {
        guard lease.orphans == .asked(task) else { return }
        lease.orphansSince = exist ? lease.orphansSince ?? now : nil
        lease.orphans = exist ? .some(askAt: now.advanced(by: schedule.retry)) : .none
    }

    mutating func renewed(_ reply: Reply, sentAt: Instant, beat: UInt64) {
        guard renews else { return }
        switch reply {
        case .swapped:
            know(beat)
            lease.renewDueAt = sentAt.advanced(by: schedule.renew)
            let start = keeps(.leaseFromSend) ? sentAt : now
            let earned = start.advanced(by: schedule.lease)
            lease.earned = max(lease.earned ?? earned, earned)
            if lease.state == .armed {
                lease.until = max(lease.until, earned)
                tellKernel()
            }
        case .mismatch, .failed:
            // It may have landed all the same. Look before the next one.
            lease.beat = nil
            lookAgain()
            lease.renewDueAt = now.advanced(by: schedule.retry)
        default: break
        }
    }

    /// Whether the phase is one in which this node renews its lease.
    var renews: Bool {
        switch phase {
        case .arming, .serving, .quiescing(.depart), .departing: mine != nil
        case .detached, .resuming, .quiescing, .mapping, .joining, .left: false
        }
    }

    /// Has the kernel arm once everything that arming needs is there.
    mutating func pursueArming() {
        guard phase == .arming, let mine, statesLoaded else { return }
        guard lease.state == .over else { return wake(lease.until) }
        guard let earned = lease.earned, earned > now else { return }
        guard barrier >= membership.fenceEpoch, raiseHold(), lease.hold > now else {
            return
        }
        lease.epoch += 1
        lease.state = .asked
        lease.until = earned
        kernel(.arm(epoch: lease.epoch, instance: mine.instance, until: lease.until, hold: lease.hold))
        if !keeps(.serveOnKernelsWord) { armed(epoch: lease.epoch, true) }
    }

    /// The kernel has answered. A word on a lease that this node has given up by now changes nothing: what ends it is on its
    /// way to the kernel.
    mutating func armed(epoch: UInt64, _ holds: Bool) {
        guard phase == .arming, lease.state == .asked, epoch == lease.epoch else { return }
        // It refuses while something is left of before, or when it was too late: settle, and begin again.
        guard holds else { return lapse() }
        lease.state = .armed
        phase = .serving
        notice(.serving(epoch: epoch))
        // Renewals have landed in the meantime.
        guard let earned = lease.earned, earned > lease.until else { return }
        lease.until = earned
        tellKernel()
    }

    /// Passes on new evidence before the kernel misses it.
    mutating func pursueHold() {
        guard lease.state == .armed else { return }
        wake(lease.until)
        let told = lease.hold
        guard raiseHold() else { return }
        if told.duration(to: lease.hold) >= schedule.renew { tellKernel() } else { lease.hold = told }
    }

    /// Returns `false` if some peer has given no evidence of life yet.
    private mutating func raiseHold() -> Bool {
        let hold = keeps(.evidence) ? membership.hold(for: node, barrier: barrier, schedule) : .never
        guard let hold else { return false }
        lease.hold = max(lease.hold, hold)
        return true
    }

    private mutating func tellKernel() {
        kernel(.renew(epoch: lease.epoch, until: lease.until, hold: lease.hold))
    }
}
