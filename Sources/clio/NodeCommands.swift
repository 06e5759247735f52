// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import ClusterModel
import Foundation
import Rados
import RelayDriver
import Target

struct NodeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "node", abstract: "Check this machine, start or stop serving a group, or have another do so.",
        subcommands: [
            NodeBootstrap.self, NodeUp.self, NodeDown.self, NodeDrain.self, NodeResume.self, NodeRemove.self,
        ])
}

struct NodeUp: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "up", abstract: "Make this machine serve the group.",
        discussion: """
            Starts cliod, which joins the group, loads modules, mounts configfs, maps images, and builds LIO's tree; returns when
            hosts are served. From then on cliod takes on each change of the group by itself; with a cliod that runs, the
            command has it do so now, and says what it did: what is right is left as it is, and a second run changes nothing.
            When a LUN cannot be built the others are, and cliod goes on trying.
            """)

    @Option(help: ArgumentHelp("This machine's name in the group (default: its host name).", valueName: "name"))
    var node: String?

    @Option(help: ArgumentHelp("Longest wait until hosts are served, seconds, 1 to 3600.", valueName: "seconds"))
    var wait = 60

    @Flag(
        help: ArgumentHelp(
            "Build without cliod, for a node that has the group for itself: nothing keeps it in step with other nodes.")
    )
    var alone = false

    @Flag(help: "Print what was done as JSON.")
    var json = false

    @OptionGroup var ceph: CephOptions
    @OptionGroup var group: GroupOption

    func validate() throws {
        guard (1...3600).contains(wait) else { throw ValidationError("--wait is 1 to 3600 seconds") }
    }

    func run() async throws {
        try await reporting {
            try Gateway.requireRoot("up")
            let cluster = try await ceph.connect()
            let store = try await ceph.store(group.group, in: cluster)
            let stored = try await store.load().stored
            let name = try Gateway.nodeName(node, in: stored.config)
            if let drained = stored.drained?[name] { throw DrainedNode(name: name, change: drained) }
            let quiet = json
            if alone {
                let report = try await Gateway().up(
                    node: name, stored: stored, cluster: cluster, claim: store.claim,
                    members: try await MemberStatus.clients(of: stored, in: store.pool)
                ) {
                    if !quiet { tell($0) }
                }
                return try finish(report, json: json, summary: summary(name, stored.version, report))
            }
            let relay = LocalRelay(group: group.group)
            if let answer = try relay.give(.reload) {
                let report = Gateway.Report(answer)
                if !quiet { for change in report.changes { tell(change) } }
                guard report.problems.isEmpty else { return try finish(report, json: json, summary: "") }
                let now = try await relay.awaitServing(.seconds(wait)) { if !quiet { tell($0) } }
                let text = report.targets > 0 ? summary(name, now.version, report) : summary(now)
                return try finish(report, json: json, summary: text)
            }
            // What keeps cliod from starting, or from serving anything, is best said here.
            var report = try Gateway().prepare { if !quiet { tell($0) } }
            if let unusable = try CephAccess.keyType(for: cluster.options)?.unusable { throw unusable }
            if !quiet { tell("start cliod") }
            try relay.start(arguments(name))
            report.changes.append("started cliod")
            let now = try await relay.awaitServing(.seconds(wait)) { if !quiet { tell($0) } }
            report.problems += now.problems.map(\.text)
            try finish(report, json: json, summary: summary(now))
        }
    }

    private func summary(_ now: NodeReport) -> String {
        "node \(now.node) serves group \"\(group.group)\" (version \(now.version)) as instance \(now.instance)"
    }

    private func arguments(_ name: String) -> [String] {
        var out = ["--group", group.group, "--node", name, "--pool", ceph.pool, "--ceph-conf", ceph.cephConf]
        if let id = ceph.id { out += ["--id", id] }
        if let keyring = ceph.keyring { out += ["--keyring", keyring] }
        return out
    }

    private func summary(_ name: String, _ version: Int, _ report: Gateway.Report) -> String {
        "node \(name) serves \(report.luns) LUN\(report.luns == 1 ? "" : "s") of group "
            + "\"\(group.group)\" (version \(version)) through \(report.targets) "
            + "target\(report.targets == 1 ? "" : "s") with \(report.ports) port\(report.ports == 1 ? "" : "s")"
    }
}

