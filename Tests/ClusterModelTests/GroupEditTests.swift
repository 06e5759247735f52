// SPDX-License-Identifier: Apache-2.0
import Foundation
import Testing

@testable import ClusterModel

@Suite struct GroupEditTests {
    let host = "iqn.1993-08.org.debian:01:a"

    @Test func lunNumbersAreNotGivenAgain() throws {
        let stored = try Sample.stored()
        #expect(stored.highestLUN == 7)
        let fewer = try stored.config.edited { try $0.removeLUN("7") }.group
        let after = try #require(try stored.applying(fewer))
        #expect(after.highestLUN == 7)
        let more = try after.config.edited { try $0.addLUN(image: "rbd/new", highest: after.highestLUN) }
        #expect(more.result == 8)
        #expect(more.group.luns.map(\.lun) == [0, 8])
        #expect(Group(name: "g", luns: [LogicalUnit(lun: 16383, image: "rbd/a")]).nextLUN() == 0)
    }

    @Test func nothingElseChanges() throws {
        let group = try Sample.stored().config
        let there = try group.edited {
            try $0.addPortals(["10.77.0.13"], node: "gw3")
            try $0.addHost(Host(iqn: "iqn.2026-01.test:c"))
            try $0.addTarget(ClusterTarget(iqn: "iqn.2026-01.test:t"))
        }.group
        #expect(there.nodes.last == Node(name: "gw3", portals: ["10.77.0.13:3260"]))
        let back = try there.edited {
            try $0.removeTarget("iqn.2026-01.test:t")
            try $0.removeHost("iqn.2026-01.test:c")
            try $0.removeAllPortals(node: "gw3")
        }.group
        #expect(back == group)
    }

    /// What is wrong is named, with what to do; the group that was is as it was.
    @Test func faultsNameTheObject() throws {
        let group = try Sample.stored().config
        func fault(_ change: (inout Group) throws -> Void) -> String {
            do {
                _ = try group.edited(change)
                return "no fault"
            } catch { return "\(error)" }
        }
        let cases: [(String, (inout Group) throws -> Void)] = [
            ("image rbd/lun0 is LUN 0 of group \"default\" already", { try $0.addLUN(image: "rbd/lun0") }),
            (
                "LUN 7 of group \"default\" is image rbd/ns/lun7; 8 is free",
                { try $0.addLUN(image: "rbd/n", number: 7) }
            ),
            ("there is no LUN \"3\" in group \"default\"; it has 0, 7", { try $0.removeLUN("3") }),
            ("host \(host) sees LUN 0 only", { try $0.removeLUN("0") }),
            ("did you mean \"\(Sample.iqn)\"?", { try $0.removeTarget(Sample.iqn + "x") }),
            ("there is no node \"gw9\"", { try $0.setPortals(["10.0.0.1"], node: "gw9") }),
            ("10.0.0.1:3260 is no portal of node gw1", { try $0.removePortals(["10.0.0.1"], node: "gw1") }),
            ("clio node remove gw1", { try $0.removePortals(["10.77.0.11"], node: "gw1") }),
            ("target \(Sample.iqn) is iSCSI's", { try $0.setTarget(Sample.iqn, ports: ["gw1": ["naa.5"]]) }),
            ("clio host set \(host)", { try $0.addHost(Host(iqn: host)) }),
            ("LUN 20000", { try $0.addLUN(image: "rbd/n", number: 20000) }),
        ]
        for (text, change) in cases {
            let said = fault(change)
            #expect(said.contains(text), "\(said)")
        }
    }

