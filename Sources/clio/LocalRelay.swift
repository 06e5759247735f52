// SPDX-License-Identifier: Apache-2.0
import ClusterModel
import Foundation
import RelayDriver
import SystemPackage
import Target

/// The cliod of this machine.
struct LocalRelay {
    let group: String

    struct Failure: Error, CustomStringConvertible { let description: String }

    /// Where a cliod that we start by ourselves writes its log.
    static let log = "/var/log/cliod.log"

    /// Whether one listens.
    var isRunning: Bool { (try? give(.report)) != nil }

    /// `nil` if no cliod runs.
    func give(_ order: Control.Order) throws -> Control.Answer? {
        do {
            return try Control.give(order, group: group)
        } catch let error as Errno {
            throw Failure(
                description: "cliod at \(Control.path(group)): \(error) (errno \(error.rawValue)); its log says why")
        }
    }

    /// Starts one: by systemd if that has the unit, else by ourselves.
    ///
    /// - Parameter arguments: options and their values, in turn.
    /// - Throws: if it cannot be started, or systemd would start it with other options.
    func start(_ arguments: [String]) throws {
        if hasUnit {
            try requireDefaults(arguments)
            guard try run(["systemctl", "start", "--no-block", "cliod@\(group).service"]) == 0 else {
                throw Failure(
                    description: "systemd cannot start cliod@\(group).service; journalctl -u cliod@\(group) says why")
            }
            return
        }
        let cliod = Self.executable
        do {
            // A session of its own, so that it outlives this one.
            _ = try spawn([cliod] + arguments, output: Self.log, flags: Self.newSession)
        } catch {
            throw Failure(description: "cannot start \(cliod): \(error); is it installed beside clio?")
        }
    }

    private var hasUnit: Bool {
        FileManager.default.fileExists(atPath: "/run/systemd/system")
            && (try? run(["systemctl", "cat", "cliod@\(group).service"])) == 0
    }

    /// Whether none will come any more. systemd may have to wait for the network first, and starts one that fails again.
    private var hasEnded: Bool {
        !hasUnit || (try? run(["systemctl", "is-failed", "cliod@\(group).service"])) == 0
    }

    /// systemd gives cliod the options of ``Installer/defaults``, and none of this command's.
    private func requireDefaults(_ arguments: [String]) throws {
        let text = (try? String(contentsOfFile: Installer.defaults, encoding: .utf8)) ?? ""
        let name = "CLIOD_OPTIONS="
        let line = text.split(whereSeparator: \.isNewline).last { $0.hasPrefix(name) }?.dropFirst(name.count) ?? ""
        let there = line.split { " \t\"'".contains($0) }
            .flatMap { $0.hasPrefix("--") ? $0.split(separator: "=", maxSplits: 1) : [$0] }.map(String.init)
        var options = there
        for index in stride(from: 0, to: arguments.count - 1, by: 2) {
            let (option, value) = (arguments[index], arguments[index + 1])
            // Most likely nobody gave it.
            if isUsual(option, value) { continue }
            if let known = options.lastIndex(of: option), known + 1 < options.count {
                options[known + 1] = value
            } else {
                options += [option, value]
            }
        }
        guard options == there else {
            throw Failure(
                description: "systemd starts cliod with other options than this command's: make the line of "
                    + "\(Installer.defaults)\n  \(try Installer.defaultsLine(options))")
        }
    }

    /// Whether cliod does the same without an option.
    private func isUsual(_ option: String, _ value: String) -> Bool {
        switch option {
        // The unit's own.
        case "--group": return true
        case "--pool": return value == CephOptions.usualPool
        case "--ceph-conf": return value == CephOptions.usualConfiguration
        case "--node":
            var alone = ClusterModel.Group(name: group)
            alone.nodes = [Node(name: value, portals: [])]
            return (try? Gateway.nodeName(nil, in: alone)) != nil
        default: return false
        }
    }

    /// The cliod beside this clio, else the one in PATH.
    static var executable: String {
        let own = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? ""
        let beside = own.split(separator: "/").dropLast().map { "/\($0)" }.joined() + "/cliod"
        return FileManager.default.isExecutableFile(atPath: beside) ? beside : "cliod"
    }

    /// `POSIX_SPAWN_SETSID` of spawn.h, which shows it to GNU programs only.
    private static let newSession: Int16 = 0x80

    private func run(_ command: [String]) throws -> Int32 {
        var status: Int32 = 0
        let child = try spawn(command, output: "/dev/null", flags: 0)
        while waitpid(child, &status, 0) < 0, errno == EINTR {}
        return status
    }

    private func spawn(_ command: [String], output: String, flags: Int16) throws(Errno) -> pid_t {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 1, output, O_WRONLY | O_CREAT | O_APPEND, 0o640)
        posix_spawn_file_actions_adddup2(&actions, 1, 2)
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        posix_spawnattr_setflags(&attributes, flags)
        var words = command.map { strdup($0) } + [nil]
        defer { for word in words { free(word) } }
        var child: pid_t = 0
        let result = posix_spawnp(&child, command[0], &actions, &attributes, &words, environ)
        guard result == 0 else { throw Errno(rawValue: result) }
        return child
    }

    /// Waits until hosts are served.
    ///
    /// - Parameter progress: called with each change of state.
    @discardableResult
    func awaitServing(_ limit: Duration, progress: (String) -> Void) async throws -> NodeReport {
        let deadline = ContinuousClock.now + limit
        var patience = ContinuousClock.now + .seconds(5)
        var told = ""
        var last: NodeReport?
        while ContinuousClock.now < deadline {
            let answer = try? give(.report)
            if let report = answer?.report {
                last = report
                if report.isServing { return report }
                if report.phase != told { progress("node \(report.node): \(report.phase)") }
                told = report.phase
            } else if answer == nil, ContinuousClock.now > patience {
                if hasEnded { throw Failure(description: "cliod has ended:\n\(logEnd)") }
                patience = ContinuousClock.now + .seconds(1)
            }
            try await Task.sleep(for: .milliseconds(100))
        }
        let why = (last?.problems ?? []).map(\.text).joined(separator: "; ")
        throw Failure(
            description: "hosts are not served yet after \(limit.components.seconds) s; cliod goes on trying. "
                + (why.isEmpty ? "The end of its log:\n\(logEnd)" : why))
    }

    /// Waits until none listens any more.
    func awaitEnd(_ limit: Duration) async {
        let deadline = ContinuousClock.now + limit
        while ContinuousClock.now < deadline, FileManager.default.fileExists(atPath: Control.path(group)) {
            try? await Task.sleep(for: .milliseconds(50))
        }
    }

    private var logEnd: String {
        guard let text = try? String(contentsOfFile: Self.log, encoding: .utf8) else {
            return "journalctl -u cliod@\(group) has its log"
        }
        return text.split(separator: "\n").suffix(5).joined(separator: "\n")
    }
}

extension Gateway.Report {
    /// What cliod has done at our word.
    init(_ answer: Control.Answer) {
        self.init()
        changes = answer.changes
        problems = answer.problems
        skipped = answer.skipped
        luns = answer.luns
        targets = answer.targets
        ports = answer.ports
    }
}
