// SPDX-License-Identifier: Apache-2.0
import Foundation
import Logging
import SystemPackage

/// A whole cluster on one machine: Ceph, gateway nodes and initiator nodes in a network namespace of their own.
///
/// A lab outlives the process that brought it up; `attach` finds it again. Its nodes are User Mode Linux kernels that
/// see the host's files read-only. Everything it keeps is in one folder, and `down` removes only what is recorded there.
///
/// ```swift
/// let lab = try await Lab.up(LabOptions(gateways: 2, initiators: 0))
/// let result = try await lab.exec("gw1", ["uname", "-r"])
/// try await lab.freeze("gw2")
/// let problems = lab.consoleProblems()
/// try await lab.down()
/// ```
public struct Lab: Sendable {
    /// What `up` was asked for.
    public var options: LabOptions { plan.options }
    /// Name of the network namespace.
    public var netns: String { plan.netns }
    /// The lab's folder.
    public let folder: String
    /// Address of the bridge, where Ceph and the host's tools are.
    public static let hostAddress = Network.bridgeAddress

    let plan: Plan
    let logger: Logger

    var network: Network { Network(netns: plan.netns) }
    var processes: Processes { Processes(folder: "\(folder)/pids") }

    /// What a lab is made of, decided at `up` and kept as `lab.json`.
    struct Plan: Codable, Sendable {
        var options: LabOptions
        var netns: String
        var fsid: String
        var adminKey: String
        /// By the nodes' names.
        var kernels: [String: Kernel]
        var nodes: [LabDescription.Node]
        var luns: [LabDescription.LUN]
        /// Folder of our executables, for nodes.
        var executables: String
        /// Folders the nodes see under the same path.
        var shares: [String]
        /// Where the nodes' memory is.
        var memoryFolder: String
    }

    /// Name of the target the lab's gateways serve.
    public static let targetName = "iqn.2026-11.example.clio:lab"
    /// The iSCSI port of every portal.
    public static let portalPort = 3260

    // MARK: - Up and down

    /// Brings a lab up: kernel, network, Ceph, images, nodes, exports. Cleans up first after a lab of this name that
    /// died.
    ///
    /// - Parameters:
    ///   - options: What the lab consists of.
    ///   - logger: Takes the progress, as notices.
    /// - Throws: `LabError` naming what the machine lacks, an option out of range, a lab of this name that runs already,
    ///   or the step that failed; then nothing is left running.
    public static func up(
        _ options: LabOptions = LabOptions(), logger: Logger = Logger(label: "lab")
    ) async throws -> Lab {
        try options.validate()
        try Requirements.check(options)
        let folder = folder(options.name)
        let lock = try Lock(folder)
        defer { lock.release() }
        if Files.exists(folder) {
            if Files.exists("\(folder)/\(completeMark)"), let lab = try? load(folder, logger),
                lab.plan.nodes.contains(where: { lab.processes.isAlive($0.name) })
            {
                throw LabError("lab \(options.name)", "is up already", remedy: "clio-lab down, or another --name")
            }
            logger.notice("removing what a previous run left")
            try await remove(folder, netns: netns(options.name))
        }
        var plan = try makePlan(options, folder: folder)
        for (version, nodes) in Dictionary(grouping: plan.nodes, by: { options.versions[$0.name] }) {
            let kernel = try await Kernel.find(options.kernel, version: version, logger: logger)
            for node in nodes { plan.kernels[node.name] = kernel }
        }
        let lab = Lab(folder: folder, plan: plan, logger: logger)
        do {
            try await lab.build()
            try Files.write("", to: "\(folder)/\(completeMark)")
        } catch {
            let runs = lab.processes
            try? await runs.end(runs.labels())
            if Files.exists("\(folder)/netns") { try? await lab.network.down() }
            try? FileManager.default.removeItem(atPath: "\(folder).failed")
            try? FileManager.default.moveItem(atPath: folder, toPath: "\(folder).failed")
            logger.notice("failed; consoles and logs are kept in \(folder).failed")
            throw error
        }
        return lab
    }

