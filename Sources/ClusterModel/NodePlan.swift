// SPDX-License-Identifier: Apache-2.0

/// What has to be done on a node so that LIO's tree becomes what the group's config says. Pure.
///
/// The tree on every node holds the ports of all nodes, so that every node reports the same set of ports (REPORT TARGET
/// PORT GROUPS) and announces every portal (SendTargets):
/// - a node's own ports are enabled; those of its peers are not, and nobody can log in through them here;
/// - a port that is not enabled is announced only with `tpg_enabled_sendtargets=0`;
/// - a peer's portal can be created although its address is not local: LIO binds with `IP_FREEBIND`;
/// - `rtpi` is set by hand on each port before it is enabled, so that it is the same everywhere;
/// - a port that is not iSCSI's is on its own node only; every other node that shows one of its LUNs has it as a port of
///   tcm_remote, which no host can reach;
/// - each port is a target port group of its own, with the port's number, so that its state can be told through the
///   others; the states are the relay's to set. All groups are implicit: a host's SET TARGET PORT GROUPS would change this
///   node's view only.
///
/// Only what is Clio's is ever removed: backstores named by ``backstoreName(group:lun:)``, and targets that the group's
/// list of ports names. Where the group cannot be had, targets that export such backstores and nothing else.
public struct NodePlan: Sendable {
    /// Steps, in order.
    public private(set) var actions: [Action] = []
    /// What cannot be done and is left alone, for a person to decide.
    public private(set) var conflicts: [String] = []
    /// Objects that the tree must have, for a summary: number of backstores, targets, ports.
    public private(set) var counts = (backstores: 0, targets: 0, ports: 0)

    public var isEmpty: Bool { actions.isEmpty && conflicts.isEmpty }

    /// Where a port is in LIO's tree: `target/<folder>/<name>/tpgt_<tag>`.
    public struct Place: Hashable, Sendable, CustomStringConvertible {
        /// ``Fabric/folder``, or ``remote``.
        public let folder: String
        public let name: String
        public let tag: Int
        /// The port's number.
        public let number: Int

        /// Folder of the ports that are elsewhere.
        public static let remote = "remote"
        static let iSCSI = Fabric.iscsi.folder

        /// Where `port` is on `node`, which serves its target.
        public init(of port: Port, on node: String) {
            number = port.number
            guard port.fabric != .iscsi else {
                (folder, name, tag) = (Self.iSCSI, port.iqn, port.number)
                return
            }
            // One TPG a port is all that tcm_qla2xxx takes; tcm_loop and tcm_remote take 31.
            tag = 1
            if port.node == node {
                (folder, name) = (port.fabric.folder, port.fabric.folderName(port.wwn ?? ""))
            } else {
                (folder, name) = (Self.remote, port.fabric.remoteName(port.wwn ?? "", number: port.number))
            }
        }

        /// Where the port of an iSCSI target is on a node that does not serve the target.
        init(away port: Port) {
            (folder, name) = (Self.remote, port.fabric.remoteName(port.iqn, number: port.number))
            (tag, number) = (1, port.number)
        }

        init(folder: String, name: String, tag: Int, number: Int) {
            (self.folder, self.name, self.tag, self.number) = (folder, name, tag, number)
        }

        /// The folder of all ports of this name.
        var parent: String { "target/\(folder)/\(name)" }
        public var path: String { "\(parent)/tpgt_\(tag)" }
        var isISCSI: Bool { folder == Self.iSCSI }
        /// For a person.
        var title: String { isISCSI ? name : "\(folder) \(name)" }
        /// ``Action/object``.
        var target: [String] { isISCSI ? ["target \(name)"] : ["fabric \(folder)", "target \(name)"] }
        func object(_ inner: String...) -> [String] { target + ["port \(number)"] + inner }
        public var description: String { "port \(number) of \(title)" }
    }

    /// The plan that makes `node` serve the group.
    ///
    /// - Parameters:
    ///   - stored: the group; `nil` when it cannot be had: then the node must serve nothing (``init(removing:stored:actual:)``).
    ///   - node: the node's name; it has to be one of the group's.
    ///   - devices: the block device each LUN's image is mapped at, by LUN number.
    ///     LUNs that are not in it are neither built nor taken away.
    ///   - actual: the tree as it is.
    ///   - opening: whether to open the node's own ports; without it one that is closed stays so.
    ///   - scope: numbers of the LUNs that are in question, the only ones that `actual` has to know; the others are as they
    ///     should be. `nil`: all.
    public init(
        stored: StoredGroup, node: String, devices: [Int: String], actual: LIOState, opening: Bool = true,
        scope: Set<Int>? = nil
    ) {
        let group = stored.config
        let ownTargets = group.targets.filter { target in group.nodes(of: target).contains { $0.name == node } }
        self.init(
            group: group.name, stored: stored, node: node, targets: ownTargets, devices: devices, actual: actual,
            opening: opening, scope: scope)
    }

