// SPDX-License-Identifier: Apache-2.0
import Foundation

/// A port: one target on one node, in another fabric than iSCSI by one of the node's ports. It is a target portal group of
/// LIO.
public struct Port: Hashable, Codable, Sendable {
    /// The target's name.
    public var iqn: String
    public var node: String
    /// Relative target port identifier (SPC-4 3.1.118), and for iSCSI the target portal group tag: the same number,
    /// 1…65535, on every node, for as long as the group lives. Hosts and reservations know a port by it.
    public var number: Int
    /// Whether the configuration no longer has this port. Its number stays taken, and returns with the port.
    public var retired: Bool
    /// Its name in the fabric; `nil` for iSCSI.
    public var wwn: String?
    /// `nil`: iSCSI, as in groups stored before there were others.
    private var otherFabric: Fabric?

    public var fabric: Fabric {
        get { otherFabric ?? .iscsi }
        set { otherFabric = newValue == .iscsi ? nil : newValue }
    }

    public init(
        iqn: String, node: String, number: Int, retired: Bool = false, fabric: Fabric = .iscsi, wwn: String? = nil
    ) {
        self.iqn = iqn
        self.node = node
        self.number = number
        self.retired = retired
        self.wwn = wwn
        self.fabric = fabric
    }

    enum CodingKeys: String, CodingKey {
        case iqn, node, number, retired, wwn
        case otherFabric = "fabric"
    }

    /// What makes it the port that it is: hosts never find another one behind its number.
    var identity: [String] { [fabric.rawValue, wwn ?? "", iqn, node] }

    /// For a person: which target by which port.
    public var name: String { wwn.map { "\(iqn) \($0)" } ?? iqn }
}

/// What is known of an image when a group is applied.
public struct ImageIdentity: Hashable, Sendable {
    public let poolID: Int64
    public let imageID: String

    public init(poolID: Int64, imageID: String) {
        self.poolID = poolID
        self.imageID = imageID
    }
}

/// A group as it is kept in RADOS, in object ``objectName(for:)``.
public struct StoredGroup: Hashable, Codable, Sendable {
    /// Layout of the JSON. A clio refuses what is newer than it.
    public static let format = 2
    /// Layout of a group that has iSCSI only, which a clio that knows nothing else serves as well.
    static let formatOfISCSI = 1

    public var format: Int
    /// Grows by one with every change.
    public var version: Int
    public var config: Group
    public var ports: [Port]
    /// The highest LUN number that was ever in use; `nil` in groups that were last changed before it was kept.
    public var highestLUN: Int?
    /// Whether discovery has ever asked for credentials: then what LIO has of them is Clio's to take away.
    public var ownsDiscovery: Bool?
    /// Where this version came from; `nil` if that was not kept.
    public var change: Change?
    /// Nodes that are to serve nothing until they are resumed, and by what they were drained; `nil`: none. No part of the
    /// configuration: to apply a file resumes nobody.
    public private(set) var drained: [String: Change]?

    /// The LUNs by which this differs from an earlier one, by number; `nil` if something else differs that nodes have to do with.
    public func changedLUNs(since before: StoredGroup) -> Set<Int>? {
        guard withoutLUNs == before.withoutLUNs else { return nil }
        let old = Set(before.config.luns)
        let new = Set(config.luns)
        return Set(old.symmetricDifference(new).map(\.lun))
    }

    /// Without what is no node's affair, too.
    private var withoutLUNs: StoredGroup {
        var rest = self
        rest.config.luns = []
        (rest.version, rest.highestLUN, rest.change, rest.drained) = (0, nil, nil, nil)
        return rest
    }

    /// Who changed a group, and when.
    public struct Change: Hashable, Codable, Sendable {
        /// Seconds since 1970, by the clock of the machine it was changed from.
        public var time: Double
        /// That machine's name.
        public var host: String
        /// The command.
        public var command: String

        public init(time: Double, host: String, command: String) {
            self.time = time
            self.host = Self.line(host)
            self.command = Self.line(command)
        }

