// SPDX-License-Identifier: Apache-2.0

import Initiator
import Lab
import Testing

/// What one logical unit is, in a minute each: on gateways of another kernel, and on one beside one of the lab's own.
@Suite("Other kernels", .serialized, .timeLimit(.minutes(10)))
struct OtherKernelTests {
    @Test(arguments: ["7.3", "gw1=6.12,gw2=7.3"]) func smoke(_ text: String) async throws {
        let versions = try #require(KernelVersions(text))
        try await withLab(LabOptions(name: "kernel-test", gateways: 2, initiators: 0, versions: versions)) { lab in
            for gateway in lab.gateways {
                let release = try await lab.check(gateway, ["uname", "-r"])
                let version = try #require(versions.nodes[gateway] ?? versions.others)
                #expect(release.hasPrefix("\(version)."), "\(gateway) runs \(release)")
            }
            try await noUpdateIsLost(lab)
            try await reservationHoldsThroughBoth(lab)
            try await resetReachesEveryNexus(lab)
            try await writeAtomicIsRefused(lab)
            // The one of the other version is fenced.
            let round = try await lab.round(.freeze, of: "gw2")
            #expect(round.report.stale.isEmpty)
            #expect(round.report.writes > 0)
        }
    }

    private func noUpdateIsLost(_ lab: Lab) async throws {
        let portals = lab.description().nodes.compactMap(\.portal)
        var race = CompareAndWriteRace(target: Lab.targetName, portals: portals)
        race.namespace = lab.netns
        let outcome = try await race.run()
        #expect(outcome.lost == 0)
        #expect(outcome.successes > 100)
        #expect(outcome.miscompares > 0)
    }

    private func reservationHoldsThroughBoth(_ lab: Lab) async throws {
        let write = SCSICommand.write(64, [UInt8](repeating: 0, count: 512))
        let (a, b) = (try await lab.reservationPaths(host: 1), try await lab.reservationPaths(host: 2))
        let (here, there) = (a[0].session, b[1].session)
        try await here.good(.persistentReserveOut(.register, actionKey: 0xA))
        try await there.good(.persistentReserveOut(.register, actionKey: 0xB))
        let keys = try await here.good(.persistentReserveIn(.readKeys))
        #expect(keys.count == 8 + 16)
        #expect(try await there.good(.persistentReserveIn(.readKeys)) == keys)
        try await here.good(.persistentReserveOut(.reserve, key: 0xA, type: 5))
        try await there.good(write)
        // The node itself, by ioctls that 6.12 has not; 3 is PR_WRITE_EXCLUSIVE_REG_ONLY.
        #expect(try await own(lab, "keys", "1") == "good 2 0xa")
        #expect(try await own(lab, "keys", "8") == "good 2 0xa 0xb")
        #expect(try await own(lab, "reservation") == "good 0xa 3")
        try await there.good(.persistentReserveOut(.preemptAndAbort, key: 0xB, actionKey: 0xA, type: 5))
        #expect(try await here.send(.testUnitReady).sense?.additional == 0x2A05)
        #expect(try await here.send(write).isReservationConflict)
        try await there.good(write)
        try await there.good(.persistentReserveOut(.clear, key: 0xB))
        try await here.good(write)
        #expect(try await own(lab, "keys", "8") == "good 0")
        #expect(try await own(lab, "reservation") == "good 0 0")
        for path in a + b { await path.session.close() }
    }

    private func own(_ lab: Lab, _ words: String...) async throws -> String {
        try await lab.exec("gw2", [try lab.executable("ioc-pr"), "/dev/rbd0"] + words).outputText
    }

    /// WRITE ATOMIC(16), which newer target cores know: rbd says nothing of what it writes as one.
    private func writeAtomicIsRefused(_ lab: Lab) async throws {
        let path = try await lab.reservationPaths(host: 1)[1]
        try await path.session.ready()
        let write = SCSICommand(
            cdb: [0x9C, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0], output: [UInt8](repeating: 0, count: 512))
        #expect(try await path.session.send(write).sense?.additional == 0x2000)
        await path.session.close()
    }

    private func resetReachesEveryNexus(_ lab: Lab) async throws {
        let nexuses = try await lab.reservationPaths(host: 1).map(\.session)
        for nexus in nexuses { try await nexus.ready() }
        #expect(try await nexuses[0].manage(.logicalUnitReset) == .complete)
        for nexus in nexuses {
            #expect(try await nexus.send(.testUnitReady).sense?.additional == 0x2903)
            try await nexus.good(.testUnitReady)
            await nexus.close()
        }
    }
}
