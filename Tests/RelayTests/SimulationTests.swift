// SPDX-License-Identifier: Apache-2.0

import Relay
import RelaySimulation
import Testing

/// Whole clusters in virtual time, with random faults; `make sim` runs more of them.
@Suite(.serialized) struct SimulationTests {
    @Test func noRuleIsViolated() async {
        let result = await Campaign(count: 60).run()
        if let failure = result.failure {
            Issue.record("\(failure.outcome.violation ?? ""); again: make sim SEED=\(failure.seed)")
        }
        // It must have been worth it.
        #expect(result.writes > 30_000)
        #expect(result.events > 500)
        #expect(result.fenced > 50)
    }

    @Test func fiftyNodes() async {
        let result = await Campaign(first: 4, count: 1, nodes: 50).run()
        #expect(result.failure == nil)
    }

    /// Each rule is there for a reason, and the checks notice when a protocol does not keep it. `renewalGuarded` is not
    /// among them: it takes more than one fault at once to get past the other rules that stand behind it. See
    /// ``MachineTests/renewalComparesTheRecord()``.
    @Test(arguments: Rule.allCases.filter { $0 != .renewalGuarded }) func brokenRuleIsNoticed(_ rule: Rule) async {
        let result = await Campaign(count: 500, nodes: 3, breaking: rule).run()
        #expect(result.failure != nil, "\(rule) is broken, and nothing happens")
    }

    /// A seed is a run.
    @Test func seedReplays() {
        func story() -> [String] {
            var lines: [String] = []
            _ = Simulation(seed: 17, nodes: 5).run { lines.append($0) }
            return lines
        }
        let first = story()
        #expect(first.count > 50)
        #expect(first == story())
    }
}
