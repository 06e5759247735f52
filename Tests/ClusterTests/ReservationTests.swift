// SPDX-License-Identifier: Apache-2.0

import Initiator
import Lab
import Reservations
import Synchronization
import Testing

/// One reservation state, whichever gateway a host talks to.
@Suite("Reservations of all gateways", .serialized, .timeLimit(.minutes(15)))
struct ReservationTests {
    @Test func oneStateWhicheverGateway() async throws {
        try await withLab { lab in
            try await step("holder", lab) { try await bothGatewaysKnowWhoHolds(lab) }
            try await step("attentions", lab) { try await everyNexusIsTold(lab) }
            for round in 1...5 {
                try await step("preempt and abort \(round)", lab) {
                    try await nothingLandsAfterPreemptAndAbort(lab, after: .milliseconds(50 * round))
                }
            }
            try await step("reserve", lab) { try await reserveHoldsEverywhereAndEndsEverywhere(lab) }
            try await step("clio", lab) { try await clioShowsThem(lab) }
            try await step("clear", lab) { try await clioClearsThem(lab) }
            try await step("node", lab) { try await nodeItselfIsANexus(lab) }
            try await step("node preempted", lab) { try await nothingOfTheNodeLandsAfterPreemptAndAbort(lab) }
            try await step("race", lab) { try await racingHostsSeeOneOrder(lab, hosts: 8, for: .seconds(60)) }
        }
    }

    @Test func gatewaysComeAndGo() async throws {
        try await withLab { lab in
            for delay in [0, 4, 30] {
                try await step("gateway killed \(delay) ms after a PREEMPT was sent through it", lab) {
                    try await gatewayDiesInPreempt(lab, after: .milliseconds(delay))
                }
            }
            try await step("victim's gateway stands still", lab) { try await gatewayOfTheVictimStandsStill(lab) }
            try await step("both gateways are started anew", lab) { try await registrationsOutliveGateways(lab) }
        }
    }

    /// The same on the kernel that looks for what goes wrong unnoticed.
    @Test func debugKernel() async throws {
        try await withLab(kernel: .debug) { lab in
            try await step("node", lab) { try await nodeItselfIsANexus(lab) }
            try await step("node preempted", lab) { try await nothingOfTheNodeLandsAfterPreemptAndAbort(lab) }
            try await step("attentions", lab) { try await everyNexusIsTold(lab) }
            try await step("preempt and abort", lab) {
                try await nothingLandsAfterPreemptAndAbort(lab, after: .milliseconds(500))
            }
            try await step("reserve", lab) { try await reserveHoldsEverywhereAndEndsEverywhere(lab) }
            try await step("race", lab) { try await racingHostsSeeOneOrder(lab, hosts: 8, for: .seconds(2)) }
        }
    }

    // MARK: What every gateway knows

    /// Guards: each gateway with registrations and a reservation of its own.
    private func bothGatewaysKnowWhoHolds(_ lab: Lab) async throws {
        try await withHosts(2, lab) { hosts in
            let (a, b) = (hosts[0], hosts[1])
            try await a[0].good(.persistentReserveOut(.register, actionKey: 0xA))
            try await b[1].good(.persistentReserveOut(.register, actionKey: 0xB))
            let keys = try await a[1].good(.persistentReserveIn(.readKeys))
            #expect(try await b[0].good(.persistentReserveIn(.readKeys)) == keys)
            #expect(keys.count == 8 + 16)
            try await a[0].good(.persistentReserveOut(.reserve, key: 0xA, type: 1))
            #expect(try await a[0].send(Self.write).isGood)
            for other in [a[1], b[0], b[1]] {
                #expect(try await other.send(Self.write).isReservationConflict)
                #expect(try await other.send(.read(64, blocks: 1)).isGood)
            }
            #expect(try await b[1].send(.persistentReserveOut(.reserve, key: 0xB, type: 1)).isReservationConflict)
        }
    }

