// SPDX-License-Identifier: Apache-2.0
import ClusterModel
import ConfigFS
import Kmod
import SystemPackage

/// What is where on this machine.
public struct GatewayStatus: Codable, Sendable {
    /// A kernel module.
    public struct Module: Codable, Sendable {
        public let name: String
        /// `live`, `builtin`, `not loaded`, …
        public let state: String
        /// Version, or the hash of its sources.
        public let version: String?
    }

    /// A LUN: image, device and backstore.
    public struct LUN: Codable, Sendable {
        public let lun: Int
        public let image: String
        public let serial: String?
        public let naa: String?
        /// `/dev/rbd0`; nil: not mapped.
        public let device: String?
        /// Bytes; nil: not mapped.
        public let size: UInt64?
        /// `<hba>/<name>` of LIO's backstore; nil: none.
        public let backstore: String?
    }

    /// A port: a target on a node, as this machine's LIO has it.
    public struct PortStatus: Codable, Sendable {
        public let iqn: String
        public let number: Int
        public let node: String
        /// Whether it is this machine's own.
        public let own: Bool
        /// `enabled`, `disabled`, `missing`.
        public let state: String
        public let portals: [String]
        public let luns: [Int]
    }

    /// A host that is logged in here.
    public struct Session: Codable, Sendable {
        public let iqn: String
        public let port: Int
        public let host: String
        /// Where it comes from; nil where LIO does not tell.
        public let address: String?
    }

    public var group: String
    /// The config's version; nil: Ceph could not be asked.
    public var version: Int?
    public var node: String?
    public var kernel: String
    /// F, seconds.
    public var bound: Int?
    public var modules: [Module] = []
    public var luns: [LUN] = []
    public var ports: [PortStatus] = []
    public var sessions: [Session] = []
    /// Steps that `clio node up` would take now; nil: not known.
    public var pending: [String]?
    /// What could not be found out.
    public var problems: [String] = []
}

extension Gateway {
    /// What is where on this machine. Reads only; needs root for some of it.
    ///
    /// - Parameters:
    ///   - node: this machine's name in the group, if it is one of its nodes.
    ///   - stored: the group, if Ceph could be reached.
    public func status(group: String, node: String?, stored: StoredGroup?) -> GatewayStatus {
        var status = GatewayStatus(group: group, version: stored?.version, node: node, kernel: modules.release)
        status.bound = stored?.config.timing.bound
        for name in Self.requiredModules {
            let state = (try? modules.state(of: name))?.rawValue ?? "unknown"
            let loaded = modules.loaded(name)
            status.modules.append(.init(name: name, state: state, version: loaded?.version ?? loaded?.sourceVersion))
        }
        let mappings = rbd.mappings()
        var state = LIOState()
        if tree.isMounted {
            do {
                state = try LIOReader(tree: tree).read(group: group, detailed: Set((stored?.ports ?? []).map(\.iqn)))
            } catch {
                status.problems.append("\(error)")
            }
        }
        fillLUNs(&status, stored, state, mappings)
        fillPorts(&status, stored, state, node)
        if let stored, let node, SystemFiles.isRoot {
            var devices: [Int: String] = [:]
            for lun in status.luns { devices[lun.lun] = lun.device }
            let plan = NodePlan(stored: stored, node: node, devices: devices, actual: state)
            status.pending = plan.conflicts + plan.actions.map(\.description)
            for lun in status.luns where lun.device == nil && serves(stored.config, node, lun.lun) {
                status.pending?.append("map image \(lun.image)")
            }
        }
        return status
    }

    private func serves(_ group: Group, _ node: String, _ lun: Int) -> Bool {
        group.targets.contains { target in
            group.nodes(of: target).contains { $0.name == node } && group.luns(of: target).contains { $0.lun == lun }
        }
    }

