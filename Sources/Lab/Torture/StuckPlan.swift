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
    }

    /// Why it is over for all that its host and others know.
    public enum End: Sendable, Hashable {
        /// The host gives the path up, and F passes.
        case givenUp
        /// The host's ABORT TASK is answered.
        case abortTask
        /// Another host's is.
        case manage(TaskManagement)
        case preemptAndAbort
        /// The gateway leaves in good order, and meanwhile another host's LOGICAL UNIT RESET is answered.
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

    private static let cards: [(command: Command, end: End)?] = [
        (.write, .givenUp), (.write, .abortTask), (.write, .manage(.logicalUnitReset)),
        (.write, .manage(.clearTaskSet)), (.write, .preemptAndAbort), (.write, .leave),
        (.queued, .givenUp), (.queued, .manage(.logicalUnitReset)), (.queued, .preemptAndAbort),
        (.reservation, .givenUp), (.reservation, .manage(.logicalUnitReset)),
        (.reservation, .manage(.clearTaskSet)), (.reservation, .leave),
        nil, nil, nil,
    ]

    /// In so many rounds, counted from the first, each has its turn.
    public static var deck: Int { cards.count }

    /// - Parameter daemons: whether gateways have cliod, without which none leaves.
    /// - Returns: nil if nothing is made to be stuck in this round.
    init?(seed: UInt64, round: Int, gateways: Int, daemons: Bool) {
        let (deck, turn) = (round - 1).quotientAndRemainder(dividingBy: Self.deck)
        var random = SeededGenerator(seed: seed &* 0xD6E8_FEB8_6659_FD93 &+ UInt64(deck))
        for _ in 0..<8 { _ = random.next() }
        let shuffled = Self.cards.shuffled(using: &random)
        guard gateways > 1, let card = shuffled[turn], daemons || card.end != .leave else { return nil }
        // Each turn has draws of its own.
        for _ in 0..<16 * turn { _ = random.next() }
        (command, end) = card
        here = Int.random(in: 0..<gateways, using: &random)
        writer = (here + Int.random(in: 1..<gateways, using: &random)) % gateways
        let any = Int.random(in: 0..<gateways, using: &random)
        manager = end == .leave ? writer : any
        aborts = Int.random(in: 0..<3, using: &random) == 0
        silent = Int.random(in: 0..<3, using: &random) == 0
        hold = .milliseconds(Int.random(in: end.hold, using: &random))
        delay = .milliseconds(Int.random(in: 150...400, using: &random))
    }

    /// Whether it outlasts F. Whoever else had something stuck by the same fault would have given up long before.
    public var outlasts: Bool { end == .givenUp }
}

extension StuckPlan.End {
    /// In milliseconds.
    fileprivate var hold: ClosedRange<Int> {
        switch self {
        case .givenUp: 20_000...24_000
        case .leave: 4000...7000
        default: 1500...4000
        }
    }
}

extension StuckPlan: CustomStringConvertible {
    public var description: String { "\(command) stuck for \(hold), \(end)" }
}
