// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import ClusterModel

/// Groups the tests work with.
enum Sample {
    static let iqn = "iqn.2026-11.example.clio:lab"

    static let file = """
        group: default
        target:
          iqn: iqn.2026-11.example.clio:lab
        nodes:
          - name: gw1
            portals: ["10.77.0.11"]
          - name: gw2
            portals: ["10.77.0.12:3260", "[fd00::12]:3260"]
        luns:
          - lun: 0
            image: rbd/lun0
          - lun: 7
            image: rbd/ns/lun7
            serial: 0123456789abcdef
        hosts:
          - iqn: iqn.1993-08.org.debian:01:a
            chap: {user: alice, password: twelve-chars, mutualUser: bob, mutualPassword: 'other"chars\\x'}
            luns: [0]
          - iqn: iqn.1993-08.org.debian:01:b
        """

    static func group() throws -> Group { try GroupFile.parse(file) }

    static let images = [
        "rbd/lun0": ImageIdentity(poolID: 2, imageID: "aaaa"), "rbd/ns/lun7": ImageIdentity(poolID: 2, imageID: "bbbb"),
    ]

    /// The sample, applied to an empty group.
    static func stored(_ change: (inout Group) -> Void = { _ in }) throws -> StoredGroup {
        var group = try group()
        change(&group)
        let complete = try group.completed(fsid: "f", images: images, previous: nil)
        return try #require(try StoredGroup(creating: "default").applying(complete))
    }
}

@Suite struct GroupFileTests {
    @Test func shortForm() throws {
        let group = try Sample.group()
        #expect(group.targets == [ClusterTarget(iqn: Sample.iqn, access: .hosts)])
        #expect(group.nodes.map(\.name) == ["gw1", "gw2"])
        #expect(group.luns.map(\.lun) == [0, 7])
        #expect(group.luns[1].serial == "0123456789abcdef")
        #expect(group.hosts[0].chap?.mutualPassword?.revealed == #"other"chars\x"#)
        #expect(group.timing == Timing())
    }

    @Test func longForm() throws {
        let group = try GroupFile.parse(
            """
            access: open
            timing: {lease: 10, dead: 12}
            nodes:
              - {name: gw1, portals: ["10.77.0.11"]}
              - {name: gw2}
            luns: [{lun: 0, image: rbd/a}, {lun: 1, image: rbd/b}]
            targets:
              - iqn: iqn.2026-11.example.clio:a
                nodes: [gw1]
                luns: [1]
                portals: {gw1: ["10.77.0.11:3261"]}
              - iqn: iqn.2026-11.example.clio:b
                portals: {gw2: ["10.77.0.12"]}
            """)
        #expect(group.name == "default")
        #expect(group.timing.bound == 15)
        #expect(group.targets.map(\.access) == [.open, .open])
        #expect(group.nodes(of: group.targets[0]).map(\.name) == ["gw1"])
        #expect(group.luns(of: group.targets[0]).map(\.lun) == [1])
        #expect(group.portals(of: group.targets[0], on: group.nodes[0]) == ["10.77.0.11:3261"])
        #expect(group.portals(of: group.targets[1], on: group.nodes[0]) == ["10.77.0.11"])
    }

    @Test func valuesThatLookLikeOtherTypesStayText() throws {
        var text = Sample.file.replacing("user: alice", with: "user: yes").replacing(
            "twelve-chars", with: "123456789012")
        text = text.replacing("0123456789abcdef", with: "0123456701234567")
        let group = try GroupFile.parse(text)
        #expect(group.hosts[0].chap?.user == "yes")
        #expect(group.hosts[0].chap?.password.revealed == "123456789012")
        #expect(group.luns[1].serial == "0123456701234567")
    }

    @Test func writtenAndReadIsTheSame() throws {
        var group = try Sample.group()
        #expect(try GroupFile.parse(GroupFile.format(group, secrets: true)) == group)
        group.targets.append(
            ClusterTarget(
                iqn: "iqn.2026-11.example.clio:two", access: .hosts, nodes: ["gw2"],
                portals: ["gw2": ["10.77.0.12:3261"]],
                luns: [7], hosts: ["iqn.1993-08.org.debian:01:b"]))
        group.nodes[0].name = "1"
        group.nodes[1].name = "no"
        group.targets[1].nodes = ["no"]
        group.targets[1].portals = ["no": ["10.77.0.12:3261"]]
        #expect(try GroupFile.parse(GroupFile.format(group, secrets: true)) == group)
    }

