// SPDX-License-Identifier: Apache-2.0

import Foundation
import Initiator
import Lab
import Netlink
import SystemPackage
import Testing

/// The same kernel with KASAN, lockdep and sleep-in-atomic checks, on a lab of its own: COMPARE AND WRITE, malformed
/// netlink messages, a gateway's set-up and end, and blk_cluster's own test.
@Suite("Debug kernel", .serialized, .timeLimit(.minutes(10)))
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
            // The kernel's own test and the fuzzer are the relay themselves, so cliod must not be.
            try await lab.check("gw1", [clio, "node", "down"], timeout: .seconds(120))
            let selfTest = ["env", "\(InNode.variable)=1"] + (try WrapperTests.program("KernelSelfTests"))
            WrapperTests.expectPassed(try await lab.exec("gw1", selfTest, timeout: .seconds(240)), atLeast: 1)
            let failed = try await lab.exec("gw1", ["sh", "-c", "dmesg | grep 'blk_cluster: selftest:'"]).outputText
            #expect(failed.isEmpty, "\(failed)")
            try await lab.check("gw1", [clio, "node", "up", "--alone"], timeout: .seconds(120))
            let fuzzer = try lab.executable("netlink-fuzz")
            try await lab.check("gw1", [fuzzer, "100000", "1"], timeout: .seconds(240))
            for gateway in lab.gateways {
                try await lab.check(gateway, [clio, "node", "down"], timeout: .seconds(120))
            }
        }
    }
}

/// Run inside a node by ``DebugKernelTests``: blk_cluster's own test, which wants a relay that ends each event at once.
@Suite(.enabled(if: InNode.isHere, Comment(rawValue: InNode.note)))
struct KernelSelfTests {
    @Test func passes() async throws {
        let kernel = try await BlkCluster()
        _ = try await kernel.attach()
        async let relay: Void = {
            for try await case .event(let event) in kernel.notifications {
                try await kernel.finish(event: event.id, .done)
            }
        }()
        let errno = await withCheckedContinuation { continuation in
            // A node has one processor, and this one waits for the relay.
            Thread.detachNewThread { continuation.resume(returning: Self.run()) }
        }
        #expect(errno == nil, "the node's console says which lines of selftest.c failed")
        kernel.close()
        _ = try? await relay
    }

    /// Returns when the test has ended, which is when the parameter has been written.
    private static func run() -> Errno? {
        do {
            let parameter = try FileDescriptor.open("/sys/module/blk_cluster/parameters/selftest", .writeOnly)
            try parameter.closeAfter { _ = try parameter.writeAll("1".utf8) }
            return nil
        } catch {
            return error as? Errno ?? .ioError
        }
    }
}