    /// Whether all that has to be done is to LUNs: nothing around them is missing.
    public var concernsLUNsOnly: Bool {
        conflicts.isEmpty
            && actions.allSatisfy { action in
                action.object.first?.hasPrefix("backstore ") == true || action.object.last?.hasPrefix("LUN ") == true
            }
    }

    /// The plan that takes everything of the group off this node.
    ///
    /// - Parameter stored: the group if it can be had; without it, targets are known by the backstores they export.
    public init(removing group: String, stored: StoredGroup?, actual: LIOState) {
        self.init(
            group: group, stored: stored, node: "", targets: [], devices: [:], actual: actual, opening: false,
            scope: nil)
    }

    // MARK: Names

    /// A backstore's name: `clio-<group>-lun<n>`.
    public static func backstoreName(group: String, lun: Int) -> String { "clio-\(group)-lun\(lun)" }

    /// The LUN number in a backstore's name, if it is one of the group's.
    public static func lun(ofBackstore name: String, group: String) -> Int? {
        let prefix = "clio-\(group)-lun"
        guard name.hasPrefix(prefix) else { return nil }
        let digits = name.dropFirst(prefix.count)
        guard !digits.isEmpty, digits.allSatisfy({ ("0"..."9").contains($0) }) else { return nil }
        return Int(digits)
    }

    /// Name of a port's target port group.
    public static func portGroupName(_ port: Int) -> String { "port\(port)" }

    /// Number of the port that a target port group is of, if it is one of Clio's.
    public static func port(ofGroup name: String) -> Int? {
        name.hasPrefix("port") ? Int(name.dropFirst(4)) : nil
    }

    /// A value that is written one way and may read another way.
    struct Setting {
        let key: String
        let value: String
        let shown: String
        init(_ key: String, _ value: String, shown: String? = nil) {
            self.key = key
            self.value = value
            self.shown = shown ?? value
        }
    }

    /// `attrib/*` of a backstore. emulate_tpu/tpws: UNMAP and WRITE SAME with UNMAP become discards of the image.
    static let backstoreAttributes = [
        Setting("block_size", "512"), Setting("emulate_caw", "1"), Setting("emulate_3pc", "1"),
        Setting("emulate_fua_write", "1"), Setting("emulate_tpu", "1"), Setting("emulate_tpws", "1"),
        Setting("is_nonrot", "1"),
    ]

    /// `alua/default_tg_pt_gp/*` of a backstore: state 0 is active/optimized, access type 1 implicit (SPC-4 5.15.2).
    static let aluaAttributes = [
        Setting("alua_access_state", "0"), Setting("alua_access_type", "1", shown: "Implicit"),
    ]

    /// `alua/port<n>/*` of a backstore. The number is written once and for all.
    static func portGroupAttributes(_ port: Int) -> [Setting] {
        [Setting("tg_pt_gp_id", String(port)), Setting("alua_access_type", "1", shown: "Implicit")]
    }

    /// `attrib/*` of a TPG of tcm_qla2xxx.
    static func fibreChannelAttributes(of target: ClusterTarget) -> [Setting] {
        let open = target.access == .open
        return [
            Setting("generate_node_acls", open ? "1" : "0"), Setting("cache_dynamic_acls", open ? "1" : "0"),
            Setting("demo_mode_write_protect", open ? "0" : "1"), Setting("prod_mode_write_protect", "0"),
            Setting("demo_mode_login_only", open ? "0" : "1"),
        ]
    }

    /// Attributes a reader has to fill in, by folder.
    public static var attributesOfInterest:
        (backstore: [String], alua: [String], portGroup: [String], tpg: [String], acl: [String], auth: [String])
    {
        (
            backstoreAttributes.map(\.key), aluaAttributes.map(\.key), portGroupAttributes(0).map(\.key),
            [
                "authentication", "generate_node_acls", "cache_dynamic_acls", "demo_mode_write_protect",
                "prod_mode_write_protect", "demo_mode_discovery", "tpg_enabled_sendtargets", "demo_mode_login_only",
            ], ["authentication", "nopin_timeout", "nopin_response_timeout"],
            ["userid", "password", "userid_mutual", "password_mutual"]
        )
    }

    /// `attrib/*` of a TPG.
    static func tpgAttributes(of target: ClusterTarget, hosts: [Host], own: Bool) -> [Setting] {
        let open = target.access == .open
        // Where every host has CHAP the port offers nothing else; where only some have, each host's ACL decides.
        let everyHostHasCHAP = !open && !hosts.isEmpty && hosts.allSatisfy { $0.chap != nil }
        return [
            Setting("authentication", everyHostHasCHAP ? "1" : "0"), Setting("generate_node_acls", open ? "1" : "0"),
            Setting("cache_dynamic_acls", open ? "1" : "0"), Setting("demo_mode_write_protect", open ? "0" : "1"),
            Setting("prod_mode_write_protect", "0"), Setting("demo_mode_discovery", open ? "1" : "0"),
            Setting("tpg_enabled_sendtargets", own ? "1" : "0"),
        ]
    }

