// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import ClusterModel
import Foundation
import RelayDriver
import Target

struct HistoryCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "history", abstract: "Show a group's versions: when, where and by what it was changed.",
        discussion: "The last \(GroupStore.kept) versions before the present one are kept in RADOS.")

    @Option(help: ArgumentHelp("Show at most so many, 1 to \(GroupStore.kept + 1).", valueName: "count"))
    var limit = 20

    @Flag(help: "Print JSON.")
    var json = false

    @OptionGroup var ceph: CephOptions
    @OptionGroup var group: GroupOption

    func validate() throws {
        guard (1...GroupStore.kept + 1).contains(limit) else {
            throw ValidationError("--limit is 1 to \(GroupStore.kept + 1)")
        }
    }

    private struct Row: Encodable {
        let version: Int
        let change: StoredGroup.Change?
        /// What is different from the version before; `nil` if that is not kept.
        let changes: [String]?
    }

    func run() async throws {
        try await reporting {
            let store = try await ceph.store(group.group, in: try await ceph.connect())
            let versions = try await store.history(of: try await store.load().stored, limit: limit + 1)
            let rows = versions.indices.prefix(limit).map { i in
                let older = i + 1 < versions.count ? versions[i + 1] : nil
                return Row(
                    version: versions[i].version, change: versions[i].change,
                    changes: older?.version == versions[i].version - 1 ? older?.changes(to: versions[i]) : nil)
            }
            if json { return try printJSON(rows) }
            for row in rows {
                let origin =
                    row.change.map {
                        let time = Date(timeIntervalSince1970: $0.time).ISO8601Format()
                        return "\(time) on \($0.host): \($0.command)"
                    } ?? (row.version == 1 ? "created" : "unknown origin")
                print("version \(row.version)  \(origin)")
                for line in row.changes ?? [] { print("    \(line)") }
            }
        }
    }
}

struct RollbackCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rollback", abstract: "Make a group be again what it was at an earlier version.",
        discussion:
            "That is a new version, too, and can be rolled back. Refused if an image was deleted or created anew meanwhile."
    )

    @Argument(help: ArgumentHelp("Which; see clio history.", valueName: "version"))
    var version: Int

    @Flag(help: "Only show what would change.")
    var dryRun = false

    @Flag(help: "Go back although images are not there any more.")
    var allowMissingImages = false

    @OptionGroup var ceph: CephOptions
    @OptionGroup var group: GroupOption

    func run() async throws {
        try await reporting {
            let cluster = try await ceph.connect()
            let store = try await ceph.store(group.group, in: cluster)
            let snapshot = try await store.load()
            let old = try await store.version(version, now: snapshot.stored).config
            let images = try await identities(of: old, in: cluster, allowingMissing: true)
            let wanted = try old.restored(version: version, images: images, allowingMissing: allowMissingImages)
                .completed(fsid: cluster.fsid, images: images, previous: snapshot.stored.config)
            for lun in old.luns where lun.imageID != nil && images[lun.image] == nil {
                complain(
                    "clio: LUN \(lun.lun): image \(lun.image) is not there; what comes by that name is a new disk to hosts, with "
                        + "a serial number of its own")
            }
            let change = GroupChange(store: store, snapshot: snapshot, dryRun: dryRun)
            _ = try await change.commit(wanted, command: "clio rollback \(version)")
        }
    }
}

struct PlanCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "plan", abstract: "Show what each node would do.",
        discussion: """
            With a file: to get from the group as it is to the file's. Without: to get from the version that the node says
            it has taken on to the present one. What was changed on a node by hand is not seen. A drained node does nothing.
            """)

    @Option(
        name: [.customShort("f"), .long],
        help: ArgumentHelp("Group file, YAML or JSON; - for standard input.", valueName: "path"))
    var file: String?

    @Option(help: ArgumentHelp("Only this node.", valueName: "name"))
    var node: String?

    @Flag(help: "Print JSON.")
    var json = false

    @OptionGroup var ceph: CephOptions

    @Option(help: ArgumentHelp("The group (default: the one the file names, or default).", valueName: "name"))
    var group: String?

    func run() async throws {
        try await reporting {
            let text = try file.map(readText)
            let cluster = try await ceph.connect()
            let store = try await ceph.store(group ?? text.flatMap(GroupFile.groupName) ?? "default", in: cluster)
            let now = try await store.load().stored
            var next = now
            var before: [String: StoredGroup] = [:]
            var unknown: [String: String] = [:]
            if let text, let file {
                let wanted = try parseGroup(text, of: file, secretsOf: now.config)
                let images = try await identities(of: wanted, in: cluster, allowingMissing: true)
                let complete = try wanted.completed(fsid: cluster.fsid, images: images, previous: now.config)
                next = try now.applying(complete) ?? now
                for node in now.config.nodes { before[node.name] = now }
            } else {
                for member in try await MemberStatus.all(of: now, in: try await cluster.pool(ceph.pool)) {
                    guard member.drained == nil, let version = member.report?.version, version > 0 else { continue }
                    do {
                        before[member.node] = try await store.version(version, now: now)
                    } catch GroupStore.Failure.forgotten {
                        unknown[member.node] = "not known: it is at version \(version), which is not kept any more"
                    }
                }
            }
            let names = next.config.nodes.map(\.name)
            let all = names + now.config.nodes.map(\.name).filter { !names.contains($0) }
            if let node, !all.contains(node) {
                complain(
                    "clio: group \"\(store.group)\" has no node \"\(node)\"; it has \(all.joined(separator: ", "))")
                throw Exit.failed
            }
            let plans = try all.filter { node == nil || $0 == node }.map { name in
                if let why = unknown[name] { return NodeForecast(node: name, note: why) }
                return try NodeForecast(node: name, from: before[name], to: next)
            }
            if json { return try printJSON(plans) }
            for plan in plans {
                let summary = plan.steps.isEmpty ? "nothing to do" : "\(plan.steps.count) steps"
                print("node \(plan.node): \(plan.note ?? summary)")
                for step in plan.steps { print("    \(step)") }
            }
        }
    }
}

