// SPDX-License-Identifier: Apache-2.0

import Relay

/// A connection of a host's to a node. Each end has its own view of whether it is open.
final class Session {
    let host: Host
    let node: Node
    let toNode = Channel()
    let toHost = Channel()
    var isOpenAtNode = true
    var isOpenAtHost = true
    private let world: World
    private var linkCut = 0
    private var silence = 0

    init(_ world: World, _ host: Host, _ node: Node) {
        self.world = world
        self.host = host
        self.node = node
    }

    /// Pings go unanswered: the node gives up within `ping` + `pingTimeout`, the host no sooner.
    func watch(linkIsCut: Bool, nodeIsSilent: Bool) {
        let timing = host.cluster.timing
        let limit = Time(timing.ping + timing.pingTimeout) * second
        if !linkIsCut {
            if linkCut % 2 == 1 { linkCut += 1 }
        } else if linkCut % 2 == 0 {
            linkCut += 1
            let mark = linkCut
            let wait = world.random.time(Time(timing.pingTimeout) * second...limit)
            world.after(node.clock.wait(wait)) { [self] in if linkCut == mark { node.giveUp(self) } }
        }
        if !linkIsCut, !nodeIsSilent {
            if silence % 2 == 1 { silence += 1 }
        } else if silence % 2 == 0 {
            silence += 1
            let mark = silence
            let wait = world.random.time(limit...limit + 5 * second)
            world.after(host.clock.wait(wait)) { [self] in if silence == mark { host.giveUp(self) } }
        }
    }
}

/// A write on its way to one node.
final class Command {
    enum Result { case good, busy, refused }

    let session: Session
    let block: Int
    let stamp: Int
    fileprivate let job: Host.Job

    fileprivate init(_ session: Session, _ job: Host.Job) {
        self.session = session
        self.job = job
        block = job.block
        stamp = job.stamp
    }
}

/// A host that writes ever higher stamps to blocks of its own, one write a block at a time, through any of its paths. A
/// write whose path has failed goes through another when F is over; it does not give up.
final class Host: Sender {
    fileprivate final class Job {
        let block: Int
        var stamp = 1
        var current: Command?
        /// Waits for F to be over.
        var isWaiting = false
        var acknowledgedAt: Time = 0

        init(block: Int) { self.block = block }
    }

    let cluster: Cluster
    let clock: Clock
    private let world: World
    private var jobs: [Job] = []
    private var paths: [(node: Node, session: Session?)]
    private let pace: Time

    init(_ cluster: Cluster, nodes: [Node], blocks: [Int], pace: Time) {
        self.cluster = cluster
        world = cluster.world
        clock = Clock(&world.random)
        paths = nodes.map { ($0, nil) }
        self.pace = pace
        jobs = blocks.map { Job(block: $0) }
        super.init()
        for index in paths.indices { connect(index) }
        for job in jobs { world.after(world.random.time(0...second)) { [self] in issue(job) } }
    }

    private func connect(_ index: Int) {
        world.after(world.random.time(300 * millisecond...1500 * millisecond)) { [self] in
            guard paths[index].session == nil else { return }
            let node = paths[index].node
            guard node.accepts else { return connect(index) }
            let session = Session(world, self, node)
            paths[index].session = session
            node.open(session)
            // A session that is back takes its commands again, without waiting for F.
            for job in jobs where job.isWaiting && job.current?.session.node === node && world.random.chance(0.5) {
                send(job, session)
            }
        }
    }

    private func issue(_ job: Job) {
        guard let session = world.random.one(of: paths.compactMap(\.session)) else {
            world.after(200 * millisecond) { [self] in if job.current == nil { issue(job) } }
            return
        }
        send(job, session)
    }

    private func send(_ job: Job, _ session: Session) {
        let command = Command(session, job)
        job.current = command
        job.isWaiting = false
        session.node.hosts.send(.toNode, over: session.toNode, from: self, delay: world.latency()) {
            session.node.receive(command)
        }
    }

    func answered(_ command: Command, _ result: Command.Result) {
        let job = command.job
        guard command.session.isOpenAtHost, job.current === command, !job.isWaiting else { return }
        switch result {
        case .good:
            if cluster.ceph.stored[job.block] < job.stamp {
                world.fail("block \(job.block): stamp \(job.stamp) is acknowledged and not there")
            }
            cluster.ceph.acknowledged[job.block] = job.stamp
            job.acknowledgedAt = world.now
            job.stamp += 1
            again(job, after: world.random.time(0...2 * pace))
        case .busy: again(job, after: world.random.time(50 * millisecond...300 * millisecond))
        case .refused: again(job, after: world.random.time(0...100 * millisecond))
        }
    }

    private func again(_ job: Job, after delay: Time) {
        job.current = nil
        world.after(delay) { [self] in if job.current == nil { issue(job) } }
    }

    /// The path is silent.
    func giveUp(_ session: Session) {
        guard session.isOpenAtHost else { return }
        session.node.hosts.send(.toNode, over: session.toNode, from: self, delay: world.latency()) {
            session.node.giveUp(session)
        }
        lost(session)
    }

    /// The connection is gone. What had no answer goes elsewhere when F is over.
    func lost(_ session: Session) {
        guard session.isOpenAtHost else { return }
        session.isOpenAtHost = false
        for index in paths.indices where paths[index].session === session {
            paths[index].session = nil
            connect(index)
        }
        for job in jobs {
            guard let command = job.current, command.session === session else { continue }
            job.isWaiting = true
            world.after(clock.wait(Time(cluster.timing.bound) * second)) { [self] in
                guard job.isWaiting, job.current === command else { return }
                job.isWaiting = false
                job.current = nil
                issue(job)
            }
        }
    }

    /// The node has come up anew and knows nothing of the connections of before.
    func reset(connectionsTo node: Node) {
        for path in paths where path.node === node {
            guard let session = path.session, !session.isOpenAtNode else { continue }
            world.after(world.random.time(0...second)) { [self] in lost(session) }
        }
    }

    /// What is still to be done once all faults are over, if something is.
    func complaint(since time: Time) -> String? {
        if paths.allSatisfy({ $0.node.hasLeft || $0.node.isDeaf }) { return nil }
        for job in jobs where job.acknowledgedAt < time {
            return "block \(job.block): no write has been acknowledged since \(job.acknowledgedAt / millisecond) ms"
        }
        return nil
    }
}
