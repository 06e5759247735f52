// SPDX-License-Identifier: Apache-2.0

/// Why a single change of a group cannot be made: object, reason, remedy.
public struct EditFault: Error, Equatable, CustomStringConvertible {
    public let description: String
    init(_ description: String) { self.description = description }
}

/// All of the group's, or those listed.
public enum Choice<Item: Hashable & Sendable>: Hashable, Sendable {
    case all
    case only([Item])

    /// As a group keeps it: `nil` for all.
    var list: [Item]? {
        switch self {
        case .all: nil
        case .only(let items): items
        }
    }
}

/// One change of a host's CHAP credentials. It leaves the others as they are.
public enum CHAPChange: Sendable {
    /// By what the host proves itself to the target.
    case own(user: String, password: Secret)
    /// By what the target proves itself to the host.
    case mutual(user: String, password: Secret)
    /// The target does not prove itself any more.
    case removeMutual
    /// The host is let in without CHAP.
    case removeAll
}

/// Single changes. Each leaves everything else as it is; what the outcome must fulfil is checked by ``Group/edited(_:)``.
extension Group {
    /// The group after a change, if it is a valid one.
    ///
    /// A group may be incomplete meanwhile: without targets, without LUNs.
    ///
    /// - Throws: ``EditFault`` if the change makes no sense, ``InvalidGroup`` with what would be wrong after it, each
    ///   problem by the object's name.
    public func edited<Result>(_ change: (inout Group) throws -> Result) throws -> (group: Group, result: Result) {
        var group = self
        let result = try change(&group)
        let problems = group.problems(complete: false)
        if !problems.isEmpty {
            throw InvalidGroup(problems.map { Problem(path: "", message: group.naming($0.text)) })
        }
        return (group, result)
    }

    /// A problem's text with objects by their names, `LUN 7`, where it has places of a file, `luns[3]`.
    public func naming(_ text: String) -> String {
        // Lists of these names within objects, `targets[0].nodes[1]`, say which of theirs is meant: they stay.
        text.replacing(/(^|[^.\w])(nodes|hosts|luns|targets)\[(\d+)\](\.?)/) { match in
            let names: [String] =
                switch match.2 {
                case "nodes": nodes.map { "node \($0.name)" }
                case "hosts": hosts.map { "host \($0.iqn)" }
                case "luns": luns.map { "LUN \($0.lun)" }
                default: targets.map { "target \($0.iqn)" }
                }
            guard let i = Int(match.3), names.indices.contains(i) else { return String(match.0) }
            return "\(match.1)\(names[i])\(match.4.isEmpty ? "" : ": ")"
        }
    }

    private func missing(_ what: String, _ name: String, among known: [String]) -> EditFault {
        let hint: String
        if let near = nearest(to: name, among: known) {
            hint = "did you mean \"\(near)\"?"
        } else if known.isEmpty {
            hint = "it has none"
        } else {
            let shown = known.prefix(8).joined(separator: ", ")
            hint = "it has \(shown)\(known.count > 8 ? " and \(known.count - 8) more" : "")"
        }
        return EditFault("there is no \(what) \"\(name)\" in group \"\(self.name)\"; \(hint)")
    }

    private func index(ofTarget iqn: String) throws(EditFault) -> Int {
        if let i = targets.firstIndex(where: { $0.iqn == iqn }) { return i }
        throw missing("target", iqn, among: targets.map(\.iqn))
    }

    private func index(ofHost iqn: String) throws(EditFault) -> Int {
        if let i = hosts.firstIndex(where: { $0.iqn == iqn }) { return i }
        throw missing("host", iqn, among: hosts.map(\.iqn))
    }

    private func index(ofNode name: String) throws(EditFault) -> Int {
        if let i = nodes.firstIndex(where: { $0.name == name }) { return i }
        throw missing("node", name, among: nodes.map(\.name))
    }

    /// - Throws: `EditFault` if there is no such node.
    func require(node name: String) throws(EditFault) { _ = try index(ofNode: name) }

    /// A LUN by its number or its image.
    private func index(ofLUN text: String) throws(EditFault) -> Int {
        let number = Int(text)
        if let i = luns.firstIndex(where: { $0.lun == number || $0.image == text }) { return i }
        throw missing("LUN", text, among: luns.map { text.contains("/") ? $0.image : String($0.lun) })
    }

    // MARK: Targets

    public mutating func addTarget(_ target: ClusterTarget) throws(EditFault) {
        if targets.contains(where: { $0.iqn == target.iqn }) {
            throw EditFault(
                "target \(target.iqn) is in group \"\(name)\" already; change it with: clio target set \(target.iqn)")
        }
        targets.append(target)
    }