    /// Guards: a host whose rights changed through another gateway goes on, or never hears of it.
    private func everyNexusIsTold(_ lab: Lab) async throws {
        let actions: [(PersistentReserveOut, UInt64, attention: UInt16, writes: Bool)] = [
            (.release, 0, 0x2A04, true), (.clear, 0, 0x2A03, true), (.preempt, 0xB, 0x2A05, false),
            (.preemptAndAbort, 0xB, 0x2A05, false),
        ]
        for (action, victim, attention, writes) in actions {
            try await withHosts(2, lab) { hosts in
                let (a, b) = (hosts[0], hosts[1])
                for path in a { try await path.good(.persistentReserveOut(.register, actionKey: 0xA)) }
                for path in b { try await path.good(.persistentReserveOut(.register, actionKey: 0xB)) }
                try await a[0].good(.persistentReserveOut(.reserve, key: 0xA, type: 5))
                try await a[0].good(.persistentReserveOut(action, key: 0xA, actionKey: victim, type: 5))
                for path in b {
                    #expect(try await path.send(.testUnitReady).sense?.additional == attention, "\(action)")
                    #expect(try await path.send(.testUnitReady).isGood)
                    #expect(try await path.send(Self.write).isReservationConflict == !writes, "\(action)")
                }
                #expect(try await a[0].send(Self.write).isGood, "\(action)")
            }
        }
    }

    /// Guards: a write that was under way through another gateway lands after PREEMPT AND ABORT has said GOOD.
    private func nothingLandsAfterPreemptAndAbort(_ lab: Lab, after delay: Duration) async throws {
        try await withHosts(2, lab) { hosts in
            let (victim, fencer) = (hosts[0][0], hosts[1][1])
            try await arm(victim, fencer)
            let writer = Writer(victim)
            let writing = Task { try await writer.run() }
            try await Task.sleep(for: delay)
            try await fencer.good(.persistentReserveOut(.preemptAndAbort, key: 0xB, actionKey: 0xA, type: 5))
            try await writer.overwrite(fencer)
            try await writing.value
            #expect(writer.answers[0, default: 0] > 0, "the victim wrote")
            try await Task.sleep(for: .seconds(1))
            #expect(try await writer.stale(fencer).isEmpty)
            try await victim.ready()
        }
    }

    /// Guards: RESERVE(6) that only one gateway knows of, or that outlives its host or a reset through the other.
    private func reserveHoldsEverywhereAndEndsEverywhere(_ lab: Lab) async throws {
        let release = SCSICommand(cdb: [0x17, 0, 0, 0, 0, 0])
        try await withHosts(2, lab) { hosts in
            let (a, b) = (hosts[0], hosts[1])
            try await a[0].good(.reserve6)
            for other in [a[1], b[0], b[1]] {
                #expect(try await other.send(.testUnitReady).isReservationConflict)
                #expect(try await other.send(release).isGood)
            }
            #expect(try await b[1].send(.reserve6).isReservationConflict)
            try await a[0].good(release)
            try await b[1].good(.testUnitReady)

            try await a[0].good(.reserve6)
            #expect(try await b[1].manage(.logicalUnitReset) == .complete)
            for nexus in a + b { try await nexus.ready() }
            try await b[0].good(.reserve6)
            try await b[0].good(release)

            // A host that is gone leaves nothing; its logout is answered before its session has ended.
            let gone = try await lab.reservationPaths(host: 9).map(\.session)
            try await gone[1].good(.reserve6)
            for nexus in gone { await nexus.close() }
            try await patiently { try await b[0].send(.testUnitReady).isGood }
        }
    }

    /// `clio pr` names the paths of a LUN's reservations.
    private func clioShowsThem(_ lab: Lab) async throws {
        let clio = try lab.executable("clio")
        try await withHosts(1, lab) { hosts in
            let paths = hosts[0]
            for path in paths { try await path.good(.persistentReserveOut(.register, actionKey: 0xCAFE)) }
            try await paths[0].good(.persistentReserveOut(.reserve, key: 0xCAFE, type: 6))
            let shown = try await lab.check("gw1", [clio, "pr", "show", "rbd/lun0"])
            for text in [
                "0x000000000000cafe", "clio:host1,i,0x", "gw1", "gw2", "reserved: exclusive access, registrants only",
            ] {
                #expect(shown.contains(text), "\(shown)")
            }
            let status = try await lab.check("gw2", [clio, "status"])
            #expect(status.contains("Reservations") && status.contains("exclusive access, registrants only"))
            let keys = try await lab.check("gw2", [clio, "pr", "keys", "0", "--json"])
            #expect(keys.contains("\"paths\" : 2"), "\(keys)")
        }
    }

