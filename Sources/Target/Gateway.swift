// SPDX-License-Identifier: Apache-2.0
import ClusterModel
import ConfigFS
import Kmod
import RBD
import Rados
import SystemPackage

/// This machine as a gateway of a group.
public struct Gateway: Sendable {
    let tree: ConfigTree
    let modules: KernelModules
    let rbd: KernelRBD

    public init(tree: ConfigTree = ConfigTree(), modules: KernelModules = KernelModules(), rbd: KernelRBD = KernelRBD())
    {
        self.tree = tree
        self.modules = modules
        self.rbd = rbd
    }

    /// Something that keeps this machine from being a gateway at all.
    public struct Failure: Error, CustomStringConvertible {
        public let description: String
        public init(_ description: String) { self.description = description }
    }

    /// What ``up(node:stored:cluster:claim:members:leased:opening:progress:)`` or ``down(group:stored:progress:)`` came to.
    public struct Report: Sendable {
        /// What was changed, in order.
        public var changes: [String] = []
        /// What did not work, each with the object, the reason and the remedy.
        public var problems: [String] = []
        /// Steps left out because of a problem.
        public var skipped: [String] = []
        /// Ports that could not be removed because a virtual machine is attached. They show nothing any more, and show LUNs
        /// again when the node serves again.
        public var attached: [String] = []
        /// LUNs that are left out because their images cannot be used; each is a problem.
        public var unusable: Set<Int> = []
        /// What the node serves: for a summary.
        public var luns = 0
        public var targets = 0
        public var ports = 0

        public init() {}
    }

    /// Modules a gateway needs, in the order they are loaded.
    public static let requiredModules = [
        "blk_cluster", "rbd", "target_core_mod", "target_core_iblock", "iscsi_target_mod",
    ]

    // MARK: Checks

    /// The group's name for this machine: `node` if given, else the host name, whole or up to the first dot.
    public static func nodeName(_ node: String?, in group: Group) throws(Failure) -> String {
        let names = group.nodes.map(\.name)
        let known = names.isEmpty ? "it has no nodes yet: clio apply" : "it has \(names.joined(separator: ", "))"
        if let node {
            guard names.contains(node) else {
                throw Failure("group \"\(group.name)\" has no node \"\(node)\"; \(known)")
            }
            return node
        }
        let host = SystemFiles.hostName
        if let name = [host, shortHostName].first(where: names.contains) { return name }
        throw Failure(
            "group \"\(group.name)\" has no node \"\(host)\" (this machine's host name); \(known). Choose with --node")
    }

    /// What a node is called that nobody has given a name: the host name up to the first dot.
    public static var shortHostName: String { String(SystemFiles.hostName.prefix { $0 != "." }) }

    /// Throws unless the process may work on the kernel. ``up(node:stored:cluster:claim:members:leased:opening:progress:)`` and
    /// ``down(group:stored:progress:)`` check it too; before the first word to Ceph it spares a wait.
    public static func requireRoot(_ verb: String) throws(Failure) {
        guard SystemFiles.isRoot else { throw Failure("clio node \(verb) must be run as root: it works on the kernel") }
    }

    /// Whether the running kernel has Clio's modules.
    private func requireClioKernel() throws {
        if modules.loaded("blk_cluster") != nil { return }
        guard try modules.exists("blk_cluster") else {
            throw Failure(
                "this kernel (\(modules.release)) is stock: it has no module blk_cluster, without which gateways do not know "
                    + "of each other and data would be lost. Boot a kernel built with Clio's patches, or install the modules "
                    + "for this one (make -C kernel modules); modules are looked for in \(modules.directory)")
        }
    }

    private func loadModules(_ report: inout Report, _ progress: (String) -> Void) throws {
        for name in Self.requiredModules {
            if try modules.load(name) == .loaded {
                progress("load module \(name)")
                report.changes.append("loaded module \(name)")
            }
        }
    }

    /// A module of the distribution's that was loaded before ours came would serve the image unclustered.
    private func requireClioModules() throws {
        let holders = SystemFiles.list("/sys/module/blk_cluster/holders")
        for name in ["rbd", "target_core_iblock"] where !holders.contains(name) {
            guard try modules.state(of: name) == .live else { continue }
            throw Failure(
                "module \(name) that is loaded is not Clio's: it does not use blk_cluster. Unload it (modprobe -r \(name)), "
                    + "or restart this machine, and run the command again")
        }
    }

