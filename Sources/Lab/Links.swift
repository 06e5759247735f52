// SPDX-License-Identifier: Apache-2.0
import Foundation

// What goes wrong between nodes and others, and with Ceph's daemons.
extension Lab {
    /// Makes packets between a node and others vanish; adds to what it is cut from already.
    ///
    /// - Throws: `LabError` if there is no such node, or no such OSD.
    public func cut(_ node: String, from scope: CutScope) async throws {
        let node = try find(node)
        try checkLinks()
        if case .oneOSD(let osd) = scope { try check(osd: osd) }
        try await changeFaults { $0[node.address, default: LinkFaults()].cuts.insert(scope) }
    }

    /// Delays and loses packets between a node and one OSD, in both directions. Takes the place of what `slow` did to these
    /// two before.
    ///
    /// What is held arrives at once when the node is healed, in order: with a long delay this is a cut after whose end nobody
    /// waits for TCP to try again.
    ///
    /// - Parameter slowness: a delay of up to an hour, a loss of up to 1, or both.
    /// - Throws: `LabError` if there is no such node or OSD, or a number is out of its range.
    public func slow(_ node: String, from osd: Int, _ slowness: Slowness) async throws {
        let node = try find(node)
        try checkLinks()
        try check(osd: osd)
        try Self.check(slowness)
        let label = Self.holder(node.name, osd: osd)
        // Its own queue before its rules: what finds no one to hold it is lost.
        if slowness.delay > .zero {
            try await endHolders([label])
            try await startHolder(label, queue: Network.queue(node.address, osd: osd), slowness.delay)
        }
        try await changeFaults { $0[node.address, default: LinkFaults()].slow[osd] = slowness }
        if slowness.delay == .zero { try await endHolders([label]) }
    }

    /// Undoes all cuts of a node, and lets all that is held arrive.
    public func heal(_ node: String) async throws {
        let node = try find(node)
        let slow = try loadFaults()[node.address]?.slow ?? [:]
        try await changeFaults { $0[node.address] = nil }
        try await endHolders(slow.keys.map { Self.holder(node.name, osd: $0) })
    }

    /// What a node is cut from.
    public func cuts(_ node: String) throws -> Set<CutScope> { try loadFaults()[try find(node).address]?.cuts ?? [] }

    /// By OSD, what packets between it and a node suffer.
    public func slowness(_ node: String) throws -> [Int: Slowness] {
        try loadFaults()[try find(node).address]?.slow ?? [:]
    }

    /// Stops a daemon of Ceph, such as `osd.1` or `mon.a`: what anybody asks of it waits.
    ///
    /// - Throws: `LabError` if there is no such daemon.
    public func pause(_ daemon: String) async throws {
        try check(daemon: daemon)
        try await processes.freeze(daemon)
    }

    /// Lets a stopped daemon of Ceph go on. Nothing happens to a running one.
    ///
    /// - Throws: `LabError` if there is no such daemon.
    public func resume(_ daemon: String) async throws {
        try check(daemon: daemon)
        try await processes.thaw(daemon)
    }

    /// Whether a daemon of Ceph is stopped.
    public func isPaused(_ daemon: String) -> Bool { processes.isFrozen(daemon) }

    /// Stops all OSDs: what the nodes ask of them waits.
    public func pauseOSDs() async throws {
        for osd in 0..<options.osds { try await pause(OSDName.text(osd)) }
    }

    /// Lets stopped OSDs go on. Nothing happens to running ones.
    public func resumeOSDs() async throws {
        for osd in 0..<options.osds { try await resume(OSDName.text(osd)) }
    }

    /// Rules are about IPv4 addresses.
    private func checkLinks() throws(LabError) {
        guard !options.ceph.ipv6 else {
            throw LabError("lab \(options.name)", "has links to Ceph that are not cut or slowed down: IPv6")
        }
    }

    private func check(osd: Int) throws(LabError) {
        guard (0..<options.osds).contains(osd) else {
            throw LabError(
                OSDName.text(osd), "there is none",
                remedy: "the lab's OSDs are \((0..<options.osds).map(OSDName.text).joined(separator: ", "))")
        }
    }

    private func check(daemon: String) throws(LabError) {
        let names = daemons().map(\.name)
        guard names.contains(daemon) else {
            throw LabError(
                "daemon \"\(daemon)\"", "there is none",
                remedy: "the lab's daemons of Ceph are \(names.joined(separator: ", "))")
        }
    }

    /// - Throws: `LabError` naming the option that is out of its range.
    static func check(_ slowness: Slowness) throws(LabError) {
        guard (.zero ... .seconds(3600)).contains(slowness.delay) else {
            throw LabError("--delay \(slowness.delay)", "must be 0 to 3600 s")
        }
        guard (0...1).contains(slowness.loss) else {
            throw LabError("--loss \(slowness.loss * 100)%", "must be 0 to 100 %")
        }
        guard slowness != Slowness() else {
            throw LabError("--delay 0, --loss 0", "nothing would be slow", remedy: "clio-lab heal undoes it")
        }
    }

    /// Name of the process that holds packets.
    private static func holder(_ node: String, osd: Int) -> String { "delay.\(node).\(OSDName.text(osd))" }

    private func startHolder(_ label: String, queue: UInt16, _ delay: Duration) async throws {
        let log = "\(folder)/\(label).log"
        try Files.write("", to: log)
        let milliseconds = Int(delay / .milliseconds(1))
        try await processes.start(
            label, prefix: network.prefix,
            [try executable("clio-lab"), "hold-packets", "--queue", "\(queue)", "--milliseconds", "\(milliseconds)"],
            log: log)
        for _ in 0..<1000 {
            if Files.text(log)?.hasPrefix(PacketDelay.ready) == true { return }
            guard processes.isAlive(label) else { break }
            try await Task.sleep(for: .milliseconds(5))
        }
        throw LabError(
            label, "does not hold packets: \(Files.text(log) ?? "")",
            remedy: "modprobe -a nfnetlink_queue xt_NFQUEUE, if the kernel has them as modules")
    }

    private func endHolders(_ labels: [String]) async throws {
        // Politely: what it holds is to arrive.
        try await processes.end(labels, grace: .seconds(2))
    }

    private func loadFaults() throws -> [String: LinkFaults] {
        guard let bytes = Files.bytes("\(folder)/faults.json", from: 0) else { return [:] }
        return try JSONDecoder().decode([String: LinkFaults].self, from: Data(bytes))
    }

    private func changeFaults(_ change: (inout [String: LinkFaults]) -> Void) async throws {
        let lock = try Lock(folder)
        defer { lock.release() }
        var faults = try loadFaults()
        change(&faults)
        try await network.apply(faults)
        try Files.write(Array(try JSONEncoder().encode(faults)), to: "\(folder)/faults.json")
    }
}
