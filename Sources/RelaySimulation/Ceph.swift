// SPDX-License-Identifier: Apache-2.0

import Relay

/// A client instance of Ceph's: a krbd client, or a relay's librados.
final class Client: Sender {
    let name: String
    /// The member instance that it belongs to; 0 if that was not known when it was made.
    let instance: UInt64
    /// The newest OSD map it has, or demands.
    var epoch: UInt32
    let toOSD: [Channel]
    let fromOSD: [Channel]

    init(name: String, instance: UInt64, epoch: UInt32, osds: Int) {
        self.name = name
        self.instance = instance
        self.epoch = epoch
        toOSD = (0..<osds).map { _ in Channel() }
        fromOSD = (0..<osds).map { _ in Channel() }
    }
}

/// A write that a node's kernel has handed to its krbd client.
final class Operation {
    let number: Int
    let block: Int
    let stamp: Int
    let client: Client
    let acceptedAt: Time
    /// Map epoch that came with the request: no OSD that has an older one executes it.
    var epoch: UInt32 = 0

    init(number: Int, block: Int, stamp: Int, client: Client, acceptedAt: Time) {
        self.number = number
        self.block = block
        self.stamp = stamp
        self.client = client
        self.acceptedAt = acceptedAt
    }
}

/// Monitors, OSDs and the group object. OSD 0 has the group object; every OSD has blocks.
final class Ceph: Sender {
    private struct OSD {
        var epoch: UInt32 = 1
        var stalledUntil: Time = 0
        /// The latest acceptance of a write that it has executed.
        var latest: Time = 0
    }

    private struct Watcher {
        let client: Client
        let node: Node
        let life: Int
        var unreachableSince: Time?
    }

    private struct Notify {
        var waiting: Set<UInt64>
        var replies: [[UInt8]] = []
        let complete: ([[UInt8]]) -> Void
    }

    private let world: World
    private var osds: [OSD]

    // Monitors.
    private(set) var epoch: UInt32 = 1
    private var blocklist: [String: UInt32] = [:]
    var monitorsStalledUntil: Time = 0
    /// How long a new map takes to reach an OSD by itself, at most.
    var mapSpread = second

    // Group object.
    private(set) var group = Snapshot(version: 1)
    private var watchers: [UInt64: Watcher] = [:]
    private var notifies: [UInt64: Notify] = [:]
    private var lastID: UInt64 = 0
    private var instancesSeen: Set<UInt64> = []
    /// When each fenced instance was settled.
    private(set) var settledAt: [UInt64: Time] = [:]

    // Blocks.
    private(set) var stored: [Int]
    /// Highest stamp of each block that a host was told is written.
    var acknowledged: [Int]
    /// The latest acceptance of a write that each block has seen.
    private var latest: [Time]
    /// Events that are complete: when raised, when completed.
    var completedEvents: [(raised: Time, completed: Time)] = []

    init(_ world: World, osds: Int, blocks: Int) {
        self.world = world
        self.osds = Array(repeating: OSD(), count: osds)
        stored = Array(repeating: 0, count: blocks)
        acknowledged = stored
        latest = Array(repeating: 0, count: blocks)
    }

    var osdCount: Int { osds.count }

    func osd(of block: Int) -> Int { block % osds.count }

    func stall(osd: Int, until: Time) { osds[osd].stalledUntil = max(osds[osd].stalledUntil, until) }

    /// Runs `action` when the OSD works, in the order of arrival.
    func arrive(at osd: Int, _ action: @escaping () -> Void) {
        if osds[osd].stalledUntil > world.now {
            world.at(osds[osd].stalledUntil) { [self] in arrive(at: osd, action) }
        } else {
            action()
        }
    }

    // MARK: Monitors

    /// A client that has just fetched the newest map.
    func newClient(_ kind: String, _ instance: UInt64) -> Client {
        lastID += 1
        return Client(name: "\(kind)-\(lastID)", instance: instance, epoch: epoch, osds: osds.count)
    }