    /// What node ACLs begin with, those too that LIO makes at the login of a host that has none: how soon a host is taken
    /// for gone, and that it may reset a target, which is done on all nodes.
    private func setACLDefaults(_ timing: Timing, _ report: inout Report, _ progress: (String) -> Void) throws {
        let parameters = FilePath("/sys/module/iscsi_target_mod/parameters")
        let values = [
            ("nopin_timeout", String(timing.ping)), ("nopin_response_timeout", String(timing.pingTimeout)),
            ("tmr_warm_reset", "Y"),
        ]
        for (name, value) in values {
            let parameter = parameters.appending(name)
            guard let present = SystemFiles.text(parameter) else {
                throw Failure(
                    "module iscsi_target_mod that is loaded is not Clio's: it has no parameter \(name). Unload it "
                        + "(modprobe -r iscsi_target_mod), or restart this machine, and run the command again")
            }
            guard present != value else { continue }
            progress("iscsi_target_mod: \(name) = \(value)")
            try SystemFiles.write(value, to: parameter)
            report.changes.append("iscsi_target_mod: \(name) = \(value)")
        }
    }

    private func mountConfigFS(_ report: inout Report, _ progress: (String) -> Void) throws {
        if tree.isMounted { return }
        if !SystemFiles.exists(tree.root) { try modules.load("configfs") }
        progress("mount configfs at \(tree.root)")
        do {
            try SystemFiles.mount("configfs", at: tree.root)
        } catch {
            if tree.isMounted { return }
            throw Failure(
                "cannot mount configfs at \(tree.root): \(error) (errno \(error.rawValue)); "
                    + "is the kernel built with CONFIG_CONFIGFS_FS?")
        }
        report.changes.append("mounted configfs at \(tree.root)")
    }

    /// LIO keeps reservations that survive a restart in files, and wants the folder.
    private func makeDatabaseFolders() throws {
        guard let root = try? tree.read("target/dbroot"), root.hasPrefix("/") else { return }
        for name in ["pr", "alua"] {
            let folder = FilePath(root).appending(name)
            do {
                try SystemFiles.makeDirectories(folder)
            } catch {
                throw Failure("cannot create \(folder), where LIO keeps its state: \(error)")
            }
        }
    }

    // MARK: Up

    /// Loads the modules and mounts configfs: what ``up(node:stored:cluster:claim:members:leased:opening:progress:)`` does first.
    public func prepare(progress: (String) -> Void = { _ in }) throws -> Report {
        try Self.requireRoot("up")
        try requireClioKernel()
        var report = Report()
        try loadModules(&report, progress)
        try requireClioModules()
        try mountConfigFS(&report, progress)
        try makeDatabaseFolders()
        if try tree.ensureDirectory("target/iscsi") { report.changes.append("registered iSCSI with LIO") }
        return report
    }

    /// What Ceph says of the images that are not mapped yet.
    public struct Findings: Sendable {
        fileprivate var images: [Int: ImageInfo] = [:]
        /// Why a LUN's image cannot be used, by LUN number.
        fileprivate var unusable: [Int: String] = [:]
        fileprivate var access: KernelRBD.Credentials?
    }

    /// Numbers of the LUNs that a node serves.
    private func numbers(_ node: String, _ group: Group) -> Set<Int> {
        let served = group.targets.filter { target in group.nodes(of: target).contains { $0.name == node } }
        return Set(served.flatMap { group.luns(of: $0).map(\.lun) })
    }

    /// Of those the ones in question.
    private func luns(_ node: String, _ group: Group, _ scope: Set<Int>?) -> [LogicalUnit] {
        let numbers = numbers(node, group)
        return group.luns.filter { numbers.contains($0.lun) && scope?.contains($0.lun) != false }
    }

    /// The mappings that images of LUNs may have.
    private func mappings(of luns: [LogicalUnit], _ scope: Set<Int>?) -> [KernelRBD.Mapping] {
        guard scope != nil else { return rbd.mappings() }
        return rbd.mappings(of: Set(luns.compactMap(\.imageID)))
    }

