// SPDX-License-Identifier: Apache-2.0
import Foundation

/// How one test of libiscsi's suite (`iscsi-test-cu`) ended.
public struct ConformanceResult: Sendable, Equatable {
    /// In words of the suite's own report.
    public enum Outcome: String, Sendable, Codable, CaseIterable {
        case passed, failed, skipped
        /// The suite reported no end: it hung, died, or could not log in.
        case unfinished
    }

    /// `SUITE.TEST`, such as `CompareAndWrite.Simple`.
    public var name: String
    public var outcome: Outcome
    /// What the suite says of a failure or a skip: the first such line.
    public var reason: String?

    public init(_ name: String, _ outcome: Outcome, reason: String? = nil) {
        self.name = name
        self.outcome = outcome
        self.reason = reason
    }

    /// Reads what `iscsi-test-cu --verbose` prints (CUnit's basic interface).
    ///
    /// CUnit prints `Test: NAME ...`, then whatever the test prints, then `passed`, or `FAILED` and a numbered list of the
    /// assertions that failed. A test that was skipped has said so and counts as passed there.
    public static func parse(_ output: String) -> [ConformanceResult] {
        var results: [ConformanceResult] = []
        var suite = ""
        var test: (name: String, said: [Substring])?
        func finish() {
            guard let ended = test else { return }
            test = nil
            results.append(result("\(suite).\(ended.name)", ended.said))
        }
        for line in output.split(separator: "\n", omittingEmptySubsequences: true) {
            if line.hasPrefix("Suite: ") {
                finish()
                suite = String(line.dropFirst(7))
            } else if line.hasPrefix("  Test: "), let end = line.range(of: " ...") {
                finish()
                test = (String(line[..<end.lowerBound].dropFirst(8)), [line[end.upperBound...]])
            } else if line.hasPrefix("Run Summary:") {
                finish()
            } else {
                test?.said.append(line)
            }
        }
        finish()
        return results
    }

    private static func result(_ name: String, _ said: [Substring]) -> ConformanceResult {
        func first(_ sign: String) -> String? {
            said.first { $0.contains(sign) }.flatMap { line in
                line.range(of: sign).map { String(line[$0.upperBound...].drop { $0 == " " }) }
            }
        }
        if said.contains(where: { $0.hasPrefix("    1. ") }) {
            return ConformanceResult(name, .failed, reason: first("[FAILED]") ?? first("    1. "))
        }
        // What a test still prints as it ends may stand on either side of the word.
        guard said.contains(where: { $0.hasPrefix("passed") || $0.hasSuffix("passed") }) else {
            return ConformanceResult(name, .unfinished)
        }
        if let reason = first("[SKIPPED]") { return ConformanceResult(name, .skipped, reason: reason) }
        return ConformanceResult(name, .passed)
    }
}

extension Lab {
    /// Runs libiscsi's suite on LUN 0 through one gateway or two, data loss included. With two, tests of several I_T nexuses
    /// (PERSISTENT RESERVE, RESERVE, MultipathIO) have one through each.
    ///
    /// - Parameters:
    ///   - filter: `SUITE` or `SUITE.TEST`; all by default. Suites run one after the other, each in a process of its own.
    ///   - gateways: one or two nodes; the first by default.
    ///   - bound: how long one suite may take; then it is ended, and its tests without a result are `unfinished`.
    /// - Returns: one result a test, in the suite's order.
    /// - Throws: `LabError` if the suite is not installed, or knows nothing of what `filter` names.
    public func conformance(
        _ filter: [String] = [], through gateways: [String]? = nil, bound: Duration = .seconds(120)
    ) async throws -> [ConformanceResult] {
        let nodes = try (gateways ?? Array(self.gateways.prefix(1))).map(find)
        let urls = nodes.map { "iscsi://\($0.portal ?? "")/\(Self.targetName)/0" }
        var results: [ConformanceResult] = []
        for suite in try await Self.conformanceSuites(filter) {
            let paths = nodes.map(\.name).joined(separator: " and ")
            logger.notice("\(options.kernel.rawValue) through \(paths): \(suite.name)")
            var found: [ConformanceResult] = []
            for run in suite.runs {
                let limit = ["timeout", "--kill-after=5", "\(bound.components.seconds)"]
                let ended = try await host(
                    limit + ["iscsi-test-cu", "--dataloss", "--verbose", "-t", run] + urls,
                    timeout: bound + .seconds(15))
                found += ConformanceResult.parse(String(decoding: ended.output, as: UTF8.self))
            }
            for name in suite.tests {
                results.append(found.first { $0.name == name } ?? ConformanceResult(name, .unfinished))
            }
        }
        return results
    }

    /// The suite's tests by suite, in its order.
    static func conformanceSuites(_ filter: [String]) async throws -> [ConformanceSuite] {
        let list = try await Command.check(["iscsi-test-cu", "--list"])
        let all: [String] = list.split(separator: "\n").compactMap { line in
            line.hasPrefix("ALL.") ? String(line.dropFirst(4)) : nil
        }
        let unknown = filter.filter { !all.contains($0) }
        guard unknown.isEmpty else {
            throw LabError(
                "test \(unknown.joined(separator: ", "))", "iscsi-test-cu knows none of that name",
                remedy: "iscsi-test-cu --list names them, without the ALL. in front")
        }
        var suites: [ConformanceSuite] = []
        for suite in all where !suite.contains(".") {
            let tests = all.filter { $0.hasPrefix(suite + ".") }
            let wanted = tests.filter { filter.isEmpty || filter.contains(suite) || filter.contains($0) }
            if wanted.isEmpty { continue }
            let runs = wanted.count < tests.count ? wanted : [suite]
            suites.append(ConformanceSuite(name: suite, tests: wanted, runs: runs.map { "ALL." + $0 }))
        }
        return suites
    }
}

/// A suite of libiscsi's, or the part of it that is wanted.
struct ConformanceSuite {
    var name: String
    /// `SUITE.TEST` of each.
    var tests: [String]
    /// What to ask `iscsi-test-cu` for, one process each.
    var runs: [String]
}
