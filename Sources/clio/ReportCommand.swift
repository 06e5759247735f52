// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import ClusterModel
import Foundation
import Target

struct ReportCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "report", abstract: "Gather what a bug report needs, without secrets.",
        discussion: """
            Writes an archive that only the user can read: the group and its history, the state of all nodes and of this
            machine's LIO and krbd, versions, the logs of cliod and of the kernel, Ceph's health. CHAP secrets and Ceph
            keys are asterisks in it; names and addresses are as they are. What cannot be had is left out, and index.txt
            in the archive says why. To be run as root on each node that is concerned.
            """)

    @Option(
        name: [.customShort("o"), .long],
        help: ArgumentHelp("Archive to write (default: clio-report-HOST-TIME.tar.gz here).", valueName: "path"))
    var output: String?

    @Option(help: ArgumentHelp("Lines of each log, 1 to 1000000.", valueName: "count"))
    var lines = 10_000

    @OptionGroup var ceph: CephOptions
    @OptionGroup var group: GroupOption

    func validate() throws {
        guard (1...1_000_000).contains(lines) else { throw ValidationError("--lines is 1 to 1000000") }
    }

    func run() async throws {
        try await reporting {
            let time = Date().ISO8601Format().filter { $0 != "-" && $0 != ":" }
            let name = "clio-report-\(ProcessInfo.processInfo.hostName)-\(time)"
            let archive = output ?? "\(name).tar.gz"
            guard !FileManager.default.fileExists(atPath: archive) else {
                throw Failure(description: "\(archive) is there already; name another file with --output")
            }
            let redact = await redaction()
            let folder = FileManager.default.temporaryDirectory.appending(path: "clio-report-\(UUID().uuidString)")
            let files = folder.appending(path: name)
            for folder in [folder, files] {
                try FileManager.default.createDirectory(
                    at: folder, withIntermediateDirectories: false, attributes: [.posixPermissions: 0o700])
            }
            defer { try? FileManager.default.removeItem(at: folder) }

            var index = "clio \(Release.version) on \(time), group \(group.group)\n"
            for part in parts {
                let file = files.appending(path: part.file)
                let failure = try await part.gather(into: file, within: .seconds(30 + ceph.timeout))
                index += "\(part.file): \(part.command.joined(separator: " "))\(failure.map { ": \($0)" } ?? "")\n"
                try Data(redact(String(decoding: Data(contentsOf: file), as: UTF8.self)).utf8).write(to: file)
            }
            try Data(redact(index).utf8).write(to: files.appending(path: "index.txt"))
            try await pack(files, into: archive)
            print("wrote \(archive): secrets are asterisks in it, names and addresses are not")
        }
    }

    private struct Failure: Error, CustomStringConvertible { let description: String }

    private var parts: [Part] {
        var place = ["--ceph-conf", ceph.cephConf, "--pool", ceph.pool, "--timeout", "\(ceph.timeout)"]
        if let id = ceph.id { place += ["--id", id] }
        if let keyring = ceph.keyring { place += ["--keyring", keyring] }
        place += ["--group", group.group]
        let access = CephAccess.options(configuration: ceph.cephConf, id: ceph.id, keyring: ceph.keyring)
        var client = ["--conf", ceph.cephConf, "--connect-timeout", "\(ceph.timeout)", "--id", access.id]
        if let keyring = access.keyring { client += ["--keyring", keyring.string] }
        let clio = ProcessInfo.processInfo.arguments[0]
        let target = "/sys/kernel/config/target"
        return [
            Part("group.yaml", [clio, "get"] + place),
            Part("history.json", [clio, "history", "--json"] + place),
            Part("status.json", [clio, "status", "--json"] + place),
            Part("plan.json", [clio, "plan", "--json"] + place),
            Part("ceph.txt", ["ceph", "status"] + client),
            Part("ceph-versions.json", ["ceph", "versions"] + client),
            Part("kernel.txt", ["uname", "-a"]),
            Part("system.txt", ["cat", "/etc/os-release"]),
            Part("packages.txt", ["dpkg-query", "-W", "clio*", "ceph-common", "librados2", "librbd1", "libkmod2"]),
            Part("modules.txt", ["cat", "/proc/modules"]),
            Part(
                "module-versions.txt",
                ["grep", "-rs", "", "/sys/module", "--include=version", "--include=srcversion"]),
            Part("addresses.txt", ["ip", "-brief", "address"]),
            // Secrets are in auth of an ACL and in discovery_auth. Status 2: some attributes cannot be read.
            Part("lio.txt", ["grep", "-rs", "", target, "--exclude-dir=auth", "--exclude-dir=discovery_auth"]),
            // config_info has the client's key.
            Part("rbd.txt", ["grep", "-rs", "", "/sys/devices/rbd", "--exclude=config_info"]),
            Part("dmesg.txt", ["dmesg"]),
            Part("journal.txt", ["journalctl", "--no-pager", "-n", "\(lines)", "-u", "cliod@\(group.group).service"]),
            Part("cliod.log", ["tail", "-n", "\(lines)", LocalRelay.log]),
        ]
    }

    /// Of the secrets that are known here; what looks like one goes in any case.
    private func redaction() async -> Redaction {
        let access = CephAccess.options(configuration: ceph.cephConf, id: ceph.id, keyring: ceph.keyring)
        let key = try? CephAccess.key(for: access)
        let stored = try? await ceph.store(group.group, in: ceph.connect()).load().stored
        return Redaction(groups: [stored?.config].compactMap(\.self), keys: [key].compactMap(\.self))
    }

    private func pack(_ files: URL, into archive: String) async throws {
        let made = files.deletingLastPathComponent().appending(path: "archive")
        let tar = Part(
            "archive", ["tar", "-C", made.deletingLastPathComponent().path, "-cz", files.lastPathComponent])
        var failure = try await tar.gather(into: made, within: .seconds(300)).map { "tar: \($0)" }
        if failure == nil {
            do {
                try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: made.path)
                try FileManager.default.moveItem(at: made, to: URL(fileURLWithPath: archive))
            } catch { failure = error.localizedDescription }
        }
        if let failure {
            throw Failure(description: "\(archive): cannot be written (\(failure)); name another place with --output")
        }
    }
}

/// A file of the report, and whose output it is.
private struct Part {
    let file: String
    let command: [String]

    init(_ file: String, _ command: [String]) {
        self.file = file
        self.command = command
    }

    /// Runs the command with its output in `url`. One that does not end is killed and left: it may be stuck in the kernel.
    ///
    /// - Returns: what went wrong.
    func gather(into url: URL, within limit: Duration) async throws -> String? {
        try Data().write(to: url)
        let output = try FileHandle(forWritingTo: url)
        defer { try? output.close() }
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = command
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = output
        process.standardError = output
        try process.run()
        let deadline = ContinuousClock.now + limit
        while process.isRunning, ContinuousClock.now < deadline { try await Task.sleep(for: .milliseconds(20)) }
        guard !process.isRunning else {
            kill(process.processIdentifier, SIGKILL)
            return "no end after \(limit.components.seconds) s"
        }
        return process.terminationStatus == 0 ? nil : "exit status \(process.terminationStatus)"
    }
}
