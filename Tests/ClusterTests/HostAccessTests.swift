// SPDX-License-Identifier: Apache-2.0

import ClusterModel
import Foundation
import Initiator
import Lab
import Testing

extension GatewayTests {
    /// Who may log in and what they see, on a second target beside the lab's open one; what others do to LIO meanwhile.
    @Suite(.serialized) struct HostAccess {
        static let target = "iqn.2026-11.example.clio:access"
        static let withCHAP = "iqn.2026-11.example.host:chap"
        static let plain = "iqn.2026-11.example.host:plain"
        static let stranger = "iqn.2026-11.example.host:stranger"
        static let chap = ISCSISession.CHAP(user: "alice", password: "twelve-chars")

        let cluster: LiveCluster
        let clio: String

        init() throws {
            cluster = try LiveCluster.current
            clio = try cluster.lab.executable("clio")
        }

        /// The lab's group and a second target; `access` as a group file says it.
        private func group(access: String, ping: Int = 3) -> String {
            let luns = cluster.description.luns.map {
                "  - {lun: \($0.lun), image: \($0.pool)/\($0.image), serial: \"\($0.serial)\"}"
            }
            let extra = ExtraImages.allCases.map { "  - {lun: \($0.lun), image: rbd/\($0.rawValue)}" }
            let nodes = cluster.gateways.map { "  - {name: \($0.name), portals: [\"\($0.portal ?? "")\"]}" }
            return """
                group: default
                timing: {ping: \(ping)}
                targets:
                  - {iqn: "\(cluster.target)", access: open}
                  - {iqn: "\(Self.target)", access: \(access)}
                nodes:
                \(nodes.joined(separator: "\n"))
                luns:
                \((luns + extra).joined(separator: "\n"))
                hosts:
                  - iqn: \(Self.withCHAP)
                    chap: {user: \(Self.chap.user), password: \(Self.chap.password)}
                    luns: [0]
                  - iqn: \(Self.plain)

                """
        }

        private func apply(_ file: String) async throws {
            try await cluster.lab.check("gw1", [clio, "apply", "-f", "-"], input: Array(file.utf8))
            for node in cluster.gateways { try await cluster.exec(node.name, clio, "node", "up") }
        }

        /// LUNs a host finds through a portal; nil if its login is refused.
        private func luns(
            _ host: String, chap: ISCSISession.CHAP? = nil, portal: String
        ) async throws -> [Int]? {
            try await blocking(in: cluster.description.netns) {
                guard let session = try? ISCSISession(portal: portal, target: Self.target, initiator: host, chap: chap)
                else {
                    return nil
                }
                return (0...3).filter { lun in (try? session.ready(lun: lun)) != nil }
            }
        }

        @Test func eachHostSeesWhatIsItsOwn() async throws {
            try await apply(group(access: "hosts"))
            for portal in cluster.portals {
                #expect(try await luns(Self.withCHAP, chap: Self.chap, portal: portal) == [0])
                #expect(try await luns(Self.plain, portal: portal) == [0, 1, 2, 3])
                #expect(try await luns(Self.withCHAP, portal: portal) == nil, "CHAP is demanded")
                let wrong = ISCSISession.CHAP(user: "alice", password: "wrong-secret")
                #expect(try await luns(Self.withCHAP, chap: wrong, portal: portal) == nil)
                #expect(try await luns(Self.stranger, portal: portal) == nil)
            }
            // Opened, then closed again: whoever came in while it was open is forgotten.
            try await apply(group(access: "open"))
            #expect(try await luns(Self.stranger, portal: cluster.portals[0]) == [0, 1, 2, 3])
            try await apply(group(access: "hosts"))
            #expect(try await luns(Self.stranger, portal: cluster.portals[0]) == nil)
            #expect(try await luns(Self.plain, portal: cluster.portals[0]) == [0, 1, 2, 3])
            try await cluster.export()
            #expect(try await luns(Self.plain, portal: cluster.portals[0]) == nil, "the target is gone")
        }

        @Test func secretsStayHidden() async throws {
            try await apply(group(access: "hosts"))
            for command in [["get"], ["get", "--json"], ["status", "--json"], ["status"]] {
                let output = try await cluster.lab.check("gw1", [clio] + command)
                #expect(!output.contains(Self.chap.password), "clio \(command)")
            }
            #expect(try await cluster.exec("gw1", clio, "get", "--show-secrets").contains(Self.chap.password))
            try await cluster.export()
        }

