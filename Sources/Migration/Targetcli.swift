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
        for (node, text) in files {
            var reader = TargetcliReader(node: node, draft: draft)
            do {
                try reader.read(try JSONTree(parsing: text))
                draft = reader.draft
            } catch {
                problems += error.problems.map {
                    files.count == 1
                        ? $0 : Problem(path: $0.path, line: $0.line, message: "\($0.message) (file of node \(node))")
                }
            }
        }
        if !problems.isEmpty { throw InvalidGroup(problems) }
        return draft.finished(name: group)
    }
}

private struct TargetcliReader {
    let node: String
    var scan = Scan()
    var draft: Draft
    /// Image by `/backstores/<plugin>/<name>`; nil: not an image, left out.
    var images: [String: String?] = [:]

    init(node: String, draft: Draft) {
        self.node = node
        self.draft = draft
    }

    mutating func read(_ tree: JSONTree) throws(InvalidGroup) {
        let root = Place(path: "", tree: tree)
        let sections = scan.object(root)
        if case .object = tree.value, sections["storage_objects"] == nil || sections["targets"] == nil {
            scan.problem(root, "this is no configuration of targetcli: it has no \"storage_objects\" and \"targets\"")
            throw InvalidGroup(scan.problems)
        }
        for place in scan.list(sections["storage_objects"]) { readStorage(place) }
        for place in scan.list(sections["fabric_modules"]) {
            let fields = scan.object(place)
            if scan.text(fields["userid"]) != nil || scan.text(fields["discovery_userid"]) != nil {
                draft.note("CHAP for discovery is not carried over: Clio shows the names of its targets to any host")
            }
        }
        for place in scan.list(sections["targets"]) { readTarget(place) }
        if !scan.problems.isEmpty { throw InvalidGroup(scan.problems) }
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
            return
        }
        images[key] = image
        if let serial = scan.text(fields["wwn"]), draft.serials[image] == nil { draft.serial(serial, of: image) }
        if scan.flag(fields["readonly"]) ?? false { draft.note("image \(image): read-only becomes read-write") }
        let attributes = scan.object(fields["attributes"])
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
        guard let fabric = scan.requiredText(fields, "fabric", in: place),
            let iqn = scan.requiredText(fields, "wwn", in: place)
        else { return }
        guard fabric == "iscsi" else {
            draft.note("node \(node): target \(iqn) is left out: its fabric is \(fabric), a group has iSCSI only")
            return
        }
        var enabled = 0
        for item in scan.list(scan.required(fields, "tpgs", in: place)) {
            let tpg = scan.object(item)
            let tag = scan.number(tpg["tag"]) ?? 1
            guard scan.flag(tpg["enable"]) ?? true else {
                draft.note("node \(node): target \(iqn): portal group \(tag) is left out: it is not enabled")
                continue
            }
            enabled += 1
            if enabled == 2 {
                draft.note("node \(node): target \(iqn): its portal groups become one")
            }
            readTPG(tpg, iqn)
        }
    }

    private mutating func credentials(_ fields: [String: Place]) -> CHAP? {
        guard let user = scan.text(fields["userid"] ?? fields["chap_userid"]),
            let password = scan.text(fields["password"] ?? fields["chap_password"])
        else { return nil }
        return CHAP(
            user: user, password: Secret(password),
            mutualUser: scan.text(fields["mutual_userid"] ?? fields["chap_mutual_userid"]),
            mutualPassword: scan.text(fields["mutual_password"] ?? fields["chap_mutual_password"]).map { Secret($0) })
    }

    private mutating func readTPG(_ tpg: [String: Place], _ iqn: String) {
        let attributes = scan.object(tpg["attributes"])
        let wantsCHAP = scan.flag(attributes["authentication"]) ?? false
        let demo = scan.flag(attributes["generate_node_acls"]) ?? false
        let common = wantsCHAP ? credentials(tpg) : nil
        if demo, wantsCHAP {
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

        var portals: [String] = []
        for item in scan.list(tpg["portals"]) {
            let fields = scan.object(item)
            guard let address = scan.requiredText(fields, "ip_address", in: item) else { continue }
            let port = scan.number(fields["port"]) ?? 3260
            if scan.flag(fields["iser"]) ?? false {
                draft.note("node \(node): portal \(address): iSER becomes plain TCP")
            }
            portals.append(Draft.portal(address, port: port))
        }

        var hosts: [Draft.Host] = []
        for item in scan.list(tpg["node_acls"]) {
            let acl = scan.object(item)
            guard let host = scan.requiredText(acl, "node_wwn", in: item) else { continue }
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
            let chap = credentials(acl)
            if !wantsCHAP, chap != nil {
                draft.note(
                    "host \(host): has CHAP credentials that the portal group does not ask for; now they are asked for")
            }
            if mapped.isEmpty {
                draft.note("host \(host) is left out at target \(iqn): no LUN is mapped to it")
                continue
            }
            hosts.append(Draft.Host(iqn: host, chap: chap ?? common, luns: mapped))
        }

        let node = node
        draft.target(iqn) { target in
            target.access = demo && !wantsCHAP && hosts.isEmpty ? .open : .hosts
            target.addPortals(portals, on: node)
            for lun in luns { target.addLUN(lun) }
            for host in hosts { target.addHost(host) }
        }
        if demo, !wantsCHAP, !hosts.isEmpty {
            draft.note("target \(iqn): admits any host and lists some; only those listed will be admitted")
        }
    }
}
