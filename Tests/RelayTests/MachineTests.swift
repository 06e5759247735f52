// SPDX-License-Identifier: Apache-2.0

import ClusterModel
import Testing

@testable import Relay

/// One machine on a table: its group object, its kernel and its time are in the test's hands.
private struct Table {
    var machine = Machine(node: "a", timing: Timing())
    var now = Instant(nanoseconds: 1_000_000_000)
    var group = Snapshot(version: 1)
    /// What it wanted, apart from requests to RADOS.
    var effects: [Effect] = []
    /// Requests without an answer.
    var open: [(id: RequestID, request: Request)] = []
    /// Whether a request is answered at once.
    var isAnswered: (Request) -> Bool = { _ in true }
    /// Whether the kernel does what it is told at once.
    var kernelWorks = true
    /// Whether it answers when it is told to hold a lease, and what.
    var kernelArms: Bool? = true
    /// What the kernel says when asked.
    var hasOrphans = false
    var kernelReports = true
    /// Peers whose beat moves.
    var alive: Set<String> = []
    private var lastInstance: UInt64 = 100
    private var beatAt = Instant(nanoseconds: 0)

    mutating func give(_ input: Input) {
        var inputs = [input]
        while !inputs.isEmpty {
            for effect in machine.handle(inputs.removeFirst(), now: now) {
                switch effect {
                case .rados(let id, let request):
                    if isAnswered(request) {
                        inputs.append(.reply(id, answer(request)))
                    } else {
                        open.append((id, request))
                    }
                case .kernel(let command):
                    effects.append(effect)
                    if let answer = obey(command) { inputs.append(answer) }
                case .acknowledge, .notice: effects.append(effect)
                }
            }
        }
    }

    mutating func answer(_ request: Request) -> Reply {
        switch request {
        case .watch: return .watching
        case .read: return .members(group)
        case .notify: return .notified([])
        case .blocklist: return .blocklisted(epoch: 7)
        case .swap(let swap):
            for guarded in swap.guards {
                switch guarded {
                case .member(let name, let record): if group.members[name] != record { return .mismatch }
                case .beat(let name, let beat): if group.beats[name] != beat { return .mismatch }
                }
            }
            for change in swap.changes {
                switch change {
                case .member(let name, let record): group.members[name] = record
                case .beat(let name, let beat): group.beats[name] = beat
                }
            }
            group.version += 1
            return .swapped
        }
    }

    private mutating func obey(_ command: KernelCommand) -> Input? {
        if case .report(let task) = command { return kernelReports ? .orphans(task, hasOrphans) : nil }
        guard kernelWorks else { return nil }
        switch command {
        case .apply(let task, _): return .applied(task, code: 0)
        case .quiesce(let task, _): return .quiesced(task)
        case .remap(let task):
            lastInstance += 1
            return .remapped(task, instance: lastInstance, clients: ["krbd-\(lastInstance)", "relay-\(lastInstance)"])
        case .arm(let epoch, _, _, _): return kernelArms.map { .armed(epoch: epoch, $0) }
        case .renew, .report, .done: return nil
        }
    }

    /// Lets time pass, with beats of who is alive.
    mutating func pass(_ duration: Duration) {
        let end = now.advanced(by: duration)
        while now < end {
            let next = min(machine.wakeAt, beatAt, end)
            now = max(now, next)
            if now >= beatAt {
                for name in alive { group.beats[name, default: 0] += 1 }
                group.version += 1
                beatAt = now.advanced(by: .seconds(1))
            }
            if machine.wakeAt <= now { give(.tick) }
        }
    }

    mutating func addPeer(_ name: String, instance: UInt64 = 1) {
        group.members[name] = Record(instance: instance, clients: ["krbd-of-\(name)"])
        group.beats[name] = 1
        group.version += 1
        alive.insert(name)
    }

    mutating func serve(with peers: [String] = []) {
        for peer in peers { addPeer(peer) }
        give(.attached(KernelState(), clients: ["relay-0"]))
        pass(.seconds(5))
        effects = []
    }