    /// Looks in Ceph at the images that have to be mapped, and sees to it that they are the group's. Those that are mapped are
    /// not looked at, so that one more LUN costs the same however many there are.
    ///
    /// - Parameters:
    ///   - claim: the group's hold on its images.
    ///   - members: addresses of the Ceph clients of all its nodes.
    ///   - scope: numbers of the LUNs in question; `nil`: all.
    public func examine(
        node: String, stored: StoredGroup, cluster: Cluster, claim: ImageClaim, members: Set<String>,
        scope: Set<Int>? = nil
    ) async -> Findings {
        var findings = Findings()
        let luns = luns(node, stored.config, scope)
        let mappings = mappings(of: luns, scope)
        /// Pools that did not answer; each such answer costs a time-out.
        var silent: [String: String] = [:]
        for lun in luns {
            do {
                let name = try ImageName(parsing: lun.image)
                if rbd.mapping(of: name, imageID: lun.imageID, fsid: cluster.fsid, among: mappings) != nil { continue }
                if let text = silent[name.pool] { throw Unusable(description: "image \(name): \(text)") }
                findings.images[lun.lun] = try await examine(name, lun, cluster, claim, members)
                if findings.access == nil { findings.access = try await CephAccess.credentials(of: cluster) }
            } catch {
                findings.unusable[lun.lun] = (error as? ImageName.Fault)?.message ?? "\(error)"
                if let error = error as? RBDError, error.kind == .timedOut,
                    let name = try? ImageName(parsing: lun.image)
                {
                    silent[name.pool] = "pool \(name.pool) did not answer in time"
                }
            }
        }
        return findings
    }

    private func examine(
        _ name: ImageName, _ lun: LogicalUnit, _ cluster: Cluster, _ claim: ImageClaim, _ members: Set<String>
    ) async throws -> ImageInfo {
        let info: ImageInfo
        do {
            info = try await ImageCheck.info(of: name, in: cluster)
        } catch {
            if let text = ImageCheck.missing(name, error) { throw Unusable(description: text) }
            throw error
        }
        let faults = ImageCheck.faults(info)
        if !faults.isEmpty { throw Unusable(description: faults.joined(separator: "; ")) }
        if let fault = try await ImageCheck.dataPoolFault(info, in: cluster) { throw Unusable(description: fault) }
        guard let expected = lun.imageID else {
            throw Unusable(
                description: "image \(name) was not there when the group was applied. Apply the group's file again")
        }
        if expected != info.id {
            throw Unusable(
                description:
                    "image \(name) is not the one the group was applied with (id \(info.id), not \(expected)): it was "
                    + "deleted and made anew. Apply the group's file again to export the new one")
        }
        if let text = SystemFiles.text(rbd.bus.appending("supported_features")), text.hasPrefix("0x"),
            let known = UInt64(text.dropFirst(2), radix: 16)
        {
            let unknown = ImageFeatures(rawValue: info.features.rawValue & ~known)
            if !unknown.isEmpty {
                throw Unusable(description: "image \(name) has features the kernel's rbd driver lacks: \(unknown)")
            }
        }
        // Not so yet is one that has come since the group was applied.
        _ = try await claim.take(info, members: members, in: cluster)
        return info
    }

    /// Makes this machine serve the group: modules, configfs, image mappings, LIO's tree. What is right is left as it is.
    ///
    /// A LUN whose image cannot be used is reported and left out; the rest goes on.
    ///
    /// - Parameters:
    ///   - node: the group's name for this machine, see ``nodeName(_:in:)``.
    ///   - claim: the group's hold on its images.
    ///   - members: addresses of the Ceph clients of all its nodes.
    ///   - leased: map images so that commands are admitted under the node's lease only.
    ///   - opening: open the node's own ports; without it one that is closed stays so.
    ///   - progress: called with each step before it is done.
    /// - Throws: what keeps all of it from working.
    public func up(
        node: String, stored: StoredGroup, cluster: Cluster, claim: ImageClaim, members: Set<String>,
        leased: Bool = false, opening: Bool = true, progress: (String) -> Void = { _ in }
    ) async throws -> Report {
        let prepared = try prepare(progress: progress)
        let findings = await examine(
            node: node, stored: stored, cluster: cluster, claim: claim, members: members)
        var report = try await build(
            node: node, stored: stored, fsid: cluster.fsid, findings, leased: leased, opening: opening,
            progress: progress)
        report.changes = prepared.changes + report.changes
        return report
    }

