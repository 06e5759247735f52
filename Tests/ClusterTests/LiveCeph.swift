// SPDX-License-Identifier: Apache-2.0

import Foundation
import Rados
import SystemPackage

/// The Ceph cluster that tests of the wrappers run against: a real one, named by the environment. `make test-cluster` always
/// names one; suites that need it are skipped, and say so, where nobody does.
enum LiveCeph {
    /// The variable that names the cluster's ceph.conf; `CLIO_TEST_CEPH_KEYRING` may name the key of client.admin.
    static let variable = "CLIO_TEST_CEPH_CONF"

    static let configuration = ProcessInfo.processInfo.environment[variable]
    static let keyring = ProcessInfo.processInfo.environment["CLIO_TEST_CEPH_KEYRING"]

    /// Whether there is a cluster to test against.
    static var isGiven: Bool { configuration != nil }

    /// Why a suite is skipped.
    static let note = "set \(variable) to the ceph.conf of a test cluster (make test-cluster does)"

    static func options(
        timeouts: Cluster.Timeouts = Cluster.Timeouts(), settings: [String: String] = [:]
    ) -> Cluster.Options {
        Cluster.Options(
            configuration: FilePath(configuration ?? ""), keyring: keyring.map { FilePath($0) }, timeouts: timeouts,
            settings: settings)
    }

    static func connect() async throws -> Cluster { try await Cluster.connect(options()) }

    /// A name no other test uses.
    static func unique(_ prefix: String) -> String { "\(prefix).\(UUID().uuidString.prefix(8).lowercased())" }
}