struct EditCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "edit", abstract: "Change a group in an editor: $VISUAL, $EDITOR, or vi.",
        discussion: """
            CHAP secrets are shown as asterisks; those left so stay as they are. If the text is not valid, it can be edited
            again; the file of who gives up is kept.
            """)

    @Flag(help: "Only show what would change.")
    var dryRun = false

    @Flag(help: "Accept images that are not there yet.")
    var allowMissingImages = false

    @OptionGroup var ceph: CephOptions
    @OptionGroup var group: GroupOption

    func run() async throws {
        try await reporting {
            let cluster = try await ceph.connect()
            let store = try await ceph.store(group.group, in: cluster)
            let snapshot = try await store.load()
            let now = snapshot.stored
            let text = "# version \(now.version)\n" + GroupFile.format(now.config, secrets: false)
            let draft = try Draft(text)
            do {
                while true {
                    try draft.edit()
                    let edited = try readText(draft.path)
                    if edited == text {
                        print("nothing to change: group \"\(store.group)\" is at version \(now.version)")
                        break
                    }
                    do {
                        let wanted = try GroupFile.parse(edited, secretsOf: now.config)
                        let images = try await identities(
                            of: wanted, in: cluster, allowingMissing: allowMissingImages)
                        let complete = try wanted.completed(fsid: cluster.fsid, images: images, previous: now.config)
                        let change = GroupChange(store: store, snapshot: snapshot, dryRun: dryRun)
                        _ = try await change.commit(complete, command: "clio edit")
                        break
                    } catch let error as InvalidGroup {
                        complain(error.problems, in: draft.path)
                        complain("Press Enter to edit again, or n and Enter to give up:")
                        guard let answer = readLine(), !answer.lowercased().hasPrefix("n") else {
                            throw Exit.badGroup
                        }
                    }
                }
            } catch {
                complain("clio: nothing was changed; your text is in \(draft.path)")
                throw error
            }
            draft.remove()
        }
    }
}

/// A file to be edited, in a folder that only the user can read.
private struct Draft {
    private let folder: String
    var path: String { "\(folder)/group.yaml" }

    init(_ text: String) throws {
        let parent = ProcessInfo.processInfo.environment["TMPDIR"] ?? "/tmp"
        folder = "\(parent)/clio-edit-\(UUID().uuidString)"
        try FileManager.default.createDirectory(
            atPath: folder, withIntermediateDirectories: false, attributes: [.posixPermissions: 0o700])
        try Data(text.utf8).write(to: URL(fileURLWithPath: path))
    }

    func remove() { try? FileManager.default.removeItem(atPath: folder) }

    private struct EditorFailed: Error, CustomStringConvertible {
        let description: String
    }

    /// Runs the editor in the foreground of this terminal: Foundation's `Process` would give it a process group of its own.
    func edit() throws {
        let environment = ProcessInfo.processInfo.environment
        let editor = environment["VISUAL"] ?? environment["EDITOR"] ?? "vi"
        let arguments = ["sh", "-c", "\(editor) \"$1\"", "sh", path]
        var pointers: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
        defer { for pointer in pointers { free(pointer) } }
        var child: pid_t = 0
        let code = posix_spawn(&child, "/bin/sh", nil, nil, &pointers, environ)
        guard code == 0 else {
            throw EditorFailed(description: "cannot start /bin/sh: \(String(cString: strerror(code)))")
        }
        var status: Int32 = 0
        while waitpid(child, &status, 0) < 0, errno == EINTR {}
        guard status == 0 else {
            throw EditorFailed(description: "the editor \"\(editor)\" failed; choose another with EDITOR=")
        }
    }
}
