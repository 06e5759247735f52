// SPDX-License-Identifier: Apache-2.0
import ClusterModel

/// A group as another system describes it.
public struct Imported: Sendable {
    public var group: Group
    /// What could not be carried over, or is not as it was: one line each, for a person to read.
    public var notes: [String]
    /// What `clio apply` would refuse: has to be mended by hand in the file that is written.
    public var remaining: [Problem]
}

/// What the formats have in common: targets that show images under numbers to hosts, through portals of nodes.
struct Draft {
    struct LUN {
        var image: String
        /// The number hosts know it by; `nil`: not said.
        var number: Int?
    }

    struct Host {
        var iqn: String
        var chap: CHAP?
        /// What it sees; `nil`: all of the target's.
        var luns: [LUN]?
    }

    struct Target {
        /// Its name; in a fabric other than iSCSI that of its port.
        var iqn: String
        var fabric: Fabric = .iscsi
        /// `nil`: not said.
        var access: Access?
        /// Portals by node; in a fabric other than iSCSI ports.
        var nodes: [(name: String, portals: [String])] = []
        var luns: [LUN] = []
        var hosts: [Host] = []

        mutating func addPortals(_ portals: [String], on node: String) {
            let i =
                nodes.firstIndex { $0.name == node }
                ?? {
                    nodes.append((node, []))
                    return nodes.endIndex - 1
                }()
            for portal in portals where !nodes[i].portals.contains(portal) { nodes[i].portals.append(portal) }
        }

        mutating func addLUN(_ lun: LUN) {
            guard let i = luns.firstIndex(where: { $0.image == lun.image }) else { return luns.append(lun) }
            luns[i].number = luns[i].number ?? lun.number
        }

        mutating func addHost(_ host: Host) {
            guard let i = hosts.firstIndex(where: { $0.iqn == host.iqn }) else { return hosts.append(host) }
            hosts[i].chap = hosts[i].chap ?? host.chap
            guard let more = host.luns else {
                hosts[i].luns = nil
                return
            }
            for lun in more where hosts[i].luns?.contains(where: { $0.image == lun.image }) == false {
                hosts[i].luns?.append(lun)
            }
        }
    }

    /// Nodes that are known apart from targets, in order.
    var nodes: [String] = []
    var targets: [Target] = []
    /// Serials by image.
    var serials: [String: String] = [:]
    /// Images whose serial cannot be kept.
    var refused: Set<String> = []
    /// What discovery asks for.
    var discovery: CHAP?
    var notes: [String] = []

    mutating func note(_ text: String) { if !notes.contains(text) { notes.append(text) } }

    /// Edits a target, which is made if it is not there.
    mutating func target(_ iqn: String, _ edit: (inout Target) -> Void) {
        if let i = targets.firstIndex(where: { $0.iqn == iqn }) { return edit(&targets[i]) }
        var target = Target(iqn: iqn)
        edit(&target)
        targets.append(target)
    }

    /// Says who may log in to a target. Where it is said twice and differs, the list counts: nobody is let in by it.
    mutating func admit(_ access: Access, to iqn: String) {
        let known = targets.first { $0.iqn == iqn }?.access
        if let known, known != access {
            note(
                "target \(iqn): admits any host in one place and lists hosts in another; only those listed will be admitted"
            )
        }
        target(iqn) { $0.access = known == .hosts ? .hosts : access }
    }

    /// Adds a host to a target, or what is new of one that it has.
    mutating func add(_ host: Host, to iqn: String) {
        let known = targets.first { $0.iqn == iqn }?.hosts.first { $0.iqn == host.iqn }
        if let known, known.chap != host.chap {
            note("host \(host.iqn): has several CHAP credentials, or none, at target \(iqn); the first are kept")
        }
        target(iqn) { $0.addHost(host) }
    }

    /// Leaves out a host that LIO did not let in.
    mutating func leaveOut(_ host: String, at iqn: String) {
        note(
            "host \(host) is left out at target \(iqn): it is asked for CHAP and has no credentials, so it could not log in; "
                + "to admit it, list it in the file")
    }

    /// Says what discovery asks for.
    mutating func discover(_ chap: CHAP, at place: String) {
        if let discovery, discovery != chap {
            note("\(place): has other CHAP credentials for discovery; the first are kept: a group has one")
        }
        discovery = discovery ?? chap
    }

    /// Keeps an image's identity, if Clio can show it.
    mutating func serial(_ text: String, of image: String) {
        do {
            serials[image] = try LUNSerial(text).text
        } catch {
            refused.insert(image)
            note(
                "image \(image): its serial \"\(text)\" cannot be kept, hosts will take it for a new disk: \(error.message)"
            )
        }
    }

    /// A portal as the group file writes it; text that is none is left for the check of the group to complain of.
    static func portal(_ address: String, port: Int? = nil) -> String {
        let bare = address.filter { $0 != "[" && $0 != "]" }
        let isIPv6 = bare.count(where: { $0 == ":" }) > 1
        // "[fd00::1]:3260" and "10.0.0.1:3260" bring a port along.
        if port == nil, let portal = try? Portal(parsing: address) { return portal.description }
        let text = (isIPv6 ? "[\(bare)]" : address) + (port.map { ":\($0)" } ?? "")
        return (try? Portal(parsing: text))?.description ?? text
    }

    // MARK: To a group

