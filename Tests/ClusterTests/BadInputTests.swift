// SPDX-License-Identifier: Apache-2.0

import Foundation
import Lab
import Testing

extension GatewayTests {
    /// What people get wrong: each is refused with a message that names the object, the reason and what to do, on standard error
    /// and with the exit status that `clio --help` tells; and nothing is changed.
    @Suite(.serialized) struct BadInput {
        struct Case: Sendable, CustomTestStringConvertible {
            let command: String
            let input: String
            let status: Int32
            let says: [String]

            init(_ command: String, _ status: Int32, _ says: String..., input: String = "") {
                self.command = command
                self.input = input
                self.status = status
                self.says = says
            }

            /// A group file that is the lab's but for one place.
            init(file text: String, _ status: Int32 = 2, _ says: String...) {
                command = "apply -f -"
                input = text
                self.status = status
                self.says = says
            }

            /// The same with `old` replaced.
            init(_ old: String, by new: String, _ says: String...) {
                command = "apply -f -"
                input = BadInput.file.replacing(old, with: new)
                status = 2
                self.says = says
            }

            var testDescription: String {
                let added = input.split(separator: "\n").filter { !BadInput.file.contains($0) }.joined(separator: " / ")
                return added.isEmpty ? command : "\(command): \(added.prefix(70))"
            }
        }

        private static let target = Lab.targetName
        private static let file = """
            group: default
            target:
              iqn: \(target)
              access: open
            nodes:
              - name: gw1
                portals: ["10.77.0.11:3260"]
              - name: gw2
                portals: ["10.77.0.12:3260"]
            luns:
              - lun: 0
                image: rbd/lun0

            """

        private static func hosts(_ text: String) -> String { file + "hosts:\n  - iqn: iqn.2026-01.example:h\n" + text }

        /// Group files.
        static let files: [Case] = [
            Case(file: "", 2, "standard input", "empty"),
            Case(file: "group: [", 2, "standard input:2", "not YAML"),
            Case(file: "- 1\n", 2, "standard input:1", "must be a mapping", "not a list"),
            Case("group: default", by: "grup: default", "standard input:1", "grup", "did you mean \"group\"?"),
            Case(file: file + "color: blue\n", 2, "standard input:13", "color", "known here: group"),
            Case(
                "group: default", by: "group: \"a b\"", "standard input:1: group", "1 to 32 letters", "\"a b\" is not"),
            Case(
                file: file.replacing("group: default", with: "group: nothere"), 1, "no group \"nothere\"",
                "clio group init --group nothere"),
            Case(target, by: "iqn.example", "standard input:3: target.iqn", "iqn.YYYY-MM", "iqn.example"),
            Case(target, by: "iqn.2026-11.Example:UPPER", "lower case", "iqn.2026-11.example:upper"),
            Case("access: open", by: "access: everyone", "target.access", "\"open\"", "everyone"),
            Case("name: gw2", by: "name: gw1", "standard input:8", "node \"gw1\" is already defined at nodes[0]"),
            Case("10.77.0.12", by: "10.77.0.11", "nodes[1].portals[0]", "10.77.0.11:3260 is already used at nodes[0]"),
            Case("10.77.0.12", by: "10.77.0.300", "10.77.0.300", "not an IPv4 address", "10.0.0.1:3260"),
            Case("10.77.0.12:3260", by: "10.77.0.12:99999", "10.77.0.12:99999", "1 to 65535"),
            Case("10.77.0.12", by: "127.0.0.1", "127.0.0.1 is a loopback address"),
            Case("10.77.0.12", by: "gw2.example.org", "gw2.example.org", "10.0.0.1:3260"),
            Case("\"10.77.0.12:3260\"", by: "", "nodes[1].portals", "at least one portal"),
            Case(
                file: file.replacing("  - name: gw2\n    portals: [\"10.77.0.12:3260\"]\n", with: ""), 1,
                "node gw2 serves hosts", "clio node drain gw2", "clio node remove gw2"),
            Case("lun: 0", by: "lun: -1", "luns[0].lun", "0 to 16383", "-1"),
            Case("lun: 0", by: "lun: 16384", "luns[0].lun", "0 to 16383", "16384"),
            Case("lun: 0", by: "lun: zero", "luns[0].lun", "whole number", "zero"),
            Case(file: file + "  - lun: 0\n    image: rbd/b\n", 2, "LUN 0 is already defined at luns[0].lun"),
            Case(file: file + "  - lun: 1\n    image: rbd/lun0\n", 2, "rbd/lun0 already stands at luns[0].image"),
            Case("rbd/lun0", by: "lun0", "luns[0].image", "pool/image", "\"lun0\""),
            Case("rbd/lun0", by: "rbd/lun0@snap", "rbd/lun0@snap", "snapshot"),
            Case("rbd/lun0", by: "rbd/nothere", "LUN 0", "rbd/nothere does not exist", "rbd create"),
            Case("rbd/lun0", by: "nopool/lun0", "pool nopool does not exist", "ceph osd pool create nopool"),
            Case(file: file + "    serial: \"xyz\"\n", 2, "luns[0].serial", "8 to 36 hexadecimal digits"),
            Case(file: file + "timing:\n  lease: 0\n", 2, "timing.lease", "2 to 60 seconds"),
            Case(
                file: file + "hosts:\n  - iqn: nothing\n", 2, "hosts[0].iqn", "\"nothing\" is not an iSCSI name", "iqn."
            ),
            Case(file: hosts("    luns: [7]\n"), 2, "hosts[0].luns[0]", "no LUN 7"),
            Case(file: hosts("  - iqn: iqn.2026-01.example:h\n"), 2, "hosts[1].iqn", "already defined at hosts[0]"),
            Case(
                file: hosts("    chap:\n      user: u\n      password: short\n"), 2, "chap.password",
                "12 to 255 characters"
            ),
            Case(
                file: hosts("    chap:\n      user: u\n      password: \"********\"\n"), 2, "placeholder",
                "put the secret itself here"),
            Case(
                file: hosts("    chap:\n      user: u\n      pasword: 0123456789abc\n"), 2, "chap.pasword",
                "did you mean \"password\"?"),
        ]

