// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import Lab

/// What a seed decides.
@Suite struct TorturePlanTests {
    private static let gateways = ["gw1", "gw2", "gw3"]

    private static func plan(_ seed: UInt64, _ round: Int, daemons: Bool = true) -> TorturePlan {
        TorturePlan(seed: seed, round: round, gateways: gateways, osds: 4, daemons: daemons)
    }

    @Test func theSameSeedIsTheSamePlan() {
        for round in 1...20 { #expect(Self.plan(7, round) == Self.plan(7, round)) }
        #expect(Self.plan(7, 1) != Self.plan(7, 2))
        #expect(Self.plan(7, 1) != Self.plan(8, 1))
    }

    @Test func everyFaultComesAndEnds() {
        let plans = (1...2000).map { Self.plan(1, $0) }
        for plan in plans {
            #expect(plan.steps.allSatisfy { $0.begin < $0.end && $0.end < plan.length })
            #expect(plan.steps.count <= 2)
        }
        let texts = plans.flatMap { $0.steps.map { $0.fault.description.split(separator: " ")[0] } }
        let wanted =
            Fault.allCases.filter { $0 != .pauseOSDs }.map(\.rawValue) + ["hold", "slow", "cut", "pause", "freeze"]
        #expect(Set(wanted).subtracting(texts.map(String.init)).isEmpty)
        #expect(plans.contains { $0.steps.isEmpty })
    }

    /// Rounds are short on the whole, and yet some outlast the bound after which hosts go on elsewhere.
    @Test func roundsAreOfAllLengths() {
        let plans = (1...2000).map { Self.plan(1, $0) }
        let seconds = plans.map { $0.length / .seconds(1) }
        #expect(seconds.reduce(0, +) / Double(seconds.count) < 11)
        for wanted in [{ $0 < 5 }, { $0 > 11 }] as [(Double) -> Bool] { #expect(seconds.filter(wanted).count > 100) }
        #expect(plans.filter(\.fences).count > 80)
        #expect(plans.filter(\.waitsOut).count > 200)
        #expect(plans.allSatisfy { $0.lateness <= .seconds(6) })
    }

    @Test func withoutDaemonsNoneFails() {
        for round in 1...500 {
            let plan = Self.plan(3, round, daemons: false)
            #expect(!plan.steps.contains { $0.fault.concernsDaemon })
            #expect(plan.stuck?.end != .leave)
        }
    }

    /// Whatever the seed, the same things are stuck within so many rounds, in an order of its own.
    @Test func allThatCanBeStuckHasItsTurn() {
        func turns(_ seed: UInt64, _ rounds: Range<Int>) -> [String] {
            rounds.map { round in Self.plan(seed, round).stuck.map { "\($0.command) \($0.end)" } ?? "nothing" }
        }
        let first = turns(1, 1..<1 + StuckPlan.deck)
        #expect(Set(first).count == StuckPlan.deck - first.count { $0 == "nothing" } + 1)
        for seed in 1...20 as ClosedRange<UInt64> {
            for begin in [1, 1 + StuckPlan.deck] {
                #expect(turns(seed, begin..<begin + StuckPlan.deck).sorted() == first.sorted())
            }
        }
        #expect(turns(2, 1..<1 + StuckPlan.deck) != first)
        #expect(turns(1, 1 + StuckPlan.deck..<1 + 2 * StuckPlan.deck) != first)
    }

    @Test func whatIsStuckLeavesAWayToGoOn() {
        let plans = (1...2000).compactMap { Self.plan(1, $0).stuck }
        for plan in plans {
            #expect(plan.here != plan.writer && (0..<3).contains(plan.here) && (0..<3).contains(plan.writer))
            #expect(plan.end != .leave || plan.manager != plan.here, "it would be gone")
            #expect((plan.end == .givenUp) == (plan.hold > TortureSite.wait))
        }
        #expect(Set(plans.map { [$0.here, $0.manager, $0.writer] }).count == 18)
        #expect(plans.contains { $0.aborts && $0.silent } && plans.contains { !$0.aborts && !$0.silent })
    }
}

/// What may stand in a block.
@Suite struct BlockModelTests {
    /// What `#expect` cannot call itself.
    private static func reads(_ model: inout BlockModel, _ value: UInt64) -> Bool { model.read(value) }

    @Test func anAcknowledgedValueStands() {
        var model = BlockModel()
        model.acknowledged(1)
        #expect(model.value == 1)
        #expect(Self.reads(&model, 1))
        #expect(!Self.reads(&model, 0))
    }

    @Test func whatIsOverStaysAsItWasSeen() {
        var model = BlockModel(1)
        model.doubtful(2)
        #expect(model.value == nil)
        #expect(Self.reads(&model, 1))
        #expect(!Self.reads(&model, 2), "it was not done, and is done later")
    }

    @Test func whatIsUnderWayMayLandUntilItIsWaitedOut() {
        var model = BlockModel(1)
        model.unanswered(2)
        #expect(Self.reads(&model, 1))
        #expect(Self.reads(&model, 2))
        model.waitedOut()
        #expect(Self.reads(&model, 1))
        #expect(!Self.reads(&model, 2))
        model.acknowledged(3)
        #expect(!Self.reads(&model, 2), "old over new")
        #expect(!Self.reads(&model, 0), "old zeros over new")
    }
}

/// Data with a stamp.
@Suite struct StampTests {
    @Test func roundTrip() {
        for stamp in [0, 1, Stamp.number(77, of: 3)] { #expect(Stamp.value(Stamp.data(stamp)) == stamp) }
        #expect(Stamp.data(5).count == 512)
        var torn = Stamp.data(5)
        torn.replaceSubrange(256..<512, with: Stamp.data(6)[256..<512])
        #expect(Stamp.value(torn) == Stamp.torn)
        #expect(Stamp.text(Stamp.number(77, of: 3)) == "3:77")
    }
}

/// Counters that were counted up by COMPARE AND WRITE.
@Suite struct CounterHistoryTests {
    private typealias Operation = CounterHistory.Operation

    private static func operation(
        _ kind: CounterHistory.Kind, _ value: UInt64, _ sent: Int, _ answered: Int
    ) -> CounterHistory.Operation {
        Operation(kind, value, sent: .milliseconds(sent), answered: .milliseconds(answered))
    }

    @Test func oneAfterTheOther() {
        let history = CounterHistory([
            Self.operation(.read, 0, 0, 1), Self.operation(.counted, 0, 2, 3), Self.operation(.read, 1, 4, 5),
            Self.operation(.counted, 1, 4, 9), Self.operation(.read, 2, 5, 6),
        ])
        #expect(history.problems(from: 0, to: 2).isEmpty)
    }

    @Test func aLostCount() {
        let twice = CounterHistory([Self.operation(.counted, 0, 0, 1), Self.operation(.counted, 0, 2, 3)])
        #expect(!twice.problems(from: 0, to: 1).isEmpty)
        let undone = CounterHistory([Self.operation(.counted, 0, 0, 1), Self.operation(.counted, 1, 2, 3)])
        #expect(!undone.problems(from: 0, to: 1).isEmpty)
    }

    @Test func aCountThatNobodyMade() {
        let history = CounterHistory([Self.operation(.counted, 0, 0, 1)])
        #expect(!history.problems(from: 0, to: 2).isEmpty)
        let doubtful = CounterHistory([Self.operation(.counted, 0, 0, 1), Self.operation(.doubtful, 1, 2, 3)])
        #expect(doubtful.problems(from: 0, to: 2).isEmpty)
        #expect(doubtful.problems(from: 0, to: 1).isEmpty)
    }

    @Test func aReadOfThePast() {
        let history = CounterHistory([
            Self.operation(.counted, 0, 0, 1), Self.operation(.read, 1, 2, 3), Self.operation(.read, 0, 2, 3),
        ])
        #expect(!history.problems(from: 0, to: 1).isEmpty)
        let future = CounterHistory([Self.operation(.read, 1, 0, 1), Self.operation(.counted, 0, 2, 3)])
        #expect(!future.problems(from: 0, to: 1).isEmpty)
    }
}
