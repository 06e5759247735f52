// SPDX-License-Identifier: Apache-2.0
import Initiator

/// A host that writes stamps to places of its own, in every way there is, and does to its commands and sessions all that a host
/// may do.
actor StampHost {
    /// What a burst of commands is accompanied by.
    enum Action: Sendable, Hashable {
        case nothing, abort
        case manage(TaskManagement)
        /// The connection is dropped; `back`: the host comes back through the same gateway at once, which reinstates its session.
        case drop(back: Bool)
        case silence(back: Bool)
        case secondSession

        static func draw(_ random: inout SeededGenerator) -> Action {
            switch Int.random(in: 0..<100, using: &random) {
            case 0..<14: .abort
            case 14..<19: .manage(.abortTaskSet)
            case 19..<23: .manage(.clearTaskSet)
            case 23..<28: .manage(.logicalUnitReset)
            case 28..<34: .drop(back: true)
            case 34..<37: .drop(back: false)
            case 37..<39: .silence(back: true)
            case 39..<41: .silence(back: false)
            case 41..<47: .secondSession
            default: .nothing
            }
        }
    }

    private enum Operation: CustomStringConvertible {
        case write(ordered: Bool)
        case writeSame, zeros, unmap
        case copy(from: Int)
        case compareAndWrite(block: Int, expected: UInt64)

        var description: String {
            switch self {
            case .write(let ordered): ordered ? "ORDERED WRITE" : "WRITE"
            case .writeSame: "WRITE SAME"
            case .zeros: "WRITE SAME of zeros"
            case .unmap: "UNMAP"
            case .copy(let source): "XCOPY from place \(source)"
            case .compareAndWrite(let block, let expected): "CAW of block \(block), \(Stamp.text(expected))"
            }
        }
    }

    private struct Sent {
        var place: Int
        var operation: Operation
        /// What it leaves in each block that it concerns.
        var values: [(block: Int, value: UInt64)]
        var pending: Pending<SCSIReply>
    }

    /// Blocks of a place that are looked at. A place has 64 KiB, the least that krbd discards.
    private static let blocks = 8
    private static let placeBlocks = 128
    /// Places, each in an object of 4 MiB of its own.
    static let places = 6
    private static let objectBlocks = 8192

    let name: String
    private let number: Int
    private let site: TortureSite
    private var scene: TortureScene
    private var random: SeededGenerator
    private var models = [[BlockModel]](
        repeating: [BlockModel](repeating: BlockModel(), count: StampHost.blocks), count: StampHost.places)
    private var counter: UInt64 = 0

    private var nexus: Nexus?
    private var gateway: Int
    /// Before this, what is under way may still land, if another gateway is used than the last.
    private var safe = ContinuousClock.now
    /// When the host tries to come back to the gateway it gave up last; nil if it waits.
    private var back: ContinuousClock.Instant?
    private var waitsOut = false
    private var abandoned: [Nexus] = []
    /// How long the host waits for an answer before it gives a path up.
    private var patience = TortureSite.bound
    private var hasAttributes: Bool { number % 2 == 0 }

    init(_ number: Int, site: TortureSite, scene: TortureScene) {
        self.number = number
        self.site = site
        self.scene = scene
        name = "stamps\(number)"
        gateway = number % site.portals.count
        random = SeededGenerator(seed: 1)
    }

    // MARK: - A round

    func round(_ scene: TortureScene, seed: UInt64, waitsOut: Bool) async {
        self.scene = scene
        self.waitsOut = waitsOut
        random = SeededGenerator(seed: seed)
        // Every second one waits for as long as it takes, so that answers that never come are noticed.
        patience = Bool.random(using: &random) ? TortureSite.bound : .seconds(Int.random(in: 3...8, using: &random))
        scene.expectSettling(name)
        while scene.phase == .working {
            await step()
            try? await Task.sleep(for: .milliseconds(Int.random(in: 0...40, using: &random)))
        }
        patience = TortureSite.bound
        if !waitsOut { back = .now }
        await settle()
        scene.settled(name)
        while scene.phase == .settling {
            if let nexus = await path() { _ = await look(nexus, Array(models.indices)) }
            try? await Task.sleep(for: .milliseconds(500))
        }
        await leave()
    }

    /// After the round, through every gateway.
    private func leave() async {
        if let nexus { Task { await nexus.close() } }
        nexus = nil
        for old in abandoned { await old.drop() }
        abandoned = []
        await withTaskGroup(of: Void.self) { group in
            for gateway in site.portals.indices { group.addTask { await self.lookAtLast(through: gateway) } }
        }
    }

    private func lookAtLast(through gateway: Int) async {
        let end = ContinuousClock.now + .seconds(60)
        while await !readAll(through: gateway) {
            guard ContinuousClock.now < end else {
                scene.find(name, "cannot read through \(site.gateways[gateway]) at the end")
                return
            }
            try? await Task.sleep(for: .milliseconds(500))
        }
    }

    /// As another nexus, which gets no answers to what the host has sent before.
    private func readAll(through gateway: Int) async -> Bool {
        guard let reader = try? await site.logIn(name, gateway, isid: isid + 1) else { return false }
        let answered = await look(reader, Array(models.indices))
        Task { await reader.close() }
        return answered
    }

    /// The last word to each block, acknowledged.
    private func settle() async {
        for place in models.indices {
            while scene.phase != .done {
                guard let nexus = await path() else { continue }
                guard let sent = send(.write(ordered: false), to: place, nexus) else { break }
                let answer = await nexus.answer(sent.pending, within: patience, lun: TortureSite.stamps)
                learn(sent, answer)
                if answer.isGood { break }
                if case .reply = answer {
                    if isUnavailable(answer) { await giveUp("is refused", back: false) }
                    try? await Task.sleep(for: .milliseconds(100))
                } else {
                    judge(answer, sent)
                    var closed = false
                    if case .lost = answer { closed = true }
                    await giveUp("\(answer)", back: false, closed: closed)
                }
            }
        }
    }

    private func step() async {
        guard let nexus = await path() else { return }
        let action = Action.draw(&random)
        let places = models.indices.shuffled(using: &random)
        let depth = Int.random(in: 1...4, using: &random)
        let sources = places.dropFirst(depth).filter { place in models[place].allSatisfy { $0.value != nil } }
        var burst: [Sent] = []
        for place in places.prefix(depth) {
            let operation = draw(place, sources: Array(sources))
            if let sent = send(operation, to: place, nexus) { burst.append(sent) }
        }
        guard !burst.isEmpty else { return }
        if action != .nothing {
            try? await Task.sleep(for: .milliseconds(Int.random(in: 0...15, using: &random)))
        }
        var lost: String?
        var back = false
        var closed = false
        /// Whether commands without a status are over by the word of a response.
        var over: [Bool] = burst.map { _ in false }
        /// Whether it is no surprise if there is no status.
        var excused = false
        switch action {
        case .nothing: break
        case .abort:
            let chosen = Int.random(in: burst.indices, using: &random)
            scene.note(name, "ABORT TASK of \(burst[chosen].operation) at place \(burst[chosen].place)")
            let response = await manage(
                nexus, nexus.startAborting(burst[chosen].pending), "ABORT TASK", endsByReset: true)
            over[chosen] = response == .complete
            excused = response != .complete && response != .taskDoesNotExist
        case .manage(let function):
            scene.note(name, "\(function)")
            let reset = function == .logicalUnitReset ? scene.resetBegins() : nil
            let response = await manage(
                nexus, nexus.startManaging(function, lun: TortureSite.stamps), "\(function)",
                endsByReset: function == .abortTaskSet)
            if let reset, response != nil { scene.resetEnds(reset) }
            over = over.map { _ in response == .complete }
            excused = response != .complete
        case .drop(back: let comesBack):
            (lost, back) = ("drops the connection", comesBack)
        case .silence(back: let comesBack):
            (lost, back) = ("falls silent", comesBack)
        case .secondSession: await readThroughAnotherSession()
        }
        if case .drop = action { await nexus.drop() }
        if case .silence = action { await nexus.fallSilent() }
        for (index, sent) in burst.enumerated() {
            let limit =
                lost != nil ? .milliseconds(1) : over[index] ? .milliseconds(300) : excused ? .seconds(10) : patience
            let answer = await nexus.answer(sent.pending, within: limit, lun: TortureSite.stamps)
            if case .none = answer, over[index], lost == nil {
                scene.note(name, "\(sent.operation) at place \(sent.place): over")
                for (block, value) in sent.values { models[sent.place][block].doubtful(value) }
                continue
            }
            learn(sent, answer)
            if case .reply = answer {
                if isUnavailable(answer), lost == nil { lost = "is refused" }
                continue
            }
            if lost == nil {
                if !excused { judge(answer, sent) }
                lost = "\(answer)"
                if case .lost = answer { closed = true }
            }
        }
        if let lost {
            var silent = false
            if case .silence = action { silent = true }
            return await giveUp(lost, back: back, silent: silent, closed: closed)
        }
        if await !look(nexus, burst.map(\.place)) { await giveUp("cannot read", back: false) }
    }

    /// A command that had no answer within the bound is a finding; if the host is impatient, that says nothing.
    private func judge(_ answer: TortureAnswer, _ sent: Sent) {
        guard case .none = answer, patience == TortureSite.bound else { return }
        scene.find(
            name,
            "\(sent.operation) at place \(sent.place) through \(site.gateways[gateway]) has no answer after "
                + "\(TortureSite.bound), and its session stands")
    }

    /// - Parameter endsByReset: a LOGICAL UNIT RESET of another host's terminates it, without a response (SAM-5, 6.3.3).
    private func manage(
        _ nexus: Nexus, _ pending: Pending<TaskManagementResponse>, _ what: String, endsByReset: Bool
    ) async -> TaskManagementResponse? {
        let sent = scene.now
        let usual = Duration.seconds(30)
        var (response, isLost) = await nexus.response(pending, within: min(usual, patience), lun: TortureSite.stamps)
        if response == nil, !isLost, endsByReset, scene.isReset(since: sent) {
            scene.note(name, "\(what): ended by a reset")
            return nil
        }
        if response == nil, !isLost, patience > usual {
            (response, isLost) = await nexus.response(pending, within: patience - usual, lun: TortureSite.stamps)
        }
        scene.note(name, "\(what): \(response.map { "\($0)" } ?? (isLost ? "session lost" : "no response"))")
        if response == nil, !isLost, patience == TortureSite.bound {
            scene.find(name, "\(what) through \(site.gateways[gateway]) has no response after \(TortureSite.bound)")
        }
        return response
    }

    // MARK: - Commands

    private func draw(_ place: Int, sources: [Int]) -> Operation {
        switch Int.random(in: 0..<20, using: &random) {
        case 0..<6: return .write(ordered: false)
        case 6..<10: return .write(ordered: hasAttributes)
        case 10..<12: return .writeSame
        case 12..<14: return .zeros
        case 14..<16: return .unmap
        case 16, 17:
            guard let source = sources.randomElement(using: &random) else { return .write(ordered: false) }
            return .copy(from: source)
        default:
            let block = Int.random(in: 0..<Self.blocks, using: &random)
            guard let expected = models[place][block].value else { return .write(ordered: false) }
            return .compareAndWrite(block: block, expected: expected)
        }
    }

    private func lba(_ place: Int) -> UInt64 {
        UInt64(place * Self.objectBlocks + number * Self.placeBlocks)
    }

    private func send(_ operation: Operation, to place: Int, _ nexus: Nexus) -> Sent? {
        counter += 1
        let stamp = Stamp.number(counter, of: number)
        let data = Stamp.data(stamp)
        let all = Array(0..<Self.blocks)
        let command: SCSICommand
        var values = all.map { (block: $0, value: stamp) }
        switch operation {
        case .write(let ordered):
            command = SCSICommand.write(lba(place), all.flatMap { _ in data }).with(ordered ? .ordered : .simple)
        case .writeSame:
            command = .writeSame16(lba(place), blocks: UInt32(Self.blocks), data)
        case .zeros:
            command = .writeSame16(lba(place), blocks: UInt32(Self.blocks), Stamp.data(0))
            values = all.map { ($0, 0) }
        case .unmap:
            command = .unmap([lba(place)..<lba(place) + UInt64(Self.placeBlocks)])
            values = all.map { ($0, 0) }
        case .copy(let source):
            command = .extendedCopy(
                from: .init(naa: site.naa, lba: lba(source)), to: .init(naa: site.naa, lba: lba(place)),
                blocks: UInt16(Self.blocks), list: UInt8(place + 1))
            // It is known: that is what it was chosen for.
            values = all.compactMap { block in models[source][block].value.map { (block, $0) } }
            guard values.count == Self.blocks else { return nil }
        case .compareAndWrite(let block, let expected):
            command = .compareAndWrite(lba(place) + UInt64(block), expected: Stamp.data(expected), new: data)
            values = [(block, stamp)]
        }
        scene.note(
            name,
            "\(site.gateways[gateway]) \(operation) place \(place): \(values.first.map { Stamp.text($0.value) } ?? "")")
        return Sent(
            place: place, operation: operation, values: values,
            pending: nexus.start(command, lun: TortureSite.stamps))
    }

    private func learn(_ sent: Sent, _ answer: TortureAnswer) {
        scene.note(name, "\(sent.operation) at place \(sent.place): \(answer)")
        for (block, value) in sent.values {
            switch answer {
            case .reply(let reply) where reply.isGood:
                if case .unmap = sent.operation {
                    models[sent.place][block].doubtful(value)
                } else {
                    models[sent.place][block].acknowledged(value)
                }
            // Nothing has been done.
            case .reply(let reply) where reply.isAttention: break
            case .reply(let reply) where reply.isMiscompare:
                if case .compareAndWrite(_, let expected) = sent.operation {
                    scene.find(
                        name,
                        "MISCOMPARE at place \(sent.place), block \(block), where nothing but "
                            + "\(Stamp.text(expected)) can be")
                }
            case .reply: models[sent.place][block].doubtful(value)
            case .lost, .none: models[sent.place][block].unanswered(value)
            }
        }
    }

    private func isUnavailable(_ answer: TortureAnswer) -> Bool {
        if case .reply(let reply) = answer { reply.isPortUnavailable } else { false }
    }

    /// Reads places and compares with what may stand there.
    ///
    /// - Returns: false if there is no data.
    private func look(_ nexus: Nexus, _ places: [Int]) async -> Bool {
        for place in places {
            let read = SCSICommand.read(lba(place), blocks: UInt32(Self.blocks))
            let answer = await nexus.answer(
                toRepeatable: read, within: min(patience, .seconds(30)), lun: TortureSite.stamps)
            guard case .reply(let reply) = answer, reply.isGood, reply.data.count == Self.blocks * 512 else {
                scene.note(name, "READ of place \(place) through \(nexus.portal): \(answer)")
                return false
            }
            for block in 0..<Self.blocks {
                let found = Stamp.value(reply.data[block * 512..<(block + 1) * 512])
                let model = models[place][block]
                if !models[place][block].read(found) {
                    scene.find(
                        name,
                        "place \(place), block \(block) (LBA \(lba(place) + UInt64(block))) reads "
                            + "\(Stamp.text(found)) through \(nexus.portal); possible: \(model)")
                }
            }
        }
        return true
    }

    private func readThroughAnotherSession() async {
        guard let second = try? await site.logIn(name, gateway, isid: isid + 1) else { return }
        scene.note(name, "second session with \(site.gateways[gateway])")
        _ = await second.answer(
            to: .read(lba(0), blocks: 1), within: min(patience, .seconds(5)), lun: TortureSite.stamps)
        // The other end may not answer a logout.
        if Bool.random(using: &random) { await second.drop() } else { Task { await second.close() } }
    }

    // MARK: - Paths

    private var isid: UInt32 { UInt32(0x1000 + 16 * number) }

    /// - Parameters:
    ///   - back: whether to come back to the same gateway at once, which reinstates the session.
    ///   - silent: the connection stays.
    ///   - closed: whether the other end closed it.
    private func giveUp(_ why: String, back: Bool, silent: Bool = false, closed: Bool = false) async {
        scene.note(name, "gives up \(site.gateways[gateway]): \(why)\(back ? ", and comes back" : "")")
        if let nexus {
            // As long as the session stands, its commands are no orphans, and nobody has to end them.
            if !silent { await nexus.drop() }
            abandoned.append(nexus)
        }
        nexus = nil
        self.back = back ? .now : nil
        guard models.joined().contains(where: { !$0.underWay.isEmpty }) else { return }
        safe = .now + (closed ? TortureSite.waitOnceClosed : TortureSite.wait)
        // By and by, if not at once.
        if !back, !waitsOut { self.back = .now + .milliseconds(Int.random(in: 200...3000, using: &random)) }
    }

    /// A session; nil if there is none yet.
    private func path() async -> Nexus? {
        if let nexus { return nexus }
        if let back, back <= .now, await logIn() { return nexus }
        // The phase is looked at by whoever asks again.
        if ContinuousClock.now < safe {
            try? await Task.sleep(for: min(.milliseconds(200), safe - ContinuousClock.now))
            return nil
        }
        back = nil
        for _ in site.portals {
            gateway = (gateway + 1) % site.portals.count
            if await logIn() { return nexus }
        }
        try? await Task.sleep(for: .milliseconds(200))
        return nil
    }

    private func logIn() async -> Bool {
        guard let found = try? await site.logIn(name, gateway, isid: isid, attributes: hasAttributes) else {
            return false
        }
        let answer = await found.answer(toRepeatable: .testUnitReady, within: .seconds(5), lun: TortureSite.stamps)
        guard answer.isGood else {
            scene.note(name, "\(site.gateways[gateway]) is not ready: \(answer)")
            abandoned.append(found)
            return false
        }
        scene.note(name, "logged in to \(site.gateways[gateway])")
        nexus = found
        for place in models.indices {
            for block in models[place].indices { models[place][block].waitedOut() }
        }
        return true
    }
}
