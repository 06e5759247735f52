// SPDX-License-Identifier: Apache-2.0

import Initiator
import Lab
import Testing

/// The same kernel with KASAN, lockdep and sleep-in-atomic checks, on a lab of its own: COMPARE AND WRITE, malformed
/// netlink messages, and a gateway's set-up and end.
@Suite("Debug kernel", .serialized, .timeLimit(.minutes(5)))
struct DebugKernelTests {
    @Test func everythingLeavesTheConsolesClean() async throws {
        let options = LabOptions(name: "debug-kernel-test", gateways: 2, initiators: 0, kernel: .debug)
        try await withLab(options) { lab in
            #expect(try await lab.race(seconds: 5, writers: 4).lost == 0)
            #expect(try await lab.race(blocks: 32, seconds: 3, writers: 4).lost == 0)
            let clio = try lab.executable("clio")
            for gateway in lab.gateways {
                try await lab.check(gateway, [clio, "node", "down"], timeout: .seconds(120))
                try await lab.check(gateway, [clio, "node", "up"], timeout: .seconds(120))
            }
            #expect(try await lab.race(seconds: 2, writers: 4).lost == 0)
            // The fuzzer is the relay itself, so cliod must not be.
            try await lab.check("gw1", [clio, "node", "down"], timeout: .seconds(120))
            try await lab.check("gw1", [clio, "node", "up", "--alone"], timeout: .seconds(120))
            let fuzzer = try lab.executable("netlink-fuzz")
            try await lab.check("gw1", [fuzzer, "100000", "1"], timeout: .seconds(240))
            for gateway in lab.gateways {
                try await lab.check(gateway, [clio, "node", "down"], timeout: .seconds(120))
            }
        }
    }
}
