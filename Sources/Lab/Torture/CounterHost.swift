// SPDX-License-Identifier: Apache-2.0
import Initiator
import Synchronization

/// Counters that hosts count up by COMPARE AND WRITE through whatever gateway answers, and what they were told.
final class Counters: Sendable {
    /// Each in an object of its own, beyond those with stamps.
    static let lbas = (StampHost.places..<StampHost.places + 3).map { UInt64($0 * 8192) }

    private let histories = Mutex([CounterHistory](repeating: CounterHistory(), count: Counters.lbas.count))

    func append(_ operation: CounterHistory.Operation, to counter: Int) {
        histories.withLock { $0[counter].append(operation) }
    }

    func problems(from first: [UInt64], to last: [UInt64]) -> [String] {
        histories.withLock { histories in
            histories.indices.flatMap { index in
                histories[index].problems(from: first[index], to: last[index])
                    .map { "LBA \(Counters.lbas[index]): \($0)" }
            }
        }
    }

    /// The counters' values through a nexus; nil if it does not answer.
    static func read(_ nexus: Nexus) async -> [UInt64]? {
        var values: [UInt64] = []
        for lba in lbas {
            let answer = await nexus.answer(
                toRepeatable: .read(lba, blocks: 1), within: .seconds(30), lun: TortureSite.stamps)
            guard case .reply(let reply) = answer, reply.isGood else { return nil }
            values.append(Stamp.value(reply.data))
        }
        return values
    }

    /// Counts until the round's hosts are to settle. A count without an answer is one that may be done at any time, which does no
    /// harm elsewhere: nothing is waited out.
    static func count(
        _ number: Int, _ site: TortureSite, _ scene: TortureScene, _ counters: Counters, seed: UInt64
    ) async {
        let name = "counts\(number)"
        var random = SeededGenerator(seed: seed)
        var gateway = number % site.portals.count
        while scene.phase == .working {
            guard let nexus = try? await site.logIn(name, gateway, isid: UInt32(0x2000 + number)) else {
                gateway = (gateway + 1) % site.portals.count
                try? await Task.sleep(for: .milliseconds(100))
                continue
            }
            scene.note(name, "logged in to \(site.gateways[gateway])")
            while scene.phase == .working {
                let counter = Int.random(in: lbas.indices, using: &random)
                guard await step(nexus, counter, name, scene, counters) else { break }
                try? await Task.sleep(for: .milliseconds(Int.random(in: 0...10, using: &random)))
            }
            await nexus.drop()
            gateway = (gateway + 1) % site.portals.count
        }
    }

    /// - Returns: false if the path is of no use.
    private static func step(
        _ nexus: Nexus, _ counter: Int, _ name: String, _ scene: TortureScene, _ counters: Counters
    ) async -> Bool {
        let lba = lbas[counter]
        var sent = scene.now
        let read = await nexus.answer(to: .read(lba, blocks: 1), within: .seconds(5), lun: TortureSite.stamps)
        guard case .reply(let reply) = read else { return false }
        guard reply.isGood else { return !reply.isPortUnavailable }
        let value = Stamp.value(reply.data)
        guard value != Stamp.torn else {
            scene.find(name, "LBA \(lba) is torn through \(nexus.portal)")
            return false
        }
        counters.append(.init(.read, value, sent: sent, answered: scene.now, who: name), to: counter)
        sent = scene.now
        let answer = await nexus.answer(
            to: .compareAndWrite(lba, expected: Stamp.data(value), new: Stamp.data(value + 1)), within: .seconds(5),
            lun: TortureSite.stamps)
        scene.note(name, "\(nexus.portal) CAW \(value) at LBA \(lba): \(answer)")
        if case .reply(let reply) = answer, reply.isMiscompare || reply.isAttention { return true }
        counters.append(
            .init(answer.isGood ? .counted : .doubtful, value, sent: sent, answered: scene.now, who: name), to: counter)
        if case .reply(let reply) = answer { return !reply.isPortUnavailable }
        return false
    }
}
