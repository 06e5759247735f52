// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Initiator
import Lab
import TextTable

extension Fault: ExpressibleByArgument {}

struct Faults: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Break gateways while hosts write, and look for old data over new.",
        discussion: """
            Brings up a cluster, then goes through rounds in an order that the seed decides. In each, hosts write through all \
            gateways, one gateway fails, its hosts go on through the others after F, and the fault is over again. Status 1 if \
            an older write ever stands over a newer one that was acknowledged.
            """)

    @OptionGroup var common: Common
    @Flag(help: "The stock kernel, LIO set up on each gateway by itself: shows what can go wrong.") var stock = false
    @Flag(help: "The lab of this name, which is up, instead of one of its own.") var attach = false
    @Option(name: .customLong("nodes"), help: "Gateways.") var gateways = 2
    @Option(help: "Rounds of each fault.") var rounds = 1
    @Option(help: "Hosts that write.") var hosts = 16
    @Option(help: "F in seconds.") var bound = 10.0
    @Option(help: "Decides order and gateways; printed.") var seed = UInt64.random(in: 0...999_999)
    @Option(parsing: .upToNextOption, help: "Only these faults.") var only: [Fault] = []

    func validate() throws {
        guard rounds > 0, hosts > 0, hosts <= 256, gateways > 1, bound > 0 else {
            throw ValidationError(
                "--rounds, --hosts (at most 256) and --bound must be more than 0, --nodes more than 1")
        }
    }

    func run() async throws {
        print("seed \(seed)")
        let options = LabOptions(
            name: common.name, gateways: gateways, initiators: 0, kernel: stock ? .stock : .clio, daemon: !stock)
        let chosen = only.isEmpty ? Fault.allCases.filter { !stock || !$0.concernsDaemon } : only
        var random = SeededGenerator(seed: seed)
        let faults = Array(repeating: chosen, count: rounds).flatMap(\.self).shuffled(using: &random)
        let body = { (lab: Lab) async throws in
            var results: [FaultRound] = []
            for fault in faults {
                guard let node = lab.gateways.randomElement(using: &random) else { break }
                results.append(try await lab.round(fault, of: node, bound: bound, hosts: hosts))
            }
            return (results, lab.consoleProblems())
        }
        let (results, problems) =
            attach
            ? try await body(Lab.attach(common.name, logger: Progress.logger())) : try await withLab(options, body)
        printTable(
            ["fault", "gateway", "writes", "paths given up", "longest pause", "old over new"],
            results.map {
                [
                    $0.fault.rawValue, $0.node, "\($0.report.writes)", "\($0.report.failovers)",
                    $0.report.longestPause.formatted(.units(allowed: [.seconds], fractionalPart: .show(length: 1))),
                    "\($0.report.stale.count)",
                ]
            })
        for stale in results.flatMap(\.report.stale) { print(stale) }
        for problem in problems { print(problem) }
        guard results.allSatisfy(\.report.stale.isEmpty), problems.isEmpty else { throw ExitCode(1) }
    }
}
