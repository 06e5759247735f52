// SPDX-License-Identifier: Apache-2.0

import Initiator
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
            if ceph.erasure { try await aCloneCompares(lab) }
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

    /// Guards: a mismatch in a clone's object has no answer. The OSD says twice what STAT returns.
    private func aCloneCompares(_ lab: Lab) async throws {
        let block = [UInt8](repeating: 0xA5, count: 512)
        try await lab.hostCheck(
            ["rbd", "import", "--no-progress", "--image-feature", "layering", "-", "rbd/parent"],
            input: [UInt8](repeating: 0xA5, count: 4 << 20))
        for command in [
            ["snap", "create", "--no-progress", "rbd/parent@golden"], ["snap", "protect", "rbd/parent@golden"],
            ["clone", "--image-feature", "layering", "rbd/parent@golden", "rbd/clone"],
        ] { try await lab.hostCheck(["rbd"] + command) }
        try await lab.check("gw1", [try lab.executable("clio"), "lun", "add", "rbd/clone", "--lun", "1"])
        let gateways = lab.description().nodes
        for node in gateways { try await lab.waitUntilServed(node, lun: 1) }
        try await blocking(in: lab.netns) {
            let sessions = try gateways.compactMap(\.portal).map {
                try ISCSISession(portal: $0, target: Lab.targetName)
            }
            for session in sessions { try session.ready(lun: 1) }
            let new = [UInt8](repeating: 0xC1, count: 512)
            for session in sessions {
                let reply = try session.send(.compareAndWrite(5, expected: new, new: block), lun: 1)
                #expect(reply.isMiscompare && reply.sense?.information == 0)
            }
            #expect(try sessions[1].send(.compareAndWrite(5, expected: block, new: new), lun: 1).isGood)
            #expect(try sessions[0].good(.read(5, blocks: 1), lun: 1) == new)
            #expect(try sessions[0].good(.read(6, blocks: 1), lun: 1) == block, "copied up whole")
        }
    }

    /// Guards: a COMPARE AND WRITE that is waiting for other shards when its node is fenced lands over a newer write. The OSD
    /// looks at the blocklist when it begins with a request, and not again.
    @Test func aFencedCompareAndWriteIsNoLaterWrite() async throws {
        let options = LabOptions(
            name: "ceph-test", gateways: 2, initiators: 0, osds: Shards.osds, size: 256 << 20,
            ceph: Variant.erasureCodedData.options)
        try await withLab(options) { lab in
            let shards = try await Shards(lab)
            let (fenced, other) = (try await lab.host("fenced", "gw2"), try await lab.host("other", "gw1"))
            let block = (1...3).map { [UInt8](repeating: $0, count: 512) }
            try await fenced.good(.write(shards.block, block[0]))

            try await lab.pause(OSDName.text(shards.held))
            let swap = fenced.start(.compareAndWrite(shards.block, expected: block[0], new: block[1]))
            try await until(.seconds(60), "the OSD has begun") { try await shards.requests(lab).contains("cmpext") }
            // It has not come to the write.
            #expect(try await !shards.requests(lab).contains("sub_op_started"))
            try await lab.freeze("gw2")
            try await until(.seconds(60), "gw2 is fenced") {
                try await lab.groupStatus().members.first { $0.node == "gw2" }?.state.hasPrefix("fenced") == true
            }
            // The other gateway's ports are unavailable now.
            try await other.ready()
            let write = other.start(.write(shards.block, block[2]))
            try await until(.seconds(60), "the newer write waits for it") {
                try await shards.requests(lab).contains("waiting for rw locks")
            }
            #expect(!swap.isSettled && !write.isSettled)
            try await lab.resume(OSDName.text(shards.held))
            #expect(try await write.value(within: .seconds(30))?.isGood == true)
            #expect(try await other.good(.read(shards.block, blocks: 1)) == block[2])
            try await lab.thaw("gw2")
            let gateway = try #require(lab.description().nodes.first { $0.name == "gw2" })
            try await lab.waitUntilServed(gateway)
            try await other.ready()
            #expect(try await other.good(.read(shards.block, blocks: 1)) == block[2])
        }
    }
}

/// An OSD that can be stopped without anything but data waiting for it, and a data object that has data there, not parity.
private struct Shards {
    /// That OSD.
    let held: Int
    /// The object's primary, another one.
    let primary: Int
    /// The first logical block in the object.
    let block: UInt64

    /// The group, the pool, the reservations and the header need four of them at most, so one is left.
    static let osds = 5

    init(_ lab: Lab) async throws {
        let placement = try await lab.placement()
        let needed = [placement.group, placement.pool, placement.state, placement.header]
        for osd in 0..<Self.osds where !needed.contains(osd) {
            guard
                let number = placement.acting.indices.first(where: {
                    placement.acting[$0].prefix(2).contains(osd) && placement.objects[$0] != osd
                })
            else { continue }
            (held, primary) = (osd, placement.objects[number])
            block = UInt64(number * placement.objectSize / 512)
            return
        }
        throw LabError("the image's objects", "none has data, and its primary not, at an OSD that nothing else needs")
    }

    /// What the primary has begun and not ended.
    func requests(_ lab: Lab) async throws -> String {
        let socket = "\(lab.folder)/ceph/\(OSDName.text(primary)).asok"
        return try await lab.hostCheck(["ceph", "--admin-daemon", socket, "dump_ops_in_flight"])
    }
}
