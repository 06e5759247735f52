// SPDX-License-Identifier: Apache-2.0
import Initiator
import Reservations

/// Hosts that register, reserve, preempt, clear and move at random through all gateways, on a unit of their own, and read and
/// write in between. What they are told has to fit the rules (``ReservationHistory``).
actor ReservationParty {
    static let hosts = 4
    /// Enough for a round, and few enough to be put in order in a second.
    private static let commands = 120
    /// How many points the search for an order looks at.
    private static let limit = 200_000
    private static let lun = TortureSite.reservations

    private let site: TortureSite
    private let scene: TortureScene
    /// The unit's state before the round.
    private let initial: ReservationState
    private var operations: [ReservationHistory.Operation] = []
    private var left = ReservationParty.hosts
    /// What the last reads through the gateways said.
    private(set) var last: [(gateway: String, status: [UInt8])] = []

    init(site: TortureSite, scene: TortureScene, initial: ReservationState) {
        (self.site, self.scene, self.initial) = (site, scene, initial)
        guard let reserver = initial.reserver else { return }
        // Its session has ended with the round before.
        operations.append(.init(host: -1, sent: 0, answered: .max, kind: .nexusLoss(reserver)))
    }

    func run(seeds: [UInt64], waitsOut: Bool) async {
        // Where little changes, a change that comes late does not fail for what came in between.
        let isQuiet = (seeds.first ?? 0) % 3 == 0
        let hosts = (1...Self.hosts).map { number in
            PartyHost(
                number, site: site, scene: scene, seed: seeds[number % seeds.count] &+ UInt64(number),
                waitsOut: waitsOut, isQuiet: isQuiet, commands: Self.commands)
        }
        await withTaskGroup(of: [ReservationHistory.Operation].self) { group in
            for host in hosts { group.addTask { await host.run() } }
            for await some in group { operations += some }
        }
        await lookAtLast()
        // Not sooner: the end of a session changes something, too.
        for host in hosts { await host.leave() }
    }

    /// When nobody has anything under way any more. Nobody's SPC-2 reservation is left for the next round, either.
    private func lookAtLast() async {
        for gateway in site.gateways.indices {
            // A gateway may have lost its lease a moment ago.
            let end = ContinuousClock.now + .seconds(60)
            while await !lookAtLast(through: gateway) {
                guard ContinuousClock.now < end else {
                    scene.find("party", "cannot read reservations through \(site.gateways[gateway]) at the end")
                    break
                }
                try? await Task.sleep(for: .milliseconds(500))
            }
        }
    }

    private func lookAtLast(through gateway: Int) async -> Bool {
        let (number, name) = (0, site.gateways[gateway])
        guard let nexus = try? await site.logIn("party\(number)", gateway, isid: 0x5000) else { return false }
        defer { Task { await nexus.close() } }
        if last.isEmpty {
            let sent = scene.now.nanoseconds
            let pending = nexus.startManaging(.logicalUnitReset, lun: Self.lun)
            let (response, _) = await nexus.response(pending, within: TortureSite.bound, lun: Self.lun)
            operations.append(
                .init(
                    host: number, sent: sent, answered: scene.now.nanoseconds,
                    kind: .reset(isComplete: response == .complete)))
            scene.note("party", "\(name) logicalUnitReset: \(response.map { "\($0)" } ?? "no response")")
            guard response == .complete else { return false }
        }
        let sent = scene.now.nanoseconds
        let answer = await nexus.answer(toRepeatable: Lab.readFullStatus, within: TortureSite.bound, lun: Self.lun)
        guard case .reply(let reply) = answer, reply.isGood else {
            scene.note("party", "PERSISTENT RESERVE IN through \(name) at the end: \(answer)")
            return false
        }
        operations.append(
            .init(
                host: number, sent: sent, answered: scene.now.nanoseconds,
                kind: .read(cdb: Lab.readFullStatus.cdb, data: reply.data)))
        last.append((name, reply.data))
        return true
    }

    /// Whether all that was told can be.
    ///
    /// - Parameter end: what RADOS has.
    /// - Returns: false if that was not to be decided in good time.
    func check(end: ReservationState) -> Bool {
        let status = end.read(Lab.readFullStatus.cdb).data
        for one in last where one.status != status {
            scene.find("party", "\(one.gateway) says \(one.status), and RADOS has \(status)")
        }
        let begin = ContinuousClock.now
        let verdict = ReservationHistory(initial: initial, operations: operations).search(limit: Self.limit)
        let took = ContinuousClock.now - begin
        switch verdict {
        case .order: scene.note("party", "\(operations.count) commands fit into an order, found in \(took)")
        case .violation(let violation): scene.find("party", "\(violation)")
        case .undecided:
            scene.note("party", "not decided whether \(operations.count) commands fit into an order, after \(took)")
            return false
        }
        return true
    }
}

