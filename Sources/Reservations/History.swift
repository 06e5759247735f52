// SPDX-License-Identifier: Apache-2.0

/// What hosts asked of one logical unit, and what they were told; whether that can be.
///
/// It can be if the commands fit into one order in which each takes effect at one moment between being sent and being
/// answered, and gets the answer that the rules give: the history is linearizable. Whose commands overlap is then free,
/// whatever gateway they went through.
public struct ReservationHistory: Sendable {
    /// A command and its answer.
    public struct Operation: Sendable {
        public enum Kind: Sendable {
            /// One that may change something.
            case change(ReservationCommand, CommandStatus)
            /// One that was aborted: either it took effect or it did not.
            case aborted(ReservationCommand)
            /// PERSISTENT RESERVE IN that was answered with GOOD and this data.
            case read(cdb: [UInt8], data: [UInt8])
        }

        /// Who sent it. One host's operations do not overlap.
        public var host: Int
        /// When it was sent and when its answer came, by one clock.
        public var sent: UInt64
        public var answered: UInt64
        public var kind: Kind

        public init(host: Int, sent: UInt64, answered: UInt64, kind: Kind) {
            self.host = host
            self.sent = sent
            self.answered = answered
            self.kind = kind
        }
    }

    /// The unit's state before the first of the operations.
    public var initial: ReservationState
    public var operations: [Operation]

    public init(initial: ReservationState = ReservationState(), operations: [Operation] = []) {
        self.initial = initial
        self.operations = operations
    }

    /// Why there is no order.
    public struct Violation: Error, CustomStringConvertible {
        /// How many operations fit into one order, at most.
        public let fitting: Int
        public let total: Int
        /// The operations that were next then, none of which fits.
        public let next: [Operation]

        public var description: String {
            "\(fitting) of \(total) operations fit into an order, then none of these: "
                + next.map { "\($0)" }.joined(separator: "; ")
        }
    }

    /// A point of the search: what has been put in order of each host, and the state then.
    private struct Point {
        var done: [Int]
        var state: ReservationState

        /// Points that later answers can't tell apart are one. A state also has who has still to be told what, which
        /// differs with the order.
        var identity: Identity {
            Identity(
                done: done, generation: state.generation, type: state.type, registrations: state.registrations,
                reserver: state.reserver, persists: state.persistsThroughPowerLoss)
        }
    }

    private struct Identity: Hashable {
        let done: [Int]
        let generation: UInt32
        let type: ReservationType?
        let registrations: [Registration]
        let reserver: Nexus?
        let persists: Bool
    }

    /// What PERSISTENT RESERVE IN was answered, anywhere in the history, says of every point: PRGENERATION never falls, and
    /// registrations don't change without it.
    private struct Landmarks {
        /// READ FULL STATUS without who holds what, by generation.
        private var registrations: [UInt32: [UInt8]] = [:]
        /// The lowest generation that is still to be read, by host and how many of its operations are done.
        private var lowest: [[UInt32]] = []

        init(_ queues: [[Operation]]) {
            for queue in queues {
                var lowest = [UInt32.max]
                for operation in queue.reversed() {
                    var generation = UInt32.max
                    if case .read(let cdb, let data) = operation.kind, cdb[1] & 0x1F != 2, data.count >= 8 {
                        generation = Self.number(data, 0)
                        if cdb[1] & 0x1F == 3, data.count == 8 + Int(Self.number(data, 4)) {
                            registrations[generation] = Self.withoutHolders(data)
                        }
                    }
                    lowest.append(min(generation, lowest.last ?? .max))
                }
                self.lowest.append(lowest.reversed())
            }
        }

        /// Whether an order can go on from there.
        func allow(_ point: Point) -> Bool {
            let generation = point.state.generation
            guard zip(lowest, point.done).allSatisfy({ $0[$1] >= generation }) else { return false }
            guard let known = registrations[generation] else { return true }
            return Self.withoutHolders(point.state.read([0x5E, 3, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0]).data) == known
        }