    /// `clio pr clear` takes everything away, and hosts are told.
    private func clioClearsThem(_ lab: Lab) async throws {
        let clio = try lab.executable("clio")
        try await withHosts(2, lab) { hosts in
            let (a, b) = (hosts[0], hosts[1])
            try await a[0].good(.persistentReserveOut(.register, actionKey: 0xA))
            try await b[1].good(.persistentReserveOut(.register, actionKey: 0xB))
            try await a[0].good(.persistentReserveOut(.reserve, key: 0xA, type: 1))
            let asked = try await lab.exec("gw2", [clio, "pr", "clear", "0"])
            #expect(asked.status == 1 && asked.errorText.contains("--yes"), "\(asked)")
            let cleared = try await lab.check("gw2", [clio, "pr", "clear", "0", "--yes"])
            #expect(cleared.contains("2 registrations and the reservation (write exclusive) removed"), "\(cleared)")
            for nexus in [a[0], b[1]] {
                #expect(try await nexus.send(.testUnitReady).sense?.additional == 0x2A03)
                #expect(try await nexus.send(Self.write).isGood)
            }
            #expect(try await a[1].good(.persistentReserveIn(.readKeys)).count == 8)
            #expect(try await lab.check("gw1", [clio, "pr", "clear", "0", "--yes"]).contains("nothing to clear"))

            try await a[0].good(.reserve6)
            let refused = try await lab.exec("gw1", [clio, "pr", "clear", "0", "--yes"])
            #expect(refused.status == 1 && refused.errorText.contains("sg_reset"), "\(refused)")
            try await a[0].good(SCSICommand(cdb: [0x17, 0, 0, 0, 0, 0]))
        }
    }

    // MARK: The node's own use

    private static let device = "/dev/rbd0"

    /// The node of a gateway uses the image itself, beside the hosts.
    private func own(_ lab: Lab, _ words: String...) async throws -> String {
        let tool = try lab.executable("ioc-pr")
        return try await lab.exec("gw1", [tool, Self.device] + words).outputText
    }

    private func nodeWrites(_ lab: Lab) async throws -> Bool {
        let dd = "dd if=/dev/zero of=\(Self.device) bs=4096 seek=64 count=1 oflag=direct"
        return try await lab.exec("gw1", ["sh", "-c", dd]).status == 0
    }

    private func nodeReads(_ lab: Lab) async throws -> Bool {
        let dd = "dd if=\(Self.device) of=/dev/null bs=4096 skip=64 count=1 iflag=direct"
        return try await lab.exec("gw1", ["sh", "-c", dd]).status == 0
    }

    /// Guards: reservations that the ioctls of a mapped image and hosts do not share, direct reads and writes that
    /// reservations do not stop, commands of hosts that those of their own node stop.
    private func nodeItselfIsANexus(_ lab: Lab) async throws {
        let zeros = [UInt8](repeating: 0, count: 512)
        let (lba, blocks): ([UInt8], [UInt8]) = ([0, 0, 0, 0, 0, 0, 0, 64], [0, 0, 0, 64])
        let writeSame = SCSICommand(cdb: [0x93, 0] + lba + blocks + [0, 0], output: zeros)
        let unmap = SCSICommand(
            cdb: [0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0],
            output: [0, 22, 0, 16, 0, 0, 0, 0] + lba + blocks + [0, 0, 0, 0])
        try await withHosts(1, lab) { hosts in
            let (here, there) = (hosts[0][0], hosts[0][1])
            try await there.good(.persistentReserveOut(.register, actionKey: 0xA))
            try await there.good(.persistentReserveOut(.reserve, key: 0xA, type: 1))
            #expect(try await !nodeWrites(lab))
            #expect(try await nodeReads(lab))

            #expect(try await own(lab, "register", "0", "0xB") == "good")
            #expect(try await own(lab, "reserve", "0xB", "1") == "conflict")
            #expect(try await own(lab, "register", "0xC", "0xD") == "conflict")
            #expect(try await !nodeWrites(lab))
            let shown = try await lab.check("gw2", [try lab.executable("clio"), "pr", "show", "0"])
            #expect(shown.contains("iqn.2003-01.org.linux-iscsi:gw1"), "\(shown)")

            // The host goes on with its commands, of all kinds, through the node that may not read.
            try await here.good(.persistentReserveOut(.register, actionKey: 0xA))
            try await there.good(.persistentReserveOut(.release, key: 0xA, type: 1))
            try await here.ready()
            try await here.good(.persistentReserveOut(.reserve, key: 0xA, type: 3))
            for command in [Self.write, .read(64, blocks: 1), writeSame, unmap, .synchronizeCache] {
                try await here.good(command)
            }
            try await here.good(.compareAndWrite(64, expected: zeros, new: zeros))
            #expect(try await !nodeReads(lab))
            #expect(try await !nodeWrites(lab))

            // PR_EXCLUSIVE_ACCESS is 2.
            #expect(try await own(lab, "preempt", "0xB", "0xA", "2") == "good")
            #expect(try await nodeWrites(lab))
            #expect(try await nodeReads(lab))
            for nexus in [here, there] {
                #expect(try await nexus.send(.testUnitReady).sense?.additional == 0x2A05)
                #expect(try await nexus.send(.read(64, blocks: 1)).isReservationConflict)
            }
            #expect(try await own(lab, "release", "0xB", "2") == "good")
            try await there.good(Self.write)
            #expect(try await own(lab, "reserve", "0xB", "5") == "good")
            #expect(try await own(lab, "clear", "0xB") == "good")
            try await here.good(Self.write)
        }
    }

