// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Lab
import Reservations

struct Race: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "reservation-race",
        abstract: "Hosts change one unit's persistent reservations at random through all gateways.",
        discussion: """
            Status 1 if what they are told fits into no one order of the rules (the history is not linearizable), or if \
            gateways and RADOS do not agree at the end.
            """)

    @OptionGroup var common: Common
    @Flag(help: "The lab of this name, which is up, instead of one of its own.") var attach = false
    @Flag(help: "KASAN, lockdep and sleep-in-atomic checks; about 8 times slower.") var debugKernel = false
    @Option(name: .customLong("nodes"), help: "Gateways.") var gateways = 2
    @Option(help: "Hosts.") var hosts = 8
    @Option(help: "How long, in seconds.") var seconds = 60

    func validate() throws {
        guard (2...255).contains(hosts), (1...64).contains(gateways), seconds > 0 else {
            throw ValidationError("--hosts must be 2 to 255, --nodes 1 to 64, --seconds more than 0")
        }
    }

    func run() async throws {
        let options = LabOptions(
            name: common.name, gateways: gateways, initiators: 0, kernel: debugKernel ? .debug : .clio)
        let body = { (lab: Lab) async throws in
            (try await lab.raceReservations(hosts: hosts, for: .seconds(seconds)), lab.consoleProblems())
        }
        let (race, problems) =
            attach
            ? try await body(Lab.attach(common.name, logger: Progress.logger())) : try await withLab(options, body)
        var faults = problems.map(\.description) + race.disagreeing.map { "\($0) does not say what RADOS has" }
        do { _ = try race.history.check() } catch { faults.append("\(error)") }
        print(
            "\(race.history.operations.count) commands of \(hosts) hosts through \(gateways) gateways, PRGENERATION "
                + "\(race.end.generation), version \(race.end.version)")
        for fault in faults { print(fault) }
        guard faults.isEmpty else { throw ExitCode(1) }
        print("they fit into one order, and everyone agrees on its end")
    }
}
