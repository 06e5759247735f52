// SPDX-License-Identifier: Apache-2.0

import Foundation
import Initiator
import Lab
import Testing

/// No command in flight escapes: not by a task management function that waits for it, not by a thread that waits for the
/// device, not by the end of its session.
///
/// Copies, nodes that come or go, and what hosts are told are in files of their own.
@Suite("In flight", .serialized, .timeLimit(.minutes(5)))
struct InFlightTests {
    typealias Stuck = StuckCommands

    // MARK: Old data over new

    /// Guards: a write that ABORT TASK waits for is no orphan when its session ends, and lands over what the host has
    /// written since.
    @Test func anAbortedWriteOutlivesItsSession() async throws {
        try await Stuck.with { stuck in
            let block = try stuck.block()
            let victim = try await stuck.host("victim", "gw1")
            try await stuck.abort(victim, stuckAt: block)
            await victim.drop()
            try await Task.sleep(for: Stuck.bound)
            let other = try await stuck.host("victim", "gw2")
            try await stuck.write(other, block)
            try await stuck.expectNewer(after: "gw1", block, through: other)
        }
    }

    /// Guards: PREEMPT AND ABORT does not see a write that ABORT TASK waits for.
    @Test func preemptAndAbortDoesNotWaitForAnAbortedWrite() async throws {
        try await Stuck.with { stuck in
            let block = try stuck.block()
            let victim = try await stuck.host("victim", "gw1")
            let fencer = try await stuck.host("fencer", "gw2")
            try await stuck.arm(victim: victim, fencer: fencer)
            try await stuck.abort(victim, stuckAt: block)
            let preempt = fencer.start(Stuck.preemptAndAbort, lun: stuck.lun)
            // The victim lives, so nothing settles its write but the path that heals.
            #expect(try await preempt.value(within: .seconds(5)) == nil, "GOOD, and the write may still land")
            if !preempt.isSettled { try await stuck.lab.heal("gw1") }
            #expect(try await preempt.value(within: .seconds(60))?.isGood == true)
            try await stuck.write(fencer, block)
            try await stuck.expectNewer(after: "gw1", block, through: fencer)
        }
    }

    /// Guards: a reset says COMPLETE although a write that ABORT TASK waits for may still land.
    @Test(.whole, arguments: [TaskManagement.logicalUnitReset, .clearTaskSet], ["gw1", "gw2"])
    func aResetDoesNotWaitForAnAbortedWrite(function: TaskManagement, gateway: String) async throws {
        try await Stuck.with { stuck in
            let block = try stuck.block()
            let victim = try await stuck.host("victim", "gw1")
            let manager = try await stuck.host("manager", gateway)
            let writer = try await stuck.host("writer", "gw2")
            try await stuck.abort(victim, stuckAt: block)
            await victim.drop()
            // A gateway takes seconds to begin to end the session; until then a reset would wait for the ABORT TASK.
            try await Task.sleep(for: .seconds(5))
            // Where the gateway itself is fenced there is no answer, and nothing is claimed.
            let response = try? await manager.startManaging(function, lun: stuck.lun).value(within: .seconds(60))
            guard response == .complete else {
                try await stuck.lab.heal("gw1")
                return try await stuck.waitForQuiet("gw1", stuck.data)
            }
            try await stuck.write(writer, block)
            try await stuck.expectNewer(after: "gw1", block, through: writer)
        }
    }

    /// Commands without data that the receive thread of a connection executes.
    enum WithoutData: String, CaseIterable {
        case writeSame, unmap

        /// Zeros at a block; what is unmapped has the size that krbd discards (`alloc_size`, 64 KiB).
        func command(_ block: UInt64) -> SCSICommand {
            switch self {
            case .writeSame: .writeSame16(block, blocks: 8, [UInt8](repeating: 0, count: 512))
            case .unmap: .unmap([block..<block + 128])
            }
        }
    }