    func finished(name: String) -> Imported {
        var notes = notes
        func note(_ text: String) { if !notes.contains(text) { notes.append(text) } }
        let numbers = numbered(note)
        var group = Group(name: name, discovery: discovery)

        // Nodes, with the portals most targets use: those of the first that is served there.
        var portals: [String: [String]] = [:]
        var names = nodes
        for target in targets {
            for node in target.nodes {
                if !names.contains(node.name) { names.append(node.name) }
                if target.fabric == .iscsi, portals[node.name] == nil { portals[node.name] = node.portals }
            }
        }
        group.nodes = names.map { Node(name: $0, portals: portals[$0] ?? []) }
        group.luns = numbers.sorted { $0.value < $1.value }.map {
            LogicalUnit(lun: $0.value, image: $0.key, serial: serials[$0.key])
        }

        for lun in group.luns where lun.serial == nil && !refused.contains(lun.image) {
            note("image \(lun.image): has no serial, hosts will take it for a new disk")
        }

        for target in targets where target.access != .open {
            for host in target.hosts { merge(host, of: target, into: &group, numbers, note) }
        }
        let all = group.luns.map(\.lun)
        for i in group.hosts.indices where group.hosts[i].luns?.sorted() == all { group.hosts[i].luns = nil }

        for target in targets {
            var result = ClusterTarget(iqn: target.iqn, access: target.access ?? .hosts)
            result.fabric = target.fabric
            if target.fabric == .iscsi {
                let served = names.filter { name in target.nodes.contains { $0.name == name } }
                if served != names { result.nodes = served }
                let different = target.nodes.filter { $0.portals != portals[$0.name] }
                if !different.isEmpty { result.portals = Self.byNode(different) }
            } else {
                result.ports = Self.byNode(target.nodes)
            }
            let shown = target.luns.compactMap { numbers[$0.image] }.sorted()
            if shown != all { result.luns = shown }
            if result.access == .hosts {
                let admitted = target.hosts.map(\.iqn)
                let known = group.hosts.filter { $0.fabric == target.fabric }.map(\.iqn)
                // An empty list is refused; none at all would admit every host of the group.
                if Set(admitted) != Set(known) { result.hosts = known.filter(admitted.contains) }
                if admitted.isEmpty, !known.isEmpty {
                    note(
                        "target \(target.iqn): no host could log in; list under its hosts those that may, or take it out"
                    )
                }
            }
            group.targets.append(result)
        }
        widened(group, numbers, note)
        return Imported(group: group, notes: notes, remaining: group.problems())
    }

    private static func byNode(_ nodes: [(name: String, portals: [String])]) -> [String: [String]] {
        Dictionary(nodes.map { ($0.name, $0.portals) }, uniquingKeysWith: { $1 })
    }

    /// One number for each image: the one hosts know it by, as far as no two images want the same.
    private func numbered(_ note: (String) -> Void) -> [String: Int] {
        var numbers: [String: Int] = [:]
        var taken: Set<Int> = []
        let wishes = targets.flatMap { target in target.luns.map { (target: target.iqn, lun: $0) } }
        for (_, lun) in wishes {
            guard numbers[lun.image] == nil, let number = lun.number, taken.insert(number).inserted else { continue }
            numbers[lun.image] = number
        }
        var next = 0
        for (target, lun) in wishes {
            if numbers[lun.image] == nil {
                while taken.contains(next) { next += 1 }
                numbers[lun.image] = next
                taken.insert(next)
            }
            guard let number = lun.number, let given = numbers[lun.image], number != given else { continue }
            note(
                "target \(target): LUN \(number) (\(lun.image)) becomes LUN \(given): an image has one number in a group, "
                    + "and each number one image")
        }
        return numbers
    }

    private func merge(
        _ host: Host, of target: Target, into group: inout Group, _ numbers: [String: Int], _ note: (String) -> Void
    ) {
        let shown = host.luns ?? target.luns
        for lun in host.luns ?? [] {
            guard let number = lun.number, let given = numbers[lun.image], number != given else { continue }
            note(
                "host \(host.iqn): saw \(lun.image) as LUN \(number) of target \(target.iqn), will see it as LUN \(given): "
                    + "a LUN has the same number for every host")
        }
        let seen = shown.compactMap { numbers[$0.image] }.sorted()
        guard let i = group.hosts.firstIndex(where: { $0.iqn == host.iqn && $0.fabric == target.fabric }) else {
            var new = ClusterModel.Host(iqn: host.iqn, chap: host.chap, luns: seen)
            new.fabric = target.fabric
            group.hosts.append(new)
            return
        }
        if group.hosts[i].chap != host.chap {
            note(
                "host \(host.iqn): has other CHAP credentials, or none, at target \(target.iqn); the first it has are kept "
                    + "for all targets")
            group.hosts[i].chap = group.hosts[i].chap ?? host.chap
        }
        group.hosts[i].luns = Set((group.hosts[i].luns ?? []) + seen).sorted()
    }

    /// Says which hosts would see more than before.
    private func widened(_ group: Group, _ numbers: [String: Int], _ note: (String) -> Void) {
        for (target, result) in zip(targets, group.targets) {
            for host in target.hosts {
                guard let now = group.hosts(of: result).first(where: { $0.iqn == host.iqn }) else { continue }
                let before = Set((host.luns ?? target.luns).compactMap { numbers[$0.image] })
                let after = Set(group.luns(of: result).map(\.lun)).intersection(now.luns ?? group.luns.map(\.lun))
                let more = after.subtracting(before).sorted().map(String.init)
                if !more.isEmpty {
                    note(
                        "host \(host.iqn): will see LUN \(more.joined(separator: ", ")) through target \(target.iqn), too: "
                            + "what a host may see is the same at each target")
                }
            }
        }
    }
}
