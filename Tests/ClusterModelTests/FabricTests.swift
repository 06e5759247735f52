// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import ClusterModel

@Suite struct FabricTests {
    static let file = """
        group: default
        targets:
          - iqn: iqn.2026-11.example.clio:lab
            access: open
          - fabric: loopback
            name: local
            ports:
              gw1: [naa.5001405000000001]
              gw2: [naa.5001405000000002]
            luns: [0]
          - fabric: vhost
            name: machines
            ports: {gw1: [naa.5001405000000011]}
          - fabric: fc
            name: san
            ports: {gw2: [naa.21000024ff314c48, naa.21000024ff314c49]}
          - fabric: srp
            name: hpc
            ports: {gw1: [ib.fe80000000000000e41d2d0300abcdef]}
            hosts: [ib.fe80000000000000e41d2d0300000001]
        nodes:
          - {name: gw1, portals: ["10.77.0.11"]}
          - {name: gw2, portals: ["10.77.0.12"]}
        luns: [{lun: 0, image: rbd/lun0}, {lun: 7, image: rbd/ns/lun7}]
        hosts:
          - {fabric: fc, name: naa.2100001b32000001, luns: [0]}
          - {fabric: srp, name: ib.fe80000000000000e41d2d0300000001}
          - iqn: iqn.1993-08.org.debian:01:a
        """

    let devices = [0: "/dev/rbd0", 7: "/dev/rbd1"]

    private func group() throws -> Group { try GroupFile.parse(Self.file) }

    private func stored(_ group: Group? = nil) throws -> StoredGroup {
        let complete = try (group ?? self.group()).completed(fsid: "f", images: Sample.images, previous: nil)
        return try #require(try StoredGroup(creating: "default").applying(complete))
    }

    private func paper(_ node: String, _ stored: StoredGroup) throws -> PaperTree {
        var paper = PaperTree()
        _ = try paper.converge(stored, node, devices)
        return paper
    }

    // MARK: The model

    @Test func fileAndBack() throws {
        let group = try group()
        #expect(group.targets.map(\.fabric) == [.iscsi, .loopback, .vhost, .fc, .srp])
        #expect(group.targets[1].access == .open)
        #expect(group.nodes(of: group.targets[3]).map(\.name) == ["gw2"])
        #expect(group.hosts(of: group.targets[3]).map(\.iqn) == ["naa.2100001b32000001"])
        #expect(group.hosts(of: group.targets[4]).map(\.iqn) == ["ib.fe80000000000000e41d2d0300000001"])
        #expect(try GroupFile.parse(GroupFile.format(group, secrets: true)) == group)
    }

    @Test func everyPortOfEveryFabricHasANumberOfItsOwn() throws {
        let stored = try stored()
        #expect(stored.ports.map(\.number) == Array(1...8))
        #expect(stored.ports(iqn: "san", node: "gw2").map(\.wwn) == ["naa.21000024ff314c48", "naa.21000024ff314c49"])
        let again = try StoredGroup(decoding: stored.encoded())
        #expect(again == stored)

        // Another port is never found behind a number; one that returns has its own.
        var config = stored.config
        config.targets[1].ports = ["gw1": ["naa.5001405000000003"]]
        let next = try #require(try stored.applying(config))
        #expect(next.ports(iqn: "local", node: "gw1").map(\.number) == [9])
        #expect(next.ports.filter(\.retired).map(\.number) == [3, 4])
        let back = try #require(try next.applying(stored.config))
        #expect(back.ports(iqn: "local", node: "gw1").map(\.number) == [3])
    }

