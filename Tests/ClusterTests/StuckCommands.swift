// SPDX-License-Identifier: Apache-2.0

import Initiator
import Lab
import Synchronization
import Testing

/// A lab in which one gateway's commands get stuck at one OSD, while all else works: the objects that beats, events and
/// reservations need are elsewhere.
struct StuckCommands: Sendable {
    let lab: Lab
    /// The LUN that is used.
    let lun: Int
    let placement: Placement
    /// The OSD with data and nothing else.
    let data: Int
    private let nexuses = Mutexed<[Initiator.Nexus]>([])

    /// What the write that gets stuck writes, and what a host writes that has been told that it may.
    static let (old, newer) = ([UInt8](repeating: 0x01, count: 512), [UInt8](repeating: 0x02, count: 512))

    /// F with what a host and a node may differ by, and some.
    static let bound = Duration.seconds(20)

    /// Brings up a lab for `body`; whatever happens, all that is held goes on at its end, and all sessions are dropped.
    ///
    /// - Parameter isKnown: whether a problem on a console is what the test is about.
    static func with(
        kernel: KernelFlavour = .clio, gateways: Int = 2, initiators: Int = 0,
        isKnown: (ConsoleProblem, Lab) -> Bool = { _, _ in false }, _ body: (StuckCommands) async throws -> Void
    ) async throws {
        let options = LabOptions(
            name: "stuck-test", gateways: gateways, initiators: initiators, osds: 4, luns: 6, size: 256 << 20,
            kernel: kernel)
        try await withLab(options, isKnown: isKnown) { lab in
            let stuck = try await StuckCommands(lab)
            do {
                try await body(stuck)
            } catch {
                try await stuck.end()
                throw error
            }
            try await stuck.end()
        }
    }

    private init(_ lab: Lab) async throws {
        self.lab = lab
        for lun in 0..<lab.options.luns {
            let placement = try await lab.placement(lun: lun)
            guard placement.state != placement.group, let data = placement.onlyData else { continue }
            (self.lun, self.placement, self.data) = (lun, placement, data)
            return
        }
        throw LabError("the lab's images", "each has its reservations at the OSD of the group's object")
    }

    /// Another unit, whose reservations do not depend on the OSD with data only, and a block of it that does not either.
    func anotherUnit() async throws -> (lun: Int, block: UInt64) {
        for other in 0..<lab.options.luns where other != lun {
            let placement = try await lab.placement(lun: other)
            guard placement.state != data, let osd = placement.objects.first(where: { $0 != data }),
                let block = placement.block(on: osd)
            else { continue }
            return (other, block)
        }
        throw LabError("the lab's images", "all others have their reservations at \(data)")
    }

    /// All that is held goes on, and all sessions are dropped.
    func end() async throws {
        for daemon in lab.daemons() { try await lab.resume(daemon.name) }
        for gateway in lab.gateways where try lab.state(gateway) != .dead {
            try await lab.thaw(gateway)
            try await lab.heal(gateway)
        }
        for nexus in nexuses.value { await nexus.drop() }
        nexuses.change { $0 = [] }
    }

    /// A block at the OSD with data only, each in an object of its own.
    func block(_ number: Int = 0) throws -> UInt64 { try #require(placement.block(on: data, skipping: number)) }

    /// A block at another OSD.
    func blockElsewhere() throws -> UInt64 {
        let other = try #require(placement.objects.first { $0 != data })
        return try #require(placement.block(on: other))
    }

    /// With a LUN that was chosen by where its objects are.
    init(_ lab: Lab, lun: Int, _ placement: Placement, data: Int) {
        (self.lab, self.lun, self.placement, self.data) = (lab, lun, placement, data)
    }

    /// A host's session with a gateway; its commands may take minutes.
    ///
    /// - Parameter other: the LUN whose unit attentions are taken, in place of ``lun``.
    func host(
        _ name: String, _ gateway: String, isid: UInt32? = nil, attributes: Bool = false, lun other: Int? = nil
    ) async throws -> Initiator.Nexus {
        let nexus = try await lab.logIn(name, to: gateway, isid: isid, timeout: 300, attributes: attributes)
        nexuses.change { $0.append(nexus) }
        try await nexus.ready(lun: other ?? lun)
        return nexus
    }

    /// A gateway can no longer reach an OSD, until it is healed: then all that is held arrives.
    func hold(_ gateway: String, from osd: Int) async throws {
        try await lab.slow(gateway, from: osd, Slowness(delay: .seconds(3600)))
    }

    /// Waits until a gateway has sent so many requests to an OSD, and has no answer.
    func waitForRequests(_ gateway: String, _ osd: Int, atLeast count: Int = 1) async throws {
        try await until(.seconds(10), "\(count) requests of \(gateway) are at osd.\(osd)") {
            try await requests(gateway, osd) >= count
        }
    }

    /// Waits until a gateway waits for no answer of an OSD, be it that it is fenced.
    func waitForQuiet(_ gateway: String, _ osd: Int) async throws {
        try await until(.seconds(90), "\(gateway) waits for nothing at osd.\(osd)") {
            try await requests(gateway, osd) == 0
        }
    }

    /// Requests of krbd to an OSD that have no answer.
    private func requests(_ gateway: String, _ osd: Int) async throws -> Int {
        let script = """
            cat /sys/kernel/debug/ceph/*/osdc 2>/dev/null |
                awk '/^REQUESTS/ { r = 1; next } /^LINGER/ { r = 0 } r && $2 == "osd\(osd)" { n++ } END { print n + 0 }'
            """
        return Int(try await lab.check(gateway, ["sh", "-c", script])) ?? 0
    }

    /// Writes a block, again and again until it is taken.
    ///
    /// - Parameter lun: nil: the LUN that is used.
    func write(
        _ nexus: Initiator.Nexus, _ block: UInt64, _ data: [UInt8] = newer, lun: Int? = nil
    ) async throws {
        var reply: SCSIReply?
        try await until(.seconds(60), "a write is taken") {
            reply = try await nexus.send(.write(block, data), lun: lun ?? self.lun)
            return reply?.isGood == true
        }
    }

    /// All that was held arrives; then the newer data has to stand in `blocks`.
    func expectNewer(
        after gateway: String, _ blocks: UInt64..., lun: Int? = nil, through nexus: Initiator.Nexus,
        sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        try await lab.heal(gateway)
        for osd in [data, placement.state] { try await waitForQuiet(gateway, osd) }
        let lun = lun ?? self.lun
        try await nexus.ready(lun: lun)
        for block in blocks {
            let found = try await nexus.good(.read(block, blocks: 1), lun: lun)
            let standing =
                switch found {
                case Self.newer: "newer"
                case Self.old: "old"
                case [UInt8](repeating: 0, count: 512): "zero"
                default: "other"
                }
            #expect(standing == "newer", "block \(block)", sourceLocation: sourceLocation)
        }
    }
}

/// A value that several tasks change.
final class Mutexed<Value: Sendable>: Sendable {
    private let mutex: Mutex<Value>
    init(_ value: sending Value) { mutex = Mutex(value) }
    var value: Value { mutex.withLock { $0 } }
    func change(_ body: (inout Value) -> Void) { mutex.withLock { body(&$0) } }
}
