// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import ClusterModel
import Rados
import RelayDriver
import Target

/// `clio node up` on a node that is not to serve.
struct DrainedNode: Error, CustomStringConvertible {
    let name: String
    let change: StoredGroup.Change

    var description: String {
        "node \(name) was drained \(PassedTime.text(since: change.time)) ago from \(change.host) (\(change.command)): "
            + "clio node resume \(name) lets it serve again"
    }
}

struct NodeDrain: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "drain", abstract: "Have a node serve nothing until it is resumed.",
        discussion: """
            For maintenance: hosts are told to use other paths, what runs is finished, the ports are closed, and the node \
            leaves the group in order. It stays out, whatever is restarted on it, until clio node resume. Can be given from \
            any machine that reaches Ceph; returns when the node is out.
            """)

    @Flag(help: "Even the last node that serves: hosts lose the LUNs.")
    var force = false

    @OptionGroup var options: NodeOptions

    func run() async throws {
        try await reporting {
            let session = try await NodeSession(options)
            if !force { try await session.requireAnother(than: options.name) }
            let drain = "clio node drain \(options.name)"
            let changed = try await session.change(drain) { stored, change in
                try stored.draining(options.name, by: change)
            }
            try await session.awaitOut()
            print(changed ? "node \(options.name) is drained" : "nothing to change: node \(options.name) is drained")
        }
    }
}

struct NodeResume: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "resume", abstract: "Let a drained node serve again.",
        discussion: "Returns when hosts are served by it. Its cliod has to run, or to be started: clio node up.")

    @OptionGroup var options: NodeOptions

    func run() async throws {
        try await reporting {
            let session = try await NodeSession(options)
            let resume = "clio node resume \(options.name)"
            let changed = try await session.change(resume) { stored, _ in try stored.resuming(options.name) }
            try await session.awaitServing()
            print(changed ? "node \(options.name) serves again" : "nothing to change: node \(options.name) serves")
        }
    }
}

struct NodeRemove: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "remove", abstract: "Take a node out of the group, with its portals.",
        discussion: """
            The node has to be drained, or dead and fenced; with --force it is drained first. Its target port numbers are not \
            used again. On the machine itself, clio node down then takes away what may be left.
            """)

    @Flag(help: "Drain the node first, even if it is the last that serves.")
    var force = false

    @OptionGroup var options: NodeOptions

    func run() async throws {
        try await reporting {
            let session = try await NodeSession(options)
            let remove = "clio node remove \(options.name)"
            if try await session.member().isLive {
                guard force else {
                    throw NodeSession.Failure(
                        description: "node \(options.name) serves hosts: drain it first (clio node drain "
                            + "\(options.name)), or use --force, which does")
                }
                _ = try await session.change(remove) { stored, change in
                    try stored.draining(options.name, by: change)
                }
                try await session.awaitOut()
            }
            _ = try await session.change(remove) { stored, _ in
                try stored.applying(try stored.config.edited { try $0.removeAllPortals(node: options.name) }.group)
            }
            print("node \(options.name) is out of the group")
        }
    }
}

struct NodeOptions: ParsableArguments {
    @Argument(help: ArgumentHelp("The node.", valueName: "node"))
    var name: String

    @Option(help: ArgumentHelp("Longest wait until it is so, seconds, 1 to 3600.", valueName: "seconds"))
    var wait = 60

    @OptionGroup var ceph: CephOptions
    @OptionGroup var group: GroupOption

    func validate() throws {
        guard (1...3600).contains(wait) else { throw ValidationError("--wait is 1 to 3600 seconds") }
    }
}

/// Changes what one node of a group shall do, and looks whether it does.
private struct NodeSession {
    struct Failure: Error, CustomStringConvertible { let description: String }

    private let options: NodeOptions
    private let store: GroupStore
    private let pool: Pool

    init(_ options: NodeOptions) async throws {
        self.options = options
        let cluster = try await options.ceph.connect()
        store = try await options.ceph.store(options.group.group, in: cluster)
        pool = try await cluster.pool(options.ceph.pool)
    }

    /// Changes the group; once more if somebody else changes it meanwhile.
    ///
    /// - Returns: whether there was anything to change.
    func change(
        _ command: String, _ next: (StoredGroup, StoredGroup.Change) throws -> StoredGroup?
    ) async throws -> Bool {
        for attempt in 1... {
            let snapshot = try await store.load()
            guard let next = try next(snapshot.stored, GroupStore.change(by: command)) else { return false }
            do {
                try await store.replace(snapshot, with: next, command: command)
                return true
            } catch GroupStore.Failure.changed where attempt < 5 {
                continue
            }
        }
        return false
    }

    private func members() async throws -> [MemberStatus] {
        try await MemberStatus.all(of: try await store.load().stored, in: pool)
    }

    func member() async throws -> MemberStatus {
        guard let member = try await members().first(where: { $0.node == options.name }) else {
            throw Failure(
                description: "group \"\(options.group.group)\" has no node \"\(options.name)\"; clio status shows "
                    + "those it has")
        }
        return member
    }

    /// - Throws: ``Failure`` if no other node serves.
    func requireAnother(than name: String) async throws {
        let members = try await members()
        guard members.contains(where: { $0.node == name && $0.isLive }) else { return }
        guard !members.contains(where: { $0.node != name && $0.report?.isServing == true }) else { return }
        throw Failure(
            description: "node \(name) is the last that serves: hosts would lose the LUNs; start another one, or use "
                + "--force")
    }

    func awaitOut() async throws {
        try await patiently(
            { try await !member().isLive },
            otherwise: {
                "is not out of the group yet: \($0.state), " + ($0.report?.phase ?? "its cliod does not answer")
            })
    }

    func awaitServing() async throws {
        try await patiently(
            { try await member().report?.isServing == true },
            otherwise: {
                "does not serve yet: "
                    + ($0.report?.phase ?? "its cliod does not answer; clio node up there starts it, if need be")
            })
    }

    private func patiently(
        _ isSo: () async throws -> Bool, otherwise explain: (MemberStatus) -> String
    ) async throws {
        let deadline = ContinuousClock.now + .seconds(options.wait)
        while try await !isSo() {
            guard ContinuousClock.now < deadline else {
                let why = explain(try await member())
                throw Failure(description: "node \(options.name) \(why) (after \(options.wait) s)")
            }
            try await Task.sleep(for: .milliseconds(200))
        }
    }
}
