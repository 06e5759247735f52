// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import Lab
import Rados
import SystemPackage

/// What the network and Ceph alone take, for ``Bench`` to compare with; run in the lab's namespace.
struct RadosTimes: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rados-times", abstract: "Time writes and notifies of a RADOS object.", shouldDisplay: false)

    @Option(help: "How many of each.") var count: Int
    @Option(help: "Bytes written.") var size: Int

    struct Report: Codable {
        /// Seconds, medians.
        var write: Double
        var notify: Double
        /// As commands are timed.
        var fastestWrite: Double
    }

    /// Runs this in a lab.
    static func measure(_ lab: Lab, count: Int, size: Int) async throws -> Report {
        let words = [
            try lab.executable("clio-lab"), "rados-times", "--count", String(count), "--size", String(size),
        ]
        return try JSONDecoder().decode(Report.self, from: Data(try await lab.hostCheck(words).utf8))
    }

    func run() async throws {
        let path = ProcessInfo.processInfo.environment["CEPH_CONF"] ?? "/etc/ceph/ceph.conf"
        let cluster = try await Cluster.connect(Cluster.Options(configuration: FilePath(path), id: "admin"))
        let pool = try await cluster.pool("rbd")
        let object = "clio-lab.rados-times"
        let data = [UInt8](repeating: 0x5A, count: size)
        try await pool.writeFull(object, data)
        let watch = try await pool.watch(object)
        let answers = Task { for try await notification in watch { try notification.acknowledge() } }
        let writes = try await times { try await pool.writeFull(object, data) }
        let notifies = try await times { _ = try await pool.notify(object, [1]) }
        let report = Report(
            write: writes.sorted()[count / 2] / .seconds(1), notify: notifies.sorted()[count / 2] / .seconds(1),
            fastestWrite: writes.fastest() / .seconds(1))
        answers.cancel()
        try await watch.close()
        try await pool.remove(object)
        print(String(decoding: try JSONEncoder().encode(report), as: UTF8.self))
    }

    private func times(_ body: () async throws -> Void) async throws -> [Duration] {
        var times: [Duration] = []
        for _ in 0..<count {
            let start = ContinuousClock.now
            try await body()
            times.append(ContinuousClock.now - start)
        }
        return times
    }
}
