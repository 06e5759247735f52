// SPDX-License-Identifier: Apache-2.0
import Initiator

/// What a lab's gateways do together with one logical unit, seen by hosts: is it one, or as many as there are gateways?
public struct Comparison: Sendable {
    /// What a host is told through one port.
    public struct Port: Sendable {
        public let node: String
        public let portal: String
        public let identity: Identity
    }

    /// Each gateway's port, in order.
    public let ports: [Port]
    /// Writers through all gateways at once, one counter.
    public let race: CompareAndWriteRace.Outcome

    /// Whether all ports say to be ports of the same logical unit, each another one, and name each other.
    public var isOneUnit: Bool {
        guard let first = ports.first?.identity else { return false }
        let own = ports.compactMap(\.identity.relativePort)
        return ports.allSatisfy {
            $0.identity.serial == first.serial && $0.identity.naa == first.naa && $0.identity.naa != nil
                && $0.identity.portGroups == first.portGroups
        } && Set(own).count == ports.count && Set(first.portGroups.flatMap(\.ports)).isSuperset(of: own)
    }
}

extension Lab {
    /// Measures the lab's LUN 0 through all of its gateways.
    ///
    /// - Parameters:
    ///   - seconds: how long writers increment a counter.
    ///   - writers: how many, dealt to the gateways in turn.
    /// - Throws: `ISCSIError` if a portal cannot be logged in to, or a command fails.
    public func compare(seconds: Double = 5, writers: Int = 4) async throws -> Comparison {
        var ports: [Comparison.Port] = []
        for node in description().nodes {
            guard let portal = node.portal else { continue }
            let identity = try await blocking(in: netns) {
                try Identity(session: ISCSISession(portal: portal, target: Self.targetName))
            }
            ports.append(Comparison.Port(node: node.name, portal: portal, identity: identity))
        }
        logger.notice("\(writers) writers through \(ports.count) gateways for \(seconds) s")
        return Comparison(ports: ports, race: try await race(seconds: seconds, writers: writers))
    }

    /// A race of writers through the lab's gateways; see ``CompareAndWriteRace``.
    ///
    /// - Parameter gateways: names of those to go through; all by default.
    public func race(
        lun: Int = 0, lba: UInt64 = 0, blocks: Int = 1, seconds: Double = 5, writers: Int = 4, gateways: [String]? = nil
    ) async throws -> CompareAndWriteRace.Outcome {
        let portals = description().nodes.filter { gateways?.contains($0.name) ?? true }.compactMap(\.portal)
        var race = CompareAndWriteRace(target: Self.targetName, portals: portals)
        race.namespace = netns
        race.lun = lun
        race.lba = lba
        race.blocks = blocks
        race.writers = writers
        race.duration = seconds
        return try await race.run()
    }
}
