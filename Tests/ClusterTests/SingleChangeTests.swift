// SPDX-License-Identifier: Apache-2.0

import Foundation
import Initiator
import Lab
import Testing

extension GatewayTests {
    /// `clio target|lun|host|portal`, `edit`, `plan`, `history` and `rollback`: one thing changes, and every node follows.
    @Suite(.serialized) struct SingleChanges {
        let cluster: LiveCluster
        let clio: String

        init() throws {
            cluster = try LiveCluster.current
            clio = try cluster.lab.executable("clio")
        }

        private func run(
            _ words: String..., input: String = "", editor: String = "false"
        ) async throws -> CommandResult {
            let ceph = ["--ceph-conf", cluster.description.cephConf, "--keyring", cluster.description.keyring]
            return try await cluster.lab.host(
                ["env", "-u", "VISUAL", "EDITOR=\(editor)", clio] + words + ceph, input: Array(input.utf8))
        }

        @discardableResult
        private func good(_ words: String..., input: String = "", editor: String = "false") async throws -> String {
            let ceph = ["--ceph-conf", cluster.description.cephConf, "--keyring", cluster.description.keyring]
            return try await cluster.lab.hostCheck(
                ["env", "-u", "VISUAL", "EDITOR=\(editor)", clio] + words + ceph, input: Array(input.utf8))
        }

        private func version() async throws -> Int {
            struct Version: Decodable { let version: Int }
            let text = try await good("history", "--limit", "1", "--json")
            return try #require(JSONDecoder().decode([Version].self, from: Data(text.utf8)).first).version
        }

        private func image(_ name: String) async throws {
            try await cluster.host("rbd", "create", "--size", "16M", "--image-feature", "layering", "rbd/\(name)")
        }

        /// What another group serves, or somebody has open, is refused; what a group gives up is free.
        @Test func anImageIsOneGroups() async throws {
            try await image("ours")
            try await good("lun", "add", "rbd/ours", "--lun", "60")
            #expect(try await cluster.host("rbd", "lock", "ls", "rbd/ours").contains("clio:rbd/default"))
            try await good("group", "init", "--group", "theirs", "--no-client")
            let theirs =
                "{group: theirs, target: {iqn: \"iqn.2026-11.example.clio:theirs\", access: open}, "
                + "nodes: [{name: gw9, portals: [\"10.77.0.99\"]}], luns: [{lun: 0, image: rbd/ours}]}"
            let other = try await run("apply", "-f", "-", input: theirs)
            #expect(other.status == 2, "\(other.errorText)")
            #expect(other.errorText.contains("rbd/ours belongs to group rbd/default"), "\(other.errorText)")
            try await good("lun", "remove", "60")
            #expect(!(try await cluster.host("rbd", "lock", "ls", "rbd/ours").contains("clio")))

            try await image("open")
            async let writer = cluster.lab.host([
                "timeout", "10", "rbd", "bench", "--io-type", "write", "--io-threads", "1", "--io-total", "10G",
                "rbd/open",
            ])
            try await cluster.host(
                "sh", "-c",
                "for i in $(seq 50); do rbd status rbd/open | grep -q watcher= && exit; sleep 0.1; done; exit 1")
            let open = try await run("lun", "add", "rbd/open", "--lun", "60")
            #expect(open.status == 2 && open.errorText.contains("rbd/open is open by client."), "\(open.errorText)")
            _ = try await writer
            // Ceph waits 30 s for who has been killed.
            try await cluster.host(
                "sh", "-c",
                "for i in $(seq 400); do rbd status rbd/open | grep -q watcher= || exit 0; sleep 0.1; done; exit 1")
            try await good("lun", "add", "rbd/open", "--lun", "60")
            try await good("lun", "remove", "60")

            try await good("apply", "-f", "-", input: theirs)
            #expect(try await cluster.host("rbd", "lock", "ls", "rbd/ours").contains("clio:rbd/theirs"))
            // A record that says: up, instance 1, one Ceph client. Nobody is there to fence it.
            let record = #"\001\001\000\000\000\000\000\000\000\001\000\000\000\000\001\000\015\00010.77.9.9:0/1"#
            try await cluster.host(
                "sh", "-c", "printf '\(record)' | rados -p rbd setomapval clio.group.theirs member.gw9")
            let early = try await run("group", "remove", "theirs")
            #expect(
                early.status == 1 && early.errorText.contains("gw9 is up and does not answer"), "\(early.errorText)")
            try await good("group", "remove", "theirs", "--force")
            #expect(try await cluster.host("ceph", "osd", "blocklist", "ls").contains("10.77.9.9:0/1"))
            #expect(!(try await cluster.host("rbd", "lock", "ls", "rbd/ours").contains("clio")))
            #expect(!(try await cluster.host("rados", "-p", "rbd", "ls").contains("theirs")))
        }

