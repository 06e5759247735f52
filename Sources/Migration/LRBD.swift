// SPDX-License-Identifier: Apache-2.0
import ClusterModel

/// Files of other systems, made into groups.
public enum Importer {
    /// Reads lrbd's configuration as `lrbd -o` prints it: sections `pools`, `targets`, `portals`, `auth` (lrbd.conf(5)).
    ///
    /// - Throws: ``InvalidGroup`` with everything that keeps it from being read.
    public static func lrbd(_ text: String, group: String) throws(InvalidGroup) -> Imported {
        var reader = LRBDReader()
        return try reader.read(try JSONTree(parsing: text), group)
    }
}

private struct LRBDReader {
    var scan = Scan()
    var draft = Draft()
    /// Target by host, for pools that name hosts.
    var targetsOfHost: [String: [String]] = [:]
    var portals: [String: [String]] = [:]
    /// Targets that ask each host for credentials of its own.
    var asking: Set<String> = []
    /// Credentials by target, and by initiator beneath it.
    var common: [String: CHAP] = [:]
    var own: [String: [String: CHAP]] = [:]

    /// How lrbd maps an image and names its backstore. Where it makes a serial by itself, the image has none here.
    static let harmless: Set<String> = ["rbd_name", "retries", "retry_errors", "sleep", "wwn_generate"]

    mutating func read(_ tree: JSONTree, _ group: String) throws(InvalidGroup) -> Imported {
        let root = Place(path: "", tree: tree)
        let sections = scan.object(root)
        if case .object = tree.value, sections["pools"] == nil {
            let found = sections.keys.sorted().joined(separator: ", ")
            scan.problem(
                root,
                "this is no configuration of lrbd: there is no \"pools\"" + (found.isEmpty ? "" : ", only \(found)"))
        }
        for place in scan.list(sections["portals"]) { readPortal(place) }
        for place in scan.list(sections["targets"]) { readTarget(place) }
        for place in scan.list(sections["auth"]) { readAuth(place) }
        for place in scan.list(sections["pools"]) { readPool(place) }
        for target in draft.targets where target.access == nil {
            draft.note(
                "target \(target.iqn): has no entry under \"auth\"; the hosts listed will be admitted without CHAP, no others"
            )
        }
        for line in scan.leftovers(in: root, harmless: Self.harmless) { draft.note(line) }
        if !scan.problems.isEmpty { throw InvalidGroup(scan.problems) }
        return draft.finished(name: group)
    }

    private mutating func readPortal(_ place: Place) {
        let fields = scan.object(place)
        guard let name = scan.requiredText(fields, "name", in: place),
            let addresses = scan.required(fields, "addresses", in: place)
        else { return }
        let list = scan.list(addresses).compactMap { scan.text($0) }.map { Draft.portal($0) }
        if portals[name] != nil { scan.problem(place, "portal \"\(name)\" is defined twice") }
        portals[name] = list
    }

    private mutating func addresses(_ place: Place?) -> [String] {
        guard let place, let name = scan.text(place) else { return [] }
        guard let list = portals[name] else {
            scan.problem(place, "there is no portal \"\(name)\" under \"portals\"")
            return []
        }
        return list
    }

    private mutating func readTarget(_ place: Place) {
        let fields = scan.object(place)
        guard let iqn = scan.requiredText(fields, "target", in: place) else { return }
        var hosts: [(String, [String])] = []
        if let list = fields["hosts"] {
            for item in scan.list(list) {
                let host = scan.object(item)
                guard let name = scan.requiredText(host, "host", in: item) else { continue }
                hosts.append((name, addresses(host["portal"])))
            }
        } else if let name = scan.requiredText(fields, "host", in: place) {
            hosts.append((name, addresses(fields["portal"])))
        }
        for (name, portals) in hosts {
            targetsOfHost[name, default: []].append(iqn)
            draft.target(iqn) { $0.addPortals(portals, on: name) }
        }
    }

    private mutating func credentials(_ place: Place?, _ fields: [String: Place]) -> CHAP? {
        guard let place, let user = scan.requiredText(fields, "userid", in: place),
            let password = scan.requiredText(fields, "password", in: place)
        else { return nil }
        var chap = CHAP(user: user, password: Secret(password))
        if scan.flag(fields["mutual"]) ?? false {
            chap.mutualUser = scan.requiredText(fields, "userid_mutual", in: place)
            chap.mutualPassword = scan.requiredText(fields, "password_mutual", in: place).map { Secret($0) }
        }
        return chap
    }

