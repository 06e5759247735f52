// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Relay
import RelaySimulation

@main struct ClioSim: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "clio-sim",
        abstract: "Run the relay's state machine against random faults in virtual time.",
        discussion: """
            Each seed is one cluster of 2 to 50 nodes with its hosts, its Ceph and its faults. The first seed that \
            violates a rule is printed; --seed runs it again and tells its story.
            """)

    @Option(help: "How many seeds to run.") var seeds = 1000
    @Option(help: "The first of them.") var first: UInt64 = 1
    @Option(help: "Run this seed only, and tell what happens.") var seed: UInt64?
    @Option(help: "Number of nodes; by default the seed decides.") var nodes: Int?
    @Option(name: .customLong("break"), help: "Break a rule: \(Rule.allCases.map(\.rawValue).joined(separator: ", ")).")
    var broken: String?
    @Flag(help: "Break each rule in turn, and see that it is noticed.") var mutants = false

    func validate() throws {
        if let broken, Rule(rawValue: broken) == nil {
            throw ValidationError("there is no rule \(broken); see --help")
        }
    }

    func run() async throws {
        let rule = broken.flatMap(Rule.init)
        if let seed {
            let outcome = Simulation(seed: seed, nodes: nodes, breaking: rule).run { print($0) }
            print(outcome)
            if outcome.violation != nil { throw ExitCode.failure }
        } else if mutants {
            try await runMutants()
        } else {
            let clock = ContinuousClock()
            let start = clock.now
            let result = await Campaign(first: first, count: seeds, nodes: nodes, breaking: rule).run()
            let time = clock.now - start
            print(result.summary(time))
            if let failure = result.failure {
                print("seed \(failure.seed) (\(failure.outcome.nodes) nodes): \(failure.outcome.violation ?? "")")
                print("again: make sim SEED=\(failure.seed)")
                throw ExitCode.failure
            }
        }
    }

    private func runMutants() async throws {
        var survivors: [Rule] = []
        for rule in Rule.allCases {
            let result = await Campaign(first: first, count: seeds, nodes: nodes, breaking: rule).run()
            if let failure = result.failure {
                print("\(rule): seed \(failure.seed): \(failure.outcome.violation ?? "")")
            } else {
                print("\(rule): not noticed in \(seeds) seeds")
                survivors.append(rule)
            }
        }
        if !survivors.isEmpty { throw ExitCode.failure }
    }
}