    // MARK: The plan

    private init(
        group: String, stored: StoredGroup?, node: String, targets: [ClusterTarget], devices: [Int: String],
        actual: LIOState, opening: Bool, scope: Set<Int>?
    ) {
        var builder = Builder(
            group: group, stored: stored, node: node, targets: targets, devices: devices, actual: actual,
            opening: opening, scope: scope)
        builder.build()
        actions = builder.removals + builder.creations
        conflicts = builder.conflicts
        counts = builder.counts
    }
}

private struct Builder {
    let group: String
    let stored: StoredGroup?
    let node: String
    let targets: [ClusterTarget]
    let devices: [Int: String]
    let actual: LIOState
    let opening: Bool
    let scope: Set<Int>?

    var removals: [Action] = []
    var creations: [Action] = []
    var conflicts: [String] = []
    var counts = (backstores: 0, targets: 0, ports: 0)

    /// Backstores that go away, or are made anew; by key.
    private var doomed: Set<String> = []
    /// Folders that go away.
    private var removed: Set<String> = []
    /// Where each LUN's backstore is or will be; by LUN number.
    private var places: [Int: String] = [:]
    /// LUNs that this node serves and that are in question.
    private var wanted: [Int: LogicalUnit] = [:]
    /// Ports that are not among those of an iSCSI target that this node serves, and where they are here.
    private var others: [(port: Port, target: ClusterTarget, place: NodePlan.Place)] = []

    init(
        group: String, stored: StoredGroup?, node: String, targets: [ClusterTarget], devices: [Int: String],
        actual: LIOState, opening: Bool, scope: Set<Int>?
    ) {
        self.group = group
        self.stored = stored
        self.node = node
        self.targets = targets
        self.devices = devices
        self.actual = actual
        self.opening = opening
        self.scope = scope
    }

    mutating func build() {
        let config = stored?.config ?? Group(name: group)
        wanted = Dictionary(
            targets.flatMap { config.luns(of: $0) }.map { ($0.lun, $0) }, uniquingKeysWith: { first, _ in first })
        counts.backstores = wanted.count
        others = otherPorts(config)
        if let scope { wanted = wanted.filter { scope.contains($0.key) } }

        // Backstores: which stay, which go.
        for (key, backstore) in actual.backstores.sorted(by: { $0.key < $1.key }) {
            guard let number = NodePlan.lun(ofBackstore: backstore.name, group: group) else { continue }
            guard let lun = wanted[number], places[number] == nil else {
                doomed.insert(key)
                continue
            }
            guard let device = devices[number] else {
                // The image cannot be had now. Leave what works.
                places[number] = key
                continue
            }
            let same = backstore.enabled && backstore.device == device && backstore.serial == lun.serial
            if same { places[number] = key } else { doomed.insert(key) }
        }

        removeTargets(config)
        removeOthers()
        let iSCSI = targets.filter { $0.fabric == .iscsi }
        for target in iSCSI.sorted(by: { $0.iqn < $1.iqn }) where conflict(target) {
            conflicts.append(conflictText(target))
        }
        let served = iSCSI.filter { !conflict($0) }
        counts.targets = targets.count

        for number in wanted.keys.sorted() {
            guard let lun = wanted[number] else { continue }
            buildBackstore(lun)
        }
        buildDiscovery(config)
        for target in served { buildTarget(target, config) }
        buildOthers(config)
        removeBackstores()
    }

    // MARK: Ownership

    private func isOurs(_ key: String) -> Bool {
        guard let name = key.split(separator: "/").last else { return false }
        return NodePlan.lun(ofBackstore: String(name), group: group) != nil
    }

    private func backstores(of tpgs: [Int: LIOState.TPG]) -> [String] {
        tpgs.values.flatMap { $0.luns.values.compactMap(\.backstore) }
    }

    /// A target of the config that exports something that is not Clio's.
    private func conflict(_ target: ClusterTarget) -> Bool {
        guard let tpgs = actual.targets[target.iqn] else { return false }
        return backstores(of: tpgs).contains { !isOurs($0) }
    }

    private func conflictText(_ target: ClusterTarget) -> String {
        conflictText(target.iqn, actual.targets[target.iqn] ?? [:])
    }

    private func conflictText(_ name: String, _ tpgs: [Int: LIOState.TPG]) -> String {
        let foreign = Set(backstores(of: tpgs).filter { !isOurs($0) }).sorted()
        return "target \(name) exists and exports \(foreign.joined(separator: ", ")), which is not Clio's: "
            + "it is left alone; remove it from LIO or give the group's target another name"
    }

    // MARK: Backstores

    private func object(backstore name: String) -> [String] { ["backstore \(name)"] }

    private mutating func create(
        _ operation: Operation, _ object: [String], _ description: String, requires: [[String]] = []
    ) {
        creations.append(
            Action(
                operation: operation, object: object, requires: requires, removesWhole: false, description: description)
        )
    }

