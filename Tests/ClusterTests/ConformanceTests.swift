// SPDX-License-Identifier: Apache-2.0

import Lab
import Testing

extension GatewayTests {
    /// libiscsi's own suite. `make conformance` runs the whole of it on the stock kernel as well.
    @Suite struct LibiscsiSuite {
        @Test func compareAndWrite() async throws {
            let cluster = try LiveCluster.current
            for gateway in cluster.gateways {
                let results = try await cluster.lab.conformance(["CompareAndWrite"], through: [gateway.name])
                #expect(results.count == 5)
                #expect(results.filter { $0.outcome != .passed && $0.outcome != .skipped } == [], "\(gateway.name)")
                #expect(results.contains(ConformanceResult("CompareAndWrite.Miscompare", .passed)))
            }
        }

        /// One unit, with an I_T nexus through each gateway; and no test leaves a reservation to the next.
        @Test func throughBothGateways() async throws {
            let cluster = try LiveCluster.current
            let results = try await cluster.lab.conformance(
                [
                    "PrinReadKeys", "PrinReportCapabilities", "PrinServiceactionRange", "ProutRegister", "ProutReserve",
                    "ProutClear", "ProutPreempt", "Reserve6", "MultipathIO",
                ], through: Array(cluster.gateways.map(\.name).prefix(2)))
            #expect(results.count > 20)
            #expect(results.filter { $0.outcome != .passed && $0.outcome != .skipped } == [])
            // LIO has no TARGET COLD RESET.
            #expect(results.filter { $0.outcome == .skipped }.map(\.name) == ["Reserve6.TargetColdReset"])
        }
    }
}