        /// Whether a host may read a LUN through each portal.
        private func reads(
            _ lun: Int, portals: [String]? = nil, as host: String = "iqn.2026-11.example.clio:initiator",
            chap: ISCSISession.CHAP? = nil
        ) async throws -> [Bool] {
            let (portals, target) = (portals ?? cluster.portals, cluster.target)
            return try await blocking(in: cluster.description.netns) {
                portals.map { portal in
                    do {
                        let session = try ISCSISession(
                            portal: portal, target: target, initiator: host, chap: chap, timeout: 5)
                        try session.ready(lun: lun)
                        try session.good(.read(0, blocks: 1), lun: lun)
                        return true
                    } catch { return false }
                }
            }
        }

        private func patiently(_ isSo: () async throws -> Bool) async throws -> Bool {
            for _ in 0..<40 {
                if try await isSo() { return true }
                try await Task.sleep(for: .milliseconds(250))
            }
            return false
        }

        /// A LUN gets the next number, which no LUN gets again; changes that are made at the same time are all made.
        @Test func luns() async throws {
            let names = ["verb1", "verb2", "verb3", "verb4"]
            for name in names { try await image(name) }
            let before = try await version()
            try await withThrowingTaskGroup(of: Void.self) { group in
                for name in names { group.addTask { try await good("lun", "add", "rbd/\(name)") } }
                try await group.waitForAll()
            }
            #expect(try await version() == before + 4)
            let listed = try await good("lun", "list")
            let numbers = try names.map { name in
                let line = try #require(listed.split(separator: "\n").first { $0.contains("rbd/\(name)") })
                return try #require(line.split(separator: " ").compactMap { Int($0) }.first)
            }
            #expect(Set(numbers).count == 4)
            for number in numbers {
                #expect(try await patiently { try await reads(number) == [true, true] }, "LUN \(number)")
            }
            let again = try await run("lun", "add", "rbd/verb1")
            #expect(again.status == 1 && again.errorText.contains("rbd/verb1"), "\(again)")
            #expect(again.outputText.isEmpty)

            // Who has registered has so again when the image is a LUN again, and that is said.
            let (portal, target) = (cluster.portals[0], cluster.target)
            try await blocking(in: cluster.description.netns) {
                let session = try ISCSISession(
                    portal: portal, target: target, initiator: "iqn.2026-11.example.clio:initiator", timeout: 5)
                try session.ready(lun: numbers[0])
                try session.good(.persistentReserveOut(.register, actionKey: 0xA), lun: numbers[0])
            }
            let removed = try await run("lun", "remove", String(numbers[0]))
            #expect(removed.status == 0 && removed.errorText.contains("clio pr clear rbd/verb1"), "\(removed)")
            #expect(removed.errorText.contains("iqn.2026-11.example.clio:initiator"), "\(removed)")
            for number in numbers.dropFirst() {
                #expect(try await run("lun", "remove", String(number)).errorText.isEmpty)
            }
            #expect(try await patiently { try await reads(numbers[0]) == [false, false] })
            #expect(try await patiently { (try? await cluster.host("rbd", "rm", "--no-progress", "rbd/verb4")) != nil })
            let back = try await run("rollback", String(before + 4))
            #expect(back.status == 2 && back.errorText.contains("image rbd/verb4 of version \(before + 4)"), "\(back)")
            #expect(back.errorText.contains("--allow-missing-images"), "\(back)")
            let without = try await good("rollback", String(before + 4), "--allow-missing-images", "--dry-run")
            #expect(without.contains("image rbd/verb4, serial ?"), "\(without)")
            try await good("lun", "add", "rbd/verb1", "--dry-run")
            #expect(try await good("lun", "add", "rbd/verb1").contains("LUN \((numbers.max() ?? 0) + 1)"))
            try await cluster.export()
        }

