// SPDX-License-Identifier: Apache-2.0

import Foundation
import Initiator
import Lab
import Synchronization
import Testing

extension GatewayTests {
    /// `clio top` in a terminal of tmux's, on both gateways' measurements.
    @Suite(.serialized) struct Top {
        let cluster: LiveCluster
        let clio: String
        let places: [String]

        init() throws {
            cluster = try LiveCluster.current
            clio = try cluster.lab.executable("clio")
            places = cluster.gateways.map { "\($0.address):\(Lab.metricsPort)" }
        }

        /// Reads through the first gateway while `body` runs, for a minute at most.
        private func underLoad(_ body: () async throws -> Void) async throws {
            let (portal, target, netns) = (cluster.portals[0], cluster.target, cluster.description.netns)
            let stop = Flag()
            let load = Task {
                try await blocking(in: netns) {
                    let session = try ISCSISession(portal: portal, target: target)
                    try session.ready()
                    let end = ContinuousClock.now + .seconds(60)
                    while !stop.isSet.load(ordering: .relaxed), ContinuousClock.now < end {
                        _ = try session.good(.read(0, blocks: 8))
                    }
                }
            }
            let result: Result<Void, any Error>
            do { result = .success(try await body()) } catch { result = .failure(error) }
            stop.isSet.store(true, ordering: .relaxed)
            try await load.value
            try result.get()
        }

        private final class Flag: Sendable { let isSet = Atomic(false) }

        @Test func liveInATerminal() async throws {
            for node in cluster.gateways { try await cluster.restartDaemon(node.name) }
            let socket = "clio-top-\(ProcessInfo.processInfo.processIdentifier)"
            func tmux(_ arguments: String...) async throws -> String {
                try await cluster.lab.hostCheck(["tmux", "-L", socket, "-f", "/dev/null"] + arguments)
            }
            _ = try await tmux("new-session", "-d", "-x", "110", "-y", "30", "sh")
            let result: Result<Void, any Error>
            do {
                result = .success(try await underLoad { try await look(tmux) })
            } catch { result = .failure(error) }
            _ = try await tmux("kill-server")
            try result.get()
        }

        private func look(_ tmux: (String...) async throws -> String) async throws {
            let command = "\(clio) top --interval 1" + places.map { " --from \($0)" }.joined()
            _ = try await tmux("send-keys", "PS1='# '; clear; \(command); echo status $?", "Enter")
            var screen = ""
            func eventually(_ condition: (String) -> Bool) async throws -> Bool {
                for _ in 0..<60 {
                    screen = try await tmux("capture-pane", "-p")
                    if condition(screen) { return true }
                    try await Task.sleep(for: .milliseconds(250))
                }
                return false
            }
            func rate(_ screen: String) -> Double {
                let words = screen.split(separator: "\n").first { $0.contains("rbd/lun0") }?.split(separator: " ") ?? []
                return words.count > 2 ? Double(words[2]) ?? 0 : 0
            }
            #expect(try await eventually { rate($0) > 0 }, "\(screen)")
            #expect(screen.hasPrefix("clio top  group default"), "\(screen)")
            for node in cluster.gateways {
                let line = try Regex("\(node.name) +serving +[0-9.]+ +[0-9.]+ +[0-9]+")
                #expect(screen.contains(line), "\(screen)")
            }
            // A terminal that shrinks has a smaller picture.
            _ = try await tmux("resize-window", "-x", "60", "-y", "8")
            #expect(
                try await eventually { screen in
                    screen.contains("clio top") && screen.split(separator: "\n").allSatisfy { $0.count <= 60 }
                }, "\(screen)")
            _ = try await tmux("send-keys", "s")
            _ = try await tmux("send-keys", "q")
            #expect(try await eventually { $0.contains("status 0") }, "\(screen)")
            #expect(!screen.contains("clio top  group"), "the screen is what it was before")
            _ = try await tmux("send-keys", "echo typed", "Enter")
            #expect(try await eventually { $0.contains("# echo typed\ntyped") }, "\(screen)")
        }

        @Test func onceAsJSON() async throws {
            struct Output: Decodable {
                struct Node: Decodable {
                    let node: String
                    let isServing: Bool
                }
                struct LUN: Decodable {
                    let lun: Int
                    let readsPerSecond: Double
                }
                let nodes: [Node]
                let luns: [LUN]
                let silent: [String: String]
            }
            for node in cluster.gateways { try await cluster.restartDaemon(node.name) }
            let nobody = "\(cluster.gateways[0].address):1"
            let from = (places + [nobody]).flatMap { ["--from", $0] }
            try await underLoad {
                let result = try await cluster.lab.host([clio, "top", "--once", "--json", "--interval", "2"] + from)
                #expect(result.status == 0)
                #expect(result.errorText.contains("no measurements from \(nobody): connection refused"))
                let output = try JSONDecoder().decode(Output.self, from: Data(result.outputText.utf8))
                #expect(output.nodes.map(\.node) == cluster.gateways.map(\.name))
                #expect(output.nodes.allSatisfy { $0.isServing })
                #expect(output.silent == [nobody: "connection refused"])
                #expect(try #require(output.luns.first { $0.lun == 0 }).readsPerSecond > 0)
            }
        }

        @Test func withoutATerminal() async throws {
            let result = try await cluster.lab.host([clio, "top"])
            #expect(result.status == 64)
            #expect(result.errorText.contains("--once prints one picture"))
            let nobody = try await cluster.lab.host([clio, "top", "--once", "--interval", "1", "--from", "127.0.0.1:1"])
            #expect(nobody.status == 1)
            #expect(nobody.outputText.isEmpty)
        }
    }
}
