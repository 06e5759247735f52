// SPDX-License-Identifier: Apache-2.0
import Foundation
import SystemPackage

/// A process of the lab's that outlives the command which started it: the leader of a session of its own.
///
/// A process id alone may mean somebody else by now. Together with the time the process started and the boot it belongs
/// to, it cannot.
struct ProcessRecord: Sendable, Equatable {
    var pid: Int32
    /// Clock ticks from boot to the process's start: field 22 of `/proc/PID/stat`.
    var startTime: UInt64
    /// `/proc/sys/kernel/random/boot_id` of the boot it was started in.
    var bootID: String

    /// Reads a record as the starting shell writes it: `PID STARTTIME BOOTID`.
    init?(text: String) {
        let fields = text.split(whereSeparator: \.isWhitespace)
        guard fields.count == 3, let pid = Int32(fields[0]), pid > 1, let startTime = UInt64(fields[1]) else {
            return nil
        }
        self.pid = pid
        self.startTime = startTime
        self.bootID = String(fields[2])
    }

    /// Shell commands that write the record of the shell itself to the file `$1` and keep it under `exec`.
    ///
    /// The record is complete before the program starts, so no crash leaves a process unrecorded.
    static let writingScript = """
        read -r stat < /proc/$$/stat; record=$1; shift
        rest=${stat##*) }; read -r boot < /proc/sys/kernel/random/boot_id
        set -f; start=$(set -- $rest; shift 19; echo "$1")
        echo "$$ $start $boot" > "$record.new" && mv "$record.new" "$record" || exit 1
        """
}

/// One line of `/proc/PID/stat`, as far as it matters here.
struct ProcessStatus: Sendable, Equatable {
    var pid: Int32
    /// `R`, `S`, `D`, `T`, `t`, `Z`…
    var state: Character
    var parent: Int32
    var session: Int32
    var startTime: UInt64

    /// - Parameter stat: Content of `/proc/PID/stat`; the name in parentheses may hold anything.
    init?(stat: some Collection<UInt8>) {
        // Bytes, not characters: there are hundreds of these to read at a time.
        let stat = Array(stat)
        guard let open = stat.firstIndex(of: UInt8(ascii: "(")), let close = stat.lastIndex(of: UInt8(ascii: ")")),
            open < close
        else { return nil }
        func number<Number: FixedWidthInteger>(_ bytes: ArraySlice<UInt8>) -> Number? {
            Number(String(decoding: bytes, as: UTF8.self))
        }
        let space = UInt8(ascii: " ")
        let fields = stat[(close + 1)...].split(maxSplits: 20, whereSeparator: { $0 == space })
        guard fields.count > 19, let state = fields[0].first,
            let pid: Int32 = number(stat[..<open].prefix { $0 != space }),
            let parent: Int32 = number(fields[1]), let session: Int32 = number(fields[3]),
            let startTime: UInt64 = number(fields[19])
        else { return nil }
        self.pid = pid
        self.state = Character(UnicodeScalar(state))
        self.parent = parent
        self.session = session
        self.startTime = startTime
    }
}

/// The host's processes at one moment.
struct ProcessTable: Sendable {
    var processes: [ProcessStatus]
    var bootID: String

    /// Reads `/proc`.
    static func current() -> ProcessTable {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        let processes = names.compactMap { name -> ProcessStatus? in
            guard let first = name.utf8.first, first < UInt8(ascii: "A"),
                let stat = Files.bytes("/proc/\(name)/stat", from: 0, chunk: 1024)
            else { return nil }
            return ProcessStatus(stat: stat)
        }
        return ProcessTable(processes: processes, bootID: bootID())
    }

    static func bootID() -> String {
        (Files.text("/proc/sys/kernel/random/boot_id") ?? "").trimmingCharacters(in: .whitespacesAndNewlines)
    }

    /// All live processes of the session that `record` led, the leader first, then by age.
    ///
    /// User Mode Linux has a child for each of its address spaces, and helpers; all stay in the session. While any of
    /// them lives the kernel gives the leader's id to nobody else, so a process that has this id and another start time
    /// proves that the session is gone.
    func members(of record: ProcessRecord) -> [ProcessStatus] {
        guard record.bootID == bootID else { return [] }
        if let holder = processes.first(where: { $0.pid == record.pid }), holder.startTime != record.startTime {
            return []
        }
        return
            processes
            .filter { $0.session == record.pid && $0.state != "Z" && $0.startTime >= record.startTime }
            .sorted {
                ($0.pid == record.pid ? 0 : 1, $0.startTime, $0.pid)
                    < ($1.pid == record.pid ? 0 : 1, $1.startTime, $1.pid)
            }
    }

    /// Whether the process `record` stands for is alive.
    func isAlive(_ record: ProcessRecord) -> Bool { members(of: record).first?.pid == record.pid }
}

/// The processes one lab has started, kept as one small file each.
struct Processes: Sendable {
    /// Where the records are.
    let folder: String