    /// The part of ``up(node:stored:cluster:claim:members:leased:opening:progress:)`` that works on this machine; it needs what
    /// ``prepare(progress:)`` and ``examine(node:stored:cluster:claim:members:scope:)`` do.
    ///
    /// - Parameters:
    ///   - fsid: the Ceph cluster's id.
    ///   - clients: addresses of the kernel's Ceph clients that images may be mapped through; `nil`: any.
    ///   - scope: numbers of the LUNs that may have changed since this was last done, and worked; all else is left unread. `nil`:
    ///     everything.
    /// - Throws: what keeps all of it from working; ``NewClient`` if an image could only be mapped through another client;
    ///   ``MoreChanged`` if something is missing that was there.
    public func build(
        node: String, stored: StoredGroup, fsid: String, _ findings: Findings, leased: Bool, opening: Bool = true,
        clients: Set<String>? = nil, scope: Set<Int>? = nil, progress: (String) -> Void = { _ in }
    ) async throws -> Report {
        var report = Report()
        let group = stored.config
        try setACLDefaults(group.timing, &report, progress)
        let luns = luns(node, group, scope).sorted { $0.lun < $1.lun }
        let mappings = mappings(of: luns, scope)
        var devices: [Int: String] = [:]
        for lun in luns {
            do {
                let name: ImageName
                do { name = try ImageName(parsing: lun.image) } catch { throw Unusable(description: error.message) }
                let mapping =
                    try rbd.mapping(of: name, imageID: lun.imageID, fsid: fsid, among: mappings)
                    ?? map(lun, name, fsid, findings, leased, &report, progress)
                if let clients, !clients.contains(mapping.clientAddress) {
                    // udev may have it open for a moment. What stays is taken for what it is when the node joins anew.
                    for _ in 0..<10 where (try? rbd.unmap(mapping)) == nil {
                        try? await Task.sleep(for: .milliseconds(100))
                    }
                    throw NewClient()
                }
                devices[lun.lun] = mapping.device
            } catch let error as Unusable {
                report.problems.append("LUN \(lun.lun): \(error.description)")
                report.unusable.insert(lun.lun)
            }
        }

        let missing = loadFabrics(node, stored, &report, progress)
        let state = try LIOReader(tree: tree).read(
            group: group.name, detailed: Set(stored.ports.map(\.iqn)), scope: scope)
        let plan = NodePlan(
            stored: stored, node: node, devices: devices, actual: state, opening: opening, scope: scope)
        if scope != nil, !plan.concernsLUNsOnly { throw MoreChanged() }
        run(plan, without: missing, state, keeping: Set(devices.values), &report, progress)
        report.problems += report.attached.map {
            "\($0): a virtual machine is attached to this port, which is not in the group any more; it shows no LUN. "
                + "Take the device vhost-scsi from the machine, or end it"
        }
        report.luns = numbers(node, group).count - (luns.count - devices.count)
        report.targets = plan.counts.targets
        report.ports = plan.counts.ports
        return report
    }

    /// Loads the modules of the fabrics that a node has ports in, and of peers' ports.
    ///
    /// - Returns: folders of the fabrics that cannot be had; each is a problem of the report's.
    private func loadFabrics(
        _ node: String, _ stored: StoredGroup, _ report: inout Report, _ progress: (String) -> Void
    ) -> Set<String> {
        var missing: Set<String> = []
        var needed: [String: String] = [:]
        let group = stored.config
        for port in stored.ports where !port.retired {
            let serves = group.targets.contains { target in
                target.iqn == port.iqn && group.nodes(of: target).contains { $0.name == node }
            }
            if port.fabric == .iscsi, serves { continue }
            if port.node == node {
                needed[port.fabric.folder] = port.fabric.module
            } else {
                needed[NodePlan.Place.remote] = "tcm_remote"
            }
        }
        for (folder, module) in needed.sorted(by: { $0.key < $1.key }) {
            do {
                if try modules.load(module) == .loaded {
                    progress("load module \(module)")
                    report.changes.append("loaded module \(module)")
                }
            } catch {
                missing.insert(folder)
                let what =
                    folder == NodePlan.Place.remote
                    ? "ports of other nodes are not listed to hosts" : "nothing is served through \(folder)"
                report.problems.append("\(what): \(error)")
            }
        }
        return missing
    }

    /// The kernel would use another client of Ceph's than those it is known to have; nothing is served through it.
    public struct NewClient: Error {}

