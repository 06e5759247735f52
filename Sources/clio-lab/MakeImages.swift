// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import Lab
import RBD
import Rados
import SystemPackage

/// Makes many images at once, for ``Bench``; run in the lab's namespace.
struct MakeImages: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "make-images", abstract: "Create images rbd/lun<n> that are not there.", shouldDisplay: false)

    @Option(help: "How many there are to be.") var count: Int

    /// Runs this in a lab.
    static func make(_ lab: Lab, count: Int) async throws {
        try await lab.hostCheck(
            [try lab.executable("clio-lab"), "make-images", "--count", String(count)], timeout: .seconds(600))
    }

    func run() async throws {
        let path = ProcessInfo.processInfo.environment["CEPH_CONF"] ?? "/etc/ceph/ceph.conf"
        let cluster = try await Cluster.connect(Cluster.Options(configuration: FilePath(path), id: "admin"))
        let images = Images(in: try await cluster.pool("rbd"))
        let known = Set(try await images.list())
        for name in (0..<count).map({ "lun\($0)" }) where !known.contains(name) {
            try await images.create(name, size: 16 << 20)
        }
    }
}
