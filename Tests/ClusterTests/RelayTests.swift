// SPDX-License-Identifier: Apache-2.0

import Foundation
import Initiator
import Lab
import Testing

extension GatewayTests {
    /// Nodes that come, go, and lose their relay.
    @Suite(.serialized) struct Relays {
        let cluster: LiveCluster
        let clio: String

        init() throws {
            cluster = try LiveCluster.current
            clio = try cluster.lab.executable("clio")
        }

        /// The state that the first gateway's port tells of each port, by number; nil if a unit attention about a change of
        /// just these came instead.
        private func portStates() async -> [UInt16: UInt8]? {
            let (portal, target) = (cluster.portals[0], cluster.target)
            return try? await blocking(in: cluster.description.netns) {
                let session = try ISCSISession(portal: portal, target: target)
                let groups = try Identity(session: session).portGroups
                return Dictionary(
                    groups.flatMap { group in group.ports.map { ($0, group.state) } }, uniquingKeysWith: { $1 })
            }
        }

        private func eventually(
            within limit: Duration = .seconds(5), _ condition: () async throws -> Bool
        ) async throws -> Bool {
            let end = ContinuousClock.now + limit
            while ContinuousClock.now < end {
                if try await condition() { return true }
                try await Task.sleep(for: .milliseconds(100))
            }
            return try await condition()
        }

        private static let active: UInt8 = 0
        private static let unavailable: UInt8 = 3

        @Test func everyNodeIsAMember() async throws {
            let first = try await cluster.status().members
            #expect(first.map(\.node) == ["gw1", "gw2"])
            #expect(first.allSatisfy { $0.state == "up" && $0.report?.phase == "serving" })
            let beats = first.compactMap(\.beat)
            try await Task.sleep(for: .seconds(3))
            let later = try await cluster.status(from: "gw2").members.compactMap(\.beat)
            #expect(zip(beats, later).allSatisfy { $0.0 < $0.1 }, "\(beats) \(later)")
        }

        /// A relay that is back within the lease: the session stays, and no command waits for it.
        @Test func restartGoesUnnoticed() async throws {
            let before = try #require(try await cluster.status().members.first { $0.node == "gw1" }?.report)
            let portal = cluster.portals[0]
            let target = cluster.target
            let writing = Task {
                try await blocking(in: cluster.description.netns) { () throws -> Duration in
                    let session = try ISCSISession(portal: portal, target: target)
                    try session.ready()
                    var longest = Duration.zero
                    let end = ContinuousClock.now + .seconds(8)
                    while ContinuousClock.now < end {
                        let start = ContinuousClock.now
                        _ = try session.good(.read(0, blocks: 8))
                        longest = max(longest, ContinuousClock.now - start)
                    }
                    return longest
                }
            }
            try await Task.sleep(for: .seconds(1))
            try await cluster.lab.killDaemon("gw1")
            // systemd waits for 100 ms; on a busy machine it takes cliod seconds to begin.
            try await Task.sleep(for: .milliseconds(500))
            try await cluster.lab.startDaemon("gw1")
            let longest = try await writing.value
            #expect(longest < .seconds(1))
            let after = try #require(try await cluster.status().members.first { $0.node == "gw1" }?.report)
            #expect(after.instance == before.instance)
            #expect(after.epoch == before.epoch, "the same lease")
        }

        /// Without a relay the lease ends, and no command is served any more; a relay brings it all back.
        @Test func withoutARelayNothingIsServed() async throws {
            let before = try #require(try await cluster.status().members.first { $0.node == "gw2" })
            try await cluster.lab.killDaemon("gw2")
            try await Task.sleep(for: .seconds(6))
            let (portal, target) = (cluster.portals[1], cluster.target)
            let served = try await blocking(in: cluster.description.netns) {
                (try? ISCSISession(portal: portal, target: target, timeout: 3).good(.read(0, blocks: 1))) != nil
            }
            #expect(!served)
            #expect(try await eventually(within: .seconds(10)) { await portStates()?[2] == Self.unavailable })
            try await cluster.lab.startDaemon("gw2")
            let node = try #require(cluster.gateways.last)
            try await cluster.lab.waitUntilServed(node)
            #expect(try await eventually { await portStates() == [1: Self.active, 2: Self.active] })
            let after = try #require(try await cluster.status().members.first { $0.node == "gw2" })
            #expect(after.state == "up")
            #expect(after.report?.instance != before.report?.instance, "it was fenced, and is a new instance")
        }

        /// Its record is gone, its ports are unavailable to whoever asks the others, and it comes back as if nothing was.
        @Test func leavesInOrder() async throws {
            try await cluster.exec("gw2", clio, "node", "down")
            #expect(try await cluster.status().members.map(\.state) == ["up", "absent"])
            #expect(try await eventually { await portStates() == [1: Self.active, 2: Self.unavailable] })
            #expect(try await eventually { try await cluster.lab.exec("gw2", ["pgrep", "-x", "cliod"]).status != 0 })
            try await cluster.exec("gw2", clio, "node", "up")
            #expect(try await cluster.status().members.map(\.state) == ["up", "up"])
            #expect(try await eventually { await portStates() == [1: Self.active, 2: Self.active] })
        }

        @Test func timesAndWhatFollows() async throws {
            let text = try await cluster.exec("gw1", clio, "timing")
            #expect(text.contains("F = 10 s"))
            #expect(text.contains("node.session.timeo.replacement_timeout = 10"))
            let json = try await cluster.exec("gw1", clio, "timing", "--json")
            #expect(json.contains("\"RecoveryTimeout = 10\""))
        }
    }
}
