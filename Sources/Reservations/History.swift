// SPDX-License-Identifier: Apache-2.0

/// What hosts asked of one logical unit, and what they were told; whether that can be.
///
/// It can be if the commands fit into one order in which each takes effect at one moment between being sent and being
/// answered, and gets the answer that the rules give: the history is linearizable. Whose commands overlap is then free,
/// whatever gateway they went through.
///
/// Reads and writes have no place in that order, as each node checks them by its own copy of the state, which may be ahead of
/// another's while a change has no answer yet: theirs is an answer that the rules give at some moment in between.
public struct ReservationHistory: Sendable {
    /// A command and its answer.
    public struct Operation: Sendable {
        public enum Kind: Sendable {
            /// One that may change something.
            case change(ReservationCommand, CommandStatus)
            /// One that was aborted, or whose session was lost: it took effect, until it was over at the latest, or it did not.
            case aborted(ReservationCommand)
            /// PERSISTENT RESERVE IN that was answered with GOOD and this data.
            case read(cdb: [UInt8], data: [UInt8])
            /// PERSISTENT RESERVE IN that was answered otherwise.
            case refusedRead(cdb: [UInt8], CommandStatus)
            /// A command that reservations only permit or not, and whether it met GOOD or RESERVATION CONFLICT.
            case medium(Nexus, cdb: [UInt8], isGood: Bool)
            /// A session was lost. If the nexus had the SPC-2 reservation, that ends, or it does not: its node may be dead.
            case nexusLoss(Nexus)
            /// LOGICAL UNIT RESET; without its response it took effect or it did not.
            case reset(isComplete: Bool)
        }

        /// Who sent it. One host's operations do not overlap; one without an answer is therefore of a host of its own.
        public var host: Int
        /// When it was sent and when its answer came, or it was over, by one clock.
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
        /// How many of the commands to the medium may have run by then, and which of them cannot have yet.
        var begun = 0
        var waiting: [Int] = []

        /// Points that later answers can't tell apart are one. A state also has who has still to be told what, which
        /// differs with the order.
        var identity: Identity {
            Identity(
                done: done, generation: state.generation, type: state.type, registrations: state.registrations,
                reserver: state.reserver, persists: state.persistsThroughPowerLoss, waiting: waiting)
        }
    }

    private struct Identity: Hashable {
        let done: [Int]
        let generation: UInt32
        let type: ReservationType?
        let registrations: [Registration]
        let reserver: Nexus?
        let persists: Bool
        let waiting: [Int]
    }

    /// Commands to the medium, each between two places of the order.
    private struct Medium {
        private let all: [(operation: Operation, nexus: Nexus, needed: Rights, isGood: Bool)]
        /// By command and host: how many operations were answered before it was sent, and sent before it was answered.
        private let before: [[Int]]
        private let until: [[Int]]

        init(_ operations: [Operation], _ queues: [[Operation]]) {
            all = operations.compactMap { operation in
                guard case .medium(let nexus, let cdb, let isGood) = operation.kind else { return nil }
                return (operation, nexus, Rights.needed(for: cdb), isGood)
            }.sorted { $0.operation.sent < $1.operation.sent }
            before = all.map { one in queues.map { $0.prefix { $0.answered < one.operation.sent }.count } }
            until = all.map { one in queues.map { $0.prefix { $0.sent <= one.operation.answered }.count } }
        }

        /// Lets all run that may by then, and have the answer that the state gives.
        func run(at point: inout Point) {
            while point.begun < all.count, zip(before[point.begun], point.done).allSatisfy({ $0 <= $1 }) {
                point.waiting.append(point.begun)
                point.begun += 1
            }
            guard !point.waiting.isEmpty else { return }
            let state = point.state
            point.waiting.removeAll { index in
                state.rights(of: all[index].nexus).isSuperset(of: all[index].needed) == all[index].isGood
            }
        }

        /// Whether a host's next operation may come: none that waits was answered before it was sent.
        func allow(_ host: Int, at point: Point) -> Bool {
            point.waiting.allSatisfy { point.done[host] < until[$0][host] }
        }

        func operations(_ waiting: [Int]) -> [Operation] { waiting.map { all[$0].operation } }
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
            // With an SPC-2 reservation, there is nothing to be read, and nothing registered.
            guard point.state.reserver == nil, let known = registrations[generation] else { return true }
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

    /// What a search came to.
    public enum Verdict: Sendable {
        /// There is an order, with this state at its end.
        case order(ReservationState)
        case violation(Violation)
        /// It was given up.
        case undecided
    }

