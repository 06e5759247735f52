// SPDX-License-Identifier: Apache-2.0

import Foundation
import Lab
import Testing

/// Takes the wrappers' live suites to where they can run: those of Rados and RBD into the lab's network namespace, those of
/// Kmod and ConfigFS into a node. Each runs as a process of its own from this same test program.
@Suite("The wrappers, live", .serialized, .enabled(if: !LiveCeph.isGiven && !InNode.isHere, "this is the inner run"))
struct WrapperTests {
    @Test func onALab() async throws {
        // Always the same name, so that a run that died leaves nothing for long.
        let name = "\(LabOptions.defaultName)-wrappers"
        try await Lab.down(name)
        let lab = try await Lab.up(
            LabOptions(name: name, gateways: 1, initiators: 0, luns: 0, serve: false))
        do {
            let description = lab.description()
            let environment = [
                "env", "\(LiveCeph.variable)=\(description.cephConf)",
                "CLIO_TEST_CEPH_KEYRING=\(description.keyring)",
            ]
            let suites = "ClusterTests[.](GroupObject|RBD|Rados|Reservation|Watch)LiveTests"
            let ceph = try await lab.host(environment + (try Self.program(suites)), timeout: .seconds(180))
            Self.expectPassed(ceph, atLeast: 35)
            let daemons = [
                "CLIO_TEST_CEPH_MON_PID=\(try Self.pid(of: "ceph-mon", description.cephConf))",
                "CLIO_TEST_CEPH_OSD_PID=\(try Self.pid(of: "ceph-osd", description.cephConf))",
            ]
            let frozen = try await lab.host(
                environment + daemons + (try Self.program("FrozenCephTests")), timeout: .seconds(120))
            Self.expectPassed(frozen, atLeast: 2)
            let node = try await lab.exec(
                "gw1", ["env", "\(InNode.variable)=1"] + (try Self.program("InNodeTests")), timeout: .seconds(120))
            Self.expectPassed(node, atLeast: 4)
            #expect(lab.consoleProblems() == [])
        } catch {
            try? await lab.down()
            throw error
        }
        try await lab.down()
    }

    /// This program, to run the tests that match.
    static func program(_ filter: String) throws -> [String] {
        let path = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        return [path, "--testing-library", "swift-testing", "--filter", filter]
    }

    /// The process that runs a daemon of the lab whose clients have this configuration.
    private static func pid(of daemon: String, _ configuration: String) throws -> pid_t {
        let folder = configuration.dropLast("ceph.conf".count)
        let found = try FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap { pid_t($0) }.filter {
            pid in
            guard let line = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline") else { return false }
            let words = line.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
            return words.first?.hasSuffix(daemon) == true && words.contains { $0.hasPrefix(folder) }
        }
        return try #require(found.count == 1 ? found.first : nil, "one \(daemon) of \(configuration)")
    }

    static func expectPassed(_ result: CommandResult, atLeast count: Int) {
        let text = result.outputText + result.errorText
        let total = text.split(separator: "\n").last { $0.contains("Test run with") } ?? "no test ran"
        let number = total.drop { !$0.isNumber }.prefix { $0.isNumber }
        #expect(
            result.status == 0 && (Int(number) ?? 0) >= count,
            Comment(
                rawValue: "status \(result.status); \(total)\n"
                    + text.split(separator: "\n").filter { $0.contains("✘") }.joined(separator: "\n")))
    }
}