    public mutating func removeTarget(_ iqn: String) throws(EditFault) {
        targets.remove(at: try index(ofTarget: iqn))
    }

    /// Changes what is given.
    ///
    /// - Parameter ports: in a fabric other than iSCSI, the ports of some nodes; without ports, a node serves it no longer.
    public mutating func setTarget(
        _ iqn: String, access: Access? = nil, nodes: Choice<String>? = nil, luns: Choice<Int>? = nil,
        hosts: Choice<String>? = nil, ports: [String: [String]] = [:]
    ) throws(EditFault) {
        let i = try index(ofTarget: iqn)
        if targets[i].fabric == .iscsi, !ports.isEmpty {
            throw EditFault(
                "target \(iqn) is iSCSI's, which has portals instead of ports: use --nodes, and clio portal")
        }
        for (node, list) in ports.sorted(by: { $0.key < $1.key }) {
            try require(node: node)
            targets[i].ports = (targets[i].ports ?? [:]).merging([node: list]) { $1 }.filter { !$1.isEmpty }
        }
        if let access {
            targets[i].access = access
            // An open target has no list.
            if access == .open, hosts == nil { targets[i].hosts = nil }
        }
        if let nodes { targets[i].nodes = nodes.list }
        if let luns { targets[i].luns = luns.list.map { $0.sorted() } }
        if let hosts { targets[i].hosts = hosts.list }
    }

    // MARK: LUNs

    /// The number a new LUN gets: one above the highest that is or was in use, so that no host takes it for one it knew;
    /// the lowest that is free if there is none above.
    ///
    /// - Parameter highest: the highest number that was ever in use (``StoredGroup/highestLUN``).
    public func nextLUN(above highest: Int? = nil) -> Int? {
        let used = Set(luns.map(\.lun))
        let next = max(used.max() ?? -1, highest ?? -1) + 1
        return LogicalUnit.numbers.contains(next) ? next : LogicalUnit.numbers.first { !used.contains($0) }
    }

    /// Adds an image as a LUN.
    ///
    /// - Parameters:
    ///   - number: `nil` for ``nextLUN(above:)``.
    ///   - targets: targets that list their LUNs and shall show this one, too. Others show every LUN.
    ///   - hosts: hosts that list theirs and shall see it.
    ///   - highest: the highest number that was ever in use.
    /// - Returns: the LUN's number.
    @discardableResult
    public mutating func addLUN(
        image: String, number: Int? = nil, serial: String? = nil, targets names: [String] = [],
        hosts hostNames: [String] = [], highest: Int? = nil
    ) throws(EditFault) -> Int {
        let image = (try? ImageName(parsing: image))?.description ?? image
        if let there = luns.first(where: { $0.image == image }) {
            throw EditFault(
                "image \(image) is LUN \(there.lun) of group \"\(name)\" already: it has one number for everyone")
        }
        if let number, let there = luns.first(where: { $0.lun == number }) {
            let free = nextLUN(above: highest).map { "; \($0) is free" } ?? ""
            throw EditFault("LUN \(number) of group \"\(name)\" is image \(there.image)\(free)")
        }
        guard let number = number ?? nextLUN(above: highest) else {
            throw EditFault(
                "group \"\(name)\" has used all \(LogicalUnit.numbers.count) LUN numbers; make another group")
        }
        for iqn in names {
            let i = try index(ofTarget: iqn)
            targets[i].luns = targets[i].luns.map { ($0 + [number]).sorted() }
        }
        for iqn in hostNames {
            let i = try index(ofHost: iqn)
            hosts[i].luns = hosts[i].luns.map { ($0 + [number]).sorted() }
        }
        luns.append(LogicalUnit(lun: number, image: image, serial: serial))
        luns.sort { $0.lun < $1.lun }
        if !targets.isEmpty, !targets.contains(where: { $0.luns?.contains(number) ?? true }) {
            throw EditFault(
                "image \(image) would be shown by no target: each lists its LUNs; name one with --target, "
                    + "e.g. \(targets[0].iqn)")
        }
        return number
    }