    private mutating func remove(_ operation: Operation, _ object: [String], _ description: String, whole: Bool = false)
    {
        if case .removeDirectory(let path) = operation { removed.insert(path) }
        removals.append(
            Action(operation: operation, object: object, requires: [], removesWhole: whole, description: description))
    }

    private mutating func removeBackstores() {
        for key in actual.backstores.keys.sorted() {
            guard let backstore = actual.backstores[key], isOurs(key) else { continue }
            let number = NodePlan.lun(ofBackstore: backstore.name, group: group) ?? -1
            let kept = doomed.contains(key) ? [] : ports(showing: number)
            for name in backstore.portGroups.keys.sorted() {
                guard let port = NodePlan.port(ofGroup: name), !kept.contains(port) else { continue }
                remove(
                    .removeDirectory("target/core/\(key)/alua/\(name)"), object(backstore: backstore.name),
                    "remove target port group \(port) of \(backstore.name)")
            }
        }
        for key in doomed.sorted() {
            guard let backstore = actual.backstores[key] else { continue }
            let made = creations.contains { $0.operation == .makeDirectory("target/core/\(key)") }
            remove(
                .removeDirectory("target/core/\(key)"), object(backstore: backstore.name),
                "remove backstore \(backstore.name)" + (made ? ", to be made anew" : ""), whole: true)
            let others = actual.backstores.values.contains { $0.hba == backstore.hba && !doomed.contains($0.key) }
            let last = doomed.filter { $0.hasPrefix("\(backstore.hba)/") }.max() == key
            let returns = creations.contains { $0.operation.path.hasPrefix("target/core/\(backstore.hba)/") }
            if last, !others, !returns {
                remove(
                    .removeDirectory("target/core/\(backstore.hba)"), object(backstore: backstore.name),
                    "remove \(backstore.hba), which is empty")
            }
        }
    }

    /// Numbers of the ports that show a LUN here, on whatever node.
    private func ports(showing lun: Int) -> [Int] {
        guard let stored, wanted[lun] != nil else { return [] }
        func shows(_ target: ClusterTarget) -> Bool { target.luns?.contains(lun) ?? true }
        let own = targets.filter { $0.fabric == .iscsi && shows($0) }.flatMap { target in
            stored.config.nodes(of: target).flatMap { stored.ports(iqn: target.iqn, node: $0.name).map(\.number) }
        }
        return (own + others.filter { shows($0.target) }.map(\.port.number)).sorted()
    }

    private mutating func buildPortGroups(
        _ lun: Int, _ key: String, _ object: [String], _ name: String, present: [String: [String: String]]
    ) {
        for port in ports(showing: lun) {
            let group = NodePlan.portGroupName(port)
            let path = "target/core/\(key)/alua/\(group)"
            let found = present[group]
            if found == nil {
                create(.makeDirectory(path), object, "backstore \(name): create target port group \(port)")
            }
            for setting in NodePlan.portGroupAttributes(port) where found?[setting.key] != setting.shown {
                create(
                    .write("\(path)/\(setting.key)", value: setting.value), object,
                    "backstore \(name): target port group \(port): \(setting.key) = \(setting.shown)")
            }
        }
    }

    private mutating func buildBackstore(_ lun: LogicalUnit) {
        let name = NodePlan.backstoreName(group: group, lun: lun.lun)
        let object = object(backstore: name)
        if let key = places[lun.lun] {
            // It is there. Device and serial are right, or unknown for now.
            guard devices[lun.lun] != nil, let present = actual.backstores[key] else { return }
            tune(key, object, name, attributes: present.attributes, alua: present.alua)
            buildPortGroups(lun.lun, key, object, name, present: present.portGroups)
            return
        }
        guard let device = devices[lun.lun] else { return }
        let hba = "iblock_\(lun.lun)"
        let key = "\(hba)/\(name)"
        let path = "target/core/\(key)"
        places[lun.lun] = key
        let hbaPath = "target/core/\(hba)"
        if actual.hbas[hba] == nil { create(.makeDirectory(hbaPath), object, "create \(hba)") }
        create(.makeDirectory(path), object, "create backstore \(name) for \(lun.image)")
        create(.write("\(path)/control", value: "udev_path=\(device)"), object, "backstore \(name): use \(device)")
        create(.write("\(path)/udev_path", value: device), object, "backstore \(name): note \(device)")
        let serial = lun.serial ?? ""
        create(.write("\(path)/wwn/vpd_unit_serial", value: serial), object, "backstore \(name): serial \(serial)")
        create(.write("\(path)/enable", value: "1"), object, "backstore \(name): open \(device)")
        tune(key, object, name, attributes: nil, alua: nil)
        buildPortGroups(lun.lun, key, object, name, present: [:])
    }