    /// The running lab `name`.
    ///
    /// - Throws: `LabError` if there is none.
    public static func attach(
        _ name: String = LabOptions.defaultName, logger: Logger = Logger(label: "lab")
    ) throws -> Lab {
        try LabOptions.check(name: name)
        let folder = folder(name)
        guard Files.exists("\(folder)/lab.json") else {
            throw LabError("lab \(name)", "is not up", remedy: "clio-lab up")
        }
        return try load(folder, logger)
    }

    /// Ends the lab `name`: all of its processes, its network, its folder. Nothing happens if there is none.
    ///
    /// - Returns: Whether there was something to end.
    /// - Throws: `LabError` if a process stays alive, or the folder is not a lab's.
    @discardableResult
    public static func down(
        _ name: String = LabOptions.defaultName, logger: Logger = Logger(label: "lab")
    ) async throws -> Bool {
        try LabOptions.check(name: name)
        let folder = folder(name)
        guard Files.exists(folder) else { return false }
        let lock = try Lock(folder)
        defer { lock.release(forGood: true) }
        guard Files.exists(folder) else { return false }
        try await remove(folder, netns: netns(name))
        return true
    }

    /// Ends this lab.
    public func down() async throws {
        try await Self.down(options.name, logger: logger)
    }

    // MARK: - Looking

    /// The lab as it is now.
    public func description() -> LabDescription {
        let table = ProcessTable.current()
        return LabDescription(
            netns: netns, cephConf: "\(folder)/ceph.conf", keyring: "\(folder)/keyring",
            nodes: plan.nodes.map { node in
                var node = node
                node.pids = processes.pids(node.name, in: table)
                return node
            },
            luns: plan.luns)
    }

    /// Names of all gateways, in order.
    public var gateways: [String] { plan.nodes.filter { $0.role == .gateway }.map(\.name) }
    /// Names of all initiators, in order.
    public var initiators: [String] { plan.nodes.filter { $0.role == .initiator }.map(\.name) }

    /// Whether `up` came to its end; if not, it is still at work, or died.
    public var isComplete: Bool { Files.exists("\(folder)/\(Self.completeMark)") }

    /// Whether a node runs.
    public enum NodeState: String, Sendable { case running, frozen, dead }

    /// - Throws: `LabError` if there is no such node.
    public func state(_ node: String) throws -> NodeState {
        let name = try find(node).name
        guard processes.isAlive(name) else { return .dead }
        return processes.isFrozen(name) ? .frozen : .running
    }

    /// What the daemons of Ceph are called in `status`, and whether each is alive.
    public func daemons() -> [(name: String, alive: Bool)] {
        (["mon.a", "mgr.x"] + (0..<options.osds).map(OSDName.text)).map { ($0, processes.isAlive($0)) }
    }

    /// Path of the file with a node's console, from the lab's start on; boots of the node follow each other.
    ///
    /// - Throws: `LabError` if there is no such node.
    public func consolePath(_ node: String) throws -> String { console(try find(node).name) }

    /// Splats on the consoles.
    ///
    /// - Parameter nodes: Names of the nodes to look at; all by default.
    public func consoleProblems(_ nodes: [String]? = nil) -> [ConsoleProblem] {
        plan.nodes.map(\.name).filter { nodes?.contains($0) ?? true }.flatMap { node in
            ConsoleLog.problems(Files.bytes(console(node), from: 0) ?? [], node: node)
        }
    }

    // MARK: - Commands

    /// Runs a command in a node.
    ///
    /// Standard output, standard error and exit status are those of the command. The arguments arrive as given,
    /// whatever they hold.
    ///
    /// - Parameters:
    ///   - node: Name of the node.
    ///   - command: The command and its arguments, 8,000 bytes at most; looked for in our executables' folder first.
    ///   - input: What the command reads from standard input; nothing by default.
    ///   - timeout: How long the command may run; after it, it is killed in the node. Nil: as long as the node answers.
    /// - Throws: `LabError` if the node does not run or does not answer, or the time is up. A status other than 0 is a
    ///   result; only 255 is not told apart from a lost connection.
    public func exec(
        _ node: String, _ command: [String], input: [UInt8]? = nil, timeout: Duration? = .seconds(60)
    ) async throws -> CommandResult {
        let connection = try connection(to: node, command, timeout: timeout)
        let limit = timeout.map { $0 + .seconds(15) } ?? .seconds(86400 * 7)
        var attempt = 0
        while true {
            let start = ContinuousClock.now
            let result = try await Command.run(connection, input: input, timeout: limit)
            if result.status == 255 {
                // The node's server takes a few connections at a time before they have shown their key.
                attempt += 1
                if attempt <= 20, result.errorText.hasPrefix("kex_exchange_identification") {
                    try await Task.sleep(for: .milliseconds(50 * attempt))
                    continue
                }
                try lost(node, result.errorText)
            }
            if let timeout, [124, 137].contains(result.status), ContinuousClock.now - start >= timeout {
                throw LabError("\(node): \(Command.line(command))", "no end after \(timeout)")
            }
            return result
        }
    }