    /// What is not given of a host's credentials stays.
    @Test func credentials() throws {
        let group = try Sample.stored().config
        let old = try #require(group.hosts[0].chap)
        func after(_ changes: CHAPChange...) throws -> CHAP? {
            try group.edited { try $0.setHost(host, chap: changes) }.group.hosts[0].chap
        }
        let secret = Secret("another-secret")
        var wanted = old
        (wanted.user, wanted.password) = ("carol", secret)
        #expect(try after(.own(user: "carol", password: secret)) == wanted)
        wanted = old
        (wanted.mutualUser, wanted.mutualPassword) = ("dave", secret)
        #expect(try after(.mutual(user: "dave", password: secret)) == wanted)
        #expect(try after(.removeMutual) == CHAP(user: old.user, password: old.password))
        #expect(try after(.removeAll) == nil)
        #expect(throws: InvalidGroup.self, "both the same") {
            try after(.own(user: "a", password: secret), .mutual(user: "b", password: secret))
        }
        #expect {
            try after(.removeAll, .mutual(user: "dave", password: secret))
        } throws: {
            "\($0)".contains("host \(host) has no CHAP") && "\($0)".contains("--password-file")
        }
    }

    /// A target of another fabric gets and loses nodes by its ports.
    @Test func ports() throws {
        func port(_ number: Int) -> [String] { ["naa.500140500000000\(number)"] }
        let one = try Sample.stored().config.edited {
            try $0.addTarget(ClusterTarget(name: "local", fabric: .loopback, ports: ["gw1": port(1)]))
        }.group
        let both = try one.edited { try $0.setTarget("local", ports: ["gw2": port(2)]) }.group
        #expect(both.targets[1].ports == ["gw1": port(1), "gw2": port(2)])
        #expect(try both.edited { try $0.setTarget("local", ports: ["gw2": []]) }.group == one)
        func fault(_ change: (inout Group) throws -> Void) -> String {
            do { return try "\(one.edited(change).group)" } catch { return "\(error)" }
        }
        #expect(fault { try $0.setTarget("local", ports: ["gw9": port(2)]) }.contains("no node \"gw9\""))
        #expect(fault { try $0.setTarget("local", ports: ["gw1": []]) }.contains("target local: ports: is missing"))
        let last = fault { try $0.removeAllPortals(node: "gw1") }
        #expect(last.contains("clio target set local --port NODE=PORT"), "\(last)")
    }

    @Test(arguments: [("group: b\nnodes: [", nil), ("group: b\ncolor: blue", "b"), ("nodes: []", nil), ("", nil)])
    func groupNames(file: String, name: String?) { #expect(GroupFile.groupName(in: file) == name) }

    @Test func redactedSecretsStay() throws {
        let group = try Sample.stored().config
        let text = GroupFile.format(group, secrets: false)
        #expect(!text.contains("twelve-chars"))
        let read = try GroupFile.parse(text, secretsOf: group)
        #expect(read.hosts == group.hosts)
        #expect(throws: InvalidGroup.self) { try GroupFile.parse(text) }
    }

    @Test func noWayBackToAnotherImage() throws {
        let old = try Sample.stored().config
        #expect(try old.restored(version: 2, images: Sample.images) == old)
        var images = Sample.images
        images["rbd/lun0"] = ImageIdentity(poolID: 2, imageID: "cccc")
        #expect {
            try old.restored(version: 2, images: images)
        } throws: {
            "\($0)".contains("image rbd/lun0 is not the one of version 2")
        }
        images["rbd/lun0"] = nil
        #expect {
            try old.restored(version: 2, images: images)
        } throws: {
            "\($0)".contains("LUN 0: image rbd/lun0 of version 2 is not there")
                && "\($0)".contains("--allow-missing-images")
        }
        let without = try old.restored(version: 2, images: images, allowingMissing: true)
        #expect(without.luns[0] == LogicalUnit(lun: 0, image: "rbd/lun0"))
        #expect(without.luns[1] == old.luns[1])
    }

    @Test func whatANodeWouldDo() throws {
        let stored = try Sample.stored()
        #expect(try NodeForecast(node: "gw1", from: stored, to: stored).steps == [])
        let more = try stored.config.edited { try $0.addLUN(image: "rbd/new") }.group
        let next = try #require(try stored.applying(more))
        let steps = try NodeForecast(node: "gw1", from: stored, to: next).steps
        #expect(steps.first == "map image rbd/new")
        let all = try NodeForecast(node: "gw1", from: nil, to: next)
        #expect(all.steps.count > steps.count && all.note == nil)

        let change = StoredGroup.Change(time: 0, host: "desk", command: "clio node drain gw1")
        let drained = try #require(try next.draining("gw1", by: change))
        let nothing = try NodeForecast(node: "gw1", from: stored, to: drained)
        #expect(nothing.steps.isEmpty && nothing.note == "drained: nothing until clio node resume gw1")
        #expect(try NodeForecast(node: "gw2", from: next, to: drained).note == nil)
        #expect(try NodeForecast(node: "gw1", from: drained, to: next) == all, "a drained node has nothing")
    }

    /// Who may write the object could have put anything there.
    @Test func hostileRecords() throws {
        let good = try Sample.stored()
        func said(_ change: (inout StoredGroup) -> Void) throws -> String {
            var bad = good
            change(&bad)
            let bytes = try bad.encoded()
            do {
                _ = try StoredGroup(decoding: bytes)
                return "read"
            } catch { return "\(error)" }
        }
        #expect(try said { $0.highestLUN = .max }.contains("highestLUN"))
        #expect(try said { $0.version = .max }.contains("version"))
        #expect(try said { $0.change = .init(time: 1e300, host: "a", command: "b") }.contains("change.time"))
        let change = StoredGroup.Change(time: 0, host: "a\u{1b}[2J", command: String(repeating: "é", count: 5000))
        #expect(change.host == "a?[2J")
        #expect(try said { $0.change = change } == "read")
        #expect(try said { $0.change?.host = "a" } == "read")
        var bytes = try good.encoded()
        bytes.removeLast(40)
        #expect(throws: StoredGroup.Unreadable.self) { try StoredGroup(decoding: bytes) }
    }
}
