// SPDX-License-Identifier: Apache-2.0
import ClusterModel

extension Importer {
    /// Reads what targetcli saved (saveconfig.json(5)), a file for each node.
    ///
    /// - Parameter files: name of the node and its file's text. The first file in which an image has a serial counts.
    /// - Throws: ``InvalidGroup`` with everything that keeps a file from being read; where there are several files, the
    ///   node's name stands before each.
    public static func targetcli(_ files: [(node: String, text: String)], group: String) throws(InvalidGroup)
        -> Imported
    {
        var draft = Draft()
        var problems: [Problem] = []
        var openToDiscovery: [String] = []
        for (node, text) in files {
            var reader = TargetcliReader(node: node, draft: draft)
            do {
                try reader.read(try JSONTree(parsing: text))
                draft = reader.draft
                if !reader.asksInDiscovery { openToDiscovery.append(node) }
            } catch {
                problems += error.problems.map {
                    files.count == 1
                        ? $0 : Problem(path: $0.path, line: $0.line, message: "\($0.message) (file of node \(node))")
                }
            }
        }
        if !problems.isEmpty { throw InvalidGroup(problems) }
        if draft.discovery != nil, !openToDiscovery.isEmpty {
            draft.note(
                "node \(openToDiscovery.joined(separator: ", ")): discovery asked for no CHAP, now it does: a group has one way"
            )
        }
        return draft.finished(name: group)
    }
}

private struct TargetcliReader {
    let node: String
    var scan = Scan()
    var draft: Draft
    /// Image by `/backstores/<plugin>/<name>`; nil: not an image, left out.
    var images: [String: String?] = [:]
    var asksInDiscovery = false
    /// Settings that are not carried over, as `key=value`, by kind of object, and whose they are.
    var settings: [String: [String: [String]]] = [:]

    init(node: String, draft: Draft) {
        self.node = node
        self.draft = draft
    }

    /// Names of links in configfs, what is said elsewhere as well, and what tcmu-runner alone needs.
    static let harmless: Set<String> = ["alias", "alua_tg_pt_gp_name", "hw_max_sectors", "size"]

    mutating func read(_ tree: JSONTree) throws(InvalidGroup) {
        let root = Place(path: "", tree: tree)
        let sections = scan.object(root)
        if case .object = tree.value, sections["storage_objects"] == nil || sections["targets"] == nil {
            scan.problem(root, "this is no configuration of targetcli: it has no \"storage_objects\" and \"targets\"")
            throw InvalidGroup(scan.problems)
        }
        for place in scan.list(sections["storage_objects"]) { readStorage(place) }
        for place in scan.list(sections["fabric_modules"]) { readFabric(place) }
        for place in scan.list(sections["targets"]) { readTarget(place) }
        for (kind, found) in settings.sorted(by: { $0.key < $1.key }) {
            let list = found.sorted { $0.key < $1.key }.map { setting, names in
                let more = names.count > 3 ? " and \(names.count - 3) more" : ""
                return "\(setting) (\(names.prefix(3).joined(separator: ", "))\(more))"
            }
            draft.note(
                "node \(node): settings of \(kind) other than LIO's are not carried over: "
                    + list.joined(separator: "; "))
        }
        for line in scan.leftovers(in: root, harmless: Self.harmless) { draft.note("node \(node): \(line)") }
        if !scan.problems.isEmpty { throw InvalidGroup(scan.problems) }
    }

    /// Remembers the settings that are none of the `usual` ones.
    private mutating func compare(_ place: Place?, _ usual: [String: [String]], _ kind: String, _ name: String) {
        for (key, at) in scan.members(place) {
            guard let value = scan.setting(at) else { continue }
            if let values = usual[key], values.isEmpty || values.contains(value) { continue }
            settings[kind, default: [:]]["\(key)=\(value)", default: []].append(name)
        }
    }

    private mutating func readFabric(_ place: Place) {
        let fields = scan.object(place)
        guard scan.text(fields["name"]) ?? "iscsi" == "iscsi" else { return }
        let chap = credentials(fields, "discovery_")
        guard scan.flag(fields["discovery_enable_auth"]) ?? (chap != nil) else {
            if chap != nil {
                draft.note(
                    "node \(node): has CHAP credentials for discovery and does not ask for them; they are left out")
            }
            return
        }
        asksInDiscovery = true
        if chap == nil {
            draft.note(
                "node \(node): discovery asks for CHAP and has no credentials, so it refuses all; write some into the file"
            )
        }
        draft.discover(chap ?? CHAP(user: "", password: Secret(Secret.redacted)), at: "node \(node)")
    }

