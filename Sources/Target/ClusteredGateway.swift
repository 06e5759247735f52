// SPDX-License-Identifier: Apache-2.0
import ClusterModel
import ConfigFS
import SystemPackage

// What the relay does with a gateway that is up.
extension Gateway {
    /// The node's own ports as paths of configfs, as far as they are there and hosts come in from outside.
    private func ownPorts(_ stored: StoredGroup, _ node: String) -> [String] {
        stored.ports.filter { $0.node == node && !$0.retired && $0.fabric.hasEnable }
            .map { NodePlan.Place(of: $0, on: node).path }
            .filter { (try? tree.exists(FilePath($0))) == true }
    }

    /// Lets hosts in.
    ///
    /// - Returns: what did not work, by port.
    public func openPorts(of node: String, stored: StoredGroup) -> [String] {
        setPorts(of: node, stored, "1") + showLocally(on: node, stored)
    }

    /// Has local ports show what they do not show yet: a node looks at its disks at once, so it has to have a lease.
    private func showLocally(on node: String, _ stored: StoredGroup) -> [String] {
        guard stored.ports.contains(where: { $0.node == node && !$0.retired && $0.fabric.isLocal }) else { return [] }
        do {
            let state = try LIOReader(tree: tree).read(
                group: stored.config.name, detailed: Set(stored.ports.map(\.iqn)))
            var devices: [Int: String] = [:]
            for backstore in state.backstores.values where backstore.enabled {
                guard let lun = NodePlan.lun(ofBackstore: backstore.name, group: stored.config.name) else { continue }
                devices[lun] = backstore.device
            }
            let plan = NodePlan(stored: stored, node: node, devices: devices, actual: state)
            let local = Set(Fabric.allCases.filter(\.isLocal).map { "fabric \($0.folder)" })
            let result = PlanRunner(tree: tree).run(
                plan.actions.filter { $0.object.first.map(local.contains) ?? false })
            lookAgain(result.done)
            return result.failures.map(\.message)
        } catch {
            return ["\(error)"]
        }
    }

    /// Has the node's SCSI look again at disks of the loopback fabric: it read their port group's number before they had one.
    func lookAgain(_ done: [Action]) {
        for action in done {
            guard case .write(let path, _) = action.operation, path.hasPrefix("target/\(Fabric.loopback.folder)/"),
                path.hasSuffix("/alua_tg_pt_gp")
            else { continue }
            // target/loopback/<name>/tpgt_1/lun/lun_<n>/alua_tg_pt_gp
            let parts = path.split(separator: "/")
            guard let lun = parts.dropLast().last?.dropFirst("lun_".count),
                let address = try? tree.read(FilePath(parts.prefix(4).joined(separator: "/") + "/address"))
            else { continue }
            try? SystemFiles.write("1", to: FilePath("/sys/class/scsi_device/\(address):\(lun)/device/rescan"))
        }
    }

    /// Drops all sessions and lets no host in. Returns when none is left, which takes until their commands in flight have
    /// ended. Local ports stay: what a node asks of itself is refused by the lease alone, and outlives no connection.
    ///
    /// - Returns: what did not work, by port.
    public func closePorts(of node: String, stored: StoredGroup) -> [String] { setPorts(of: node, stored, "0") }

    private func setPorts(of node: String, _ stored: StoredGroup, _ value: String) -> [String] {
        var problems: [String] = []
        for path in ownPorts(stored, node) {
            do {
                if try tree.read(FilePath("\(path)/enable")) != value {
                    try tree.write(value, to: FilePath("\(path)/enable"))
                }
            } catch {
                problems.append("\(error)")
            }
        }
        return problems
    }

    /// Says through this node's ports which nodes' ports are active/optimized; all others are unavailable (SPC-4 5.15.2.4).
    ///
    /// - Parameter scope: numbers of the LUNs that are told; `nil`: all.
    /// - Returns: what did not work.
    public func setAvailable(_ nodes: Set<String>, stored: StoredGroup, scope: Set<Int>? = nil) -> [String] {
        let owners = Dictionary(stored.ports.map { ($0.number, $0.node) }, uniquingKeysWith: { first, _ in first })
        let reader = LIOReader(tree: tree)
        var problems: [String] = []
        func attempt<Value>(_ body: () throws -> Value?) -> Value? {
            do {
                return try body()
            } catch {
                problems.append("\(error)")
                return nil
            }
        }
        let all = scope?.map { "iblock_\($0)" } ?? attempt { try reader.folders("target/core") } ?? []
        for hba in all where hba.hasPrefix("iblock_") {
            for name in attempt({ try reader.folders("target/core/\(hba)") }) ?? [] {
                guard let lun = NodePlan.lun(ofBackstore: name, group: stored.config.name),
                    scope?.contains(lun) != false
                else { continue }
                let alua = "target/core/\(hba)/\(name)/alua"
                for group in attempt({ try reader.folders(alua) }) ?? [] {
                    guard let port = NodePlan.port(ofGroup: group), let owner = owners[port] else { continue }
                    let path = "\(alua)/\(group)/alua_access_state"
                    let state = nodes.contains(owner) ? Self.activeOptimized : Self.unavailable
                    _ = attempt {
                        if try reader.value(path) != state { try tree.write(state, to: FilePath(path)) }
                        return ()
                    }
                }
            }
        }
        return problems
    }

    /// Asymmetric access states, SPC-4 table 277.
    private static let activeOptimized = "0"
    private static let unavailable = "3"

    /// How many hosts are logged in to the node's own ports.
    public func sessionCount(of node: String, stored: StoredGroup) -> Int {
        let reader = LIOReader(tree: tree)
        var hosts = 0
        for path in ownPorts(stored, node) {
            for host in (try? reader.folders("\(path)/acls")) ?? [] {
                let info = (try? reader.value("\(path)/acls/\(host)/info")).flatMap { $0 } ?? ""
                if Self.sessionAddress(info) != nil { hosts += 1 }
            }
            let dynamic = (try? reader.value("\(path)/dynamic_sessions")).flatMap { $0 } ?? ""
            hosts += dynamic.split(whereSeparator: { $0 == "\0" || $0.isNewline }).count
        }
        return hosts
    }

    /// The mappings of the group's images, also of those that its configuration no longer has but that are still exported.
    public func mappings(stored: StoredGroup, fsid: String) -> [KernelRBD.Mapping] {
        let reader = LIOReader(tree: tree)
        var exported: Set<String> = []
        for hba in (try? reader.folders("target/core")) ?? [] where hba.hasPrefix("iblock_") {
            for name in (try? reader.folders("target/core/\(hba)")) ?? []
            where NodePlan.lun(ofBackstore: name, group: stored.config.name) != nil {
                if let device = try? reader.value("target/core/\(hba)/\(name)/udev_path") { exported.insert(device) }
            }
        }
        let images = Set(stored.config.luns.map { [$0.image, $0.imageID ?? ""] })
        return rbd.mappings().filter { mapping in
            let name = ImageName(pool: mapping.pool, namespace: mapping.namespace, image: mapping.image).description
            return mapping.fsid.lowercased() == fsid.lowercased() && mapping.snapshot == nil && !mapping.readOnly
                && (images.contains([name, mapping.imageID]) || exported.contains(mapping.device))
        }
    }
}
