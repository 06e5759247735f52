// SPDX-License-Identifier: Apache-2.0

import Lab
import Testing

/// A short torture, on a lab of its own: hosts do at random what hosts may do, gateways and links fail, one gateway is fenced, and
/// nothing that must not be is found. `make torture` does it at length.
@Suite("Torture", .serialized, .timeLimit(.minutes(5)))
struct TortureTests {
    /// In its first rounds a gateway leaves over a stuck write, a PERSISTENT RESERVE OUT is stuck when the unit is reset, and one is
    /// killed.
    private static let seed: UInt64 = 2229
    private static let rounds = 1...3

    @Test func fewRounds() async throws {
        let plans = Self.rounds.map { round in
            TorturePlan(seed: Self.seed, round: round, gateways: ["gw1", "gw2", "gw3"], osds: 4)
        }
        #expect(plans.contains { $0.fences } && plans.contains { $0.stuck != nil }, "the seed's plan is another")
        try await withLab(Torture.options(name: "torture-test", kernel: .clio)) { lab in
            let torture = try await Torture(lab, seed: Self.seed)
            for number in Self.rounds {
                let round = try await torture.round(number)
                #expect(round.findings.isEmpty, "seed \(Self.seed), round \(number): \(round.trace.suffix(200))")
            }
            try await torture.end()
        }
    }
}