    /// Starts `arguments` in a session of its own, detached from this process, and records it as `label`.
    ///
    /// - Parameters:
    ///   - label: Name of the record.
    ///   - prefix: A command that starts the shell, such as `nsenter …`.
    ///   - arguments: Path and arguments of the program.
    ///   - log: File that takes its standard output and error, appended.
    ///   - environment: Variables of the program beside the inherited ones.
    /// - Throws: `LabError` if it does not get as far as to start the program.
    func start(
        _ label: String, prefix: [String] = [], _ arguments: [String], log: String, environment: [String: String] = [:]
    ) async throws {
        let record = path(label)
        try? FileManager.default.removeItem(atPath: record)
        let script = """
            \(ProcessRecord.writingScript)
            log=$1; shift; ulimit -c 0
            exec "$@" < /dev/null >> "$log" 2>&1
            """
        try await Command.check(
            prefix + ["setsid", "--fork", "/bin/sh", "-c", script, "sh", record, log] + arguments,
            environment: environment, timeout: .seconds(20))
        for _ in 0..<400 where self.record(label) == nil { try await Task.sleep(for: .milliseconds(5)) }
        guard self.record(label) != nil else {
            throw LabError(label, "its process did not start", remedy: "see \(log)")
        }
    }

    /// What is recorded as `label`.
    func record(_ label: String) -> ProcessRecord? {
        Files.text(path(label)).flatMap(ProcessRecord.init(text:))
    }

    /// All labels.
    func labels() -> [String] {
        ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []).filter { !$0.hasSuffix(".new") }.sorted()
    }

    /// Live processes of `label`, its leader first.
    func pids(_ label: String, in table: ProcessTable = .current()) -> [Int32] {
        record(label).map { table.members(of: $0).map(\.pid) } ?? []
    }

    /// Whether the leader of `label` is alive.
    func isAlive(_ label: String) -> Bool { record(label).map(ProcessTable.current().isAlive) ?? false }

    /// Ends `labels`, all at once: politely if `grace` is given, and by SIGKILL what is left then.
    ///
    /// - Throws: `LabError` naming what is still alive 10 s after SIGKILL.
    func end(_ labels: [String], grace: Duration = .zero) async throws {
        if grace > .zero {
            for label in labels { signal(label, SIGTERM) }
            let deadline = ContinuousClock.now + grace
            while ContinuousClock.now < deadline, living(labels).isEmpty == false {
                try await Task.sleep(for: .milliseconds(20))
            }
        }
        let deadline = ContinuousClock.now + .seconds(10)
        while case let rest = living(labels), !rest.isEmpty {
            guard ContinuousClock.now < deadline else {
                throw LabError(rest.joined(separator: ", "), "still alive 10 s after SIGKILL")
            }
            for label in rest { signal(label, SIGKILL) }
            try await Task.sleep(for: .milliseconds(10))
        }
        for label in labels { try? FileManager.default.removeItem(atPath: path(label)) }
    }

    /// Stops every process of `label` that has no tracer.
    ///
    /// A traced process is one of User Mode Linux's address spaces: it stands still at its next system call, for its
    /// tracer does. SIGSTOP sent to it would be reported to the tracer after the thaw, which takes it for a fault.
    func freeze(_ label: String) async throws {
        for _ in 0..<100 {
            let running = untraced(label).filter { $0.state != "T" }
            if running.isEmpty { return }
            for process in running { kill(process.pid, SIGSTOP) }
            try await Task.sleep(for: .milliseconds(2))
        }
        throw LabError(label, "does not stop")
    }

    /// Lets every process of `label` that `freeze` stopped go on.
    func thaw(_ label: String) async throws {
        for _ in 0..<100 {
            let stopped = untraced(label).filter { $0.state == "T" }
            if stopped.isEmpty { return }
            // The kernel last: it finds its helpers at work.
            for process in stopped.reversed() { kill(process.pid, SIGCONT) }
            try await Task.sleep(for: .milliseconds(2))
        }
        throw LabError(label, "does not go on")
    }

    /// Whether the leader of `label` is stopped.
    func isFrozen(_ label: String) -> Bool {
        record(label).flatMap { ProcessTable.current().members(of: $0).first }?.state == "T"
    }

    private func untraced(_ label: String) -> [ProcessStatus] {
        guard let record = record(label) else { return [] }
        return ProcessTable.current().members(of: record).filter { process in
            let status = Files.text("/proc/\(process.pid)/status") ?? ""
            return !status.split(separator: "\n").contains { $0.hasPrefix("TracerPid:") && !$0.hasSuffix("\t0") }
        }
    }

    private func living(_ labels: [String]) -> [String] {
        let table = ProcessTable.current()
        return labels.filter { !pids($0, in: table).isEmpty }
    }

    private func signal(_ label: String, _ number: Int32) {
        for pid in pids(label) { kill(pid, number) }
    }

    private func path(_ label: String) -> String { "\(folder)/\(label)" }
}
