// SPDX-License-Identifier: Apache-2.0

/// Follows a plan's steps on paper: the rules of configfs as far as the order of steps depends on them.
///
/// It does not stand for LIO; that a plan works there is shown on the lab. It shows what a plan leads to, so that the next one
/// can be told before it is carried out; and it finds steps in a wrong order.
public struct PaperTree: Sendable {
    /// A step that cannot be done where it stands.
    public enum Broken: Error, Equatable { case step(String) }

    private(set) var directories: Set<String> = ["target", "target/core", "target/iscsi"]
    private(set) var files: [String: String] = [:]
    private(set) var links: [String: String] = [:]

    private func parent(_ path: String) -> String { String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)]) }

    private func require(_ condition: Bool, _ action: Action) throws(Broken) {
        if !condition { throw Broken.step(action.description) }
    }

    private static func isFixed(_ name: String) -> Bool {
        ["lun", "np", "acls", "attrib", "auth", "wwn", "alua", "default_tg_pt_gp", "discovery_auth"].contains(name)
    }

    /// The nearest folder around a path that somebody made.
    private func made(_ path: String) -> String {
        var path = parent(path)
        while Self.isFixed(String(path.split(separator: "/").last ?? "")) { path = parent(path) }
        return path
    }

    public init() {}

    /// Does steps in order.
    public mutating func run(_ actions: [Action]) throws(Broken) {
        for action in actions {
            switch action.operation {
            case .makeDirectory(let path):
                try require(!directories.contains(path) && directories.contains(made(path)), action)
                directories.insert(path)
            case .removeDirectory(let path):
                try require(directories.contains(path), action)
                try require(!directories.contains { $0.hasPrefix("\(path)/") }, action)
                try require(!links.contains { $0.key.hasPrefix("\(path)/") || $0.value == path }, action)
                directories.remove(path)
                files = files.filter { !$0.key.hasPrefix("\(path)/") }
            case .write(let path, let value):
                try require(directories.contains(made(path)), action)
                // LIO: the port's number is fixed before it opens; a device's serial and size before it is exported.
                if path.hasSuffix("/rtpi") { try require(files["\(parent(path))/enable"] != "1", action) }
                if path.hasSuffix("vpd_unit_serial") || path.hasSuffix("block_size") {
                    try require(!links.values.contains(made(path)), action)
                }
                if path.hasSuffix("/enable"), path.contains("/core/") {
                    try require(files["\(parent(path))/control"] != nil, action)
                    files["\(parent(path))/alua/default_tg_pt_gp/alua_access_state"] = "0"
                }
                files[path] = value
            case .writeSecret(let path, let secret):
                try require(directories.contains(made(path)), action)
                files[path] = secret.revealed
            case .link(let path, let destination):
                try require(
                    directories.contains(parent(path)) && directories.contains(destination) && links[path] == nil,
                    action)
                if destination.contains("/core/") { try require(files["\(destination)/enable"] == "1", action) }
                // tcm_loop scans for the disk at once, and that takes its nexus.
                if path.hasPrefix("target/loopback/") { try require(files["\(made(made(path)))/nexus"] != nil, action) }
                links[path] = destination
            case .unlink(let path):
                try require(links[path] != nil, action)
                // A host's LUN leads to the port's, which must outlive it.
                links[path] = nil
            }
        }
    }

    private func children(_ path: String) -> [String] {
        directories.filter { parent($0) == path }.map { String($0.dropFirst(path.count + 1)) }.sorted()
    }

    private func link(in path: String) -> (String, String)? {
        links.first { parent($0.key) == path }.map { (String($0.key.dropFirst(path.count + 1)), $0.value) }
    }

    private func values(_ path: String, _ keys: [String]) -> [String: String] {
        var out: [String: String] = [:]
        for key in keys { out[key] = files["\(path)/\(key)"] }
        return out
    }

    /// The state as a reader would see it.
    public var state: LIOState {
        let interest = NodePlan.attributesOfInterest
        var state = LIOState()
        for hba in children("target/core") {
            state.hbas[hba] = children("target/core/\(hba)").count
            for name in children("target/core/\(hba)") {
                let path = "target/core/\(hba)/\(name)"
                var alua = values("\(path)/alua/default_tg_pt_gp", interest.alua)
                if alua["alua_access_type"] == "1" { alua["alua_access_type"] = "Implicit" }
                var groups: [String: [String: String]] = [:]
                for group in children("\(path)/alua") {
                    groups[group] = values("\(path)/alua/\(group)", interest.portGroup)
                    if groups[group]?["alua_access_type"] == "1" { groups[group]?["alua_access_type"] = "Implicit" }
                }
                state.backstores["\(hba)/\(name)"] = .init(
                    hba: hba, name: name, enabled: files["\(path)/enable"] == "1",
                    device: files["\(path)/udev_path"] ?? "",
                    serial: files["\(path)/wwn/vpd_unit_serial"] ?? "",
                    attributes: values("\(path)/attrib", interest.backstore), alua: alua, portGroups: groups)
            }
        }
        let discovery = "target/iscsi/discovery_auth"
        state.discovery = .init(
            enforced: files["\(discovery)/enforce_discovery_auth"] == "1",
            auth: values(discovery, interest.auth).mapValues { Secret($0) })
        for iqn in children("target/iscsi") {
            state.targets[iqn] = tpgs("target/iscsi/\(iqn)")
        }
        state.connectionPort = Int(files["target/srpt/discovery_auth/rdma_cm_port"] ?? "") ?? 0
        for folder in LIOState.otherFolders where directories.contains("target/\(folder)") {
            state.fabrics[folder] = [:]
            for name in children("target/\(folder)") {
                state.fabrics[folder]?[name] = tpgs("target/\(folder)/\(name)")
            }
        }
        return state
    }

    private func tpgs(_ target: String) -> [Int: LIOState.TPG] {
        let interest = NodePlan.attributesOfInterest
        var tpgs: [Int: LIOState.TPG] = [:]
        for name in children(target) {
            let path = "\(target)/\(name)"
            var tpg = LIOState.TPG(
                enabled: files["\(path)/enable"] == "1", rtpi: Int(files["\(path)/rtpi"] ?? "") ?? 0,
                attributes: values("\(path)/attrib", interest.tpg), portals: children("\(path)/np"),
                nexus: files["\(path)/nexus"])
            for lun in children("\(path)/lun") {
                let link = link(in: "\(path)/lun/\(lun)")
                tpg.luns[Int(lun.dropFirst(4)) ?? -1] = .init(
                    link: link?.0, backstore: link.map { String($0.1.dropFirst("target/core/".count)) },
                    portGroup: files["\(path)/lun/\(lun)/alua_tg_pt_gp"])
            }
            for host in children("\(path)/acls") {
                let at = "\(path)/acls/\(host)"
                var acl = LIOState.ACL(
                    attributes: values("\(at)/attrib", interest.acl),
                    auth: values("\(at)/auth", interest.auth).mapValues { Secret($0) })
                for lun in children(at) {
                    let link = link(in: "\(at)/\(lun)")
                    acl.luns[Int(lun.dropFirst(4)) ?? -1] = .init(
                        link: link?.0, lun: link.flatMap { Int($0.1.split(separator: "_").last ?? "") })
                }
                tpg.acls[host] = acl
            }
            tpgs[Int(name.dropFirst(5)) ?? -1] = tpg
        }
        return tpgs
    }
}
