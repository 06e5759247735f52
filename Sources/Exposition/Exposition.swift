// SPDX-License-Identifier: Apache-2.0

/// Measurements in Prometheus' text format, version 0.0.4.
///
/// https://prometheus.io/docs/instrumenting/exposition_formats/
public struct Exposition: Sendable {
    public enum Kind: String, Sendable {
        /// Only grows, until it begins again at 0.
        case counter
        case gauge
        /// What ``add(_:_:counts:bounds:sum:_:)`` adds.
        case histogram
    }

    /// What the text is served as.
    public static let contentType = "text/plain; version=0.0.4; charset=utf-8"

    private struct Family {
        let kind: Kind
        let help: String
        var samples: [String] = []
    }

    private let common: [(String, String)]
    private var families: [String: Family] = [:]
    private var order: [String] = []

    /// - Parameter labels: what every sample bears.
    public init(labels: KeyValuePairs<String, String> = [:]) { common = labels.map { ($0.key, $0.value) } }

    /// Names of the metrics, in order.
    public var names: [String] { order }

    /// Adds a sample. All samples of a name form one family, of the first one's kind and help.
    ///
    /// - Parameters:
    ///   - name: `[a-zA-Z_:][a-zA-Z0-9_:]*`; a counter's ends in `_total`.
    ///   - labels: beside the common ones; no two samples of a name have the same.
    public mutating func add(
        _ name: String, _ kind: Kind, _ help: String, _ value: Double, _ labels: KeyValuePairs<String, String> = [:]
    ) {
        append(name, to: name, kind, help, value, labels.map { ($0.key, $0.value) })
    }

    /// Adds a histogram.
    ///
    /// - Parameters:
    ///   - name: as of a gauge; the samples have `_bucket`, `_sum` and `_count` behind it.
    ///   - counts: of each class, smallest first; one more than `bounds`, the last one without an end.
    ///   - bounds: the classes' ends, ascending.
    ///   - sum: of all that was counted.
    public mutating func add(
        _ name: String, _ help: String, counts: [UInt64], bounds: [Double], sum: Double,
        _ labels: KeyValuePairs<String, String> = [:]
    ) {
        precondition(counts.count == bounds.count + 1, "\(name): \(counts.count) counts, \(bounds.count) bounds")
        let labels = labels.map { ($0.key, $0.value) }
        var total: UInt64 = 0
        for (count, bound) in zip(counts, bounds + [.infinity]) {
            total += count
            let end = bound.isInfinite ? "+Inf" : String(bound)
            append(name + "_bucket", to: name, .histogram, help, Double(total), labels + [("le", end)])
        }
        append(name + "_sum", to: name, .histogram, help, sum, labels)
        append(name + "_count", to: name, .histogram, help, Double(total), labels)
    }

    private mutating func append(
        _ sample: String, to name: String, _ kind: Kind, _ help: String, _ value: Double, _ labels: [(String, String)]
    ) {
        let pairs = (common + labels).map { "\($0)=\"\(Self.escaped($1, quotes: true))\"" }
        let set = pairs.isEmpty ? "" : "{\(pairs.joined(separator: ","))}"
        if families[name] == nil {
            families[name] = Family(kind: kind, help: help)
            order.append(name)
        }
        families[name]?.samples.append("\(sample)\(set) \(Self.number(value))")
    }

    public mutating func add(
        _ name: String, _ kind: Kind, _ help: String, _ value: some BinaryInteger,
        _ labels: KeyValuePairs<String, String> = [:]
    ) {
        add(name, kind, help, Double(value), labels)
    }

    public var text: String {
        var out = ""
        for name in order {
            guard let family = families[name] else { continue }
            out += "# HELP \(name) \(Self.escaped(family.help, quotes: false))\n"
            out += "# TYPE \(name) \(family.kind.rawValue)\n"
            for sample in family.samples { out += sample + "\n" }
        }
        return out
    }

    private static func escaped(_ text: String, quotes: Bool) -> String {
        var out = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\\": out += "\\\\"
            case "\n": out += "\\n"
            case "\"" where quotes: out += "\\\""
            default: out.unicodeScalars.append(scalar)
            }
        }
        return out
    }

    private static func number(_ value: Double) -> String {
        if value.isNaN { return "NaN" }
        if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
        if value == value.rounded(), abs(value) < 9e15 { return String(Int64(value)) }
        return String(value)
    }
}