    /// Guards: a receive thread that waits for the device keeps the end of its connection waiting, and no command of it is
    /// an orphan.
    @Test(arguments: WithoutData.allCases)
    func aWaitingReceiveThreadHidesOrphans(command: WithoutData) async throws {
        try await Stuck.with { stuck in
            let (first, second) = (try stuck.block(), try stuck.block(1))
            let victim = try await stuck.host("victim", "gw1")
            try await stuck.write(victim, second, Stuck.newer)
            try await stuck.hold("gw1", from: stuck.data)
            _ = victim.start(.write(first, Stuck.old), lun: stuck.lun)
            try await stuck.waitForRequests("gw1", stuck.data)
            _ = victim.start(command.command(second), lun: stuck.lun)
            try await stuck.waitForRequests("gw1", stuck.data, atLeast: 2)
            await victim.fallSilent()
            try await Task.sleep(for: Stuck.bound)
            let other = try await stuck.host("victim", "gw2")
            for block in [first, second] { try await stuck.write(other, block) }
            try await stuck.expectNewer(after: "gw1", first, second, through: other)
        }
    }

    /// Guards: with all tags of a device's queue taken, receive threads wait for one, and with them all else on their
    /// connections.
    @Test(.whole) func noTagIsFree() async throws {
        try await Stuck.with { stuck in
            let elsewhere = try stuck.blockElsewhere()
            let hosts = try await (1...4).asyncMap { try await stuck.host("host\($0)", "gw1") }
            try await stuck.hold("gw1", from: stuck.data)
            let writes = try hosts.flatMap { host in
                try (0..<48).map { number in
                    host.start(.write(try stuck.block() + UInt64(8 * number), Stuck.old), lun: stuck.lun)
                }
            }
            try await stuck.waitForRequests("gw1", stuck.data, atLeast: 100)
            for host in hosts {
                let reply = try await host.start(.read(elsewhere, blocks: 1), lun: stuck.lun).value(within: .seconds(3))
                #expect(
                    reply?.isGood == true || reply?.isTaskSetFull == true, "\(reply.map { "\($0)" } ?? "no answer")")
            }
            try await stuck.lab.heal("gw1")
            for write in writes {
                let reply = try await write.value(within: .seconds(30))
                #expect(
                    reply?.isGood == true || reply?.isTaskSetFull == true, "\(reply.map { "\($0)" } ?? "no answer")")
            }
        }
    }

    /// Guards: a PERSISTENT RESERVE OUT takes effect, again, long after its host has gone.
    @Test func aPreemptOutlivesItsSession() async throws {
        try await Stuck.with { stuck in
            let victim = try await stuck.host("victim", "gw2")
            let here = try await stuck.host("fencer", "gw1")
            let there = try await stuck.host("fencer", "gw2")
            try await victim.good(.persistentReserveOut(.register, actionKey: 0xA), lun: stuck.lun)
            for nexus in [here, there] {
                try await nexus.good(.persistentReserveOut(.register, actionKey: 0xB), lun: stuck.lun)
            }
            try await stuck.hold("gw1", from: stuck.placement.state)
            let preempt = SCSICommand.persistentReserveOut(.preempt, key: 0xB, actionKey: 0xA)
            _ = here.start(preempt, lun: stuck.lun)
            try await stuck.waitForRequests("gw1", stuck.placement.state)
            await here.drop()
            try await Task.sleep(for: Stuck.bound)
            // Told that the ports of the other gateway are unavailable, if it is fenced.
            try await there.ready(lun: stuck.lun)
            let again = there.start(preempt, lun: stuck.lun)
            try await until(.seconds(20), "the key is gone") { try await !stuck.isRegistered(0xA) }
            // The victim learns of it, and comes back.
            var back = victim.start(.testUnitReady, lun: stuck.lun)
            try await until(.seconds(20), "the key is back") {
                if back.isSettled {
                    back = victim.start(
                        .persistentReserveOut(.registerAndIgnoreExistingKey, actionKey: 0xA), lun: stuck.lun)
                }
                return try await stuck.isRegistered(0xA)
            }
            print("PREEMPT \(again.isSettled ? "is" : "is not") answered")
            try await stuck.lab.heal("gw1")
            #expect(try await again.value(within: .seconds(30))?.isGood == true)
            try await stuck.waitForQuiet("gw1", stuck.placement.state)
            #expect(try await stuck.isRegistered(0xA), "the key that was registered last is gone")
        }
    }

    /// Guards: an ORDERED command that waits for others is executed after its session has ended.
    @Test(.whole) func anOrderedWriteOutlivesItsSession() async throws {
        try await Stuck.with { stuck in
            let (first, second) = (try stuck.block(), try stuck.blockElsewhere())
            let victim = try await stuck.host("victim", "gw1", attributes: true)
            try await stuck.hold("gw1", from: stuck.data)
            let write = victim.start(.write(first, Stuck.old), lun: stuck.lun)
            try await stuck.waitForRequests("gw1", stuck.data)
            let ordered = victim.start(.write(second, Stuck.old).with(.ordered), lun: stuck.lun)
            #expect(try await ordered.value(within: .milliseconds(500)) == nil)
            // So that the write does not end the gateway.
            let aborted = victim.startAborting(write)
            #expect(try await aborted.value(within: .milliseconds(500)) == nil)
            await victim.drop()
            try await Task.sleep(for: Stuck.bound)
            let other = try await stuck.host("victim", "gw2")
            for block in [first, second] { try await stuck.write(other, block) }
            try await stuck.expectNewer(after: "gw1", first, second, through: other)
        }
    }

    // MARK: Hangs

    /// Guards: PREEMPT AND ABORT, ABORT TASK of it and LOGICAL UNIT RESET wait for each other for ever.
    @Test func preemptAbortAndResetWaitForEachOther() async throws {
        try await Stuck.with { stuck in
            let victim = try await stuck.host("victim", "gw1")
            let fencer = try await stuck.host("fencer", "gw1")
            try await stuck.arm(victim: victim, fencer: fencer)
            try await stuck.lab.pause("osd.\(stuck.placement.state)")
            let preempt = fencer.start(Stuck.preemptAndAbort, lun: stuck.lun)
            try await Task.sleep(for: .seconds(5))
            let abort = fencer.startAborting(preempt)
            try await Task.sleep(for: .seconds(5))
            let reset = fencer.startManaging(.logicalUnitReset, lun: stuck.lun)
            try await Task.sleep(for: .seconds(1))
            try await stuck.lab.resume("osd.\(stuck.placement.state)")
            // SAM-5, 6.3.3: the reset ends commands and task management functions without an answer to whom it came by.
            #expect(try await reset.value(within: .seconds(30)) == .complete, "LOGICAL UNIT RESET is not answered")
            if try await abort.value(within: .seconds(1)) == .taskDoesNotExist {
                #expect(preempt.isSettled, "PREEMPT AND ABORT is not answered")
            }
            let other = try await stuck.host("other", "gw2")
            #expect(
                try await other.startManaging(.logicalUnitReset, lun: stuck.lun).value(within: .seconds(30))
                    == .complete)
        }
    }

    /// Guards: PREEMPT AND ABORT aborts reads of the host that sends it, as those of udev after a registration (Teigland,
    /// target-devel, 2026-06-23), and waits for them in the thread that would read their acknowledgement: with the stock
    /// kernel the session, and every login to that portal, waits for ever.
    @Test(arguments: Stuck.isWhole ? [KernelFlavour.clio, .stock] : [.clio])
    func preemptAndAbortWhileUdevReads(kernel: KernelFlavour) async throws {
        try await Stuck.with(kernel: kernel, gateways: 1, initiators: 1) { stuck in
            let (lab, block) = (stuck.lab, try stuck.block())
            func node(_ script: String) async throws { try await lab.check("ini1", ["sh", "-ec", script]) }
            let portal = try #require(lab.description().nodes.first { $0.name == "gw1" }?.portal)
            let disk = "/dev/disk/by-path/ip-\(portal)-iscsi-\(Lab.targetName)-lun-\(stuck.lun)"
            let persist = "sg_persist --no-inquiry --out"
            try await node("iscsiadm -m discovery -t st -p \(portal); iscsiadm -m node --login; udevadm settle")
            // Until its unit attentions are over.
            let register = "\(persist) --register-ignore --param-sark=0xB \(disk)"
            try await node("for i in $(seq 8); do ! \(register) || exit 0; done; exit 1")
            let victim = try await stuck.host("victim", "gw1")
            try await victim.good(.persistentReserveOut(.register, actionKey: 0xA), lun: stuck.lun)
            try await victim.good(.persistentReserveOut(.reserve, key: 0xA, type: 5), lun: stuck.lun)

            try await stuck.hold("gw1", from: stuck.data)
            let read = "dd if=\(disk) of=/run/block bs=512 skip=\(block) count=1 iflag=direct && touch /run/read"
            try await node("(\(read)) > /dev/null 2>&1 &")
            try await stuck.waitForRequests("gw1", stuck.data)
            // Its status is 0 also if the session is lost.
            let preempt = "\(persist) --preempt-abort --param-rk=0xB --param-sark=0xA --prout-type=5 \(disk) 2>&1"
            try await node(
                "(said=$(\(preempt)) && [ \"${said#*transport:}\" = \"$said\" ] && touch /run/preempted) > /dev/null 2>&1 &"
            )
            func exists(_ file: String) async throws -> Bool {
                try await lab.exec("ini1", ["test", "-e", file]).status == 0
            }
            guard kernel != .stock else {
                // Reads that are not stuck would end as these do.
                try await Task.sleep(for: .seconds(2))
                try await lab.heal("gw1")
                try await stuck.waitForQuiet("gw1", stuck.data)
                let waits = "for p in /proc/[0-9]*; do grep -q ^State:.D $p/status && cat $p/comm; done"
                try await until(.seconds(60), "threads of the session wait for each other") {
                    let names = try await lab.exec("gw1", ["sh", "-c", waits]).outputText.split(separator: "\n")
                    return names.contains("iscsi_trx") && names.contains("iscsi_ttx")
                }
                return #expect(try await !exists("/run/preempted"))
            }
            try await until(.seconds(10), "PREEMPT AND ABORT is answered") { try await exists("/run/preempted") }
            #expect(try await !exists("/run/read"), "the read is not preempted, and not waited for")
            try await lab.heal("gw1")
            try await until(.seconds(30), "the read is answered") { try await exists("/run/read") }
            #expect(try await victim.send(.write(block, Stuck.old), lun: stuck.lun).sense?.additional == 0x2A05)
        }
    }

    /// Guards: a healthy host is dropped, for the thread that would read its answer to a ping waits for an OSD.
    @Test(.whole, arguments: WithoutData.allCases)
    func aSlowOSDDropsAHealthyHost(command: WithoutData) async throws {
        try await Stuck.with { stuck in
            let block = try stuck.block()
            let host = try await stuck.host("host", "gw1")
            try await stuck.write(host, block)
            try await stuck.lab.pause("osd.\(stuck.data)")
            let pending = host.start(command.command(block), lun: stuck.lun)
            try await Task.sleep(for: .seconds(8))
            try await stuck.lab.resume("osd.\(stuck.data)")
            let reply = try await pending.value(within: .seconds(20))
            #expect(reply?.isGood == true, "\(reply.map { "\($0)" } ?? "no answer")")
            #expect(try await host.send(.testUnitReady, lun: stuck.lun).isGood)
        }
    }

    // MARK: Reservations

    /// Guards: of two hosts that preempt the same key at once, one has its answer while the victim's write goes on through
    /// the gateway of the other.
    @Test(.whole) func twoPreemptAtOnce() async throws {
        try await Stuck.with { stuck in
            let (block, a, b) = try await stuck.stickVictim(at: "gw2", others: ("gw1", "gw2"))
            // A's event reaches the other gateway later than its change of the state.
            try await stuck.lab.slow("gw2", from: stuck.placement.group, Slowness(delay: .milliseconds(700)))
            let first = a.start(Stuck.preemptAndAbort, lun: stuck.lun)
            try await Task.sleep(for: .milliseconds(30))
            _ = b.start(.persistentReserveOut(.preemptAndAbort, key: 0xC, actionKey: 0xA, type: 5), lun: stuck.lun)
            var reply = try await first.value(within: .seconds(40))
            if reply == nil {
                try await stuck.lab.heal("gw2")
                reply = try await first.value(within: .seconds(40))
            }
            #expect(reply?.isGood == true, "\(reply.map { "\($0)" } ?? "no answer")")
            try await a.ready(lun: stuck.lun)
            try await stuck.write(a, block)
            try await stuck.expectNewer(after: "gw2", block, through: a)
        }
    }

    /// Guards: a host that asks is told that a key is gone while the gateway of the victim still lets it write.
    @Test(.whole) func aKeyIsShownGoneTooEarly() async throws {
        try await Stuck.with { stuck in
            let (block, fencer, agent) = try await stuck.stickVictim(at: "gw1", others: ("gw2", "gw2"))
            let preempt = fencer.start(Stuck.preemptAndAbort, lun: stuck.lun)
            // Whoever asks meanwhile is shown the key, or waits until the victim can write no more.
            let isGone = Mutexed(false)
            async let asks: Void = {
                try await until(.seconds(60), "the key is gone") { try await !stuck.keys(agent).contains(0xA) }
                isGone.change { $0 = true }
            }()
            try await Task.sleep(for: .seconds(5))
            #expect(!preempt.isSettled, "GOOD, and the write may still land")
            #expect(!isGone.value, "the key is gone, and the write may still land")
            try await stuck.lab.heal("gw1")
            try await asks
            try await stuck.write(agent, block)
            try await stuck.expectNewer(after: "gw1", block, through: agent)
        }
    }

    // MARK: COMPARE AND WRITE

    /// Guards: a COMPARE AND WRITE that was done and whose answer was lost is sent again by the gateway, compares with its own
    /// data, and is called a miscompare.
    @Test(.whole) func compareAndWriteThatIsSentAgain() async throws {
        try await Stuck.with { stuck in
            for setting in ["osd_pg_log_dups_tracked 10", "osd_min_pg_log_entries 10", "osd_max_pg_log_entries 20"] {
                try await stuck.lab.hostCheck(
                    ["ceph", "config", "set", "osd"] + setting.split(separator: " ").map(String.init))
            }
            let block = try stuck.block()
            let host = try await stuck.host("host", "gw1")
            let other = try await stuck.host("other", "gw2")
            try await stuck.write(host, block, Stuck.old)
            let osd = "osd.\(stuck.data)"
            // The OSD has the request before it stands still, and answers into the void.
            try await stuck.lab.pause(osd)
            let pending = host.start(.compareAndWrite(block, expected: Stuck.old, new: Stuck.newer), lun: stuck.lun)
            try await stuck.waitForRequests("gw1", stuck.data)
            try await Task.sleep(for: .milliseconds(300))
            try await stuck.lab.cut("gw1", from: .oneOSD(stuck.data))
            try await stuck.lab.resume(osd)
            try await until(.seconds(20), "the OSD has done it") {
                try await other.good(.read(block, blocks: 1), lun: stuck.lun) == Stuck.newer
            }
            // The same object, so the same PG, whose log forgets.
            for number in 1...400 { try await stuck.write(other, block + UInt64(number % 64 + 1)) }
            // A new interval: all clients send again what has no answer.
            try await stuck.lab.hostCheck(["ceph", "osd", "down", "\(stuck.data)"])
            try await Task.sleep(for: .seconds(3))
            try await stuck.lab.heal("gw1")
            let reply = try await pending.value(within: .seconds(60))
            #expect(reply?.isMiscompare == false, "it was done: \(reply.map { "\($0)" } ?? "no answer")")
            #expect(reply?.isGood == true || reply?.sense?.key == 0x0B, "\(reply.map { "\($0)" } ?? "no answer")")
        }
    }
}

extension Sequence where Element: Sendable {
    fileprivate func asyncMap<Value>(_ transform: (Element) async throws -> Value) async rethrows -> [Value] {
        var values: [Value] = []
        for element in self { values.append(try await transform(element)) }
        return values
    }
}
