// SPDX-License-Identifier: Apache-2.0
import Foundation

/// What a terminal shows: lines that fit it.
public struct Frame: Sendable, Equatable {
    public enum Order: Sendable { case lun, traffic }

    public let lines: [String]

    /// - Parameters:
    ///   - head: the first line.
    ///   - width: columns; longer lines are cut.
    ///   - height: lines; what is left of them for the LUNs is said if it is not enough.
    public init(head: String, answers: [Answer], rates: [LUNRates], order: Order, width: Int, height: Int) {
        var lines = [head, ""]
        lines += Self.table(
            [
                ("NODE", true), ("PHASE", true), ("AGE s", false), ("LEFT s", false), ("VERSION", false),
                ("SESSIONS", false), ("IN FLIGHT", false), ("PROBLEMS", false),
            ], answers.compactMap(\.figures).map(Self.cells))
        for case .none(let place, let why) in answers { lines.append("\(place)  \(why)") }
        lines.append("")
        let sorted =
            switch order {
            case .lun: rates
            case .traffic: rates.sorted { ($0.operationsPerSecond, $1.lun) > ($1.operationsPerSecond, $0.lun) }
            }
        // One for the heading, one for what there is no room for.
        let room = max(0, height - lines.count - 1)
        let shown = sorted.count <= room ? sorted.count : max(0, room - 1)
        lines += Self.table(
            [
                ("LUN", false), ("IMAGE", true), ("READ/s", false), ("WRITE/s", false), ("READ MiB/s", false),
                ("WRITE MiB/s", false), ("MEAN ms", false), ("CAW/s", false), ("MISS/s", false), ("AWAY/s", false),
            ], sorted.prefix(shown).map(Self.cells))
        if shown < sorted.count { lines.append("… and \(sorted.count - shown) more") }
        self.lines = lines.prefix(height).map { String(Self.printable($0).prefix(width)) }
    }

    private static func cells(_ node: NodeFigures) -> [String] {
        func text(_ value: Int?) -> String { value.map { String($0) } ?? "-" }
        let behind = node.wantedVersion.flatMap { wanted in node.version.map { $0 < wanted } } ?? false
        return [
            node.node, node.phase, number(node.leaseAge, 1), number(node.leaseLeft, 1),
            text(node.version) + (behind ? " of \(text(node.wantedVersion))" : ""), text(node.sessions),
            text(node.inFlight), text(node.problems),
        ]
    }

    private static func cells(_ rates: LUNRates) -> [String] {
        [
            String(rates.lun), rates.image, number(rates.readsPerSecond, 0), number(rates.writesPerSecond, 0),
            number(rates.bytesReadPerSecond / 1_048_576, 1), number(rates.bytesWrittenPerSecond / 1_048_576, 1),
            number(rates.meanLatencySeconds.map { $0 * 1000 }, 2), number(rates.comparedPerSecond, 0),
            number(rates.miscomparedPerSecond, 0), number(rates.turnedAwayPerSecond, 0),
        ]
    }

    private static func number(_ value: Double?, _ digits: Int) -> String {
        value.map { String(format: "%.\(digits)f", $0) } ?? "-"
    }

    private static func table(_ columns: [(title: String, isLeft: Bool)], _ rows: [[String]]) -> [String] {
        let widths = columns.indices.map { column in
            ([columns[column].title] + rows.map { $0[column] }).map(\.count).max() ?? 0
        }
        return ([columns.map(\.title)] + rows).map { row in
            zip(columns, zip(row, widths)).map { column, cell in
                let blanks = String(repeating: " ", count: cell.1 - cell.0.count)
                return column.isLeft ? cell.0 + blanks : blanks + cell.0
            }.joined(separator: "  ")
        }
    }

    /// Names come from elsewhere; none may command the terminal.
    private static func printable(_ text: String) -> String {
        String(text.map { $0.unicodeScalars.contains { $0.properties.generalCategory == .control } ? "?" : $0 })
    }
}