    private func fillLUNs(
        _ status: inout GatewayStatus, _ stored: StoredGroup?, _ state: LIOState, _ mappings: [KernelRBD.Mapping]
    ) {
        var backstores: [Int: LIOState.Backstore] = [:]
        for backstore in state.backstores.values {
            if let number = NodePlan.lun(ofBackstore: backstore.name, group: status.group) {
                backstores[number] = backstore
            }
        }
        if let stored {
            for lun in stored.config.luns.sorted(by: { $0.lun < $1.lun }) {
                let mapping = mappings.first {
                    ImageName(pool: $0.pool, namespace: $0.namespace, image: $0.image).description == lun.image
                        && $0.imageID == lun.imageID && $0.snapshot == nil && !$0.readOnly
                }
                status.luns.append(
                    .init(
                        lun: lun.lun, image: lun.image, serial: lun.serial,
                        naa: lun.serial.flatMap { try? LUNSerial($0) }?.naa, device: mapping?.device,
                        size: mapping?.size,
                        backstore: backstores[lun.lun]?.key))
            }
        } else {
            for (number, backstore) in backstores.sorted(by: { $0.key < $1.key }) {
                let mapping = mappings.first { $0.device == backstore.device }
                let image = mapping.map {
                    ImageName(pool: $0.pool, namespace: $0.namespace, image: $0.image).description
                }
                status.luns.append(
                    .init(
                        lun: number, image: image ?? "?", serial: backstore.serial,
                        naa: (try? LUNSerial(backstore.serial))?.naa, device: mapping?.device, size: mapping?.size,
                        backstore: backstore.key))
            }
        }
    }

    private func fillPorts(
        _ status: inout GatewayStatus, _ stored: StoredGroup?, _ state: LIOState, _ node: String?
    ) {
        let reader = LIOReader(tree: tree)
        let ports: [Port]
        if let stored {
            ports = stored.ports.filter { !$0.retired }
        } else {
            ports = state.targets.flatMap { iqn, tpgs in
                tpgs.filter { _, tpg in
                    tpg.luns.values.contains { lun in
                        lun.backstore?.split(separator: "/").last.map {
                            NodePlan.lun(ofBackstore: String($0), group: status.group) != nil
                        } ?? false
                    }
                }.map { Port(iqn: iqn, node: "?", number: $0.key) }
            }
        }
        for port in ports.sorted(by: { ($0.iqn, $0.number) < ($1.iqn, $1.number) }) {
            let place = NodePlan.Place(of: port, on: node ?? port.node)
            let tpg =
                port.fabric == .iscsi
                ? state.targets[port.iqn]?[port.number] : state.fabrics[place.folder]?[place.name]?[place.tag]
            let configured = stored.flatMap { stored -> [String]? in
                guard let target = stored.config.targets.first(where: { $0.iqn == port.iqn }),
                    let node = stored.config.nodes.first(where: { $0.name == port.node })
                else { return nil }
                return stored.config.portals(of: target, on: node)
            }
            let isOpen = tpg.map { $0.enabled || (port.fabric.isLocal && port.node == node && !$0.luns.isEmpty) }
            status.ports.append(
                .init(
                    iqn: port.iqn, number: port.number, node: port.node, own: port.node == node,
                    state: isOpen.map { $0 ? "enabled" : "disabled" } ?? "missing",
                    portals: port.wwn.map { [$0] } ?? tpg?.portals ?? configured ?? [],
                    luns: (tpg?.luns.keys).map { $0.sorted() } ?? []))
            guard let tpg else { continue }
            if let nexus = tpg.nexus, port.node == node {
                status.sessions.append(.init(iqn: port.iqn, port: port.number, host: nexus, address: nil))
            }
            let path = place.path
            for host in tpg.acls.keys.sorted() {
                let info = (try? reader.value("\(path)/acls/\(host)/info")).flatMap { $0 } ?? ""
                guard let address = Self.sessionAddress(info) else { continue }
                status.sessions.append(.init(iqn: port.iqn, port: port.number, host: host, address: address))
            }
            let dynamic = (try? reader.value("\(path)/dynamic_sessions")).flatMap { $0 } ?? ""
            for host in dynamic.split(whereSeparator: { $0 == "\0" || $0.isNewline }) {
                status.sessions.append(.init(iqn: port.iqn, port: port.number, host: String(host), address: nil))
            }
        }
    }

    /// The host's address in an ACL's `info`; nil if nobody is logged in.
    static func sessionAddress(_ info: String) -> String? {
        guard info.contains("InitiatorName:") else { return nil }
        for line in info.split(whereSeparator: \.isNewline) {
            let words = line.split(separator: " ")
            if words.first == "Address", words.count > 1 { return String(words[1]) }
        }
        return ""
    }
}
