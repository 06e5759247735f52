// SPDX-License-Identifier: Apache-2.0

import Initiator
import Lab
import Testing

extension GatewayTests {
    /// What an operator does, and what they get wrong.
    @Suite(.serialized) struct Operation {
        let cluster: LiveCluster
        let clio: String

        init() throws {
            cluster = try LiveCluster.current
            clio = try cluster.lab.executable("clio")
        }

        @Test func secondNodeUpChangesNothing() async throws {
            let output = try await cluster.exec("gw1", clio, "node", "up")
            #expect(output.contains("nothing to change"), "\(output)")
        }

        @Test func statusNamesWhatIsThere() async throws {
            let output = try await cluster.exec("gw1", clio, "status")
            for text in ["rbd/\(cluster.description.luns[0].image)", cluster.portals[0], cluster.target] {
                #expect(output.contains(text), "\(output)")
            }
        }

        /// `node down` takes everything away, `node up` brings the same back.
        @Test func downAndUpAgain() async throws {
            let before = try await cluster.sessions { try $0.map { try Identity(session: $0) } }
            try await cluster.exec("gw2", clio, "node", "down")
            #expect(
                try await cluster.exec(
                    "gw2", "sh", "-c",
                    "ls /sys/bus/rbd/devices /sys/kernel/config/target/iscsi 2>/dev/null | grep -c iqn || true") == "0")
            try await cluster.exec("gw2", clio, "node", "up")
            // The other node says so as soon as it has read the new record.
            var after: [Identity] = []
            for _ in 0..<50 where after != before {
                after = try await cluster.sessions { try $0.map { try Identity(session: $0) } }
                try await Task.sleep(for: .milliseconds(100))
            }
            #expect(after == before)
        }

        // MARK: Bad input

        /// A group file with an image that cannot serve is refused whole, with what mends it.
        @Test(
            arguments: [
                ("not-there", nil, "does not exist"),
                (
                    "exclusive", "--size=16M --image-feature=layering,exclusive-lock",
                    "rbd feature disable rbd/exclusive"
                ),
                ("empty", "--size=0 --image-feature=layering", "rbd/empty"),
            ] as [(String, String?, String)]) func applyRefusesAnImage(name: String, create: String?, says: String)
            async throws
        {
            if let create {
                let options = create.split(separator: " ").map(String.init)
                try await cluster.lab.hostCheck(["rbd", "create"] + options + ["rbd/\(name)"])
            }
            let before = try await cluster.exec("gw1", clio, "get")
            let error = await #expect(throws: LabError.self) {
                try await cluster.export([(99, "rbd/\(name)")], bringUp: false)
            }
            #expect(error.map { "\($0)" }?.contains("rbd/\(name)") == true)
            #expect(error.map { "\($0)" }?.contains(says) == true, "\(String(describing: error))")
            #expect(try await cluster.exec("gw1", clio, "get") == before, "nothing half done")
        }

        /// An image that was renamed while the node was down: the node names it, exports all the others, and takes it in as
        /// soon as it is back.
        @Test func nodeUpNamesTheImageThatHasGone() async throws {
            try await cluster.host("rbd", "create", "--size", "16M", "--image-feature", "layering", "rbd/gone")
            try await cluster.export([(99, "rbd/gone")])
            try await cluster.exec("gw2", clio, "node", "down")
            try await cluster.host("rbd", "rename", "rbd/gone", "rbd/elsewhere")
            let result = try await cluster.lab.exec("gw2", [clio, "node", "up"])
            #expect(result.status != 0)
            #expect(result.errorText.contains("rbd/gone does not exist"), "\(result.errorText)")
            try await cluster.sessions { for session in $0 { try session.good(.read(0, blocks: 1)) } }
            try await cluster.host("rbd", "rename", "rbd/elsewhere", "rbd/gone")
            let node = try #require(cluster.gateways.last)
            try await cluster.lab.waitUntilServed(node, lun: 99)
            try await cluster.export()
        }

        /// A backstore that something outside Clio holds cannot be removed: the error names it and what holds it.
        @Test func configfsThatIsBusy() async throws {
            try await cluster.host("rbd", "create", "--size", "16M", "--image-feature", "layering", "rbd/busy")
            try await cluster.export([(98, "rbd/busy")])
            let core =
                "/sys/kernel/config/target/core/$(ls /sys/kernel/config/target/core | while read h; do "
                + "[ -d /sys/kernel/config/target/core/$h/clio-default-lun98 ] && echo $h; done)/clio-default-lun98"
            let tree = "/sys/kernel/config/target/loopback/naa.6001405000000001/tpgt_1/lun/lun_0"
            try await cluster.exec(
                "gw2", "sh", "-c", "modprobe tcm_loop && mkdir -p \(tree) && ln -s \(core) \(tree)/held")
            try await cluster.export(bringUp: false)
            let result = try await cluster.lab.exec("gw2", [clio, "node", "up"])
            #expect(result.status != 0)
            #expect(result.errorText.contains("clio-default-lun98"), "\(result.errorText)")
            #expect(result.errorText.contains("loopback"), "\(result.errorText)")
            try await cluster.exec(
                "gw2", "sh", "-c",
                "rm \(tree)/held && rmdir \(tree) && cd /sys/kernel/config/target/loopback/naa.6001405000000001 && rmdir tpgt_1 && cd .. && rmdir naa.6001405000000001"
            )
            try await cluster.export()
        }

        /// On a node that has none of our modules loaded, with a folder of modules that has none of them either.
        @Test func moduleThatIsMissing() async throws {
            let node = try #require(cluster.initiators.first).name
            let script = "mkdir -p /tmp/none && mount --bind /tmp/none /lib/modules && exec \(clio) node up --node gw1"
            let result = try await cluster.lab.exec(node, ["unshare", "-m", "sh", "-c", script])
            #expect(result.status != 0)
            #expect(result.errorText.contains("blk_cluster"), "\(result.errorText)")
        }

        @Test func cephThatCannotBeReached() async throws {
            let start = ContinuousClock.now
            let result = try await cluster.lab.exec(
                "gw1",
                [
                    "sh", "-c",
                    "sed 's/^mon host.*/mon host = [v2:10.77.0.250:3300,v1:10.77.0.250:6789]/' \(cluster.description.cephConf) > /tmp/nowhere.conf && exec \(clio) status --ceph-conf /tmp/nowhere.conf",
                ], timeout: .seconds(60))
            #expect(result.status != 0)
            #expect(ContinuousClock.now - start < .seconds(45))
            #expect(result.errorText.lowercased().contains("ceph"), "\(result.errorText)")
        }
    }
}
