// SPDX-License-Identifier: Apache-2.0

import Initiator
import Lab
import Testing

/// Once through what makes two gateways one unit, on a lab whose first two gateways serve its first LUN by cliod: COMPARE AND
/// WRITE, reservations, LOGICAL UNIT RESET, and a gateway that is fenced and comes back. For kernels, Ceph releases and
/// settings of Ceph that no suite of their own is about.
func smoke(_ lab: Lab) async throws {
    let smoke = try Smoke(lab)
    try await smoke.noUpdateIsLost()
    try await smoke.oneReservation()
    try await smoke.oneReset()
    try await smoke.oneIsFenced()
}

private struct Smoke {
    let lab: Lab
    let gateways: [LabDescription.Node]
    let lun: Int

    init(_ lab: Lab) throws {
        self.lab = lab
        let description = lab.description()
        gateways = Array(description.nodes.filter { $0.role == .gateway }.prefix(2))
        try #require(gateways.count == 2)
        lun = try #require(description.luns.first).lun
    }

    func noUpdateIsLost() async throws {
        var race = CompareAndWriteRace(target: Lab.targetName, portals: gateways.compactMap(\.portal))
        race.namespace = lab.netns
        race.lun = lun
        race.duration = 2
        let outcome = try await race.run()
        #expect(outcome.lost == 0 && outcome.successes > 0 && outcome.miscompares > 0, "\(outcome)")
    }

    /// A holder through one gateway, whom a host of the other fences.
    func oneReservation() async throws {
        let holder = try await host("holder", 0)
        let fencer = try await host("fencer", 1)
        let block = [UInt8](repeating: 0x5A, count: 512)
        try await holder.good(.persistentReserveOut(.register, actionKey: 0xA), lun: lun)
        try await holder.good(.persistentReserveOut(.reserve, key: 0xA, type: 5), lun: lun)
        #expect(try await fencer.send(.write(64, block), lun: lun).isReservationConflict)
        try await fencer.good(.persistentReserveOut(.register, actionKey: 0xB), lun: lun)
        try await fencer.good(.write(64, block), lun: lun)
        try await fencer.good(.persistentReserveOut(.preemptAndAbort, key: 0xB, actionKey: 0xA, type: 5), lun: lun)
        #expect(try await holder.attention(lun: lun) == 0x2A05, "REGISTRATIONS PREEMPTED")
        #expect(try await holder.send(.write(64, block), lun: lun).isReservationConflict)
        try await fencer.good(.persistentReserveOut(.clear, key: 0xB), lun: lun)
        try await holder.good(.write(64, block), lun: lun)
        for nexus in [holder, fencer] { await nexus.close() }
    }

    /// A reset through one gateway that both hosts are told of.
    func oneReset() async throws {
        let hosts = [try await host("one", 0), try await host("two", 1)]
        #expect(try await hosts[0].manage(.logicalUnitReset, lun: lun) == .complete)
        for host in hosts {
            #expect(try await host.attention(lun: lun) == 0x2903, "BUS DEVICE RESET FUNCTION OCCURRED")
            await host.close()
        }
    }

    /// A gateway that stands still under load for longer than its lease: none of its writes lands later, and it is back.
    func oneIsFenced() async throws {
        let (before, fenced) = (try await instance(of: gateways[1].name), gateways[1])
        let round = try await lab.round(.freeze, of: fenced.name, lun: lun, watch: .seconds(2))
        #expect(round.report.stale.isEmpty && round.report.writes > 0, "\(round.report)")
        try await lab.waitUntilServed(fenced, lun: lun)
        #expect(try await instance(of: fenced.name) != before, "\(fenced.name) was fenced")
    }

    private func host(_ name: String, _ gateway: Int) async throws -> Nexus {
        try await lab.host(name, gateways[gateway].name, lun: lun)
    }

    private func instance(of gateway: String) async throws -> String {
        let status = try await lab.groupStatus(from: gateway)
        return try #require(status.members.first { $0.node == gateway }?.report).instance
    }
}