    /// Guards: a write that the node itself had under way lands after PREEMPT AND ABORT through another gateway.
    private func nothingOfTheNodeLandsAfterPreemptAndAbort(_ lab: Lab) async throws {
        try await withHosts(1, lab) { hosts in
            let fencer = hosts[0][1]
            #expect(try await own(lab, "register", "0", "0xA") == "good")
            try await fencer.good(.persistentReserveOut(.register, actionKey: 0xB))
            try await fencer.good(.persistentReserveOut(.reserve, key: 0xB, type: 5))
            // Where the writer of hosts writes, 1 MiB at 2 MiB.
            let script = """
                tr '\\000' '\\001' < /dev/zero | head -c 1048576 > /tmp/old
                for i in 1 2 3 4 5 6 7 8; do
                    while dd if=/tmp/old of=\(Self.device) bs=16k seek=128 oflag=direct 2>/dev/null; do :; done &
                done
                wait
                """
            async let writing = lab.exec("gw1", ["sh", "-c", script], timeout: .seconds(60))
            try await Task.sleep(for: .seconds(1))
            try await fencer.good(.persistentReserveOut(.preemptAndAbort, key: 0xB, actionKey: 0xA, type: 5))
            let writer = Writer(fencer)
            #expect(try await writer.stale(fencer).isEmpty == false, "the node wrote")
            try await writer.overwrite(fencer)
            _ = try await writing
            #expect(try await writer.stale(fencer).isEmpty)
            #expect(try await !nodeWrites(lab))
        }
    }