        /// What a bug report needs is in the archive, and no secret, though one came into a log.
        @Test func reportHasNoSecrets() async throws {
            try await apply(group(access: "hosts"))
            let keyring = try await cluster.exec("gw1", "cat", "/etc/ceph/ceph.client.clio.keyring")
            let key = try #require(keyring.split(whereSeparator: \.isWhitespace).last)
            let slip = "someone typed \(Self.chap.password) and \(key)"
            try await cluster.exec("gw1", "sh", "-c", "echo '\(slip)' >> \(Lab.daemonLog)")
            let archive = "/tmp/report.tar.gz"
            let output = try await cluster.exec("gw1", clio, "report", "-o", archive)
            #expect(output.contains("wrote \(archive)"))
            #expect(try await cluster.exec("gw1", "stat", "-c", "%a", archive) == "600")

            let text = try await cluster.exec("gw1", "tar", "-xzOf", archive)
            #expect(!text.contains(Self.chap.password))
            #expect(!text.contains(key))
            #expect(text.contains("someone typed ******** and ********"))
            let group = try await cluster.exec("gw1", clio, "get")
            for needed in [
                group, "clio \(Release.version)", "core/iblock_0/clio-default-lun0/udev_path:/dev/rbd0",
                "\nblk_cluster ", "/sys/devices/rbd/0/name:lun0", "PRETTY_NAME=", "\"members\" :", "Linux gw1",
            ] {
                #expect(text.contains(needed), "\(needed)")
            }
            let names = try await cluster.exec("gw1", "tar", "-tzf", archive).split(separator: "\n")
            #expect(names.allSatisfy { $0.hasPrefix("clio-report-gw1-") })

            let again = try await cluster.lab.exec("gw1", [clio, "report", "-o", archive])
            #expect(again.status == 1 && again.errorText.contains("is there already; name another file with --output"))
            let nowhere = try await cluster.lab.exec("gw1", [clio, "report", "-o", "/nonexistent/report.tar.gz"])
            #expect(nowhere.status == 1 && nowhere.errorText.contains("/nonexistent/report.tar.gz: cannot be written"))
            try await cluster.export()
        }

        /// What someone changed by hand is put right, and only that.
        @Test func driftIsRepaired() async throws {
            try await apply(group(access: "hosts"))
            let core = "/sys/kernel/config/target/core/iblock_0/clio-default-lun0"
            let acl = "/sys/kernel/config/target/iscsi/\(Self.target)/tpgt_3/acls/\(Self.plain)"
            try await cluster.exec(
                "gw1", "sh", "-c", "echo 0 > \(core)/attrib/emulate_caw && rm \(acl)/lun_0/lun_0 && rmdir \(acl)/lun_0")
            let output = try await cluster.exec("gw1", clio, "node", "up")
            let steps = output.split(separator: "\n").dropLast().map(String.init)
            #expect(
                steps == [
                    "backstore clio-default-lun0: emulate_caw = 1", "create LUN 0 of host \(Self.plain) at port 3",
                    "show LUN 0 to host \(Self.plain) at port 3",
                ])
            #expect(try await cluster.exec("gw1", clio, "node", "up").contains("nothing to change"))
            try await cluster.export()
        }

        /// Another administrator's objects in the same LIO outlive everything Clio does.
        @Test func foreignObjectsStay() async throws {
            let tree = "/sys/kernel/config/target"
            let target = "\(tree)/iscsi/iqn.2026-11.example.admin:own"
            try await cluster.exec(
                "gw2", "sh", "-ec",
                """
                modprobe target_core_file
                truncate -s 16M /tmp/own
                mkdir -p \(tree)/core/fileio_0/own \(target)/tpgt_1/lun/lun_0
                echo fd_dev_name=/tmp/own,fd_dev_size=16777216 > \(tree)/core/fileio_0/own/control
                echo 1 > \(tree)/core/fileio_0/own/enable
                ln -s \(tree)/core/fileio_0/own \(target)/tpgt_1/lun/lun_0/own
                """)
            let look = "cd \(tree) && find core/fileio_0 iscsi/iqn.2026-11.example.admin:own | sort"
            let before = try await cluster.exec("gw2", "sh", "-c", look)
            #expect(try await cluster.exec("gw2", clio, "node", "up").contains("nothing to change"))
            try await cluster.exec("gw2", clio, "node", "down")
            try await cluster.exec("gw2", clio, "node", "up")
            #expect(try await cluster.exec("gw2", "sh", "-c", look) == before)
            try await cluster.exec(
                "gw2", "sh", "-ec",
                """
                rm \(target)/tpgt_1/lun/lun_0/own
                rmdir \(target)/tpgt_1/lun/lun_0 \(target)/tpgt_1 \(target) \(tree)/core/fileio_0/own \(tree)/core/fileio_0
                rm /tmp/own
                """)
        }

        /// Of several who apply at once from the same version, one wins, the others are told, and nothing is lost.
        @Test func concurrentApplies() async throws {
            try await apply(group(access: "hosts"))
            func version() async throws -> Int {
                let text = try await cluster.exec("gw1", clio, "get")
                return Int(text.split(separator: "\n")[0].drop { !$0.isNumber }) ?? -1
            }
            let before = try await version()
            var written = 0
            for round in 0..<5 {
                let results = try await withThrowingTaskGroup(of: CommandResult.self) { group in
                    for i in 0..<4 {
                        let file = self.group(access: "hosts", ping: 4 + round * 4 + i)
                        group.addTask {
                            try await cluster.lab.exec("gw1", [clio, "apply", "-f", "-"], input: Array(file.utf8))
                        }
                    }
                    return try await group.reduce(into: []) { $0.append($1) }
                }
                for result in results {
                    #expect([0, 4].contains(result.status), "\(result.errorText)")
                    if result.status == 0 { written += 1 }
                    if result.status == 4 { #expect(result.errorText.contains("changed by someone else")) }
                }
                #expect(results.contains { $0.status == 0 })
            }
            #expect(try await version() == before + written)
            try await cluster.export()
        }
    }
}