    /// Looks for an order.
    ///
    /// - Returns: the state at its end.
    public func check() throws(Violation) -> ReservationState {
        switch search(limit: .max) {
        case .order(let end): return end
        case .violation(let violation): throw violation
        case .undecided: preconditionFailure("a search without a limit has an end")
        }
    }

    /// Looks for an order.
    ///
    /// - Parameter limit: how many points of the search to look at, at most.
    public func search(limit: Int) -> Verdict {
        let ordered = operations.filter { if case .medium = $0.kind { false } else { true } }
        let hosts = Set(ordered.map(\.host)).sorted()
        let queues = hosts.map { host in
            ordered.filter { $0.host == host }.sorted { $0.sent < $1.sent }
        }
        let landmarks = Landmarks(queues)
        let medium = Medium(operations, queues)
        var stack = [Point(done: hosts.map { _ in 0 }, state: initial)]
        var seen: Set<Identity> = []
        var best: (count: Int, next: [Operation]) = (-1, [])
        while var point = stack.popLast() {
            var branches: [Point] = []
            var settled = true
            repeat {
                settled = true
                branches = []
                medium.run(at: &point)
                let (candidates, first) = Self.candidates(queues, point.done)
                let count = point.done.reduce(0, +)
                if count > best.count {
                    best = (
                        count,
                        candidates.map { queues[$0][point.done[$0]] } + medium.operations(point.waiting)
                    )
                }
                if candidates.isEmpty, point.waiting.isEmpty { return .order(point.state) }
                for host in candidates where medium.allow(host, at: point) {
                    let operation = queues[host][point.done[host]]
                    let next = Self.apply(operation, to: point.state, isDue: operation.answered == first).map { after in
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
                guard seen.count <= limit else { return .undecided }
                stack.append(branch)
            }
        }
        return .violation(Violation(fitting: best.count, total: ordered.count, next: best.next))
    }

    /// The hosts whose next operation may come next: it was sent before any other of those left was answered. The one to try
    /// first, which was answered first, comes last.
    private static func candidates(_ queues: [[Operation]], _ done: [Int]) -> (hosts: [Int], first: UInt64) {
        let left = queues.indices.filter { done[$0] < queues[$0].count }
        guard let first = left.map({ queues[$0][done[$0]].answered }).min() else { return ([], 0) }
        let hosts = left.filter { queues[$0][done[$0]].sent <= first }
            .sorted { queues[$0][done[$0]].answered > queues[$1][done[$1]].answered }
        return (hosts, first)
    }

    /// Whether it is one of those that never change anything, by its answer.
    private static func changesNothing(_ operation: Operation) -> Bool {
        switch operation.kind {
        case .change(_, .good), .aborted, .nexusLoss, .reset: false
        default: true
        }
    }

    /// The states that there may be after an operation; none if its answer is not the one that the rules give.
    ///
    /// - Parameter isDue: whether all others that are left were answered later. One that may as well have done nothing is put
    ///   off until then.
    private static func apply(_ operation: Operation, to state: ReservationState, isDue: Bool) -> [ReservationState] {
        var after = state
        let isCertain: Bool
        switch operation.kind {
        case .change(let command, let status): return after.apply(command) == status ? [after] : []
        case .read(let cdb, let data): return state.read(cdb) == (.good, data) ? [state] : []
        case .refusedRead(let cdb, let status): return state.read(cdb).status == status ? [state] : []
        case .medium: return [state]
        case .aborted(let command):
            isCertain = false
            _ = after.apply(command)
        case .nexusLoss(let nexus):
            isCertain = false
            after.lose(nexus)
        case .reset(let isComplete):
            isCertain = isComplete
            after.reset()
        }
        let did = isCertain || after.version != state.version ? [after] : []
        return isDue && !isCertain ? [state] + did : did
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
            case .refusedRead(let cdb, let status): "\(hex(cdb.prefix(3))): \(status)"
            case .medium(let nexus, let cdb, let isGood):
                "\(hex(cdb.prefix(1))) of \(nexus): \(isGood ? "GOOD" : "RESERVATION CONFLICT")"
            case .nexusLoss(let nexus): "\(nexus) is lost"
            case .reset(let isComplete): "LOGICAL UNIT RESET: \(isComplete ? "complete" : "no response")"
            }
        return "host \(host), \(sent) to \(answered), \(what)"
    }
}
