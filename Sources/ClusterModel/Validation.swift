// SPDX-License-Identifier: Apache-2.0

extension Group {
    /// Longest name of a group: it becomes part of an object's and of backstores' names.
    static let longestName = 32
    /// Longest name of a node: Linux's host names.
    static let longestNodeName = 64

    /// What is wrong with the name of a target of another fabric than iSCSI.
    static func fault(targetName name: String) -> String? {
        PlainName.fault(name, what: "a target's name", limit: longestNodeName)
    }

    /// What is wrong with the name of a node.
    public static func fault(nodeName name: String) -> String? {
        PlainName.fault(name, what: "a node's name", limit: longestNodeName)
    }

    /// Everything that is wrong with the group, in the order of the file. Empty: it can be applied.
    ///
    /// - Parameters:
    ///   - targetPath: where target `i` stands in the file, `targets[i]` unless the short form is used.
    ///   - complete: whether a group without nodes, targets and LUNs is refused. A group that was just created has none.
    public func problems(targetPath: (Int) -> String = { "targets[\($0)]" }, complete: Bool = true) -> [Problem] {
        var check = Checker()
        if let fault = PlainName.fault(name, what: "a group's name", limit: Self.longestName) {
            check.add("group", fault)
        }
        for (key, message) in timing.faults() { check.add("timing.\(key)", message) }
        if let discovery { checkCHAP(discovery, at: "discovery", &check) }
        checkNodes(&check, complete: complete)
        checkLUNs(&check, complete: complete)
        checkHosts(&check)
        checkTargets(&check, targetPath, complete: complete)
        return check.problems
    }

    private func checkNodes(_ check: inout Checker, complete: Bool) {
        if nodes.isEmpty, complete { check.add("nodes", "a group needs at least one node") }
        var names = Seen<String, String>()
        var portals = Seen<String, String>()
        for (i, node) in nodes.enumerated() {
            let path = "nodes[\(i)]"
            if let fault = Self.fault(nodeName: node.name) {
                check.add("\(path).name", fault)
            } else if let first = names.earlier(node.name, at: "\(path).name") {
                check.add("\(path).name", "node \"\(node.name)\" is already defined at \(first)")
            }
            if node.portals.isEmpty {
                let overridden = targets.allSatisfy {
                    $0.fabric != .iscsi || $0.portals?[node.name] != nil || $0.nodes?.contains(node.name) == false
                }
                if !overridden || targets.isEmpty { check.add("\(path).portals", "a node needs at least one portal") }
            }
            checkPortals(node.portals, at: "\(path).portals", &portals, &check)
        }
    }

    private func checkPortals(
        _ list: [String], at path: String, _ seen: inout Seen<String, String>, _ check: inout Checker
    ) {
        for (j, text) in list.enumerated() {
            do {
                let portal = try Portal(parsing: text)
                if let first = seen.earlier(portal.description, at: "\(path)[\(j)]") {
                    check.add("\(path)[\(j)]", "portal \(portal) is already used at \(first)")
                }
            } catch {
                check.add("\(path)[\(j)]", error.message)
            }
        }
    }

    private func checkLUNs(_ check: inout Checker, complete: Bool) {
        if luns.isEmpty, complete { check.add("luns", "a group needs at least one LUN") }
        // By the LUN's index: a place is put into words only if something is wrong with it.
        var numbers = Seen<Int, Int>()
        var images = Seen<ImageName, Int>()
        var serials = Seen<String, Int>()
        for (i, lun) in luns.enumerated() {
            var path: String { "luns[\(i)]" }
            if !LogicalUnit.numbers.contains(lun.lun) {
                check.add(
                    "\(path).lun",
                    "a LUN is \(LogicalUnit.numbers.lowerBound) to \(LogicalUnit.numbers.upperBound), not \(lun.lun)")
            } else if let first = numbers.earlier(lun.lun, at: i) {
                check.add("\(path).lun", "LUN \(lun.lun) is already defined at luns[\(first)].lun")
            }
            do {
                let image = try ImageName(parsing: lun.image)
                if let first = images.earlier(image, at: i) {
                    check.add(
                        "\(path).image",
                        "image \(image) already stands at luns[\(first)].image; one image is one logical unit and has "
                            + "one number")
                }
            } catch {
                check.add("\(path).image", error.message)
            }
            guard let text = lun.serial else { continue }
            do {
                let serial = try LUNSerial(text)
                if let first = serials.earlier(serial.naa, at: i) {
                    check.add(
                        "\(path).serial",
                        "makes the same NAA designator \(serial.naa) as luns[\(first)].serial (its first "
                            + "\(LUNSerial.naaDigits) hexadecimal digits count); hosts would take the two for one disk")
                }
            } catch {
                check.add("\(path).serial", error.message)
            }
        }
    }

