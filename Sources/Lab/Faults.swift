// SPDX-License-Identifier: Apache-2.0

import Foundation
import Initiator

/// Something that goes wrong with a gateway and is over some time later.
public enum Fault: String, CaseIterable, Sendable {
    /// All of the node's processes stand still, then go on.
    case freeze
    /// The node dies and is started again.
    case kill
    /// The node cannot reach Ceph.
    case cutFromOSDs = "cut-osd"
    /// The node and its hosts cannot reach each other, and TCP goes on trying.
    case cutFromHosts = "cut-hosts"
    /// The node can reach nobody.
    case cutFromAll = "cut-all"
    /// The node's cliod dies and is back within the lease.
    case restartDaemon = "restart-cliod"
    /// The node's cliod dies and comes back long after the lease.
    case killDaemon = "kill-cliod"
    /// All of Ceph's OSDs stand still for 10 s, the group object's among them.
    case pauseOSDs = "pause-osds"

    /// Whether it needs a gateway with cliod.
    public var concernsDaemon: Bool { self == .restartDaemon || self == .killDaemon }
}

/// One fault and what it did to hosts that were writing.
public struct FaultRound: Sendable {
    public let fault: Fault
    public let node: String
    public let report: StampedWrites.Report
}

extension Lab {
    /// Hosts write through all gateways, one gateway fails, hosts go on through the others after F, the fault is over,
    /// and whatever the gateway or the network held back may come.
    ///
    /// - Parameters:
    ///   - bound: F in seconds.
    ///   - hosts: hosts that write, dealt to the gateways in turn.
    ///   - watch: how long to look for old writes once the fault is over. TCP takes its time: having tried in vain for
    ///     10 s, it tries again after 6 s.
    /// - Throws: `ISCSIError` if some host finds no way to write within 4 F; `LabError` if the lab does not do as told.
    public func round(
        _ fault: Fault, of node: String, lun: Int = 0, bound: Double = 10, hosts: Int = 16,
        watch: Duration = .seconds(8)
    ) async throws -> FaultRound {
        for gateway in description().nodes where gateway.portal != nil { try await waitUntilServed(gateway) }
        let portals = description().nodes.compactMap(\.portal)
        var options = StampedWrites.Options(target: Self.targetName, portals: portals)
        options.namespace = netns
        options.lun = lun
        options.hosts = hosts
        options.bound = bound
        let writes = StampedWrites(options)
        try await writes.start()
        do {
            try await Task.sleep(for: .seconds(2))
            logger.notice("\(node): \(fault.rawValue)")
            try await begin(fault, node)
            // Hosts notice nothing before the lease is over.
            if fault.concernsDaemon { try await Task.sleep(for: .seconds(bound)) }
            try await writes.settle(within: .seconds(4 * bound))
            logger.notice("\(node): \(fault.rawValue) is over")
            try await end(fault, node)
            try await Task.sleep(for: watch)
        } catch {
            _ = await writes.finish()
            try? await end(fault, node)
            throw error
        }
        return FaultRound(fault: fault, node: node, report: await writes.finish())
    }

    func begin(_ fault: Fault, _ node: String) async throws {
        switch fault {
        case .freeze: try await freeze(node)
        case .kill: try await kill(node)
        case .restartDaemon:
            try await killDaemon(node)
            try await startDaemon(node)
        case .killDaemon: try await killDaemon(node)
        case .pauseOSDs:
            try await pauseOSDs()
            try await Task.sleep(for: .seconds(10))
            try await resumeOSDs()
        case .cutFromOSDs: try await cut(node, from: .osd)
        case .cutFromHosts: try await cut(node, from: .hosts)
        case .cutFromAll: try await cut(node, from: .all)
        }
    }

    func end(_ fault: Fault, _ node: String) async throws {
        switch fault {
        case .freeze: try await thaw(node)
        case .kill: try await start(node)
        case .restartDaemon, .pauseOSDs: break
        case .killDaemon: try await startDaemon(node)
        case .cutFromOSDs, .cutFromHosts, .cutFromAll: try await heal(node)
        }
    }
}
