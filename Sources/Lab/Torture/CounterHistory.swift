// SPDX-License-Identifier: Apache-2.0

/// What hosts were told that counted one block up by COMPARE AND WRITE and read it; whether that can be.
///
/// A counter's history is simple: each success leads from one value to the next, so its place in the only possible order is
/// known, and so is that of a read.
public struct CounterHistory: Sendable {
    public enum Kind: Sendable, Hashable {
        case read
        /// GOOD: the value was the one before, and is now one more.
        case counted
        /// No answer, or aborted: done or not.
        case doubtful
    }
    public struct Operation: Sendable, CustomStringConvertible {
        public var kind: Kind
        /// The value that was read, or that was compared with.
        public var value: UInt64
        /// By one clock; an operation without an answer needs no time of it.
        public var sent: Duration
        public var answered: Duration
        public var who: String

        public init(_ kind: Kind, _ value: UInt64, sent: Duration, answered: Duration, who: String = "") {
            (self.kind, self.value, self.sent, self.answered, self.who) = (kind, value, sent, answered, who)
        }

        /// Where it stands in the order: reads of a value between the step that led to it and the step away from it.
        fileprivate var place: UInt64 { kind == .read ? 2 * value : 2 * value + 1 }

        public var description: String { "\(who) \(kind) \(value) from \(sent) to \(answered)" }
    }

    public private(set) var operations: [Operation] = []

    public init(_ operations: [Operation] = []) { self.operations = operations }

    public mutating func append(_ operation: Operation) { operations.append(operation) }

    /// What cannot be, given the values at the beginning and at the end.
    public func problems(from first: UInt64, to last: UInt64) -> [String] {
        var found: [String] = []
        let counted = operations.filter { $0.kind == .counted }
        for (value, same) in Dictionary(grouping: counted, by: \.value).sorted(by: { $0.key < $1.key })
        where same.count > 1 {
            found.append("counted from \(value) \(same.count) times: \(same)")
        }
        if let lost = counted.first(where: { $0.value < first || $0.value >= last }) {
            found.append("from \(first) to \(last), and yet \(lost)")
        }
        let steps = Set(operations.filter { $0.kind != .read }.map(\.value))
        if last < first {
            found.append("it fell from \(first) to \(last)")
        } else if let step = (first..<last).first(where: { !steps.contains($0) }) {
            found.append("nobody counted from \(step), and it went from \(first) to \(last)")
        }
        // None may come after one that was answered before it was sent.
        let places = Dictionary(grouping: operations.filter { $0.kind != .doubtful }, by: \.place)
        var next: Operation?
        for (_, operations) in places.sorted(by: { $0.key > $1.key }) {
            if let next, let late = operations.first(where: { next.answered < $0.sent }) {
                found.append("\(next), then \(late)")
                break
            }
            next = (operations + [next].compactMap(\.self)).min { $0.answered < $1.answered }
        }
        return found
    }
}
