// SPDX-License-Identifier: Apache-2.0

import Foundation
import Initiator
import Lab
import Testing

extension GatewayTests {
    /// `clio apply`, and every cliod follows by itself.
    @Suite(.serialized) struct Reconciling {
        let cluster: LiveCluster
        let clio: String

        init() throws {
            cluster = try LiveCluster.current
            clio = try cluster.lab.executable("clio")
        }

        private func image(_ name: String) async throws {
            try await cluster.host("rbd", "create", "--size", "16M", "--image-feature", "layering", "rbd/\(name)")
        }

        /// Whether a host named `host` may read a LUN through each of the portals.
        private func reads(
            _ lun: Int, as host: String = "iqn.2026-11.example.clio:initiator"
        ) async throws -> [Bool] {
            let (portals, target) = (cluster.portals, cluster.target)
            return try await blocking(in: cluster.description.netns) {
                portals.map { portal in
                    guard
                        let session = try? ISCSISession(
                            portal: portal, target: target, initiator: host, timeout: 5)
                    else { return false }
                    do {
                        try session.ready(lun: lun)
                        try session.good(.read(0, blocks: 1), lun: lun)
                        return true
                    } catch {
                        return false
                    }
                }
            }
        }

        private func apply(_ text: String, _ options: String...) async throws -> CommandResult {
            try await cluster.lab.host(
                [
                    clio, "apply", "-f", "-", "--ceph-conf", cluster.description.cephConf, "--keyring",
                    cluster.description.keyring,
                ] + options, input: Array(text.utf8))
        }

        /// A new LUN is there on all nodes when `apply --wait` returns, without a hand on any of them.
        @Test func newLUN() async throws {
            try await image("new")
            let result = try await apply(cluster.groupText([(50, "rbd/new")]), "--wait", "20")
            #expect(result.status == 0, "\(result.errorText)")
            #expect(try await reads(50) == [true, true])
            let now = try await cluster.status()
            #expect(now.members.allSatisfy { $0.report?.version == now.version && $0.report?.problems.isEmpty == true })
            try await cluster.export()
            #expect(try await reads(50) == [false, false])
        }

        /// Who may log in, and what they see.
        @Test func changedAccess() async throws {
            let host = "iqn.2026-01.test:host"
            func group(_ luns: String) -> String {
                cluster.groupText(access: "hosts") + "\nhosts:\n  - {iqn: \"\(host)\", luns: \(luns)}\n"
            }
            var result = try await apply(group("[0]"), "--wait", "20")
            #expect(result.status == 0, "\(result.errorText)")
            #expect(try await reads(0, as: host) == [true, true])
            #expect(try await reads(1, as: host) == [false, false])
            #expect(try await reads(0, as: "iqn.2026-01.test:stranger") == [false, false])
            result = try await apply(group("[0, 1]"), "--wait", "20")
            #expect(result.status == 0, "\(result.errorText)")
            #expect(try await reads(1, as: host) == [true, true])
            try await cluster.export()
            #expect(try await reads(0, as: "iqn.2026-01.test:stranger") == [true, true])
        }

        /// cliod puts right by itself what someone changed by hand, though the group is as it was.
        @Test func resync() async throws {
            let tree = "/sys/kernel/config/target"
            let attribute = "\(tree)/core/iblock_0/clio-default-lun0/attrib/emulate_caw"
            try await cluster.restartDaemon("gw2", "--resync 1")
            try await cluster.exec(
                "gw2", "sh", "-ec",
                """
                echo 0 > \(attribute)
                for port in \(tree)/iscsi/\(cluster.target)/tpgt_*; do echo 0 > $port/enable; done
                """)
            for gateway in cluster.gateways { try await cluster.lab.waitUntilServed(gateway, within: .seconds(15)) }
            #expect(try await cluster.exec("gw2", "cat", attribute) == "1")
            try await cluster.exec("gw2", "grep", "-q", "put right what was not as in version", Lab.daemonLog)
            try await cluster.restartDaemon("gw2")
        }

        /// One LUN's image is not there: the others come up, the status names it and since when, and it is taken in as soon
        /// as it is there, by all nodes under one identity.
        @Test func missingImage() async throws {
            try await image("present")
            let before = Date().timeIntervalSince1970
            let group = cluster.groupText([(50, "rbd/missing"), (51, "rbd/present")])
            #expect(try await apply(group).status == 2, "refused unless it is asked for")
            let result = try await apply(group, "--allow-missing-images", "--wait", "20")
            #expect(result.status == 1)
            #expect(
                result.errorText.contains("node gw1: LUN 50: image rbd/missing does not exist"), "\(result.errorText)")
            #expect(try await reads(51) == [true, true])
            var now = try await cluster.status()
            for member in now.members {
                let report = try #require(member.report)
                #expect(report.version == now.version)
                let problem = try #require(report.problems.first)
                #expect(problem.text.contains("rbd/missing"))
                #expect(problem.since > before && problem.since < Date().timeIntervalSince1970)
            }
            let text = try await cluster.exec("gw2", clio, "status")
            #expect(text.contains("What does not work on node gw1") && text.contains(" s: LUN 50: image rbd/missing"))

            try await image("missing")
            for gateway in cluster.gateways { try await cluster.lab.waitUntilServed(gateway, lun: 50) }
            let serials = try await cluster.sessions(lun: 50) {
                try $0.map { try Identity(session: $0, lun: 50).serial }
            }
            #expect(serials.first?.isEmpty == false && Set(serials).count == 1, "\(serials)")
            for _ in 0..<100 {
                now = try await cluster.status()
                if now.members.allSatisfy({ $0.report?.problems.isEmpty == true }) { break }
                try await Task.sleep(for: .milliseconds(100))
            }
            #expect(now.members.allSatisfy { $0.report?.version == now.version && $0.report?.problems.isEmpty == true })
            try await cluster.export()
        }
    }
}
