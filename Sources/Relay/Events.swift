// SPDX-License-Identifier: Apache-2.0

/// A message that every member must answer: sent until each has, or does not count any more.
struct Round: Sendable {
    let message: Message
    let subject: Acknowledgement.Subject
    /// Number of the input that began it: only a read sent then or later shows who must answer.
    let turn: UInt64
    /// Who must still answer; `nil` until the membership has been read.
    var missing: Set<Member>?
    /// Version of the snapshot that `missing` knows.
    var version: UInt64 = 0
    var answers: [Member: UInt32] = [:]
    var sending = false
    var sends = 0
    var resendAt = Instant(nanoseconds: 0)

    init(_ message: Message, subject: Acknowledgement.Subject, turn: UInt64) {
        self.message = message
        self.subject = subject
        self.turn = turn
    }

    var isComplete: Bool { missing?.isEmpty ?? false }

    mutating func take(_ replies: [[UInt8]]) {
        for reply in replies {
            guard let answer = Acknowledgement(decoding: reply), answer.subject == subject else { continue }
            answers[answer.member] = answer.code
            missing?.remove(answer.member)
        }
    }
}

/// An event of this node's kernel on its way round.
struct Outgoing: Sendable {
    let event: KernelEvent
    var round: Round
}

/// An event of another node's that this kernel is doing or has done.
struct Incoming: Sendable {
    enum State: Hashable, Sendable {
        case running(TaskID)
        /// It could not, as its lease is over and something of it still in flight. It does it when all is settled.
        case unsettled
        case done(code: UInt32)
    }

    let payload: [UInt8]
    var state: State
    /// Notifications to acknowledge when it is done. One whose notify has timed out is acknowledged in vain.
    var waiting: [NotificationID] = []

    /// More than this many resends of one event are not remembered.
    static let maximumWaiting = 16
}

// MARK: - This node's events

extension Machine {
    mutating func begin(_ event: KernelEvent) {
        guard let me else {
            kernel(.done(event: event.id, .fenced))
            return
        }
        let floor = min(outgoing.keys.min() ?? event.id, event.id)
        let message = Message.event(origin: me, id: event.id, floor: floor, payload: event.payload)
        let subject = Acknowledgement.Subject.event(origin: me, id: event.id)
        outgoing[event.id] = Outgoing(event: event, round: Round(message, subject: subject, turn: turn))
    }

    /// **Events complete when everyone has done them.**
    mutating func pursueEvents() {
        for id in outgoing.keys.sorted() {
            guard var entry = outgoing[id] else { continue }
            let counted = keeps(.fencedCountsUntilSettled) ? membership.unsettled : membership.live
            entry.round = pursue(entry.round, .event(id), among: counted)
            outgoing[id] = entry
            if isComplete(entry.round) {
                outgoing[id] = nil
                let codes = entry.round.answers.filter { $0.value != 0 }
                let refusals = Dictionary(codes.map { ($0.key.node, $0.value) }, uniquingKeysWith: max)
                kernel(.done(event: id, refusals.isEmpty ? .done : .refused(refusals)))
            } else if let deadline = entry.event.deadline, isDue(deadline) {
                outgoing[id] = nil
                kernel(.done(event: id, .late((entry.round.missing ?? []).map(\.node).sorted())))
            }
        }
    }

    private func isComplete(_ round: Round) -> Bool {
        if keeps(.everyMember) { return round.isComplete }
        guard let missing = round.missing else { return false }
        return missing.count <= 1
    }

    /// Moves a round on: who is missing, and whether it is time to send it (again).
    mutating func pursue(_ round: Round, _ owner: RoundOwner, among members: Set<Member>) -> Round {
        var round = round
        if let version = membership.snapshot?.version, version != round.version {
            if let missing = round.missing {
                round.missing = missing.intersection(members)
                round.version = version
            } else if membership.turn >= round.turn || !keeps(.membershipAfterState) {
                round.missing = members.filter { $0.node != node && round.answers[$0] == nil }
                round.version = version
            }
        }
        if round.missing == nil { look(since: round.turn) }
        let again = round.sends == 0 || keeps(.retransmission)
        if !round.isComplete, !round.sending, again, isDue(round.resendAt) {
            round.sending = true
            round.sends += 1
            request(.notify(round.message.encoded, timeout: schedule.notifyTimeout), for: .round(owner))
        }
        return round
    }

