// SPDX-License-Identifier: Apache-2.0

/// What LIO's configfs tree holds on a node, as far as Clio is concerned. Read by module `Target`, compared by ``NodePlan``.
public struct LIOState: Hashable, Sendable {
    /// A backstore: `target/core/<hba>/<name>`.
    public struct Backstore: Hashable, Sendable {
        public var hba: String
        public var name: String
        public var enabled: Bool
        /// `udev_path`.
        public var device: String
        /// Without the heading LIO puts before it.
        public var serial: String
        /// `attrib/*`, those that Clio sets.
        public var attributes: [String: String]
        /// `alua/default_tg_pt_gp/*`, those that Clio sets, as they read.
        public var alua: [String: String]
        /// `alua/<name>/*` of the other target port groups, those that Clio sets, as they read.
        public var portGroups: [String: [String: String]]

        public init(
            hba: String, name: String, enabled: Bool = true, device: String = "", serial: String = "",
            attributes: [String: String] = [:], alua: [String: String] = [:],
            portGroups: [String: [String: String]] = [:]
        ) {
            self.hba = hba
            self.name = name
            self.enabled = enabled
            self.device = device
            self.serial = serial
            self.attributes = attributes
            self.alua = alua
            self.portGroups = portGroups
        }

        /// `<hba>/<name>`.
        public var key: String { "\(hba)/\(name)" }
    }

    /// A LUN of a TPG: `lun/lun_<n>`.
    public struct LUN: Hashable, Sendable {
        /// Name of the link in it; `nil`: none.
        public var link: String?
        /// ``Backstore/key`` of what the link leads to.
        public var backstore: String?
        /// Name of its target port group; `nil`: the default one.
        public var portGroup: String?

        public init(link: String? = nil, backstore: String? = nil, portGroup: String? = nil) {
            self.link = link
            self.backstore = backstore
            self.portGroup = portGroup
        }
    }

    /// A LUN mapped for a host: `acls/<iqn>/lun_<n>`.
    public struct MappedLUN: Hashable, Sendable {
        public var link: String?
        /// Number of the TPG's LUN it leads to.
        public var lun: Int?
        public var writeProtected: Bool

        public init(link: String? = nil, lun: Int? = nil, writeProtected: Bool = false) {
            self.link = link
            self.lun = lun
            self.writeProtected = writeProtected
        }
    }

    /// A host's ACL: `acls/<iqn>`.
    public struct ACL: Hashable, Sendable {
        /// `attrib/*`, those that Clio sets.
        public var attributes: [String: String]
        /// `auth/*`.
        public var auth: [String: Secret]
        public var luns: [Int: MappedLUN]

        public init(attributes: [String: String] = [:], auth: [String: Secret] = [:], luns: [Int: MappedLUN] = [:]) {
            self.attributes = attributes
            self.auth = auth
            self.luns = luns
        }
    }

    /// A target portal group: `target/<fabric>/<name>/tpgt_<n>`.
    public struct TPG: Hashable, Sendable {
        public var enabled: Bool
        /// Relative target port identifier; 0 before LIO has assigned one.
        public var rtpi: Int
        public var attributes: [String: String]
        public var luns: [Int: LUN]
        /// Names of the folders under `np/`.
        public var portals: [String]
        public var acls: [String: ACL]
        /// The initiator of its one nexus, in fabrics that have one; `nil`: none.
        public var nexus: String?

        public init(
            enabled: Bool = false, rtpi: Int = 0, attributes: [String: String] = [:], luns: [Int: LUN] = [:],
            portals: [String] = [], acls: [String: ACL] = [:], nexus: String? = nil
        ) {
            self.enabled = enabled
            self.rtpi = rtpi
            self.attributes = attributes
            self.luns = luns
            self.portals = portals
            self.acls = acls
            self.nexus = nexus
        }
    }

    /// What discovery asks for, of the whole machine: `target/iscsi/discovery_auth`.
    public struct Discovery: Hashable, Sendable {
        public var enforced: Bool
        /// As ``ACL/auth``.
        public var auth: [String: Secret]

        public init(enforced: Bool = false, auth: [String: Secret] = [:]) {
            self.enforced = enforced
            self.auth = auth
        }
    }

    /// Every backstore of plugin iblock, by ``Backstore/key``; of foreign ones only the name is known.
    public var backstores: [String: Backstore]
    /// `core/iblock_*` folders, with the number of backstores in each.
    public var hbas: [String: Int]
    /// iSCSI targets: IQN → tag → TPG.
    public var targets: [String: [Int: TPG]]
    /// Other fabrics that are registered with LIO: folder → name → tag → TPG.
    public var fabrics: [String: [String: [Int: TPG]]]

    public var discovery = Discovery()
    /// Port at which ib_srpt takes connections by RDMA/CM: `target/srpt/discovery_auth/rdma_cm_port`; 0: none.
    public var connectionPort = 0

    /// Folders of fabrics other than iSCSI.
    public static let otherFolders = Fabric.allCases.filter { $0 != .iscsi }.map(\.folder) + [NodePlan.Place.remote]

    public init(
        backstores: [String: Backstore] = [:], hbas: [String: Int] = [:], targets: [String: [Int: TPG]] = [:],
        fabrics: [String: [String: [Int: TPG]]] = [:]
    ) {
        self.backstores = backstores
        self.hbas = hbas
        self.targets = targets
        self.fabrics = fabrics
    }
}

/// One step on LIO's tree. Paths are relative to configfs' root.
public enum Operation: Hashable, Sendable {
    case makeDirectory(String)
    case removeDirectory(String)
    case write(String, value: String)
    case writeSecret(String, Secret)
    case link(String, to: String)
    case unlink(String)

    public var path: String {
        switch self {
        case .makeDirectory(let path), .removeDirectory(let path), .write(let path, _), .writeSecret(let path, _),
            .link(let path, _), .unlink(let path):
            path
        }
    }
}

/// A step, what it is for, and what it depends on.
public struct Action: Hashable, Sendable, CustomStringConvertible {
    public let operation: Operation
    /// The object it works on, outermost first: `["target iqn…", "port 1", "LUN 0"]`. A step is skipped when an earlier
    /// one failed on the same object or on one around it.
    public let object: [String]
    /// Other objects that must not have failed.
    public let requires: [[String]]
    /// Whether it needs everything inside the object to have gone well: it removes the object.
    public let removesWhole: Bool
    /// For a person: `create backstore clio-default-lun0 on /dev/rbd0`.
    public let description: String

    public init(operation: Operation, object: [String], requires: [[String]], removesWhole: Bool, description: String) {
        self.operation = operation
        self.object = object
        self.requires = requires
        self.removesWhole = removesWhole
        self.description = description
    }
}
