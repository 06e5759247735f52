// SPDX-License-Identifier: Apache-2.0

import Foundation
import Initiator
import Lab
import Testing

/// All live tests: one after the other, on one cluster that comes up before the first and goes after the last.
@Suite(.serialized, .cluster, .cleanConsoles)
enum GatewayTests {}

/// The cluster the live tests run on.
struct LiveCluster: Sendable {
    let lab: Lab
    let description: LabDescription

    /// The cluster of the test that is running.
    static var current: LiveCluster {
        get throws { try #require(running, "only tests within GatewayTests have a cluster") }
    }
    @TaskLocal fileprivate static var running: LiveCluster?

    var gateways: [LabDescription.Node] { description.nodes.filter { $0.role == .gateway } }
    var initiators: [LabDescription.Node] { description.nodes.filter { $0.role == .initiator } }
    var portals: [String] { gateways.compactMap(\.portal) }
    var target: String { gateways[0].iqn }

    /// Runs `body` with a session to each of the portals, from the host's side of the lab.
    func sessions<Value: Sendable>(
        lun: Int = 0, _ body: @escaping @Sendable ([ISCSISession]) throws -> Value
    ) async throws -> Value {
        let (portals, target) = (portals, target)
        return try await blocking(in: description.netns) {
            let sessions = try portals.map { try ISCSISession(portal: $0, target: target) }
            for session in sessions { try session.ready(lun: lun) }
            return try body(sessions)
        }
    }

    /// Runs a command of the host within the lab's namespace, and returns its output; any other status than 0 is an error.
    @discardableResult
    func host(_ arguments: String...) async throws -> String {
        try await lab.hostCheck(arguments)
    }

    /// Runs a command in a node, and returns its output; any other status than 0 is an error.
    @discardableResult
    func exec(_ node: String, _ arguments: String...) async throws -> String {
        try await lab.check(node, arguments)
    }
}

/// Brings the cluster up around the suite.
struct ClusterTrait: SuiteTrait, TestScoping {
    let isRecursive = false

    func provideScope(
        for test: Test, testCase: Test.Case?, performing body: @concurrent @Sendable () async throws -> Void
    ) async throws {
        let options = LabOptions(name: "test", gateways: 2, initiators: 1, luns: 1)
        try await Lab.down(options.name)
        let lab = try await Lab.up(options)
        do {
            let cluster = LiveCluster(lab: lab, description: lab.description())
            try await ExtraImages.export(on: cluster)
            try await LiveCluster.$running.withValue(cluster) { try await body() }
        } catch {
            try? await lab.down()
            throw error
        }
        try await lab.down()
    }
}

/// Fails each test that left a splat, a leak or a hung task on a node's console.
struct CleanConsolesTrait: SuiteTrait, TestTrait, TestScoping {
    let isRecursive = true

    func provideScope(
        for test: Test, testCase: Test.Case?, performing body: @concurrent @Sendable () async throws -> Void
    ) async throws {
        guard !test.isSuite, let cluster = try? LiveCluster.current else { return try await body() }
        let before = cluster.lab.consoleProblems().count
        try await body()
        for problem in cluster.lab.consoleProblems().dropFirst(before) {
            Issue.record("console: \(problem)")
        }
    }
}

extension Trait where Self == ClusterTrait { static var cluster: Self { Self() } }
extension Trait where Self == CleanConsolesTrait { static var cleanConsoles: Self { Self() } }
