// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import ClusterModel

extension PaperTree {
    /// Plans, follows the plan, and checks that the next one is empty.
    mutating func converge(_ stored: StoredGroup, _ node: String, _ devices: [Int: String]) throws -> NodePlan {
        let plan = NodePlan(stored: stored, node: node, devices: devices, actual: state)
        try run(plan.actions)
        let again = NodePlan(stored: stored, node: node, devices: devices, actual: state)
        #expect(again.actions.map(\.description) == [])
        return plan
    }
}

@Suite struct NodePlanTests {
    let devices = [0: "/dev/rbd0", 7: "/dev/rbd1"]

    @Test func everyNodeHasAllPortsAndOpensItsOwn() throws {
        let stored = try Sample.stored()
        for (node, own) in [("gw1", 1), ("gw2", 2)] {
            var paper = PaperTree()
            _ = try paper.converge(stored, node, devices)
            let tpgs = try #require(paper.state.targets[Sample.iqn])
            #expect(tpgs.keys.sorted() == [1, 2])
            for (tag, tpg) in tpgs {
                #expect(tpg.rtpi == tag)
                #expect(tpg.enabled == (tag == own))
                // Discovery announces a port that is not open only with this attribute at 0.
                #expect(tpg.attributes["tpg_enabled_sendtargets"] == (tag == own ? "1" : "0"))
                #expect(
                    tpg.luns.mapValues(\.backstore) == [
                        0: "iblock_0/clio-default-lun0", 7: "iblock_7/clio-default-lun7",
                    ])
            }
            #expect(tpgs[2]?.portals.sorted() == ["10.77.0.12:3260", "[fd00::12]:3260"])
            #expect(paper.state.backstores["iblock_7/clio-default-lun7"]?.serial == "0123456789abcdef")
        }
    }

    @Test func everyPortIsATargetPortGroup() throws {
        var paper = PaperTree()
        let stored = try Sample.stored()
        _ = try paper.converge(stored, "gw1", devices)
        let group = { (port: Int) in ["tg_pt_gp_id": "\(port)", "alua_access_type": "Implicit"] }
        for backstore in paper.state.backstores.values {
            #expect(backstore.portGroups == ["port1": group(1), "port2": group(2)])
        }
        for (tag, tpg) in try #require(paper.state.targets[Sample.iqn]) {
            #expect(tpg.luns.values.allSatisfy { $0.portGroup == "port\(tag)" })
        }
        // A port that goes takes its group with it.
        var config = stored.config
        config.nodes.remove(at: 1)
        _ = try paper.converge(try #require(try stored.applying(config)), "gw1", devices)
        #expect(paper.state.backstores.values.allSatisfy { $0.portGroups == ["port1": group(1)] })
    }

    @Test func portsStayClosedUntilTheyMayOpen() throws {
        var paper = PaperTree()
        let stored = try Sample.stored()
        try paper.run(
            NodePlan(stored: stored, node: "gw1", devices: devices, actual: LIOState(), opening: false).actions)
        #expect(paper.state.targets[Sample.iqn]?[1]?.enabled == false)
        #expect(NodePlan(stored: stored, node: "gw1", devices: devices, actual: paper.state, opening: false).isEmpty)
        _ = try paper.converge(stored, "gw1", devices)
        #expect(paper.state.targets[Sample.iqn]?[1]?.enabled == true)
        // Nor are they closed by it.
        #expect(NodePlan(stored: stored, node: "gw1", devices: devices, actual: paper.state, opening: false).isEmpty)
    }

    @Test func theOwnPortOpensLast() throws {
        let plan = NodePlan(stored: try Sample.stored(), node: "gw1", devices: devices, actual: LIOState())
        let last = try #require(plan.actions.last)
        #expect(last.operation == .write("target/iscsi/\(Sample.iqn)/tpgt_1/enable", value: "1"))
        #expect(plan.actions.filter { $0.operation.path.hasSuffix("tpgt_2/enable") }.isEmpty)
    }

    @Test func hostsGetTheirLUNsAndCHAP() throws {
        var paper = PaperTree()
        _ = try paper.converge(try Sample.stored(), "gw1", devices)
        for tag in [1, 2] {
            let tpg = try #require(paper.state.targets[Sample.iqn]?[tag])
            let a = try #require(tpg.acls["iqn.1993-08.org.debian:01:a"])
            #expect(a.luns.keys.sorted() == [0])
            #expect(a.attributes == ["authentication": "1", "nopin_timeout": "3", "nopin_response_timeout": "3"])
            #expect(a.auth["password"]?.revealed == "twelve-chars")
            #expect(a.auth["userid_mutual"]?.revealed == "bob")
            let b = try #require(tpg.acls["iqn.1993-08.org.debian:01:b"])
            #expect(b.luns.keys.sorted() == [0, 7])
            #expect(b.attributes["authentication"] == "0")
            #expect(b.auth.isEmpty)
            // Only one of the two hosts has CHAP: their ACLs decide.
            #expect(tpg.attributes["authentication"] == "0")
            #expect(tpg.attributes["generate_node_acls"] == "0")
            #expect(tpg.attributes["demo_mode_discovery"] == "0")
        }
    }

    @Test func whereAllHaveCHAPThePortDemandsIt() throws {
        let stored = try Sample.stored { $0.hosts.remove(at: 1) }
        var paper = PaperTree()
        _ = try paper.converge(stored, "gw1", devices)
        #expect(paper.state.targets[Sample.iqn]?[1]?.attributes["authentication"] == "1")
    }

    /// A secret must be set before the host sees a LUN, and must not be in any description.
    @Test func secretsComeFirstAndAreNotTold() throws {
        let plan = NodePlan(stored: try Sample.stored(), node: "gw1", devices: devices, actual: LIOState())
        let host = "tpgt_1/acls/iqn.1993-08.org.debian:01:a"
        let secret = try #require(plan.actions.firstIndex { $0.operation.path.hasSuffix("\(host)/auth/password") })
        let required = try #require(
            plan.actions.firstIndex { $0.operation.path.hasSuffix("\(host)/attrib/authentication") })
        let shown = try #require(plan.actions.firstIndex { $0.operation.path.contains("\(host)/lun_0/") })
        #expect(secret < shown && required < shown)
        #expect(!plan.actions.contains { "\($0)".contains("twelve-chars") || $0.description.contains("twelve-chars") })
        // The step that shows the LUN is skipped if the host's object failed: same object, one level in.
        #expect(plan.actions[shown].object.starts(with: plan.actions[secret].object))
    }

    @Test func openToHostsForgetsTheHostsLetIn() throws {
        var paper = PaperTree()
        _ = try paper.converge(try Sample.stored { $0.targets[0].access = .open }, "gw1", devices)
        #expect(paper.state.targets[Sample.iqn]?[1]?.attributes["cache_dynamic_acls"] == "1")
        #expect(paper.state.targets[Sample.iqn]?[1]?.acls.isEmpty == true)
        let plan = try paper.converge(try Sample.stored(), "gw1", devices)
        #expect(plan.actions.contains { $0.operation == .removeDirectory("target/iscsi/\(Sample.iqn)/tpgt_1") })
        #expect(paper.state.targets[Sample.iqn]?[1]?.enabled == true)
    }

    @Test func aChangedSerialMakesTheBackstoreAnew() throws {
        var paper = PaperTree()
        let stored = try Sample.stored()
        _ = try paper.converge(stored, "gw1", devices)
        var changed = stored
        changed.config.luns[1].serial = "fedcba9876543210"
        let plan = try paper.converge(changed, "gw1", devices)
        #expect(paper.state.backstores["iblock_7/clio-default-lun7"]?.serial == "fedcba9876543210")
        // LUN 0 is not touched.
        #expect(!plan.actions.contains { $0.operation.path.contains("lun0") || $0.operation.path.contains("lun_0") })
    }

    @Test func adding250thLUNTouchesOnlyIt() throws {
        var group = try Sample.group()
        group.luns = (0..<250).map { LogicalUnit(lun: $0, image: "rbd/i\($0)") }
        group.hosts[0].luns = nil
        let images = Dictionary(
            uniqueKeysWithValues: (0..<250).map { ("rbd/i\($0)", ImageIdentity(poolID: 1, imageID: "\($0)")) })
        let devices = Dictionary(uniqueKeysWithValues: (0..<250).map { ($0, "/dev/rbd\($0)") })
        let whole = try group.completed(fsid: "f", images: images, previous: nil)
        var fewer = whole
        fewer.luns.removeLast()
        let before = try #require(try StoredGroup(creating: "default").applying(fewer))
        let after = try #require(try before.applying(whole))
        var paper = PaperTree()
        try paper.run(NodePlan(stored: before, node: "gw1", devices: devices, actual: LIOState()).actions)
        let plan = NodePlan(stored: after, node: "gw1", devices: devices, actual: paper.state)
        #expect(plan.actions.allSatisfy { $0.operation.path.contains("249") })
        #expect(plan.actions.count < 40)
    }

    @Test func aLUNWhoseImageIsGoneIsLeftAlone() throws {
        var paper = PaperTree()
        let stored = try Sample.stored()
        _ = try paper.converge(stored, "gw1", devices)
        #expect(NodePlan(stored: stored, node: "gw1", devices: [0: "/dev/rbd0"], actual: paper.state).isEmpty)
        // On a fresh node, the others are built.
        var fresh = PaperTree()
        _ = try fresh.converge(stored, "gw1", [0: "/dev/rbd0"])
        #expect(fresh.state.targets[Sample.iqn]?[1]?.luns.keys.sorted() == [0])
        #expect(fresh.state.targets[Sample.iqn]?[1]?.enabled == true)
        // And it joins once it is back.
        _ = try fresh.converge(stored, "gw1", devices)
        #expect(fresh.state.targets[Sample.iqn]?[1]?.luns.keys.sorted() == [0, 7])
    }

    @Test func whatTheConfigNoLongerHasGoes() throws {
        var paper = PaperTree()
        let stored = try Sample.stored()
        _ = try paper.converge(stored, "gw1", devices)
        var group = stored.config
        group.luns.remove(at: 1)
        group.hosts.remove(at: 1)
        group.nodes.remove(at: 1)
        let next = try #require(try stored.applying(group))
        _ = try paper.converge(next, "gw1", [0: "/dev/rbd0"])
        let state = paper.state
        #expect(state.backstores.keys.sorted() == ["iblock_0/clio-default-lun0"])
        #expect(state.hbas.keys.sorted() == ["iblock_0"])
        #expect(state.targets[Sample.iqn]?.keys.sorted() == [1])
        #expect(state.targets[Sample.iqn]?[1]?.acls.count == 1)
        // The node that left has nothing.
        var other = PaperTree()
        _ = try other.converge(stored, "gw2", devices)
        try other.run(NodePlan(stored: next, node: "gw2", devices: [:], actual: other.state).actions)
        #expect(other.state == LIOState())
    }

    @Test func removingWorksWithAndWithoutTheConfig() throws {
        let stored = try Sample.stored()
        for known in [stored, nil] {
            var paper = PaperTree()
            _ = try paper.converge(stored, "gw1", devices)
            try paper.run(NodePlan(removing: "default", stored: known, actual: paper.state).actions)
            #expect(paper.state == LIOState())
        }
    }

    @Test func aPortalThatMovesLeavesFirst() throws {
        var paper = PaperTree()
        let stored = try Sample.stored()
        _ = try paper.converge(stored, "gw1", devices)
        var group = stored.config
        group.nodes[0].portals = ["10.77.0.12"]
        group.nodes[1].portals = ["10.77.0.11"]
        let next = try #require(try stored.applying(group))
        let plan = try paper.converge(next, "gw1", devices)
        let first = try #require(
            plan.actions.firstIndex { if case .makeDirectory = $0.operation { true } else { false } })
        #expect(
            plan.actions[..<first].allSatisfy { if case .removeDirectory = $0.operation { true } else { false } })
    }

    // MARK: Foreign objects

    /// What another tool made: a backstore, a target that exports it, and an empty target.
    private func foreign() -> LIOState {
        LIOState(
            backstores: [
                "iblock_3/disk": .init(hba: "iblock_3", name: "disk"),
                "iblock_3/clio-other-lun0": .init(hba: "iblock_3", name: "clio-other-lun0"),
            ], hbas: ["iblock_3": 2],
            targets: [
                "iqn.2026-11.example.admin:disk": [
                    1: .init(enabled: true, luns: [0: .init(link: "x", backstore: "iblock_3/disk")])
                ],
                "iqn.2026-11.example.admin:empty": [:],
                "iqn.2026-11.example.clio:other": [
                    1: .init(enabled: true, luns: [0: .init(link: "x", backstore: "iblock_3/clio-other-lun0")])
                ],
            ])
    }

    @Test func whatIsNotOursIsNotTouched() throws {
        let foreign = foreign()
        let stored = try Sample.stored()
        let plans = [
            NodePlan(stored: stored, node: "gw1", devices: devices, actual: foreign),
            NodePlan(removing: "default", stored: stored, actual: foreign),
            NodePlan(removing: "default", stored: nil, actual: foreign),
        ]
        for plan in plans {
            #expect(
                !plan.actions.contains { $0.operation.path.contains("admin") || $0.operation.path.contains("iblock_3") }
            )
            #expect(!plan.actions.contains { $0.operation.path.contains("other") })
            #expect(plan.conflicts.isEmpty)
        }
        #expect(plans[1].actions.isEmpty && plans[2].actions.isEmpty)
    }

    @Test func aForeignTargetOfTheSameNameIsAConflict() throws {
        var actual = foreign()
        actual.targets[Sample.iqn] = actual.targets["iqn.2026-11.example.admin:disk"]
        let stored = try Sample.stored()
        let plan = NodePlan(stored: stored, node: "gw1", devices: devices, actual: actual)
        #expect(plan.conflicts.count == 1)
        #expect(plan.conflicts[0].contains("iblock_3/disk"))
        #expect(!plan.actions.contains { $0.operation.path.contains("target/iscsi/\(Sample.iqn)") })
        let down = NodePlan(removing: "default", stored: stored, actual: actual)
        #expect(down.actions.isEmpty)
        #expect(down.conflicts.count == 1)
    }

    /// A target somebody made over one of our backstores is theirs: removing the backstore will fail and name it.
    @Test func aForeignTargetOverOurBackstoreStays() throws {
        var actual = foreign()
        actual.backstores["iblock_0/clio-default-lun0"] = .init(hba: "iblock_0", name: "clio-default-lun0")
        actual.hbas["iblock_0"] = 1
        actual.targets["iqn.2026-11.example.admin:over"] = [
            1: .init(enabled: true, luns: [0: .init(link: "x", backstore: "iblock_0/clio-default-lun0")])
        ]
        let plan = NodePlan(removing: "default", stored: try Sample.stored(), actual: actual)
        #expect(
            plan.actions.map(\.operation) == [
                .removeDirectory("target/core/iblock_0/clio-default-lun0"), .removeDirectory("target/core/iblock_0"),
            ])
    }

    @Test func namesOfGroupsDoNotMix() {
        #expect(NodePlan.lun(ofBackstore: "clio-a-lun7", group: "a") == 7)
        #expect(NodePlan.lun(ofBackstore: "clio-a-lun1-lun7", group: "a") == nil)
        #expect(NodePlan.lun(ofBackstore: "clio-a-lun1-lun7", group: "a-lun1") == 7)
        #expect(NodePlan.lun(ofBackstore: "clio-a-lun", group: "a") == nil)
        #expect(NodePlan.lun(ofBackstore: "clio-a-lun7x", group: "a") == nil)
    }

    @Test func aPortThatIsAPeersIsClosedHere() throws {
        var paper = PaperTree()
        let stored = try Sample.stored()
        _ = try paper.converge(stored, "gw1", devices)
        // The same machine comes back under the other name.
        _ = try paper.converge(stored, "gw2", devices)
        #expect(paper.state.targets[Sample.iqn]?[1]?.enabled == false)
        #expect(paper.state.targets[Sample.iqn]?[2]?.enabled == true)
    }
}