    @Test func iSCSIAloneIsStoredAsBefore() throws {
        let plain = try Sample.stored()
        #expect(plain.format == 1)
        let text = String(decoding: try plain.encoded(), as: UTF8.self)
        for word in ["fabric", "wwn", "ports\":{"] { #expect(!text.contains(word)) }
        // A clio that knows iSCSI only must not take other targets for its own.
        #expect(try stored().format == 2)
        var config = try stored().config
        config.targets.removeLast(4)
        config.hosts.removeFirst(2)
        let next = try #require(try stored().applying(config))
        #expect(next.format == 2, "the retired ports' numbers stay taken")
    }

    @Test(arguments: [
        ("fabric: loopback", "fabric: loopbak", "targets[1].fabric: is one of iscsi, loopback, vhost, srp, fc, not"),
        ("name: local", "iqn: local", "targets[1].iqn: stands with another fabric; with loopback it is name"),
        ("name: local", "name: \"a b\"", "targets[1].name: a target's name is 1 to 64 letters"),
        ("name: machines", "name: local", "targets[2].name: target \"local\" is already defined at targets[1].name"),
        (
            "naa.5001405000000002", "naa.5001405000000001",
            "targets[1].ports.gw2[0]: port naa.5001405000000001 is already"
        ),
        ("naa.5001405000000002", "naa.500140500000000", "targets[1].ports.gw2[0]: a loopback port is \"naa.5\" and 15"),
        ("naa.5001405000000002", "iqn.2026-11.a:b", "targets[1].ports.gw2[0]: a loopback port is"),
        (
            "naa.21000024ff314c49", "21:00:00:24:ff:31:4c:49",
            "targets[3].ports.gw2[1]: a Fibre Channel port is \"naa.\""
        ),
        (
            "ib.fe80000000000000e41d2d0300abcdef", "ib.FE80",
            "targets[4].ports.gw1[0]: an SRP port is \"ib.\" and the 32"
        ),
        ("ports: {gw1: [naa.5001405000000011]}", "access: open", "targets[2].ports: is missing; it names the ports"),
        (
            "gw1: [naa.5001405000000001]", "gw3: [naa.5001405000000001]",
            "targets[1].ports.gw3: there is no node \"gw3\""
        ),
        ("name: local", "name: local\n    nodes: [gw1]", "targets[1].nodes: is iSCSI's; here ports says"),
        ("name: local", "name: local\n    access: hosts", "targets[1].access: loopback admits whoever is on the node"),
        ("name: hpc", "name: hpc\n    access: open", "targets[4].access: LIO's SRP admits no host that is not listed"),
        (
            "hosts: [ib.fe80000000000000e41d2d0300000001]", "hosts: [iqn.1993-08.org.debian:01:a]",
            "targets[4].hosts[0]: there is no host \"iqn.1993-08.org.debian:01:a\""
        ),
        ("luns: [0]}", "chap: {user: a, password: twelve-chars}}", "hosts[0].chap: is iSCSI's; fc has no CHAP"),
        ("fabric: fc, name: naa", "fabric: vhost, name: naa", "hosts[0].name: vhost has no hosts to list"),
        ("access: open\n", "access: open\n    ports: {gw1: [a]}\n", "targets[0].ports: an iSCSI target has portals"),
    ])
    func faultsAreTold(old: String, new: String, expected: String) throws {
        let text = Self.file.replacing(old, with: new)
        #expect(text != Self.file)
        let error = #expect(throws: InvalidGroup.self) { try GroupFile.parse(text) }
        #expect(error?.problems.contains { $0.text.hasPrefix(expected) } == true, "\(error?.description ?? "")")
    }

    @Test func aNodeOfOtherFabricsNeedsNoPortal() throws {
        let text = """
            target: {fabric: loopback, name: local, ports: {gw1: [naa.5001405000000001]}}
            nodes: [{name: gw1}]
            luns: [{lun: 0, image: rbd/lun0}]
            """
        #expect(try GroupFile.parse(text).targets[0].fabric == .loopback)
    }

    // MARK: Plans

    /// Ports by number: folder under `target/` and relative target port identifier.
    private func places(_ state: LIOState) -> [Int: String] {
        var places: [Int: String] = [:]
        for (tag, tpg) in state.targets[Sample.iqn] ?? [:] { places[tpg.rtpi] = "iscsi tpgt_\(tag)" }
        for (folder, names) in state.fabrics {
            for (name, tpgs) in names { for tpg in tpgs.values { places[tpg.rtpi] = "\(folder) \(name)" } }
        }
        return places
    }

    @Test func everyNodeHasThePortsOfAllFabrics() throws {
        let stored = try stored()
        #expect(
            places(try paper("gw1", stored).state) == [
                1: "iscsi tpgt_1", 2: "iscsi tpgt_2", 3: "loopback naa.5001405000000001",
                4: "remote naa.5001405000000002", 5: "vhost naa.5001405000000011",
                6: "remote fc.21:00:00:24:ff:31:4c:48", 7: "remote fc.21:00:00:24:ff:31:4c:49",
                8: "srpt 0xfe80000000000000e41d2d0300abcdef",
            ])
        #expect(
            places(try paper("gw2", stored).state) == [
                1: "iscsi tpgt_1", 2: "iscsi tpgt_2", 3: "remote naa.5001405000000001",
                4: "loopback naa.5001405000000002", 5: "remote naa.5001405000000011",
                6: "qla2xxx 21:00:00:24:ff:31:4c:48", 7: "qla2xxx 21:00:00:24:ff:31:4c:49",
                8: "remote 0xfe80000000000000e41d2d0300abcdef",
            ])
        for node in ["gw1", "gw2"] {
            let state = try paper(node, stored).state
            let groups = state.backstores["iblock_0/clio-default-lun0"]?.portGroups.keys.sorted()
            #expect(groups == stored.ports.map { "port\($0.number)" }.sorted())
            for tpgs in state.fabrics.values.flatMap(\.values) {
                for tpg in tpgs.values { #expect(tpg.luns.values.allSatisfy { $0.portGroup == "port\(tpg.rtpi)" }) }
            }
        }
    }