    @Test func secretsAreNotShown() throws {
        let group = try Sample.group()
        let text = GroupFile.format(group)
        #expect(!text.contains("twelve-chars"))
        #expect(text.contains("alice"))
        var dumped = ""
        dump(group, to: &dumped)
        for shown in ["\(group)", String(reflecting: group), dumped] { #expect(!shown.contains("twelve-chars")) }
        // And cannot be applied by accident.
        #expect(throws: InvalidGroup.self) { try GroupFile.parse(text) }
        var redacted = group
        redacted.redact()
        #expect(redacted.hosts[0].chap?.password.revealed == Secret.redacted)
        #expect(redacted.hosts[0].chap?.mutualPassword?.revealed == Secret.redacted)
    }

    @Test func problemsDoNotShowSecrets() throws {
        let text = Sample.file.replacing("twelve-chars", with: "hush-hush")
        let error = try #require(throws: InvalidGroup.self) { try GroupFile.parse(text) }
        #expect(!error.description.contains("hush"))
    }

    @Test func jsonIsAGroupFileToo() throws {
        let group = try GroupFile.parse(
            #"{"target": {"iqn": "iqn.2026-11.a", "access": "open"}, "nodes": [{"name": "n", "portals": ["10.0.0.1"]}], "#
                + #""luns": [{"lun": 0, "image": "rbd/a"}]}"#)
        #expect(group.luns == [LogicalUnit(lun: 0, image: "rbd/a")])
    }

    @Test func aBombOfAliasesIsRefusedQuickly() {
        var text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
        for i in 1...9 {
            let item = "*a\(i - 1)"
            text += "a\(i): &a\(i) [\(Array(repeating: item, count: 10).joined(separator: ", "))]\n"
        }
        let error = #expect(throws: InvalidGroup.self) { try GroupFile.parse(text) }
        #expect(error?.description.contains("describes more than") == true)
    }

    /// Any cut of a good file is either good or refused with a reason; never a crash.
    @Test func everyPrefixIsHandled() {
        for length in 0..<Sample.file.count {
            do {
                _ = try GroupFile.parse(String(Sample.file.prefix(length)))
            } catch {
                #expect(!error.problems.isEmpty)
            }
        }
    }
}

@Suite struct StoredGroupTests {
    @Test func portsAreNumberedInOrder() throws {
        let stored = try Sample.stored()
        #expect(stored.version == 2)
        #expect(
            stored.ports == [
                Port(iqn: Sample.iqn, node: "gw1", number: 1), Port(iqn: Sample.iqn, node: "gw2", number: 2),
            ])
    }

    @Test func portNumbersAreForLife() throws {
        var stored = try Sample.stored()
        var group = stored.config
        // gw1 goes, gw3 comes: gw2 keeps its number, gw3 gets a new one.
        group.nodes.remove(at: 0)
        group.nodes.insert(Node(name: "gw3", portals: ["10.77.0.13"]), at: 0)
        stored = try #require(try stored.applying(group))
        #expect(stored.ports(iqn: Sample.iqn, node: "gw2").first?.number == 2)
        #expect(stored.ports(iqn: Sample.iqn, node: "gw3").first?.number == 3)
        #expect(stored.ports(iqn: Sample.iqn, node: "gw1").isEmpty)
        #expect(stored.ports.contains(Port(iqn: Sample.iqn, node: "gw1", number: 1, retired: true)))
        // gw1 returns to its own number; a second target gets new ones.
        group.nodes.append(Node(name: "gw1", portals: ["10.77.0.11"]))
        group.targets.append(ClusterTarget(iqn: "iqn.2026-11.example.clio:two"))
        stored = try #require(try stored.applying(group))
        #expect(stored.ports(iqn: Sample.iqn, node: "gw1").first?.number == 1)
        #expect(stored.ports.filter { $0.iqn.hasSuffix("two") }.map(\.number) == [4, 5, 6])
        #expect(Set(stored.ports.map(\.number)).count == stored.ports.count)
    }

    @Test func theSameAgainIsNoChange() throws {
        let stored = try Sample.stored()
        let again = try Sample.group().completed(fsid: "f", images: Sample.images, previous: stored.config)
        #expect(try stored.applying(again) == nil)
    }

    @Test func storedBytesAreCanonical() throws {
        let stored = try Sample.stored()
        let bytes = try stored.encoded()
        #expect(try StoredGroup(decoding: bytes) == stored)
        #expect(try StoredGroup(decoding: bytes).encoded() == bytes)
    }

    @Test(arguments: [
        ("", "damaged"), ("{}", "damaged"), ("{\"format\": 3}", "format 3"), ("{\"format\": 1}", "version"),
        ("nonsense", "damaged"),
    ])
    func whatIsNoGroupIsRefused(_ text: String, _ part: String) throws {
        let error = try #require(throws: StoredGroup.Unreadable.self) { try StoredGroup(decoding: Array(text.utf8)) }
        #expect(error.description.contains(part))
    }

    /// Whoever may write the object may have put anything there.
    @Test func whatNoFileCouldSayIsRefused() throws {
        var stored = try Sample.stored()
        stored.config.targets[0].iqn = "../../../core/iblock_0"
        expectRefused(stored, "targets[0]")
        stored = try Sample.stored()
        stored.config.luns[0].image = "rbd/a b,secret=x"
        expectRefused(stored, "luns[0].image")
        stored = try Sample.stored()
        stored.ports[0].iqn = "../x"
        expectRefused(stored, "ports[0].iqn")
        stored = try Sample.stored()
        stored.ports[0].node = "gw1\n\u{1b}[2J"
        expectRefused(stored, "ports[0].node")
        stored = try Sample.stored()
        stored.ports[0].wwn = "naa.5"
        expectRefused(stored, "ports[0].wwn")
        stored = try Sample.stored()
        stored.ports[0].number = 70000
        expectRefused(stored, "ports[0].number")
        stored = try Sample.stored()
        stored.ports.append(stored.ports[0])
        expectRefused(stored, "ports")
    }

    private func expectRefused(_ stored: StoredGroup, _ part: String, at place: SourceLocation = #_sourceLocation) {
        let error = #expect(throws: StoredGroup.Unreadable.self, sourceLocation: place) {
            try StoredGroup(decoding: try stored.encoded())
        }
        #expect(error?.description.contains(part) == true, "\(String(describing: error))", sourceLocation: place)
    }

