// SPDX-License-Identifier: Apache-2.0

import Foundation
import Initiator
import Lab
import Testing

extension Trait where Self == ConditionTrait {
    /// One that `make test` leaves out.
    static var whole: Self { .enabled(if: StuckCommands.isWhole, "runs in make test-in-flight only") }
}

/// What the hosts of a lab with stuck commands do.
extension StuckCommands {
    /// `make test-in-flight` runs all tests with all their arguments, `make test` one of each kind.
    static let isWhole = ProcessInfo.processInfo.environment["CLIO_TEST_IN_FLIGHT"] != nil

    static let preemptAndAbort = SCSICommand.persistentReserveOut(.preemptAndAbort, key: 0xB, actionKey: 0xA, type: 5)

    /// Two hosts register, and the second reserves a unit for those that are registered.
    ///
    /// - Parameter lun: nil: the LUN that is used.
    func arm(victim: Initiator.Nexus, fencer: Initiator.Nexus, lun: Int? = nil) async throws {
        let lun = lun ?? self.lun
        try await victim.good(.persistentReserveOut(.register, actionKey: 0xA), lun: lun)
        try await fencer.good(.persistentReserveOut(.register, actionKey: 0xB), lun: lun)
        try await fencer.good(.persistentReserveOut(.reserve, key: 0xB, type: 5), lun: lun)
    }

    /// A write of a victim's is stuck at its gateway, and two other hosts have registered keys Bh and Ch; the first of them
    /// has reserved the unit.
    ///
    /// - Parameter others: their gateways.
    func stickVictim(
        at gateway: String, others: (String, String)
    ) async throws -> (block: UInt64, fencer: Initiator.Nexus, third: Initiator.Nexus) {
        let block = try block()
        let victim = try await host("victim", gateway)
        let fencer = try await host("fencer", others.0)
        let third = try await host("third", others.1)
        try await arm(victim: victim, fencer: fencer)
        try await third.good(.persistentReserveOut(.register, actionKey: 0xC), lun: lun)
        try await hold(gateway, from: data)
        _ = victim.start(.write(block, Self.old), lun: lun)
        try await waitForRequests(gateway, data)
        return (block, fencer, third)
    }

    /// A write of gw1's is stuck, and ABORT TASK waits for it.
    func abort(_ victim: Initiator.Nexus, stuckAt block: UInt64) async throws {
        try await hold("gw1", from: data)
        let write = victim.start(.write(block, Self.old), lun: lun)
        try await waitForRequests("gw1", data)
        let aborted = victim.startAborting(write)
        #expect(try await aborted.value(within: .seconds(1)) == nil, "it waits for the write")
    }

    /// Sends a command that has to end in GOOD, once no unit attention comes before it.
    func pastAttentions(_ nexus: Initiator.Nexus, _ command: SCSICommand) async throws {
        for _ in 0..<8 {
            let reply = try await nexus.send(command, lun: lun)
            guard reply.sense?.key == 0x06 else { return #expect(reply.isGood, "\(reply)") }
        }
        try await nexus.good(command, lun: lun)
    }

    /// Additional senses of all unit attentions that wait for a nexus.
    func attentions(_ nexus: Initiator.Nexus) async throws -> Set<UInt16> {
        var found: Set<UInt16> = []
        for _ in 0..<8 {
            let reply = try await nexus.send(.testUnitReady, lun: lun)
            guard let sense = reply.sense, sense.key == 0x06 else { break }
            found.insert(sense.additional)
        }
        return found
    }

    /// The keys that a host is shown.
    func keys(_ nexus: Initiator.Nexus) async throws -> Set<UInt64> {
        try await nexus.ready(lun: lun)
        return Set(PersistentReserveIn.keys(in: try await nexus.good(.persistentReserveIn(.readKeys), lun: lun)))
    }

    /// Whether RADOS has a registration with this key.
    func isRegistered(_ key: UInt64) async throws -> Bool {
        try await lab.reservations(lun: lun).registrations.contains { $0.key == key }
    }

    /// A block of a LUN as EXTENDED COPY names it.
    ///
    /// - Parameter lun: nil: the LUN that is used.
    func place(_ block: UInt64, lun: Int? = nil, _ nexus: Initiator.Nexus) async throws -> SCSICommand.CopyPlace {
        let page = try await nexus.good(.inquiry(page: 0x83, length: 1024), lun: lun ?? self.lun)
        var rest = page.dropFirst(4)
        while rest.count >= 4 {
            let (kind, length) = (rest[rest.startIndex + 1], Int(rest[rest.startIndex + 3]))
            if kind & 0x3F == 3 { return .init(naa: Array(rest.dropFirst(4).prefix(length)), lba: block) }
            rest = rest.dropFirst(4 + length)
        }
        throw LabError("VPD page 83h", "has no NAA designator")
    }
}