    /// A new OSD map; spreads by itself, sooner or later.
    func newMap() {
        epoch += 1
        let new = epoch
        for osd in osds.indices {
            let slow = world.random.chance(0.3)
            world.after(world.random.time(0...(slow ? mapSpread : second / 5))) { [self] in learn(osd, new) }
        }
    }

    private func learn(_ osd: Int, _ new: UInt32) { osds[osd].epoch = max(osds[osd].epoch, new) }

    func blocklist(_ clients: [String], _ reply: @escaping (UInt32) -> Void) {
        if monitorsStalledUntil > world.now {
            world.at(monitorsStalledUntil) { [self] in blocklist(clients, reply) }
            return
        }
        newMap()
        for client in clients where blocklist[client] == nil { blocklist[client] = epoch }
        reply(epoch)
    }

    private func isBlocked(_ client: Client, at osd: Int) -> Bool {
        guard let since = blocklist[client.name] else { return false }
        return since <= osds[osd].epoch
    }

    // MARK: Blocks

    /// Returns whether the write was executed; if not, its client is blocklisted.
    func execute(_ operation: Operation) -> Bool {
        let osd = osd(of: operation.block)
        let block = operation.block
        learn(osd, operation.epoch)
        guard !isBlocked(operation.client, at: osd) else { return false }
        if operation.stamp < acknowledged[block] {
            world.fail(
                "block \(block): a write of stamp \(operation.stamp), accepted by \(operation.client.name) at "
                    + "\(operation.acceptedAt / millisecond) ms, lands over acknowledged stamp \(acknowledged[block])")
        }
        if let settled = settledAt[operation.client.instance], osds[osd].latest > settled {
            world.fail("OSD \(osd) executes a write of \(operation.client.name), fenced before what it executed last")
        }
        for event in completedEvents.reversed() where event.completed < latest[block] {
            if operation.acceptedAt < event.raised {
                world.fail("block \(block): a write that an event was to settle lands over one accepted after it")
            }
        }
        stored[block] = operation.stamp
        latest[block] = max(latest[block], operation.acceptedAt)
        osds[osd].latest = max(osds[osd].latest, operation.acceptedAt)
        return true
    }

    // MARK: Group object

    /// One operation of a relay's on the group object, in the order of arrival.
    func operate(_ client: Client, _ request: Request) -> Reply {
        if isBlocked(client, at: 0) { return .failed(.blocklisted) }
        switch request {
        case .read: return .members(group)
        case .swap(let swap):
            for guarded in swap.guards {
                switch guarded {
                case .member(let node, let record): if group.members[node] != record { return .mismatch }
                case .beat(let node, let beat): if group.beats[node] != beat { return .mismatch }
                }
            }
            for change in swap.changes {
                switch change {
                case .member(let node, let record):
                    check(client, node, from: group.members[node], to: record)
                    group.members[node] = record
                case .beat(let node, let beat): group.beats[node] = beat
                }
            }
            group.version += 1
            return .swapped
        case .watch, .notify, .blocklist: return .failed(.unavailable)
        }
    }

