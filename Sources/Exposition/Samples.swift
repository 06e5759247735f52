// SPDX-License-Identifier: Apache-2.0

/// Samples read from Prometheus' text format. Lines that are none are passed over: the text comes from elsewhere.
public struct Samples: Sendable, Equatable {
    public struct Sample: Sendable, Equatable {
        public let name: String
        public let labels: [String: String]
        public let value: Double

        public init(name: String, labels: [String: String], value: Double) {
            self.name = name
            self.labels = labels
            self.value = value
        }
    }

    public let all: [Sample]
    private let byName: [String: [Int]]

    public init(_ text: String) {
        var all: [Sample] = []
        for line in text.utf8.split(separator: UInt8(ascii: "\n")) {
            var reader = Reader(rest: line)
            if let sample = reader.sample() { all.append(sample) }
        }
        self.all = all
        byName = Dictionary(grouping: all.indices) { all[$0].name }
    }

    /// The samples of a name, in the text's order.
    public subscript(name: String) -> [Sample] { (byName[name] ?? []).map { all[$0] } }

    /// The value of the first sample of a name that has these labels, be there others or not.
    public func value(_ name: String, _ labels: [String: String] = [:]) -> Double? {
        self[name].first { sample in labels.allSatisfy { sample.labels[$0] == $1 } }?.value
    }

    /// What is left of a line.
    private struct Reader {
        var rest: Substring.UTF8View.SubSequence

        mutating func sample() -> Sample? {
            guard let name = name() else { return nil }
            var labels: [String: String] = [:]
            if take("{") {
                while !take("}") {
                    guard let label = self.name(), take("="), let value = quoted() else { return nil }
                    labels[label] = value
                    guard take(",") || rest.first == UInt8(ascii: "}") else { return nil }
                }
            }
            // A timestamp may follow the value.
            guard rest.first == UInt8(ascii: " "), let word = rest.split(separator: UInt8(ascii: " ")).first,
                let value = Double(String(Substring(word)))
            else { return nil }
            return Sample(name: name, labels: labels, value: value)
        }

        private mutating func take(_ character: Unicode.Scalar) -> Bool {
            guard rest.first == UInt8(ascii: character) else { return false }
            rest = rest.dropFirst()
            return true
        }

        private mutating func name() -> String? {
            let end = rest.firstIndex { byte in
                !(UInt8(ascii: "a")...UInt8(ascii: "z") ~= byte || UInt8(ascii: "A")...UInt8(ascii: "Z") ~= byte
                    || UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte || byte == UInt8(ascii: "_")
                    || byte == UInt8(ascii: ":"))
            }
            guard let end, end != rest.startIndex else { return nil }
            defer { rest = rest[end...] }
            return String(Substring(rest[..<end]))
        }

        private mutating func quoted() -> String? {
            guard take("\"") else { return nil }
            var bytes: [UInt8] = []
            while let byte = rest.popFirst() {
                switch byte {
                case UInt8(ascii: "\""): return String(validating: bytes, as: UTF8.self)
                case UInt8(ascii: "\\"):
                    guard let next = rest.popFirst() else { return nil }
                    bytes.append(next == UInt8(ascii: "n") ? UInt8(ascii: "\n") : next)
                default: bytes.append(byte)
                }
            }
            return nil
        }
    }
}
