// SPDX-License-Identifier: Apache-2.0

import Relay

/// Virtual time since the start of a run, in nanoseconds. No node's clock shows it.
typealias Time = Int64

let millisecond: Time = 1_000_000
let second: Time = 1_000_000_000

/// What happens when: a queue of actions in the order of their times, and the one source of chance.
final class World {
    private(set) var now: Time = 0
    var random: Random
    private var queue: [(time: Time, turn: UInt64, action: () -> Void)] = []
    private var turn: UInt64 = 0
    private(set) var steps = 0
    /// Ends the run at once when set.
    private(set) var violation: String?
    /// Takes each line of the story, if anybody listens.
    let log: ((String) -> Void)?

    init(seed: UInt64, log: ((String) -> Void)?) {
        random = Random(seed: seed)
        self.log = log
    }

    func at(_ time: Time, _ action: @escaping () -> Void) {
        turn += 1
        queue.append((max(time, now), turn, action))
        var child = queue.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard precedes(child, parent) else { break }
            queue.swapAt(child, parent)
            child = parent
        }
    }

    func after(_ delay: Time, _ action: @escaping () -> Void) { at(now + delay, action) }

    /// Lets time pass until `end`, or until a check fails.
    func run(until end: Time) {
        while violation == nil, let next = queue.first, next.time <= end {
            queue.swapAt(0, queue.count - 1)
            queue.removeLast()
            var parent = 0
            while true {
                var least = parent
                for child in [2 * parent + 1, 2 * parent + 2] where child < queue.count && precedes(child, least) {
                    least = child
                }
                if least == parent { break }
                queue.swapAt(parent, least)
                parent = least
            }
            now = next.time
            steps += 1
            next.action()
        }
        if violation == nil { now = end }
    }

    private func precedes(_ a: Int, _ b: Int) -> Bool {
        (queue[a].time, queue[a].turn) < (queue[b].time, queue[b].turn)
    }

    /// A check has failed.
    func fail(_ what: String) {
        guard violation == nil else { return }
        violation = what
        tell("VIOLATION: \(what)")
    }

    func tell(_ line: @autoclosure () -> String) {
        guard let log else { return }
        let microseconds = now / 1000 % 1_000_000
        let fraction = String(repeating: "0", count: 6 - String(microseconds).count) + String(microseconds)
        log("\(now / second).\(fraction) \(line())")
    }
}

/// Chance that a seed determines (SplitMix64).
struct Random: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed &* 0x9e37_79b9_7f4a_7c15 &+ 0x1234_5678 }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }

    mutating func unit() -> Double { Double(next() >> 11) * 0x1p-53 }

    mutating func chance(_ probability: Double) -> Bool { unit() < probability }

    mutating func time(_ range: ClosedRange<Time>) -> Time {
        range.lowerBound + Time(unit() * Double(range.upperBound - range.lowerBound))
    }

    mutating func index(_ count: Int) -> Int { Int(next() % UInt64(count)) }

    mutating func one<Element>(of elements: [Element]) -> Element? {
        elements.isEmpty ? nil : elements[index(elements.count)]
    }
}

/// A clock that has its own zero and its own rate, up to 1 % off.
struct Clock {
    let offset: Int64
    let rate: Double

    init(_ random: inout Random) {
        offset = random.time(0...1000 * second)
        rate = 0.99 + 0.02 * random.unit()
    }

    func show(_ time: Time) -> Instant { Instant(nanoseconds: offset + Int64(Double(time) * rate)) }

    /// The first time at which the clock shows `instant` or more.
    func time(of instant: Instant) -> Time {
        guard instant != .never else { return .max / 2 }
        return Time((Double(instant.nanoseconds - offset) / rate).rounded(.up)) + 1
    }

    /// How long it takes until the clock has moved on by `duration`.
    func wait(_ duration: Time) -> Time { Time((Double(duration) / rate).rounded(.up)) }
}

/// Whoever sends messages, as long as it lives: what it has not sent when it goes will never be sent.
class Sender {
    var isGone = false
}

/// One stream of messages that do not overtake each other.
final class Channel {
    fileprivate var lastArrival: Time = 0
}

/// Both directions between a node and one side of it. What cannot be sent is held and sent when the link heals, as TCP
/// does, unless its sender is gone by then.
final class Link {
    struct Direction {
        var isUp = true
        fileprivate var held: [(channel: Channel, delay: Time, sender: Sender, deliver: () -> Void)] = []
    }

    enum Way { case toNode, fromNode }

    private let world: World
    private(set) var toNode = Direction()
    private(set) var fromNode = Direction()

    init(_ world: World) { self.world = world }

    var isUp: Bool { toNode.isUp && fromNode.isUp }

    /// - Parameter sender: Must still be there if the message leaves late, after a cut.
    func send(
        _ way: Way, over channel: Channel, from sender: Sender, delay: Time, deliver: @escaping () -> Void
    ) {
        let direction = way == .toNode ? toNode : fromNode
        guard direction.isUp else {
            if way == .toNode {
                toNode.held.append((channel, delay, sender, deliver))
            } else {
                fromNode.held.append((channel, delay, sender, deliver))
            }
            return
        }
        channel.lastArrival = max(channel.lastArrival + 1, world.now + delay)
        world.at(channel.lastArrival, deliver)
    }

    func cut(toNode: Bool, fromNode: Bool) {
        if toNode { self.toNode.isUp = false }
        if fromNode { self.fromNode.isUp = false }
    }

    func heal() {
        let waiting = [(Way.toNode, toNode.held), (Way.fromNode, fromNode.held)]
        toNode = Direction()
        fromNode = Direction()
        // TCP has backed off meanwhile.
        let pause = world.random.time(0...second)
        for (way, held) in waiting {
            for message in held where !message.sender.isGone {
                send(
                    way, over: message.channel, from: message.sender, delay: message.delay + pause,
                    deliver: message.deliver)
            }
        }
    }
}
