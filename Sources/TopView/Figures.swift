// SPDX-License-Identifier: Apache-2.0
import Exposition

/// What one node says of itself at a moment.
public struct NodeFigures: Sendable, Equatable {
    /// A LUN's counters: sums since its node maps it.
    public struct LUN: Sendable, Equatable {
        public var reads = 0.0
        public var writes = 0.0
        public var bytesRead = 0.0
        public var bytesWritten = 0.0
        /// Seconds that all requests together took.
        public var seconds = 0.0
        public var compared = 0.0
        public var miscompared = 0.0
        /// Commands that were refused without a lease, or answered BUSY.
        public var turnedAway = 0.0

        public init() {}

        /// Each counter's growth; all of it where the counter began anew.
        func since(_ earlier: LUN) -> LUN {
            var out = LUN()
            for path in Self.counters {
                let (now, then) = (self[keyPath: path], earlier[keyPath: path])
                out[keyPath: path] = now >= then ? now - then : now
            }
            return out
        }

        static func + (left: LUN, right: LUN) -> LUN {
            var out = left
            for path in counters { out[keyPath: path] += right[keyPath: path] }
            return out
        }

        private static var counters: [WritableKeyPath<LUN, Double>] {
            [
                \.reads, \.writes, \.bytesRead, \.bytesWritten, \.seconds, \.compared, \.miscompared, \.turnedAway,
            ]
        }
    }

    /// Names a LUN in all nodes alike.
    public struct Unit: Sendable, Hashable {
        public let lun: Int
        public let image: String
    }

    public var group: String
    public var node: String
    public var isServing: Bool
    public var phase: String
    public var leaseAge: Double?
    public var leaseLeft: Double?
    public var version: Int?
    public var wantedVersion: Int?
    public var sessions: Int?
    public var inFlight: Int?
    public var problems: Int?
    public var luns: [Unit: LUN] = [:]

    /// - Returns: `nil` if these are not a cliod's samples.
    public init?(_ samples: Samples) {
        guard let serving = samples["clio_serving"].first, let node = serving.labels["node"],
            let group = serving.labels["group"]
        else { return nil }
        func whole(_ name: String) -> Int? { samples.value(name).flatMap { Int(exactly: $0.rounded()) } }
        self.node = node
        self.group = group
        isServing = serving.value == 1
        let idle = samples.value("clio_drained") == 1 ? "drained" : "not attached"
        phase = samples["clio_phase"].first { $0.value == 1 }?.labels["phase"] ?? idle
        leaseAge = samples.value("clio_lease_age_seconds")
        leaseLeft = samples.value("clio_lease_left_seconds")
        version = whole("clio_config_version")
        wantedVersion = whole("clio_config_wanted_version")
        sessions = whole("clio_sessions")
        inFlight = whole("clio_commands_in_flight")
        problems = whole("clio_problems")

        func count(_ name: String, _ operation: String?, _ path: WritableKeyPath<LUN, Double>) {
            for sample in samples[name] where operation == nil || sample.labels["operation"] == operation {
                guard let lun = sample.labels["lun"].flatMap({ Int($0) }), let image = sample.labels["image"],
                    sample.value.isFinite
                else { continue }
                luns[Unit(lun: lun, image: image), default: LUN()][keyPath: path] += sample.value
            }
        }
        count("clio_lun_operations_total", "read", \.reads)
        count("clio_lun_operations_total", "write", \.writes)
        count("clio_lun_bytes_total", "read", \.bytesRead)
        count("clio_lun_bytes_total", "write", \.bytesWritten)
        count("clio_lun_operation_seconds_total", nil, \.seconds)
        count("clio_lun_compare_and_write_total", nil, \.compared)
        count("clio_lun_miscompares_total", nil, \.miscompared)
        count("clio_lun_refused_total", nil, \.turnedAway)
        count("clio_lun_held_total", nil, \.turnedAway)
    }
}

/// What was heard from a place where a cliod should serve its measurements.
public enum Answer: Sendable, Equatable {
    case figures(NodeFigures)
    /// Where, and why there was none.
    case none(place: String, why: String)

    var figures: NodeFigures? { if case .figures(let figures) = self { figures } else { nil } }
}

/// A LUN's traffic through all nodes that were heard, a second.
public struct LUNRates: Sendable, Equatable, Encodable {
    public let lun: Int
    public let image: String
    public let readsPerSecond: Double
    public let writesPerSecond: Double
    public let bytesReadPerSecond: Double
    public let bytesWrittenPerSecond: Double
    /// Mean of the requests' times in the interval; `nil` if there were none.
    public let meanLatencySeconds: Double?
    public let comparedPerSecond: Double
    public let miscomparedPerSecond: Double
    public let turnedAwayPerSecond: Double

    public var operationsPerSecond: Double { readsPerSecond + writesPerSecond + comparedPerSecond }

    /// In the order of their numbers. A node that was not heard before counts from the next time on.
    ///
    /// - Parameter seconds: between the two, above 0.
    public static func between(_ earlier: [Answer], _ later: [Answer], seconds: Double) -> [LUNRates] {
        var before: [String: NodeFigures] = [:]
        for figures in earlier.compactMap(\.figures) { before[figures.node] = figures }
        var growth: [NodeFigures.Unit: NodeFigures.LUN] = [:]
        for figures in later.compactMap(\.figures) {
            for (unit, now) in figures.luns {
                let node = before[figures.node]
                let change = node.map { now.since($0.luns[unit] ?? NodeFigures.LUN()) } ?? NodeFigures.LUN()
                growth[unit] = (growth[unit] ?? NodeFigures.LUN()) + change
            }
        }
        return growth.sorted { ($0.key.lun, $0.key.image) < ($1.key.lun, $1.key.image) }.map { unit, sum in
            let requests = sum.reads + sum.writes
            return LUNRates(
                lun: unit.lun, image: unit.image, readsPerSecond: sum.reads / seconds,
                writesPerSecond: sum.writes / seconds, bytesReadPerSecond: sum.bytesRead / seconds,
                bytesWrittenPerSecond: sum.bytesWritten / seconds,
                meanLatencySeconds: requests > 0 ? sum.seconds / requests : nil,
                comparedPerSecond: sum.compared / seconds, miscomparedPerSecond: sum.miscompared / seconds,
                turnedAwayPerSecond: sum.turnedAway / seconds)
        }
    }
}
