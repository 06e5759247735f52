// SPDX-License-Identifier: Apache-2.0
import ClusterModel
import Foundation
import Testing

@testable import Migration

/// A file of `Samples/`, written for these tests from the documentation of its format.
func sample(_ name: String) throws -> String {
    let folder = try #require(Bundle.module.resourceURL).appendingPathComponent("Samples")
    return try String(contentsOf: folder.appendingPathComponent(name), encoding: .utf8)
}

@Suite struct ImportTests {
    /// What is written is read back as the same group, unless something has to be mended.
    private func expectReadable(_ imported: Imported) throws {
        #expect(imported.remaining.isEmpty)
        let again = try GroupFile.parse(GroupFile.format(imported.group, secrets: true))
        #expect(again == imported.group)
    }

    @Test func lrbdWithoutAuthentication() throws {
        let imported = try Importer.lrbd(try sample("lrbd-plain.json"), group: "g")
        try expectReadable(imported)
        #expect(
            imported.group
                == Group(
                    name: "g",
                    nodes: [
                        Node(name: "igw1", portals: ["10.20.0.1:3260"]),
                        Node(name: "igw2", portals: ["10.20.0.2:3260", "[fd00:20::2]:3260"]),
                    ],
                    targets: [ClusterTarget(iqn: "iqn.2016-04.example.store:archive", access: .open)],
                    luns: [
                        LogicalUnit(lun: 0, image: "rbd/archive", serial: "8e1a7cf6-3a4b-4d8e-9d3c-0a1b2c3d4e5f"),
                        LogicalUnit(lun: 7, image: "rbd/backup"),
                    ]))
        #expect(imported.notes == ["image rbd/backup: has no serial, hosts will take it for a new disk"])
    }

    @Test func lrbdWithHosts() throws {
        let imported = try Importer.lrbd(try sample("lrbd-acls.json"), group: "g")
        try expectReadable(imported)
        let group = imported.group
        #expect(group.targets == [ClusterTarget(iqn: "iqn.2016-04.example.store:igw1")])
        #expect(group.nodes == [Node(name: "igw1", portals: ["10.20.0.1:3260"])])
        #expect(group.luns.map(\.image) == ["disks/one", "disks/two"])
        #expect(
            group.hosts == [
                Host(
                    iqn: "iqn.2016-04.example.host:a", chap: CHAP(user: "alice", password: Secret("alice-secret-1"))),
                Host(
                    iqn: "iqn.2016-04.example.host:b",
                    chap: CHAP(
                        user: "bert", password: Secret("bert-secret-22"), mutualUser: "store",
                        mutualPassword: Secret("store-secret-3")), luns: [1]),
            ])
        #expect(group.discovery == CHAP(user: "d", password: Secret("discovery-secret")))
        #expect(
            imported.notes.contains(
                "host iqn.2016-04.example.host:b: saw disks/two as LUN 0 of target iqn.2016-04.example.store:igw1, "
                    + "will see it as LUN 1: a LUN has the same number for every host"))
    }

    @Test func cephISCSI() throws {
        let imported = try Importer.cephISCSI(try sample("ceph-iscsi.json"), group: "g")
        let group = imported.group
        #expect(
            group.nodes == [
                Node(name: "gw1.example", portals: ["10.30.0.1:3260"]),
                Node(name: "gw2.example", portals: ["10.30.0.2:3260"]),
            ])
        #expect(
            group.luns == [
                LogicalUnit(lun: 0, image: "rbd/vm1", serial: "0b0cbd3c-3f34-4b26-9be6-8f7d4b1a9f01"),
                LogicalUnit(lun: 1, image: "rbd/vm2", serial: "1c1dce4d-4045-4c37-8cf7-908e5c2ba002"),
            ])
        // The host group's disk is the host's; a host without disks is left out.
        #expect(group.hosts.map(\.iqn) == ["iqn.1998-01.example.esx:one", "iqn.1998-01.example.esx:two"])
        #expect(group.hosts.map(\.luns) == [nil, [1]])
        #expect(group.hosts[0].chap == CHAP(user: "esxone", password: Secret("esx-one-secret")))
        // An encrypted secret is not taken for one.
        #expect(imported.remaining.map(\.path) == ["hosts[1].chap.password"])
        #expect(imported.notes.contains { $0.contains("encrypted with ceph-iscsi's key") })
        #expect(imported.notes.contains("image rbd/spare is left out: no target shows it"))
        #expect(imported.notes.contains { $0.hasPrefix("host iqn.1998-01.example.esx:idle is left out") })
        #expect(imported.notes.contains { $0.hasPrefix("image rbd/vm1: settings of tcmu-runner") })
    }

    @Test func targetcliOfSeveralNodes() throws {
        let imported = try Importer.targetcli(
            [("gw1", try sample("targetcli-gw1.json")), ("gw2", try sample("targetcli-gw2.json"))], group: "g")
        try expectReadable(imported)
        let group = imported.group
        #expect(
            group.targets == [
                ClusterTarget(iqn: "iqn.2003-01.org.example.gw1:data", nodes: ["gw1"]),
                ClusterTarget(
                    name: "naa.5001405a1b2c3d4e", fabric: .loopback, ports: ["gw1": ["naa.5001405a1b2c3d4e"]], luns: [0]
                ),
                ClusterTarget(iqn: "iqn.2003-01.org.example.gw2:data", access: .open, nodes: ["gw2"], luns: [0]),
            ])
        #expect(group.luns.map(\.image) == ["rbd/data", "rbd/logs"])
        #expect(group.luns.map(\.lun) == [0, 5])
        #expect(group.hosts.map(\.chap) == [CHAP(user: "carol", password: Secret("carol-secret-1"))])
        #expect(group.discovery == CHAP(user: "seeker", password: Secret("seeker-secret")))
        for part in [
            "fileio/scratch", "block/disk on /dev/sdb", "iSER becomes plain TCP", "is write-protected",
            "portal group 2",
            "its fabric is sbp", "saw rbd/logs as LUN 1", "node gw2: discovery asked for no CHAP",
            "options of tcmu-runner are not carried over: osd_op_timeout=30",
            "gw2:data: any host may log in, but not write",
        ] {
            #expect(imported.notes.contains { $0.contains(part) }, "\(part)")
        }
    }

    @Test func notesHoldNoSecrets() throws {
        let all = [
            try Importer.lrbd(try sample("lrbd-acls.json"), group: "g"),
            try Importer.cephISCSI(try sample("ceph-iscsi.json"), group: "g"),
            try Importer.targetcli([("gw1", try sample("targetcli-gw1.json"))], group: "g"),
        ]
        for text in all.flatMap({ $0.notes + $0.remaining.map(\.text) }) {
            #expect(!text.contains("secret-") && !text.contains("-secret") && !text.contains("gAAAA"), "\(text)")
        }
    }

    @Test func targetcliAndBack() throws {
        let group = Group(
            name: "g", nodes: [Node(name: "a", portals: ["10.0.0.1:3260", "[fd00::1]:3261"])],
            targets: [ClusterTarget(iqn: "iqn.2026-01.example:t")],
            luns: [
                LogicalUnit(lun: 0, image: "rbd/x", serial: "3e3f0a6f-6267-4e59-8e19-b2a07e4dc204"),
                LogicalUnit(lun: 9, image: "rbd/ns/y", serial: "4f40b170-7378-4f6a-9f2a-c3b18f5ed305"),
            ],
            hosts: [
                Host(
                    iqn: "iqn.2026-01.example:h",
                    chap: CHAP(
                        user: "u", password: Secret("u-password-123"), mutualUser: "m",
                        mutualPassword: Secret("m-password-123"))),
                Host(
                    iqn: "iqn.2026-01.example:i", chap: CHAP(user: "v", password: Secret("v-password-123")), luns: [9]),
            ],
            discovery: CHAP(
                user: "d", password: Secret("d-password-123"), mutualUser: "e", mutualPassword: Secret("e-password-123")
            ))
        let (text, notes) = try Exporter.targetcli(
            group, node: group.nodes[0], ports: [Port(iqn: "iqn.2026-01.example:t", node: "a", number: 3)])
        #expect(notes.isEmpty)
        #expect(text.contains("\"tag\" : 3"))
        let imported = try Importer.targetcli([("a", text)], group: "g")
        #expect(imported.notes.isEmpty)
        #expect(imported.remaining.isEmpty)
        #expect(imported.group == group)
    }

    /// A host without CHAP can log in beside one with it: the ACLs say who is asked.
    @Test func hostsWithAndWithoutCHAPAndBack() throws {
        let group = Group(
            name: "g", nodes: [Node(name: "a", portals: ["10.0.0.1:3260"])],
            targets: [ClusterTarget(iqn: "iqn.2026-01.example:t")],
            luns: [LogicalUnit(lun: 0, image: "rbd/x", serial: "3e3f0a6f-6267-4e59-8e19-b2a07e4dc204")],
            hosts: [
                Host(iqn: "iqn.2026-01.example:h", chap: CHAP(user: "u", password: Secret("u-password-123"))),
                Host(iqn: "iqn.2026-01.example:i"),
            ])
        let (text, notes) = try Exporter.targetcli(group, node: group.nodes[0])
        #expect(notes.count == 1 && notes[0].contains("some of its hosts have CHAP and some have none"))
        let saved = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any]
        let tpg = try #require(((saved?["targets"] as? [[String: Any]])?.first?["tpgs"] as? [[String: Any]])?.first)
        func asks(_ object: [String: Any]) -> Int? { (object["attributes"] as? [String: Int])?["authentication"] }
        #expect(asks(tpg) == 0)
        #expect((tpg["node_acls"] as? [[String: Any]])?.map(asks) == [1, 0])
        let imported = try Importer.targetcli([("a", text)], group: "g")
        #expect(imported.notes.isEmpty)
        #expect(imported.group == group)
    }

    @Test func exportSaysWhatTargetcliCannot() throws {
        var group = try Importer.lrbd(try sample("lrbd-plain.json"), group: "g").group
        group.timing.bound = 12
        let (text, notes) = try Exporter.targetcli(group, node: group.nodes[1])
        #expect(notes.count == 3)
        #expect(notes.contains { $0.contains("let only one of igw1, igw2 serve them") })
        #expect(notes.contains { $0.contains("timing") })
        #expect(notes.contains { $0.contains("serial") })
        // Only the node's own portals.
        #expect(text.contains("10.20.0.2") && !text.contains("10.20.0.1"))
    }
}