    @Test func localPortsShowTheirLUNsOnceTheyMayOpen() throws {
        var paper = PaperTree()
        let stored = try stored()
        func luns(_ folder: String) -> [Int]? {
            paper.state.fabrics[folder]?.values.first?[1]?.luns.keys.sorted()
        }
        let closed = NodePlan(stored: stored, node: "gw1", devices: devices, actual: paper.state, opening: false)
        try paper.run(closed.actions)
        #expect(luns("loopback") == [] && luns("vhost") == [])
        #expect(paper.state.fabrics["loopback"]?["naa.5001405000000001"]?[1]?.nexus == "naa.3001405000000001")
        #expect(paper.state.fabrics["srpt"]?.values.first?[1]?.enabled == false)
        // Peers' ports are complete: they are what hosts are told of.
        let remote = try #require(paper.state.fabrics["remote"])
        #expect(remote.values.allSatisfy { $0[1]?.luns.isEmpty == false })
        #expect(NodePlan(stored: stored, node: "gw1", devices: devices, actual: paper.state, opening: false).isEmpty)
        _ = try paper.converge(stored, "gw1", devices)
        #expect(luns("loopback") == [0] && luns("vhost") == [0, 7])
        #expect(paper.state.fabrics["srpt"]?.values.first?[1]?.enabled == true)
        // What is shown stays.
        #expect(NodePlan(stored: stored, node: "gw1", devices: devices, actual: paper.state, opening: false).isEmpty)
    }

    @Test func hostsOfFibreChannelAndSRP() throws {
        let fc = try #require(try paper("gw2", stored()).state.fabrics["qla2xxx"]?["21:00:00:24:ff:31:4c:48"]?[1])
        #expect(fc.enabled)
        #expect(fc.acls["21:00:00:1b:32:00:00:01"]?.luns.keys.sorted() == [0])
        #expect(fc.attributes["generate_node_acls"] == "0" && fc.attributes["prod_mode_write_protect"] == "0")
        #expect(fc.acls.values.allSatisfy { $0.attributes.isEmpty && $0.auth.isEmpty }, "pings and CHAP are iSCSI's")
        let srp = try #require(try paper("gw1", stored()).state.fabrics["srpt"]?.values.first?[1])
        #expect(srp.acls.keys.sorted() == ["0xfe80000000000000e41d2d0300000001"])
        #expect(srp.acls.values.first?.luns.keys.sorted() == [0, 7])
        #expect(srp.attributes.isEmpty)
        // Over Ethernet SRP connects by RDMA/CM; a port that somebody chose stays.
        #expect(try paper("gw1", stored()).state.connectionPort == 5555)
        var theirs = LIOState()
        theirs.connectionPort = 4420
        let plan = NodePlan(stored: try stored(), node: "gw1", devices: devices, actual: theirs)
        #expect(!plan.actions.contains { $0.operation.path.hasSuffix("rdma_cm_port") })

        var group = try group()
        group.targets[3].access = .open
        let open = try #require(try paper("gw2", stored(group)).state.fabrics["qla2xxx"]?.values.first?[1])
        #expect(open.acls.isEmpty)
        #expect(open.attributes["generate_node_acls"] == "1" && open.attributes["demo_mode_login_only"] == "0")
    }

    @Test func peersPortsAreThereForTheLUNsOfTheNodeOnly() throws {
        var group = try group()
        // gw2 serves LUN 7 by Fibre Channel alone; gw1's iSCSI target shows it as well.
        group.targets = [group.targets[0], group.targets[3]]
        group.targets[0].nodes = ["gw1"]
        group.targets[1].luns = [7]
        group.hosts = group.hosts.map { host in
            var host = host
            host.luns = nil
            return host
        }
        let state = try paper("gw2", stored(group)).state
        #expect(state.targets.isEmpty)
        let away = try #require(state.fabrics["remote"]?["\(Sample.iqn),t,1"]?[1])
        #expect(away.rtpi == 1 && away.luns.keys.sorted() == [7])
        #expect(state.backstores.keys.sorted() == ["iblock_7/clio-default-lun7"])
        #expect(state.backstores.values.first?.portGroups.keys.sorted() == ["port1", "port2", "port3"])
    }