    @Test func serialsStayWithTheirImage() throws {
        let stored = try Sample.stored()
        #expect(stored.config.luns[0].serial == LUNSerial(fsid: "f", poolID: 2, namespace: "", imageID: "aaaa").text)
        // The file drops the serial chosen once: the group's stays.
        var group = try Sample.group()
        group.luns[1].serial = nil
        let complete = try group.completed(fsid: "f", images: Sample.images, previous: stored.config)
        #expect(complete.luns[1].serial == "0123456789abcdef")
        // The image was made anew: a new identity.
        var images = Sample.images
        images["rbd/ns/lun7"] = ImageIdentity(poolID: 2, imageID: "cccc")
        let renewed = try group.completed(fsid: "f", images: images, previous: stored.config)
        #expect(renewed.luns[1].serial == LUNSerial(fsid: "f", poolID: 2, namespace: "ns", imageID: "cccc").text)
    }

    @Test func aSerialCannotMoveToAnotherImage() throws {
        let stored = try Sample.stored()
        var group = try Sample.group()
        group.luns[1].image = "rbd/other"
        var images = Sample.images
        images["rbd/other"] = ImageIdentity(poolID: 2, imageID: "dddd")
        let complete = try group.completed(fsid: "f", images: images, previous: stored.config)
        let error = try #require(throws: InvalidGroup.self) { try stored.applying(complete) }
        #expect(error.problems.map(\.path) == ["luns[1].serial"])
        #expect(error.description.contains("identity of rbd/ns/lun7"))
    }

    @Test func anotherGroupsFileIsRefused() throws {
        let stored = try Sample.stored()
        var group = stored.config
        group.name = "other"
        #expect(throws: InvalidGroup.self) { try stored.applying(group) }
    }

    @Test func changesAreToldWithoutSecrets() throws {
        let stored = try Sample.stored()
        var group = stored.config
        group.timing = Timing(ping: 4)
        group.nodes.append(Node(name: "gw3", portals: ["10.77.0.13"]))
        group.luns.remove(at: 1)
        group.hosts[0].chap?.password = Secret("new-and-secret")
        group.hosts[1].luns = [0]
        group.targets[0].access = .open
        let next = try #require(try stored.applying(group))
        #expect(
            stored.changes(to: next) == [
                "~ timing.ping: 3 s -> 4 s", "+ node gw3 at 10.77.0.13", "~ target \(Sample.iqn): access hosts -> open",
                "- LUN 7",
                "~ host iqn.1993-08.org.debian:01:a: CHAP credentials changed",
                "~ host iqn.1993-08.org.debian:01:b: luns all -> 0",
                "+ port 3: \(Sample.iqn) on gw3",
            ])
    }
}
