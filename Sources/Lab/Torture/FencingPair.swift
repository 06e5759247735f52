// SPDX-License-Identifier: Apache-2.0
import Initiator
import Synchronization

/// Two hosts of which one writes and the other ends its rights by PREEMPT AND ABORT, time and again, on a unit of their own.
/// Once that is GOOD, nothing of the writer's lands any more and nothing it sends is GOOD.
///
/// The writer registers and writes through one session only, and comes back with another once it is known to be fenced, or
/// everything has been waited out.
actor FencingPair {
    private static let (victimKey, fencerKey): (UInt64, UInt64) = (0xA, 0xB)
    /// In an object each.
    private static let lbas = (0..<4).map { UInt64($0 * 8192) }
    private static let lun = TortureSite.fencing
    private static let (victimISID, fencerISID): (UInt32, UInt32) = (0x3000, 0x3010)

    private let site: TortureSite
    private let scene: TortureScene
    private let name = "fences"
    private var random: SeededGenerator
    private let stamps: Stamps
    /// The gateways of writer and fencer.
    private var (here, there) = (0, 0)

    /// Stamps never used before, of a whole run.
    final class Stamps: Sendable {
        private let last = Mutex<UInt64>(0)
        var next: UInt64 {
            last.withLock {
                $0 += 1
                return $0
            }
        }
    }

    init(site: TortureSite, scene: TortureScene, seed: UInt64, stamps: Stamps) {
        (self.site, self.scene, self.stamps) = (site, scene, stamps)
        random = SeededGenerator(seed: seed)
    }

    /// What the writer was told of a stamp.
    private struct Write: Sendable {
        var stamp: UInt64
        var sent: Duration
        var answered: Duration
        var isGood: Bool
        var wasAnswered = false
        /// A unit attention that told of the lost registration or reservation.
        var wasTold = false
    }

    func run() async {
        while scene.phase == .working {
            try? await Task.sleep(for: .milliseconds(100))
            if await !epoch() { await waitOut() }
        }
        while scene.phase != .done { try? await Task.sleep(for: .milliseconds(100)) }
        await leave()
    }

    /// Somewhere something has no answer: it is over once both are back where they were, or F has passed.
    private func waitOut() async {
        let safe = ContinuousClock.now + TortureSite.wait
        while scene.phase == .working, ContinuousClock.now < safe {
            if let writer = try? await site.logIn("victim", here, isid: Self.victimISID) {
                defer { Task { await writer.close() } }
                if let fencer = try? await site.logIn("fencer", there, isid: Self.fencerISID) {
                    Task { await fencer.close() }
                    return
                }
            }
            try? await Task.sleep(for: .milliseconds(500))
        }
    }

    /// - Returns: false if something that was sent may still take effect.
    private func epoch() async -> Bool {
        expected = [:]
        let places = site.portals.indices.shuffled(using: &random)
        here = places[0]
        // Through the same gateway now and then.
        there = Bool.random(using: &random) ? here : places[places.count - 1]
        guard let victim = try? await site.logIn("victim", here, isid: Self.victimISID) else { return true }
        defer { Task { await victim.drop() } }
        guard let fencer = try? await site.logIn("fencer", there, isid: Self.fencerISID) else { return true }
        defer { Task { await fencer.drop() } }
        let type: UInt8 = Bool.random(using: &random) ? 5 : 7
        let victimHolds = Bool.random(using: &random)
        let register = PersistentReserveOut.registerAndIgnoreExistingKey
        let steps: [(Nexus, SCSICommand)] = [
            (fencer, .persistentReserveOut(register, actionKey: Self.fencerKey)),
            (fencer, .persistentReserveOut(.clear, key: Self.fencerKey)),
            (victim, .persistentReserveOut(register, actionKey: Self.victimKey)),
            (fencer, .persistentReserveOut(register, actionKey: Self.fencerKey)),
            victimHolds
                ? (victim, .persistentReserveOut(.reserve, key: Self.victimKey, type: type))
                : (fencer, .persistentReserveOut(.reserve, key: Self.fencerKey, type: type)),
        ]
        for (nexus, command) in steps {
            let answer = await nexus.answer(toRepeatable: command, within: TortureSite.bound, lun: Self.lun)
            guard answer.isGood else {
                note("PR OUT \(command.cdb[1]) through \(nexus.portal): \(answer)")
                return false
            }
        }
        note("armed, type \(type), writer at \(site.gateways[here]), fencer at \(site.gateways[there])")

        let stop = Mutexed(false)
        let writers = Self.lbas.map { lba in
            Task { [stamps, scene] in await Self.write(victim, lba, stamps, scene, stop) }
        }
        try? await Task.sleep(for: .milliseconds(Int.random(in: 100...2500, using: &random)))
        let sent = scene.now
        let preempt = SCSICommand.persistentReserveOut(
            .preemptAndAbort, key: Self.fencerKey, actionKey: Self.victimKey, type: type)
        let answer = await fencer.answer(to: preempt, within: TortureSite.bound, lun: Self.lun)
        let good = scene.now
        note("PREEMPT AND ABORT sent at \(sent): \(answer)")
        if case .none = answer {
            scene.find(name, "PREEMPT AND ABORT has no answer after \(TortureSite.bound), and its session stands")
        }
        var isOver = false
        if answer.isGood {
            isOver = true
            // What stands now, stands.
            let standing = await read(through: there)
            try? await Task.sleep(for: .milliseconds(700))
            stop.set(true)
            await victim.drop()
            var all: [Write] = []
            for (index, writer) in writers.enumerated() {
                let value = standing?[index]
                let writes = await writer.value
                check(writes, Self.lbas[index], good: good, standing: value)
                all += writes
                if let value { expected[index] = value }
            }
            checkTold(all, good: good)
            if let standing { note("stands: \(standing.map(Stamp.text))") }
            await compare(through: here)
        } else {
            stop.set(true)
            await victim.drop()
            for writer in writers { _ = await writer.value }
            expected = [:]
        }
        return isOver
    }

    /// By block, what stands since the last PREEMPT AND ABORT.
    private var expected: [Int: UInt64] = [:]

    /// At the round's end, when whatever was held may have arrived.
    private func leave() async {
        await withTaskGroup(of: Void.self) { group in
            for gateway in site.portals.indices { group.addTask { await self.compare(through: gateway) } }
        }
    }

    private func compare(through gateway: Int) async {
        guard !expected.isEmpty, let found = await read(through: gateway) else { return }
        for (index, value) in expected where found[index] != value {
            scene.find(
                name,
                "LBA \(Self.lbas[index]) reads \(Stamp.text(found[index])) through \(site.gateways[gateway]), and "
                    + "\(Stamp.text(value)) stood there after PREEMPT AND ABORT")
        }
    }

    private func check(_ writes: [Write], _ lba: UInt64, good: Duration, standing: UInt64?) {
        // The first of each says it all.
        let acknowledged = writes.filter(\.isGood)
        if let late = acknowledged.first(where: { $0.sent > good }) {
            scene.find(
                name,
                "LBA \(lba): \(Stamp.text(late.stamp)) was sent at \(late.sent), after PREEMPT AND ABORT, and GOOD")
        }
        if let standing, let lost = acknowledged.first(where: { $0.stamp > standing }) {
            scene.find(
                name,
                "LBA \(lba): \(Stamp.text(lost.stamp)) was GOOD at \(lost.answered), and PREEMPT AND ABORT left "
                    + "\(Stamp.text(standing))")
        }
        // One write at a time, so what was acknowledged is a lower bound, and what was sent an upper one.
        if let standing, let last = writes.last, standing != Stamp.torn, standing > last.stamp {
            scene.find(name, "LBA \(lba): \(Stamp.text(standing)) was never sent")
        }
    }

    /// Whoever loses its registration is told by a unit attention. If an answer took long, something else may have taken that: the
    /// writer asked for signs of life.
    private func checkTold(_ writes: [Write], good: Duration) {
        guard !writes.contains(where: { $0.answered - $0.sent > .milliseconds(1900) }),
            writes.count(where: { $0.sent > good && $0.wasAnswered }) >= 8, !writes.contains(where: \.wasTold)
        else { return }
        scene.find("victim", "no unit attention has told it that it is fenced, since \(good)")
    }

    private func read(through gateway: Int) async -> [UInt64]? {
        guard let reader = try? await site.logIn("reader", gateway, isid: 0x3020) else { return nil }
        defer { Task { await reader.close() } }
        var values: [UInt64] = []
        for lba in Self.lbas {
            let answer = await reader.answer(toRepeatable: .read(lba, blocks: 1), within: .seconds(60), lun: Self.lun)
            guard case .reply(let reply) = answer, reply.isGood else {
                note("READ of LBA \(lba) through \(site.gateways[gateway]): \(answer)")
                return nil
            }
            values.append(Stamp.value(reply.data))
        }
        return values
    }

    /// Writes ever higher stamps to a block, one at a time, whatever the answers.
    private static func write(
        _ nexus: Nexus, _ lba: UInt64, _ stamps: Stamps, _ scene: TortureScene, _ stop: Mutexed<Bool>
    ) async -> [Write] {
        var writes: [Write] = []
        while !stop.get() {
            let stamp = Stamp.number(stamps.next, of: 99)
            let sent = scene.now
            let answer = await nexus.answer(
                to: .write(lba, Stamp.data(stamp)), within: TortureSite.bound, lun: Self.lun)
            var write = Write(stamp: stamp, sent: sent, answered: scene.now, isGood: answer.isGood)
            if case .reply(let reply) = answer {
                write.wasAnswered = true
                write.wasTold = reply.isAttention && [0x2A03, 0x2A05].contains(reply.sense?.additional ?? 0)
            }
            writes.append(write)
            guard case .reply(let reply) = answer else {
                if case .none = answer {
                    scene.find(
                        "victim",
                        "WRITE \(Stamp.text(stamp)) of LBA \(lba) has no answer after \(TortureSite.bound), and "
                            + "its session stands")
                }
                break
            }
            if !reply.isGood {
                scene.note("victim", "WRITE \(Stamp.text(stamp)) of LBA \(lba): \(reply)")
                try? await Task.sleep(for: .milliseconds(20))
            }
        }
        return writes
    }

    private func note(_ what: String) { scene.note(name, what) }
}

/// A value that several tasks change.
private final class Mutexed<Value: Sendable>: Sendable {
    private let mutex: Mutex<Value>
    init(_ value: sending Value) { mutex = Mutex(value) }
    func get() -> Value { mutex.withLock { $0 } }
    func set(_ value: Value) { mutex.withLock { $0 = value } }
}
