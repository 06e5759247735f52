// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation
import Lab
import Logging
import TextTable

@main
struct ClioLab: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "clio-lab",
        abstract: "A whole cluster on one machine: Ceph, gateways, initiators.",
        subcommands: [
            Up.self, Down.self, Status.self, Exec.self, Console.self, Kill.self, Start.self, Freeze.self, Thaw.self,
            Cut.self, Slow.self, Heal.self, Pause.self, Resume.self, Run.self, Demo.self, Faults.self,
            TortureCommand.self, Race.self,
            Bench.self, RadosTimes.self,
            MakeImages.self, Conformance.self, HoldPackets.self,
        ])
}

/// Options of every command.
struct Common: ParsableArguments {
    @Option(help: "Name of the lab; labs with different names run side by side (default: $CLIO_LAB_NAME, or clio-lab).")
    var name: String = LabOptions.defaultName

    /// The lab, which must be up.
    func lab() throws -> Lab { try Lab.attach(name, logger: Progress.logger()) }
}

extension KernelVersions {
    static func parse(_ text: String) throws -> Self {
        guard let versions = Self(text) else {
            throw ValidationError("\(text): no versions; write 7.3, gw1=6.12,gw2=7.3 or 7.3,gw1=6.12")
        }
        return versions
    }
}

/// What is not as most people have it in the cluster's Ceph.
struct CephArguments: ParsableArguments {
    @Option(help: "Where OSDs have their objects: memstore, bluestore.") var store = CephOptions.Store.memstore
    @Flag(help: "Images have their data in an erasure-coded pool (2 + 1, at least three OSDs).") var erasure = false

    var options: CephOptions {
        var options = CephOptions()
        (options.store, options.erasure) = (store, erasure)
        return options
    }
}

extension CephOptions.Store: ExpressibleByArgument {}

/// What a cluster consists of.
struct ClusterOptions: ParsableArguments {
    @Option(name: .customLong("nodes"), help: "Gateways.") var gateways = 2
    @Option(help: "Nodes with the kernel's open-iscsi and dm-multipath.") var initiators = 1
    @Option(help: "OSDs.") var osds = 1
    @Option(help: "Copies of each object, at most as many as there are OSDs.") var replicas = 1
    @Option(help: "Images, each exported by every gateway.") var luns = 1
    @Option(help: "Size of an image, such as 512M or 1G.") var size = "1G"
    @Option(help: ArgumentHelp("Memory of a node (default: 512M, with the debug kernel 1G).", valueName: "size"))
    var nodeMemory: String?
    @OptionGroup var ceph: CephArguments
    @Option(help: ArgumentHelp("Namespace of the pool that images are in.", valueName: "name")) var namespace = ""
    @Flag(help: "Ceph speaks messenger v2 only, encrypted.") var secure = false
    @Flag(help: "Ceph has IPv6 addresses only.") var ipv6 = false
    @Flag(help: "The same kernel without our patches, LIO set up on each gateway by itself.") var stock = false
    @Flag(help: "KASAN, lockdep and sleep-in-atomic checks; about 8 times slower.") var debugKernel = false
    @Option(
        help: ArgumentHelp(
            "Kernel of another version: 7.3, or gw1=6.12,gw2=7.3 with all others as usual.", valueName: "versions"),
        transform: KernelVersions.parse)
    var kernel = KernelVersions()
    @Flag(inversion: .prefixedNo, help: "Export the images.") var serve = true
    @Flag(inversion: .prefixedNo, help: "Serve by cliod, as one; without, each gateway by itself.")
    var cliod = true

    func validate() throws {
        if stock && debugKernel {
            throw ValidationError("--stock and --debug-kernel exclude each other: the debug kernel has our patches")
        }
        for (option, text) in [("--size", size), ("--node-memory", nodeMemory ?? size)]
        where LabOptions.bytes(text) == nil {
            throw ValidationError("\(option) \(text): no size; write 512M or 1G")
        }
    }