        /// Command lines.
        static let commands: [Case] = [
            Case("apply", 64, "--file"),
            Case("apply -f /nonexistent.yaml", 2, "/nonexistent.yaml", "No such file"),
            Case("apply -f /bin/ls", 2, "/bin/ls", "not UTF-8"),
            Case("frobnicate", 64, "frobnicate", "clio --help"),
            Case("lun add rbd/nothere", 2, "rbd/nothere does not exist", "rbd create"),
            Case("lun add rbd/lun0", 1, "rbd/lun0 is LUN 0 of group \"default\" already"),
            Case("lun add x/y/z/w", 2, "\"x/y/z/w\"", "pool/namespace/image"),
            Case("lun remove 99", 1, "no LUN \"99\"", "it has 0"),
            Case("lun remove rbd/lun00", 1, "no LUN \"rbd/lun00\"", "rbd/lun0"),
            Case("lun set 99 --serial 0123456789", 1, "no LUN \"99\""),
            Case("lun set 0", 64, "--image or --serial"),
            Case("target add notaname", 2, "target notaname", "\"iqn.\""),
            Case("target add \(target)", 1, "already", "clio target set \(target)"),
            Case("target remove iqn.2026-11.example:none", 1, "no target", "it has \(target)"),
            Case("target set \(target)", 64, "--access"),
            Case("target set \(target) --nodes gw9", 2, "target \(target): nodes[0]", "no node \"gw9\"", "gw1"),
            Case("target set \(target) --luns 0,77", 2, "target \(target): luns[1]", "no LUN 77"),
            Case("target set \(target) --access nobody", 64, "nobody", "'open' and 'hosts'"),
            Case("target set \(target) --port gw1=naa.5001405000000001", 1, "target \(target) is iSCSI's", "--nodes"),
            Case("target set \(target) --port gw1", 64, "NODE=PORT"),
            Case("target add \(target)2 --port gw1=naa.5001405000000001", 64, "--fabric"),
            Case("target add x --fabric token-ring", 64, "token-ring", "'loopback'"),
            Case("target add x --fabric srp --port gw1=zz", 2, "target x: ports.gw1[0]", "32 hexadecimal digits", "zz"),
            Case("host add Bad_Name", 2, "host Bad_Name", "not an iSCSI name"),
            Case("host remove iqn.2026-01.example:none", 1, "no host \"iqn.2026-01.example:none\""),
            Case("host add iqn.2026-01.example:h --user u", 64, "--password-file"),
            Case("host add iqn.2026-01.example:h --user u --password-file /nonexistent", 2, "/nonexistent"),
            Case(
                "host add iqn.2026-01.example:h --user u --password-file -", 2, "12 to 255 characters", "has 5",
                input: "short\n"),
            Case("host add iqn.2026-01.example:h --luns 77", 2, "host iqn.2026-01.example:h: luns[0]", "no LUN 77"),
            Case("host set iqn.2026-01.example:none", 64, "--luns"),
            Case("host set iqn.2026-01.example:none --no-chap", 1, "no host"),
            Case("host set iqn.2026-01.example:none --no-chap --no-mutual", 64, "--no-chap"),
            Case("host set iqn.2026-01.example:none --mutual-user u", 64, "--mutual-password-file"),
            Case(
                "host add iqn.2026-01.example:h --mutual-user u --mutual-password-file -", 64,
                "--mutual-user needs --user"
            ),
            Case("portal add gw1 10.77.0.11", 2, "node gw1", "10.77.0.11:3260 is already used at node gw1"),
            Case("portal add gw3 nowhere", 2, "node gw3", "\"nowhere\" is not an IPv4 address"),
            Case("portal remove gw1 10.1.1.1", 1, "10.1.1.1", "10.77.0.11"),
            Case("portal remove gw1 10.77.0.11", 1, "last portal of node gw1", "clio node remove gw1"),
            Case("portal remove gw1 --all", 1, "node gw1 serves hosts", "clio node drain gw1", "clio node remove gw1"),
            Case("portal remove gw9 --all", 1, "no node \"gw9\"", "did you mean"),
            Case("rollback 99999", 1, "version 99999", "clio history"),
            Case("rollback zero", 64, "zero"),
            Case("history --limit 0", 64, "1 to 101"),
            Case(
                "plan -f -", 1, "no group \"nothere\"", input: file.replacing("group: default", with: "group: nothere")),
            Case(
                "plan -f - --group default", 2, "group \"nothere\"",
                input: file.replacing("group: default", with: "group: nothere")),
            Case("plan --node gw9", 1, "no node \"gw9\"", "it has gw1, gw2"),
            Case("get --group none", 1, "no group \"none\"", "clio group init --group none"),
            Case("get --group ../etc", 2, "\"../etc\" is not"),
            Case("status --group none --json", 1, "no group \"none\""),
            Case("get --pool none", 3, "no pool none", "ceph osd pool create none"),
            Case("get --timeout 0", 64, "1 to 600"),
            Case("get --id nobody", 3, "client.nobody"),
            Case("node drain gw9", 1, "no node \"gw9\""),
            Case("node remove gw1", 1, "node gw1", "clio node drain gw1"),
            Case("node bootstrap --portal 10.77.0.11", 64, "--install"),
            Case("node bootstrap --install --portal gw1", 64, "gw1", "IPv4"),
            Case("group remove none", 1, "no group \"none\""),
            Case("group remove default --force", 1, "node gw1 serves hosts"),
            Case("group remove default", 1, "node gw1 serves hosts", "clio node drain gw1"),
            Case("group init --image-pool none", 3, "no pool none"),
            Case("group init --group _", 2, "\"_\" is not"),
            Case("pr show 99", 1, "no LUN \"99\"", "clio get"),
            Case("pr clear 99 --yes", 1, "no LUN \"99\""),
            Case("import lrbd /nonexistent", 2, "/nonexistent"),
            Case("import lrbd -", 2, "standard input:1", "not JSON", input: "{\"x\":"),
            Case("import targetcli -", 64, "NODE=FILE"),
            Case("import ceph-iscsi -", 2, "no configuration of ceph-iscsi", input: "{}"),
        ]

