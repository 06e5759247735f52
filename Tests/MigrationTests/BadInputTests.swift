// SPDX-License-Identifier: Apache-2.0
import ClusterModel
import Testing

@testable import Migration

/// Files of other systems that are wrong, and what is said of them: all of it.
@Suite struct BadInputTests {
    struct Case: Sendable, CustomTestStringConvertible {
        let format: String
        let text: String
        let message: String
        var testDescription: String { "\(format): \(text.prefix(60))" }

        init(_ format: String, _ text: String, _ message: String) {
            self.format = format
            self.text = text
            self.message = message
        }
    }

    static let targetcli =
        #"{"storage_objects": [{"plugin": "block", "name": "a", "dev": "/dev/rbd/p/a"}], "targets": "#
    static let cephISCSI =
        #"{"version": 11, "disks": {"p/a": {"pool": "p", "image": "a", "wwn": "0123456789abcdef"}}, "#

    static let cases: [Case] = [
        Case("lrbd", "", "the file is empty"),
        Case("lrbd", "pools: []", "line 1: not JSON: a value is expected, not \"p\""),
        Case(
            "lrbd", "{\"pools\": [\n{\"pool\": \"rbd\",}]}", "line 2: not JSON: a key in quotes is expected, not \"}\""),
        Case("lrbd", "{\"pools\": [", "line 1: not JSON: a value is expected, not the end of the file"),
        Case("lrbd", "{\"pools\": []} x", "line 1: not JSON: something follows the end: \"x\""),
        Case(
            "lrbd", "{\"pools\": [],\n\"pools\": []}",
            "line 2: not JSON: key \"pools\" stands twice in one object; which one is meant?"),
        Case("lrbd", "{\"pools\": \"\\q\"}", "line 1: not JSON: \"\\q\" means nothing in JSON"),
        Case(
            "lrbd", "{\"pools\": \"rbd\n\"}",
            "line 1: not JSON: a line or control character within text; is a quote missing?"),
        Case(
            "lrbd", String(repeating: "[", count: 100), "line 1: not JSON: nested deeper than 64 levels"),
        Case("lrbd", "[]", "line 1: must be an object, not a list"),
        Case(
            "lrbd", "{\"targets\": []}", "line 1: this is no configuration of lrbd: there is no \"pools\", only targets"
        ),
        Case("lrbd", "{\"pools\": {}}", "line 1: pools: must be a list, not an object"),
        Case("lrbd", "{\"pools\": [{\"gateways\": []}]}", "line 1: pools[0].pool: is missing"),
        Case(
            "lrbd", #"{"pools": [{"pool": "p", "gateways": [{"tpg": []}]}]}"#,
            "line 1: pools[0].gateways[0]: names neither target nor host"),
        Case(
            "lrbd", #"{"pools": [{"pool": "p", "gateways": [{"host": "igw9", "tpg": []}]}]}"#,
            "line 1: pools[0].gateways[0]: host \"igw9\" has no target under \"targets\""),
        Case(
            "lrbd", #"{"pools": [], "targets": [{"target": "iqn.2016-04.x:a", "host": "h", "portal": "lan"}]}"#,
            "line 1: targets[0].portal: there is no portal \"lan\" under \"portals\""),
        Case(
            "lrbd", #"{"pools": [], "auth": [{"target": "iqn.2016-04.x:a", "authentication": "kerberos"}]}"#,
            "line 1: auth[0].authentication: is \"none\", \"tpg\", \"tpg+identified\", \"identified\" or \"acls\", "
                + "not \"kerberos\""),
        Case("ceph-iscsi", "{}", "line 1: this is no configuration of ceph-iscsi: it has no \"version\" and \"disks\""),
        Case(
            "ceph-iscsi", #"{"version": 3, "disks": {}}"#,
            "line 1: version: layout 3 is older than targets by name; start rbd-target-api of ceph-iscsi 3 once, "
                + "which brings the object up to date"),
        Case(
            "ceph-iscsi", #"{"version": "new", "disks": {}, "targets": {}}"#,
            "line 1: version: must be a whole number from 0, not \"new\""),
        Case("ceph-iscsi", #"{"version": 11, "disks": {}}"#, "line 1: targets: is missing"),
        Case(
            "ceph-iscsi", #"{"version": 11, "disks": {"p/a": {"image": "a"}}, "targets": {}}"#,
            "line 1: disks[\"p/a\"].pool: is missing"),
        Case(
            "ceph-iscsi",
            cephISCSI + "\n" + #""targets": {"iqn.2003-01.x:t": {"portals": {}, "disks": {"p/b": {"lun_id": 0}}}}}"#,
            "line 2: targets[\"iqn.2003-01.x:t\"].disks[\"p/b\"]: there is no disk \"p/b\" under \"disks\""),
        Case(
            "ceph-iscsi", cephISCSI + #""targets": {"iqn.2003-01.x:t": {"portals": {}, "acl_enabled": "perhaps"}}}"#,
            "line 1: targets[\"iqn.2003-01.x:t\"].acl_enabled: must be true or false, not \"perhaps\""),
        Case(
            "ceph-iscsi", cephISCSI + #""targets": {"iqn.2003-01.x:t": {"portals": {}, "auth": {"username": "u"}}}}"#,
            "line 1: targets[\"iqn.2003-01.x:t\"].auth.password: is missing"),
        Case(
            "targetcli", "{}",
            "line 1: this is no configuration of targetcli: it has no \"storage_objects\" and \"targets\""),
        Case(
            "targetcli", #"{"storage_objects": [{"plugin": "tape", "name": "a"}], "targets": []}"#,
            "line 1: storage_objects[0].plugin: storage object \"a\": plugin \"tape\" is not known"),
        Case("targetcli", targetcli + #"[{"fabric": "iscsi"}]}"#, "line 1: targets[0].wwn: is missing"),
        Case(
            "targetcli",
            targetcli
                + #"[{"fabric": "iscsi", "wwn": "w", "tpgs": [{"luns": [{"index": 0, "storage_object": "/backstores/block/b"}]}]}]}"#,
            "line 1: targets[0].tpgs[0].luns[0].storage_object: there is no \"/backstores/block/b\" under "
                + "\"storage_objects\""),
        Case(
            "targetcli",
            targetcli
                + #"[{"fabric": "iscsi", "wwn": "w", "tpgs": [{"node_acls": [{"node_wwn": "h", "mapped_luns": [{"index": 0, "tpg_lun": 4}]}]}]}]}"#,
            "line 1: targets[0].tpgs[0].node_acls[0].mapped_luns[0].tpg_lun: there is no LUN 4 in the portal group"),
        Case(
            "targetcli",
            targetcli
                + #"[{"fabric": "iscsi", "wwn": "w", "tpgs": [{"luns": [{"index": -1, "storage_object": "x"}]}]}]}"#,
            "line 1: targets[0].tpgs[0].luns[0].index: must be a whole number from 0, not \"-1\""),
    ]

    @Test(arguments: cases) func everyProblemIsReported(_ bad: Case) throws {
        let error = try #require(throws: InvalidGroup.self) {
            switch bad.format {
            case "lrbd": _ = try Importer.lrbd(bad.text, group: "g")
            case "ceph-iscsi": _ = try Importer.cephISCSI(bad.text, group: "g")
            default: _ = try Importer.targetcli([("gw1", bad.text)], group: "g")
            }
        }
        #expect(error.description == bad.message)
    }

    /// What is well formed but no group of Clio's is written all the same, with what has to be mended.
    @Test func whatRemainsIsSaid() throws {
        let text =
            #"{"pools": [{"pool": "p", "gateways": [{"target": "iqn.2016-04.x:A", "tpg": [{"image": "i@snap"}]}]}],"#
            + #""targets": [{"target": "iqn.2016-04.x:A", "host": "igw1", "portal": "lan"}],"#
            + #""portals": [{"name": "lan", "addresses": ["gateway.example"]}]}"#
        let imported = try Importer.lrbd(text, group: "g")
        #expect(
            imported.remaining.map(\.path) == [
                "nodes[0].portals[0]", "luns[0].image", "targets[0].iqn", "targets[0].access",
            ])
    }

    @Test func severalNodesAreToldApart() throws {
        let error = try #require(throws: InvalidGroup.self) {
            _ = try Importer.targetcli([("gw1", Self.targetcli + "[]}"), ("gw2", "{}")], group: "g")
        }
        #expect(error.description.hasSuffix("(file of node gw2)"))
    }
}