    /// Hosts register, reserve, preempt and clear at random through both gateways; what they are told fits into one
    /// order of the rules, and both gateways end with the same.
    private func racingHostsSeeOneOrder(_ lab: Lab, hosts: Int, for duration: Duration) async throws {
        let race = try await lab.raceReservations(hosts: hosts, for: duration)
        print("\(race.history.operations.count) commands, PRGENERATION \(race.end.generation)")
        #expect(race.history.operations.count > 100)
        #expect(race.disagreeing.isEmpty)
        _ = try race.history.check()
        // Two reads that saw different states change places: no longer an order.
        var faulty = race.history
        let reads = faulty.operations.indices.filter {
            if case .read = faulty.operations[$0].kind { true } else { false }
        }
        let (first, last) = (try #require(reads.first), try #require(reads.last))
        let kind = faulty.operations[first].kind
        faulty.operations[first].kind = faulty.operations[last].kind
        faulty.operations[last].kind = kind
        #expect(throws: ReservationHistory.Violation.self) { try faulty.check() }
        try await withHosts(hosts, lab) { _ in }
    }

    // MARK: Gateways that fail

    /// Guards: a PREEMPT that is half done for ever, or undone, because its gateway died.
    private func gatewayDiesInPreempt(_ lab: Lab, after delay: Duration) async throws {
        try await withHosts(2, lab) { hosts in
            let (victim, fencer) = (hosts[0][1], hosts[1][1])
            let dying = hosts[1][0]
            try await arm(victim, fencer)
            try await dying.good(.persistentReserveOut(.register, actionKey: 0xB))
            let preempt = SCSICommand.persistentReserveOut(.preemptAndAbort, key: 0xB, actionKey: 0xA, type: 5)
            let first = Task { try await dying.send(preempt) }
            try await Task.sleep(for: delay)
            try await lab.kill("gw1")
            let died = ContinuousClock.now
            // What a host does: the same again through the other path. A conflict says that it has been done.
            let again = try await fencer.send(preempt)
            let took = ContinuousClock.now - died
            let answer = try? await first.value
            print(
                "killed after \(delay): first \(answer.map { "\($0)" } ?? "unanswered"), then \(again) within \(took)")
            #expect(again.isGood || again.isReservationConflict)
            #expect(took < .seconds(14))
            // Whoever finds it done has to wait for the dead gateway to be fenced before it counts on that.
            try await patiently(.seconds(14)) { try await victim.send(.testUnitReady).sense?.additional == 0x2A05 }
            // Other unit attentions wait behind that one: the ports of the dead one are unavailable.
            try await victim.ready()
            #expect(try await victim.send(Self.write).isReservationConflict)
            // Told that the ports of the dead one are unavailable.
            try await fencer.ready()
            #expect(try await fencer.send(Self.write).isGood)
            try await lab.start("gw1")
            // The same initiator port: its sessions take the place of those that it had.
            let back = try await lab.reservationPaths(host: 2).map(\.session)
            #expect(
                try await back[0].good(.persistentReserveIn(.readFullStatus))
                    == back[1].good(.persistentReserveIn(.readFullStatus)))
            for nexus in back { await nexus.close() }
        }
    }