        private static func group(_ cluster: LiveCluster, _ clio: String) async throws -> String {
            try await cluster.lab.hostCheck(
                [clio, "get", "--json", "--ceph-conf", cluster.description.cephConf]
                    + ["--keyring", cluster.description.keyring])
        }

        private func refused(_ one: Case) async throws {
            let cluster = try LiveCluster.current
            let clio = try cluster.lab.executable("clio")
            let before = try await Self.group(cluster, clio)
            let words = one.command.split(separator: " ").map(String.init)
            var ceph = ["--ceph-conf", cluster.description.cephConf]
            if !words.contains("--id") { ceph += ["--keyring", cluster.description.keyring] }
            if ["import", "frobnicate"].contains(words[0]) { ceph = [] }
            let result = try await cluster.lab.host([clio] + words + ceph, input: Array(one.input.utf8))
            #expect(result.status == one.status, "\(result.errorText)")
            for text in one.says { #expect(result.errorText.contains(text), "\(result.errorText)") }
            #expect(!result.errorText.contains("Fault("), "\(result.errorText)")
            // What is wrong is said to people, not to what reads the output.
            if words[0] != "status" { #expect(result.outputText.isEmpty, "\(result.outputText)") }
            #expect(try await Self.group(cluster, clio) == before, "nothing half done")
        }

        @Test(arguments: files) func file(_ one: Case) async throws { try await refused(one) }

        @Test(arguments: commands) func command(_ one: Case) async throws { try await refused(one) }
    }
}