    /// Runs a command in a node, and returns its standard output without the newlines at its end.
    ///
    /// - Throws: `LabError` as `exec`, and with what the command said if its status is not 0.
    @discardableResult
    public func check(
        _ node: String, _ command: [String], input: [UInt8]? = nil, timeout: Duration? = .seconds(60)
    ) async throws -> String {
        try Self.checked(try await exec(node, command, input: input, timeout: timeout), "\(node): ", command)
    }

    /// Runs a command in a node with this process's own standard input, output and error.
    ///
    /// - Parameter terminal: Give the command a terminal.
    /// - Returns: Its exit status.
    /// - Throws: `LabError` if the node does not run or does not answer.
    public func execAttached(
        _ node: String, _ command: [String], terminal: Bool = false, timeout: Duration? = nil
    ) async throws -> Int32 {
        let connection = try connection(to: node, command, timeout: timeout, terminal: terminal)
        let status = try await Command.attached(connection)
        if status == 255 { try lost(node, "") }
        return status
    }

    /// Runs a command of the host inside the lab's network namespace, with `CEPH_CONF` set.
    ///
    /// - Throws: `LabError` if it cannot be started or the time is up. A status other than 0 is a result.
    public func host(
        _ command: [String], input: [UInt8]? = nil, timeout: Duration = .seconds(60)
    ) async throws -> CommandResult {
        try await Command.run(
            network.prefix + command, input: input, environment: hostEnvironment, timeout: timeout)
    }

    /// Runs a command of the host inside the namespace, and returns its standard output without the newlines at its
    /// end.
    ///
    /// - Throws: `LabError` as `host`, and with what the command said if its status is not 0.
    @discardableResult
    public func hostCheck(
        _ command: [String], input: [UInt8]? = nil, timeout: Duration = .seconds(60)
    ) async throws -> String {
        try Self.checked(try await host(command, input: input, timeout: timeout), "host: ", command)
    }

    /// Path of one of our executables, built beside this one or for release.
    ///
    /// - Throws: `LabError` if it is not built.
    public func executable(_ name: String) throws -> String {
        let release = Kernel.sourceFolder().map { "\($0)/.build/release" }
        for folder in [plan.executables, release].compactMap({ $0 }) where access("\(folder)/\(name)", X_OK) == 0 {
            return "\(folder)/\(name)"
        }
        throw LabError(name, "is not built at \(plan.executables)", remedy: "make build")
    }

    // MARK: - Nodes' lives

    /// Kills a node, as if its power were cut. Nothing happens to a dead one.
    public func kill(_ node: String) async throws {
        try await processes.end([try find(node).name])
    }

    /// Boots a node that is dead. A gateway exports the images again unless `serve` is false.
    ///
    /// - Parameter version: The kernel's for this boot, if not the one that the lab came up with.
    /// - Throws: `LabError` if it runs already or does not come up.
    public func start(_ node: String, version: String? = nil, serve: Bool = true) async throws {
        let node = try find(node)
        guard !processes.isAlive(node.name) else {
            throw LabError(node.name, "runs already", remedy: "clio-lab kill \(node.name)")
        }
        var kernel: Kernel?
        if let version { kernel = try await Kernel.find(options.kernel, version: version, logger: logger) }
        try await boot(node, kernel)
        if serve, options.serve, node.role == .gateway { try await self.serve(node) }
    }

    /// Stops all of a node's processes, as if the machine were paused. Its clock will have jumped at the thaw.
    public func freeze(_ node: String) async throws { try await processes.freeze(try findAlive(node).name) }

    /// Lets a frozen node go on. Nothing happens to a running one.
    public func thaw(_ node: String) async throws { try await processes.thaw(try findAlive(node).name) }
}

