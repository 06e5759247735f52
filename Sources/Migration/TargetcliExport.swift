// SPDX-License-Identifier: Apache-2.0
import ClusterModel
import Foundation

/// Groups, made into files of other systems.
public enum Exporter {
    /// What targetcli would have saved on a node that serves its part of the group (saveconfig.json(5)), and what the format
    /// cannot say, one line each.
    ///
    /// Images are named by `/dev/rbd/<pool>/<image>`, which udev makes when `rbd map` or rbdmap(8) maps them.
    ///
    /// - Parameters:
    ///   - node: a node of the group.
    ///   - ports: numbers for the portal groups; without one a target's is 1.
    public static func targetcli(_ group: Group, node: Node, ports: [ClusterModel.Port] = []) throws -> (
        text: String, notes: [String]
    ) {
        let served = group.targets.filter { group.nodes(of: $0).contains { $0.name == node.name } }
        let targets = served.filter { $0.fabric == .iscsi }
        let numbers = Set(targets.flatMap { group.luns(of: $0).map(\.lun) })
        let file = SaveConfig(
            fabricModules: group.discovery.map { [SaveConfig.FabricModule(discovery: $0)] } ?? [],
            storageObjects: group.luns.filter { numbers.contains($0.lun) }.map { lun in
                SaveConfig.StorageObject(
                    attributes: ["block_size": 512, "emulate_tpu": 1], dev: "/dev/rbd/\(lun.image)",
                    name: name(group, lun.lun), plugin: "block", readonly: false, writeBack: false, wwn: lun.serial)
            },
            targets: targets.map { target in
                let number = ports.first { $0.iqn == target.iqn && $0.node == node.name && !$0.retired }?.number
                return SaveConfig.Target(
                    fabric: "iscsi", tpgs: [tpg(target, group, node, tag: number ?? 1)], wwn: target.iqn)
            })
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
        var notes: [String] = []
        let others = group.nodes.map(\.name).filter { $0 != node.name }
        if !others.isEmpty {
            notes.append(
                "without Clio, nodes that export the same images at the same time lose data: let only one of "
                    + "\(group.nodes.map(\.name).joined(separator: ", ")) serve them")
        }
        for target in targets where asksSome(group.hosts(of: target)) {
            notes.append(
                "target \(target.iqn): some of its hosts have CHAP and some have none: a kernel whose ACLs have no "
                    + "`authentication` lets them all in without")
        }
        for target in served where target.fabric != .iscsi {
            notes.append("target \(target.iqn) (\(target.fabric.rawValue)) is not carried over: only iSCSI is")
        }
        if group.timing != Timing() { notes.append("timing is not carried over: targetcli has none") }
        if group.luns.contains(where: { $0.serial == nil }) {
            notes.append("LUNs without a serial get one of targetcli's: export an applied group to keep their identity")
        }
        return (String(decoding: try encoder.encode(file), as: UTF8.self) + "\n", notes)
    }

    private static func name(_ group: Group, _ lun: Int) -> String {
        NodePlan.backstoreName(group: group.name, lun: lun)
    }

    private static func asksAll(_ hosts: [ClusterModel.Host]) -> Bool {
        !hosts.isEmpty && hosts.allSatisfy { $0.chap != nil }
    }

    private static func asksSome(_ hosts: [ClusterModel.Host]) -> Bool {
        !asksAll(hosts) && hosts.contains { $0.chap != nil }
    }

    private static func tpg(_ target: ClusterTarget, _ group: Group, _ node: Node, tag: Int) -> SaveConfig.TPG {
        let luns = group.luns(of: target)
        let hosts = group.hosts(of: target)
        let open = target.access == .open
        let portals = group.portals(of: target, on: node).compactMap { try? Portal(parsing: $0) }
        return SaveConfig.TPG(
            // Where it asks, the portal group offers nothing but CHAP; so where only some hosts have it, each ACL decides.
            attributes: [
                "authentication": asksAll(hosts) ? 1 : 0, "cache_dynamic_acls": open ? 1 : 0,
                "demo_mode_write_protect": open ? 0 : 1, "generate_node_acls": open ? 1 : 0,
            ],
            enable: true,
            luns: luns.map { .init(index: $0.lun, storageObject: "/backstores/block/\(name(group, $0.lun))") },
            nodeAcls: hosts.map { host in
                .init(
                    attributes: asksSome(hosts) ? ["authentication": host.chap == nil ? 0 : 1] : nil,
                    chapMutualPassword: host.chap?.mutualPassword?.revealed,
                    chapMutualUserid: host.chap?.mutualUser,
                    chapPassword: host.chap?.password.revealed, chapUserid: host.chap?.user,
                    mappedLuns: luns.map(\.lun).filter { host.luns?.contains($0) ?? true }.map {
                        .init(index: $0, tpgLun: $0, writeProtect: false)
                    }, nodeWwn: host.iqn)
            },
            portals: portals.map {
                .init(ipAddress: $0.isIPv6 ? "[\($0.address)]" : $0.address, iser: false, port: Int($0.port))
            }, tag: tag)
    }
}

/// The file, in its own words but for their spelling.
private struct SaveConfig: Encodable {
    struct FabricModule: Encodable {
        let discoveryEnableAuth = true
        let discoveryMutualPassword: String?
        let discoveryMutualUserid: String?
        let discoveryPassword: String
        let discoveryUserid: String
        let name = "iscsi"

        init(discovery chap: CHAP) {
            discoveryMutualPassword = chap.mutualPassword?.revealed
            discoveryMutualUserid = chap.mutualUser
            discoveryPassword = chap.password.revealed
            discoveryUserid = chap.user
        }
    }

    struct StorageObject: Encodable {
        let attributes: [String: Int]
        let dev: String
        let name: String
        let plugin: String
        let readonly: Bool
        let writeBack: Bool
        let wwn: String?
    }

    struct Target: Encodable {
        let fabric: String
        let tpgs: [TPG]
        let wwn: String
    }

    struct TPG: Encodable {
        let attributes: [String: Int]
        let enable: Bool
        let luns: [LUN]
        let nodeAcls: [ACL]
        let portals: [Endpoint]
        let tag: Int
    }

    struct LUN: Encodable {
        let index: Int
        let storageObject: String
    }

    struct ACL: Encodable {
        let attributes: [String: Int]?
        let chapMutualPassword: String?
        let chapMutualUserid: String?
        let chapPassword: String?
        let chapUserid: String?
        let mappedLuns: [Mapped]
        let nodeWwn: String
    }

    struct Mapped: Encodable {
        let index: Int
        let tpgLun: Int
        let writeProtect: Bool
    }

    struct Endpoint: Encodable {
        let ipAddress: String
        let iser: Bool
        let port: Int
    }

    let fabricModules: [FabricModule]
    let storageObjects: [StorageObject]
    let targets: [Target]
}