        /// One line without control characters, short enough to be read back.
        private static func line(_ text: String) -> String {
            String(String.UnicodeScalarView(text.unicodeScalars.prefix(1000).map { $0.isControl ? "?" : $0 }))
        }

        /// Seconds since 1970 up to the year 9999.
        public static let times = 0...253_402_300_799.0
        private static let longestText = 4096

        /// What is wrong with one that was read.
        func problem(at path: String) -> Problem? {
            if !Self.times.contains(time) { return Problem(path: "\(path).time", message: "is no time") }
            for (key, text) in [("host", host), ("command", command)] {
                if text.utf8.count > Self.longestText || text.unicodeScalars.contains(where: \.isControl) {
                    return Problem(
                        path: "\(path).\(key)",
                        message: "is longer than \(Self.longestText) bytes or has control characters")
                }
            }
            return nil
        }
    }

    /// A group that was just created: no nodes, no targets, no LUNs.
    public init(creating name: String) {
        self.init(version: 1, config: Group(name: name), ports: [])
    }

    public init(version: Int, config: Group, ports: [Port]) {
        format = Self.format(of: config, ports)
        self.version = version
        self.config = config
        self.ports = ports
    }

    private static func format(of config: Group, _ ports: [Port]) -> Int {
        // Nor must it leave discovery open to everyone.
        let iSCSIOnly =
            config.discovery == nil && config.targets.allSatisfy { $0.fabric == .iscsi }
            && config.hosts.allSatisfy { $0.fabric == .iscsi }
            && ports.allSatisfy { $0.fabric == .iscsi }
        return iSCSIOnly ? formatOfISCSI : format
    }

    /// The object that holds a group.
    public static func objectName(for group: String) -> String { "clio.group.\(group)" }
    /// The object that holds an earlier version of a group.
    public static func historyName(for group: String, version: Int) -> String { "clio.history.\(group).\(version)" }

    /// Why the bytes of the object are no group.
    public struct Unreadable: Error, CustomStringConvertible {
        public let description: String
    }

    /// Reads the object's content.
    public init(decoding bytes: [UInt8]) throws(Unreadable) {
        struct Header: Decodable { let format: Int }
        do {
            let decoder = JSONDecoder()
            let header = try decoder.decode(Header.self, from: Data(bytes))
            guard header.format <= Self.format else {
                throw Unreadable(
                    description:
                        "the group is stored in format \(header.format), this clio knows up to \(Self.format); "
                        + "use a newer clio")
            }
            self = try decoder.decode(StoredGroup.self, from: Data(bytes))
            // Whoever may write the object could have put anything there, and names become paths of configfs.
            if let problem = config.problems(complete: false).first ?? portProblem ?? recordProblem {
                throw Unreadable(description: "the stored group is not valid: \(problem.text)")
            }
        } catch let error as Unreadable {
            throw error
        } catch {
            throw Unreadable(description: "the stored group is damaged: \(Self.explain(error))")
        }
    }

    private var portProblem: Problem? {
        var numbers: Set<Int> = []
        for (i, port) in ports.enumerated() {
            let fault =
                port.fabric == .iscsi
                ? ISCSIName.fault(port.iqn)
                : Group.fault(targetName: port.iqn) ?? port.fabric.fault(port: port.wwn ?? "")
            if let fault { return Problem(path: "ports[\(i)].iqn", message: fault) }
            if let fault = Group.fault(nodeName: port.node) { return Problem(path: "ports[\(i)].node", message: fault) }
            if port.fabric == .iscsi, port.wwn != nil {
                return Problem(path: "ports[\(i)].wwn", message: "an iSCSI port has no name of its own")
            }
            if !(1...65535).contains(port.number) || !numbers.insert(port.number).inserted {
                return Problem(
                    path: "ports[\(i)].number", message: "\(port.number) is no number of its own, 1 to 65535")
            }
        }
        return nil
    }