    private mutating func tune(
        _ key: String, _ object: [String], _ name: String, attributes: [String: String]?, alua: [String: String]?
    ) {
        for setting in NodePlan.backstoreAttributes where attributes?[setting.key] != setting.shown {
            create(
                .write("target/core/\(key)/attrib/\(setting.key)", value: setting.value), object,
                "backstore \(name): \(setting.key) = \(setting.value)")
        }
        for setting in NodePlan.aluaAttributes where alua?[setting.key] != setting.shown {
            // A new backstore's group is active/optimized already, and LIO refuses a transition to the state it is in.
            if alua == nil, setting.key == "alua_access_state" { continue }
            create(
                .write("target/core/\(key)/alua/default_tg_pt_gp/\(setting.key)", value: setting.value), object,
                "backstore \(name): \(setting.key) = \(setting.shown)")
        }
    }

    // MARK: Targets

    private mutating func removeTargets(_ config: Group) {
        let known = Set((stored?.ports ?? []).filter { $0.fabric == .iscsi }.map(\.iqn))
        let wanted = Set(targets.filter { $0.fabric == .iscsi }.map(\.iqn))
        for (iqn, tpgs) in actual.targets.sorted(by: { $0.key < $1.key }) where !wanted.contains(iqn) {
            let exported = backstores(of: tpgs)
            let all = exported.allSatisfy(isOurs)
            if known.contains(iqn), !all {
                conflicts.append(
                    "target \(iqn) exports backstores that are not Clio's: it is left alone; remove it from LIO by hand"
                )
            }
            guard all, stored == nil ? !exported.isEmpty : known.contains(iqn) else { continue }
            removeTarget(Place.iSCSI, iqn, tpgs)
        }
    }

    private mutating func removeTarget(_ folder: String, _ name: String, _ tpgs: [Int: LIOState.TPG]) {
        func place(_ tag: Int) -> Place {
            let number = folder == Place.iSCSI ? tag : tpgs[tag].map { $0.rtpi == 0 ? tag : $0.rtpi } ?? tag
            return Place(folder: folder, name: name, tag: tag, number: number)
        }
        // Open ports first: hosts move to other nodes at once.
        let order = tpgs.sorted { ($0.value.enabled ? 0 : 1, $0.key) < ($1.value.enabled ? 0 : 1, $1.key) }
        for (tag, tpg) in order { removeTPG(place(tag), tpg) }
        let whole = place(0)
        remove(.removeDirectory(whole.parent), whole.target, "remove target \(whole.title)", whole: true)
    }

    private mutating func removeTPG(_ place: Place, _ tpg: LIOState.TPG) {
        let path = place.path
        if tpg.enabled {
            remove(.write("\(path)/enable", value: "0"), place.object(), "disable \(place)")
        }
        for name in tpg.portals.sorted() { removePortal(place, name) }
        for (host, acl) in tpg.acls.sorted(by: { $0.key < $1.key }) { removeACL(place, host, acl) }
        for (number, lun) in tpg.luns.sorted(by: { $0.key < $1.key }) { removeLUN(place, number, lun) }
        remove(.removeDirectory(path), place.object(), "remove \(place)", whole: true)
    }

    private mutating func removePortal(_ place: Place, _ name: String) {
        remove(
            .removeDirectory("\(place.path)/np/\(name)"), place.object("portal \(name)"),
            "remove portal \(name) from \(place)", whole: true)
    }

    private mutating func removeACL(_ place: Place, _ host: String, _ acl: LIOState.ACL) {
        for (number, mapped) in acl.luns.sorted(by: { $0.key < $1.key }) {
            removeMapped(place, host, number, mapped)
        }
        remove(
            .removeDirectory("\(place.path)/acls/\(host)"), place.object("host \(host)"),
            "remove host \(host) from \(place)", whole: true)
    }

    private mutating func removeMapped(
        _ place: Place, _ host: String, _ number: Int, _ mapped: LIOState.MappedLUN
    ) {
        let path = "\(place.path)/acls/\(host)/lun_\(number)"
        if removed.contains(path) { return }
        let object = place.object("host \(host)", "LUN \(number)")
        if let link = mapped.link {
            remove(.unlink("\(path)/\(link)"), object, "hide LUN \(number) from \(host) at port \(place.number)")
        }
        remove(.removeDirectory(path), object, "remove LUN \(number) of \(host) at port \(place.number)", whole: true)
    }

    private mutating func removeLUN(_ place: Place, _ number: Int, _ lun: LIOState.LUN) {
        let path = "\(place.path)/lun/lun_\(number)"
        let object = place.object("LUN \(number)")
        if let link = lun.link {
            remove(.unlink("\(path)/\(link)"), object, "withdraw LUN \(number) from \(place)")
        }
        remove(.removeDirectory(path), object, "remove LUN \(number) from \(place)", whole: true)
    }

