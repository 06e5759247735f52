// SPDX-License-Identifier: Apache-2.0
import Foundation
import Initiator

/// What a round of torture came to.
public struct TortureRound: Sendable {
    public var plan: TorturePlan
    /// What must not be; none in a good round.
    public var findings: [TortureEvent]
    /// All that happened.
    public var trace: [TortureEvent]
    /// Whether it has been decided that what hosts were told of reservations fits the rules.
    public var isDecided: Bool
}

/// Hosts that do at random all that hosts may do, while at random something of the cluster fails, round after round.
///
/// What is checked: no older data stands over newer that was acknowledged, be it zeros or copies, and nothing changes that is
/// over (``BlockModel``); nothing of a preempted nexus lands or is GOOD after GOOD of PREEMPT AND ABORT; counters counted by
/// COMPARE AND WRITE have one history (``CounterHistory``), and so has what hosts were told of reservations, by the rules of the
/// pure engine (``ReservationHistory``); every command is answered or its session ends; nothing is in flight
/// when the hosts have left; and consoles are clean.
public actor Torture {
    private let lab: Lab
    private let seed: UInt64
    private let site: TortureSite
    private let hosts: [StampHost]
    private let stamps = FencingPair.Stamps()
    private let broken: String?
    private let story: FileHandle?
    /// OSDs of states of reservations, but for the one that leases depend on, without which nobody serves.
    private let favourites: [Int]
    /// Of the unit with commands that get stuck.
    private let placement: Placement

    /// How long hosts may need to find a way to write, once the faults are over.
    private static let settling = Duration.seconds(240)

    /// What a lab needs for it.
    public static func options(name: String, kernel: KernelFlavour) -> LabOptions {
        LabOptions(
            name: name, gateways: 3, initiators: 0, osds: 4, luns: 5, size: 256 << 20, kernel: kernel,
            daemon: kernel != .stock)
    }

    /// - Parameters:
    ///   - lab: one of ``options(name:kernel:)`` that nobody has written to.
    ///   - story: where all that happens goes as it happens.
    ///   - broken: a rule that the gateways' kernels do not obey; takes the kernel `broken` or `debug`.
    /// - Throws: `ISCSIError`, `LabError` if the first gateway does not serve.
    public init(_ lab: Lab, seed: UInt64, hosts: Int = 4, broken: String? = nil, story: FileHandle? = nil) async throws
    {
        self.lab = lab
        self.broken = broken
        self.story = story
        self.seed = seed
        let nodes = lab.description().nodes.filter { $0.portal != nil }
        let portals = nodes.compactMap(\.portal)
        guard let portal = portals.first else { throw LabError("the lab", "has no gateway") }
        let naa = try await blocking(in: lab.netns) {
            try Identity(session: try ISCSISession(portal: portal, target: Lab.targetName), lun: TortureSite.stamps).naa
        }
        let digits = Array(naa ?? "")
        var ports: [UInt16] = []
        for node in nodes {
            // A gateway that has just come has much to tell first.
            try await lab.waitUntilServed(node, lun: TortureSite.reservations)
            guard let portal = node.portal else { continue }
            ports.append(try await lab.relativePort(portal, lun: TortureSite.reservations))
        }
        // Of those that no other host uses, one whose reservations are not where leases are.
        var stuck = (lun: 3, placement: try await lab.placement(lun: 3))
        if stuck.placement.state == stuck.placement.group { stuck = (4, try await lab.placement(lun: 4)) }
        placement = stuck.placement
        let site = TortureSite(
            gateways: nodes.map(\.name), portals: portals, namespace: lab.netns,
            naa: stride(from: 0, to: digits.count - 1, by: 2).compactMap {
                UInt8(String(digits[$0..<$0 + 2]), radix: 16)
            }, stuck: stuck.lun, ports: ports)
        self.site = site
        var favourites: [Int] = []
        for lun in [TortureSite.fencing, TortureSite.reservations] {
            let placement = try await lab.placement(lun: lun, objects: 1)
            if placement.state != placement.group { favourites.append(placement.state) }
        }
        self.favourites = favourites
        let scene = TortureScene()
        self.hosts = (0..<hosts).map { StampHost($0, site: site, scene: scene) }
    }

    /// One round. The cluster is whole again at its end, if it can be.
    ///
    /// - Throws: `LabError` if the lab does not do as told.
    public func round(_ number: Int) async throws -> TortureRound {
        let plan = TorturePlan(
            seed: seed, round: number, gateways: site.gateways, osds: lab.options.osds, daemons: lab.options.daemon,
            favourites: favourites)
        for node in lab.description().nodes where node.portal != nil {
            try await lab.waitUntilServed(node, within: .seconds(120))
            // Again and again: some start anew.
            if let broken {
                let parameter = "/sys/module/blk_cluster/parameters/break"
                try await lab.check(node.name, ["sh", "-c", "echo \(broken) > \(parameter)"])
                let rule = try await lab.check(node.name, ["cat", parameter])
                guard rule == broken else { throw LabError(parameter, "of \(node.name) says \(rule), not \(broken)") }
            }
        }
        let scene = TortureScene(story: story)
        scene.note("round", "\(number) of seed \(seed)\(plan.waitsOut ? ", hosts wait out" : "")")
        let counters = Counters()
        guard let first = await readCounters(scene) else { throw LabError("counters", "cannot be read") }
        let pair = FencingPair(site: site, scene: scene, seed: plan.seeds[30], stamps: stamps)
        let party = ReservationParty(
            site: site, scene: scene, initial: try await lab.reservations(lun: TortureSite.reservations))
        let (site, hosts) = (site, hosts)
        await withTaskGroup(of: Void.self) { group in
            if plan.stuck?.isAlone != true {
                for (index, host) in hosts.enumerated() {
                    group.addTask { await host.round(scene, seed: plan.seeds[index % 16], waitsOut: plan.waitsOut) }
                }
                for index in site.portals.indices {
                    group.addTask {
                        await Counters.count(index, site, scene, counters, seed: plan.seeds[16 + index % 8])
                    }
                }
                group.addTask { await pair.run() }
                group.addTask { await party.run(seeds: Array(plan.seeds[24..<28]), waitsOut: plan.waitsOut) }
            }
            group.addTask { [self] in
                do {
                    try await direct(plan, scene)
                } catch {
                    scene.find("lab", "\(error)")
                }
                scene.enter(.done)
            }
        }
        if let last = await readCounters(scene) {
            for problem in counters.problems(from: first, to: last) { scene.find("counters", problem) }
        } else {
            scene.find("counters", "cannot be read at the end")
        }
        let isDecided = await party.check(end: try await lab.reservations(lun: TortureSite.reservations))
        await expectQuiet(scene)
        let problems = lab.consoleProblems()
        for problem in problems { scene.find("console", "\(problem)") }
        // The splat itself: the lab is gone when somebody reads the trace.
        if let first = problems.first {
            let lines = ConsoleLog.lines(Files.bytes(lab.console(first.node), from: 0) ?? [])
            for line in lines.dropFirst(first.line - 1).prefix(200) { scene.note(first.node, line) }
        }
        return TortureRound(plan: plan, findings: scene.findings, trace: scene.events, isDecided: isDecided)
    }

    /// After the last round: each gateway can leave in good order, which takes that no command is left, and then nothing of it
    /// is: no target, no mapped image, and no module that cannot be unloaded.
    ///
    /// - Throws: `LabError` with what is left.
    public func end() async throws {
        guard lab.options.daemon else { return }
        let clio = try lab.executable("clio")
        for gateway in site.gateways {
            try await lab.check(gateway, [clio, "node", "down"], timeout: .seconds(120))
            try await lab.unloadModules(gateway)
        }
    }

    /// Makes faults begin and end, and the hosts settle.
    private func direct(_ plan: TorturePlan, _ scene: TortureScene) async throws {
        let start = ContinuousClock.now + .seconds(1)
        var stuck: StuckHosts?
        if let plan = plan.stuck {
            let hosts = StuckHosts(plan, site: site, scene: scene, lab: lab, placement: placement, stamps: stamps)
            try await hosts.play()
            stuck = hosts
        }
        // Links heal as a whole, so one that is over early is over for all of the node's.
        var pending = plan.steps.flatMap { step in
            [(at: step.begin, fault: step.fault, begins: true), (at: step.end, fault: step.fault, begins: false)]
        }.sorted { $0.at < $1.at }
        var failure: (any Error)?
        while !pending.isEmpty {
            let next = pending.removeFirst()
            // Once something has gone wrong the rest only ends.
            if failure != nil, next.begins { continue }
            if failure == nil { try? await Task.sleep(until: start + next.at) }
            scene.note("fault", "\(next.fault) \(next.begins ? "begins" : "ends")")
            do {
                if next.begins { try await begin(next.fault) } else { try await end(next.fault) }
            } catch {
                failure = failure ?? error
            }
            scene.note("fault", "\(next.fault) \(next.begins ? "has begun" : "has ended")")
        }
        if let failure { throw failure }
        let arrived = ContinuousClock.now + plan.lateness
        try? await Task.sleep(until: start + plan.length)
        scene.enter(.settling)
        let end = ContinuousClock.now + Self.settling
        while !scene.unsettled.isEmpty, ContinuousClock.now < end { try? await Task.sleep(for: .milliseconds(100)) }
        if !scene.unsettled.isEmpty {
            scene.find("lab", "no way to write within \(Self.settling): \(scene.unsettled.joined(separator: ", "))")
        }
        try? await Task.sleep(until: max(arrived, .now + .milliseconds(500)))
        for node in lab.description().nodes where node.portal != nil {
            try await lab.waitUntilServed(node, within: .seconds(120))
        }
        await stuck?.check()
    }

    private func begin(_ fault: TortureFault) async throws {
        switch fault {
        case .gateway(let fault, let node): try await lab.begin(fault, node)
        case .hold(let node, let osd): try await lab.slow(node, from: osd, Slowness(delay: .seconds(3600)))
        case .slow(let node, let osd, let milliseconds, let percent):
            try await lab.slow(
                node, from: osd, Slowness(delay: .milliseconds(milliseconds), loss: Double(percent) / 100))
        case .cut(let node, let osd): try await lab.cut(node, from: .oneOSD(osd))
        case .pause(let osd): try await lab.pause(OSDName.text(osd))
        case .freezeDaemon(let node): try await lab.check(node, ["sh", "-c", "kill -STOP $(pgrep -x cliod)"])
        }
    }

    private func end(_ fault: TortureFault) async throws {
        switch fault {
        case .gateway(let fault, let node): try await lab.end(fault, node)
        case .hold(let node, _), .slow(let node, _, _, _), .cut(let node, _): try await lab.heal(node)
        case .pause(let osd): try await lab.resume(OSDName.text(osd))
        case .freezeDaemon(let node): try await lab.check(node, ["sh", "-c", "kill -CONT $(pgrep -x cliod)"])
        }
    }

    private func readCounters(_ scene: TortureScene) async -> [UInt64]? {
        for gateway in site.portals.indices {
            guard let nexus = try? await site.logIn("referee", gateway, isid: 0x4000) else { continue }
            let values = await Counters.read(nexus)
            Task { await nexus.close() }
            if let values { return values }
        }
        return nil
    }

    /// No host is there any more, so no command may be.
    private func expectQuiet(_ scene: TortureScene) async {
        guard lab.options.daemon else { return }
        for node in lab.description().nodes where node.portal != nil {
            let end = ContinuousClock.now + .seconds(30)
            while true {
                let counts = await inFlight(node)
                if let counts, counts.allSatisfy({ $0 == 0 }) { break }
                guard ContinuousClock.now < end else {
                    scene.find(
                        "quiet",
                        counts.map { "\(node.name) has commands in flight, orphans: \($0)" }
                            ?? "\(node.name) has no metrics")
                    break
                }
                try? await Task.sleep(for: .milliseconds(300))
            }
        }
    }

    /// Commands in flight and orphans, as the node's cliod has them of the kernel.
    private func inFlight(_ node: LabDescription.Node) async -> [Double]? {
        let url = "http://\(node.address):\(Lab.metricsPort)/metrics"
        guard let text = try? await lab.hostCheck(["curl", "-sf", "-m", "5", url]) else { return nil }
        let values = ["clio_commands_in_flight", "clio_commands_orphaned"].compactMap { name in
            text.split(separator: "\n").first { $0.hasPrefix(name) }?.split(separator: " ").last.flatMap { Double($0) }
        }
        return values.count == 2 ? values : nil
    }
}
