// SPDX-License-Identifier: Apache-2.0
import ClusterModel

extension Importer {
    /// Reads ceph-iscsi's configuration, the object `gateway.conf` (`rados -p rbd get gateway.conf FILE`).
    ///
    /// - Throws: ``InvalidGroup`` with everything that keeps it from being read.
    public static func cephISCSI(_ text: String, group: String) throws(InvalidGroup) -> Imported {
        var reader = CephISCSIReader()
        return try reader.read(try JSONTree(parsing: text), group)
    }
}

private struct CephISCSIReader {
    var scan = Scan()
    var draft = Draft()
    /// Image by the disk's name.
    var images: [String: String] = [:]

    /// The first layout with targets, and the last that is known.
    static let versions = 4...11

    /// When and where things were made, what is said elsewhere as well, and what tcmu-runner alone needs.
    static let harmless: Set<String> = [
        "allocating_host", "backstore", "backstore_object_name", "created", "epoch", "gateway_ip_list",
        "gateways_upgraded", "inactive_portal_ips", "ip_list", "members", "owner", "pool_id", "tpgs", "updated",
    ]

    mutating func read(_ tree: JSONTree, _ group: String) throws(InvalidGroup) -> Imported {
        let root = Place(path: "", tree: tree)
        let sections = scan.object(root)
        if case .object = tree.value, sections["version"] == nil || sections["disks"] == nil {
            scan.problem(root, "this is no configuration of ceph-iscsi: it has no \"version\" and \"disks\"")
            throw InvalidGroup(scan.problems)
        }
        if let version = scan.number(sections["version"]), let at = sections["version"] {
            if version < Self.versions.lowerBound {
                scan.problem(
                    at,
                    "layout \(version) is older than targets by name; start rbd-target-api of ceph-iscsi 3 once, which "
                        + "brings the object up to date")
                throw InvalidGroup(scan.problems)
            }
            if version > Self.versions.upperBound {
                draft.note("layout \(version) is newer than \(Self.versions.upperBound), the last one known here")
            }
        }
        for (name, place) in scan.members(sections["disks"]) { readDisk(name, place) }
        draft.nodes = scan.members(sections["gateways"]).filter { $0.key != "created" && $0.key != "updated" }
            .filter { if case .object = $0.place.tree.value { true } else { false } }.map(\.key)
        scan.pass(over: sections["gateways"])
        draft.discovery = credentials(sections["discovery_auth"], of: "discovery")
        for (iqn, place) in scan.members(scan.required(sections, "targets", in: root)) { readTarget(iqn, place) }
        if !images.isEmpty {
            draft.note(
                "ceph-iscsi wants images with the feature exclusive-lock, Clio without; clio apply says how to disable it"
            )
        }
        let shown = Set(draft.targets.flatMap { $0.luns.map(\.image) })
        for image in images.values.sorted() where !shown.contains(image) {
            draft.note("image \(image) is left out: no target shows it")
        }
        let served = Set(draft.targets.flatMap { $0.nodes.map(\.name) })
        for name in draft.nodes where !served.contains(name) {
            draft.note("gateway \(name) is left out: it has no portal at any target")
        }
        draft.nodes.removeAll { !served.contains($0) }
        for line in scan.leftovers(in: root, harmless: Self.harmless) { draft.note(line) }
        if !scan.problems.isEmpty { throw InvalidGroup(scan.problems) }
        return draft.finished(name: group)
    }

    private mutating func readDisk(_ name: String, _ place: Place) {
        let fields = scan.object(place)
        guard let pool = scan.requiredText(fields, "pool", in: place),
            let image = scan.requiredText(fields, "image", in: place)
        else { return }
        let full = "\(pool)/\(image)"
        images[name] = full
        if let serial = scan.text(fields["wwn"]) { draft.serial(serial, of: full) }
        readControls(fields["controls"], "image \(full): settings of tcmu-runner")
    }

    private mutating func readControls(_ place: Place?, _ what: String) {
        let names = scan.object(place).keys.sorted().joined(separator: ", ")
        if !names.isEmpty { draft.note("\(what) are not carried over: \(names)") }
        scan.pass(over: place)
    }

