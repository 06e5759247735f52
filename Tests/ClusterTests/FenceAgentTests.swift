// SPDX-License-Identifier: Apache-2.0

import Foundation
import Lab
import Testing

/// Hosts that fence one another by persistent reservations, with the tools that clusters of hosts use: sg_persist,
/// mpathpersist, and Debian's fence agents over them.
@Suite("Fence agents", .serialized, .timeLimit(.minutes(5)))
struct FenceAgentTests {
    @Test func oneHostFencesTheOther() async throws {
        try await withLab(LabOptions(name: "fence-test", gateways: 2, initiators: 2, daemon: true)) { lab in
            var maps: [String] = []
            for host in lab.initiators { maps.append(try await logIn(host, lab)) }
            let map = try #require(maps.first)
            #expect(maps == [map, map])
            try await registersThroughEachGateway(lab, map)
            for agent in ["fence_mpath", "fence_scsi"] { try await fences(agent, lab, map) }
        }
    }

    /// What `sg_persist` registers through one gateway, it reads through the other.
    private func registersThroughEachGateway(_ lab: Lab, _ map: String) async throws {
        let host = lab.initiators[0]
        let paths = try await shell(host, lab, "ls /sys/block/$(basename $(readlink -f \(map)))/slaves")
            .split(separator: "\n").map { "/dev/\($0)" }
        #expect(paths.count == 2)
        for path in paths { try await shell(host, lab, "sg_persist --out --register --param-sark=0xabc \(path)") }
        for path in paths {
            let keys = try await shell(host, lab, "sg_persist --in --read-keys \(path)")
            #expect(keys.contains("2 registered reservation keys"), "\(keys)")
        }
        try await shell(host, lab, "sg_persist --out --clear --param-rk=0xabc \(paths[1])")
    }

    /// The second host takes the unit from the first, which writes all the time, and gives it back.
    private func fences(_ agent: String, _ lab: Lab, _ map: String) async throws {
        let (first, second) = (lab.initiators[0], lab.initiators[1])
        for (key, host) in [(1, first), (2, second)] {
            // multipathd registers paths that come back with it.
            try await shell(host, lab, "multipathd setprkey map \(map.split(separator: "/").last ?? "") key \(key)")
            try await shell(host, lab, "\(agent) -o on -d \(map) -k \(key)")
            try await shell(host, lab, "\(agent) -o status -d \(map) -k \(key)")
        }
        let fio = """
            fio --name=victim --filename=\(map) --rw=randwrite --bs=4k --size=32m --ioengine=libaio --iodepth=8 \
            --direct=1 --time_based --runtime=30
            """
        async let victim = lab.exec(first, ["sh", "-c", fio], timeout: .seconds(60))
        try await Task.sleep(for: .seconds(2))
        try await shell(second, lab, "\(agent) -o off -d \(map) -k 1")
        #expect(try await victim.status != 0, "\(agent): it goes on writing")
        let write = "dd if=/dev/zero of=\(map) bs=4k count=1 oflag=direct"
        #expect(try await lab.exec(first, ["sh", "-c", write], timeout: .seconds(60)).status != 0)
        try await shell(second, lab, write)
        let keys = try await shell(second, lab, "mpathpersist --in --read-keys \(map)")
        #expect(keys.contains("2 registered reservation keys") && !keys.contains("0x1\n"), "\(keys)")

        try await shell(first, lab, "\(agent) -o on -d \(map) -k 1")
        try await shell(first, lab, write)
        try await shell(second, lab, "mpathpersist --out --clear --param-rk=2 \(map)")
    }

    /// - Returns: the unit's device, once it has both paths.
    private func logIn(_ host: String, _ lab: Lab) async throws -> String {
        let portal = try #require(lab.description().nodes.compactMap(\.portal).first)
        try await shell(host, lab, "iscsiadm -m discovery -t sendtargets -p \(portal)")
        try await shell(host, lab, "iscsiadm -m node -T \(Lab.targetName) --login")
        for _ in 0..<40 {
            let maps = try await shell(host, lab, "multipath -ll")
            let ready = maps.components(separatedBy: "active ready running").count - 1
            if ready == 2, let name = maps.split(separator: " ").first { return "/dev/mapper/\(name)" }
            try await Task.sleep(for: .milliseconds(500))
        }
        throw LabError(host, "multipath shows no map with two paths")
    }

    @discardableResult
    private func shell(_ host: String, _ lab: Lab, _ command: String) async throws -> String {
        try await lab.check(host, ["sh", "-c", command], timeout: .seconds(60))
    }
}