    /// **One history of the membership.** Only what the life of a record allows, and only by who may.
    private func check(_ client: Client, _ node: String, from old: Record?, to new: Record?) {
        world.tell("record of \(node): \(describe(old)) -> \(describe(new))")
        func refuse(_ why: String) { world.fail("record of \(node): \(describe(old)) -> \(describe(new)): \(why)") }
        guard let new else {
            if old?.state != .leaving { refuse("only who leaves vanishes") }
            return
        }
        if let old, old.instance == new.instance {
            switch (old.state, new.state) {
            case (.up, .up), (.up, .leaving), (.leaving, .leaving): break
            case (.leaving, .fenced(.settled, let by)): if by != node { refuse("only it itself may leave") }
            case (.up, .fenced(.marked, let by)), (.leaving, .fenced(.marked, let by)):
                // Who has a record must be a member; who has none yet may judge, too.
                if by != node, let judge = group.members[by], judge.instance == client.instance, !judge.isLive {
                    refuse("\(by) is no member any more")
                }
            case (.fenced(.marked, _), .fenced(.blocklisted(let epoch), _)):
                if old.clients.contains(where: { (blocklist[$0] ?? .max) > epoch }) { refuse("not blocklisted") }
            case (.fenced(.blocklisted(let was), _), .fenced(.settled(let epoch), _)):
                if was != epoch { refuse("another epoch") }
                settledAt[old.instance] = world.now
            default: refuse("not in the life of a record")
            }
        } else {
            if old?.isSettled == false { refuse("the life before is not over") }
            if new.state != .up { refuse("a life begins up") }
            if !instancesSeen.insert(new.instance).inserted { refuse("an instance used before") }
        }
    }

    private func describe(_ record: Record?) -> String {
        guard let record else { return "absent" }
        let state =
            switch record.state {
            case .up: "up"
            case .leaving: "leaving"
            case .fenced(.marked, let by): "marked by \(by)"
            case .fenced(.blocklisted(let epoch), let by): "blocklisted(\(epoch)) by \(by)"
            case .fenced(.settled(let epoch), let by): "settled(\(epoch)) by \(by)"
            }
        return "#\(record.instance) \(state)"
    }

    // MARK: Watches and notifies

    func watch(_ client: Client, _ node: Node) -> Reply {
        if isBlocked(client, at: 0) { return .failed(.blocklisted) }
        lastID += 1
        let id = lastID
        watchers[id] = Watcher(client: client, node: node, life: node.life)
        ping(id)
        return .watching
    }

    /// Watches end some seconds after their client was last heard of.
    private func ping(_ id: UInt64) {
        world.after(world.random.time(second...2 * second)) { [self] in
            guard var watcher = watchers[id] else { return }
            if watcher.node.isHeard(by: watcher.client, watcher.life) {
                watcher.unreachableSince = nil
            } else if let since = watcher.unreachableSince {
                if world.now - since > 7 * second { return end(id) }
            } else {
                watcher.unreachableSince = world.now
            }
            watchers[id] = watcher
            ping(id)
        }
    }

    private func end(_ id: UInt64) {
        guard let watcher = watchers.removeValue(forKey: id) else { return }
        for notify in notifies.keys.sorted() { acknowledge(notify, watcher: id, nil) }
        watcher.node.loseWatch(watcher.client, watcher.life)
    }

    /// Ends the watches of one node without a reason that it could see.
    func forgetWatches(of node: Node) {
        for id in watchers.keys.sorted() where watchers[id]?.node === node { end(id) }
    }

    func notify(_ client: Client, _ message: [UInt8], timeout: Duration, _ reply: @escaping (Reply) -> Void) {
        if isBlocked(client, at: 0) { return reply(.failed(.blocklisted)) }
        lastID += 1
        let id = lastID
        let all = watchers.keys.sorted()
        notifies[id] = Notify(waiting: Set(all)) { reply(.notified($0)) }
        for watch in all {
            guard let watcher = watchers[watch] else { continue }
            watcher.node.notified(watcher.client, watcher.life, message) { [self] answer in
                acknowledge(id, watcher: watch, answer)
            }
        }
        if all.isEmpty { return complete(id) }
        world.after(timeout.nanoseconds) { [self] in complete(id) }
    }

    private func acknowledge(_ id: UInt64, watcher: UInt64, _ answer: [UInt8]?) {
        guard notifies[id]?.waiting.remove(watcher) != nil else { return }
        if let answer { notifies[id]?.replies.append(answer) }
        if notifies[id]?.waiting.isEmpty == true { complete(id) }
    }

    private func complete(_ id: UInt64) {
        guard let notify = notifies.removeValue(forKey: id) else { return }
        notify.complete(notify.replies)
    }
}
