// SPDX-License-Identifier: Apache-2.0

extension Lab {
    /// Runs a command of the host inside the lab's network namespace with this process's own standard input, output and
    /// error. It finds `CEPH_CONF`, and what the live tests look for.
    ///
    /// - Returns: Its exit status.
    /// - Throws: `LabError` if it cannot be started.
    public func hostAttached(_ command: [String]) async throws -> Int32 {
        var environment = hostEnvironment
        environment["CLIO_LAB_NAME"] = options.name
        environment["CLIO_TEST_LAB"] = options.name
        environment["CLIO_TEST_CEPH_CONF"] = environment["CEPH_CONF"]
        return try await Command.attached(network.prefix + command, environment: environment)
    }
}
