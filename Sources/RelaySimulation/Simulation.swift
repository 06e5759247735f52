// SPDX-License-Identifier: Apache-2.0

import ClusterModel
import Relay

/// Everything that one run consists of.
final class Cluster {
    /// An event, from the time a kernel raises it.
    struct Event {
        let event: KernelEvent
        unowned let origin: Node
        let raisedAt: Time
        /// Whether its kernel has been told how it ended, or waits no more.
        var ended = false
    }

    let world: World
    let ceph: Ceph
    let timing: Timing
    let schedule: Schedule
    let broken: Rule?
    fileprivate(set) var nodes: [Node] = []
    fileprivate(set) var hostList: [Host] = []
    var events: [Event] = []
    /// Numbers of the events that are complete.
    var completed: Set<Int> = []
    private(set) var lastOperation = 0

    // How bad the weather is.
    let operationTimeout: Time
    private(set) var failingOperations: Double
    private(set) var stuckOperations: Stuck
    private(set) var stuckReplies: Stuck
    private(set) var stuckWrites: Stuck
    private(set) var failingArming: Double
    private(set) var stuckArming: Stuck

    init(_ world: World, timing: Timing, blocks: Int, breaking broken: Rule?) {
        self.world = world
        self.timing = timing
        self.broken = broken
        schedule = Schedule(timing)
        ceph = Ceph(world, osds: 3, blocks: blocks)
        operationTimeout = world.random.time(1500 * millisecond...5 * second)
        failingOperations = world.random.chance(0.5) ? 0 : 0.03 * world.random.unit()
        func stuck(_ probability: Double, _ most: Time) -> Stuck {
            Stuck(probability: world.random.chance(0.4) ? 0 : probability * world.random.unit(), most: most)
        }
        stuckOperations = stuck(0.02, 6 * second)
        stuckReplies = stuck(0.04, 5 * second)
        stuckWrites = stuck(0.01, 40 * second)
        failingArming = world.random.chance(0.5) ? 0 : 0.3 * world.random.unit()
        stuckArming = stuck(0.3, 8 * second)
        ceph.mapSpread = world.random.time(second / 2...60 * second)
    }

    func nextOperation() -> Int {
        lastOperation += 1
        return lastOperation
    }

    func reset(connectionsTo node: Node) {
        for host in hostList { host.reset(connectionsTo: node) }
    }

    /// What should have ended or gone on since `time` and has not, if there is something.
    fileprivate func complaint(since time: Time) -> String? {
        for case let complaint? in nodes.map(\.complaint) { return complaint }
        for case let complaint? in hostList.map({ $0.complaint(since: time) }) { return complaint }
        for (number, event) in events.enumerated() {
            // A node that is deaf for good may be the last one of all, and nobody tells it that it is out.
            if !event.ended, event.raisedAt < time, !event.origin.isDeaf {
                return "event \(number) of \(event.origin.name) never ends"
            }
        }
        return nil
    }

    func clearUp() {
        failingOperations = 0
        stuckOperations.probability = 0
        stuckReplies.probability = 0
        stuckWrites.probability = 0
        failingArming = 0
        stuckArming.probability = 0
    }
}

/// How often a message gets stuck in a network or an OSD, and for how long at most.
struct Stuck {
    var probability: Double
    var most: Time
}

extension World {
    /// How long a message takes: mostly well below a millisecond, sometimes long.
    func latency(stuck: Stuck = Stuck(probability: 0, most: 0)) -> Time {
        if stuck.probability > 0, random.chance(stuck.probability) { return random.time(0...stuck.most) }
        if random.chance(0.02) { return random.time(millisecond...300 * millisecond) }
        return random.time(100_000...millisecond)
    }
}

/// One run of the simulator: a cluster of some nodes and hosts, faults from a seed, and checks all the time.
package struct Simulation: Sendable {
    /// How a run ended.
    package struct Outcome: Sendable {
        /// What was violated; `nil` if nothing was.
        package var violation: String?
        package var nodes: Int
        /// Virtual time, seconds.
        package var duration: Double
        package var steps: Int
        package var writes: Int
        package var events: Int
        package var fenced: Int
    }

    package var seed: UInt64
    /// Number of nodes; the seed decides if `nil`.
    package var nodes: Int?
    /// The rule that all nodes break.
    package var broken: Rule?

    package init(seed: UInt64, nodes: Int? = nil, breaking broken: Rule? = nil) {
        self.seed = seed
        self.nodes = nodes
        self.broken = broken
    }

    /// - Parameter log: Takes the story of the run, line by line.
    package func run(log: ((String) -> Void)? = nil) -> Outcome {
        let world = World(seed: seed, log: log)
        // Mostly few nodes: what goes wrong among fifty goes wrong among three, and sooner.
        let size = world.random.unit()
        let drawn = size < 0.9 ? 2 + world.random.index(4) : size < 0.99 ? 6 + world.random.index(10) : 50
        let count = nodes ?? drawn
        let hostCount = 1 + world.random.index(3)
        let blocks = hostCount * 2
        let timings = [Timing(renew: 1, lease: 3, dead: 4), Timing(renew: 2, lease: 8, dead: 11, bound: 15)]
        let timing = world.random.chance(0.7) ? Timing() : timings[world.random.index(2)]
        let cluster = Cluster(world, timing: timing, blocks: blocks, breaking: broken)
        cluster.nodes = (0..<count).map { Node(cluster, name: "gw\($0)") }
        for host in 0..<hostCount {
            let first = world.random.index(count)
            let used = (0..<min(count, 4)).map { cluster.nodes[(first + $0) % count] }
            let pace = world.random.time(50 * millisecond...400 * millisecond)
            cluster.hostList.append(Host(cluster, nodes: used, blocks: [host * 2, host * 2 + 1], pace: pace))
        }
        for node in cluster.nodes { world.after(world.random.time(0...3 * second)) { node.boot() } }
        let calm = 12 * second
        let end = calm + world.random.time(20 * second...90 * second)
        Weather(cluster).plan(from: calm, to: end)
        world.run(until: end)

        // All faults are over; whatever waits must end now.
        world.tell("calm")
        cluster.clearUp()
        for node in cluster.nodes {
            node.heal()
            node.thaw()
            node.boot()
            node.startRelay()
            node.join()
        }
        let settled = end + 60 * second
        world.run(until: settled + 40 * second)
        if let complaint = cluster.complaint(since: settled) {
            world.fail("faults have been over for 100 s, and \(complaint)")
        }
        return Outcome(
            violation: world.violation, nodes: count, duration: Double(world.now) / Double(second), steps: world.steps,
            writes: cluster.ceph.acknowledged.reduce(0, +), events: cluster.completed.count,
            fenced: cluster.ceph.settledAt.count)
    }
}

