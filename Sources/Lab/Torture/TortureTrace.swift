// SPDX-License-Identifier: Apache-2.0
import Foundation
import Synchronization

/// What happened in a round, with times.
public struct TortureEvent: Sendable, CustomStringConvertible {
    /// Since the round's begin.
    public var time: Duration
    public var who: String
    public var what: String

    public var description: String {
        let milliseconds = Int(time / .milliseconds(1))
        let digits = "\(milliseconds % 1000)"
        let seconds = "\(milliseconds / 1000).\(String(repeating: "0", count: 3 - digits.count))\(digits)"
        return "\(String(repeating: " ", count: max(0, 8 - seconds.count)))\(seconds) s  \(who)  \(what)"
    }
}

/// What hosts and faults of a round have in common: its clock, its phase, its trace.
final class TortureScene: Sendable {
    enum Phase: Int, Comparable {
        case working
        /// Each host brings its last write to an end.
        case settling
        /// All look at what stands, and leave.
        case done

        static func < (one: Self, other: Self) -> Bool { one.rawValue < other.rawValue }
    }
    private struct State {
        var phase = Phase.working
        var events: [TortureEvent] = []
        var findings: [TortureEvent] = []
        var unsettled: Set<String> = []
        /// When each LOGICAL UNIT RESET of the unit with stamps ended; nil if nobody knows.
        var resets: [Duration?] = []
    }
    private let state = Mutex(State())
    /// Where events go as they happen: a round that hangs has a story, too.
    private let story: FileHandle?
    let begin = ContinuousClock.now

    init(story: FileHandle? = nil) { self.story = story }

    var now: Duration { ContinuousClock.now - begin }

    var phase: Phase { state.withLock { $0.phase } }
    func enter(_ phase: Phase) { state.withLock { $0.phase = phase } }

    func note(_ who: String, _ what: String) {
        add(TortureEvent(time: now, who: who, what: what), isFinding: false)
    }

    /// Something that must not be.
    func find(_ who: String, _ what: String) {
        add(TortureEvent(time: now, who: who, what: "FOUND: \(what)"), isFinding: true)
    }

    private func add(_ event: TortureEvent, isFinding: Bool) {
        state.withLock { state in
            state.events.append(event)
            if isFinding { state.findings.append(event) }
            try? story?.write(contentsOf: Data("\(event)\n".utf8))
        }
    }

    /// A host sends a LOGICAL UNIT RESET.
    ///
    /// - Returns: its number, for ``resetEnds(_:)``.
    func resetBegins() -> Int {
        state.withLock {
            $0.resets.append(nil)
            return $0.resets.count - 1
        }
    }
    func resetEnds(_ number: Int) { state.withLock { $0.resets[number] = now } }
    /// Whether a LOGICAL UNIT RESET may have been carried out after a moment.
    func isReset(since moment: Duration) -> Bool {
        state.withLock { $0.resets.contains { end in end.map { $0 >= moment } ?? true } }
    }

    func expectSettling(_ who: String) { state.withLock { _ = $0.unsettled.insert(who) } }
    func settled(_ who: String) { state.withLock { _ = $0.unsettled.remove(who) } }
    var unsettled: [String] { state.withLock { $0.unsettled.sorted() } }

    var events: [TortureEvent] { state.withLock { $0.events } }
    var findings: [TortureEvent] { state.withLock { $0.findings } }
}