    private mutating func readStorage(_ place: Place) {
        let fields = scan.object(place)
        guard let plugin = scan.requiredText(fields, "plugin", in: place),
            let name = scan.requiredText(fields, "name", in: place)
        else { return }
        let key = "/backstores/\(plugin)/\(name)"
        images[key] = .some(nil)
        guard ["block", "user", "rbd", "fileio", "pscsi", "ramdisk"].contains(plugin) else {
            if let at = fields["plugin"] {
                scan.problem(at, "storage object \"\(name)\": plugin \"\(plugin)\" is not known")
            }
            return
        }
        // tcmu-runner's plugin keeps "rbd/<pool>/<image>;<options>" in config, the others the device in dev.
        let source = plugin == "user" ? scan.requiredText(fields, "config", in: place) : scan.text(fields["dev"])
        guard let source, let image = Self.image(source, plugin) else {
            let what = source.map { " on \($0)" } ?? ""
            draft.note(
                "node \(node): storage object \(plugin)/\(name)\(what) is left out: "
                    + (plugin == "block" || plugin == "rbd"
                        ? "only /dev/rbd/POOL/IMAGE says which image it is" : "it is no RBD image"))
            scan.pass(over: place)
            return
        }
        images[key] = image
        if let serial = scan.text(fields["wwn"]), draft.serials[image] == nil { draft.serial(serial, of: image) }
        if scan.flag(fields["readonly"]) ?? false { draft.note("image \(image): read-only becomes read-write") }
        if plugin == "user", let options = source.firstIndex(of: ";") {
            let text = source[source.index(after: options)...]
            draft.note("image \(image): options of tcmu-runner are not carried over: \(text)")
        }
        let attributes = scan.object(fields["attributes"])
        compare(fields["attributes"], LIODefaults.backstore, "storage objects", name)
        for group in scan.list(fields["alua_tpgs"]) {
            if let group = scan.text(scan.object(group)["name"]), group != "default_tg_pt_gp" {
                settings["storage objects", default: [:]]["target port group \(group)", default: []].append(name)
            }
        }
        // LIO's own group is the same for everyone: targetcli does not restore its settings.
        scan.pass(over: fields["alua_tpgs"])
        if let size = scan.number(attributes["block_size"]), size != 512 {
            draft.note(
                "image \(image): blocks of \(size) bytes become 512 bytes; what hosts wrote may not be readable to them"
            )
        }
    }

    private static func image(_ source: String, _ plugin: String) -> String? {
        var text = source[...]
        switch plugin {
        case "user":
            text = text.prefix { $0 != ";" }
            guard text.hasPrefix("rbd/") else { return nil }
            text = text.dropFirst(4)
        case "block", "rbd":
            guard text.hasPrefix("/dev/rbd/") else { return nil }
            text = text.dropFirst(9)
        default: return nil
        }
        return (try? ImageName(parsing: String(text)))?.description
    }

    private mutating func readTarget(_ place: Place) {
        let fields = scan.object(place)
        guard let folder = scan.requiredText(fields, "fabric", in: place),
            let wwn = scan.requiredText(fields, "wwn", in: place)
        else { return }
        guard let fabric = Fabric.allCases.first(where: { $0.folder == folder }) else {
            let known = Fabric.allCases.map(\.folder).joined(separator: ", ")
            draft.note("node \(node): target \(wwn) is left out: its fabric is \(folder), a group can have \(known)")
            scan.pass(over: place)
            return
        }
        compare(fields["parameters"], LIODefaults.target, "targets", wwn)
        var enabled = 0
        for item in scan.list(scan.required(fields, "tpgs", in: place)) {
            let tpg = scan.object(item)
            let tag = scan.number(tpg["tag"]) ?? 1
            guard scan.flag(tpg["enable"]) ?? true else {
                draft.note("node \(node): target \(wwn): portal group \(tag) is left out: it is not enabled")
                scan.pass(over: item)
                continue
            }
            enabled += 1
            if enabled == 2 {
                draft.note("node \(node): target \(wwn): its portal groups become one")
            }
            compare(tpg["attributes"], LIODefaults.portalGroup, "portal groups", "\(wwn) tpg\(tag)")
            compare(tpg["parameters"], LIODefaults.negotiation, "portal groups", "\(wwn) tpg\(tag)")
            readTPG(tpg, wwn, fabric)
        }
        if enabled == 0 { draft.note("node \(node): target \(wwn) is left out: it has no enabled portal group") }
    }

    /// Credentials under keys with a prefix, or as older versions wrote them without.
    private mutating func credentials(_ fields: [String: Place], _ prefix: String) -> CHAP? {
        func field(_ key: String) -> Place? { fields[prefix + key] ?? fields[key] }
        guard let user = scan.text(field("userid")), let password = scan.text(field("password")) else { return nil }
        return CHAP(
            user: user, password: Secret(password), mutualUser: scan.text(field("mutual_userid")),
            mutualPassword: scan.text(field("mutual_password")).map { Secret($0) })
    }

    /// Whether a host is asked for CHAP: its ACL says so, or leaves it to the portal group (-1).
    private mutating func asksForCHAP(_ attributes: Place?, else portalGroup: Bool) -> Bool {
        let own = scan.object(attributes)["authentication"]
        if scan.setting(own) == "-1" { return portalGroup }
        return scan.flag(own) ?? portalGroup
    }