    /// Takes a LUN, by number or image, out of the group and out of every list.
    ///
    /// - Returns: what was removed.
    @discardableResult
    public mutating func removeLUN(_ text: String) throws(EditFault) -> LogicalUnit {
        let lun = luns.remove(at: try index(ofLUN: text))
        for i in targets.indices {
            targets[i].luns?.removeAll { $0 == lun.lun }
            if targets[i].luns?.isEmpty == true {
                throw EditFault(
                    "target \(targets[i].iqn) shows LUN \(lun.lun) only; remove the target, or give it others first: "
                        + "clio target set \(targets[i].iqn) --luns …")
            }
        }
        for i in hosts.indices {
            hosts[i].luns?.removeAll { $0 == lun.lun }
            if hosts[i].luns?.isEmpty == true {
                throw EditFault(
                    "host \(hosts[i].iqn) sees LUN \(lun.lun) only; remove the host, or give it others first: "
                        + "clio host set \(hosts[i].iqn) --luns …")
            }
        }
        return lun
    }

    /// Gives a LUN another image or serial. Another image gets a serial of its own when the group is completed; the same one,
    /// renamed, keeps its serial.
    public mutating func setLUN(_ text: String, image: String? = nil, serial: String? = nil) throws(EditFault) {
        let i = try index(ofLUN: text)
        if let image {
            luns[i].image = (try? ImageName(parsing: image))?.description ?? image
            luns[i].serial = nil
            luns[i].imageID = nil
        }
        if let serial { luns[i].serial = serial }
    }

    // MARK: Hosts

    /// - Parameter targets: targets that list their hosts and shall admit this one, too. Others admit every host.
    public mutating func addHost(_ host: Host, targets names: [String] = []) throws(EditFault) {
        if hosts.contains(where: { $0.iqn == host.iqn }) {
            throw EditFault(
                "host \(host.iqn) is in group \"\(name)\" already; change it with: clio host set \(host.iqn)")
        }
        for iqn in names {
            let i = try index(ofTarget: iqn)
            if targets[i].access == .open {
                throw EditFault(
                    "target \(iqn) admits any host; close it first: clio target set \(iqn) --access hosts")
            }
            targets[i].hosts = targets[i].hosts.map { $0 + [host.iqn] }
        }
        hosts.append(host)
    }

    public mutating func removeHost(_ iqn: String) throws(EditFault) {
        hosts.remove(at: try index(ofHost: iqn))
        for i in targets.indices {
            targets[i].hosts?.removeAll { $0 == iqn }
            if targets[i].hosts?.isEmpty == true {
                throw EditFault(
                    "target \(targets[i].iqn) admits host \(iqn) only; remove the target, or let it admit others first: "
                        + "clio target set \(targets[i].iqn) --hosts …")
            }
        }
    }

    /// Changes what is given.
    public mutating func setHost(
        _ iqn: String, chap: [CHAPChange] = [], luns: Choice<Int>? = nil
    ) throws(EditFault) {
        let i = try index(ofHost: iqn)
        for change in chap {
            switch change {
            case .own(let user, let password):
                let old = hosts[i].chap
                hosts[i].chap = CHAP(
                    user: user, password: password, mutualUser: old?.mutualUser, mutualPassword: old?.mutualPassword)
            case .mutual(let user, let password):
                guard hosts[i].chap != nil else {
                    throw EditFault(
                        "host \(iqn) has no CHAP, and the target proves itself to who has proved itself: give it "
                            + "--user and --password-file, too")
                }
                hosts[i].chap?.mutualUser = user
                hosts[i].chap?.mutualPassword = password
            case .removeMutual:
                hosts[i].chap?.mutualUser = nil
                hosts[i].chap?.mutualPassword = nil
            case .removeAll: hosts[i].chap = nil
            }
        }
        if let luns { hosts[i].luns = luns.list.map { $0.sorted() } }
    }

    // MARK: Nodes and portals

    /// Adds portals to a node, which is made if it is not there; or to one target on a node.
    public mutating func addPortals(_ portals: [String], node: String, target: String? = nil) throws(EditFault) {
        let portals = portals.map { (try? Portal(parsing: $0))?.description ?? $0 }
        guard let target else {
            guard let i = nodes.firstIndex(where: { $0.name == node }) else {
                return nodes.append(Node(name: node, portals: portals))
            }
            nodes[i].portals += portals
            return
        }
        let own = nodes[try index(ofNode: node)].portals
        let i = try index(ofTarget: target)
        targets[i].portals = (targets[i].portals ?? [:]).merging([node: own + portals]) { old, _ in old + portals }
    }

    /// Replaces a node's portals, or those of one target on a node.
    public mutating func setPortals(_ portals: [String], node: String, target: String? = nil) throws(EditFault) {
        let portals = portals.map { (try? Portal(parsing: $0))?.description ?? $0 }
        let n = try index(ofNode: node)
        guard let target else {
            nodes[n].portals = portals
            return
        }
        let i = try index(ofTarget: target)
        targets[i].portals = (targets[i].portals ?? [:]).merging([node: portals]) { $1 }
    }