    private mutating func buildTarget(_ target: ClusterTarget, _ config: Group) {
        guard let stored else { return }
        let path = "target/iscsi/\(target.iqn)"
        let present = actual.targets[target.iqn]
        if present == nil { create(.makeDirectory(path), ["target \(target.iqn)"], "create target \(target.iqn)") }
        let serving = config.nodes(of: target)
        let ports = serving.flatMap { node in stored.ports(iqn: target.iqn, node: node.name).map { ($0, node) } }
        let tags = Set(ports.map(\.0.number))
        for (tag, tpg) in (present ?? [:]).sorted(by: { $0.key < $1.key }) where !tags.contains(tag) {
            removeTPG(Place(folder: Place.iSCSI, name: target.iqn, tag: tag, number: tag), tpg)
        }
        // Peers first: when this node's own port opens, discovery is complete.
        for (port, node) in ports.sorted(by: {
            ($0.1.name == self.node ? 1 : 0, $0.0.number) < ($1.1.name == self.node ? 1 : 0, $1.0.number)
        }) {
            counts.ports += 1
            buildTPG(target, Place(of: port, on: self.node), node, config, present?[port.number])
        }
    }

    // MARK: Other fabrics

    /// Ports of other fabrics, and of iSCSI targets that this node does not serve, as far as they show LUNs of this node.
    private func otherPorts(_ config: Group) -> [(Port, ClusterTarget, Place)] {
        guard let stored, !targets.isEmpty else { return [] }
        let own = Set(targets.map(\.iqn))
        return config.targets.filter { target in
            (target.fabric != .iscsi || !own.contains(target.iqn) && target.iqn.hasPrefix("iqn."))
                && config.luns(of: target).contains { wanted[$0.lun] != nil }
        }.flatMap { target in
            config.nodes(of: target).flatMap { stored.ports(iqn: target.iqn, node: $0.name) }.map { port in
                (port, target, target.fabric == .iscsi ? Place(away: port) : Place(of: port, on: node))
            }
        }
    }

    /// Takes away ports that are Clio's and have no business here any more.
    private mutating func removeOthers() {
        let wanted = Set(others.map(\.place.parent))
        var known: Set<String> = []
        for port in stored?.ports ?? [] {
            if port.fabric == .iscsi {
                known.insert(Place(away: port).parent)
            } else {
                for node in [port.node, ""] { known.insert(Place(of: port, on: node).parent) }
            }
        }
        for (folder, names) in actual.fabrics.sorted(by: { $0.key < $1.key }) {
            for (name, tpgs) in names.sorted(by: { $0.key < $1.key }) {
                let parent = Place(folder: folder, name: name, tag: 0, number: 0).parent
                let exported = backstores(of: tpgs)
                guard !wanted.contains(parent), exported.allSatisfy(isOurs),
                    stored == nil ? !exported.isEmpty : known.contains(parent)
                else { continue }
                removeTarget(folder, name, tpgs)
            }
        }
    }

    /// Has SRP take connections by RDMA/CM, without which there are none over Ethernet. A port that somebody set stays.
    private mutating func listen() {
        let path = "target/srpt/discovery_auth/rdma_cm_port"
        guard actual.connectionPort == 0, !creations.contains(where: { $0.operation.path == path }) else { return }
        let port = String(Fabric.connectionPort)
        create(.write(path, value: port), ["fabric \(Fabric.srp.folder)"], "SRP: RDMA/CM port \(port)")
    }

    private mutating func buildOthers(_ config: Group) {
        var registered = Set(actual.fabrics.keys)
        // Peers first, as in iSCSI.
        for (port, target, place) in others.sorted(by: {
            ($0.place.folder == Place.remote ? 0 : 1, $0.port.number)
                < ($1.place.folder == Place.remote ? 0 : 1, $1.port.number)
        }) {
            guard let owner = config.nodes.first(where: { $0.name == port.node }) else { continue }
            let present = actual.fabrics[place.folder]?[place.name]
            if let present, backstores(of: present).contains(where: { !isOurs($0) }) {
                conflicts.append(conflictText(place.title, present))
                continue
            }
            counts.ports += 1
            if registered.insert(place.folder).inserted {
                create(
                    .makeDirectory("target/\(place.folder)"), ["fabric \(place.folder)"],
                    "register \(place.folder) with LIO")
            }
            if place.folder == Fabric.srp.folder { listen() }
            if present == nil { create(.makeDirectory(place.parent), place.target, "create target \(place.title)") }
            buildTPG(target, place, owner, config, present?[place.tag])
        }
    }

    /// The one I_T nexus of a port that is local.
    private mutating func buildNexus(_ place: Place, _ present: LIOState.TPG?) {
        // One that is there stays: LIO changes it only while the port shows no LUN.
        guard present?.nexus == nil else { return }
        let name = Fabric.initiator(at: place.name)
        create(.write("\(place.path)/nexus", value: name), place.object(), "\(place): initiator \(name)")
    }

