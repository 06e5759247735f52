// SPDX-License-Identifier: Apache-2.0

import Foundation
import Initiator
import Lab
import Testing

/// Gateways with cliod: what one of them is told holds on all, and what one of them suffers hurts nobody's data.
@Suite("Relayed", .serialized, .timeLimit(.minutes(20)))
struct RelayedTests {
    @Test(arguments: [KernelFlavour.clio, .debug])
    func theClusterActsAsOne(kernel: KernelFlavour) async throws {
        try await withLab(kernel: kernel) { lab in
            try await resetReachesEveryNexus(lab, .logicalUnitReset)
            try await resetReachesEveryNexus(lab, .targetWarmReset)
            try await taskSetsAreCleared(lab)
            try await abortReachesTheOSDRequests(lab)
            try await resetUnderLoad(lab, resets: kernel == .debug ? 20 : 200)
            try await capacityReachesEveryNexus(lab)
            try await gatewayLeavesInOrder(lab)
            try await gatewayDiesDuringReset(lab)
        }
    }

    /// Each fault once, in an order that a seed decides; `clio-lab faults --rounds N` has more.
    @Test func noFaultLetsOldDataOverNew() async throws {
        let seed = UInt64.random(in: 0...999_999)
        print("seed \(seed)")
        var random = SeededGenerator(seed: seed)
        try await withLab { lab in
            for fault in Fault.allCases.shuffled(using: &random) {
                let node = try #require(lab.gateways.randomElement(using: &random))
                let round = try await lab.round(fault, of: node)
                #expect(round.report.stale.isEmpty, "\(fault) of \(node), seed \(seed)")
                #expect(round.report.writes > 0)
            }
        }
    }

    /// The same on the stock kernel, without which the test above would prove nothing.
    @Test func withoutClioAFrozenGatewayDoesHarm() async throws {
        try await withLab(kernel: .stock) { lab in
            let round = try await lab.round(.freeze, of: "gw1")
            #expect(!round.report.stale.isEmpty)
        }
    }

    private func withLab(kernel: KernelFlavour = .clio, _ body: (Lab) async throws -> Void) async throws {
        try await ClusterTests.withLab(
            LabOptions(
                name: "relayed-test", gateways: 2, initiators: 0, kernel: kernel, daemon: kernel != .stock), body)
    }

    /// 29h/03h BUS DEVICE RESET FUNCTION OCCURRED on each nexus of both gateways, and RESERVE(6) is released.
    private func resetReachesEveryNexus(_ lab: Lab, _ function: TaskManagement) async throws {
        let one = try await lab.host("one", "gw1")
        let two = try await lab.host("two", "gw2")
        let three = try await lab.host("three", "gw2")
        #expect(try await two.send(.reserve6).isGood)
        #expect(try await three.send(.read(0, blocks: 1)).isReservationConflict)
        #expect(try await one.manage(function) == .complete)
        for nexus in [one, two, three] {
            #expect(try await nexus.attention() == 0x2903)
            #expect(try await nexus.send(.testUnitReady).isGood)
        }
        #expect(try await three.send(.read(0, blocks: 1)).isGood)
        for nexus in [one, two, three] { await nexus.close() }
    }

    private func taskSetsAreCleared(_ lab: Lab) async throws {
        let one = try await lab.host("host", "gw1")
        let two = try await lab.host("host", "gw2")
        #expect(try await one.manage(.abortTaskSet) == .complete)
        #expect(try await one.manage(.clearTaskSet) == .complete)
        #expect(try await two.send(.read(0, blocks: 1)).isGood)
        for nexus in [one, two] { await nexus.close() }
    }

    /// ABORT TASK SET while the OSDs stand still: a read is given up at once, and a write, which an OSD may have or not
    /// have, is waited for.
    private func abortReachesTheOSDRequests(_ lab: Lab) async throws {
        let one = try await lab.host("host", "gw1")
        let block = [UInt8](repeating: 0x5A, count: 512)
        try await lab.pauseOSDs()
        do {
            // An aborted command has no status: it ends with the session.
            async let read = one.send(.read(0, blocks: 1))
            try await Task.sleep(for: .milliseconds(300))
            #expect(try await one.manage(.abortTaskSet) == .complete)

            async let write = one.send(.write(0, block))
            try await Task.sleep(for: .milliseconds(300))
            async let (response, answered) = (one.manage(.abortTaskSet), ContinuousClock.now)
            try await Task.sleep(for: .seconds(1))
            let resumed = ContinuousClock.now
            try await lab.resumeOSDs()
            #expect(try await response == .complete)
            #expect(try await answered > resumed)
            await one.close()
            _ = try? await (read, write)
        } catch {
            try await lab.resumeOSDs()
            await one.close()
            throw error
        }
    }

