// SPDX-License-Identifier: Apache-2.0

import Initiator
import Lab
import Testing

extension Lab {
    /// Logs a host in to a gateway.
    func logIn(
        _ name: String, to gateway: String, isid: UInt32? = nil, timeout: Int32 = 30, attributes: Bool = false
    ) async throws -> Nexus {
        try await Nexus.login(
            portal: try #require(description().nodes.first { $0.name == gateway }?.portal), target: Self.targetName,
            initiator: "iqn.2026-11.example.clio:\(name)", isid: isid, timeout: timeout, namespace: netns,
            attributes: attributes)
    }

    /// A host's session with a gateway, which has taken the unit attentions of a LUN.
    func host(_ name: String, _ gateway: String, lun: Int = 0) async throws -> Nexus {
        let nexus = try await logIn(name, to: gateway)
        try await nexus.ready(lun: lun)
        return nexus
    }
}

extension Nexus {
    /// The additional sense code of the unit attention that the next command gets; nil: it gets none.
    func attention(lun: Int = 0) async throws -> UInt16? {
        let sense = try await send(.testUnitReady, lun: lun).sense
        return sense?.key == 0x06 ? sense?.additional : nil
    }
}
