// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import ClusterModel
import Foundation
import RBD
import Rados
import SystemPackage
import Target
import TextTable

/// Options of every command that talks to Ceph.
struct CephOptions: ParsableArguments {
    static let usualConfiguration = "/etc/ceph/ceph.conf"
    static let usualPool = "rbd"

    @Option(help: ArgumentHelp("Ceph's configuration.", valueName: "path"))
    var cephConf = CephOptions.usualConfiguration

    @Option(
        help: ArgumentHelp(
            "Ceph client to be, without \"client.\" (default: clio if its keyring is beside Ceph's configuration, else admin).",
            valueName: "name"))
    var id: String?

    @Option(
        help: ArgumentHelp(
            "File with the client's key (default: the one Ceph's configuration names).", valueName: "path"))
    var keyring: String?

    @Option(help: ArgumentHelp("Pool that holds the group.", valueName: "name"))
    var pool = CephOptions.usualPool

    @Option(help: ArgumentHelp("Longest wait for Ceph to answer, seconds, 1 to 600.", valueName: "seconds"))
    var timeout = 10

    func validate() throws {
        guard (1...600).contains(timeout) else { throw ValidationError("--timeout is 1 to 600 seconds") }
    }

    /// - Parameter user: whom to be unless the command line says.
    func connect(as user: String? = nil) async throws -> Cluster {
        // librados wakes its threads through pipes, also while it shuts down.
        signal(SIGPIPE, SIG_IGN)
        return try await CephAccess.connect(options(as: user))
    }

    /// How ``connect(as:)`` connects.
    func options(as user: String? = nil) -> Cluster.Options {
        let bound = Duration.seconds(timeout)
        return CephAccess.options(
            configuration: cephConf, id: id ?? user, keyring: keyring,
            timeouts: Cluster.Timeouts(connect: bound, monitor: bound, osd: bound))
    }

    /// The store of a group.
    ///
    /// - Throws: `InvalidGroup` for a name that no group can have.
    func store(_ group: String, in cluster: Cluster) async throws -> GroupStore {
        let problems = ClusterModel.Group(name: group).problems(complete: false)
        if !problems.isEmpty { throw InvalidGroup(problems) }
        return GroupStore(pool: try await cluster.pool(pool), group: group)
    }
}

/// The group, for commands that do not read its name from a file.
struct GroupOption: ParsableArguments {
    @Option(help: ArgumentHelp("The group.", valueName: "name"))
    var group = "default"
}

/// Prints a line of progress, at once even into a pipe.
func tell(_ text: String) {
    print(text)
    fflush(nil)
}

/// Writes to standard error.
func complain(_ text: String) { FileHandle.standardError.write(Data((text + "\n").utf8)) }

/// Writes what is wrong with a file to standard error, with name and line.
func complain(_ problems: [Problem], in file: String) {
    let label = file == "-" ? "standard input" : file
    for problem in problems { complain("\(label)\(problem.line.map { ":\($0)" } ?? ""): \(problem.text)") }
}

/// The text of a file, `-` for standard input.
func readText(_ file: String) throws -> String {
    var bytes: [UInt8] = []
    do {
        let source = file == "-" ? .standardInput : try FileDescriptor.open(FilePath(file), .readOnly)
        defer { if file != "-" { try? source.close() } }
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = try buffer.withUnsafeMutableBytes { try source.read(into: $0) }
            if count == 0 { break }
            bytes += buffer[..<count]
        }
    } catch {
        complain("clio: cannot read \(file == "-" ? "standard input" : file): \(error)")
        throw Exit.badGroup
    }
    guard let text = String(validating: bytes, as: UTF8.self) else {
        complain("\(file == "-" ? "standard input" : file): is not UTF-8 text")
        throw Exit.badGroup
    }
    return text
}

/// Runs a command's body; says what went wrong and turns it into the exit status.
func reporting(_ body: () async throws -> Void) async throws {
    do {
        try await body()
    } catch let error as ExitCode {
        throw error
    } catch let error as InvalidGroup {
        for problem in error.problems { complain("clio: \(problem)") }
        throw Exit.badGroup
    } catch let error as GroupStore.Failure {
        complain("clio: \(error)")
        if case .changed = error { throw Exit.changed }
        throw Exit.failed
    } catch let error as RadosError {
        complain("clio: \(error)")
        throw Exit.noCeph
    } catch let error as RBDError {
        complain("clio: \(error)")
        throw Exit.noCeph
    } catch {
        complain("clio: \(error)")
        throw Exit.failed
    }
}

/// Prints a value as JSON with sorted keys.
func printJSON(_ value: some Encodable) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
    print(String(decoding: try encoder.encode(value), as: UTF8.self))
}

/// A table with a heading; says so if it is empty.
func printTable(_ heading: String, _ columns: [String], _ rows: [[String]]) {
    print("\n\(heading)")
    guard !rows.isEmpty else {
        print("  none")
        return
    }
    let table = TextTable<[String]> { row in
        zip(columns, row).map { Column(title: $0, value: $1) }
    }
    print(table.string(for: rows, style: Style.plain) ?? "")
}

/// How long ago something was.
enum PassedTime {
    /// - Parameter since: seconds since 1970.
    static func text(since: Double) -> String {
        let seconds = Int(min(max(0, Date().timeIntervalSince1970 - since), 1e12))
        switch seconds {
        case ..<120: return "\(seconds) s"
        case ..<7200: return "\(seconds / 60) min"
        case ..<172_800: return "\(seconds / 3600) h"
        default: return "\(seconds / 86400) days"
        }
    }
}