    /// Commands that are under way when the reset comes end, one way or the other, and the data is nobody's mixture.
    private func resetUnderLoad(_ lab: Lab, resets: Int) async throws {
        let manager = try await lab.host("manager", "gw1")
        let writers = [try await lab.host("w1", "gw1"), try await lab.host("w2", "gw2")]
        let block = [UInt8](repeating: 0x5A, count: 512 * 64)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (index, writer) in writers.enumerated() {
                for lane in 0..<8 {
                    group.addTask {
                        while !Task.isCancelled {
                            let lba = UInt64(index * 8 + lane) * 256
                            // Long reads: their replies are half here when they are aborted.
                            for command in [SCSICommand.write(lba, block), .read(lba, blocks: 256)] {
                                let reply = try await writer.send(command)
                                // GOOD, CHECK CONDITION with the unit attention, or TASK ABORTED.
                                #expect([0, 2, 0x40].contains(reply.status), "\(reply)")
                            }
                        }
                    }
                }
            }
            for _ in 0..<resets {
                #expect(try await manager.manage(.logicalUnitReset) == .complete)
                try await Task.sleep(for: .milliseconds(20))
            }
            group.cancelAll()
            try await group.waitForAll()
        }
        for nexus in writers + [manager] { await nexus.close() }
    }

    /// 2Ah/09h CAPACITY DATA HAS CHANGED on every nexus, and the new size at once.
    private func capacityReachesEveryNexus(_ lab: Lab) async throws {
        let nexuses = [try await lab.host("host", "gw1"), try await lab.host("host", "gw2")]
        let image = try #require(lab.description().luns.first)
        try await lab.hostCheck(["rbd", "resize", "--no-progress", "--size", "2G", "\(image.pool)/\(image.image)"])
        for nexus in nexuses {
            #expect(try await nexus.attention() == 0x2A09)
            let capacity = try await nexus.good(.readCapacity)
            #expect(capacity.prefix(8).reduce(0) { $0 << 8 | UInt64($1) } == (2 << 30) / 512 - 1)
            await nexus.close()
        }
    }

    /// A gateway that leaves shows as unavailable through the other one, with 2Ah/06h ASYMMETRIC ACCESS STATE CHANGED, and
    /// as active again once it is back.
    private func gatewayLeavesInOrder(_ lab: Lab) async throws {
        let one = try await lab.host("host", "gw1")
        let clio = try lab.executable("clio")
        let gateway = try #require(lab.description().nodes.first { $0.name == "gw2" })
        try await lab.check("gw2", [clio, "node", "down"], timeout: .seconds(60))
        #expect(try await states([.active, .unavailable], one).contains(0x2A06))
        #expect(try await one.manage(.logicalUnitReset) == .complete)
        #expect(try await one.attention() == 0x2903)
        try await lab.startDaemon("gw2")
        try await lab.waitUntilServed(gateway)
        #expect(try await states([.active, .active], one).contains(0x2A06))
        await one.close()
    }

    private enum AccessState: UInt8 {
        case active = 0
        case unavailable = 3
    }

    /// Waits until REPORT TARGET PORT GROUPS shows these states, in the order of the ports.
    ///
    /// - Returns: the unit attentions that came meanwhile.
    private func states(_ expected: [AccessState], _ nexus: Nexus) async throws -> Set<UInt16> {
        var found: [UInt8] = []
        var attentions: Set<UInt16> = []
        for _ in 0..<100 {
            let reply = try await nexus.send(.reportTargetPortGroups)
            if reply.isGood {
                found = Identity.portGroups(reply.data).sorted { $0.group < $1.group }.map(\.state)
                if found == expected.map(\.rawValue) { return attentions }
            } else if let sense = reply.sense, sense.key == 0x06 {
                attentions.insert(sense.additional)
            }
            try await Task.sleep(for: .milliseconds(100))
        }
        Issue.record("target port groups in states \(found), not \(expected)")
        return attentions
    }

    /// A gateway that stands still delays a LOGICAL UNIT RESET by no more than F; then it succeeds.
    private func gatewayDiesDuringReset(_ lab: Lab) async throws {
        let one = try await lab.host("host", "gw1")
        try await lab.freeze("gw2")
        let start = ContinuousClock.now
        let response = try await one.manage(.logicalUnitReset)
        let took = ContinuousClock.now - start
        try await lab.thaw("gw2")
        #expect(response == .complete)
        // F is 10 s; two more for a machine that is busy with other things.
        #expect(took < .seconds(12), "\(took)")
        await one.close()
    }
}