/// One of them, with a path to each gateway.
private actor PartyHost {
    private struct Path {
        let nexus: Reservations.Nexus
        var session: Initiator.Nexus?
        /// When there was a sign of life last.
        var heard: UInt64 = 0
        /// When to try again.
        var again = ContinuousClock.now
        /// Operations without an answer, by index, and when they are over, whether the path works again or not.
        var loose: [Int] = []
        var safe = ContinuousClock.now
    }

    private let number: Int
    private let name: String
    private let site: TortureSite
    private let scene: TortureScene
    private var random: SeededGenerator
    private let waitsOut: Bool
    private let isQuiet: Bool
    private let commands: Int
    private let patience: Duration
    /// Whether it reserves as SPC-2 had it, which only does something while nobody is registered.
    private let isOldFashioned: Bool
    private var paths: [Path] = []
    private var operations: [ReservationHistory.Operation] = []
    /// Of commands without an answer: each is a host of its own, as this one goes on.
    private var lastLoose = 0

    init(
        _ number: Int, site: TortureSite, scene: TortureScene, seed: UInt64, waitsOut: Bool, isQuiet: Bool,
        commands: Int
    ) {
        self.number = number
        self.site = site
        self.scene = scene
        self.waitsOut = waitsOut
        self.isQuiet = isQuiet
        self.commands = commands
        name = "party\(number)"
        random = SeededGenerator(seed: seed)
        let old = Int.random(in: 0..<3, using: &random) == 0
        isOldFashioned = old && !isQuiet
        patience = Bool.random(using: &random) ? TortureSite.bound : .seconds(Int.random(in: 2...5, using: &random))
    }

    private var isid: UInt32 { UInt32(0x5000 + number) }

    func run() async -> [ReservationHistory.Operation] {
        scene.expectSettling(name)
        defer { scene.settled(name) }
        do {
            paths = try site.ports.map { port in
                let initiator = try Lab.initiatorPort(TortureSite.initiator(name), isid: isid)
                return Path(nexus: Reservations.Nexus(initiator, port: port))
            }
        } catch {
            scene.find(name, "\(error)")
            return []
        }
        while scene.phase == .working {
            if operations.count < commands { await step() }
            try? await Task.sleep(for: .milliseconds(Int.random(in: 10...120, using: &random)))
        }
        for gateway in paths.indices { await settle(gateway) }
        return operations
    }

    func leave() {
        for path in paths {
            if let session = path.session { Task { await session.close() } }
        }
    }

    /// Whatever has no answer is over, one way or the other.
    private func settle(_ gateway: Int) async {
        while !paths[gateway].loose.isEmpty {
            if paths[gateway].safe <= .now { return end(gateway) }
            if !waitsOut, await session(gateway) != nil { return }
            try? await Task.sleep(for: .milliseconds(200))
        }
    }

    /// What was sent through a gateway and had no answer is over.
    private func end(_ gateway: Int) {
        for index in paths[gateway].loose { operations[index].answered = scene.now.nanoseconds }
        paths[gateway].loose = []
    }

    private func session(_ gateway: Int) async -> Initiator.Nexus? {
        if let session = paths[gateway].session { return session }
        guard paths[gateway].again <= .now else { return nil }
        guard let session = try? await site.logIn(name, gateway, isid: isid, within: .seconds(2)),
            await session.answer(toRepeatable: .testUnitReady, within: .seconds(2), lun: Self.lun).isUsual
        else {
            paths[gateway].again = .now + .milliseconds(500)
            return nil
        }
        scene.note(name, "logged in to \(site.gateways[gateway])")
        paths[gateway].session = session
        paths[gateway].heard = scene.now.nanoseconds
        end(gateway)
        return session
    }

    private static let lun = TortureSite.reservations

    private func step() async {
        let gateway = Int.random(in: paths.indices, using: &random)
        guard let session = await session(gateway) else { return }
        let nexus = paths[gateway].nexus
        switch Int.random(in: 0..<50, using: &random) {
        case 0: return await lose(gateway, since: scene.now.nanoseconds, "drops the connection")
        case 1: return await reset(session, gateway)
        default: break
        }
        let command = draw()
        let sent = scene.now.nanoseconds
        if command.changesReservations, Int.random(in: 0..<(isQuiet ? 3 : 20), using: &random) == 0 {
            _ = session.start(command, lun: Self.lun)
            try? await Task.sleep(for: .milliseconds(Int.random(in: 0...20, using: &random)))
            addLoose(.aborted(reservation(command, nexus)), sent: sent, gateway)
            return await lose(
                gateway, since: paths[gateway].heard, "\(Self.text(command)), and drops the connection")
        }
        let answer = await session.answer(to: command, within: patience, lun: Self.lun)
        scene.note(name, "\(site.gateways[gateway]) \(Self.text(command)): \(answer)")
        guard case .reply(let reply) = answer else {
            if case .none = answer, patience == TortureSite.bound {
                scene.find(name, "\(Self.text(command)) has no answer after \(patience), and its session stands")
            }
            let since = paths[gateway].heard
            if command.changesReservations { addLoose(.aborted(reservation(command, nexus)), sent: sent, gateway) }
            return await lose(gateway, since: since, "\(answer)")
        }
        paths[gateway].heard = scene.now.nanoseconds
        if reply.isAttention { return }
        if let kind = ReservationHistory.Operation.Kind(command, of: nexus, ports: site.ports, reply) {
            add(kind, sent: sent)
        } else if command.changesReservations {
            // Done or not, but over.
            add(.aborted(reservation(command, nexus)), sent: sent)
        }
        if reply.isPortUnavailable { await lose(gateway, since: sent, "is refused") }
    }

    private func draw() -> SCSICommand {
        let lba = UInt64(number * 8)
        if isQuiet, Int.random(in: 0..<10, using: &random) != 0 {
            return Bool.random(using: &random) ? Lab.readFullStatus : .read(lba, blocks: 1)
        }
        switch Int.random(in: 0..<20, using: &random) {
        case 0..<4: return .read(lba, blocks: 1)
        case 4..<8: return .write(lba, Stamp.data(UInt64(number)))
        case 8 where !isOldFashioned, 8..<14 where isOldFashioned:
            return Int.random(in: 0..<3, using: &random) == 0 ? .release6 : .reserve6
        case 14 where isOldFashioned: return .persistentReserveOut(.clear, key: UInt64(number))
        case 15:
            let from = UInt64(number)
            guard let other = paths.randomElement(using: &random) else { return .testUnitReady }
            return .registerAndMove(
                key: from, newKey: UInt64.random(in: 1...UInt64(ReservationParty.hosts), using: &random),
                to: other.nexus.port, transportID: other.nexus.initiator.bytes,
                unregister: Bool.random(using: &random))
        default:
            return Lab.drawReservationCommand(
                key: UInt64(number), hosts: ReservationParty.hosts, types: [1, 3, 5, 6, 7, 8], using: &random)
        }
    }

    private func reset(_ session: Initiator.Nexus, _ gateway: Int) async {
        let sent = scene.now.nanoseconds
        let pending = session.startManaging(.logicalUnitReset, lun: Self.lun)
        let (response, isLost) = await session.response(pending, within: patience, lun: Self.lun)
        let what = response.map { "\($0)" } ?? (isLost ? "session lost" : "no response")
        scene.note(name, "\(site.gateways[gateway]) logicalUnitReset: \(what)")
        if response == nil, !isLost, patience == TortureSite.bound {
            scene.find(name, "logicalUnitReset has no response after \(patience)")
        }
        if response != nil { return add(.reset(isComplete: response == .complete), sent: sent) }
        addLoose(.reset(isComplete: false), sent: sent, gateway)
        await lose(gateway, since: paths[gateway].heard, what)
    }

    private func reservation(_ command: SCSICommand, _ nexus: Reservations.Nexus) -> ReservationCommand {
        ReservationCommand(nexus: nexus, cdb: command.cdb, parameters: command.output, ports: site.ports)
    }

    private func add(_ kind: ReservationHistory.Operation.Kind, sent: UInt64) {
        operations.append(.init(host: number, sent: sent, answered: scene.now.nanoseconds, kind: kind))
    }

    /// - Parameter gateway: where it may still take effect until the path works again, or has been waited out.
    private func addLoose(_ kind: ReservationHistory.Operation.Kind, sent: UInt64, _ gateway: Int?) {
        lastLoose += 1
        if let gateway { paths[gateway].loose.append(operations.count) }
        operations.append(.init(host: number * 1000 + lastLoose, sent: sent, answered: .max, kind: kind))
    }

    /// A session is no more, and has not been for as long at most. Its node finds out some time, if it lives.
    private func lose(_ gateway: Int, since: UInt64, _ why: String) async {
        scene.note(name, "gives up \(site.gateways[gateway]): \(why)")
        addLoose(.nexusLoss(paths[gateway].nexus), sent: since, nil)
        if let session = paths[gateway].session { await session.drop() }
        paths[gateway].session = nil
        paths[gateway].safe = .now + TortureSite.wait
        paths[gateway].again = .now + .milliseconds(Int.random(in: 0...1000, using: &random))
        if waitsOut, !paths[gateway].loose.isEmpty { paths[gateway].again = paths[gateway].safe }
    }

    private static func text(_ command: SCSICommand) -> String {
        switch command.cdb[0] {
        case 0x88: "READ"
        case 0x8A: "WRITE"
        case 0x16: "RESERVE"
        case 0x17: "RELEASE"
        case 0x5E: "PERSISTENT RESERVE IN \(command.cdb[1])"
        case 0x5F: "PERSISTENT RESERVE OUT \(command.cdb[1]) type \(command.cdb[2]) \(command.output.prefix(16))"
        default: "\(command.cdb)"
        }
    }
}

extension SCSICommand {
    /// Whether it is one of PERSISTENT RESERVE OUT, RESERVE and RELEASE.
    fileprivate var changesReservations: Bool { [0x5F, 0x16, 0x17].contains(cdb[0]) }
}

extension TortureAnswer {
    /// Whether the unit answers: TEST UNIT READY may meet a reservation.
    fileprivate var isUsual: Bool {
        if case .reply(let reply) = self { reply.isGood || reply.isReservationConflict } else { false }
    }
}