// MARK: - How it is done

extension Lab {
    /// `$CLIO_LAB_DIR`, or `/run/clio-lab`; beside it that of a lab with another name.
    static func folder(_ name: String) -> String {
        let base = environment("CLIO_LAB_DIR") ?? "/run/clio-lab"
        return name == "clio-lab" ? base : "\(base)-\(name)"
    }

    static func netns(_ name: String) -> String { name == "clio-lab" ? name : "clio-lab-\(name)" }

    static func makePlan(_ options: LabOptions, folder: String) throws -> Plan {
        let fsid = UUID().uuidString.lowercased()
        func node(_ role: LabDescription.Role, _ index: Int) -> LabDescription.Node {
            let name = (role == .gateway ? "gw" : "ini") + "\(index)"
            let address = Network.address(role, index)
            return LabDescription.Node(
                name: name, role: role, address: address,
                portal: role == .gateway ? "\(address):\(portalPort)" : nil,
                iqn: role == .gateway ? targetName : "iqn.2026-11.example.clio:\(name)", pids: [])
        }
        let nodes =
            (0..<options.gateways).map { node(.gateway, $0 + 1) }
            + (0..<options.initiators).map { node(.initiator, $0 + 1) }
        let luns = (0..<options.luns).map { lun in
            let number = String(lun, radix: 16)
            let serial = fsid.filter { $0 != "-" }.prefix(12) + String(repeating: "0", count: 4 - number.count) + number
            return LabDescription.LUN(
                lun: lun, pool: "rbd", namespace: options.ceph.namespace, image: "lun\(lun)", serial: String(serial))
        }
        let executable = Kernel.executablePath()
        let executables = String(executable[..<(executable.lastIndex(of: "/") ?? executable.startIndex)])
        let shares = [Kernel.sourceFolder(), executables, folder].compactMap { $0 }
        let spare = 256
        return Plan(
            options: options, netns: netns(options.name), fsid: fsid, adminKey: Ceph.newSecret(), kernels: [:],
            nodes: nodes, luns: luns, executables: executables, shares: shares,
            memoryFolder: try Requirements.memoryFolder(bytes: (nodes.count * options.memory + spare) << 20))
    }

    static func load(_ folder: String, _ logger: Logger) throws -> Lab {
        do {
            let plan = try JSONDecoder().decode(Plan.self, from: Data(Files.bytes("\(folder)/lab.json", from: 0) ?? []))
            return Lab(folder: folder, plan: plan, logger: logger)
        } catch {
            throw LabError("\(folder)/lab.json", "cannot be read: \(error)", remedy: "clio-lab down")
        }
    }

    /// Ends everything recorded in `folder` and removes it.
    ///
    /// - Throws: `LabError` if the folder is not one that a lab made, or something cannot be ended.
    static func remove(_ folder: String, netns: String) async throws {
        guard Files.exists("\(folder)/\(marker)") else {
            throw LabError(folder, "was not made by a lab", remedy: "remove it, or set CLIO_LAB_DIR to another folder")
        }
        let processes = Processes(folder: "\(folder)/pids")
        try await processes.end(processes.labels())
        if Files.exists("\(folder)/netns") { try await Network(netns: netns).down() }
        do {
            try FileManager.default.removeItem(atPath: folder)
        } catch {
            throw LabError(folder, "cannot be removed: \(error.localizedDescription)")
        }
    }

    /// File that says a lab made the folder.
    static let marker = "made-by-clio-lab"
    /// File that says `up` came to its end.
    static let completeMark = "complete"

    private func build() async throws {
        try Files.write("", to: "\(folder)/\(Self.marker)")
        try Files.folder("\(folder)/pids")
        try Files.folder("\(folder)/nodes")
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        try Files.write(Array(try encoder.encode(plan)), to: "\(folder)/lab.json", mode: 0o600)
        let client = Ceph.clientFiles(
            fsid: plan.fsid, adminKey: plan.adminKey, keyring: "\(folder)/keyring", options.ceph)
        try Files.write(client.configuration, to: "\(folder)/ceph.conf")
        try Files.write(client.keyring, to: "\(folder)/keyring", mode: 0o600)
        let key = "\(folder)/key"
        try await Command.check(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "clio-lab", "-f", key])
        try await Command.check(["dropbearkey", "-t", "ed25519", "-f", "\(folder)/hostkey"])
        if !Files.exists(network.path) { try Files.write(netns, to: "\(folder)/netns") }
        try await network.up(nodes: plan.nodes.map(\.name), osds: options.osds, ipv6: options.ceph.ipv6)

