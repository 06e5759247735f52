// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation
import Initiator
import Lab
import TextTable

/// Runs `body` with a lab that is there only for it.
///
/// - Parameter keep: leave the lab up if `body` ends well.
func withLab<Result>(
    _ options: LabOptions, keep: Bool = false, _ body: (Lab) async throws -> Result
) async throws -> Result {
    let lab = try await Lab.up(options, logger: Progress.logger())
    do {
        let result = try await body(lab)
        if !keep { try await lab.down() }
        return result
    } catch {
        for problem in lab.consoleProblems() { Progress.say("\(problem)") }
        try? await lab.down()
        throw error
    }
}

struct Demo: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "COMPARE AND WRITE through two gateways, without and with Clio.",
        discussion: """
            Brings up the cluster with the stock kernel and measures, then again with ours. Status 1 if ours loses an update, or
            its ports do not agree on what they are ports of. Leaves nothing running unless --keep is given.
            """)

    @OptionGroup var common: Common
    @Option(help: "How long the writers write, in seconds.") var seconds = 5.0
    @Option(help: "Writers, dealt to the gateways in turn.") var writers = 4
    @Option(name: .customLong("nodes"), help: "Gateways.") var gateways = 2
    @Flag(help: "Keep the cluster with our kernel.") var keep = false

    func validate() throws {
        guard seconds > 0, seconds <= 3600 else { throw ValidationError("--seconds must be more than 0, at most 3600") }
        guard (1...64).contains(writers) else { throw ValidationError("--writers must be 1 to 64") }
    }

    func run() async throws {
        var options = LabOptions(name: common.name, gateways: gateways, initiators: 0, kernel: .stock)
        Progress.say("without Clio: the kernel as it is, LIO set up on each gateway by itself")
        let stock = try await withLab(options) { try await $0.compare(seconds: seconds, writers: writers) }
        Progress.say("with Clio: cliod on each gateway")
        options.kernel = .clio
        options.daemon = true
        if keep { options.initiators = 1 }
        let (clio, problems) = try await withLab(options, keep: keep) {
            (try await $0.compare(seconds: seconds, writers: writers), $0.consoleProblems())
        }
        show(stock, clio)
        for problem in problems { print(problem) }
        if keep {
            print("The cluster is still up: clio-lab status shows it, clio-lab down ends it.")
        }
        guard clio.race.lost == 0, clio.race.successes > 0, clio.isOneUnit, problems.isEmpty else { throw ExitCode(1) }
    }

    private func show(_ stock: Comparison, _ clio: Comparison) {
        let both = [stock, clio]
        func row(_ title: String, _ value: (Comparison) -> String) -> [String] { [title] + both.map(value) }
        print("\nOne counter, incremented by COMPARE AND WRITE: \(writers) writers through \(gateways) gateways")
        var rows = [
            row("increments that succeeded") { "\($0.race.successes)" },
            row("the counter says") { "\($0.race.counter)" },
            row("updates lost") { comparison in
                let share = 100 * Double(comparison.race.lost) / Double(max(1, comparison.race.successes))
                return comparison.race.lost == 0 ? "0" : "\(comparison.race.lost) (\(String(format: "%.0f", share)) %)"
            },
            row("increments a second") { String(format: "%.0f", $0.race.rate) },
        ]
        printTable(["", "stock kernel", "Clio"], rows)

        print("\nWhat a host is told through each port")
        rows = []
        for index in stock.ports.indices {
            let (node, portal) = (stock.ports[index].node, stock.ports[index].portal)
            func add(_ title: String, _ value: (Identity) -> String) {
                let place = rows.count % 5 == 0 ? "\(node), \(portal)" : ""
                rows.append([place, title] + both.map { value($0.ports[index].identity) })
            }
            add("serial number (VPD 80h)") { $0.serial }
            add("NAA (VPD 83h)") { $0.naa ?? "none" }
            add("this port's number (VPD 83h)") { $0.relativePort.map(String.init) ?? "none" }
            add("port groups: ports (RTPG)") { $0.portGroups.map(Self.text).joined(separator: "; ") }
            add("longest COMPARE AND WRITE") { "\($0.maximumCompareAndWriteLength) block" }
        }
        printTable(["port", "", "stock kernel", "Clio"], rows)
        func words(_ comparison: Comparison) -> String {
            comparison.isOneUnit
                ? "one logical unit with \(gateways) ports" : "\(gateways) ports that do not know of each other"
        }
        print("\nstock kernel: \(words(stock)); Clio: \(words(clio))")
    }

    /// A port group as `group: port port, state`.
    private static func text(_ group: Identity.PortGroup) -> String {
        let states = ["active/optimized", "active/non-optimized", "standby", "unavailable"]
        let state = Int(group.state) < states.count ? states[Int(group.state)] : "state \(group.state)"
        return "\(group.group): \(group.ports.map(String.init).joined(separator: " ")), \(state)"
    }
}

/// Prints a table for people.
func printTable(_ columns: [String], _ rows: [[String]]) {
    let table = TextTable<[String]> { row in zip(columns, row).map { Column(title: $0, value: $1) } }
    print(table.string(for: rows, style: Style.plain) ?? "")
}