    private mutating func buildTPG(
        _ target: ClusterTarget, _ place: Place, _ node: Node, _ config: Group, _ found: LIOState.TPG?
    ) {
        let own = node.name == self.node
        let path = place.path
        let object = place.object()
        let hosts = config.hosts(of: target)
        var present = found

        // LIO keeps the hosts it let in while the port was open. Only a new port forgets them.
        if let tpg = present, tpg.attributes["generate_node_acls"] == "1", target.access == .hosts {
            removeTPG(place, tpg)
            present = nil
        }
        if present == nil {
            create(
                .makeDirectory(path), object,
                "create \(place) (\(own ? "this node" : "node \(node.name)"))")
        }
        var enabled = present?.enabled ?? false
        if enabled, !own || present?.rtpi != place.number {
            // First of all: nobody may come in by a port that is a peer's, or that has the wrong number.
            remove(.write("\(path)/enable", value: "0"), object, "disable \(place)")
            enabled = false
        }
        if present?.rtpi != place.number {
            create(
                .write("\(path)/rtpi", value: String(place.number)), object,
                "\(place): relative target port \(place.number)")
        }
        let attributes: [Setting] =
            switch (place.isISCSI, own, target.fabric) {
            case (true, _, _): NodePlan.tpgAttributes(of: target, hosts: hosts, own: own)
            case (false, true, .fc): NodePlan.fibreChannelAttributes(of: target)
            default: []
            }
        for setting in attributes where present?.attributes[setting.key] != setting.shown {
            create(
                .write("\(path)/attrib/\(setting.key)", value: setting.value), object,
                "\(place): \(setting.key) = \(setting.value)")
        }
        if own, target.fabric.isLocal { buildNexus(place, present) }
        buildLUNs(target, place, config, present, withNew: opening || !own || target.fabric.hasEnable)
        if place.isISCSI || own { buildACLs(target, place, hosts, config, present) }
        if place.isISCSI { buildPortals(target, place, node, config, present) }
        if own, opening, !enabled, target.fabric.hasEnable {
            create(.write("\(path)/enable", value: "1"), object, "enable \(place)")
        }
    }

    /// - Parameter withNew: whether to show what is not shown yet.
    private mutating func buildLUNs(
        _ target: ClusterTarget, _ place: Place, _ config: Group, _ present: LIOState.TPG?, withNew: Bool
    ) {
        var wanted: [Int: String] = [:]
        var unavailable: Set<Int> = []
        for lun in config.luns(of: target) where self.wanted[lun.lun] != nil {
            if let key = places[lun.lun] { wanted[lun.lun] = key } else { unavailable.insert(lun.lun) }
        }
        for (number, lun) in (present?.luns ?? [:]).sorted(by: { $0.key < $1.key }) {
            let stays =
                wanted[number].map { lun.backstore == $0 && !doomed.contains($0) } ?? unavailable.contains(number)
            if stays { continue }
            for (host, acl) in (present?.acls ?? [:]).sorted(by: { $0.key < $1.key }) {
                for (mappedNumber, mapped) in acl.luns.sorted(by: { $0.key < $1.key }) where mapped.lun == number {
                    removeMapped(place, host, mappedNumber, mapped)
                }
            }
            removeLUN(place, number, lun)
        }
        for (number, key) in wanted.sorted(by: { $0.key < $1.key }) {
            let path = "\(place.path)/lun/lun_\(number)"
            let object = place.object("LUN \(number)")
            let name = NodePlan.backstoreName(group: group, lun: number)
            let requires = [self.object(backstore: name)]
            let portGroup = NodePlan.portGroupName(place.number)
            func join() {
                create(
                    .write("\(path)/alua_tg_pt_gp", value: portGroup), object,
                    "LUN \(number) at \(place): target port group \(place.number)", requires: requires)
            }
            if let lun = present?.luns[number], lun.backstore == key, !doomed.contains(key) {
                // Without its device a backstore that is there is left as it is, groups and all.
                if lun.portGroup != portGroup, devices[number] != nil { join() }
                continue
            }
            guard withNew else { continue }
            create(.makeDirectory(path), object, "create LUN \(number) at \(place)", requires: requires)
            create(
                .link("\(path)/\(name)", to: "target/core/\(key)"), object,
                "show \(name) as LUN \(number) at \(place)", requires: requires)
            join()
        }
    }

    private mutating func buildACLs(
        _ target: ClusterTarget, _ place: Place, _ hosts: [Host], _ config: Group, _ present: LIOState.TPG?
    ) {
        let names = Set(hosts.map { target.fabric.folderName($0.iqn) })
        for (host, acl) in (present?.acls ?? [:]).sorted(by: { $0.key < $1.key }) where !names.contains(host) {
            removeACL(place, host, acl)
        }
        for host in hosts {
            buildACL(target, place, host, config, present, present?.acls[target.fabric.folderName(host.iqn)])
        }
    }