    mutating func answered(_ owner: RoundOwner, _ reply: Reply) {
        func take(_ round: inout Round) {
            round.sending = false
            round.resendAt = now.advanced(by: schedule.retry)
            if case .notified(let replies) = reply { round.take(replies) }
        }
        switch owner {
        case .event(let id):
            if var entry = outgoing[id] {
                take(&entry.round)
                outgoing[id] = entry
            }
        case .barrier(let node, let epoch):
            if var fence = fences[node], var round = fence.round, round.subject == .barrier(epoch: epoch) {
                take(&round)
                fence.round = round
                fences[node] = fence
            }
        }
    }
}

// MARK: - Other nodes' events

extension Machine {
    mutating func receive(_ bytes: [UInt8], _ notification: NotificationID) {
        guard let message = Message(decoding: bytes), message.origin.node != node, let me else {
            acknowledge(notification, [])
            return
        }
        switch message {
        case .look:
            acknowledge(notification, [])
            lookAgain()
        case .barrier(_, let epoch):
            demandedEpoch = max(demandedEpoch, epoch)
            barrierWaiters.append((notification, epoch))
        case .event(let origin, let id, let floor, let payload):
            let answer = Acknowledgement(member: me, subject: .event(origin: origin, id: id))
            let record = membership.snapshot?.members[origin.node]
            if let record, record.instance == origin.instance, !record.isLive {
                // Late news of a dead node: nobody waits for it any more.
                acknowledge(notification, [])
                return
            }
            var events = incoming[origin] ?? [:]
            for old in events where old.key < floor { events[old.key] = nil }
            if id < floor {
                acknowledge(notification, answer.encoded)
            } else if var entry = events[id] {
                switch entry.state {
                case .done(let code):
                    acknowledge(notification, Acknowledgement(member: me, subject: answer.subject, code: code).encoded)
                case .running, .unsettled:
                    if entry.waiting.count < Incoming.maximumWaiting { entry.waiting.append(notification) }
                    events[id] = entry
                }
            } else {
                let task = apply(.event(origin: origin, id: id, payload: payload), for: .event(origin: origin, id: id))
                events[id] = Incoming(payload: payload, state: .running(task), waiting: [notification])
            }
            incoming[origin] = events
        }
    }

    mutating func applied(event id: UInt64, of origin: Member, _ task: TaskID, code: UInt32) {
        guard let me, var entry = incoming[origin]?[id], entry.state == .running(task) else { return }
        // No answer yet: its host would be told that the event has failed, when all it takes is to wait.
        if code != 0, isSettling {
            entry.state = .unsettled
            incoming[origin]?[id] = entry
            return
        }
        incoming[origin]?[id] = Incoming(payload: [], state: .done(code: code))
        let answer = Acknowledgement(member: me, subject: .event(origin: origin, id: id), code: code)
        for notification in entry.waiting { acknowledge(notification, answer.encoded) }
    }

    private var isSettling: Bool {
        switch phase {
        case .quiescing(.arm), .quiescing(.depart): true
        default: false
        }
    }

    /// All is settled: what could not be done because of that can be now.
    mutating func applyUnsettled() {
        for origin in incoming.keys.sorted() {
            let events = (incoming[origin] ?? [:]).filter { $0.value.state == .unsettled }
            for (id, entry) in events.sorted(by: { $0.key < $1.key }) {
                let event = Apply.event(origin: origin, id: id, payload: entry.payload)
                let task = apply(event, for: .event(origin: origin, id: id))
                incoming[origin]?[id]?.state = .running(task)
            }
        }
    }

    /// Forgets the events of instances that are gone.
    mutating func pruneIncoming(_ snapshot: Snapshot) {
        for origin in incoming.keys {
            // Absent may mean: not yet known here. Settled, or another life of the same node: gone.
            guard let record = snapshot.members[origin.node] else { continue }
            let running = incoming[origin]?.values.contains { if case .running = $0.state { true } else { false } }
            if running != true, record.instance == origin.instance, record.isSettled { incoming[origin] = nil }
        }
    }
}