    /// Credentials of a host, a target or discovery: `username` and so on, before layout 8 `chap` as `user/password`.
    private mutating func credentials(_ place: Place?, of what: String) -> CHAP? {
        let fields = scan.object(place)
        guard let place else { return nil }
        var chap: CHAP
        if let text = scan.text(fields["chap"]) {
            guard let (user, password) = Self.pair(text) else {
                if let at = fields["chap"] { scan.problem(at, "must be \"user/password\"") }
                return nil
            }
            chap = CHAP(user: user, password: Secret(password))
            if let text = scan.text(fields["chap_mutual"]), let (user, password) = Self.pair(text) {
                chap.mutualUser = user
                chap.mutualPassword = Secret(password)
            }
        } else if let user = scan.text(fields["username"]) {
            chap = CHAP(user: user, password: Secret(scan.requiredText(fields, "password", in: place) ?? ""))
            if let user = scan.text(fields["mutual_username"]) {
                chap.mutualUser = user
                chap.mutualPassword = Secret(scan.requiredText(fields, "mutual_password", in: place) ?? "")
            }
        } else {
            return nil
        }
        // Before layout 8 nothing says so, but a secret had no more than 16 characters.
        func isLong(_ secret: Secret?) -> Bool { fields["chap"] != nil && secret?.revealed.count ?? 0 > 16 }
        if scan.flag(fields["password_encryption_enabled"]) ?? isLong(chap.password) {
            draft.note(
                "\(what): its CHAP password is encrypted with ceph-iscsi's key; write it in plain text into the file")
            chap.password = Secret(Secret.redacted)
        }
        if scan.flag(fields["mutual_password_encryption_enabled"]) ?? isLong(chap.mutualPassword),
            chap.mutualUser != nil
        {
            draft.note(
                "\(what): its mutual CHAP password is encrypted with ceph-iscsi's key; write it in plain text into the file"
            )
            chap.mutualPassword = Secret(Secret.redacted)
        }
        return chap
    }

    private static func pair(_ text: String) -> (String, String)? {
        guard let slash = text.firstIndex(of: "/"), slash > text.startIndex else { return nil }
        return (String(text[..<slash]), String(text[text.index(after: slash)...]))
    }

    /// Disks with their numbers: an object since layout 10, before that a list without numbers.
    private mutating func disks(_ place: Place?) -> [Draft.LUN] {
        guard let place else { return [] }
        var found: [(String, Int?, Place)] = []
        if case .array = place.tree.value {
            for item in scan.list(place) { if let name = scan.text(item) { found.append((name, nil, item)) } }
        } else {
            for (name, item) in scan.members(place) {
                found.append((name, scan.number(scan.object(item)["lun_id"]), item))
            }
        }
        return found.compactMap { name, number, at in
            guard let image = images[name] else {
                scan.problem(at, "there is no disk \"\(name)\" under \"disks\"")
                return nil
            }
            return Draft.LUN(image: image, number: number)
        }
    }

    private mutating func readTarget(_ iqn: String, _ place: Place) {
        let fields = scan.object(place)
        if case .object = place.tree.value {} else { return }
        let open = !(scan.flag(fields["acl_enabled"]) ?? true)
        let common = credentials(fields["auth"], of: "target \(iqn)")
        var clients: [(name: String, fields: [String: Place], chap: CHAP?)] = []
        for (host, at) in scan.members(fields["clients"]) {
            let client = scan.object(at)
            clients.append((host, client, credentials(client["auth"], of: "host \(host)")))
            readControls(client["controls"], "host \(host): settings of LIO")
        }
        readControls(fields["controls"], "target \(iqn): settings of LIO")
        // The portal group asks all hosts or none, and a listed one only for its own credentials.
        let asks = common != nil || clients.contains { $0.chap != nil }
        var target = Draft.Target(iqn: iqn, access: open && common == nil && clients.isEmpty ? .open : .hosts)
        if open, common == nil, !clients.isEmpty {
            draft.note("target \(iqn): admits any host and lists some; only those listed will be admitted")
        }
        if open, common != nil {
            draft.note(
                "target \(iqn): one CHAP name for any host is not carried over; list the hosts, each with its credentials"
            )
        }
        for (node, at) in scan.members(scan.required(fields, "portals", in: place)) {
            let portal = scan.object(at)
            var addresses = scan.list(portal["portal_ip_addresses"]).compactMap { scan.text($0) }
            if let one = scan.text(portal["portal_ip_address"]) { addresses.append(one) }
            target.addPortals(addresses.map { Draft.portal($0, port: 3260) }, on: node)
        }
        var groups: [String: [Draft.LUN]] = [:]
        for (name, at) in scan.members(fields["groups"]) { groups[name] = disks(scan.object(at)["disks"]) }
        if !groups.isEmpty {
            draft.note(
                "target \(iqn): host groups \(groups.keys.sorted().joined(separator: ", ")) become lists of LUNs of each host"
            )
        }
        for (host, client, chap) in clients {
            var luns = disks(client["luns"])
            let group = scan.text(client["group_name"]) ?? ""
            for lun in groups[group] ?? [] where !luns.contains(where: { $0.image == lun.image }) { luns.append(lun) }
            if luns.isEmpty {
                draft.note("host \(host) is left out at target \(iqn): no disk is mapped to it")
                continue
            }
            if asks, chap == nil {
                draft.leaveOut(host, at: iqn)
            } else {
                target.addHost(Draft.Host(iqn: host, chap: chap, luns: luns))
            }
            // The number stands with the clients where the target's list has none.
            for lun in luns { target.addLUN(lun) }
        }
        let listed = disks(fields["disks"])
        // Numbers of the target come first.
        let mapped = target.luns
        target.luns = []
        for lun in listed + mapped { target.addLUN(lun) }
        draft.target(iqn) { $0 = target }
    }
}