    private mutating func buildACL(
        _ target: ClusterTarget, _ port: Place, _ host: Host, _ config: Group, _ tpg: LIOState.TPG?,
        _ present: LIOState.ACL?
    ) {
        let name = target.fabric.folderName(host.iqn)
        let path = "\(port.path)/acls/\(name)"
        let object = port.object("host \(name)")
        let place = "host \(host.iqn) at port \(port.number)"
        if present == nil { create(.makeDirectory(path), object, "create \(place)") }
        if port.isISCSI { buildLogin(host, path, object, place, config, present) }

        let numbers = config.luns(of: target).map(\.lun).filter { host.luns?.contains($0) ?? true }
        for (number, mapped) in (present?.luns ?? [:]).sorted(by: { $0.key < $1.key }) {
            if !numbers.contains(number) || mapped.lun != number { removeMapped(port, name, number, mapped) }
        }
        for number in numbers where places[number] != nil {
            let mappedPath = "\(path)/lun_\(number)"
            let object = object + ["LUN \(number)"]
            let lunObject = port.object("LUN \(number)")
            let requires = [lunObject, self.object(backstore: NodePlan.backstoreName(group: group, lun: number))]
            if let mapped = present?.luns[number], mapped.lun == number, !removed.contains(mappedPath) {
                if mapped.writeProtected {
                    create(
                        .write("\(mappedPath)/write_protect", value: "0"), object, "LUN \(number) of \(place): writable"
                    )
                }
                continue
            }
            create(.makeDirectory(mappedPath), object, "create LUN \(number) of \(place)", requires: requires)
            create(
                .link("\(mappedPath)/lun_\(number)", to: "\(port.path)/lun/lun_\(number)"), object,
                "show LUN \(number) to \(place)", requires: requires)
        }
    }

    /// How an iSCSI host logs in, and how soon it is taken for gone.
    private mutating func buildLogin(
        _ host: Host, _ path: String, _ object: [String], _ place: String, _ config: Group, _ present: LIOState.ACL?
    ) {
        write(host.chap, over: present?.auth ?? [:], "\(path)/auth", object, place)
        let attributes = [
            Setting("authentication", host.chap == nil ? "0" : "1"),
            Setting("nopin_timeout", String(config.timing.ping)),
            Setting("nopin_response_timeout", String(config.timing.pingTimeout)),
        ]
        for setting in attributes where present?.attributes[setting.key] != setting.shown {
            create(
                .write("\(path)/attrib/\(setting.key)", value: setting.value), object,
                "\(place): \(setting.key) = \(setting.value)")
        }
    }

    /// Writes credentials that are not what is there.
    private mutating func write(
        _ chap: CHAP?, over present: [String: Secret], _ path: String, _ object: [String], _ place: String
    ) {
        let auth: [(String, Secret?, String)] = [
            ("userid", chap.map { Secret($0.user) }, "CHAP name"), ("password", chap?.password, "CHAP secret"),
            ("userid_mutual", chap?.mutualUser.map { Secret($0) }, "mutual CHAP name"),
            ("password_mutual", chap?.mutualPassword, "mutual CHAP secret"),
        ]
        for (key, value, what) in auth {
            let now = present[key]?.revealed ?? ""
            if let value {
                if now != value.revealed {
                    create(.writeSecret("\(path)/\(key)", value), object, "\(place): set \(what)")
                }
            } else if now != "", now != "NULL" {
                // LIO takes NULL as "not set".
                create(.write("\(path)/\(key)", value: "NULL"), object, "\(place): clear \(what)")
            }
        }
    }

    /// What discovery asks for. LIO has it once for the machine, so it is left alone unless the group ever had a say in it.
    private mutating func buildDiscovery(_ config: Group) {
        let wanted = targets.contains { $0.fabric == .iscsi } ? config.discovery : nil
        guard wanted != nil || stored?.ownsDiscovery == true else { return }
        let path = "target/iscsi/discovery_auth"
        let object = ["discovery"]
        func enforce(_ value: String) {
            create(.write("\(path)/enforce_discovery_auth", value: value), object, "discovery: ask for CHAP: \(value)")
        }
        if wanted == nil, actual.discovery.enforced { enforce("0") }
        write(wanted, over: actual.discovery.auth, path, object, "discovery")
        if wanted != nil, !actual.discovery.enforced { enforce("1") }
    }

    private mutating func buildPortals(
        _ target: ClusterTarget, _ place: Place, _ node: Node, _ config: Group, _ present: LIOState.TPG?
    ) {
        let wanted = config.portals(of: target, on: node).compactMap { try? Portal(parsing: $0) }
        var there: Set<Portal> = []
        for name in (present?.portals ?? []).sorted() {
            if let portal = try? Portal(parsing: name), wanted.contains(portal) {
                there.insert(portal)
            } else {
                removePortal(place, name)
            }
        }
        for portal in wanted where !there.contains(portal) {
            create(
                .makeDirectory("\(place.path)/np/\(portal)"), place.object("portal \(portal)"),
                "create portal \(portal) at \(place)")
        }
    }
}

private typealias Setting = NodePlan.Setting
private typealias Place = NodePlan.Place