    private mutating func readAuth(_ place: Place) {
        let fields = scan.object(place)
        var iqns: [String] = []
        var subject = ""
        if let iqn = scan.text(fields["target"]) {
            subject = "target \(iqn)"
            if draft.targets.contains(where: { $0.iqn == iqn }) {
                iqns = [iqn]
            } else {
                draft.note("authentication of target \(iqn) is left out: it is not under \"targets\"")
            }
        } else if let host = scan.text(fields["host"]) {
            subject = "gateway \(host)"
            iqns = targetsOfHost[host] ?? []
            if iqns.isEmpty { scan.problem(place, "host \"\(host)\" has no target under \"targets\"") }
        } else {
            scan.problem(place, "names neither target nor host")
        }
        let discovery = scan.object(fields["discovery"])
        if scan.flag(discovery["auth"]) ?? false, let chap = credentials(fields["discovery"], discovery) {
            draft.discover(chap, at: subject)
        }
        let kind = scan.text(fields["authentication"]) ?? "none"
        for iqn in iqns { draft.admit(kind == "none" ? .open : .hosts, to: iqn) }
        switch kind {
        case "none", "identified": break
        case "tpg", "tpg+identified":
            let inner = fields["tpg"] ?? scan.required(fields, "tpg", in: place)
            let chap = credentials(inner, scan.object(inner))
            for iqn in iqns { common[iqn] = chap }
            if kind == "tpg" {
                for iqn in iqns {
                    draft.note(
                        "target \(iqn): one CHAP name for any host becomes that of each host listed; others cannot log in"
                    )
                }
            }
        case "acls":
            asking.formUnion(iqns)
            for item in scan.list(fields["acls"] ?? scan.required(fields, "acls", in: place)) {
                let acl = scan.object(item)
                guard let host = scan.requiredText(acl, "initiator", in: item),
                    let chap = credentials(item, acl)
                else { continue }
                for iqn in iqns { own[iqn, default: [:]][host] = chap }
            }
        default:
            if let at = fields["authentication"] {
                scan.problem(
                    at, "is \"none\", \"tpg\", \"tpg+identified\", \"identified\" or \"acls\", not \"\(kind)\"")
            }
        }
    }

    private mutating func readPool(_ place: Place) {
        let fields = scan.object(place)
        guard let pool = scan.requiredText(fields, "pool", in: place) else { return }
        for gateway in scan.list(scan.required(fields, "gateways", in: place)) {
            let entry = scan.object(gateway)
            if let iqn = scan.text(entry["target"]) {
                readTPG(entry, gateway, pool, iqn, host: nil)
            } else if let host = scan.text(entry["host"]) {
                let iqns = targetsOfHost[host] ?? []
                if iqns.isEmpty { scan.problem(gateway, "host \"\(host)\" has no target under \"targets\"") }
                for iqn in iqns { readTPG(entry, gateway, pool, iqn, host: host) }
            } else {
                scan.problem(gateway, "names neither target nor host")
            }
        }
    }

    private mutating func readTPG(
        _ entry: [String: Place], _ gateway: Place, _ pool: String, _ iqn: String, host: String?
    ) {
        if host == nil, !targetsOfHost.values.contains(where: { $0.contains(iqn) }), let at = entry["target"] {
            scan.problem(at, "target \"\(iqn)\" is not under \"targets\": no host serves it")
        }
        var following: [String: Int] = [:]
        for item in scan.list(scan.required(entry, "tpg", in: gateway)) {
            let fields = scan.object(item)
            guard let image = scan.requiredText(fields, "image", in: item) else { continue }
            let name = "\(pool)/\(image)"
            let initiator = scan.text(fields["initiator"])
            // Where no number is given lrbd counts, for each initiator by itself.
            let number = scan.number(fields["lun"]) ?? following[initiator ?? "", default: 0]
            following[initiator ?? ""] = number + 1
            if let serial = scan.text(fields["uuid"]) { draft.serial(serial, of: name) }
            if let host, fields["portal"] != nil {
                let list = addresses(fields["portal"])
                draft.target(iqn) { $0.addPortals(list, on: host) }
            }
            let lun = Draft.LUN(image: name, number: number)
            draft.target(iqn) { $0.addLUN(lun) }
            guard let initiator else { continue }
            let chap = own[iqn]?[initiator] ?? common[iqn]
            if asking.contains(iqn), chap == nil {
                draft.leaveOut(initiator, at: iqn)
            } else {
                draft.add(Draft.Host(iqn: initiator, chap: chap, luns: [lun]), to: iqn)
            }
        }
    }
}
