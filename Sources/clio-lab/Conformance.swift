// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation
import Lab

struct Conformance: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "libiscsi's own suite, through one gateway and through two: the stock kernel beside ours.",
        discussion: """
            Brings up the cluster with the stock kernel and runs `iscsi-test-cu --dataloss`, then again with ours. Status 1 if a
            test that passes on one path of the stock kernel does not on one path or on two of ours, or a console shows a
            kernel problem.
            """)

    @OptionGroup var common: Common
    @OptionGroup var ceph: CephArguments
    @Option(parsing: .upToNextOption, help: "Suites or tests, such as CompareAndWrite or Read10.Simple (default: all).")
    var tests: [String] = []
    @Option(help: "Seconds that one suite may take, 1 to 3600.") var bound = 120
    @Flag(help: "List only tests that do not pass on both.") var brief = false

    func validate() throws {
        guard (1...3600).contains(bound) else { throw ValidationError("--bound must be 1 to 3600 seconds") }
    }

    func run() async throws {
        let (stock, _) = try await run(.stock)
        let (clio, problems) = try await run(.clio)
        let columns = zip(["stock, 1 path", "stock, 2 paths", "Clio, 1 path", "Clio, 2 paths"], stock + clio)
        var rows: [[String]] = []
        var worse: [String] = []
        for (index, before) in stock[0].enumerated() {
            let results = (stock + clio).map { $0[index] }
            for after in results.suffix(clio.count) where before.outcome == .passed && after.outcome != .passed {
                worse.append("\(after.name): \(after.reason ?? "no reason given")")
            }
            if brief, results.allSatisfy({ $0.outcome == .passed }) { continue }
            rows.append([before.name] + results.map(\.outcome.rawValue))
        }
        printTable(["test"] + columns.map(\.0), rows)
        print()
        for (title, results) in columns {
            let total = ConformanceResult.Outcome.allCases.map { outcome in
                "\(results.count { $0.outcome == outcome }) \(outcome.rawValue)"
            }
            print("\(title): \(total.joined(separator: ", "))")
        }
        for problem in problems { print(problem) }
        for line in worse { print("worse than the stock kernel: \(line)") }
        guard worse.isEmpty, problems.isEmpty else { throw ExitCode(1) }
    }

    /// Through one gateway, and through two.
    private func run(_ kernel: KernelFlavour) async throws -> ([[ConformanceResult]], [ConsoleProblem]) {
        let options = LabOptions(
            name: common.name, gateways: 2, initiators: 0, osds: ceph.erasure ? 3 : 1, kernel: kernel,
            daemon: kernel != .stock, ceph: ceph.options)
        return try await withLab(options) { lab in
            var results: [[ConformanceResult]] = []
            for paths in 1...2 {
                let gateways = Array(lab.gateways.prefix(paths))
                results.append(try await lab.conformance(tests, through: gateways, bound: .seconds(bound)))
            }
            return (results, lab.consoleProblems())
        }
    }
}
