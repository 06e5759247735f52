// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import ClusterModel
import Foundation
import Migration
import Rados
import SystemPackage
import Target

struct ImportCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "import", abstract: "Make a group file of another system's configuration.",
        discussion: """
            The group file goes to standard output, or to the file named by --output, which only its owner may read: it
            holds CHAP secrets. Standard error says what could not be carried over, and what has to be mended in the
            file before `clio apply` takes it; in that case the exit status is 1. Nothing is changed in Ceph.
            """,
        subcommands: [ImportLRBD.self, ImportCephISCSI.self, ImportTargetcli.self])
}

struct ImportOptions: ParsableArguments {
    @OptionGroup var group: GroupOption

    @Option(name: [.short, .long], help: ArgumentHelp("Write a new file instead.", valueName: "path"))
    var output: String?

    /// Writes the group file and the report.
    func finish(_ imported: Imported) throws {
        try writeText(GroupFile.format(imported.group, secrets: true), to: output)
        for note in imported.notes { complain("note: \(note)") }
        for problem in imported.remaining { complain("to mend: \(problem.text)") }
        if !imported.remaining.isEmpty { throw Exit.failed }
    }
}

struct ImportLRBD: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lrbd", abstract: "Import what `lrbd -o` prints.")

    @Argument(help: ArgumentHelp("lrbd's JSON; - for standard input.", valueName: "file"))
    var file: String

    @OptionGroup var options: ImportOptions

    func run() async throws {
        try await reporting {
            try options.finish(
                try naming(file) { text throws(InvalidGroup) in try Importer.lrbd(text, group: options.group.group) })
        }
    }
}

struct ImportCephISCSI: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ceph-iscsi", abstract: "Import ceph-iscsi's object gateway.conf.",
        discussion: "Get the object with: rados -p rbd get gateway.conf FILE")

    @Argument(help: ArgumentHelp("The object's content; - for standard input.", valueName: "file"))
    var file: String

    @OptionGroup var options: ImportOptions

    func run() async throws {
        try await reporting {
            try options.finish(
                try naming(file) { text throws(InvalidGroup) in
                    try Importer.cephISCSI(text, group: options.group.group)
                })
        }
    }
}

struct ImportTargetcli: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "targetcli", abstract: "Import what targetcli saved on one or more nodes.",
        discussion: """
            targetcli keeps its file in /etc/target/saveconfig.json or /etc/rtslib-fb-target/saveconfig.json. It does not
            say which node it is of, so each is given as NODE=FILE.
            """)

    @Argument(help: ArgumentHelp("A node's name and its saveconfig.json.", valueName: "node=file"))
    var files: [String]

    @OptionGroup var options: ImportOptions

    func validate() throws { _ = try named() }

    private func named() throws -> [(node: String, file: String)] {
        var out: [(node: String, file: String)] = []
        for text in files {
            guard let equals = text.firstIndex(of: "="), equals != text.startIndex,
                text.index(after: equals) != text.endIndex
            else { throw ValidationError("\"\(text)\": say which node the file is of: NODE=FILE") }
            let node = String(text[..<equals])
            guard !out.contains(where: { $0.node == node }) else {
                throw ValidationError("node \(node) is named twice: a node has one saveconfig.json")
            }
            out.append((node, String(text[text.index(after: equals)...])))
        }
        return out
    }

    func run() async throws {
        try await reporting {
            let texts = try named().map { (node: $0.node, text: try readText($0.file)) }
            try options.finish(try Importer.targetcli(texts, group: options.group.group))
        }
    }
}

struct ExportCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export", abstract: "Make another system's configuration of a group.",
        subcommands: [ExportTargetcli.self])
}

struct ExportTargetcli: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "targetcli", abstract: "Make the saveconfig.json of one node.",
        discussion: """
            For `targetcli restoreconfig FILE` on that node, with its images mapped at /dev/rbd/POOL/IMAGE. Without Clio
            only one node may export the images. The file holds CHAP secrets.
            """)

    @Option(help: ArgumentHelp("The node whose part of the group it is.", valueName: "name"))
    var node: String

    @Option(name: [.short, .long], help: ArgumentHelp("Write a new file instead.", valueName: "path"))
    var output: String?

    @OptionGroup var ceph: CephOptions
    @OptionGroup var group: GroupOption

    func run() async throws {
        try await reporting {
            let store = try await ceph.store(group.group, in: try await ceph.connect())
            let stored = try await store.load().stored
            guard let found = stored.config.nodes.first(where: { $0.name == node }) else {
                complain(
                    "clio: there is no node \"\(node)\" in group \"\(store.group)\"; it has "
                        + stored.config.nodes.map(\.name).joined(separator: ", "))
                throw Exit.failed
            }
            let (text, notes) = try Exporter.targetcli(stored.config, node: found, ports: stored.ports)
            try writeText(text, to: output)
            for note in notes { complain("note: \(note)") }
        }
    }
}

/// Reads a file and has it understood; what is wrong is said with the file's name and line.
private func naming(
    _ file: String, _ read: (String) throws(InvalidGroup) -> Imported
) throws -> Imported {
    let text = try readText(file)
    do {
        return try read(text)
    } catch {
        complain(error.problems, in: file)
        throw Exit.badGroup
    }
}

/// Writes what holds secrets: to standard output, or into a new file of its owner's alone.
func writeText(_ text: String, to path: String?) throws {
    guard let path else {
        print(text, terminator: "")
        return
    }
    do {
        let file = try FileDescriptor.open(
            FilePath(path), .writeOnly, options: [.create, .exclusiveCreate], permissions: .ownerReadWrite)
        try file.closeAfter { _ = try file.writeAll(text.utf8) }
    } catch Errno.fileExists {
        complain("clio: \(path) is there already; remove it or choose another name")
        throw Exit.failed
    } catch let error as Errno {
        complain("clio: cannot write \(path): \(error)")
        throw Exit.failed
    }
}
