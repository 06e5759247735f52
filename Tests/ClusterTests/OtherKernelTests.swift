// SPDX-License-Identifier: Apache-2.0

import Initiator
import Lab
import Testing

/// The smoke, in a minute each, on gateways of another kernel, and on one beside one of the lab's own; and what is only to be seen
/// there.
@Suite("Other kernels", .serialized, .timeLimit(.minutes(10)))
struct OtherKernelTests {
    /// The newest kernel that there is a series for, as the Makefile's NEWER.
    static let newer = "7.3"

    @Test(arguments: [newer, "gw1=6.12,gw2=\(newer)"]) func smokes(_ text: String) async throws {
        let versions = try #require(KernelVersions(text))
        try await withLab(LabOptions(name: "kernel-test", gateways: 2, initiators: 0, versions: versions)) { lab in
            for gateway in lab.gateways {
                let release = try await lab.check(gateway, ["uname", "-r"])
                let version = try #require(versions.nodes[gateway] ?? versions.others)
                #expect(release.hasPrefix("\(version)."), "\(gateway) runs \(release)")
            }
            try await theNodeReadsReservations(lab)
            try await writeAtomicIsRefused(lab)
            // The gateway that it fences is the one of the other version.
            try await smoke(lab)
        }
    }

    /// By ioctls of the node itself that 6.12 has not (IOC_PR_READ_KEYS, IOC_PR_READ_RESERVATION).
    private func theNodeReadsReservations(_ lab: Lab) async throws {
        let (one, two) = (try await lab.host("one", "gw1"), try await lab.host("two", "gw2"))
        try await one.good(.persistentReserveOut(.register, actionKey: 0xA))
        try await two.good(.persistentReserveOut(.register, actionKey: 0xB))
        try await one.good(.persistentReserveOut(.reserve, key: 0xA, type: 5))
        #expect(try await own(lab, "keys", "1") == "good 2 0xa")
        #expect(try await own(lab, "keys", "8") == "good 2 0xa 0xb")
        #expect(try await own(lab, "reservation") == "good 0xa 3", "3 is PR_WRITE_EXCLUSIVE_REG_ONLY")
        try await two.good(.persistentReserveOut(.clear, key: 0xB))
        #expect(try await own(lab, "keys", "8") == "good 0")
        #expect(try await own(lab, "reservation") == "good 0 0")
        for host in [one, two] { await host.close() }
    }

    private func own(_ lab: Lab, _ words: String...) async throws -> String {
        try await lab.exec("gw2", [try lab.executable("ioc-pr"), "/dev/rbd0"] + words).outputText
    }

    /// WRITE ATOMIC(16), which newer target cores know: rbd says nothing of what it writes as one.
    private func writeAtomicIsRefused(_ lab: Lab) async throws {
        let host = try await lab.host("host", "gw2")
        let write = SCSICommand(
            cdb: [0x9C, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0], output: [UInt8](repeating: 0, count: 512))
        #expect(try await host.send(write).sense?.additional == 0x2000, "INVALID COMMAND OPERATION CODE")
        await host.close()
    }
}
