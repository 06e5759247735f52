// SPDX-License-Identifier: Apache-2.0
import Foundation

/// What `clio node bootstrap --install` puts on a machine.
struct Installer {
    let group: String

    struct Failure: Error, CustomStringConvertible { let description: String }

    /// Where a unit goes that no package has brought, so that a package's own would not be overwritten by it.
    static let unit = "/etc/systemd/system/cliod@.service"
    static let defaults = "/etc/default/cliod"

    /// Installs Debian packages; what apt says goes to standard error.
    func install(packages: [String]) throws {
        tell("apt-get install \(packages.joined(separator: " "))")
        let status = try run(
            ["apt-get", "install", "-q", "-y", "--no-install-recommends"] + packages,
            environment: ["DEBIAN_FRONTEND": "noninteractive"])
        guard status == 0 else {
            throw Failure(
                description:
                    "apt-get install \(packages.joined(separator: " ")) failed (exit status \(status)); where the "
                    + "packages clio and clio-dkms come from no archive, install them from their files: "
                    + "apt install ./clio_*.deb ./clio-dkms_*.deb")
        }
    }

    /// Has systemd start cliod at boot.
    ///
    /// - Parameters:
    ///   - options: cliod's, besides `--group`.
    ///   - cliod: its path, for a unit of our own.
    func enable(options: [String], cliod: String) throws {
        guard FileManager.default.fileExists(atPath: "/run/systemd/system") else {
            complain("clio: systemd does not run here: whatever starts this machine's services has to start cliod")
            return
        }
        if try run(["systemctl", "cat", "cliod@\(group).service"], quietly: true) != 0 {
            let text = String(decoding: PackageResources.cliod__service, as: UTF8.self)
            // clio is beside it.
            try write(text.replacing("/usr/bin/clio", with: String(cliod.dropLast())), to: Self.unit)
            guard try run(["systemctl", "daemon-reload"]) == 0 else {
                throw Failure(description: "systemctl daemon-reload failed; systemctl status says why")
            }
        }
        if !options.isEmpty { try setDefaults(options) }
        guard try run(["systemctl", "enable", "cliod@\(group).service"]) == 0 else {
            throw Failure(description: "systemctl enable cliod@\(group).service failed")
        }
        tell("cliod@\(group).service is started at boot")
    }

    /// `CLIOD_OPTIONS`, which all groups of the machine have in common.
    private func setDefaults(_ options: [String]) throws {
        let line = try Self.defaultsLine(options)
        if let text = try? String(contentsOfFile: Self.defaults, encoding: .utf8) {
            let lines = text.split(whereSeparator: \.isNewline).filter { $0.hasPrefix("CLIOD_OPTIONS=") }
            if lines == [line[...]] { return }
            guard lines.isEmpty else {
                throw Failure(
                    description:
                        "\(Self.defaults) has other options for cliod than this node needs; make its line\n  \(line)")
            }
            try write(text + (text.hasSuffix("\n") ? "" : "\n") + line + "\n", to: Self.defaults)
        } else {
            try write("# Options of cliod, written by clio node bootstrap.\n\(line)\n", to: Self.defaults)
        }
    }

    static func defaultsLine(_ options: [String]) throws(Failure) -> String {
        for option in options where !option.allSatisfy({ $0.isLetter || $0.isNumber || "-_./:@+=,".contains($0) }) {
            throw Failure(
                description:
                    "\"\(option)\" has characters that systemd's EnvironmentFile cannot take; use a path without them")
        }
        return "CLIOD_OPTIONS=\"\(options.joined(separator: " "))\""
    }

    private func write(_ text: String, to path: String) throws {
        do {
            try text.write(toFile: path, atomically: true, encoding: .utf8)
        } catch {
            throw Failure(description: "\(path): cannot be written: \(error.localizedDescription)")
        }
        tell("wrote \(path)")
    }

    private func run(_ command: [String], environment: [String: String] = [:], quietly: Bool = false) throws -> Int32 {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = command
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = quietly ? FileHandle.nullDevice : FileHandle.standardError
        if quietly { process.standardError = FileHandle.nullDevice }
        try process.run()
        process.waitUntilExit()
        return process.terminationStatus
    }
}
