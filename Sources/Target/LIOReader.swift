// SPDX-License-Identifier: Apache-2.0
import ClusterModel
import ConfigFS
import SystemPackage

/// Reads what LIO's configfs tree holds.
///
/// Something that goes away while it is being read (another tool is at work) is left out, not an error.
public struct LIOReader: Sendable {
    let tree: ConfigTree

    public init(tree: ConfigTree) { self.tree = tree }

    /// The tree as it is now.
    ///
    /// - Parameters:
    ///   - group: backstores of this group are read in full, of others only the name.
    ///   - detailed: iSCSI names of the targets whose attributes are read; of others only what they export.
    ///   - scope: numbers of the LUNs that are read; `nil`: all. Of the group's others nothing is told.
    public func read(
        group: String, detailed: Set<String>, scope: Set<Int>? = nil
    ) throws(ConfigFSError) -> LIOState {
        var state = LIOState()
        for hba in try folders("target/core") where hba.hasPrefix("iblock_") {
            // One that is numbered as NodePlan does it has that LUN's backstore.
            if let scope, let number = Int(hba.dropFirst("iblock_".count)), !scope.contains(number) { continue }
            let names = try folders("target/core/\(hba)")
            state.hbas[hba] = names.count
            for name in names {
                let lun = NodePlan.lun(ofBackstore: name, group: group)
                if let lun, let scope, !scope.contains(lun) { continue }
                let ours = lun != nil
                state.backstores["\(hba)/\(name)"] = ours ? try backstore(hba, name) : .init(hba: hba, name: name)
            }
        }
        for iqn in try folders("target/iscsi") where iqn != "discovery_auth" {
            state.targets[iqn] = try tpgs("target/iscsi/\(iqn)", detailed: detailed.contains(iqn), scope)
        }
        let discovery = "target/iscsi/discovery_auth"
        state.discovery = .init(
            enforced: try value("\(discovery)/enforce_discovery_auth") == "1",
            auth: try values(discovery, NodePlan.attributesOfInterest.auth).mapValues { Secret($0) })
        state.connectionPort = Self.number(try value("target/srpt/discovery_auth/rdma_cm_port") ?? "")
        for folder in LIOState.otherFolders where try exists("target/\(folder)") {
            var names: [String: [Int: LIOState.TPG]] = [:]
            for name in try folders("target/\(folder)") where name != "discovery_auth" {
                names[name] = try tpgs("target/\(folder)/\(name)", detailed: true, scope)
            }
            state.fabrics[folder] = names
        }
        return state
    }

    private func tpgs(
        _ target: String, detailed: Bool, _ scope: Set<Int>?
    ) throws(ConfigFSError) -> [Int: LIOState.TPG] {
        var tpgs: [Int: LIOState.TPG] = [:]
        for name in try folders(target) where name.hasPrefix("tpgt_") {
            guard let tag = Int(name.dropFirst(5)) else { continue }
            tpgs[tag] = try tpg("\(target)/\(name)", detailed: detailed, scope)
        }
        return tpgs
    }

    private func backstore(_ hba: String, _ name: String) throws(ConfigFSError) -> LIOState.Backstore {
        let path = "target/core/\(hba)/\(name)"
        let interest = NodePlan.attributesOfInterest
        let heading = "T10 VPD Unit Serial Number: "
        let serial = try value("\(path)/wwn/vpd_unit_serial") ?? ""
        return LIOState.Backstore(
            hba: hba, name: name, enabled: try value("\(path)/enable") == "1",
            device: try value("\(path)/udev_path") ?? "",
            serial: serial.hasPrefix(heading) ? String(serial.dropFirst(heading.count)) : serial,
            attributes: try values("\(path)/attrib", interest.backstore),
            alua: try values("\(path)/alua/default_tg_pt_gp", interest.alua), portGroups: try portGroups(path))
    }

    private func portGroups(_ path: String) throws(ConfigFSError) -> [String: [String: String]] {
        var groups: [String: [String: String]] = [:]
        for name in try folders("\(path)/alua") where name != "default_tg_pt_gp" {
            groups[name] = try values("\(path)/alua/\(name)", NodePlan.attributesOfInterest.portGroup)
        }
        return groups
    }