    var commands: [KernelCommand] { effects.compactMap { if case .kernel(let command) = $0 { command } else { nil } } }

    var leases: [UInt64] { commands.compactMap { if case .arm(let epoch, _, _, _) = $0 { epoch } else { nil } } }

    var notices: [Notice] { effects.compactMap { if case .notice(let notice) = $0 { notice } else { nil } } }

    var acknowledgements: [[UInt8]] {
        effects.compactMap { if case .acknowledge(_, let bytes) = $0 { bytes } else { nil } }
    }

    var outcomes: [UInt64: Outcome] {
        var out: [UInt64: Outcome] = [:]
        for case .done(let event, let outcome) in commands { out[event] = outcome }
        return out
    }

    /// Requests that are open and are renewals.
    var openRenewals: [(id: RequestID, swap: Swap)] {
        open.compactMap { entry in
            if case .swap(let swap) = entry.request, swap.isRenewal { (entry.id, swap) } else { nil }
        }
    }
}

extension Request {
    fileprivate var isRenewal: Bool { if case .swap(let swap) = self { swap.isRenewal } else { false } }
    fileprivate var isNotify: Bool { if case .notify = self { true } else { false } }
}

extension Swap {
    fileprivate var isRenewal: Bool {
        changes.count == 1 && changes.allSatisfy { if case .beat = $0 { true } else { false } }
    }
}

@Suite struct MachineTests {
    // MARK: Joining

    @Test func joinsWithItsRecordBeforeItReadsStates() {
        var table = Table()
        table.give(.attached(KernelState(), clients: ["relay-0"]))
        #expect(table.machine.phase == .serving)
        #expect(table.group.members["a"] == Record(instance: 101, clients: ["krbd-101", "relay-101"]))
        let joined = table.effects.firstIndex(of: .notice(.joined(instance: 101)))
        let states = table.effects.firstIndex { if case .kernel(.apply(_, .states)) = $0 { true } else { false } }
        let armed = table.effects.firstIndex { if case .kernel(.arm) = $0 { true } else { false } }
        #expect(joined ?? .max < states ?? -1)
        #expect(states ?? .max < armed ?? -1)
    }

    @Test func waitsForSignsOfLifeOfEveryPeer() {
        var table = Table()
        table.addPeer("b")
        table.alive = []
        table.give(.attached(KernelState(), clients: []))
        table.pass(.seconds(3))
        #expect(table.machine.phase == .arming)
        table.alive = ["b"]
        table.pass(.seconds(4))
        #expect(table.machine.phase == .serving)
    }

    @Test func takesOverFromADeadGroup() {
        // A power failure of all: the others' records are up, and nobody renews them.
        var table = Table()
        table.addPeer("b")
        table.group.members["a"] = Record(instance: 1, clients: ["krbd-1"])
        table.group.beats["a"] = 9
        table.alive = []
        table.give(.attached(KernelState(), clients: []))
        table.pass(.seconds(30))
        #expect(table.machine.phase == .serving)
        #expect(table.group.members["b"]?.isSettled == true)
        #expect(table.group.members["a"]?.fencedBefore == 7)
    }

    @Test func leavesAnotherNodeOfItsNameAlone() {
        var table = Table()
        table.addPeer("a", instance: 55)
        table.give(.attached(KernelState(), clients: []))
        table.pass(.seconds(60))
        #expect(table.machine.phase == .joining)
        #expect(table.group.members["a"]?.instance == 55)
        #expect(table.notices.filter { $0 == .nameInUse }.count == 1)
    }

    // MARK: Lease

    @Test func renewalComparesTheRecord() {
        var table = Table()
        table.serve()
        table.isAnswered = { !$0.isRenewal }
        table.pass(.seconds(2))
        #expect(table.openRenewals.count == 1)
        let guards = table.openRenewals.first?.swap.guards ?? []
        #expect(guards.contains(.member("a", table.group.members["a"])))
        #expect(guards.contains { if case .beat("a", .some) = $0 { true } else { false } })
    }