/// Random faults.
private struct Weather {
    let cluster: Cluster
    let world: World

    init(_ cluster: Cluster) {
        self.cluster = cluster
        world = cluster.world
    }

    func plan(from start: Time, to end: Time) {
        var time = start
        // In a storm everything fails at once; one fault in calm weather shows what the others do about it.
        let pause = world.random.chance(0.5) ? world.random.time(second...6 * second) : 15 * second
        while time < end {
            // Faults come alone, and close together.
            let node = world.random.index(cluster.nodes.count)
            schedule(at: time, node: node, end)
            time += world.random.chance(0.3) ? world.random.time(0...second) : world.random.time(0...2 * pause)
        }
        if world.random.chance(0.15) {
            // For good: the others must get along without it.
            let node = cluster.nodes[world.random.index(cluster.nodes.count)]
            world.at(world.random.time(start...end)) { node.deafen() }
        }
        var next = start / 2
        while next < end + 50 * second {
            let node = cluster.nodes[world.random.index(cluster.nodes.count)]
            let deadline = world.random.chance(0.1)
            world.at(next) { node.raise(deadline: deadline) }
            next += world.random.time(0...4 * second)
        }
    }

    private func schedule(at time: Time, node index: Int, _ end: Time) {
        let node = cluster.nodes[index]
        let kind = world.random.index(100)
        let duration = length()
        let until = min(end, time + duration)
        switch kind {
        case ..<20:
            world.at(time) { node.freeze() }
            world.at(until) { node.thaw() }
            // What a thawing node may still do, and what it is told, is worth a second fault.
            if world.random.chance(0.4) {
                world.at(until + world.random.time(0...500 * millisecond)) { if world.now < end { strikeAgain(node) } }
            }
        case ..<30:
            world.at(time) { node.crash() }
            world.at(until) { node.boot() }
        case ..<45:
            world.at(time) { if world.now < end { node.cut(osds: true, hosts: false) } }
            world.at(until) { node.heal() }
        case ..<60:
            // Sessions go, and some of their writes stay.
            if world.random.chance(0.5) { delayWrites(of: node, at: time, end) }
            world.at(time) { if world.now < end { node.cut(osds: false, hosts: true) } }
            world.at(until) { node.heal() }
        case ..<67:
            world.at(time) { if world.now < end { node.cut(osds: true, hosts: true) } }
            world.at(until) { node.heal() }
        case ..<79:
            world.at(time) { node.stopRelay() }
            world.at(until) { node.startRelay() }
        case ..<84:
            world.at(time) { node.leave() }
            world.at(until) { node.join() }
        case ..<88:
            stall(at: time, until)
        case ..<90: delayWrites(of: node, at: time, end)
        case ..<93:
            world.at(time) {
                world.tell("monitors stall")
                cluster.ceph.monitorsStalledUntil = max(cluster.ceph.monitorsStalledUntil, until)
            }
        case ..<94:
            world.at(time) {
                world.tell("\(node.name): watch forgotten")
                cluster.ceph.forgetWatches(of: node)
            }
        case ..<95: world.at(time) { cluster.ceph.newMap() }
        default:
            // An operator's word, sometimes about a node that cannot hear of it.
            let other = cluster.nodes[world.random.index(cluster.nodes.count)]
            let cut = world.random.chance(0.5)
            world.at(time) {
                node.fence(other)
                if cut, world.now < end { other.cut(osds: true, hosts: false) }
            }
            world.at(until) { if cut { other.heal() } }
        }
    }

    private func stall(at time: Time, _ until: Time) {
        let osd = world.random.index(cluster.ceph.osdCount)
        world.at(time) {
            world.tell("OSD \(osd) stalls")
            cluster.ceph.stall(osd: osd, until: until)
        }
    }

    private func delayWrites(of node: Node, at time: Time, _ end: Time) {
        let osd = world.random.index(cluster.ceph.osdCount)
        let until = min(end, time + world.random.time(10 * second...60 * second))
        world.at(time - world.random.time(0...second)) { node.delayWrites(to: osd, until: until) }
    }

    private func strikeAgain(_ node: Node) {
        if world.random.chance(0.5) { node.cut(osds: true, hosts: false) } else { node.freeze() }
        world.after(length()) {
            node.thaw()
            node.heal()
        }
    }

    /// Shorter than a lease, about as long as what the rules are about, or long.
    private func length() -> Time {
        switch world.random.index(4) {
        case 0: world.random.time(0...2 * second)
        case 1: world.random.time(3 * second...6 * second)
        case 2: world.random.time(5 * second...14 * second)
        default: world.random.time(10 * second...40 * second)
        }
    }
}
