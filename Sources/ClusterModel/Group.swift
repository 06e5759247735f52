// SPDX-License-Identifier: Apache-2.0

/// Who may log in to a target.
public enum Access: String, Codable, Sendable, CaseIterable {
    /// Any host, without authentication.
    case open
    /// The hosts listed, each with its own CHAP if it has one.
    case hosts
}

/// A gateway node.
public struct Node: Hashable, Codable, Sendable {
    public var name: String
    /// Portals of every target on this node, unless a target says otherwise.
    public var portals: [String]

    public init(name: String, portals: [String]) {
        self.name = name
        self.portals = portals
    }
}

/// A target, served by several nodes through one fabric.
public struct ClusterTarget: Hashable, Codable, Sendable {
    /// Its name: the iSCSI name, or in another fabric what the group calls it.
    public var iqn: String
    public var access: Access
    /// Names of the nodes that serve it; `nil`: all. iSCSI only.
    public var nodes: [String]?
    /// Portals by node where they differ from the node's own. iSCSI only.
    public var portals: [String: [String]]?
    /// Numbers of the LUNs it shows; `nil`: all.
    public var luns: [Int]?
    /// Names of the hosts that may log in; `nil`: all of the group's in this fabric.
    public var hosts: [String]?
    /// Names of its ports, by node, in a fabric other than iSCSI. These nodes serve it.
    public var ports: [String: [String]]?
    /// `nil`: iSCSI, as in groups stored before there were others.
    private var otherFabric: Fabric?

    public var fabric: Fabric {
        get { otherFabric ?? .iscsi }
        set { otherFabric = newValue == .iscsi ? nil : newValue }
    }

    public init(
        iqn: String, access: Access = .hosts, nodes: [String]? = nil, portals: [String: [String]]? = nil,
        luns: [Int]? = nil, hosts: [String]? = nil
    ) {
        self.iqn = iqn
        self.access = access
        self.nodes = nodes
        self.portals = portals
        self.luns = luns
        self.hosts = hosts
    }

    /// A target of another fabric than iSCSI.
    public init(
        name: String, fabric: Fabric, ports: [String: [String]], access: Access? = nil, luns: [Int]? = nil,
        hosts: [String]? = nil
    ) {
        self.init(iqn: name, access: access ?? (fabric.isLocal ? .open : .hosts), luns: luns, hosts: hosts)
        self.fabric = fabric
        self.ports = ports
    }

    enum CodingKeys: String, CodingKey {
        case iqn, access, nodes, portals, luns, hosts, ports
        case otherFabric = "fabric"
    }
}

/// A logical unit: an RBD image under a number.
public struct LogicalUnit: Hashable, Codable, Sendable {
    /// LUN number, ``numbers``.
    public var lun: Int
    /// `pool[/namespace]/image`.
    public var image: String
    /// Serial number; `nil` only in a file: it is derived when the group is applied.
    public var serial: String?
    /// RBD's id of the image; `nil` in a file.
    public var imageID: String?

    /// Numbers a LUN may have: those of one addressing level, SAM-5 4.7.
    public static let numbers = 0...16383

    public init(lun: Int, image: String, serial: String? = nil, imageID: String? = nil) {
        self.lun = lun
        self.image = image
        self.serial = serial
        self.imageID = imageID
    }
}

/// A secret. Prints as asterisks.
public struct Secret: Hashable, Codable, Sendable, CustomStringConvertible, CustomDebugStringConvertible,
    CustomReflectable
{
    /// The secret itself. Never log it.
    public let revealed: String

    /// What stands for a secret where it is not shown.
    public static let redacted = "********"

    public init(_ revealed: String) { self.revealed = revealed }

    public init(from decoder: any Decoder) throws {
        revealed = try decoder.singleValueContainer().decode(String.self)
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(revealed)
    }

    public var description: String { Self.redacted }
    public var debugDescription: String { Self.redacted }
    public var customMirror: Mirror { Mirror(self, children: []) }
}

/// CHAP credentials of one host (RFC 7143 section 12.1.3).
public struct CHAP: Hashable, Codable, Sendable {
    /// Name and secret by which the host proves itself to the target.
    public var user: String
    public var password: Secret
    /// Name and secret by which the target proves itself to the host; both or neither.
    public var mutualUser: String?
    public var mutualPassword: Secret?

