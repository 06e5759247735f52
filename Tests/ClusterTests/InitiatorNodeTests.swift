// SPDX-License-Identifier: Apache-2.0

import Lab
import Testing

extension GatewayTests {
    /// A host as people have it: the kernel's open-iscsi and dm-multipath.
    @Suite struct InitiatorNode {
        /// Two active paths in one group, and data that reads back as it was written over both of them.
        @Test func multipathOverBothGateways() async throws {
            let cluster = try LiveCluster.current
            let node = try #require(cluster.initiators.first).name
            try await cluster.exec(node, "iscsiadm", "-m", "discovery", "-t", "sendtargets", "-p", cluster.portals[0])
            try await cluster.exec(node, "iscsiadm", "-m", "node", "-T", cluster.target, "--login")
            let serial = cluster.description.luns[0].serial
            let map = try await multipath(of: serial, on: node, cluster)
            let groups = map.lines.filter { $0.contains("policy=") }
            #expect(groups.count == 1, "one path group:\n\(map.lines.joined(separator: "\n"))")
            #expect(map.lines.filter { $0.contains("active ready running") }.count == 2)

            let result = try await cluster.lab.exec(
                node,
                [
                    "fio", "--name=verify", "--filename=/dev/mapper/\(map.name)", "--rw=randwrite", "--bs=4k",
                    "--size=32m",
                    "--ioengine=libaio", "--iodepth=16", "--direct=1", "--verify=crc32c", "--verify_fatal=1",
                    "--do_verify=1", "--output-format=terse",
                ], timeout: .seconds(120))
            #expect(result.status == 0, "\(result.outputText)\n\(result.errorText)")

            // udev may still be reading the map that fio has just closed; multipath's own -R does not wait for that.
            let flush = "for i in $(seq 100); do multipath -f \(map.name) && exit 0; sleep 0.2; done; exit 1"
            try await cluster.exec(node, "sh", "-c", flush)
            try await cluster.exec(node, "iscsiadm", "-m", "node", "-T", cluster.target, "--logout")
        }

        /// The multipath map of the LUN with this serial, once it has two paths; multipathd takes a moment.
        private func multipath(
            of serial: String, on node: String, _ cluster: LiveCluster
        ) async throws -> (name: String, lines: [String]) {
            var lines: [String] = []
            for _ in 0..<40 {
                lines = try await cluster.exec(node, "multipath", "-ll").split(separator: "\n").map(String.init)
                // The map is named by its WWID: "3" and the NAA designator, which holds the serial's digits.
                let digits = serial.filter(\.isHexDigit)
                if let head = lines.firstIndex(where: { $0.contains(digits) || $0.contains(" dm-") && digits.isEmpty })
                {
                    let map = Array(lines[head...].prefix { $0 == lines[head] || !$0.contains(" dm-") })
                    if map.filter({ $0.contains("running") }).count == 2 {
                        return (String(map[0].prefix { $0 != " " }), map)
                    }
                }
                try await Task.sleep(for: .milliseconds(500))
            }
            throw LabError(
                "multipath on \(node)", "no map with two paths for \(serial):\n\(lines.joined(separator: "\n"))")
        }
    }
}
