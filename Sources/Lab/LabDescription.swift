// SPDX-License-Identifier: Apache-2.0

/// A running lab as others see it: what `clio-lab up --json` and `clio-lab status --json` print.
public struct LabDescription: Codable, Sendable, Equatable {
    /// Name of the network namespace that holds the cluster; `ip netns exec NETNS …` puts a command into it.
    public var netns: String
    /// Path of the client's `ceph.conf`, the same on the host and in the nodes.
    public var cephConf: String
    /// Path of the keyring with `client.admin`, the same on the host and in the nodes.
    public var keyring: String
    /// Gateways first, then initiators.
    public var nodes: [Node]
    public var luns: [LUN]

    enum CodingKeys: String, CodingKey {
        case netns
        case cephConf = "ceph_conf"
        case keyring, nodes, luns
    }

    /// What a node does.
    public enum Role: String, Codable, Sendable {
        /// Exports the images.
        case gateway
        /// Runs open-iscsi and dm-multipath of the kernel.
        case initiator
    }

    public struct Node: Codable, Sendable, Equatable {
        /// Also the node's host name.
        public var name: String
        public var role: Role
        /// IPv4 address on the lab's bridge.
        public var address: String
        /// `ADDRESS:PORT` of a gateway's iSCSI portal; `null` of an initiator.
        public var portal: String?
        /// Name of the target a gateway serves; an initiator's own name.
        public var iqn: String
        /// All processes on the host that make up the node, the kernel first; empty if it is not running.
        public var pids: [Int32]

        public init(name: String, role: Role, address: String, portal: String?, iqn: String, pids: [Int32]) {
            self.name = name
            self.role = role
            self.address = address
            self.portal = portal
            self.iqn = iqn
            self.pids = pids
        }

        public func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(name, forKey: .name)
            try container.encode(role, forKey: .role)
            try container.encode(address, forKey: .address)
            try container.encode(portal, forKey: .portal)  // null, not absent
            try container.encode(iqn, forKey: .iqn)
            try container.encode(pids, forKey: .pids)
        }

        enum CodingKeys: String, CodingKey { case name, role, address, portal, iqn, pids }
    }

    public struct LUN: Codable, Sendable, Equatable {
        /// Logical unit number.
        public var lun: Int
        public var pool: String
        /// "" is the pool's default one.
        public var namespace: String
        public var image: String
        /// What VPD page 80h of every gateway says; 16 hexadecimal digits.
        public var serial: String

        /// `pool/image` or `pool/namespace/image`.
        public var path: String { Self.path(pool: pool, namespace: namespace, image: image) }

        static func path(pool: String, namespace: String, image: String) -> String {
            namespace.isEmpty ? "\(pool)/\(image)" : "\(pool)/\(namespace)/\(image)"
        }

        public init(lun: Int, pool: String, namespace: String = "", image: String, serial: String) {
            self.lun = lun
            self.pool = pool
            self.namespace = namespace
            self.image = image
            self.serial = serial
        }
    }

    public init(netns: String, cephConf: String, keyring: String, nodes: [Node], luns: [LUN]) {
        self.netns = netns
        self.cephConf = cephConf
        self.keyring = keyring
        self.nodes = nodes
        self.luns = luns
    }
}
