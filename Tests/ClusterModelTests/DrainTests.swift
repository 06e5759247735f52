// SPDX-License-Identifier: Apache-2.0
import ClusterModel
import Foundation
import Testing

/// Nodes that are to serve nothing.
@Suite struct DrainTests {
    private let change = StoredGroup.Change(time: 1_795_000_000, host: "desk", command: "clio node drain gw1")

    private func group() throws -> StoredGroup {
        var config = ClusterModel.Group(name: "lab")
        config.nodes = [
            Node(name: "gw1", portals: ["10.77.0.11"]), Node(name: "gw2", portals: ["10.77.0.12"]),
        ]
        return try #require(try StoredGroup(creating: "lab").applying(config))
    }

    @Test func drainAndResume() throws {
        let before = try group()
        let drained = try #require(try before.draining("gw1", by: change))
        #expect(drained.drained == ["gw1": change])
        #expect(drained.version == before.version + 1)
        #expect(before.changes(to: drained) == ["~ node gw1: drained"])
        #expect(try drained.draining("gw1", by: change) == nil)
        #expect(try StoredGroup(decoding: drained.encoded()) == drained)
        let resumed = try #require(try drained.resuming("gw1"))
        #expect(resumed.drained == nil)
        #expect(drained.changes(to: resumed) == ["~ node gw1: resumed"])
        #expect(try resumed.resuming("gw1") == nil)
    }

    /// Who applies a file does not wake a node that somebody works on; one that leaves the group is forgotten.
    @Test func staysDrainedWhateverIsApplied() throws {
        let drained = try #require(try group().draining("gw1", by: change))
        var config = drained.config
        config.nodes.append(Node(name: "gw3", portals: ["10.77.0.13"]))
        let next = try #require(try drained.applying(config))
        #expect(next.drained == ["gw1": change])
        config.nodes.removeFirst()
        let without = try #require(try next.applying(config))
        #expect(without.drained == nil)
        #expect(next.changes(to: without).contains { $0.contains("resumed") } == false)
    }

    @Test func unknownNode() throws {
        let before = try group()
        #expect(throws: EditFault.self) { try before.draining("gw9", by: change) }
        #expect(throws: EditFault.self) { try before.resuming("gw9") }
    }

    /// What others may have written.
    @Test(
        arguments: [
            (#""gw1":{"#, #""gw9":{"#, "drained"), ("desk", "de\\u001bsk", "drained.host"),
            ("1795000000", "-1", "drained.time"),
        ]) func refusesWhatItDidNotWrite(find: String, put: String, place: String) throws
    {
        let drained = try #require(try group().draining("gw1", by: change))
        let text = String(decoding: try drained.encoded(), as: UTF8.self)
        let broken = text.replacingOccurrences(of: find, with: put)
        #expect(broken != text)
        let error = #expect(throws: StoredGroup.Unreadable.self) { try StoredGroup(decoding: Array(broken.utf8)) }
        #expect(error?.description.contains(place) == true, "\(String(describing: error))")
    }
}
