// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import ClusterModel
import Rados
import Target

struct NodeBootstrap: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bootstrap", abstract: "Check whether this machine can be a gateway, or make it one.",
        discussion: """
            Looks at kernel, modules, packages, clock, Ceph access, network and firewall, and says for each whether it is ok,
            and else what mends it. Changes nothing. Exit status 1 if something is missing.

            With --install, does it: installs the Debian packages that are missing, adds the node, or a portal of it, to the
            group with --portal, has systemd start cliod at boot, and brings the node up. If something is missing that it
            cannot mend (a kernel to boot, Ceph's configuration and key, an address, a firewall's rule) it says so, and the
            group stays as it is.
            """)

    @Option(help: ArgumentHelp("This machine's name in the group (default: its host name).", valueName: "name"))
    var node: String?

    @Flag(help: "Mend what is missing, and make this machine serve the group.")
    var install = false

    @Option(
        help: ArgumentHelp(
            "With --install: address that hosts reach this machine at, added if the group does not have it yet; more than "
                + "once for more.", valueName: "portal"))
    var portal: [String] = []

    @Option(help: ArgumentHelp("Longest wait until hosts are served, seconds, 1 to 3600.", valueName: "seconds"))
    var wait = 60

    @Flag(help: "Print JSON.")
    var json = false

    @OptionGroup var ceph: CephOptions
    @OptionGroup var group: GroupOption

    func validate() throws {
        guard (1...3600).contains(wait) else { throw ValidationError("--wait is 1 to 3600 seconds") }
        guard portal.isEmpty || install else { throw ValidationError("--portal is for --install") }
        guard !json || !install else {
            throw ValidationError("--json shows what is found; it does not go with --install")
        }
        for portal in portal {
            do { _ = try Portal(parsing: portal) } catch { throw ValidationError("--portal: \(error.message)") }
        }
    }

    func run() async throws {
        try await reporting {
            try Gateway.requireRoot("bootstrap")
            if install { return try await makeGateway() }
            let facts = await look()
            try show(Readiness.findings(facts), of: facts)
        }
    }

    private func look() async -> MachineFacts {
        var facts = MachineFacts.ofThisMachine()
        facts.group = group.group
        if let node { facts.node = node }
        await lookAtGroup(&facts)
        return facts
    }

    /// Prints what was found; throws if something is missing.
    private func show(_ findings: [Finding], of facts: MachineFacts) throws {
        if json {
            try printJSON(findings)
        } else {
            printTable(
                "Node \(facts.node)", ["check", "state", "what"],
                findings.map { [$0.check, $0.state.rawValue, $0.detail] })
            for finding in findings {
                if let remedy = finding.remedy { print("\n\(finding.check): \(remedy)", terminator: "") }
            }
            print("")
        }
        if findings.contains(where: { $0.state == .missing }) { throw Exit.failed }
    }

    private func makeGateway() async throws {
        let installer = Installer(group: group.group)
        var facts = await look()
        let packages = Readiness.packagesToInstall(facts)
        if !packages.isEmpty {
            try installer.install(packages: packages)
            facts = await look()
        }
        // A time server that has just been installed needs a moment.
        let deadline = ContinuousClock.now + .seconds(wait)
        if packages.contains("chrony"), facts.isClockSynchronised == false { tell("wait for the clock") }
        while packages.contains("chrony"), facts.isClockSynchronised == false, ContinuousClock.now < deadline {
            try await Task.sleep(for: .seconds(1))
            facts = await look()
        }
        let wanted = portal.compactMap { try? Portal(parsing: $0) }
        let own = facts.portals ?? []
        let new = facts.isGroupKnown ? wanted.filter { !own.contains($0) } : []
        // As it will be; what speaks against it is found before the group is changed.
        if !new.isEmpty { facts.portals = own + new }
        let findings = Readiness.findings(facts)
        guard !findings.contains(where: { $0.state == .missing }) else { return try show(findings, of: facts) }
        let cliod = LocalRelay.executable
        for portal in wanted where own.contains(portal) { tell("node \(facts.node) has portal \(portal) already") }
        if !new.isEmpty {
            var add = try PortalCommand.Add.parse([facts.node] + new.map(\.description))
            add.options.ceph = ceph
            add.options.group = group
            try await add.run()
        }
        try installer.enable(options: daemonOptions, cliod: cliod)
        var up = try NodeUp.parse(["--node", facts.node, "--wait", String(wait)])
        up.ceph = ceph
        up.group = group
        try await up.run()
    }

    /// What a cliod that systemd starts cannot know by itself.
    private var daemonOptions: [String] {
        var out: [String] = []
        if let node { out += ["--node", node] }
        if ceph.cephConf != CephOptions.usualConfiguration { out += ["--ceph-conf", ceph.cephConf] }
        if let id = ceph.id { out += ["--id", id] }
        if let keyring = ceph.keyring { out += ["--keyring", keyring] }
        if ceph.pool != CephOptions.usualPool { out += ["--pool", ceph.pool] }
        return out
    }

    private func lookAtGroup(_ facts: inout MachineFacts) async {
        facts.key = (try? CephAccess.keyType(for: ceph.options())) ?? nil
        let cluster: Cluster
        let pool: Pool
        do {
            cluster = try await ceph.connect()
            pool = try await cluster.pool(ceph.pool)
        } catch {
            facts.ceph = .unreachable("\(error)")
            return
        }
        var refused = await CephAccess.refusals(of: cluster, pool: pool)
        do {
            let config = try await GroupStore(pool: pool, group: group.group).load().stored.config
            facts.isGroupKnown = true
            if let name = try? Gateway.nodeName(node, in: config),
                let entry = config.nodes.first(where: { $0.name == name })
            {
                facts.node = name
                facts.portals = Self.portals(of: entry, in: config)
            }
        } catch {
            refused.append("\(error)")
        }
        facts.ceph = .reached(refused: refused)
    }

    /// All that the node's targets have there.
    private static func portals(of node: Node, in config: ClusterModel.Group) -> [Portal] {
        let texts = Set(
            node.portals
                + config.targets.filter { $0.fabric == .iscsi && config.nodes(of: $0).contains(node) }
                .flatMap { config.portals(of: $0, on: node) })
        return texts.compactMap { try? Portal(parsing: $0) }.sorted { $0.description < $1.description }
    }
}
