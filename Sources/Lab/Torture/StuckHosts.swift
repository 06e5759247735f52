// SPDX-License-Identifier: Apache-2.0
import Initiator

/// Hosts of which one has commands stuck at an OSD until they are over, on a unit of their own (``StuckPlan``). What is over does
/// not land any more: neither over newer data, nor among the reservations.
actor StuckHosts {
    private static let (victimKey, otherKey): (UInt64, UInt64) = (0xA, 0xB)

    private let plan: StuckPlan
    private let site: TortureSite
    private let scene: TortureScene
    private let lab: Lab
    private let stamps: FencingPair.Stamps
    /// Blocks at the OSD that the gateway cannot reach: of the neighbour that is in the way, if there is one, then the victim's.
    private let lbas: [UInt64]
    private let osd: Int
    private let name = "stuck"

    private var models: [BlockModel]
    /// Whether the victim was registered when its command was over; nil if nobody has looked.
    private var isRegistered: Bool?

    private struct Hosts {
        var victim: Nexus
        var neighbour: Nexus
        var manager: Nexus
        var writer: Nexus
    }

    /// - Parameter placement: where the unit's objects are.
    init(
        _ plan: StuckPlan, site: TortureSite, scene: TortureScene, lab: Lab, placement: Placement,
        stamps: FencingPair.Stamps
    ) {
        (self.plan, self.site, self.scene, self.lab, self.stamps) = (plan, site, scene, lab, stamps)
        let data = placement.onlyData ?? placement.objects[0]
        osd = [.reservation, .nothing].contains(plan.command) ? placement.state : data
        let count = plan.command == .queued ? 4 : 2
        lbas = (0..<count).compactMap { placement.block(on: data, skipping: $0) }
        models = lbas.map { _ in BlockModel() }
    }

    private var here: String { site.gateways[plan.here] }

    /// - Throws: `LabError` if the lab does not do as told.
    func play() async throws {
        guard let hosts = await prepare() else { return }
        try await lab.slow(here, from: osd, Slowness(delay: .seconds(3600)))
        async let healed: Void = heal(at: .now + plan.hold)
        note("\(here) is held from \(OSDName.text(osd)): \(plan)")
        let sent = await send(hosts)
        try? await Task.sleep(for: plan.delay)
        let isStuck = !sent.allSatisfy(\.isSettled)
        note(isStuck ? "stuck" : "not stuck")
        var leaving: Task<Void, any Error>?
        if plan.end == .leave {
            let clio = try lab.executable("clio")
            leaving = Task { [lab, here] in
                try await lab.check(here, [clio, "node", "down"], timeout: .seconds(120))
            }
        }
        if await end(hosts, sent) { await goOn(hosts) }
        try await healed
        if let leaving {
            try await leaving.value
            note("\(here) has left")
            try await lab.startDaemon(here)
        }
        for nexus in [hosts.victim, hosts.neighbour, hosts.manager, hosts.writer] { await nexus.drop() }
    }

    private func heal(at end: ContinuousClock.Instant) async throws {
        try? await Task.sleep(until: end)
        note("\(here) is held no more")
        try await lab.heal(here)
    }

    /// When whatever was held has arrived, through every gateway.
    func check() async {
        for gateway in site.portals.indices {
            guard let reader = try? await site.logIn("stuck-reader", gateway, isid: 0x6030) else { continue }
            for (index, lba) in lbas.enumerated() {
                guard let found = await read(lba, reader) else { continue }
                let model = models[index]
                if !models[index].read(found) {
                    scene.find(
                        name,
                        "LBA \(lba) reads \(Stamp.text(found)) through \(site.gateways[gateway]); possible: \(model)")
                }
            }
            if let isRegistered, let now = await readRegistered(reader), now != isRegistered {
                scene.find(
                    name,
                    "the victim is \(now ? "" : "not ")registered through \(site.gateways[gateway]), unlike when its "
                        + "command was over")
            }
            await reader.close()
        }
    }

    // MARK: - Before

    /// Known data, known registrations.
    private func prepare() async -> Hosts? {
        guard
            let victim = try? await site.logIn(
                "stuck-victim", plan.here, isid: 0x6000, attributes: plan.command == .queued),
            let neighbour = try? await site.logIn("stuck-neighbour", plan.here, isid: 0x6010),
            let manager = try? await site.logIn("stuck-manager", plan.manager, isid: 0x6020),
            let writer = try? await site.logIn("stuck-writer", plan.writer, isid: 0x6021)
        else {
            note("cannot log in")
            return nil
        }
        let register = PersistentReserveOut.registerAndIgnoreExistingKey
        var steps: [(Nexus, SCSICommand)] = [
            (writer, .persistentReserveOut(register, actionKey: Self.otherKey)),
            (writer, .persistentReserveOut(.clear, key: Self.otherKey)),
        ]
        if plan.end == .preemptAndAbort {
            steps += [
                (victim, .persistentReserveOut(register, actionKey: Self.victimKey)),
                (neighbour, .persistentReserveOut(register, actionKey: Self.victimKey)),
                (manager, .persistentReserveOut(register, actionKey: Self.otherKey)),
                (writer, .persistentReserveOut(register, actionKey: Self.otherKey)),
                (writer, .persistentReserveOut(.reserve, key: Self.otherKey, type: 5)),
            ]
        }
        // Once these are answered, what is reserved is known to be in force everywhere.
        for nexus in [victim, neighbour, manager, writer] { steps.append((nexus, .persistentReserveIn(.readKeys))) }
        for (nexus, command) in steps {
            let answer = await nexus.answer(toRepeatable: command, within: .seconds(30), lun: site.stuck)
            guard answer.isGood else {
                note("\(command.cdb) through \(nexus.portal): \(answer)")
                return nil
            }
        }
        for index in lbas.indices where await !write(index, writer) { return nil }
        return Hosts(victim: victim, neighbour: neighbour, manager: manager, writer: writer)
    }

    // MARK: - Meanwhile

    /// - Returns: the victim's commands.
    private func send(_ hosts: Hosts) async -> [Pending<SCSIReply>] {
        switch plan.command {
        case .write: return lbas.indices.map { start($0, hosts.victim) }
        case .queued:
            _ = start(0, hosts.neighbour)
            try? await Task.sleep(for: plan.delay)
            return lbas.indices.dropFirst().map { start($0, hosts.victim, .ordered) }
        case .reservation:
            note("REGISTER")
            let register = SCSICommand.persistentReserveOut(.registerAndIgnoreExistingKey, actionKey: Self.victimKey)
            return [hosts.victim.start(register, lun: site.stuck)]
        case .nothing: return []
        }
    }

    private func start(_ index: Int, _ nexus: Nexus, _ attribute: TaskAttribute = .simple) -> Pending<SCSIReply> {
        let stamp = Stamp.number(stamps.next, of: 98)
        models[index].unanswered(stamp)
        note("\(attribute) WRITE \(Stamp.text(stamp)) to LBA \(lbas[index]) through \(here)")
        return nexus.start(.write(lbas[index], Stamp.data(stamp)).with(attribute), lun: site.stuck)
    }

    /// - Returns: whether the victim's commands are over.
    private func end(_ hosts: Hosts, _ sent: [Pending<SCSIReply>]) async -> Bool {
        switch plan.end {
        case .givenUp:
            if plan.aborts {
                for command in sent { _ = hosts.victim.startAborting(command) }
                try? await Task.sleep(for: plan.delay)
            }
            if plan.silent { await hosts.victim.fallSilent() } else { await hosts.victim.drop() }
            note("the victim \(plan.silent ? "falls silent" : "drops the connection")")
            try? await Task.sleep(for: TortureSite.wait)
            return true
        case .manage(let function): return await manage(function, hosts.manager)
        case .leave:
            await waitUntilTold(hosts.neighbour)
            try? await Task.sleep(for: plan.notice)
            Task { await hosts.victim.close() }
            note("the victim logs out")
            return await manage(.logicalUnitReset, hosts.manager)
        case .preemptAndAbort:
            let preempt = SCSICommand.persistentReserveOut(
                .preemptAndAbort, key: Self.otherKey, actionKey: Self.victimKey, type: 5)
            let answer = await hosts.manager.answer(to: preempt, within: TortureSite.bound, lun: site.stuck)
            note("PREEMPT AND ABORT: \(answer)")
            if case .none = answer { scene.find(name, "PREEMPT AND ABORT has no answer after \(TortureSite.bound)") }
            return answer.isGood
        }
    }

    /// The gateway's port is, or becomes, unavailable.
    private func waitUntilTold(_ nexus: Nexus) async {
        let end = ContinuousClock.now + .seconds(20)
        while ContinuousClock.now < end {
            let answer = await nexus.answer(to: .testUnitReady, within: .seconds(2), lun: site.stuck)
            guard answer.isGood else { return note("hosts of \(here) are told: \(answer)") }
            try? await Task.sleep(for: .milliseconds(50))
        }
    }

    private func manage(_ function: TaskManagement, _ nexus: Nexus) async -> Bool {
        await response(nexus.startManaging(function, lun: site.stuck), nexus, "\(function)") == .complete
    }

    private func response(
        _ pending: Pending<TaskManagementResponse>, _ nexus: Nexus, _ what: String
    ) async -> TaskManagementResponse? {
        let (response, isLost) = await nexus.response(pending, within: TortureSite.bound, lun: site.stuck)
        note("\(what): \(response.map { "\($0)" } ?? (isLost ? "session lost" : "no response"))")
        if response == nil, !isLost { scene.find(name, "\(what) has no response after \(TortureSite.bound)") }
        return response
    }

    /// What the victim sent is over, and so is what its neighbour did, if all of the unit's was ended or the same key was.
    private func goOn(_ hosts: Hosts) async {
        guard plan.command != .reservation else {
            isRegistered = await readRegistered(hosts.writer)
            return note("the victim is \(isRegistered.map { $0 ? "registered" : "not registered" } ?? "unknown")")
        }
        if plan.command == .nothing { return await expectRefusal(hosts.victim) }
        let others = plan.command == .queued && plan.end == .givenUp ? 1 : 0
        for index in lbas.indices.dropFirst(others) {
            models[index].waitedOut()
            _ = await write(index, hosts.writer)
        }
    }

    /// The victim has lost its rights.
    private func expectRefusal(_ victim: Nexus) async {
        let stamp = Stamp.number(stamps.next, of: 98)
        models[0].unanswered(stamp)
        let answer = await victim.answer(
            toRepeatable: .write(lbas[0], Stamp.data(stamp)), within: TortureSite.bound, lun: site.stuck)
        note("the victim's WRITE through \(here): \(answer)")
        if answer.isGood { scene.find(name, "a WRITE through \(here) is GOOD after PREEMPT AND ABORT") }
    }

    /// - Returns: whether it is acknowledged.
    private func write(_ index: Int, _ nexus: Nexus) async -> Bool {
        let stamp = Stamp.number(stamps.next, of: 98)
        // Not another try while the first is under way: each ends before.
        let answer = await nexus.answer(
            toRepeatable: .write(lbas[index], Stamp.data(stamp)), within: TortureSite.bound, lun: site.stuck)
        note("WRITE \(Stamp.text(stamp)) to LBA \(lbas[index]) through \(nexus.portal): \(answer)")
        if answer.isGood { models[index].acknowledged(stamp) } else { models[index].unanswered(stamp) }
        return answer.isGood
    }

    private func read(_ lba: UInt64, _ nexus: Nexus) async -> UInt64? {
        let answer = await nexus.answer(toRepeatable: .read(lba, blocks: 1), within: .seconds(30), lun: site.stuck)
        guard case .reply(let reply) = answer, reply.isGood else {
            note("READ of LBA \(lba) through \(nexus.portal): \(answer)")
            return nil
        }
        return Stamp.value(reply.data)
    }

    private func readRegistered(_ nexus: Nexus) async -> Bool? {
        let answer = await nexus.answer(
            toRepeatable: .persistentReserveIn(.readKeys), within: TortureSite.bound, lun: site.stuck)
        guard case .reply(let reply) = answer, reply.isGood else {
            note("PERSISTENT RESERVE IN through \(nexus.portal): \(answer)")
            return nil
        }
        return PersistentReserveIn.keys(in: reply.data).contains(Self.victimKey)
    }

    private func note(_ what: String) { scene.note(name, what) }
}