    /// Versions are counted, times are shown, texts go to terminals.
    private var recordProblem: Problem? {
        if !(1...Self.versions).contains(version) {
            return Problem(path: "version", message: "\(version) is none, 1 to \(Self.versions)")
        }
        if let highestLUN, !LogicalUnit.numbers.contains(highestLUN) {
            return Problem(path: "highestLUN", message: "\(highestLUN) is no LUN number, 0 to 16383")
        }
        for node in (drained ?? [:]).keys.sorted() where !config.nodes.contains(where: { $0.name == node }) {
            return Problem(path: "drained", message: "names a node that is not in the group")
        }
        let all = [(change, "change")] + (drained ?? [:]).values.map { ($0, "drained") }
        return all.lazy.compactMap { change, path in change?.problem(at: path) }.first
    }

    /// The last version there can be: integers that every reader of JSON keeps.
    private static let versions = 1 << 53

    private static func explain(_ error: any Error) -> String {
        guard let error = error as? DecodingError else { return "\(error)" }
        switch error {
        case .dataCorrupted(let c), .keyNotFound(_, let c), .typeMismatch(_, let c), .valueNotFound(_, let c):
            let path = c.codingPath.map(\.stringValue).joined(separator: ".")
            return path.isEmpty ? c.debugDescription : "\(path): \(c.debugDescription)"
        @unknown default: return "\(error)"
        }
    }

    /// The object's content: JSON with sorted keys, so that equal groups are equal bytes. Holds the CHAP secrets.
    public func encoded() throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return Array(try encoder.encode(self)) + [0x0a]
    }

    /// The ports of a target on a node: in iSCSI one.
    public func ports(iqn: String, node: String) -> [Port] {
        ports.filter { $0.iqn == iqn && $0.node == node && !$0.retired }
    }

    /// The group that follows this one once `group` is applied, or `nil` if nothing changes.
    ///
    /// New ports get numbers never used before; those that went keep theirs, retired.
    ///
    /// - Parameter group: complete: see ``Group/completed(fsid:images:previous:)``.
    public func applying(_ group: Group) throws(InvalidGroup) -> StoredGroup? {
        var problems: [Problem] = []
        if group.name != config.name {
            problems.append(
                Problem(
                    path: "group",
                    message: "the file describes group \"\(group.name)\", not \"\(config.name)\"; "
                        + "choose it with --group \(group.name)"))
        }
        func identity(_ lun: LogicalUnit) -> String? { lun.serial.flatMap { try? LUNSerial($0) }?.naa }
        let known = Dictionary(grouping: config.luns.filter { $0.serial != nil }, by: identity)
        for (i, lun) in group.luns.enumerated() {
            guard let identity = identity(lun) else { continue }
            if let before = known[identity]?.first(where: { $0.imageID != lun.imageID }) {
                problems.append(
                    Problem(
                        path: "luns[\(i)].serial",
                        message:
                            "is the identity of \(before.image), another image: a host would take new data for old; "
                            + "leave the serial out or choose another"))
            }
        }
        if !problems.isEmpty { throw InvalidGroup(problems) }

        var next = self
        next.config = group
        var live = Set<[String]>()
        for target in group.targets {
            for node in group.nodes(of: target) {
                let names = target.fabric == .iscsi ? [nil] : (target.ports?[node.name] ?? []).map(Optional.some)
                for wwn in names {
                    var port = Port(iqn: target.iqn, node: node.name, number: 0, fabric: target.fabric, wwn: wwn)
                    live.insert(port.identity)
                    if let i = next.ports.firstIndex(where: { $0.identity == port.identity }) {
                        next.ports[i].retired = false
                        continue
                    }
                    port.number = (next.ports.map(\.number).max() ?? 0) + 1
                    guard port.number <= 65535 else {
                        throw InvalidGroup([
                            Problem(
                                path: "targets",
                                message: "the group has used up all 65535 port numbers; make a new group")
                        ])
                    }
                    next.ports.append(port)
                }
            }
        }
        for i in next.ports.indices where !live.contains(next.ports[i].identity) { next.ports[i].retired = true }
        next.drained = drained?.filter { node, _ in group.nodes.contains { $0.name == node } }
        if next.drained?.isEmpty == true { next.drained = nil }
        next.format = Self.format(of: group, next.ports)
        if group.discovery != nil { next.ownsDiscovery = true }
        if next == self { return nil }
        next.version = version + 1
        next.highestLUN = ([highestLUN] + [config, group].flatMap { $0.luns.map { Optional($0.lun) } }).compactMap {
            $0
        }.max()
        next.change = nil
        return next
    }
}

