// SPDX-License-Identifier: Apache-2.0

import Foundation
import Lab
import Testing

extension GatewayTests {
    /// `clio node bootstrap` on a machine that can be a gateway, and on such as cannot.
    @Suite(.serialized) struct Bootstrap {
        let cluster: LiveCluster
        let clio: String

        init() throws {
            cluster = try LiveCluster.current
            clio = try cluster.lab.executable("clio")
        }

        private struct Finding: Decodable {
            let check: String
            let state: String
            let detail: String
            let remedy: String?
        }

        /// - Returns: what is missing, by check, and the exit status.
        private func missing(_ node: String, _ arguments: [String], before: String = "true") async throws -> (
            [String: Finding], Int32
        ) {
            let command = (["exec", clio, "node", "bootstrap", "--json"] + arguments).joined(separator: " ")
            let result = try await cluster.lab.exec(
                node, ["unshare", "-m", "sh", "-c", "\(before) && \(command)"], timeout: .seconds(60))
            let findings = try JSONDecoder().decode([Finding].self, from: Data(result.outputText.utf8))
            #expect(findings.count == 13)
            let missing = findings.filter { $0.state == "missing" }
            #expect(missing.allSatisfy { $0.remedy != nil })
            return (Dictionary(missing.map { ($0.check, $0) }) { first, _ in first }, result.status)
        }

        @Test func aGatewayLacksNothing() async throws {
            var (found, status) = try await missing("gw1", [])
            #expect(found.keys.sorted() == ["clock"])
            #expect(status == 1)
            try await cluster.lab.synchroniseClock("gw1")
            (found, status) = try await missing("gw1", [])
            #expect(found.isEmpty, "\(found)")
            #expect(status == 0)
        }

        @Test func whatAnotherMachineLacks() async throws {
            let node = try #require(cluster.initiators.first).name
            let (found, status) = try await missing(
                node, ["--node", "gw1"], before: "mkdir -p /tmp/none && mount --bind /tmp/none /lib/modules")
            #expect(status == 1)
            #expect(found["module blk_cluster"]?.remedy?.contains("clio-dkms") == true, "\(found)")
            #expect(found["network"]?.detail.contains("no interface has") == true, "\(found)")
            let (stranger, _) = try await missing(node, [])
            #expect(stranger["network"]?.remedy?.contains("clio portal add \(node)") == true, "\(stranger)")
        }

        /// A client that may read only: what it is refused is named, and nothing is changed.
        @Test func capsThatAreTooFew() async throws {
            let keyring = try await cluster.lab.hostCheck([
                "ceph", "auth", "get-or-create", "client.weak", "mon", "allow r", "osd", "allow r pool=rbd",
            ])
            try await cluster.exec("gw1", "sh", "-c", "echo '\(keyring)' > /tmp/weak.keyring")
            let (found, status) = try await missing("gw1", ["--id", "weak", "--keyring", "/tmp/weak.keyring"])
            #expect(status == 1)
            let detail = found["ceph"]?.detail ?? ""
            #expect(detail.contains("cannot write") && detail.contains("cannot fence"), "\(found)")
            // What the remedy says is enough.
            let caps = ["mon", "profile rbd", "osd", "profile rbd pool=rbd"]
            try await cluster.lab.hostCheck(["ceph", "auth", "caps", "client.weak"] + caps)
            let (left, _) = try await missing("gw1", ["--id", "weak", "--keyring", "/tmp/weak.keyring"])
            #expect(left["ceph"] == nil, "\(left)")
            let list = try await cluster.host("ceph", "osd", "blocklist", "ls")
            #expect(!list.contains("none/1"))
        }

        /// A key of a type that neither the kernel nor librados knows (Ceph makes such ones by default, from 19.2.6 and 20.2.4
        /// on): that is said before anything is mapped with it, and what to do.
        @Test func keyOfANewType() async throws {
            let key = Data([2, 0, 1, 2, 3, 4, 0, 0, 0, 0, 32, 0] + [UInt8](repeating: 7, count: 32))
                .base64EncodedString()
            try await cluster.exec(
                "gw1", "sh", "-c", "printf '[client.new]\\n\\tkey = \(key)\\n' > /tmp/new.keyring")
            let client = ["--id", "new", "--keyring", "/tmp/new.keyring"]
            let (found, status) = try await missing("gw1", client)
            #expect(status == 1)
            #expect(
                found["key"]?.detail.contains("client.new is of type aes256k, which the Ceph client of kernel") == true)
            #expect(found["key"]?.remedy?.contains("ceph auth rotate --key-type=aes client.new") == true, "\(found)")
            #expect(found["ceph"]?.detail.contains("librados before Ceph 19.2.6") == true, "\(found)")
            for command in [["node", "up"], ["node", "up", "--alone"], ["status"]] {
                let result = try await cluster.lab.exec("gw1", [clio] + command + client)
                #expect(result.status == 3)
                #expect(result.errorText.contains("the client's key is of type aes256k"), "\(result.errorText)")
                #expect(result.errorText.contains("ceph auth rotate --key-type=aes client.new"), "\(result.errorText)")
            }
        }

