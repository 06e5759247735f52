// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import ClusterModel
import Foundation
import Rados
import RelayDriver
import SystemPackage
import Target

struct GroupCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "group", abstract: "Create and delete groups.", subcommands: [GroupInit.self, GroupRemove.self])
}

struct GroupRemove: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "remove", abstract: "Delete a group that no node serves any more.",
        discussion: """
            Its configuration goes with all versions that are kept, and its images are free for another group. They stay, with
            their data and the registrations of hosts; so does the gateways' Ceph client (ceph auth rm client.clio).
            """)

    @Argument(help: ArgumentHelp("The group.", valueName: "name"))
    var name: String

    @Flag(help: "Also if nodes that do not answer have not been fenced: their Ceph clients are put on the blocklist.")
    var force = false

    @OptionGroup var ceph: CephOptions

    private struct Refused: Error, CustomStringConvertible { let description: String }

    func run() async throws {
        try await reporting {
            let cluster = try await ceph.connect()
            let store = try await ceph.store(name, in: cluster)
            let snapshot = try await store.load()
            let unsettled = try await MemberStatus.all(of: snapshot.stored, in: store.pool).filter(\.isUnsettled)
            for member in unsettled {
                guard force, member.report == nil else {
                    throw Refused(
                        description: "group \"\(name)\": node \(member.node) "
                            + (member.report == nil
                                ? "is \(member.state) and does not answer: once its machine is off, use --force"
                                : "serves hosts: drain it first (clio node drain \(member.node) --group \(name))"))
                }
            }
            for client in unsettled.flatMap(\.clients) { try await cluster.blocklist(client) }
            try await store.remove(snapshot)
            for problem in await store.claim.release(snapshot.stored.config.luns, in: cluster) {
                complain("clio: \(problem)")
            }
            print(
                "deleted group \"\(name)\" (\(store.place)); on each of its gateways: systemctl disable cliod@\(name)")
        }
    }
}

struct GroupInit: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "init", abstract: "Create an empty group in RADOS, and the Ceph client that its gateways are.",
        discussion: """
            To be run once, as an administrator of the cluster. Makes the Ceph client that gateways are, with the least caps that
            work, prints those caps, and writes its keyring beside Ceph's configuration: copy it to each gateway, where clio
            and cliod use it by themselves. What is there already is left as it is, which is no error; a client that
            lacks caps, such as those for another --image-pool, is given them.
            """)

    @Option(help: ArgumentHelp("The gateways' Ceph client, without \"client.\".", valueName: "name"))
    var client = GatewayClient.defaultName

    @Option(
        help: ArgumentHelp(
            "Pool with images, or with their data (rbd create --data-pool), besides the group's; can be given more than once.",
            valueName: "name"))
    var imagePool: [String] = []

    @Option(
        help: ArgumentHelp(
            "Where to write the client's keyring (default: where Ceph looks for it, beside its configuration).",
            valueName: "path"))
    var keyringFile: String?

    @Option(
        help: ArgumentHelp(
            "Type of the client's key if it is made anew: aes, or aes256k, which takes Linux 7.0 and Ceph 19.2.6 or 20.2.4 on "
                + "each gateway.", valueName: "type"))
    var keyType = "aes"

    @Flag(help: "Make no Ceph client: gateways are one that is there already.")
    var noClient = false

    @OptionGroup var ceph: CephOptions
    @OptionGroup var group: GroupOption

    func validate() throws {
        guard wanted != nil else { throw ValidationError("--key-type is aes or aes256k") }
    }

    private var wanted: CephKeyType? { [.aes, .aes256k].first { $0.description == keyType } }

    func run() async throws {
        try await reporting {
            let name = group.group
            let cluster = try await ceph.connect(as: "admin")
            let store = try await ceph.store(name, in: cluster)
            if !noClient { try await makeClient(in: cluster) }
            do {
                _ = try await store.create()
                print("created group \"\(name)\" (\(store.place)); describe it with: clio apply -f group.yaml")
            } catch let error as GroupStore.Failure {
                guard case .exists = error else { throw error }
                print("nothing to do: \(error)")
            }
        }
    }

    private func makeClient(in cluster: Cluster) async throws {
        var pools: [String] = []
        for pool in [ceph.pool] + imagePool where !pools.contains(pool) {
            // A pool that is not there is a slip of the pen.
            _ = try await cluster.pool(pool)
            pools.append(pool)
        }
        let made: GatewayClient
        do {
            made = try await GatewayClient.make(client, pools: pools, keyType: wanted ?? .aes, in: cluster)
        } catch let error as RadosError {
            guard error.kind == .notPermitted else { throw error }
            let caps = ClientCaps(pools: pools)
            complain(
                "clio: client.\(cluster.options.id) may not make client.\(client), and the group is not made without it; as an "
                    + "administrator of the cluster (--id admin), run this again, or\n"
                    + "  ceph auth get-or-create client.\(client) mon '\(caps.mon)' osd '\(caps.osd)'\n"
                    + "(from Ceph 19.2.6 and 20.2.4 on with --key-type=\(keyType)) "
                    + "and then this with --no-client")
            throw Exit.noCeph
        }
        let what = made.isNew ? "created" : made.isExtended ? "extended" : "found"
        print("\(what) Ceph client.\(client), with the caps mon '\(made.caps.mon)', osd '\(made.caps.osd)'")
        if made.isExtended {
            print("gateways that run have these after clio node down and clio node up, on one after the other")
        }
        if let type = made.keyType, type != wanted {
            complain(
                "clio: the key of client.\(client) is of type \(type)"
                    + (type == .aes256k
                        ? ", which no gateway can use before Linux 7.0 and Ceph 19.2.6 or 20.2.4" : "")
                    + "; to change that: ceph auth rotate --key-type=\(keyType) client.\(client), this once more, and its "
                    + "keyring to each gateway")
        }
        let path =
            keyringFile.map { FilePath($0) } ?? CephAccess.keyringPath(of: client, beside: ceph.cephConf)
        if try made.writeKeyring(to: path) {
            print("wrote its keyring to \(path), for root only; each gateway needs it there")
        }
    }
}

