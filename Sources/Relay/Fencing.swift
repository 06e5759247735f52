// SPDX-License-Identifier: Apache-2.0

/// What this node does about one peer that is dead or being fenced. The truth about how far it has come is the record; a
/// fence is made anew whenever that changes, so any node can go on where another stopped.
struct Fence: Sendable {
    let record: Record
    /// When this node first saw the record like this.
    let since: Instant
    /// Nothing is to be done before.
    var restsUntil = Instant(nanoseconds: 0)
    var busy = false
    var retryAt = Instant(nanoseconds: 0)
    /// The answer to the blocklisting.
    var epoch: UInt32?
    var round: Round?
}

extension Machine {
    /// **Dead peers.**
    mutating func pursueFencing() {
        switch phase {
        case .joining, .arming, .serving, .quiescing(.depart), .departing: break
        case .detached, .resuming, .quiescing, .mapping, .left: return
        }
        guard let snapshot = membership.snapshot else { return }
        var due: [String] = []
        for (name, fence) in fences where !fence.busy && (name != node || mine == nil) {
            if isDue(max(fence.restsUntil, fence.retryAt)) { due.append(name) }
        }
        for name in due.sorted() {
            if let fence = fences[name] { fences[name] = pursue(fence, name, snapshot) }
        }
    }

    /// A fence for each record that is not settled; a new one for each that has changed.
    mutating func updateFences(_ snapshot: Snapshot) {
        for name in fences.keys where snapshot.members[name] == nil { fences[name] = nil }
        for (name, record) in snapshot.members where fences[name]?.record != record {
            fences[name] = record.isSettled ? nil : Fence(record: record, since: now)
        }
    }

    private mutating func pursue(_ fence: Fence, _ name: String, _ snapshot: Snapshot) -> Fence {
        var fence = fence
        let record = fence.record
        switch record.state {
        case .up, .leaving:
            guard let guards = reasonToMark(&fence, name, snapshot) else { break }
            notice(.peerDead(name))
            let marked = record.with(.fenced(.marked, by: node))
            fence.busy = swap(guards + [.member(name, record)], [.member(name, marked)], name)
        case .fenced(.marked, let by):
            guard isMyTurn(&fence, by) else { break }
            if let epoch = fence.epoch {
                let blocklisted = record.with(.fenced(.blocklisted(epoch: epoch), by: node))
                fence.busy = swap([.member(name, record)], [.member(name, blocklisted)], name)
            } else if keeps(.blocklist) {
                fence.busy = true
                request(.blocklist(record.clients), for: .blocklist(name))
            } else {
                fence.epoch = max(1, membership.fenceEpoch)
                wake(now)
            }
        case .fenced(.blocklisted(let epoch), let by):
            guard isMyTurn(&fence, by) else { break }
            if keeps(.barrier) {
                // Who is being fenced needs no barrier: until it is settled, everything waits for it on its own account.
                let origin = me ?? Member(node: node, instance: instance)
                let round =
                    fence.round
                    ?? Round(.barrier(origin: origin, epoch: epoch), subject: .barrier(epoch: epoch), turn: turn)
                fence.round = pursue(round, .barrier(name, epoch), among: membership.live)
                guard let round = fence.round, round.isComplete, barrier >= epoch || mine == nil else { break }
            }
            let end = membership.leaseEnd(of: name, schedule)
            guard isDue(end) || !keeps(.leaseWaitedOut) else { break }
            let settled = record.with(.fenced(.settled(epoch: epoch), by: node))
            fence.busy = swap([.member(name, record)], [.member(name, settled)], name)
        case .fenced(.settled, _): break
        }
        return fence
    }

    /// The guards under which a live record may be marked now, or `nil`. If the beat has moved after all, nothing happens.
    private mutating func reasonToMark(_ fence: inout Fence, _ name: String, _ snapshot: Snapshot) -> [Guard]? {
        let record = fence.record
        guard let peer = membership.peers[name] else { return nil }
        let beat = Guard.beat(name, snapshot.beats[name])
        guard let mine else {
            // Members go first, if there are any; after a failure of all there are none. An older life of this node's
            // own is over, unless its beat moves: then somebody else has this name.
            guard phase == .joining, record.instance != instance else { return nil }
            let silence = name == node ? schedule.renew * 3 : schedule.dead + schedule.takeover
            fence.restsUntil = peer.seenAt.advanced(by: silence)
            guard isDue(fence.restsUntil), !membership.isBlind(at: now, schedule) else { return nil }
            return [.member(node, snapshot.members[node]), beat]
        }
        // One that RADOS does not answer cannot tell the others' silence from its own.
        guard let earned = lease.earned, now < earned else { return nil }
        if forced.contains(Member(node: name, instance: record.instance)) { return [.member(node, mine)] }
        fence.restsUntil = peer.seenAt.advanced(by: schedule.dead)
        guard isDue(fence.restsUntil), !membership.isBlind(at: now, schedule) else { return nil }
        return [.member(node, mine), beat]
    }

    /// Who took a step goes on; if it rests, the others take over one after the other.
    private mutating func isMyTurn(_ fence: inout Fence, _ by: String) -> Bool {
        if by == node { return true }
        let rank = membership.live.count { $0.node < node }
        let wait = membership.live.contains { $0.node == by } ? schedule.takeover : .zero
        fence.restsUntil = fence.since.advanced(by: wait + schedule.takeoverStep * rank)
        return isDue(fence.restsUntil)
    }

    private mutating func swap(_ guards: [Guard], _ changes: [Change], _ name: String) -> Bool {
        request(.swap(Swap(guards: guards, changes: changes)), for: .fence(name))
        return true
    }

    mutating func fenced(_ name: String, _ reply: Reply) {
        guard var fence = fences[name] else { return }
        fence.busy = false
        switch reply {
        case .swapped:
            // The read that shows it makes the next fence.
            fence.retryAt = now.advanced(by: schedule.retry)
            sendHint = true
        case .blocklisted(let epoch):
            fence.epoch = epoch
            notice(.peerFenced(name, epoch: epoch))
        default:
            fence.retryAt = now.advanced(by: schedule.retry)
        }
        fences[name] = fence
        lookAgain()
    }

    /// Own barrier: as high as any record or message demands.
    mutating func pursueBarrier() {
        guard instance != 0, keeps(.barrier) else {
            barrier = max(barrier, membership.fenceEpoch)
            return
        }
        let epoch = max(demandedEpoch, membership.fenceEpoch)
        if barrier < epoch, barrierTask == nil {
            barrierTask = apply(.barrier(epoch: epoch), for: .barrier(epoch))
        }
        for (notification, epoch) in barrierWaiters where epoch <= barrier {
            guard let me else { break }
            acknowledge(notification, Acknowledgement(member: me, subject: .barrier(epoch: epoch)).encoded)
        }
        barrierWaiters.removeAll { $0.epoch <= barrier }
    }
}