    @Test(arguments: ["gw1", "gw2"])
    func allOfItGoesAgain(node: String) throws {
        let stored = try stored()
        var known = try paper(node, stored)
        var unknown = known
        try known.run(NodePlan(removing: "default", stored: stored, actual: known.state).actions)
        try unknown.run(NodePlan(removing: "default", stored: nil, actual: unknown.state).actions)
        for state in [known.state, unknown.state] {
            #expect(state.backstores.isEmpty && state.targets.isEmpty)
            #expect(state.fabrics.values.allSatisfy { $0.isEmpty })
        }
    }

    @Test func whatAnotherToolMadeIsLeftAlone() throws {
        let stored = try stored()
        var state = LIOState()
        let foreign = LIOState.TPG(luns: [0: .init(link: "x", backstore: "iblock_9/theirs")])
        state.fabrics["loopback"] = ["naa.5001405000000001": [1: foreign], "naa.5001405999999999": [1: foreign]]
        state.fabrics["remote"] = [:]
        let plan = NodePlan(stored: stored, node: "gw1", devices: devices, actual: state)
        #expect(plan.conflicts.count == 1)
        #expect(plan.conflicts.first?.hasPrefix("target loopback naa.5001405000000001 exists and exports") == true)
        #expect(!plan.actions.contains { $0.operation.path.hasPrefix("target/loopback/") })
        #expect(NodePlan(removing: "default", stored: stored, actual: state).actions.isEmpty)
    }

    @Test func aPortThatGoesTakesItsFolderAlong() throws {
        let first = try stored()
        var config = first.config
        config.targets[1].ports?["gw2"] = nil
        let next = try #require(try first.applying(config))
        for node in ["gw1", "gw2"] {
            var paper = try paper(node, first)
            _ = try paper.converge(next, node, devices)
            #expect(places(paper.state)[4] == nil)
            #expect(paper.state.backstores.values.allSatisfy { $0.portGroups["port4"] == nil })
        }
        // A node that leaves takes nothing of another's.
        config.targets = [config.targets[1]]
        config.hosts = []
        var gone = try paper("gw2", first)
        _ = try gone.converge(try #require(try next.applying(config)), "gw2", [:])
        #expect(gone.state.fabrics.values.allSatisfy { $0.isEmpty } && gone.state.backstores.isEmpty)
    }

    // MARK: Discovery

    @Test func discoveryAsksForCredentials() throws {
        let plain = try Sample.stored()
        let chap = CHAP(
            user: "finder", password: Secret("who-may-look"), mutualUser: "clio", mutualPassword: Secret("it-is-clio-1")
        )
        var config = plain.config
        config.discovery = chap
        #expect(try GroupFile.parse(GroupFile.format(config, secrets: true)).discovery == chap)
        #expect(try GroupFile.parse(GroupFile.format(config), secretsOf: config).discovery == chap)
        #expect(!GroupFile.format(config).contains("who-may-look"))
        let asking = try #require(try plain.applying(config))
        #expect(plain.changes(to: asking) == ["+ discovery: CHAP credentials"])
        #expect(asking.format == 2, "an older clio would let everyone look")

        var paper = PaperTree()
        let plan = try paper.converge(asking, "gw1", devices)
        #expect(paper.state.discovery.enforced)
        #expect(paper.state.discovery.auth["password_mutual"]?.revealed == "it-is-clio-1")
        #expect(!plan.actions.contains { "\($0)".contains("who-may-look") })

        // Taken out of the group, or the node out of it, it goes; what is not the group's stays.
        let silent = try #require(try asking.applying(plain.config))
        var other = paper
        _ = try other.converge(silent, "gw1", devices)
        #expect(!other.state.discovery.enforced && other.state.discovery.auth["userid"]?.revealed == "NULL")
        try paper.run(NodePlan(removing: "default", stored: asking, actual: paper.state).actions)
        #expect(!paper.state.discovery.enforced)
        var theirs = LIOState()
        theirs.discovery = .init(enforced: true, auth: ["userid": Secret("theirs")])
        let left = NodePlan(stored: plain, node: "gw1", devices: devices, actual: theirs)
        #expect(!left.actions.contains { $0.operation.path.contains("discovery_auth") })
    }

    @Test func discoverysSecretsAreCheckedAsHostsAre() throws {
        let text = Sample.file + "\ndiscovery: {user: a, password: short}\n"
        let error = #expect(throws: InvalidGroup.self) { try GroupFile.parse(text) }
        #expect(error?.problems.map(\.path) == ["discovery.password"])
    }
}