struct Apply: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Make a group be what a file says.",
        discussion: """
            Checks the file and the images it names, and replaces the group's configuration in RADOS if nobody else changed
            it since it was read. The nodes' cliods take it on by themselves, object by object; `clio status` shows how far
            each has come.
            """)

    @Option(
        name: [.customShort("f"), .long],
        help: ArgumentHelp("Group file, YAML or JSON; - for standard input.", valueName: "path"))
    var file: String

    @Flag(help: "Only show what would change.")
    var dryRun = false

    @Flag(help: "Apply although images are not there yet: nodes serve them as soon as they are.")
    var allowMissingImages = false

    @Option(
        help: ArgumentHelp(
            "Wait until the nodes that are up have taken it on, and say what does not work there; 0 to 3600.",
            valueName: "seconds"))
    var wait = 0

    @OptionGroup var ceph: CephOptions

    @Option(help: ArgumentHelp("The group (default: the one the file names).", valueName: "name"))
    var group: String?

    func validate() throws {
        guard (0...3600).contains(wait) else { throw ValidationError("--wait is 0 to 3600 seconds") }
    }

    func run() async throws {
        try await reporting {
            let label = file == "-" ? "standard input" : file
            let wanted = try parseGroup(readText(file), of: file)
            let cluster = try await ceph.connect()
            let store = try await ceph.store(group ?? wanted.name, in: cluster)
            let snapshot = try await store.load()
            let images: [String: ImageIdentity]
            do {
                images = try await identities(of: wanted, in: cluster, allowingMissing: allowMissingImages)
            } catch let error as InvalidGroup {
                complain(error.problems, in: label)
                throw Exit.badGroup
            }
            let complete = try wanted.completed(fsid: cluster.fsid, images: images, previous: snapshot.stored.config)
            let change = GroupChange(store: store, snapshot: snapshot, dryRun: dryRun)
            guard let next = try await change.commit(complete, command: "clio apply -f \(file)") else { return }
            if snapshot.stored.version == 1 || snapshot.stored.config.timing != next.config.timing {
                print(next.config.timing.hostSettings)
            }
            if wait > 0 { try await follow(next, in: try await cluster.pool(ceph.pool)) }
        }
    }

    /// Waits until the group's nodes have taken a version on.
    private func follow(_ stored: StoredGroup, in pool: Pool) async throws {
        let deadline = ContinuousClock.now + .seconds(wait)
        var reports: [String: NodeReport] = [:]
        var late: [MemberStatus] = []
        repeat {
            let members = try await MemberStatus.all(of: stored, in: pool)
            for member in members { reports[member.node] = member.report }
            late = members.filter {
                $0.state == "up" && ($0.report?.version ?? 0) < stored.version
            }
            if late.isEmpty { break }
            try await Task.sleep(for: .milliseconds(250))
        } while ContinuousClock.now < deadline
        var failed = false
        for node in stored.config.nodes.map(\.name) {
            guard let report = reports[node] else { continue }
            if !late.contains(where: { $0.node == node }) {
                tell("node \(node) has taken on version \(report.version)")
            }
            for problem in report.problems {
                complain("clio: node \(node): \(problem.text)")
                failed = true
            }
        }
        for member in late {
            let version = member.report.map { "it is at version \($0.version)" } ?? "its cliod does not answer"
            complain("clio: node \(member.node) has not taken on version \(stored.version) after \(wait) s: \(version)")
            failed = true
        }
        if failed { throw Exit.failed }
    }
}

/// Checks the text of a group file; says what is wrong with it.
func parseGroup(_ text: String, of file: String, secretsOf known: Group? = nil) throws -> Group {
    do {
        return try GroupFile.parse(text, secretsOf: known)
    } catch {
        complain(error.problems, in: file)
        throw Exit.badGroup
    }
}

struct Get: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Print a group as YAML, fit to be edited and applied.",
        discussion: "CHAP secrets are shown as asterisks, which `clio apply` refuses, unless --show-secrets is given.")

    @Flag(help: "Print CHAP secrets.")
    var showSecrets = false

    @Flag(help: "Print JSON, with version, ports and image ids, as it is kept in RADOS.")
    var json = false

    @OptionGroup var ceph: CephOptions
    @OptionGroup var group: GroupOption

    func run() async throws {
        try await reporting {
            let store = try await ceph.store(group.group, in: try await ceph.connect())
            var stored = try await store.load().stored
            if json {
                if !showSecrets { stored.config.redact() }
                try printJSON(stored)
            } else {
                print("# version \(stored.version)")
                for port in stored.ports where !port.retired {
                    print("# port \(port.number): \(port.name) on \(port.node)")
                }
                print(GroupFile.format(stored.config, secrets: showSecrets), terminator: "")
            }
        }
    }
}
