// SPDX-License-Identifier: Apache-2.0

/// What may stand in a block with one writer, by all that the writer was told. Values are stamps; 0 is zeros.
///
/// A command without an answer may take effect at any time until its host has waited it out; one that is over without having
/// been acknowledged took effect or did not, and never will.
public struct BlockModel: Sendable, Equatable {
    /// One of these stands there, as long as nothing is under way.
    public private(set) var possible: Set<UInt64>
    /// Values of commands that may still take effect.
    public private(set) var underWay: Set<UInt64> = []

    public init(_ value: UInt64 = 0) { possible = [value] }

    /// What stands there, if there is no doubt.
    public var value: UInt64? { underWay.isEmpty && possible.count == 1 ? possible.first : nil }

    /// GOOD. Whatever was sent earlier is over, or the host has no right to send this.
    public mutating func acknowledged(_ value: UInt64) { possible = [value] }

    /// It is over, and has taken effect or not: aborted, failed, or, as UNMAP, free to do nothing.
    public mutating func doubtful(_ value: UInt64) { possible.insert(value) }

    /// There was no answer.
    public mutating func unanswered(_ value: UInt64) { underWay.insert(value) }

    /// What had no answer is over: F has passed, or the nexus has been made anew.
    public mutating func waitedOut() {
        possible.formUnion(underWay)
        underWay = []
    }

    /// - Returns: false if a value that was read cannot be.
    public mutating func read(_ value: UInt64) -> Bool {
        guard possible.contains(value) || underWay.contains(value) else { return false }
        if underWay.isEmpty { possible = [value] }
        return true
    }
}

extension BlockModel: CustomStringConvertible {
    public var description: String {
        func list(_ values: Set<UInt64>) -> String { values.sorted().map(Stamp.text).joined(separator: ", ") }
        return "\(list(possible))\(underWay.isEmpty ? "" : ", under way \(list(underWay))")"
    }
}

/// The data of a block that holds a stamp.
enum Stamp {
    /// Data that no host writes as a whole.
    static let torn = UInt64.max

    static func data(_ stamp: UInt64) -> [UInt8] {
        guard stamp != 0 else { return [UInt8](repeating: 0, count: 512) }
        let bytes = (0..<8).reversed().map { UInt8(truncatingIfNeeded: stamp >> (8 * $0)) }
        return [[UInt8]](repeating: bytes, count: 64).flatMap(\.self)
    }

    static func value(_ block: some Collection<UInt8>) -> UInt64 {
        let stamp = block.prefix(8).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        return block.elementsEqual(data(stamp)) ? stamp : torn
    }

    /// The `number`th stamp of a host.
    static func number(_ number: UInt64, of host: Int) -> UInt64 { UInt64(host + 1) << 40 | number }

    static func text(_ stamp: UInt64) -> String {
        switch stamp {
        case 0: "zeros"
        case torn: "torn"
        default: "\(stamp >> 40 &- 1):\(stamp & 0xFF_FFFF_FFFF)"
        }
    }
}