    /// Takes portals off a node, or off one target on it.
    public mutating func removePortals(_ portals: [String], node: String, target: String? = nil) throws(EditFault) {
        let n = try index(ofNode: node)
        let i: Int? = if let target { try index(ofTarget: target) } else { nil }
        var left = i.flatMap { targets[$0].portals?[node] } ?? nodes[n].portals
        let place = target.map { "of target \($0) on node \(node)" } ?? "of node \(node)"
        for text in portals {
            let portal = (try? Portal(parsing: text))?.description ?? text
            guard left.contains(portal) else {
                throw EditFault("\(portal) is no portal \(place); it has \(left.joined(separator: ", "))")
            }
            left.removeAll { $0 == portal }
        }
        if left.isEmpty {
            let what =
                target.map {
                    "give the target the node's own portals with --all, or leave the node out of it: "
                        + "clio target set \($0) --nodes …"
                } ?? "take the node out of the group: clio node remove \(node)"
            throw EditFault("that was the last portal \(place); \(what)")
        }
        guard let i else {
            nodes[n].portals = left
            return
        }
        targets[i].portals = (targets[i].portals ?? [:]).merging([node: left]) { $1 }
    }

    /// Takes a node out of the group; or has a target use the node's own portals again.
    public mutating func removeAllPortals(node: String, target: String? = nil) throws(EditFault) {
        let n = try index(ofNode: node)
        if let target {
            let i = try index(ofTarget: target)
            targets[i].portals?[node] = nil
            if targets[i].portals?.isEmpty == true { targets[i].portals = nil }
            return
        }
        nodes.remove(at: n)
        for i in targets.indices {
            targets[i].portals?[node] = nil
            if targets[i].portals?.isEmpty == true { targets[i].portals = nil }
            targets[i].nodes?.removeAll { $0 == node }
            targets[i].ports?[node] = nil
            if targets[i].nodes?.isEmpty == true || targets[i].ports?.isEmpty == true {
                let others = targets[i].fabric == .iscsi ? "--nodes …" : "--port NODE=PORT"
                throw EditFault(
                    "target \(targets[i].iqn) is served by node \(node) only; remove the target, or have others serve it "
                        + "first: clio target set \(targets[i].iqn) \(others)")
            }
        }
    }

    // MARK: Going back

    /// An earlier configuration of this group, as far as its images are still the ones they were.
    ///
    /// - Parameters:
    ///   - version: number of the earlier configuration.
    ///   - images: what each image is now; those that are not there are not in it.
    ///   - allowingMissing: whether LUNs may be without image: another one of that name gets an identity of its own.
    /// - Throws: ``InvalidGroup``, if a name now stands for another image: hosts would take its data for the old ones'.
    public func restored(
        version: Int, images: [String: ImageIdentity], allowingMissing: Bool = false
    ) throws(InvalidGroup) -> Group {
        var group = self
        var faults: [String] = []
        for (i, lun) in luns.enumerated() {
            let place = "LUN \(lun.lun): image \(lun.image)"
            switch images[lun.image]?.imageID {
            case nil where lun.imageID == nil:
                if allowingMissing { break }
                faults.append("\(place) was not there in version \(version) either: --allow-missing-images")
            case nil where allowingMissing:
                group.luns[i].imageID = nil
                group.luns[i].serial = nil
            case nil:
                faults.append(
                    "\(place) of version \(version) is not there any more, and one made anew would be another. Put it back "
                        + "(rbd trash restore), or go back without it: --allow-missing-images")
            case let now? where lun.imageID != nil && lun.imageID != now:
                faults.append(
                    "\(place) is not the one of version \(version), it was created anew since then; hosts would take its "
                        + "data for the old one's. Rename it, or change the group with: clio edit")
            default: break
            }
        }
        if !faults.isEmpty { throw InvalidGroup(faults.map { Problem(path: "", message: $0) }) }
        return group
    }

    /// Puts the secrets of `other` where a file has the placeholder for them.
    public mutating func restoreSecrets(from other: Group) {
        for i in hosts.indices {
            guard let known = other.hosts.first(where: { $0.iqn == hosts[i].iqn })?.chap else { continue }
            hosts[i].chap?.restoreSecrets(from: known)
        }
        if let known = other.discovery { discovery?.restoreSecrets(from: known) }
    }
}
