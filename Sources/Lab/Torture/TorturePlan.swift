// SPDX-License-Identifier: Apache-2.0

/// What goes wrong in a round of torture.
public enum TortureFault: Sendable, Hashable, CustomStringConvertible {
    case gateway(Fault, node: String)
    /// All packets between a node and an OSD are held until it is over, and then arrive.
    case hold(node: String, osd: Int)
    /// Packets between a node and an OSD are delayed and lost.
    case slow(node: String, osd: Int, milliseconds: Int, percent: Int)
    case cut(node: String, osd: Int)
    case pause(osd: Int)
    /// The node's cliod stands still.
    case freezeDaemon(node: String)

    public var description: String {
        switch self {
        case .gateway(let fault, let node): "\(fault.rawValue) \(node)"
        case .hold(let node, let osd): "hold \(node) from \(OSDName.text(osd))"
        case .slow(let node, let osd, let milliseconds, let percent):
            "slow \(node) from \(OSDName.text(osd)) by \(milliseconds) ms, loss \(percent) %"
        case .cut(let node, let osd): "cut \(node) from \(OSDName.text(osd))"
        case .pause(let osd): "pause \(OSDName.text(osd))"
        case .freezeDaemon(let node): "freeze cliod of \(node)"
        }
    }

    /// Whether it needs gateways with cliod.
    var concernsDaemon: Bool {
        switch self {
        case .gateway(let fault, _): fault.concernsDaemon
        case .freezeDaemon: true
        default: false
        }
    }
}

/// A round of torture, as a seed decides it: what goes wrong, when, for how long, and what the hosts draw.
public struct TorturePlan: Sendable, Equatable {
    /// A fault, and when it begins and ends after the hosts have begun.
    public struct Step: Sendable, Equatable {
        public var fault: TortureFault
        public var begin: Duration
        public var end: Duration
    }

    /// In the order in which they begin; none at all in some rounds.
    public var steps: [Step] = []
    /// What is stuck, in place of other faults.
    public var stuck: StuckPlan?
    /// Whether hosts that have lost a path wait out what they sent and go on elsewhere. Otherwise they try to come back the same
    /// way first, which makes it over, too, and is sooner done.
    public var waitsOut: Bool
    /// How long hosts go on after the first second.
    public var length: Duration
    /// What each host's own draws begin with; more hosts than that take them in turn.
    public var seeds: [UInt64]

    /// - Parameters:
    ///   - daemons: whether gateways have cliod.
    ///   - favourites: OSDs that every other fault of an OSD or a link concerns, for what only they serve.
    public init(
        seed: UInt64, round: Int, gateways: [String], osds: Int, daemons: Bool = true, favourites: [Int] = []
    ) {
        var random = SeededGenerator(seed: seed &* 0x9E37_79B9_7F4A_7C15 &+ UInt64(round) &* 0xBF58_476D_1CE4_E5B9)
        // Its first numbers are as close to each other as the seeds are.
        for _ in 0..<8 { _ = random.next() }
        waitsOut = Int.random(in: 0..<5, using: &random) == 0
        let count = [0, 1, 1, 1, 1, 2, 2, 2].randomElement(using: &random) ?? 1
        var end = Duration.seconds(3)
        // As many draws whatever the favourites are: where objects are is the lab's affair, not the seed's.
        func draw(_ random: inout SeededGenerator) -> Int {
            let any = Int.random(in: 0..<osds, using: &random)
            let favourite = Int.random(in: 0..<max(1, favourites.count), using: &random)
            return Bool.random(using: &random) && !favourites.isEmpty ? favourites[favourite] : any
        }
        var first: String?
        for number in 0..<count {
            // A gateway that starts again has to reach all of Ceph.
            let others = gateways.filter { $0 != first }
            guard let node = others.randomElement(using: &random) else { break }
            first = node
            let begin = Duration.milliseconds(Int.random(in: 300...2000, using: &random))
            // Mostly over before anybody is fenced; some last longer than F.
            let lengths = [200...3000, 200...3000, 2000...6000, 6000...9000, 8000...13000]
            let length = Int.random(in: lengths.randomElement(using: &random) ?? 200...3000, using: &random)
            // Of two, one leaves the node itself alone.
            let fault = number == 0 ? Self.fault(node, draw, daemons, &random) : Self.linkFault(node, draw, &random)
            steps.append(Step(fault: fault, begin: begin, end: begin + .milliseconds(length)))
            end = max(end, begin + .milliseconds(length))
        }
        // What a host has sent is still held when it goes on elsewhere.
        if waitsOut, Bool.random(using: &random), let node = gateways.randomElement(using: &random) {
            let hold = TortureFault.hold(node: node, osd: draw(&random))
            end = .milliseconds(Int.random(in: 24000...28000, using: &random))
            steps = [Step(fault: hold, begin: .milliseconds(Int.random(in: 300...1000, using: &random)), end: end)]
        }
        steps.sort { $0.begin < $1.begin }
        stuck = StuckPlan(seed: seed, round: round, gateways: gateways.count, daemons: daemons)
        if let stuck { (steps, end) = ([], stuck.hold) }
        length = end + .seconds(1)
        seeds = (0..<32).map { _ in random.next() }
    }

    /// Whether a gateway loses its lease for good: it dies, or cannot renew for longer than the others watch that.
    public var fences: Bool {
        steps.contains { step in
            switch step.fault {
            case .gateway(.kill, _): true
            case .gateway(.freeze, _), .gateway(.cutFromOSDs, _), .gateway(.cutFromAll, _), .gateway(.killDaemon, _),
                .freezeDaemon:
                step.end - step.begin > .seconds(9)
            default: false
            }
        }
    }

    /// How long after its faults something may still arrive that was held meanwhile: TCP, having tried in vain, tries again after
    /// as long.
    public var lateness: Duration {
        if let stuck { return min(stuck.hold, .seconds(6)) }
        return steps.map { step in
            switch step.fault {
            case .hold, .slow, .cut, .gateway(.cutFromOSDs, _), .gateway(.cutFromAll, _), .gateway(.cutFromHosts, _):
                min(step.end - step.begin, .seconds(6))
            default: .milliseconds(500)
            }
        }.max() ?? .zero
    }

    private static func fault(
        _ node: String, _ draw: (inout SeededGenerator) -> Int, _ daemons: Bool, _ random: inout SeededGenerator
    ) -> TortureFault {
        guard Int.random(in: 0..<10, using: &random) < 6 else { return linkFault(node, draw, &random) }
        let faults =
            Fault.allCases.filter { $0 != .pauseOSDs }.map { TortureFault.gateway($0, node: node) }
            + [.freezeDaemon(node: node)]
        return faults.filter { daemons || !$0.concernsDaemon }.randomElement(using: &random)
            ?? .gateway(.freeze, node: node)
    }

    private static func linkFault(
        _ node: String, _ draw: (inout SeededGenerator) -> Int, _ random: inout SeededGenerator
    ) -> TortureFault {
        let osd = draw(&random)
        return switch Int.random(in: 0..<8, using: &random) {
        case 0..<3: .hold(node: node, osd: osd)
        case 3, 4:
            .slow(
                node: node, osd: osd, milliseconds: Int.random(in: 20...700, using: &random),
                percent: Int.random(in: 0...10, using: &random))
        case 5: .cut(node: node, osd: osd)
        default: .pause(osd: osd)
        }
    }
}