        /// What `--install` cannot mend it says, and nothing is half done. How it makes gateways is in OperationsGuideTests.
        @Test func installThatCannot() async throws {
            let node = try #require(cluster.initiators.first)
            let command = [clio, "node", "bootstrap", "--install", "--portal", node.address]
            func version() async throws -> String { try await cluster.exec("gw1", clio, "history", "--limit", "1") }
            let before = try await version()

            // The clock of a machine without dpkg; packages, where apt has nowhere to have them from; an address.
            var result = try await cluster.lab.exec(node.name, command)
            #expect(result.status == 1)
            #expect(result.outputText.contains("clock: apt install chrony"), "\(result.outputText)")
            try await cluster.lab.synchroniseClock(node.name)
            let hidden = """
                mkdir -p /tmp/none /var/lib/dpkg && mount --bind /tmp/none /lib/modules
                mount --bind /host/var/lib/dpkg /var/lib/dpkg && exec \(command.joined(separator: " "))
                """
            result = try await cluster.lab.exec(
                node.name, ["unshare", "-m", "sh", "-c", hidden], timeout: .seconds(60))
            #expect(result.status == 1)
            #expect(result.errorText.contains("clio-dkms linux-headers-"), "\(result.errorText)")
            result = try await cluster.lab.exec(
                node.name, [clio, "node", "bootstrap", "--install", "--portal", "10.77.0.99"])
            #expect(
                result.status == 1 && result.outputText.contains("no interface has 10.77.0.99"), "\(result.outputText)")
            let none = try await cluster.lab.exec(
                "gw1", [clio, "node", "bootstrap", "--install", "--portal", "10.77.0.99"])
            #expect(none.status == 1 && none.outputText.contains("no interface has 10.77.0.99"), "\(none.outputText)")
            // A gateway that serves is left as it is.
            try await cluster.lab.synchroniseClock("gw1")
            let again = try await cluster.lab.check("gw1", [clio, "node", "bootstrap", "--install"])
            #expect(again.contains("nothing to change"), "\(again)")
            #expect(try await version() == before)
        }

        /// A gateway gets a portal that it lacks; of one that it has this is said.
        @Test func installAnotherPortal() async throws {
            try await cluster.lab.synchroniseClock("gw1")
            let own = try #require(cluster.gateways.first { $0.name == "gw1" }).address
            let install = [clio, "node", "bootstrap", "--install", "--portal", own, "--portal", "\(own):3261"]
            let made = try await cluster.lab.check("gw1", install)
            #expect(made.contains("node gw1 has portal \(own):3260 already"), "\(made)")
            #expect(try await cluster.exec("gw1", clio, "portal", "list").contains("\(own):3261"))
            let again = try await cluster.lab.check("gw1", install)
            #expect(again.contains("portal \(own):3261 already") && again.contains("nothing to change"), "\(again)")
            try await cluster.export()
        }

        /// Gateways are a client of their own, which may do what it must and nothing else.
        @Test func gatewaysHaveTheLeastCaps() async throws {
            func caps() async throws -> [String: String] {
                struct Entry: Decodable { let caps: [String: String] }
                let text = try await cluster.host("ceph", "auth", "get", "client.clio", "--format", "json")
                return try #require(JSONDecoder().decode([Entry].self, from: Data(text.utf8)).first).caps
            }
            let before = try await caps()
            #expect(before == ["mon": "profile rbd", "osd": "profile rbd pool=rbd"])
            for node in ["gw1", "gw2"] {
                #expect(try await cluster.exec(node, "ls", "-l", "/etc/ceph").contains("-rw------- "))
                #expect(try await !cluster.exec(node, "ls", "/etc/ceph").contains("client.admin"))
                let maps = try await cluster.exec(node, "sh", "-c", "cat /sys/bus/rbd/devices/*/config_info")
                #expect(maps.contains("name=clio,") && !maps.contains("name=admin,"), "\(maps)")
            }
            let ceph = ["--ceph-conf", cluster.description.cephConf, "--keyring", cluster.description.keyring]
            let again = try await cluster.lab.hostCheck([clio, "group", "init"] + ceph)
            #expect(
                again.contains("found Ceph client.clio") && again.contains("osd 'profile rbd pool=rbd'"), "\(again)")
            #expect(!again.contains("wrote"), "\(again)")

            // A gateway can make neither itself nor others more than they are.
            let weak = try await cluster.lab.exec("gw1", [clio, "group", "init", "--id", "clio", "--client", "more"])
            #expect(
                weak.status == 3 && weak.errorText.contains("client.clio may not make client.more"), "\(weak.errorText)"
            )

            try await cluster.lab.hostCheck(["ceph", "osd", "pool", "create", "other", "8"])
            try await cluster.lab.hostCheck(["rbd", "pool", "init", "other"])
            try await cluster.host("rbd", "create", "--size", "16M", "--image-feature", "layering", "other/caps")
            let refused = try await cluster.lab.exec("gw1", [clio, "lun", "add", "other/caps"])
            #expect(refused.status != 0)
            #expect(refused.errorText.contains("other/caps"), "\(refused.errorText)")
            #expect(refused.errorText.contains("clio group init --image-pool other"), "\(refused.errorText)")
            // An image whose data alone is there would be mapped, and each command fail.
            try await cluster.host(
                "rbd", "create", "--size", "16M", "--image-feature", "layering", "--data-pool", "other", "rbd/split")
            let split = try await cluster.lab.exec("gw1", [clio, "lun", "add", "rbd/split"])
            #expect(split.status != 0)
            #expect(split.errorText.contains("rbd/split has its data in pool other"), "\(split.errorText)")
            #expect(split.errorText.contains("clio group init --image-pool other"), "\(split.errorText)")
            let more = try await cluster.lab.hostCheck([clio, "group", "init", "--image-pool", "other"] + ceph)
            #expect(more.contains("extended Ceph client.clio"), "\(more)")
            #expect(try await caps()["osd"] == "profile rbd pool=rbd, profile rbd pool=other")
            #expect(try await cluster.lab.hostCheck([clio, "group", "init"] + ceph).contains("found"))
            for gateway in cluster.gateways {
                try await cluster.lab.check(gateway.name, [clio, "node", "down"])
                try await cluster.lab.startDaemon(gateway.name)
                try await cluster.lab.waitUntilServed(gateway)
            }
            try await cluster.lab.check("gw1", [clio, "lun", "add", "other/caps", "--lun", "230"])
            try await cluster.lab.check("gw1", [clio, "lun", "add", "rbd/split", "--lun", "231"])
            for gateway in cluster.gateways {
                for lun in [230, 231] { try await cluster.lab.waitUntilServed(gateway, lun: lun) }
            }
            try await cluster.sessions(lun: 231) { sessions in
                let (zeros, new) = ([UInt8](repeating: 0, count: 512), [UInt8](repeating: 0x5A, count: 512))
                let swapped = try sessions[0].send(.compareAndWrite(1, expected: zeros, new: new), lun: 231)
                let read = try sessions[1].good(.read(1, blocks: 1), lun: 231)
                #expect(swapped.isGood && read == new)
            }
            try await cluster.lab.check("gw1", [clio, "lun", "remove", "230"])
            try await cluster.lab.check("gw1", [clio, "lun", "remove", "231"])
            try await cluster.export()
            try await cluster.lab.hostCheck(
                ["ceph", "auth", "caps", "client.clio"] + before.flatMap { [$0.key, $0.value] })
        }
    }
}

extension Lab {
    /// In Python, what a time daemon does: a machine of a test's has none, since it has the host's clock.
    static let synchronisedClock = """
        import ctypes, struct
        t = ctypes.create_string_buffer(struct.pack("IxxxxqqqqI", 0x1c, 0, 0, 1000, 1000, 0), 208)
        raise SystemExit(ctypes.CDLL(None).adjtimex(t) < 0)
        """

    func synchroniseClock(_ node: String) async throws {
        try await check(node, ["python3", "-c", Self.synchronisedClock])
    }
}