    /// Length of a secret: RFC 7143 wants 96 bits or more, LIO keeps 255 bytes.
    public static let passwordLengths = 12...255
    /// Length of a user name: LIO keeps 255 bytes.
    public static let userLengths = 1...255

    public init(user: String, password: Secret, mutualUser: String? = nil, mutualPassword: Secret? = nil) {
        self.user = user
        self.password = password
        self.mutualUser = mutualUser
        self.mutualPassword = mutualPassword
    }
}

extension CHAP {
    mutating func redact() {
        password = Secret(Secret.redacted)
        if mutualPassword != nil { mutualPassword = Secret(Secret.redacted) }
    }

    /// Puts the secrets of `known` where a file has the placeholder for them.
    mutating func restoreSecrets(from known: CHAP) {
        if password.revealed == Secret.redacted { password = known.password }
        if mutualPassword?.revealed == Secret.redacted, let secret = known.mutualPassword { mutualPassword = secret }
    }
}

/// A host that may log in.
public struct Host: Hashable, Codable, Sendable {
    /// Its name in its fabric: the iSCSI name, or that of its port.
    public var iqn: String
    public var chap: CHAP?
    /// Numbers of the LUNs it sees; `nil`: all of the target's.
    public var luns: [Int]?
    /// `nil`: iSCSI, as in groups stored before there were others.
    private var otherFabric: Fabric?

    public var fabric: Fabric {
        get { otherFabric ?? .iscsi }
        set { otherFabric = newValue == .iscsi ? nil : newValue }
    }

    public init(iqn: String, chap: CHAP? = nil, luns: [Int]? = nil) {
        self.iqn = iqn
        self.chap = chap
        self.luns = luns
    }

    /// A host in another fabric than iSCSI.
    public init(name: String, fabric: Fabric, luns: [Int]? = nil) {
        self.init(iqn: name, luns: luns)
        self.fabric = fabric
    }

    enum CodingKeys: String, CodingKey {
        case iqn, chap, luns
        case otherFabric = "fabric"
    }
}

/// A group as a person describes it: nodes that together export images.
public struct Group: Hashable, Codable, Sendable {
    public var name: String
    public var timing: Timing
    public var nodes: [Node]
    public var targets: [ClusterTarget]
    public var luns: [LogicalUnit]
    public var hosts: [Host]
    /// What iSCSI discovery asks of whoever wants to know the targets; `nil`: nothing.
    public var discovery: CHAP?

    public init(
        name: String, timing: Timing = Timing(), nodes: [Node] = [], targets: [ClusterTarget] = [],
        luns: [LogicalUnit] = [], hosts: [Host] = [], discovery: CHAP? = nil
    ) {
        self.name = name
        self.timing = timing
        self.nodes = nodes
        self.targets = targets
        self.luns = luns
        self.hosts = hosts
        self.discovery = discovery
    }

    enum CodingKeys: String, CodingKey {
        case name = "group"
        case timing, nodes, targets, luns, hosts, discovery
    }

    /// Nodes that serve a target, in the group's order.
    public func nodes(of target: ClusterTarget) -> [Node] {
        if target.fabric != .iscsi { return nodes.filter { target.ports?[$0.name] != nil } }
        guard let names = target.nodes else { return nodes }
        return nodes.filter { names.contains($0.name) }
    }

    /// Portals of an iSCSI target on a node.
    public func portals(of target: ClusterTarget, on node: Node) -> [String] {
        target.portals?[node.name] ?? node.portals
    }

    /// LUNs a target shows, by number.
    public func luns(of target: ClusterTarget) -> [LogicalUnit] {
        luns.filter { target.luns?.contains($0.lun) ?? true }.sorted { $0.lun < $1.lun }
    }

    /// Hosts that may log in to a target; empty for an open one.
    public func hosts(of target: ClusterTarget) -> [Host] {
        guard target.access == .hosts else { return [] }
        return hosts.filter { $0.fabric == target.fabric && target.hosts?.contains($0.iqn) ?? true }
    }
}

extension Group {
    /// Replaces every CHAP secret by ``Secret/redacted``.
    public mutating func redact() {
        for i in hosts.indices { hosts[i].chap?.redact() }
        discovery?.redact()
    }
}
