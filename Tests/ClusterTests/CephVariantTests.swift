// SPDX-License-Identifier: Apache-2.0

import Lab
import Testing

/// Ceph as people have it, other than the labs of all other tests.
@Suite("Ceph as people have it", .serialized, .timeLimit(.minutes(5)))
struct CephVariantTests {
    enum Variant: String, CaseIterable, Sendable {
        case erasureCodedData, namespace, encryptedMessengerV2, ipv6

        var options: CephOptions {
            var options = CephOptions()
            switch self {
            case .erasureCodedData: (options.erasure, options.store) = (true, .bluestore)
            case .namespace: options.namespace = "tenant"
            case .encryptedMessengerV2: options.secure = true
            case .ipv6: options.ipv6 = true
            }
            return options
        }
    }

    @Test(arguments: Variant.allCases) func smokes(_ variant: Variant) async throws {
        let ceph = variant.options
        let options = LabOptions(
            name: "ceph-test", gateways: 2, initiators: 0, osds: ceph.erasure ? 3 : 1, size: 256 << 20, ceph: ceph)
        try await withLab(options) { lab in
            try await smoke(lab)
            try await expectIsTested(variant, lab)
        }
    }

    /// Looks whether the lab is what the variant says.
    private func expectIsTested(_ variant: Variant, _ lab: Lab) async throws {
        let mapping = "cat /sys/bus/rbd/devices/*"
        switch variant {
        case .erasureCodedData:
            let pools = try await lab.hostCheck(["ceph", "osd", "pool", "ls", "detail"])
            #expect(pools.contains("'data' erasure profile lab size 3"), "\(pools)")
            #expect(try await !lab.hostCheck(["rados", "-p", "data", "ls"]).isEmpty, "the image's data are there")
        case .namespace:
            #expect(try await lab.check("gw1", ["sh", "-c", "\(mapping)/pool_ns"]) == "tenant")
            let states = try await lab.hostCheck(["rados", "-p", "rbd", "-N", "tenant", "ls"])
            #expect(states.contains("clio.scsi."), "reservations are where the image is: \(states)")
        case .encryptedMessengerV2:
            let parameters = try await lab.check("gw1", ["sh", "-c", "\(mapping)/config_info"])
            #expect(parameters.contains(":3300") && parameters.contains("ms_mode=secure"), "\(parameters)")
        case .ipv6:
            let address = try await lab.check("gw1", ["sh", "-c", "\(mapping)/client_addr"])
            #expect(address.hasPrefix("[fd77::11]:0/"), "\(address)")
        }
    }
}