    /// More of LIO's tree has to be built than LUNs.
    public struct MoreChanged: Error {}

    /// A LUN's image cannot be used, the others' may.
    private struct Unusable: Error, CustomStringConvertible {
        let description: String
    }

    private func map(
        _ lun: LogicalUnit, _ name: ImageName, _ fsid: String, _ findings: Findings, _ leased: Bool,
        _ report: inout Report, _ progress: (String) -> Void
    ) throws(Unusable) -> KernelRBD.Mapping {
        if let text = findings.unusable[lun.lun] { throw Unusable(description: text) }
        guard let info = findings.images[lun.lun], let access = findings.access else {
            throw Unusable(description: "image \(name) was unmapped meanwhile; run the command again")
        }
        progress("map image \(name)")
        do {
            let mapping = try rbd.map(name, imageID: info.id, fsid: fsid, access, leased: leased)
            report.changes.append("mapped image \(name) at \(mapping.device)")
            return mapping
        } catch {
            throw Unusable(description: error.description)
        }
    }

    private func run(
        _ plan: NodePlan, without missing: Set<String> = [], _ before: LIOState, keeping devices: Set<String>,
        _ report: inout Report,
        _ progress: (String) -> Void
    ) {
        report.problems += plan.conflicts
        let absent = Set(missing.map { "fabric \($0)" })
        let actions = plan.actions.filter { action in !(action.object.first.map(absent.contains) ?? false) }
        let result = PlanRunner(tree: tree).run(actions) { progress($0.description) }
        lookAgain(result.done)
        report.changes += result.done.map(\.description)
        report.problems += result.failures.map(\.message)
        report.skipped += result.skipped.map(\.description)
        report.attached += result.attached.map { $0.object.joined(separator: ", ") }

        // Images of backstores that are gone.
        let left = Set(
            result.done.compactMap { action -> String? in
                guard case .removeDirectory(let path) = action.operation, path.hasPrefix("target/core/") else {
                    return nil
                }
                return before.backstores[String(path.dropFirst("target/core/".count))]?.device
            }
        ).subtracting(devices)
        for mapping in left.sorted().compactMap(rbd.mapping(at:)) { unmap(mapping, &report, progress) }
    }

    private func unmap(_ mapping: KernelRBD.Mapping, _ report: inout Report, _ progress: (String) -> Void) {
        let name = ImageName(pool: mapping.pool, namespace: mapping.namespace, image: mapping.image)
        progress("unmap \(mapping.device) (\(name))")
        do {
            try rbd.unmap(mapping)
            report.changes.append("unmapped \(mapping.device) (\(name))")
        } catch {
            report.problems.append(error.description)
        }
    }

    // MARK: Down

    /// Takes everything of the group off this machine: LIO's objects, then the image mappings. Modules stay loaded.
    ///
    /// - Parameter stored: the group if Ceph can be reached. Without it, what is the group's is known by the names of the
    ///   backstores, and only images that backstores used are unmapped.
    public func down(group: String, stored: StoredGroup?, progress: (String) -> Void = { _ in }) throws -> Report {
        try Self.requireRoot("down")
        var report = Report()
        if tree.isMounted {
            let reader = LIOReader(tree: tree)
            let state = try reader.read(group: group, detailed: [])
            run(NodePlan(removing: group, stored: stored, actual: state), state, keeping: [], &report, progress)
            report.changes += report.attached.map { "\($0): stays, without LUN: a virtual machine is attached to it" }
        }
        guard let stored else { return report }
        // Mapped, but never exported: a previous run got no further.
        let left = tree.isMounted ? try LIOReader(tree: tree).read(group: group, detailed: []) : LIOState()
        let used = Set(left.backstores.keys.compactMap { try? tree.read(FilePath("target/core/\($0)/udev_path")) })
        for mapping in rbd.mappings() where !used.contains(mapping.device) && mapping.snapshot == nil {
            let name = ImageName(pool: mapping.pool, namespace: mapping.namespace, image: mapping.image).description
            guard stored.config.luns.contains(where: { $0.image == name && $0.imageID == mapping.imageID }) else {
                continue
            }
            if report.problems.contains(where: { $0.contains("\(mapping.device) ") }) { continue }
            unmap(mapping, &report, progress)
        }
        return report
    }
}