    /// The name in a LUN's `alua_tg_pt_gp`: its first line is `TG Port Alias: <name>`.
    static func portGroup(_ text: String) -> String? {
        let heading = "TG Port Alias: "
        guard text.hasPrefix(heading) else { return nil }
        let name = text.dropFirst(heading.count).prefix { !$0.isNewline }
        return name == "default_tg_pt_gp" ? nil : String(name)
    }

    private func tpg(
        _ path: String, detailed: Bool, _ scope: Set<Int>?
    ) throws(ConfigFSError) -> LIOState.TPG {
        let interest = NodePlan.attributesOfInterest
        var tpg = LIOState.TPG()
        tpg.enabled = try value("\(path)/enable") == "1"
        tpg.nexus = try nexus(path)
        for (name, number) in try luns("\(path)/lun", scope) {
            let link = try links("\(path)/lun/\(name)").first
            tpg.luns[number] = .init(
                link: link?.name, backstore: link.map { $0.destination.suffix(2).joined(separator: "/") },
                portGroup: Self.portGroup(try value("\(path)/lun/\(name)/alua_tg_pt_gp") ?? ""))
        }
        tpg.portals = try folders("\(path)/np")
        for host in try folders("\(path)/acls") {
            let at = "\(path)/acls/\(host)"
            var acl = LIOState.ACL()
            for (name, number) in try luns(at, scope) {
                let link = try links("\(at)/\(name)").first { $0.destination.last?.hasPrefix("lun_") == true }
                acl.luns[number] = .init(
                    link: link?.name, lun: link?.destination.last.flatMap { Int($0.dropFirst(4)) },
                    writeProtected: try value("\(at)/\(name)/write_protect") == "1")
            }
            if detailed {
                acl.attributes = try values("\(at)/attrib", interest.acl)
                acl.auth = try values("\(at)/auth", interest.auth).mapValues { Secret($0) }
            }
            tpg.acls[host] = acl
        }
        if detailed {
            tpg.rtpi = Self.number(try value("\(path)/rtpi") ?? "")
            tpg.attributes = try values("\(path)/attrib", interest.tpg)
        }
        return tpg
    }

    /// The folders `lun_<number>` in one.
    private func luns(_ path: String, _ scope: Set<Int>?) throws(ConfigFSError) -> [(name: String, number: Int)] {
        try folders(path).compactMap { name in
            guard name.hasPrefix("lun_"), let number = Int(name.dropFirst(4)), scope?.contains(number) != false else {
                return nil
            }
            return (name, number)
        }
    }

    /// A number as LIO prints it: decimal, or hexadecimal after `0x`.
    static func number(_ text: String) -> Int {
        text.hasPrefix("0x") ? Int(text.dropFirst(2), radix: 16) ?? 0 : Int(text) ?? 0
    }

    // MARK: Small things

    func folders(_ path: String) throws(ConfigFSError) -> [String] {
        do {
            return try tree.list(FilePath(path), .directory)
        } catch  where error.errno == .noSuchFileOrDirectory {
            return []
        }
    }

    func value(_ path: String) throws(ConfigFSError) -> String? {
        do {
            return try tree.read(FilePath(path))
        } catch  where error.errno == .noSuchFileOrDirectory {
            return nil
        }
    }

    private func exists(_ path: String) throws(ConfigFSError) -> Bool { try tree.exists(FilePath(path)) }

    /// The initiator of a port with one nexus. Reading it fails while there is none.
    private func nexus(_ path: String) throws(ConfigFSError) -> String? {
        do {
            return try value("\(path)/nexus")
        } catch  where error.errno == .operationNotSupportedByDevice {
            return nil
        }
    }

    private func values(_ folder: String, _ names: [String]) throws(ConfigFSError) -> [String: String] {
        var out: [String: String] = [:]
        for name in names { out[name] = try value("\(folder)/\(name)") }
        return out
    }

    /// The links in a folder with the components of where each leads.
    private func links(_ folder: String) throws(ConfigFSError) -> [(name: String, destination: [String])] {
        do {
            var out: [(String, [String])] = []
            for name in try tree.list(FilePath(folder), .link) {
                let destination = try tree.resolvedDestination(of: FilePath(folder).appending(name))
                out.append((name, destination.components.map(\.string)))
            }
            return out
        } catch  where error.errno == .noSuchFileOrDirectory {
            return []
        }
    }
}