        /// READ FULL STATUS with R_HOLDER, SCOPE and TYPE zeroed (SPC-4 6.15.5).
        private static func withoutHolders(_ status: [UInt8]) -> [UInt8] {
            var out = status
            var start = 8
            while start + 24 <= out.count {
                out[start + 12] &= ~1
                out[start + 13] = 0
                start += 24 + Int(number(out, start + 20))
            }
            return out
        }

        private static func number(_ bytes: [UInt8], _ at: Int) -> UInt32 {
            bytes[at..<at + 4].reduce(0) { $0 << 8 | UInt32($1) }
        }
    }

    /// Looks for an order.
    ///
    /// - Returns: the state at its end.
    public func check() throws(Violation) -> ReservationState {
        let hosts = Set(operations.map(\.host)).sorted()
        let queues = hosts.map { host in
            operations.filter { $0.host == host }.sorted { $0.sent < $1.sent }
        }
        let landmarks = Landmarks(queues)
        var stack = [Point(done: hosts.map { _ in 0 }, state: initial)]
        var seen: Set<Identity> = []
        var best: (count: Int, next: [Operation]) = (-1, [])
        while var point = stack.popLast() {
            var branches: [Point] = []
            var settled = true
            repeat {
                settled = true
                branches = []
                let candidates = Self.candidates(queues, point.done)
                let count = point.done.reduce(0, +)
                if count > best.count { best = (count, candidates.map { queues[$0][point.done[$0]] }) }
                if candidates.isEmpty { return point.state }
                for host in candidates {
                    let operation = queues[host][point.done[host]]
                    let next = Self.apply(operation, to: point.state).map { after in
                        var next = point
                        next.done[host] += 1
                        next.state = after
                        return next
                    }
                    if let only = next.first, Self.changesNothing(operation) {
                        // What fits and changes nothing, now or later, may as well come now.
                        point = only
                        settled = false
                        break
                    }
                    branches += next
                }
            } while !settled
            for branch in branches where landmarks.allow(branch) && seen.insert(branch.identity).inserted {
                stack.append(branch)
            }
        }
        throw Violation(fitting: best.count, total: operations.count, next: best.next)
    }

    /// The hosts whose next operation may come next: it was sent before any other of those left was answered. The one to try
    /// first, which was answered first, comes last.
    private static func candidates(_ queues: [[Operation]], _ done: [Int]) -> [Int] {
        let left = queues.indices.filter { done[$0] < queues[$0].count }
        guard let first = left.map({ queues[$0][done[$0]].answered }).min() else { return [] }
        return left.filter { queues[$0][done[$0]].sent <= first }
            .sorted { queues[$0][done[$0]].answered > queues[$1][done[$1]].answered }
    }

    /// Whether it is one of those that never change anything, by its answer.
    private static func changesNothing(_ operation: Operation) -> Bool {
        switch operation.kind {
        case .change(_, .good), .aborted: false
        default: true
        }
    }

    /// The states that there may be after an operation; none if its answer is not the one that the rules give.
    private static func apply(_ operation: Operation, to state: ReservationState) -> [ReservationState] {
        var after = state
        switch operation.kind {
        case .change(let command, let status): return after.apply(command) == status ? [after] : []
        case .aborted(let command): return after.apply(command) == .good ? [state, after] : [state]
        case .read(let cdb, let data): return state.read(cdb) == (.good, data) ? [state] : []
        }
    }
}

extension ReservationHistory.Operation: CustomStringConvertible {
    /// Host, time, operation code, service action and nexus, and the answer or the first bytes of data.
    public var description: String {
        let what =
            switch kind {
            case .change(let command, let status):
                "\(hex(command.cdb.prefix(3))) keys \(hex(command.parameters.prefix(16))) of \(command.nexus): \(status)"
            case .aborted(let command): "\(hex(command.cdb.prefix(3))) of \(command.nexus): aborted"
            case .read(let cdb, let data): "\(hex(cdb.prefix(3))): \(hex(data.prefix(64)))"
            }
        return "host \(host), \(sent) to \(answered), \(what)"
    }
}