        let ceph = Ceph(
            folder: folder, network: network, processes: processes, logger: logger, fsid: plan.fsid,
            adminKey: plan.adminKey, osds: options.osds, replicas: options.replicas,
            capacity: max(4 << 30, 2 * options.luns * options.size), options: options.ceph)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                try await ceph.up()
                try await ceph.createNamespace()
                for lun in plan.luns { try await ceph.create(image: lun.path, bytes: options.size) }
                logger.notice("Ceph: pool rbd with \(plan.luns.count) images is usable")
                try await ceph.startManager()
            }
            for node in plan.nodes { group.addTask { try await boot(node) } }
            try await group.waitForAll()
        }
        guard options.serve else { return }
        let target = plan.nodes.filter { $0.role == .gateway }
        try await prepareServing()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for node in target { group.addTask { try await serve(node) } }
            try await group.waitForAll()
        }
    }

    /// Boots `node`, with its own kernel if not with another, and waits until it answers.
    private func boot(_ node: LabDescription.Node, _ kernel: Kernel? = nil) async throws {
        let start = ContinuousClock.now
        guard let busybox = Requirements.find("busybox").flatMap({ Files.bytes(Files.resolved($0), from: 0) }) else {
            throw LabError("busybox", "not found", remedy: "apt-get install busybox-static")
        }
        guard let kernel = kernel ?? plan.kernels[node.name] else { throw LabError(node.name, "has no kernel") }
        let image = NodeImage(
            name: node.name, role: node.role, address: node.address,
            ipv6: options.ceph.ipv6 ? Network.ipv6(node.address) : nil, kernel: kernel, shares: plan.shares,
            executables: plan.executables, files: try files(of: node))
        let home = "\(folder)/nodes/\(node.name)"
        try Files.write(image.archive(busybox: busybox), to: "\(home)/initramfs", mode: 0o600)
        let seen = Int64((Files.bytes(console(node.name), from: 0) ?? []).count)
        var arguments = [
            kernel.executable, "mem=\(options.memory)M", "initrd=\(home)/initramfs", "umid=\(node.name)",
            "uml_dir=\(home)", "con0=null,fd:1",
            "vec0:transport=tap,ifname=\(node.name),depth=128,gro=1,mac=\(Network.ethernet(node.address))",
        ]
        if options.kernel == .debug { arguments.append("kasan_multi_shot") }
        if options.kernel == .smp { arguments += ["ncpus=2", "seccomp=on"] }
        try await processes.start(
            node.name, prefix: network.prefix, arguments, log: console(node.name),
            environment: ["TMPDIR": plan.memoryFolder])
        let deadline = start + (options.kernel == .debug ? .seconds(60) : .seconds(30))
        while true {
            let text = String(decoding: Files.bytes(console(node.name), from: seen) ?? [], as: UTF8.self)
            if text.contains(NodeImage.readyLine) { break }
            guard processes.isAlive(node.name), ContinuousClock.now < deadline else {
                let end = text.split(separator: "\n").suffix(12).joined(separator: "\n    ")
                throw LabError(
                    node.name, "does not come up; its console ends with\n    \(end)",
                    remedy: "see \(console(node.name))")
            }
            try await Task.sleep(for: .milliseconds(20))
        }
        let milliseconds = Int((ContinuousClock.now - start) / .milliseconds(1))
        logger.notice("\(node.name): up at \(node.address) after \(milliseconds) ms")
    }

    private func files(of node: LabDescription.Node) throws -> [String: NodeImage.File] {
        func copy(_ path: String, mode: UInt32) throws -> NodeImage.File {
            guard let bytes = Files.bytes(path, from: 0) else { throw LabError(path, "cannot be read") }
            return NodeImage.File(bytes, mode: mode)
        }
        let client = Ceph.clientFiles(
            fsid: plan.fsid, adminKey: plan.adminKey, keyring: "/etc/ceph/$cluster.$name.keyring", options.ceph)
        let hosts =
            ["127.0.0.1 localhost", "\(Network.bridgeAddress) host"] + plan.nodes.map { "\($0.address) \($0.name)" }
        var files: [String: NodeImage.File] = [
            "etc/hosts": NodeImage.File(hosts.joined(separator: "\n") + "\n"),
            "etc/resolv.conf": NodeImage.File(""),
            "etc/ceph/ceph.conf": NodeImage.File(client.configuration),
            "lab/hostkey": try copy("\(folder)/hostkey", mode: 0o600),
            "root/.ssh/authorized_keys": try copy("\(folder)/key.pub", mode: 0o600),
        ]
        if node.role == .gateway, isServedByClio {
            // Gateways have no more than they need. Before the first `clio group init` there is no such client.
            if Files.exists(gatewayKeyring) {
                files[Self.gatewayKeyringInNode] = try copy(gatewayKeyring, mode: 0o600)
            }
        } else {
            files["etc/ceph/ceph.client.admin.keyring"] = NodeImage.File(client.keyring, mode: 0o600)
        }
        if node.role == .initiator {
            files["etc/iscsi/initiatorname.iscsi"] = NodeImage.File("InitiatorName=\(node.iqn)\n")
            files["etc/iscsi/iscsid.conf"] = NodeImage.File(HostSettings.iscsid)
            files["etc/multipath.conf"] = NodeImage.File(HostSettings.multipath)
        }
        return files
    }

    func find(_ node: String) throws(LabError) -> LabDescription.Node {
        guard let found = plan.nodes.first(where: { $0.name == node }) else {
            throw LabError(
                "node \"\(node)\"", "there is none",
                remedy: "the lab's nodes are \(plan.nodes.map(\.name).joined(separator: ", "))")
        }
        return found
    }

    private func findAlive(_ node: String) throws(LabError) -> LabDescription.Node {
        let found = try find(node)
        guard processes.isAlive(node) else {
            throw LabError(node, "is dead", remedy: "clio-lab start \(node); clio-lab console \(node) says why")
        }
        return found
    }

    private func connection(
        to node: String, _ command: [String], timeout: Duration?, terminal: Bool = false
    ) throws -> [String] {
        let found = try findAlive(node)
        guard !processes.isFrozen(node) else { throw LabError(node, "is frozen", remedy: "clio-lab thaw \(node)") }
        var remote = ["/lab/run"]
        if let timeout { remote += ["timeout", "--kill-after=2", "\(max(1, timeout.components.seconds))"] }
        let line = (remote + command).map(Command.quoted).joined(separator: " ")
        guard line.utf8.count <= 8000 else {
            throw LabError(
                "\(node): \(Command.line(command).prefix(60))…",
                "\(line.utf8.count) bytes are too many for one command",
                remedy: "give a long script as input to sh -s")
        }
        return network.prefix + [
            "ssh", "-F", "none", "-i", "\(folder)/key", terminal ? "-tt" : "-T", "-o", "BatchMode=yes",
            "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
            "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3",
            "root@\(found.address)", line,
        ]
    }

    /// Throws if a connection that ended with status 255 did so for the node's sake.
    private func lost(_ node: String, _ errors: String) throws(LabError) {
        guard processes.isAlive(node) else { throw LabError(node, "died", remedy: "clio-lab console \(node) says why") }
        let signs = [
            "ssh: connect to host", "Connection closed by", "Connection reset", "Timeout, server", "client_loop:",
            "kex_exchange_identification",
        ]
        if processes.isFrozen(node) || signs.contains(where: errors.contains) {
            throw LabError(node, "does not answer: \(errors)", remedy: "clio-lab console \(node) may say why")
        }
    }

    private static func checked(_ result: CommandResult, _ place: String, _ command: [String]) throws -> String {
        guard result.status == 0 else {
            let said = result.errorText.isEmpty ? result.outputText : result.errorText
            throw LabError(
                place + Command.line(command), "status \(result.status)\(said.isEmpty ? "" : ": \(said)")")
        }
        return result.outputText
    }

    /// Environment of host commands: Ceph's tools find the lab's cluster.
    var hostEnvironment: [String: String] { ["CEPH_CONF": "\(folder)/ceph.conf"] }

    func console(_ node: String) -> String { "\(folder)/nodes/\(node).console" }
}