    private func checkHosts(_ check: inout Checker) {
        let known = Set(luns.map(\.lun))
        var names = Seen<String, String>()
        for (i, host) in hosts.enumerated() {
            let path = "hosts[\(i)]"
            let key = host.fabric == .iscsi ? "iqn" : "name"
            if let fault = host.fabric.fault(host: host.iqn) {
                check.add("\(path).\(key)", fault)
            } else if let first = names.earlier(host.iqn, at: "\(path).\(key)") {
                check.add("\(path).\(key)", "host \"\(host.iqn)\" is already defined at \(first)")
            }
            if host.chap != nil, host.fabric != .iscsi {
                check.add("\(path).chap", "is iSCSI's; \(host.fabric.rawValue) has no CHAP")
            } else if let chap = host.chap {
                checkCHAP(chap, at: "\(path).chap", &check)
            }
            if let list = host.luns {
                if list.isEmpty {
                    check.add("\(path).luns", "is empty; leave it out to show every LUN, or remove the host")
                }
                checkReferences(list, known: known, at: "\(path).luns", &check)
            }
        }
    }

    private func checkCHAP(_ chap: CHAP, at path: String, _ check: inout Checker) {
        func user(_ name: String, _ key: String) {
            if !CHAP.userLengths.contains(name.utf8.count) {
                check.add("\(path).\(key)", "a CHAP name has 1 to 255 characters, this one has \(name.utf8.count)")
            } else if let reason = Self.textFault(name) {
                check.add("\(path).\(key)", "a CHAP name \(reason)")
            }
        }
        func password(_ secret: Secret, _ key: String) {
            let text = secret.revealed
            if text == Secret.redacted {
                check.add("\(path).\(key)", "is the placeholder that clio get prints; put the secret itself here")
            } else if !CHAP.passwordLengths.contains(text.utf8.count) {
                check.add(
                    "\(path).\(key)",
                    "a CHAP secret has 12 to 255 characters (RFC 7143 wants 96 bits), this one has \(text.utf8.count)")
            } else if let reason = Self.textFault(text) {
                check.add("\(path).\(key)", "a CHAP secret \(reason)")
            }
        }
        user(chap.user, "user")
        password(chap.password, "password")
        if let name = chap.mutualUser { user(name, "mutualUser") }
        if let secret = chap.mutualPassword { password(secret, "mutualPassword") }
        switch (chap.mutualUser, chap.mutualPassword) {
        case (.some, nil):
            check.add("\(path).mutualPassword", "is missing; mutual CHAP needs mutualUser and mutualPassword")
        case (nil, .some):
            check.add("\(path).mutualUser", "is missing; mutual CHAP needs mutualUser and mutualPassword")
        case (_, .some(let secret)) where secret == chap.password && secret.revealed != Secret.redacted:
            check.add("\(path).mutualPassword", "must differ from password (RFC 7143 section 12.1.3)")
        default: break
        }
    }

    /// What LIO or a host would not take in a CHAP text.
    private static func textFault(_ text: String) -> String? {
        if text.unicodeScalars.contains(where: { $0.value < 0x21 || $0.value > 0x7e }) {
            return "is made of printable ASCII characters without spaces"
        }
        if text.hasPrefix("NULL") { return "must not begin with \"NULL\": LIO takes that as \"none\"" }
        return nil
    }

    private func checkTargets(_ check: inout Checker, _ targetPath: (Int) -> String, complete: Bool) {
        if targets.isEmpty, complete { check.add("targets", "a group needs at least one target") }
        let nodeNames = nodes.map(\.name)
        let numbers = Set(luns.map(\.lun))
        var names = Seen<String, String>()
        var ports = Seen<String, String>()
        for (i, target) in targets.enumerated() {
            let path = targetPath(i)
            let key = target.fabric == .iscsi ? "iqn" : "name"
            if let fault = target.fabric == .iscsi ? Self.fault(iqn: target.iqn) : Self.fault(targetName: target.iqn) {
                check.add("\(path).\(key)", fault)
            } else if let first = names.earlier(target.iqn, at: "\(path).\(key)") {
                check.add("\(path).\(key)", "target \"\(target.iqn)\" is already defined at \(first)")
            }
            if let names = target.nodes {
                if names.isEmpty { check.add("\(path).nodes", "is empty; leave it out for all nodes") }
                checkNames(names, known: nodeNames, what: "node", listed: "nodes", at: "\(path).nodes", &check)
            }
            if target.fabric != .iscsi { checkPorts(target, path, &ports, &check) }
            if target.ports != nil, target.fabric == .iscsi {
                check.add("\(path).ports", "an iSCSI target has portals; ports are of other fabrics")
            }
            // A portal belongs to one node; within one target, LIO refuses it twice. Two targets may share one.
            var portals = Seen<String, String>()
            for (j, node) in nodes.enumerated() where target.portals?[node.name] == nil {
                for (k, text) in node.portals.enumerated() {
                    guard let portal = try? Portal(parsing: text) else { continue }
                    _ = portals.earlier(portal.description, at: "nodes[\(j)].portals[\(k)]")
                }
            }
            for (name, list) in (target.portals ?? [:]).sorted(by: { $0.key < $1.key }) {
                let at = "\(path).portals.\(name)"
                if !nodeNames.contains(name) {
                    check.add(at, unknown("node", name, listed: "nodes", among: nodeNames))
                }
                if list.isEmpty { check.add(at, "is empty; leave it out for the node's own portals") }
                checkPortals(list, at: at, &portals, &check)
            }
            if let list = target.luns {
                if list.isEmpty { check.add("\(path).luns", "is empty; leave it out for all LUNs") }
                checkReferences(list, known: numbers, at: "\(path).luns", &check)
            }
            if let names = target.hosts {
                if names.isEmpty { check.add("\(path).hosts", "is empty; leave it out for all hosts") }
                if target.fabric.isLocal {
                    check.add("\(path).hosts", "\(target.fabric.rawValue) has none to list: leave it out")
                } else if target.access == .open {
                    check.add("\(path).hosts", "an open target admits any host; set access: hosts")
                }
                // Names of the same fabric: it says of others that there are none.
                let known = hosts.filter { $0.fabric == target.fabric }.map(\.iqn)
                checkNames(names, known: known, what: "host", listed: "hosts", at: "\(path).hosts", &check)
            } else if target.access == .hosts, !hosts.contains(where: { $0.fabric == target.fabric }), complete {
                let what = target.fabric == .iscsi ? "hosts" : "hosts of fabric \(target.fabric.rawValue)"
                let open = target.fabric == .srp ? "" : ", or set access: open for any host"
                check.add("\(path).access", "nobody could log in: list \(what) under \"hosts\"\(open)")
            }
        }
    }