    func options(_ name: String) -> LabOptions {
        var ceph = ceph.options
        (ceph.namespace, ceph.secure, ceph.ipv6) = (namespace, secure, ipv6)
        return LabOptions(
            name: name, gateways: gateways, initiators: initiators, osds: osds, replicas: replicas,
            luns: luns, size: LabOptions.bytes(size) ?? 0, kernel: stock ? .stock : debugKernel ? .debug : .clio,
            serve: serve,
            daemon: cliod && !stock, nodeMemory: nodeMemory.flatMap(LabOptions.bytes).map { $0 >> 20 },
            versions: kernel, ceph: ceph)
    }
}

struct Up: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Bring a cluster up.")

    @OptionGroup var common: Common
    @OptionGroup var cluster: ClusterOptions
    @Flag(help: "Print the lab as JSON.") var json = false

    func run() async throws {
        let lab = try await Lab.up(cluster.options(common.name), logger: Progress.logger())
        try Report(lab: lab).print(json: json)
    }
}

struct Down: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "End a cluster and remove all it made.")

    @OptionGroup var common: Common

    func run() async throws {
        if try await !Lab.down(common.name, logger: Progress.logger()) { Progress.say("lab \(common.name) was not up") }
    }
}

struct Status: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show the cluster; status 1 if a node is dead or its console shows a kernel problem.")

    @OptionGroup var common: Common
    @Flag(help: "Print the lab as JSON.") var json = false

    func run() async throws {
        let lab = try common.lab()
        let report = Report(lab: lab)
        try report.print(json: json)
        if !report.isHealthy { throw ExitCode(1) }
    }
}

struct Exec: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run a command in a node; its output and exit status are this command's.",
        usage: "clio-lab exec [--timeout <seconds>] [--tty] <node> -- <command> ...")

    @OptionGroup var common: Common
    @Option(help: "Kill the command after so many seconds.") var timeout: Int?
    @Flag(name: .shortAndLong, help: "Give the command a terminal.") var tty = false
    @Argument(help: "Name of the node.") var node: String
    @Argument(parsing: .captureForPassthrough, help: "The command; without one, a shell.") var command: [String] = []

    func run() async throws {
        let words = command.first == "--" ? Array(command.dropFirst()) : command
        let status = try await common.lab().execAttached(
            node, words.isEmpty ? ["/bin/bash", "-l"] : words, terminal: tty || words.isEmpty,
            timeout: timeout.map { .seconds($0) })
        throw ExitCode(status)
    }
}

struct Console: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Print a node's console.")

    @OptionGroup var common: Common
    @Flag(name: .shortAndLong, help: "Go on printing what comes.") var follow = false
    @Argument(help: "Name of the node.") var node: String

    func run() async throws {
        let path = try common.lab().consolePath(node)
        var offset: UInt64 = 0
        repeat {
            guard let file = FileHandle(forReadingAtPath: path) else { break }
            try file.seek(toOffset: offset)
            let data = try file.readToEnd() ?? Data()
            try file.close()
            offset += UInt64(data.count)
            FileHandle.standardOutput.write(data)
            if follow { try await Task.sleep(for: .milliseconds(200)) }
        } while follow
    }
}

struct Kill: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Kill a node, as if its power were cut.")

    @OptionGroup var common: Common
    @Argument(help: "Name of the node.") var node: String

    func run() async throws { try await common.lab().kill(node) }
}

struct Start: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Boot a dead node.")

    @OptionGroup var common: Common
    @Option(help: ArgumentHelp("Kernel of another version for this boot, such as 7.3.", valueName: "version"))
    var kernel: String?
    @Flag(inversion: .prefixedNo, help: "Export the images again.") var serve = true
    @Argument(help: "Name of the node.") var node: String

    func run() async throws { try await common.lab().start(node, version: kernel, serve: serve) }
}