struct NodeDown: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "down", abstract: "Stop serving the group on this machine.",
        discussion: """
            Has cliod leave the group in order: hosts are told to use other paths, what runs is finished, the ports are closed,
            what Clio built in LIO is removed, the images are unmapped, and cliod ends. Modules stay loaded. Where no cliod
            runs, the other nodes take this one for dead and fence it; without Ceph, what is the group's is known by its names.

            Commands that Ceph does not answer keep a node from leaving. After half a minute the command fails then, and names
            them; the other nodes fence this one meanwhile, and cliod goes on leaving.

            The next boot, or clio node up, brings the node back; to keep it out, drain it (clio node drain), or say
            systemctl disable cliod@GROUP.
            """)

    @Option(help: ArgumentHelp("This machine's name in the group; only checked.", valueName: "name"))
    var node: String?

    @Flag(help: "Print what was done as JSON.")
    var json = false

    @OptionGroup var ceph: CephOptions
    @OptionGroup var group: GroupOption

    func run() async throws {
        try await reporting {
            try Gateway.requireRoot("down")
            let summary = "this machine serves nothing of group \"\(group.group)\""
            let relay = LocalRelay(group: group.group)
            if relay.isRunning {
                if !json { tell("leave the group") }
                if let answer = try relay.give(.leave) {
                    var report = Gateway.Report(answer)
                    await relay.awaitEnd(.seconds(5))
                    if !relay.isRunning { report.changes.append("left the group") }
                    return try finish(report, json: json, summary: summary)
                }
            }
            var stored: StoredGroup?
            do {
                stored = try await ceph.store(group.group, in: try await ceph.connect()).load().stored
            } catch {
                complain("clio: \(error)\nclio: going on without the group's configuration")
            }
            if let stored, let node { _ = try Gateway.nodeName(node, in: stored.config) }
            let quiet = json
            let report = try Gateway().down(group: group.group, stored: stored) { if !quiet { tell($0) } }
            try finish(report, json: json, summary: summary)
        }
    }
}

/// Prints what was done and what was not; throws if something did not work.
private func finish(_ report: Gateway.Report, json: Bool, summary: String) throws {
    if json {
        struct Output: Encodable {
            let changes: [String]
            let problems: [String]
            let skipped: [String]
        }
        try printJSON(Output(changes: report.changes, problems: report.problems, skipped: report.skipped))
    }
    for problem in report.problems { complain("clio: \(problem)") }
    for step in report.skipped { complain("clio: skipped because of that: \(step)") }
    guard report.problems.isEmpty, report.skipped.isEmpty else { throw Exit.failed }
    if !json { print(report.changes.isEmpty ? "nothing to change: \(summary)" : summary) }
}