extension Group {
    /// The group with every LUN's image id and serial filled in, and portals in canonical spelling.
    ///
    /// A serial the file leaves out is what the group already has for that image, else it is derived from the image's id.
    ///
    /// - Parameters:
    ///   - fsid: the Ceph cluster's id.
    ///   - images: what each `image` is; LUNs whose image is not in it are left as they are.
    ///   - previous: the group that is being replaced.
    public func completed(fsid: String, images: [String: ImageIdentity], previous: Group?) throws(InvalidGroup) -> Group
    {
        var group = self
        func canonical(_ portals: [String]) -> [String] {
            portals.map { (try? Portal(parsing: $0))?.description ?? $0 }
        }
        for i in group.nodes.indices { group.nodes[i].portals = canonical(group.nodes[i].portals) }
        for i in group.targets.indices {
            group.targets[i].portals = group.targets[i].portals?.mapValues(canonical)
        }
        // An id is the pool's and namespace's: an image that was renamed within them is the same.
        func place(_ name: ImageName, _ id: String) -> [String] { [name.pool, name.namespace, id] }
        let known = Dictionary(
            (previous?.luns ?? []).compactMap { lun -> ([String], String)? in
                guard let id = lun.imageID, let serial = lun.serial, let name = try? ImageName(parsing: lun.image)
                else { return nil }
                return (place(name, id), serial)
            }, uniquingKeysWith: { first, _ in first })
        for i in group.luns.indices {
            let lun = group.luns[i]
            guard let identity = images[lun.image], let name = try? ImageName(parsing: lun.image) else { continue }
            group.luns[i].imageID = identity.imageID
            if lun.serial == nil {
                group.luns[i].serial =
                    known[place(name, identity.imageID)]
                    ?? LUNSerial(
                        fsid: fsid, poolID: identity.poolID, namespace: name.namespace, imageID: identity.imageID
                    ).text
            }
        }
        let problems = group.problems().filter { $0.path.hasSuffix(".serial") }
        if !problems.isEmpty { throw InvalidGroup(problems) }
        return group
    }
}

// MARK: - Nodes that are not to serve

extension StoredGroup {
    /// The group that follows this one once a node is to serve nothing; `nil` if that is so already.
    ///
    /// - Throws: `EditFault` if the group has no such node.
    public func draining(_ node: String, by change: Change) throws(EditFault) -> StoredGroup? {
        try config.require(node: node)
        guard drained?[node] == nil else { return nil }
        var next = self
        next.drained = (drained ?? [:]).merging([node: change]) { $1 }
        next.version = version + 1
        return next
    }

    /// The group that follows this one once a node may serve again; `nil` if it may now.
    ///
    /// - Throws: `EditFault` if the group has no such node.
    public func resuming(_ node: String) throws(EditFault) -> StoredGroup? {
        try config.require(node: node)
        guard drained?[node] != nil else { return nil }
        var next = self
        next.drained?[node] = nil
        if next.drained?.isEmpty == true { next.drained = nil }
        next.version = version + 1
        return next
    }
}

