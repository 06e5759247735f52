// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import ClusterModel

extension LIOState {
    /// What a reader leaves that looks at these LUNs only.
    fileprivate func only(_ scope: Set<Int>, group: String) -> LIOState {
        var state = self
        state.backstores = backstores.filter {
            NodePlan.lun(ofBackstore: $0.value.name, group: group).map(scope.contains) ?? true
        }
        state.hbas = hbas.filter { Int($0.key.dropFirst("iblock_".count)).map(scope.contains) ?? true }
        func narrowed(_ tpgs: [Int: TPG]) -> [Int: TPG] {
            tpgs.mapValues { tpg in
                var tpg = tpg
                tpg.luns = tpg.luns.filter { scope.contains($0.key) }
                tpg.acls = tpg.acls.mapValues { acl in
                    ACL(attributes: acl.attributes, auth: acl.auth, luns: acl.luns.filter { scope.contains($0.key) })
                }
                return tpg
            }
        }
        state.targets = targets.mapValues(narrowed)
        state.fabrics = fabrics.mapValues { $0.mapValues(narrowed) }
        return state
    }
}

/// A change of some LUNs is planned without a look at the others.
@Suite struct ScopeTests {
    /// Adds, removes and replaces LUNs at random, with a host that sees some of them.
    private static func change(_ group: inout Group, _ random: inout SystemRandomNumberGenerator) {
        for lun in 1...6 where Bool.random(using: &random) {
            let image = "rbd/image\(lun)-\(Int.random(in: 0...1, using: &random))"
            group.luns.removeAll { $0.lun == lun }
            if Bool.random(using: &random) {
                group.luns.append(
                    LogicalUnit(lun: lun, image: image, serial: "000000000000000\(lun)", imageID: image))
            }
        }
    }

    @Test func aPartOfThePlanIsThePlan() throws {
        var random = SystemRandomNumberGenerator()
        var stored = try Sample.stored()
        stored.config.hosts[0].luns = [0, 2, 4]
        var paper = PaperTree()
        func devices(_ group: Group) -> [Int: String] {
            Dictionary(uniqueKeysWithValues: group.luns.map { ($0.lun, "/dev/\($0.image)") })
        }
        _ = try paper.converge(stored, "gw1", devices(stored.config))
        var planned = 0
        for _ in 0..<100 {
            var next = stored
            next.version += 1
            Self.change(&next.config, &random)
            let scope = try #require(next.changedLUNs(since: stored))
            let all = NodePlan(stored: next, node: "gw1", devices: devices(next.config), actual: paper.state)
            let part = NodePlan(
                stored: next, node: "gw1", devices: devices(next.config).filter { scope.contains($0.key) },
                actual: paper.state.only(scope, group: "default"), scope: scope)
            #expect(part.actions == all.actions)
            #expect(part.concernsLUNsOnly)
            #expect(part.counts == all.counts)
            planned += part.actions.count
            try paper.run(part.actions)
            stored = next
        }
        #expect(planned > 1000)
    }

    @Test func whatElseDiffersConcernsEverything() throws {
        let stored = try Sample.stored()
        var next = stored
        next.version += 1
        next.change = .init(time: 1, host: "a", command: "b")
        #expect(next.changedLUNs(since: stored) == [])
        next.config.luns[0].image += "x"
        #expect(next.changedLUNs(since: stored) == [stored.config.luns[0].lun])
        var other = next
        other.config.hosts[0].luns = []
        #expect(other.changedLUNs(since: stored) == nil)
        other = next
        other.config.timing.lease += 1
        #expect(other.changedLUNs(since: stored) == nil)
        other = next
        other.ports[0].retired = true
        #expect(other.changedLUNs(since: stored) == nil)
    }

    /// A port that somebody took away is found missing.
    @Test func whatIsMissingIsSeen() throws {
        let stored = try Sample.stored()
        let plan = NodePlan(
            stored: stored, node: "gw1", devices: [0: "/dev/rbd0"], actual: LIOState(), scope: [0])
        #expect(!plan.concernsLUNsOnly)
    }
}