struct StatusCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Show the group's nodes, and what this machine serves.",
        discussion: """
            For each node: its member record, what its cliod says of itself, which version of the group it has taken on, and
            what of it does not work, why, and since when. Who has LUNs reserved, and how. For this machine: modules, images, \
            ports, sessions. Works without Ceph too, and shows then what LIO has.
            """)

    @Option(help: ArgumentHelp("This machine's name in the group (default: its host name).", valueName: "name"))
    var node: String?

    @Flag(help: "Print JSON.")
    var json = false

    @OptionGroup var ceph: CephOptions
    @OptionGroup var group: GroupOption

    func run() async throws {
        try await reporting {
            var stored: StoredGroup?
            var members: [MemberStatus] = []
            var reservations: [ReservationReport] = []
            var problems: [String] = []
            var code = Exit.noCeph
            var client: Cluster.Options?
            do {
                let cluster = try await ceph.connect()
                client = cluster.options
                stored = try await ceph.store(group.group, in: cluster).load().stored
                if let stored {
                    members = try await MemberStatus.all(of: stored, in: cluster.pool(ceph.pool))
                    reservations = await ReservationReport.all(of: stored, in: cluster, &problems)
                }
            } catch let error as InvalidGroup {
                throw error
            } catch {
                if error is GroupStore.Failure { code = Exit.failed }
                problems.append("\(error)")
            }
            var name: String?
            if let stored {
                do {
                    name = try Gateway.nodeName(node, in: stored.config)
                } catch {
                    if node != nil { throw error }
                    problems.append("\(error)")
                }
            }
            if name != nil, let client, let unusable = (try? CephAccess.keyType(for: client))??.unusable {
                problems.append("\(unusable)")
            }
            var status = Gateway().status(group: group.group, node: name, stored: stored)
            status.problems = problems + status.problems
            if json {
                try printJSON(Output(members: members, reservations: reservations, local: status))
            } else {
                show(status, members, reservations)
            }
            for problem in status.problems { complain("clio: \(problem)") }
            if stored == nil { throw code }
        }
    }

    /// The machine's own state with what concerns the group beside it.
    private struct Output: Encodable {
        let members: [MemberStatus]
        let reservations: [ReservationReport]
        let local: GatewayStatus

        private enum CodingKeys: CodingKey { case members, reservations }

        func encode(to encoder: any Encoder) throws {
            try local.encode(to: encoder)
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(members, forKey: .members)
            try container.encode(reservations, forKey: .reservations)
        }
    }

    private func show(_ status: GatewayStatus, _ members: [MemberStatus], _ reservations: [ReservationReport]) {
        let version = status.version.map { "version \($0)" } ?? "version unknown"
        print(
            "group \(status.group), \(version); node \(status.node ?? "-"); kernel \(status.kernel)"
                + (status.bound.map { "; F = \($0) s" } ?? ""))
        if let pending = status.pending {
            print(pending.isEmpty ? "in step with the group" : "not in step with the group; clio node up would:")
            for step in pending { print("  \(step)") }
        }
        printTable(
            "Nodes",
            [
                "node", "record", "relay", "for", "version", "lease", "age s", "left s", "beat", "sessions", "sent",
                "acked",
                "late",
                "refused", "applied",
            ],
            members.map { member in
                let report = member.report
                func number(_ value: (some BinaryInteger)?) -> String { value.map { String($0) } ?? "-" }
                func seconds(_ value: Double?) -> String { value.map { String(format: "%.1f", $0) } ?? "-" }
                return [
                    member.node + (member.node == status.node ? " (this)" : ""), member.state,
                    report?.phase ?? (member.drained == nil ? "no answer" : "drained"),
                    (member.since ?? member.drained?.time).map(PassedTime.text) ?? "-", number(report?.version),
                    number(report?.epoch),
                    seconds(report?.leaseAge),
                    seconds(report?.leaseLeft), number(member.beat), number(report?.sessions),
                    number(report?.events.sent), number(report?.events.acknowledged), number(report?.events.late),
                    number(report?.events.refused), number(report?.events.applied),
                ]
            })
        for member in members {
            if let drained = member.drained {
                print(
                    "\nnode \(member.node) is drained for \(PassedTime.text(since: drained.time)), from \(drained.host) "
                        + "(\(drained.command))")
            }
            guard let report = member.report else { continue }
            if let version = status.version, report.version != version, report.isServing {
                let since = PassedTime.text(since: report.versionSince)
                print("\nnode \(member.node) still serves version \(report.version) (since \(since))")
            }
            guard !report.problems.isEmpty else { continue }
            print("\nWhat does not work on node \(member.node)")
            for problem in report.problems {
                print("  for \(PassedTime.text(since: problem.since)): \(problem.text)")
            }
        }
        if !reservations.isEmpty {
            printTable(
                "Reservations", ["lun", "image", "reserved", "holder", "registrations"],
                reservations.map { report in
                    [
                        String(report.lun), report.image, report.kind, report.holders.joined(separator: " "),
                        String(report.registrations.count),
                    ]
                })
        }
        printTable(
            "Modules", ["name", "state", "version"], status.modules.map { [$0.name, $0.state, $0.version ?? "-"] })
        printTable(
            "LUNs", ["lun", "image", "device", "MiB", "backstore", "naa"],
            status.luns.map { lun in
                [
                    String(lun.lun), lun.image, lun.device ?? "not mapped", lun.size.map { String($0 >> 20) } ?? "-",
                    lun.backstore ?? "none", lun.naa ?? "-",
                ]
            })
        printTable(
            "Ports", ["target", "port", "node", "state", "portals", "luns"],
            status.ports.map { port in
                [
                    port.iqn, String(port.number), port.node + (port.own ? " (this)" : ""), port.state,
                    port.portals.joined(separator: " "), port.luns.map(String.init).joined(separator: " "),
                ]
            })
        printTable(
            "Sessions", ["target", "port", "host", "address"],
            status.sessions.map { [$0.iqn, String($0.port), $0.host, $0.address ?? "-"] })
    }
}