extension StoredGroup {
    /// What changes from this group to another, one line each, without secrets: `+` added, `-` removed, `~` changed.
    public func changes(to next: StoredGroup) -> [String] {
        var lines: [String] = []
        let old = config
        let new = next.config
        for (key, path, _) in Timing.ranges where old.timing[keyPath: path] != new.timing[keyPath: path] {
            lines.append("~ timing.\(key): \(old.timing[keyPath: path]) s -> \(new.timing[keyPath: path]) s")
        }
        func compare<T: Equatable, Key: Hashable>(
            _ before: [T], _ after: [T], _ what: String, by key: KeyPath<T, Key>, show: (T) -> String,
            difference: (T, T) -> [String]
        ) {
            func known(_ items: [T]) -> [Key: T] {
                Dictionary(items.map { ($0[keyPath: key], $0) }, uniquingKeysWith: { first, _ in first })
            }
            let (old, new) = (known(before), known(after))
            for item in before where new[item[keyPath: key]] == nil { lines.append("- \(what) \(item[keyPath: key])") }
            for item in after {
                let name = "\(what) \(item[keyPath: key])"
                guard let was = old[item[keyPath: key]] else {
                    lines.append("+ \(name)\(show(item))")
                    continue
                }
                if was != item { lines += difference(was, item).map { "~ \(name): \($0)" } }
            }
        }
        func field<V: Equatable>(_ name: String, _ a: V, _ b: V, _ show: (V) -> String) -> [String] {
            a == b ? [] : ["\(name) \(show(a)) -> \(show(b))"]
        }
        func list(_ items: [String]?) -> String {
            items.map { $0.isEmpty ? "none" : $0.joined(separator: ", ") } ?? "all"
        }
        func numbers(_ items: [Int]?) -> String { list(items.map { $0.map(String.init) }) }

        if old.discovery != new.discovery {
            let sign = old.discovery == nil ? "+" : new.discovery == nil ? "-" : "~"
            lines.append("\(sign) discovery: CHAP credentials")
        }
        compare(
            old.nodes, new.nodes, "node", by: \.name, show: { " at \(list($0.portals))" },
            difference: { field("portals", $0.portals, $1.portals, { list($0) }) })
        compare(
            old.targets, new.targets, "target", by: \.iqn,
            show: { $0.fabric == .iscsi ? ", access \($0.access.rawValue)" : ", fabric \($0.fabric.rawValue)" },
            difference: {
                field("access", $0.access, $1.access, \.rawValue) + field("nodes", $0.nodes, $1.nodes, list)
                    + field("luns", $0.luns, $1.luns, numbers) + field("hosts", $0.hosts, $1.hosts, list)
                    + ($0.portals == $1.portals ? [] : ["portals changed"])
                    + field("fabric", $0.fabric, $1.fabric, \.rawValue)
            })
        compare(
            old.luns, new.luns, "LUN", by: \.lun, show: { " image \($0.image), serial \($0.serial ?? "?")" },
            difference: {
                field("image", $0.image, $1.image, { $0 }) + field("serial", $0.serial, $1.serial, { $0 ?? "?" })
                    + ($0.image == $1.image ? field("image id", $0.imageID, $1.imageID, { $0 ?? "?" }) : [])
            })
        compare(
            old.hosts, new.hosts, "host", by: \.iqn,
            show: { ($0.chap == nil ? ", no CHAP" : ", CHAP") + ($0.luns == nil ? "" : ", LUNs \(numbers($0.luns))") },
            difference: {
                field("luns", $0.luns, $1.luns, numbers) + ($0.chap == $1.chap ? [] : ["CHAP credentials changed"])
            })
        let (gone, back) = (Set((next.drained ?? [:]).keys), Set((drained ?? [:]).keys))
        lines += gone.subtracting(back).sorted().map { "~ node \($0): drained" }
        lines += back.subtracting(gone).sorted().filter { name in new.nodes.contains { $0.name == name } }
            .map { "~ node \($0): resumed" }
        for port in next.ports where !ports.contains(port) {
            lines.append("\(port.retired ? "-" : "+") port \(port.number): \(port.name) on \(port.node)")
        }
        if lines.isEmpty, self != next { lines.append("~ order only") }
        return lines
    }
}