struct Freeze: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Stop all of a node's processes.")

    @OptionGroup var common: Common
    @Argument(help: "Name of the node.") var node: String

    func run() async throws { try await common.lab().freeze(node) }
}

struct Thaw: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Let a frozen node go on.")

    @OptionGroup var common: Common
    @Argument(help: "Name of the node.") var node: String

    func run() async throws { try await common.lab().thaw(node) }
}

struct Cut: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Make a node's packets from and to others vanish; exec goes on working.")

    @OptionGroup var common: Common
    @Option(help: "Whom to cut it from: osd (all of Ceph), osd.N (one OSD), hosts (iSCSI), all.") var from: CutScope
    @Argument(help: "Name of the node.") var node: String

    func run() async throws { try await common.lab().cut(node, from: from) }
}

struct Slow: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Delay and lose packets between a node and one OSD.",
        discussion: """
            Both directions suffer. What is held arrives at once when the node is healed: with a long delay this is a cut after \
            whose end nobody waits for TCP to try again.
            """)

    @OptionGroup var common: Common
    @Option(help: "The OSD: osd.N.") var from: OneOSD
    @Option(help: "How long each packet is held, such as 200ms or 2s; an hour at most.") var delay = TimeSpan.zero
    @Option(help: "Which part of the packets vanishes, such as 5%.") var loss = Percentage.zero
    @Argument(help: "Name of the node.") var node: String

    func run() async throws {
        try await common.lab()
            .slow(node, from: from.number, Slowness(delay: delay.duration, loss: loss.fraction))
    }
}

struct Heal: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Undo a node's cuts, delays and losses.")

    @OptionGroup var common: Common
    @Argument(help: "Name of the node.") var node: String

    func run() async throws { try await common.lab().heal(node) }
}

struct Pause: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Stop a daemon of Ceph: what anybody asks of it waits.")

    @OptionGroup var common: Common
    @Argument(help: "Name of the daemon: osd.N, mon.a, mgr.x.") var daemon: String

    func run() async throws { try await common.lab().pause(daemon) }
}

struct Resume: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Let a stopped daemon of Ceph go on.")

    @OptionGroup var common: Common
    @Argument(help: "Name of the daemon.") var daemon: String

    func run() async throws { try await common.lab().resume(daemon) }
}

/// What `slow` runs beside the lab's nodes.
struct HoldPackets: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Hold the packets of a netfilter queue until SIGTERM.", shouldDisplay: false)

    @Option(help: "Number of the queue.") var queue: UInt16
    @Option(help: "How long each is held.") var milliseconds: Int

    func run() throws { try PacketDelay.run(queue: queue, delay: .milliseconds(milliseconds)) }
}

extension CutScope: ExpressibleByArgument {}

/// `osd.N`.
struct OneOSD: ExpressibleByArgument {
    var number: Int

    init?(argument: String) {
        guard let number = OSDName.number(argument) else { return nil }
        self.number = number
    }
}

/// `200ms`, `2s`.
struct TimeSpan: ExpressibleByArgument {
    var duration: Duration
    static let zero = TimeSpan(duration: .zero)

    private init(duration: Duration) { self.duration = duration }

    init?(argument: String) {
        let unit = argument.hasSuffix("ms") ? 0.001 : 1
        guard argument.hasSuffix("s"), let value = Double(argument.dropLast(unit == 1 ? 1 : 2)),
            (0...86400).contains(value)
        else { return nil }
        duration = .seconds(value * unit)
    }

    var defaultValueDescription: String { "0s" }
}

/// `5%`.
struct Percentage: ExpressibleByArgument {
    var fraction: Double
    static let zero = Percentage(fraction: 0)

    private init(fraction: Double) { self.fraction = fraction }

    init?(argument: String) {
        guard argument.hasSuffix("%"), let value = Double(argument.dropLast()), (0...100).contains(value) else {
            return nil
        }
        fraction = value / 100
    }

    var defaultValueDescription: String { "0%" }
}
