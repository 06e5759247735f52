// SPDX-License-Identifier: Apache-2.0

import Relay

/// Many seeds, on all processors, up to the first that fails.
package struct Campaign: Sendable {
    package struct Failure: Sendable {
        package var seed: UInt64
        package var outcome: Simulation.Outcome
    }

    package struct Result: Sendable {
        package var seeds = 0
        package var duration = 0.0
        package var steps = 0
        package var writes = 0
        package var events = 0
        package var fenced = 0
        /// The first seed that failed, if any did.
        package var failure: Failure?

        fileprivate mutating func add(_ seed: UInt64, _ outcome: Simulation.Outcome) {
            seeds += 1
            duration += outcome.duration
            steps += outcome.steps
            writes += outcome.writes
            events += outcome.events
            fenced += outcome.fenced
            if outcome.violation != nil, seed < failure?.seed ?? .max {
                failure = Failure(seed: seed, outcome: outcome)
            }
        }

        /// One line. `time`: what the campaign took.
        package func summary(_ time: Duration) -> String {
            let spent = Double(time.components.seconds) + Double(time.components.attoseconds) / 1e18
            let rate = (Double(seeds) / spent * 10).rounded() / 10
            return "\(seeds) seeds, \(Int(duration / 3600)) h of virtual time, \(writes) writes, \(events) events, "
                + "\(fenced) nodes fenced; \(rate) seeds/s"
        }
    }

    package var first: UInt64
    package var count: Int
    package var nodes: Int?
    package var broken: Rule?

    package init(first: UInt64 = 1, count: Int, nodes: Int? = nil, breaking broken: Rule? = nil) {
        self.first = first
        self.count = count
        self.nodes = nodes
        self.broken = broken
    }

    /// - Parameter workers: Seeds at a time.
    package func run(workers: Int = 2) async -> Result {
        await withTaskGroup(of: (UInt64, Simulation.Outcome).self) { group in
            var result = Result()
            var next = first
            let end = first + UInt64(count)
            func start() {
                guard next < end, result.failure == nil else { return }
                let simulation = Simulation(seed: next, nodes: nodes, breaking: broken)
                next += 1
                group.addTask { (simulation.seed, simulation.run()) }
            }
            for _ in 0..<workers { start() }
            while let (seed, outcome) = await group.next() {
                result.add(seed, outcome)
                start()
            }
            return result
        }
    }
}