        /// Who may log in, by CHAP, and what goes on when the group is edited; no secret is ever shown.
        @Test func hostsAndHistory() async throws {
            let (host, secret) = ("iqn.2026-01.test:verb", "correct-horse-battery")
            let chap = ISCSISession.CHAP(user: "verb", password: secret)
            let before = try await version()
            let added = try await good(
                "host", "add", host, "--user", "verb", "--password-file", "-", "--luns", "0", input: secret)
            try await good("target", "set", cluster.target, "--access", "hosts")
            #expect(try await patiently { try await reads(0) == [false, false] }, "a stranger")
            #expect(try await patiently { try await reads(0, as: host, chap: chap) == [true, true] })
            #expect(try await reads(0, as: host) == [false, false], "without CHAP")

            // The secret is asterisks in the editor, and stays what it is.
            let edited = try await good("edit", editor: "sed -i s/user:.*/user:\\ renamed/")
            let files = try await good("edit", editor: "grep -q \(secret) && exit 1 || true")
            #expect(files.contains("nothing to change"), "\(files)")
            let renamed = ISCSISession.CHAP(user: "renamed", password: secret)
            #expect(try await patiently { try await reads(0, as: host, chap: renamed) == [true, true] })
            let spoilt = try await run("edit", editor: "sed -i s/rbd.lun0/nonsense/")
            #expect(spoilt.status == 2 && spoilt.errorText.contains("your text is in"), "\(spoilt)")
            let gaveUp = try await run("edit", editor: "false")
            #expect(gaveUp.status == 1 && gaveUp.errorText.contains("EDITOR="), "\(gaveUp)")

            // One secret is replaced, and what the target proves itself by stays until it is taken away.
            let next = "another-horse-battery"
            let changes = [
                try await good(
                    "host", "set", host, "--mutual-user", "clio", "--mutual-password-file", "-",
                    input: "it-is-clio-self"),
                try await good("host", "set", host, "--user", "verb", "--password-file", "-", input: next),
            ]
            #expect(try await good("host", "list").contains("verb, mutual"))
            try await good("host", "set", host, "--no-mutual")
            let rotated = ISCSISession.CHAP(user: "verb", password: next)
            #expect(try await patiently { try await reads(0, as: host, chap: rotated) == [true, true] })
            #expect(try await good("host", "set", host, "--no-mutual").contains("nothing to change"))

            let history = try await good("history")
            for text in ["clio host add \(host)", "clio target set", "clio edit"] {
                #expect(history.contains(text), "\(history)")
            }
            let shown =
                [added, edited, files, history, try await good("host", "list"), try await good("plan")] + changes
            #expect(!shown.contains { $0.contains(secret) || $0.contains(next) })

            let back = try await good("rollback", String(before))
            #expect(back.contains(host), "\(back)")
            #expect(try await patiently { try await reads(0) == [true, true] }, "open again")
            #expect(try await patiently { try await reads(0, as: host, chap: chap) == [true, true] }, "as any other")
            let never = try await run("rollback", "100000")
            #expect(never.status == 1 && never.errorText.contains("100000"), "\(never)")
        }

        /// Another portal of a node, which sessions can use at once; `clio plan` says beforehand what each node would do.
        @Test func portals() async throws {
            let address = try #require(cluster.description.nodes.first { $0.name == "gw2" }).address
            let other = "\(address):3261"
            let dry = try await good("portal", "add", "gw2", other, "--dry-run")
            #expect(dry.contains("3261"), "\(dry)")
            try await good("portal", "add", "gw2", other)
            #expect(try await patiently { try await reads(0, portals: [other]) == [true] })
            #expect(try await patiently { try await good("plan").contains("node gw2: nothing to do") })
            try await good("portal", "remove", "gw2", other)
            #expect(try await patiently { try await reads(0, portals: [other]) == [false] })
            let plan = try await cluster.lab.host(
                [
                    clio, "plan", "-f", "-", "--node", "gw1", "--ceph-conf", cluster.description.cephConf, "--keyring",
                    cluster.description.keyring,
                ], input: Array(cluster.groupText([(60, "rbd/nowhere")]).utf8))
            #expect(plan.status == 0 && plan.outputText.contains("LUN 60"), "\(plan)")
        }

        /// A node that serves is not cut off by a change of the group.
        @Test func nodesThatServe() async throws {
            let before = try await version()
            for result in [
                try await run("portal", "remove", "gw2", "--all"), try await run("edit", editor: "sed -i /gw2/,+1d"),
            ] {
                #expect(result.status == 1 && result.errorText.contains("clio node remove gw2"), "\(result)")
            }
            #expect(try await version() == before)
        }

        /// The ports of a target of another fabric, node by node; lists say them.
        @Test func ports() async throws {
            let (first, second) = ("naa.5001405000000001", "naa.5001405000000002")
            try await good("target", "add", "local", "--fabric", "loopback", "--port", "gw1=\(first)", "--luns", "0")
            try await good("target", "set", "local", "--port", "gw2=\(second)")
            let list = try await good("portal", "list").split(separator: "\n").filter { $0.contains(" loopback ") }
            #expect(list.count == 2 && list[0].contains(first) && list[1].contains(second), "\(list)")
            let targets = try await good("target", "list")
            #expect(targets.contains("gw1, gw2") && targets.contains(" off "), "\(targets)")
            try await good("target", "set", "local", "--port", "gw2=")
            #expect(try await !good("portal", "list").contains(second))
            try await good("target", "remove", "local")
            #expect(
                try await patiently {
                    let plan = try await good("plan")
                    return plan.components(separatedBy: "nothing to do").count == cluster.gateways.count + 1
                })
        }
    }
}
