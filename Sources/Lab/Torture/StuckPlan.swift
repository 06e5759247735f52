// SPDX-License-Identifier: Apache-2.0
import Initiator

/// Commands of one host that are stuck at an OSD, how they come to be over while they still are, and which gateways have a part in
/// it, as a seed decides.
///
/// Most rules only matter in such a moment, which chance alone seldom makes. So these are the cards of a deck: the seed shuffles
/// it, and each has its turn within ``deck`` rounds.
public struct StuckPlan: Sendable, Equatable {
    /// What is stuck.
    public enum Command: Sendable {
        case write
        /// ORDERED writes, behind another host's write that is stuck.
        case queued
        /// PERSISTENT RESERVE OUT, at the OSD of the unit's reservations.
        case reservation
        /// Nothing of the host's; but its gateway cannot read what is reserved, either.
        case nothing
    }

    /// Why it is over for all that its host and others know.
    public enum End: Sendable, Hashable {
        /// The host gives the path up, and F passes.
        case givenUp
        /// Another host's task management function is answered.
        case manage(TaskManagement)
        case preemptAndAbort
        /// The gateway leaves in good order, the host logs out once it is told, and another host's LOGICAL UNIT RESET is answered.
        case leave
    }

    public var command: Command
    public var end: End
    /// The gateways where it is stuck, which the other host uses to end it, and by which newer data is written. The last is never
    /// the first.
    public var here: Int
    public var manager: Int
    public var writer: Int
    /// Whether a host that gives up sends an ABORT TASK before, and whether it falls silent rather than drops the connection.
    public var aborts: Bool
    public var silent: Bool
    /// How long it is stuck.
    public var hold: Duration
    /// From when it is sent to the beginning of its end.
    public var delay: Duration
    /// From when the host is told that the gateway leaves to when it goes. The gateway leaves hosts 2 s.
    public var notice: Duration

    private static let cards: [(command: Command, end: End)] = [
        (.write, .givenUp), (.nothing, .preemptAndAbort), (.write, .manage(.logicalUnitReset)),
        (.write, .manage(.clearTaskSet)), (.write, .preemptAndAbort), (.write, .leave),
        (.queued, .givenUp),
        (.reservation, .givenUp), (.reservation, .manage(.logicalUnitReset)), (.reservation, .leave),
    ]

    /// In so many rounds, counted from the first, each has its turn. The other half of them has other faults.
    public static var deck: Int { 2 * cards.count }

    /// - Parameter daemons: whether gateways have cliod, without which none leaves.
    /// - Returns: nil if nothing is made to be stuck in this round.
    init?(seed: UInt64, round: Int, gateways: Int, daemons: Bool) {
        let (deck, turn) = (round - 1).quotientAndRemainder(dividingBy: Self.deck)
        var random = SeededGenerator(seed: seed &* 0xD6E8_FEB8_6659_FD93 &+ UInt64(deck))
        for _ in 0..<8 { _ = random.next() }
        let order = (0..<Self.deck).shuffled(using: &random)
        guard gateways > 1, order[turn] < Self.cards.count else { return nil }
        let card = Self.cards[order[turn]]
        guard daemons || card.end != .leave else { return nil }
        // Each turn has draws of its own.
        for _ in 0..<16 * turn { _ = random.next() }
        (command, end) = card
        here = Int.random(in: 0..<gateways, using: &random)
        writer = (here + Int.random(in: 1..<gateways, using: &random)) % gateways
        let any = Int.random(in: 0..<gateways, using: &random)
        // A reset through the same gateway waits for a change of reservations there anyway.
        manager = end == .leave || command == .reservation || command == .nothing ? writer : any
        aborts = Int.random(in: 0..<3, using: &random) == 0
        silent = Int.random(in: 0..<3, using: &random) == 0
        hold = .milliseconds(Int.random(in: end.hold, using: &random))
        delay = .milliseconds(Int.random(in: 150...400, using: &random))
        notice = .milliseconds(Int.random(in: 1000...2000, using: &random))
    }

    /// Whether no other hosts are there: if they gave up what the same fault makes stuck, the gateway would end before.
    public var isAlone: Bool { end == .givenUp || end == .leave }
}

extension StuckPlan.End {
    /// In milliseconds.
    fileprivate var hold: ClosedRange<Int> {
        switch self {
        case .givenUp: 20_000...24_000
        case .leave: 8000...12_000
        default: 1500...4000
        }
    }
}

extension StuckPlan.End: CustomStringConvertible {
    public var description: String {
        switch self {
        case .givenUp: "its host gives up"
        case .manage(let function): "\(function)"
        case .preemptAndAbort: "preemptAndAbort"
        case .leave: "its gateway leaves"
        }
    }
}

extension StuckPlan: CustomStringConvertible {
    public var description: String { "\(command) stuck for \(hold), \(end)" }
}