    /// What is wrong with an iSCSI target's name.
    private static func fault(iqn: String) -> String? {
        if let fault = ISCSIName.fault(iqn) { return fault }
        guard iqn.hasPrefix("naa.") else { return nil }
        return "a target's name starts with \"iqn.\" or \"eui.\": LIO's discovery knows no \"naa.\""
    }

    /// A target of another fabric than iSCSI.
    private func checkPorts(
        _ target: ClusterTarget, _ path: String, _ seen: inout Seen<String, String>, _ check: inout Checker
    ) {
        let fabric = target.fabric
        if target.nodes != nil { check.add("\(path).nodes", "is iSCSI's; here ports says which nodes serve it") }
        if target.portals != nil { check.add("\(path).portals", "is iSCSI's; \(fabric.rawValue) has ports") }
        if fabric.isLocal, target.access != .open {
            check.add("\(path).access", "\(fabric.rawValue) admits whoever is on the node: leave it out")
        }
        if fabric == .srp, target.access == .open {
            check.add("\(path).access", "LIO's SRP admits no host that is not listed: set access: hosts")
        }
        if (target.ports ?? [:]).isEmpty {
            check.add("\(path).ports", "is missing; it names the ports by node: {gw1: [\(fabric.examplePort)]}")
        }
        let nodeNames = nodes.map(\.name)
        for (name, list) in (target.ports ?? [:]).sorted(by: { $0.key < $1.key }) {
            let at = "\(path).ports.\(name)"
            if !nodeNames.contains(name) { check.add(at, unknown("node", name, listed: "nodes", among: nodeNames)) }
            if list.isEmpty { check.add(at, "is empty; leave the node out if it does not serve the target") }
            for (k, port) in list.enumerated() {
                if let fault = fabric.fault(port: port) {
                    check.add("\(at)[\(k)]", fault)
                } else if let first = seen.earlier(port, at: "\(at)[\(k)]") {
                    check.add("\(at)[\(k)]", "port \(port) is already used at \(first)")
                }
            }
        }
    }

    private func checkNames(
        _ names: [String], known: [String], what: String, listed: String, at path: String, _ check: inout Checker
    ) {
        var seen = Seen<String, String>()
        for (j, name) in names.enumerated() {
            if !known.contains(name) {
                check.add("\(path)[\(j)]", unknown(what, name, listed: listed, among: known))
            } else if let first = seen.earlier(name, at: "\(path)[\(j)]") {
                check.add("\(path)[\(j)]", "\(what) \"\(name)\" is already listed at \(first)")
            }
        }
    }

    private func unknown(_ what: String, _ name: String, listed: String, among known: [String]) -> String {
        let hint = nearest(to: name, among: known).map { "; did you mean \"\($0)\"?" } ?? ""
        return "there is no \(what) \"\(name)\" under \"\(listed)\"\(hint)"
    }

    private func checkReferences(_ numbers: [Int], known: Set<Int>, at path: String, _ check: inout Checker) {
        var seen = Seen<Int, Int>()
        for (j, number) in numbers.enumerated() {
            if !known.contains(number) {
                check.add("\(path)[\(j)]", "there is no LUN \(number) under \"luns\"")
            } else if let first = seen.earlier(number, at: j) {
                check.add("\(path)[\(j)]", "LUN \(number) is already listed at \(path)[\(first)]")
            }
        }
    }
}

/// Collects problems.
private struct Checker {
    var problems: [Problem] = []
    mutating func add(_ path: String, _ message: String) { problems.append(Problem(path: path, message: message)) }
}

/// Where a value was first met.
private struct Seen<Value: Hashable, Place> {
    private var places: [Value: Place] = [:]
    /// The place of an earlier, equal value; remembers this one if there is none.
    mutating func earlier(_ value: Value, at place: Place) -> Place? {
        if let first = places[value] { return first }
        places[value] = place
        return nil
    }
}