    @Test func leaseRunsFromBeforeTheRenewalWasSent() {
        var table = Table()
        table.serve()
        table.isAnswered = { !$0.isRenewal }
        table.pass(.milliseconds(1500))
        let sentAt = table.machine.lease.renewDueAt
        guard let renewal = table.openRenewals.first else { return #expect(Bool(false)) }
        table.pass(.seconds(1))
        table.give(.reply(renewal.id, table.answer(.swap(renewal.swap))))
        guard
            case .renew(_, let until, _)? = table.commands.last(where: { if case .renew = $0 { true } else { false } })
        else { return #expect(Bool(false)) }
        #expect(until == sentAt.advanced(by: .seconds(5)))
    }

    @Test func replyAfterTheEndRevivesNothing() {
        var table = Table()
        table.serve()
        table.isAnswered = { !$0.isRenewal }
        table.pass(.milliseconds(1500))
        guard let renewal = table.openRenewals.first else { return #expect(Bool(false)) }
        table.effects = []
        // Frozen, while the reply waits in a socket.
        table.now = table.now.advanced(by: .seconds(6))
        table.kernelWorks = false
        table.give(.reply(renewal.id, .swapped))
        #expect(table.machine.phase == .quiescing(.arm))
        #expect(!table.commands.contains { if case .renew = $0 { true } else { false } })
    }

    @Test func uncertainRenewalIsLookedIntoFirst() {
        var table = Table()
        table.serve()
        table.isAnswered = { !$0.isRenewal }
        table.pass(.milliseconds(1500))
        guard let renewal = table.openRenewals.first else { return #expect(Bool(false)) }
        // It has landed; the answer was lost.
        #expect(table.answer(.swap(renewal.swap)) == .swapped)
        table.open = []
        table.give(.reply(renewal.id, .failed(.unavailable)))
        table.pass(.seconds(1))
        #expect(table.openRenewals.first?.swap.guards.contains(.beat("a", table.group.beats["a"])) == true)
    }

    @Test func armsAgainAfterALapse() {
        var table = Table()
        table.serve()
        table.isAnswered = { _ in false }
        table.pass(.seconds(6))
        #expect(table.notices.contains(.lapsed))
        #expect(table.commands.contains { if case .quiesce(_, .lapsed) = $0 { true } else { false } })
        table.isAnswered = { _ in true }
        for entry in table.open { table.give(.reply(entry.id, .failed(.unavailable))) }
        table.pass(.seconds(2))
        #expect(table.machine.phase == .serving)
        #expect(table.machine.status.epoch == 2)
    }

    @Test func servesOnTheKernelsWord() {
        var table = Table()
        table.kernelArms = nil
        table.addPeer("b")
        table.give(.attached(KernelState(), clients: []))
        while table.leases.isEmpty { table.pass(.milliseconds(100)) }
        table.pass(.milliseconds(1500))
        guard let order = table.commands.last(where: { if case .arm = $0 { true } else { false } }),
            case .arm(let epoch, _, let until, _) = order
        else { return #expect(Bool(false)) }
        #expect(table.machine.phase == .arming)
        #expect(table.machine.status.until == nil)
        table.give(.armed(epoch: epoch - 1, true))
        #expect(table.machine.phase == .arming)
        #expect(!table.notices.contains(.serving(epoch: epoch)))
        table.give(.armed(epoch: epoch, true))
        #expect(table.machine.phase == .serving)
        #expect(table.notices.last == .serving(epoch: epoch))
        // What has been earned in the meantime counts.
        guard let now = table.machine.status.until else { return #expect(Bool(false)) }
        #expect(now > until)
        #expect(table.commands.contains { if case .renew(epoch, now, _) = $0 { true } else { false } })
    }

    @Test func beatsWhileTheKernelArms() {
        var table = Table()
        table.kernelArms = nil
        table.give(.attached(KernelState(), clients: []))
        let beat = table.group.beats["a"] ?? 0
        table.pass(.milliseconds(4500))
        #expect(table.leases == [1])
        #expect(table.group.beats["a"] ?? 0 >= beat + 4)
        // The kernel may have armed already: its commands may be some of sessions that are gone.
        table.hasOrphans = true
        table.pass(.milliseconds(400))
        #expect(table.commands.contains { if case .report = $0 { true } else { false } })
        #expect(!table.commands.contains { if case .renew = $0 { true } else { false } })
    }

    @Test func settlesAndAsksAgainWhenTheKernelRefuses() {
        var table = Table()
        table.kernelArms = false
        table.give(.attached(KernelState(), clients: []))
        table.pass(.seconds(10))
        #expect(table.machine.phase == .arming)
        #expect(table.notices == [.joined(instance: 101)])
        // Not all the time.
        #expect(table.leases.count >= 5 && table.leases.count <= 12)
        #expect(table.leases == Array(1...UInt64(table.leases.count)))
        let settled = table.commands.filter { if case .quiesce(_, .lapsed) = $0 { true } else { false } }
        #expect(settled.count == table.leases.count)
        table.kernelArms = true
        table.pass(.seconds(2))
        #expect(table.machine.phase == .serving)
    }

    @Test func wordOnALeaseThatIsOverChangesNothing() {
        var table = Table()
        table.kernelArms = nil
        table.give(.attached(KernelState(), clients: []))
        table.pass(.milliseconds(5500))
        // The first one's end has come without an answer.
        #expect(table.commands.contains { if case .quiesce(_, .lapsed) = $0 { true } else { false } })
        #expect(table.leases == [1, 2])
        for holds in [true, false] { table.give(.armed(epoch: 1, holds)) }
        #expect(table.machine.phase == .arming)
        table.give(.armed(epoch: 2, true))
        #expect(table.machine.phase == .serving)
        #expect(table.notices == [.joined(instance: 101), .serving(epoch: 2)])
    }

    // MARK: Fencing

    @Test func fencesASilentPeer() {
        var table = Table()
        table.serve(with: ["b"])
        table.alive = []
        let start = table.now
        while table.group.members["b"]?.isSettled == false { table.pass(.milliseconds(100)) }
        let took = start.duration(to: table.now)
        #expect(took > .seconds(6) && took < .seconds(9))
        #expect(table.commands.contains { if case .apply(_, .barrier(epoch: 7)) = $0 { true } else { false } })
    }

    /// Somebody writes numbers over the beats that no relay has. Nobody is fenced for it, and the relays go on.
    @Test(arguments: [0, 1, UInt64.max - 1, .max]) func beatsOfStrangers(beat: UInt64) {
        var table = Table()
        table.serve(with: ["b"])
        table.pass(.seconds(5))
        table.alive = []
        for _ in 0..<20 {
            for name in ["a", "b"] { table.group.beats[name] = beat }
            table.group.version += 1
            table.pass(.milliseconds(700))
            table.group.beats["b"] = beat &+ 1
            table.group.version += 1
            table.pass(.milliseconds(700))
        }
        table.alive = ["b"]
        table.group.beats["b"] = 7
        table.pass(.seconds(10))
        #expect(table.machine.phase == .serving)
        #expect(table.group.members["b"]?.state == .up)
        #expect(table.machine.status.hold.map { table.now < $0 } == true, "b's signs of life count again")
    }

    @Test func barrierNeedsEveryLiveMember() {
        var table = Table()
        table.serve(with: ["b", "c"])
        table.alive = ["c"]
        table.pass(.seconds(12))
        // c has not said that it demands the epoch.
        #expect(table.group.members["b"]?.state == .fenced(.blocklisted(epoch: 7), by: "a"))
    }

    @Test func operatorsWordFencesALivePeer() {
        var table = Table()
        table.serve(with: ["b"])
        table.give(.fence(node: "b"))
        #expect(table.group.members["b"]?.isLive == false)
        // Its lease may still run.
        table.pass(.seconds(3))
        #expect(table.group.members["b"]?.isSettled == false)
        table.alive = []
        table.pass(.seconds(6))
        #expect(table.group.members["b"]?.isSettled == true)
    }

    @Test func fencedNodeComesBackAsAnother() {
        var table = Table()
        table.serve(with: ["b"])
        table.give(.event(KernelEvent(id: 1, payload: [1])))
        table.group.members["a"]?.state = .fenced(.settled(epoch: 9), by: "b")
        table.group.version += 1
        table.pass(.seconds(5))
        #expect(table.outcomes[1] == .fenced)
        #expect(table.commands.contains { if case .quiesce(_, .fenced) = $0 { true } else { false } })
        #expect(table.machine.phase == .serving)
        #expect(table.group.members["a"]?.instance == 102)
        #expect(table.machine.status.barrier == 9)
    }

    @Test func refusalOfTheClientIsFencing() {
        var table = Table()
        table.serve()
        table.isAnswered = { !$0.isRenewal }
        table.kernelWorks = false
        table.pass(.milliseconds(1500))
        guard let renewal = table.openRenewals.first else { return #expect(Bool(false)) }
        table.give(.reply(renewal.id, .failed(.blocklisted)))
        #expect(table.machine.phase == .quiescing(.remap))
    }

    @Test func orphansStopTheBeatAndThenTheInstance() {
        var table = Table()
        table.serve(with: ["b"])
        table.hasOrphans = true
        table.pass(.seconds(1))
        let beat = table.group.beats["a"]
        table.pass(.milliseconds(900))
        #expect(table.group.beats["a"] == beat)
        #expect(table.group.members["a"]?.isLive == true)
        table.pass(.milliseconds(400))
        #expect(table.group.members["a"]?.isLive == false)
    }

    @Test func shortOrphansOnlyDelayTheBeat() {
        var table = Table()
        table.serve(with: ["b"])
        table.hasOrphans = true
        table.pass(.milliseconds(1500))
        table.hasOrphans = false
        table.pass(.seconds(20))
        #expect(table.machine.phase == .serving)
        #expect(table.machine.status.instance == 101)
    }

    @Test func nextBeatWaitsForTheKernelsWord() {
        var table = Table()
        table.serve(with: ["b"])
        table.kernelReports = false
        table.effects = []
        let beat = table.group.beats["a"] ?? 0
        table.pass(.milliseconds(4500))
        #expect(table.group.beats["a"] == beat + 1)
        let questions = table.commands.compactMap { if case .report(let task) = $0 { task } else { nil } }
        #expect(questions.count == 1)
        if let task = questions.first { table.give(.orphans(task, false)) }
        #expect(table.group.beats["a"] == beat + 2)
    }

    @Test func eventsBeforeTheFirstInputWait() {
        var table = Table()
        table.group.members["a"] = Record(instance: 42, clients: ["krbd-42"])
        table.group.beats["a"] = 3
        table.give(.event(KernelEvent(id: 8, payload: [1])))
        #expect(table.outcomes.isEmpty)
        let until = table.now.advanced(by: .seconds(3))
        table.give(.attached(KernelState(instance: 42, epoch: 6, until: until, hold: until), clients: ["krbd-42"]))
        #expect(table.outcomes == [8: .done])
    }

    // MARK: Events

    @Test func eventOfALoneNodeIsDoneAtOnce() {
        var table = Table()
        table.serve()
        table.give(.event(KernelEvent(id: 4, payload: [])))
        #expect(table.outcomes == [4: .done])
    }

    @Test func eventWaitsForEachMember() {
        var table = Table()
        table.serve(with: ["b", "c"])
        table.isAnswered = { !$0.isNotify }
        table.give(.event(KernelEvent(id: 4, payload: [1, 2])))
        guard let notify = table.open.first(where: \.request.isNotify), let me = table.machine.me else {
            return #expect(Bool(false))
        }
        func answer(_ name: String, _ code: UInt32) -> [UInt8] {
            let member = Member(node: name, instance: 1)
            return Acknowledgement(member: member, subject: .event(origin: me, id: 4), code: code).encoded
        }
        table.give(.reply(notify.id, .notified([answer("b", 0), [], [1, 2, 3]])))
        #expect(table.outcomes.isEmpty)
        #expect(table.machine.status.events == [4: ["c"]])
        table.open = []
        table.pass(.seconds(1))
        guard let again = table.open.first(where: \.request.isNotify) else { return #expect(Bool(false)) }
        table.give(.reply(again.id, .notified([answer("c", 5)])))
        #expect(table.outcomes == [4: .refused(["c": 5])])
    }

    @Test func eventDoesNotWaitForWhoLeft() {
        var table = Table()
        table.serve(with: ["b"])
        table.give(.event(KernelEvent(id: 4, payload: [])))
        #expect(table.outcomes.isEmpty)
        table.group.members["b"] = nil
        table.group.version += 1
        table.pass(.seconds(1))
        #expect(table.outcomes == [4: .done])
    }

    @Test func deadlineNamesWhoIsMissing() {
        var table = Table()
        table.serve(with: ["b", "c"])
        table.give(.event(KernelEvent(id: 4, payload: [], deadline: table.now.advanced(by: .seconds(2)))))
        table.pass(.seconds(3))
        #expect(table.outcomes == [4: .late(["b", "c"])])
    }

    @Test func eventIsDoneOnceAndAnsweredEachTime() {
        var table = Table()
        table.serve(with: ["b"])
        table.kernelWorks = false
        let origin = Member(node: "b", instance: 1)
        let message = Message.event(origin: origin, id: 9, floor: 9, payload: [3]).encoded
        for id in 1...3 { table.give(.notification(NotificationID(UInt64(id)), message)) }
        let tasks = table.commands.compactMap { if case .apply(let task, .event) = $0 { task } else { nil } }
        #expect(tasks.count == 1)
        #expect(table.acknowledgements.isEmpty)
        if let task = tasks.first { table.give(.applied(task, code: 0)) }
        table.give(.notification(NotificationID(4), message))
        let expected = Acknowledgement(
            member: Member(node: "a", instance: 101), subject: .event(origin: origin, id: 9), code: 0)
        #expect(table.acknowledgements == [[UInt8]](repeating: expected.encoded, count: 4))
    }

    /// A node that leaves, or whose lease has lapsed, while something is in flight: its kernel cannot do what others ask for
    /// before that is settled, and their hosts' resets do not fail because of it.
    @Test(arguments: [true, false]) func eventWaitsForWhatIsSettled(_ leaves: Bool) {
        var table = Table()
        table.serve(with: ["b"])
        table.kernelWorks = false
        if leaves {
            table.give(.leave)
        } else {
            table.give(.lapsed(epoch: 1))
        }
        let settling = table.commands.compactMap { if case .quiesce(let task, _) = $0 { task } else { nil } }
        let origin = Member(node: "b", instance: 1)
        let message = Message.event(origin: origin, id: 9, floor: 9, payload: [3]).encoded
        func tasks() -> [TaskID] {
            table.commands.compactMap { if case .apply(let task, .event(origin, 9, [3])) = $0 { task } else { nil } }
        }
        table.give(.notification(NotificationID(1), message))
        #expect(tasks().count == 1)
        for task in tasks() { table.give(.applied(task, code: 116)) }
        table.give(.notification(NotificationID(2), message))
        #expect(table.acknowledgements.isEmpty)
        #expect(tasks().count == 1)
        // Nothing of the node's is written before the event is answered.
        table.isAnswered = { _ in false }
        for task in settling { table.give(.quiesced(task)) }
        #expect(tasks().count == 2)
        for task in tasks().suffix(1) { table.give(.applied(task, code: 0)) }
        let expected = Acknowledgement(
            member: Member(node: "a", instance: 101), subject: .event(origin: origin, id: 9), code: 0)
        #expect(table.acknowledgements == [[UInt8]](repeating: expected.encoded, count: 2))
    }

    @Test func whoIsNoMemberSaysNothing() {
        var table = Table()
        table.isAnswered = { _ in false }
        table.give(.attached(KernelState(), clients: []))
        let message = Message.event(origin: Member(node: "b", instance: 1), id: 9, floor: 9, payload: []).encoded
        table.give(.notification(NotificationID(1), message))
        #expect(table.acknowledgements == [[]])
    }

    @Test func nonsenseIsAcknowledgedAndForgotten() {
        var table = Table()
        table.serve()
        for bytes in [[], [1], [0xff, 1, 2], [UInt8](repeating: 1, count: 5000)] {
            table.give(.notification(NotificationID(1), bytes))
        }
        #expect(table.acknowledgements == [[], [], [], []])
        #expect(table.commands.isEmpty)
    }

    // MARK: Restart, leave, watch

    @Test func restartWithinTheLeaseGoesOn() {
        var table = Table()
        table.group.members["a"] = Record(instance: 42, clients: ["krbd-42", "relay-old"])
        table.group.beats["a"] = 3
        let until = table.now.advanced(by: .seconds(3))
        let event = KernelEvent(id: 8, payload: [1])
        table.give(
            .attached(
                KernelState(instance: 42, epoch: 6, until: until, hold: until, events: [event]),
                clients: ["krbd-42", "relay-new"]))
        #expect(table.machine.phase == .serving)
        #expect(table.group.members["a"]?.clients == ["krbd-42", "relay-new"])
        #expect(table.outcomes == [8: .done])
        #expect(!table.commands.contains { if case .quiesce = $0 { true } else { false } })
        #expect(table.machine.status.epoch == 6)
    }

    @Test func restartAfterTheLeaseSettlesFirst() {
        var table = Table()
        table.group.members["a"] = Record(instance: 42, clients: ["krbd-42"])
        table.group.beats["a"] = 3
        table.give(
            .attached(KernelState(instance: 42, epoch: 6, until: table.now, lapsed: true), clients: ["krbd-42"]))
        #expect(table.commands.contains { if case .quiesce(_, .lapsed) = $0 { true } else { false } })
        table.pass(.seconds(2))
        #expect(table.machine.phase == .serving)
        #expect(table.machine.status.epoch == 7)
        #expect(table.machine.status.instance == 42)
    }

    @Test func restartOfAFencedNodeMapsAnew() {
        var table = Table()
        table.group.members["a"] = Record(instance: 42, clients: [], state: .fenced(.settled(epoch: 3), by: "b"))
        let event = KernelEvent(id: 8, payload: [1])
        table.give(
            .attached(
                KernelState(instance: 42, epoch: 6, until: table.now.advanced(by: .seconds(3)), events: [event]),
                clients: []))
        #expect(table.outcomes == [8: .fenced])
        #expect(table.machine.status.instance == 101)
    }

    @Test func leavesInOrder() {
        var table = Table()
        table.serve(with: ["b"])
        table.kernelWorks = false
        table.give(.leave)
        #expect(table.group.members["a"]?.state == .leaving)
        guard case .quiesce(let task, .leaving)? = table.commands.last else { return #expect(Bool(false)) }
        // It is alive until it is gone.
        let beat = table.group.beats["a"] ?? 0
        table.pass(.seconds(10))
        #expect(table.group.beats["a"] ?? 0 >= beat + 9)
        table.give(.quiesced(task))
        #expect(table.machine.phase == .left)
        #expect(table.group.members["a"] == nil)
        #expect(table.notices.last == .left)
        #expect(table.machine.wakeAt == .never)
    }

    @Test func leaveBeforeAnythingBegan() {
        var table = Table()
        table.give(.leave)
        #expect(table.machine.phase == .left)
    }

    @Test func watchLostWhileAskingIsAskedForAgain() {
        var table = Table()
        table.serve()
        table.isAnswered = { if case .watch = $0 { false } else { true } }
        table.give(.watchLost)
        guard let first = table.open.first else { return #expect(Bool(false)) }
        table.give(.watchLost)
        table.give(.reply(first.id, .watching))
        #expect(!table.machine.status.isWatching)
        table.pass(.seconds(1))
        #expect(table.open.count == 2)
    }

    @Test func deafNodeStopsBeating() {
        var table = Table()
        table.serve(with: ["b"])
        table.isAnswered = { if case .watch = $0 { false } else { true } }
        table.give(.watchLost)
        table.pass(.seconds(4))
        #expect(table.machine.phase == .serving)
        table.pass(.seconds(8))
        #expect(table.machine.phase != .serving)
    }
}
