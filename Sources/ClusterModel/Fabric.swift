// SPDX-License-Identifier: Apache-2.0

/// How hosts reach a target.
public enum Fabric: String, Codable, Sendable, CaseIterable {
    case iscsi
    /// A SCSI disk of the node's own kernel: tcm_loop.
    case loopback
    /// Virtual machines on the node: vhost_scsi.
    case vhost
    /// SCSI RDMA: ib_srpt.
    case srp
    /// Fibre Channel, by QLogic adapters in target mode: tcm_qla2xxx.
    case fc

    /// Whether the only host is the node itself, or a virtual machine on it.
    public var isLocal: Bool { self == .loopback || self == .vhost }

    /// Kernel module that has it.
    public var module: String {
        switch self {
        case .iscsi: "iscsi_target_mod"
        case .loopback: "tcm_loop"
        case .vhost: "vhost_scsi"
        case .srp: "ib_srpt"
        case .fc: "tcm_qla2xxx"
        }
    }

    /// Its folder under `target/` in configfs.
    public var folder: String {
        switch self {
        case .iscsi: "iscsi"
        case .loopback: "loopback"
        case .vhost: "vhost"
        case .srp: "srpt"
        case .fc: "qla2xxx"
        }
    }

    /// Where SRP takes connections by RDMA/CM; the field's custom, nobody has registered one.
    static let connectionPort = 5555

    /// Whether a port can be closed as a whole: its TPG has `enable`. Where not, it is open when it shows its LUNs.
    public var hasEnable: Bool { !isLocal }

    /// What is wrong with the name of a port, or `nil`.
    ///
    /// Names are written as rtslib and its tools do: `naa.` and 16 hexadecimal digits, `ib.` and the 32 of a GID.
    public func fault(port name: String) -> String? {
        switch self {
        case .iscsi: "an iSCSI target has portals, not ports"
        case .loopback, .vhost:
            // Clio makes the initiator's name of it: NAA 3h, locally assigned (SPC-4 7.8.6.6).
            Self.isHex(name, after: "naa.5", digits: 15)
                ? nil
                : "a \(rawValue) port is \"naa.5\" and 15 hexadecimal digits in lower case, such as "
                    + "\(examplePort), not \"\(name)\""
        case .fc:
            Self.isHex(name, after: "naa.", digits: 16)
                ? nil
                : "a Fibre Channel port is \"naa.\" and the 16 hexadecimal digits of its WWPN in lower case "
                    + "(/sys/class/fc_host/host*/port_name), not \"\(name)\""
        case .srp:
            Self.isHex(name, after: "ib.", digits: 32)
                ? nil
                : "an SRP port is \"ib.\" and the 32 hexadecimal digits of its GID in lower case "
                    + "(/sys/class/infiniband/*/ports/*/gids/0 without colons), not \"\(name)\""
        }
    }

    /// What is wrong with the name of a host, or `nil`.
    public func fault(host name: String) -> String? {
        switch self {
        case .iscsi: ISCSIName.fault(name)
        case .loopback, .vhost: "\(rawValue) has no hosts to list: whoever is on the node is its host"
        case .fc:
            Self.isHex(name, after: "naa.", digits: 16)
                ? nil
                : "a Fibre Channel host is \"naa.\" and the 16 hexadecimal digits of its WWPN in lower case, not \"\(name)\""
        case .srp:
            Self.isHex(name, after: "ib.", digits: 32)
                ? nil
                : "an SRP host is \"ib.\" and the 32 hexadecimal digits of its port identifier in lower case, not "
                    + "\"\(name)\""
        }
    }

    /// A port's name as a message shows it.
    var examplePort: String {
        switch self {
        case .iscsi, .loopback, .vhost: "naa.5001405a1b2c3d4e"
        case .fc: "naa.21000024ff314c48"
        case .srp: "ib.fe80000000000000e41d2d0300abcdef"
        }
    }

    private static func isHex(_ name: String, after prefix: String, digits: Int) -> Bool {
        let rest = name.dropFirst(prefix.count)
        return name.hasPrefix(prefix) && rest.count == digits
            && rest.allSatisfy { ("0"..."9").contains($0) || ("a"..."f").contains($0) }
    }

    /// A port's or host's folder in configfs: what the fabric's module parses.
    func folderName(_ name: String) -> String {
        switch self {
        case .iscsi, .loopback, .vhost: name
        case .srp: "0x" + name.dropFirst(3)
        case .fc: Self.colons(name)
        }
    }

    /// A port's folder under `target/remote`: tcm_remote takes the protocol from the prefix.
    func remoteName(_ name: String, number: Int) -> String {
        switch self {
        // One name for all nodes; SCSI's name of the port tells them apart (RFC 7143 4.2.7.1: name, ",t,", tag).
        case .iscsi: "\(name),t,\(number)"
        case .loopback, .vhost: name
        case .srp: "0x" + name.dropFirst(3)
        case .fc: "fc." + Self.colons(name)
        }
    }

    /// The name of the initiator at a local port: unique in the group as the port's is.
    static func initiator(at port: String) -> String { "naa.3" + port.dropFirst(5) }

    private static func colons(_ name: String) -> String {
        let digits = Array(name.dropFirst(4))
        return stride(from: 0, to: digits.count, by: 2).map { String(digits[$0..<min($0 + 2, digits.count)]) }
            .joined(separator: ":")
    }
}