    /// Guards: what a gateway that stands still has received lands once it goes on.
    private func gatewayOfTheVictimStandsStill(_ lab: Lab) async throws {
        try await withHosts(2, lab) { hosts in
            let (victim, fencer) = (hosts[0][0], hosts[1][1])
            try await arm(victim, fencer)
            let writer = Writer(victim)
            let writing = Task { try await writer.run() }
            try await Task.sleep(for: .milliseconds(500))
            try await lab.freeze("gw1")
            let begin = ContinuousClock.now
            try await fencer.good(.persistentReserveOut(.preemptAndAbort, key: 0xB, actionKey: 0xA, type: 5))
            let took = ContinuousClock.now - begin
            #expect(took < .seconds(14), "\(took)")
            do {
                // Told that the ports of the other one are unavailable.
                try await fencer.ready()
                try await writer.overwrite(fencer)
            } catch {
                try await lab.thaw("gw1")
                throw error
            }
            try await lab.thaw("gw1")
            try await Task.sleep(for: .seconds(8))
            _ = try? await writing.value
            try await fencer.ready()
            #expect(try await writer.stale(fencer).isEmpty)
            try await lab.waitUntilServed(try #require(lab.description().nodes.first { $0.name == "gw1" }))
        }
    }

    /// Guards: hosts that find no reservation, or a stranger's, once the gateways are back.
    private func registrationsOutliveGateways(_ lab: Lab) async throws {
        try await withHosts(2, lab) { hosts in
            for (number, key) in [(0, UInt64(0xA)), (1, 0xB)] {
                for path in hosts[number] {
                    try await path.good(.persistentReserveOut(.register, actionKey: key, flags: 1))
                }
            }
            try await hosts[0][0].good(.persistentReserveOut(.reserve, key: 0xA, type: 5))
            let before = try await hosts[0][0].good(.persistentReserveIn(.readFullStatus))
            for gateway in lab.gateways { try await lab.kill(gateway) }
            for gateway in lab.gateways { try await lab.start(gateway) }
            try await withHosts(3, lab) { hosts in
                for path in hosts.joined() {
                    #expect(try await path.good(.persistentReserveIn(.readFullStatus)) == before)
                    // PTPL_C, PTPL_A
                    let capabilities = try await path.good(.persistentReserveIn(.reportCapabilities))
                    #expect(capabilities[2] & 1 == 1 && capabilities[3] & 1 == 1)
                }
                for path in hosts[0] + hosts[1] { #expect(try await path.send(Self.write).isGood) }
                for path in hosts[2] { #expect(try await path.send(Self.write).isReservationConflict) }
            }
        }
    }

    // MARK: Hosts

    private static let write = SCSICommand.write(64, [UInt8](repeating: 0xA5, count: 512))

    /// Two hosts register, and the second reserves the unit for those that are registered.
    private func arm(_ victim: Initiator.Nexus, _ fencer: Initiator.Nexus) async throws {
        try await victim.good(.persistentReserveOut(.register, actionKey: 0xA))
        try await fencer.good(.persistentReserveOut(.register, actionKey: 0xB))
        try await fencer.good(.persistentReserveOut(.reserve, key: 0xB, type: 5))
    }

    /// A host with many writes outstanding, until one is not answered GOOD.
    private final class Writer: Sendable {
        private let nexus: Initiator.Nexus
        private let state = Mutex((next: 0, answers: [Int: Int]()))
        private static let (first, blocks, count) = (UInt64(4096), 32, 64)

        init(_ nexus: Initiator.Nexus) { self.nexus = nexus }

        /// By status.
        var answers: [Int: Int] { state.withLock { $0.answers } }

        func run() async throws {
            let old = [UInt8](repeating: 0x01, count: Self.blocks * 512)
            try await nexus.pipeline(
                depth: 32,
                next: { [self] in
                    state.withLock { state in
                        guard state.answers.keys.allSatisfy({ $0 == 0 }) else { return nil }
                        state.next += 1
                        return .write(Self.place(state.next % Self.count), old)
                    }
                },
                answered: { [self] _, reply in state.withLock { $0.answers[reply.status, default: 0] += 1 } })
        }

        /// Another host writes wherever this one did.
        func overwrite(_ other: Initiator.Nexus) async throws {
            for number in 0..<Self.count { try await other.good(.write(Self.place(number), Self.new)) }
        }

        /// Where something else stands now.
        func stale(_ other: Initiator.Nexus) async throws -> [Int] {
            var found: [Int] = []
            for number in 0..<Self.count
            where try await other.good(.read(Self.place(number), blocks: UInt32(Self.blocks))) != Self.new {
                found.append(number)
            }
            return found
        }

        private static let new = [UInt8](repeating: 0x02, count: blocks * 512)
        private static func place(_ number: Int) -> UInt64 { first + UInt64(number * blocks) }
    }

    /// Waits until something is so.
    private func patiently(_ limit: Duration = .seconds(5), _ isSo: () async throws -> Bool) async throws {
        let end = ContinuousClock.now + limit
        while try await !isSo() {
            guard ContinuousClock.now < end else {
                Issue.record("not so after \(limit)")
                return
            }
            try await Task.sleep(for: .milliseconds(50))
        }
    }

    /// Runs a test with hosts, each with a session through each gateway, and leaves no reservation behind.
    private func withHosts(
        _ count: Int, _ lab: Lab, _ body: ([[Initiator.Nexus]]) async throws -> Void
    ) async throws {
        var hosts: [[Initiator.Nexus]] = []
        for number in 1...count { hosts.append(try await lab.reservationPaths(host: number).map(\.session)) }
        var failure: (any Error)?
        do { try await body(hosts) } catch { failure = error }
        for nexus in hosts.joined() { await nexus.close() }
        if let failure { throw failure }
        // With new sessions: the old ones need not have survived.
        for number in 1...count {
            for path in try await lab.reservationPaths(host: number) {
                // What the path before this one has given up is news to this one.
                try await path.session.ready()
                try await path.session.good(.persistentReserveOut(.registerAndIgnoreExistingKey))
                await path.session.close()
            }
        }
    }

    private func step(_ name: String, _ lab: Lab, _ body: () async throws -> Void) async throws {
        let begin = ContinuousClock.now
        do { try await body() } catch {
            for gateway in lab.gateways {
                let log = try? await lab.check(gateway, ["tail", "-n", "20", Lab.daemonLog])
                print("--- \(gateway): cliod\n\(log ?? "no log")")
            }
            Issue.record("\(name): \(error)")
        }
        print("\(name): \(ContinuousClock.now - begin)")
    }

    private func withLab(kernel: KernelFlavour = .clio, _ body: (Lab) async throws -> Void) async throws {
        try await ClusterTests.withLab(
            LabOptions(name: "reservation-test", gateways: 2, initiators: 0, kernel: kernel), body)
    }
}