    /// Whether a portal group admits hosts that have no ACL, and shows them its LUNs.
    private mutating func admitsAnyHost(_ attributes: [String: Place], _ fabric: Fabric) -> Bool {
        switch fabric {
        case .iscsi: scan.flag(attributes["generate_node_acls"]) ?? false
        case .fc:
            // Other defaults than iSCSI's: whoever is not listed may log in and sees nothing.
            (scan.flag(attributes["generate_node_acls"]) ?? true)
                && !(scan.flag(attributes["demo_mode_login_only"]) ?? true)
        case .srp: false
        case .loopback, .vhost: true
        }
    }

    private mutating func readTPG(_ tpg: [String: Place], _ iqn: String, _ fabric: Fabric) {
        let attributes = scan.object(tpg["attributes"])
        let wantsCHAP = fabric == .iscsi && scan.flag(attributes["authentication"]) ?? true
        let demo = admitsAnyHost(attributes, fabric)
        // These are for hosts without an ACL; LIO asks a listed one for its own.
        if demo, wantsCHAP, credentials(tpg, "chap_") != nil {
            draft.note(
                "target \(iqn): one CHAP name for any host is not carried over; list the hosts, each with its credentials"
            )
        }

        var shown: [Int: String] = [:]
        var luns: [Draft.LUN] = []
        for item in scan.list(tpg["luns"]) {
            let fields = scan.object(item)
            guard let index = scan.number(scan.required(fields, "index", in: item)),
                let storage = scan.requiredText(fields, "storage_object", in: item)
            else { continue }
            guard let known = images[storage] else {
                if let at = fields["storage_object"] {
                    scan.problem(at, "there is no \"\(storage)\" under \"storage_objects\"")
                }
                continue
            }
            guard let image = known else { continue }
            shown[index] = image
            luns.append(Draft.LUN(image: image, number: index))
        }
        let left = Set(scan.list(tpg["luns"]).compactMap { scan.number(scan.object($0)["index"]) }).subtracting(
            shown.keys)

        var portals = fabric == .iscsi ? [] : [iqn]
        for item in scan.list(fabric == .iscsi ? tpg["portals"] : nil) {
            let fields = scan.object(item)
            guard let address = scan.requiredText(fields, "ip_address", in: item) else { continue }
            let port = scan.number(fields["port"]) ?? 3260
            if scan.flag(fields["iser"]) ?? false {
                draft.note("node \(node): portal \(address): iSER becomes plain TCP")
            }
            portals.append(Draft.portal(address, port: port))
        }

        var hosts: [Draft.Host] = []
        let acls = scan.list(fabric.isLocal ? nil : tpg["node_acls"])
        for item in acls {
            let acl = scan.object(item)
            guard let host = scan.requiredText(acl, "node_wwn", in: item) else { continue }
            compare(acl["attributes"], LIODefaults.acl, "hosts", host)
            var mapped: [Draft.LUN] = []
            for entry in scan.list(acl["mapped_luns"]) {
                let fields = scan.object(entry)
                guard let index = scan.number(scan.required(fields, "index", in: entry)),
                    let target = scan.number(scan.required(fields, "tpg_lun", in: entry))
                else { continue }
                guard let image = shown[target] else {
                    if let at = fields["tpg_lun"], !left.contains(target) {
                        scan.problem(at, "there is no LUN \(target) in the portal group")
                    }
                    continue
                }
                if scan.flag(fields["write_protect"]) ?? false {
                    draft.note(
                        "host \(host): LUN \(index) (\(image)) is write-protected for it; it will be able to write")
                }
                mapped.append(Draft.LUN(image: image, number: index))
            }
            let chap = fabric == .iscsi ? credentials(acl, "chap_") : nil
            let asked = asksForCHAP(acl["attributes"], else: wantsCHAP)
            if mapped.isEmpty {
                draft.note("host \(host) is left out at target \(iqn): no LUN is mapped to it")
            } else if asked, chap == nil {
                draft.leaveOut(host, at: iqn)
            } else {
                if !asked, chap != nil {
                    draft.note("host \(host): has CHAP credentials that it was not asked for; now it is")
                }
                hosts.append(Draft.Host(iqn: host, chap: chap, luns: mapped))
            }
        }

        // Where there are ACLs, a host that is left out must not come in as any other.
        let open = demo && !wantsCHAP && acls.isEmpty
        let node = node
        draft.target(iqn) { target in
            target.fabric = fabric
            target.addPortals(portals, on: node)
            for lun in luns { target.addLUN(lun) }
        }
        draft.admit(open ? .open : .hosts, to: iqn)
        for host in hosts { draft.add(host, to: iqn) }
        if open, !fabric.isLocal, scan.flag(attributes["demo_mode_write_protect"]) ?? true {
            draft.note("target \(iqn): any host may log in, but not write; it will be able to")
        }
        if demo, !wantsCHAP, !acls.isEmpty {
            draft.note("target \(iqn): admits any host and lists some; only those listed will be admitted")
        }
    }
}
