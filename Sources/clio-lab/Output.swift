// SPDX-License-Identifier: Apache-2.0
import Foundation
import Lab
import Logging
import TextTable

/// Progress on standard error, each line with the time since the start.
struct Progress: LogHandler {
    private static let start = ContinuousClock.now

    var metadata: Logger.Metadata = [:]
    var logLevel: Logger.Level = .notice

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) { Self.say("\(event.message)") }

    static func say(_ message: String) {
        let passed = Double((ContinuousClock.now - start) / .milliseconds(1)) / 1000
        let seconds = String(format: "%5.1f s", passed)
        FileHandle.standardError.write(Data("\(seconds)  \(message)\n".utf8))
    }

    static func logger() -> Logger {
        _ = start
        return Logger(label: "clio-lab") { _ in Progress() }
    }
}

/// A lab for a person, or as JSON.
struct Report {
    let lab: Lab
    let description: LabDescription
    let problems: [ConsoleProblem]

    init(lab: Lab) {
        self.lab = lab
        description = lab.description()
        problems = lab.consoleProblems()
    }

    var isHealthy: Bool {
        lab.isComplete && problems.isEmpty && description.nodes.allSatisfy { !$0.pids.isEmpty }
            && lab.daemons().allSatisfy(\.alive)
    }

    func print(json: Bool) throws {
        if json {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
            Swift.print(String(decoding: try encoder.encode(description), as: UTF8.self))
        } else {
            Swift.print("netns \(description.netns)  ceph_conf \(description.cephConf)")
            if !lab.isComplete { Swift.print("clio-lab up has not come to its end") }
            for daemon in lab.daemons() where !daemon.alive { Swift.print("\(daemon.name) is dead") }
            for daemon in lab.daemons() where lab.isPaused(daemon.name) { Swift.print("\(daemon.name) stands still") }
            for node in description.nodes {
                let state = (try? lab.state(node.name)) ?? .dead
                let cuts = ((try? lab.cuts(node.name)) ?? []).map(\.rawValue).sorted()
                let slow = ((try? lab.slowness(node.name)) ?? [:]).sorted { $0.key < $1.key }
                let words =
                    [state.rawValue] + cuts.map { "cut from \($0)" }
                    + slow.map { "slow from \(OSDName.text($0)): delay \($1.delay), loss \($1.loss * 100) %" }
                let row = [node.name, node.role.rawValue, node.portal ?? node.address, node.iqn]
                Swift.print(row.joined(separator: "  "), words.joined(separator: ", "), separator: "  ")
            }
            for lun in description.luns {
                Swift.print("lun \(lun.lun)  \(lun.path)  serial \(lun.serial)")
            }
        }
        for problem in problems { FileHandle.standardError.write(Data("\(problem)\n".utf8)) }
    }
}
