// SPDX-License-Identifier: Apache-2.0

import ClusterModel
import Exposition
import Foundation
import Relay
import Synchronization
import SystemPackage
import Testing

@testable import Netlink
@testable import RelayDriver
@testable import Target

@Suite struct NodeMetricsTests {
    private static var metrics: NodeMetrics {
        var machine = Machine(node: "gw1", timing: Timing())
        _ = machine.handle(.tick, now: Relay.Instant(nanoseconds: 0))
        var status = machine.status
        status.phase = .serving
        status.epoch = 4
        status.until = Relay.Instant(nanoseconds: 9_000_000_000)
        var events = NodeReport.Events()
        events.late = 2
        let report = NodeReport(
            node: "gw1", status: status, since: 3, now: Relay.Instant(nanoseconds: 5_000_000_000), lease: .seconds(5),
            sessions: 3,
            inFlight: 1, orphans: 0, events: events, version: 6, versionSince: 1, uptime: .seconds(7),
            problems: [.init(text: "LUN 3", since: 2)])
        var metrics = NodeMetrics(
            group: "g", report: report, counters: .init(fencings: 1, reconciliationErrors: 5), wantedVersion: 7,
            members: ["gw1": true, "gw2": false], version: "1.2")
        metrics.luns = [
            LUNStatistics(
                lun: 0, image: "rbd/a", disk: "rbd0", size: 1 << 30, commands: 99,
                requests: DiskStatistics(parsing: "1 0 16 2000 3 0 32 500 0 0 0 5 0 8 1 0 0"))
        ]
        metrics.logins = [LoginStatistics(iqn: "iqn.x", accepted: 4, refused: ["authentication": 1])]
        var device = BlkCluster.Device(Attributes())
        device.disk = "rbd0"
        device.compared = 11
        device.prOut = 12
        device.latency = .init(counts: [5, 0, 2, 1], nanoseconds: 3_500_000_000)
        metrics.devices = [device]
        return metrics
    }

    @Test(arguments: [
        #"clio_serving{group="g",node="gw1"} 1"#,
        #"clio_drained{group="g",node="gw1"} 0"#,
        #"clio_phase{group="g",node="gw1",phase="serving"} 1"#,
        #"clio_phase{group="g",node="gw1",phase="lapsed"} 0"#,
        #"clio_member_up{group="g",node="gw1",peer="gw2"} 0"#,
        #"clio_sessions{group="g",node="gw1"} 3"#,
        #"clio_lease_age_seconds{group="g",node="gw1"} 1"#,
        #"clio_events_ended_total{group="g",node="gw1",outcome="late"} 2"#,
        #"clio_fencings_total{group="g",node="gw1"} 1"#,
        #"clio_config_version{group="g",node="gw1"} 6"#,
        #"clio_config_wanted_version{group="g",node="gw1"} 7"#,
        #"clio_reconciliation_errors_total{group="g",node="gw1"} 5"#,
        #"clio_lun_commands_total{group="g",node="gw1",lun="0",image="rbd/a"} 99"#,
        #"clio_lun_bytes_total{group="g",node="gw1",lun="0",image="rbd/a",operation="write"} 16384"#,
        #"clio_lun_operations_total{group="g",node="gw1",lun="0",image="rbd/a",operation="discard"} 5"#,
        #"clio_lun_operation_seconds_total{group="g",node="gw1",lun="0",image="rbd/a",operation="read"} 2"#,
        #"clio_lun_compare_and_write_total{group="g",node="gw1",lun="0",image="rbd/a"} 11"#,
        #"clio_lun_reservation_changes_total{group="g",node="gw1",lun="0",image="rbd/a"} 12"#,
        #"clio_lun_latency_seconds_bucket{group="g",node="gw1",lun="0",image="rbd/a",le="6.5536e-05"} 5"#,
        #"clio_lun_latency_seconds_bucket{group="g",node="gw1",lun="0",image="rbd/a",le="0.001048576"} 7"#,
        #"clio_lun_latency_seconds_bucket{group="g",node="gw1",lun="0",image="rbd/a",le="+Inf"} 8"#,
        #"clio_lun_latency_seconds_sum{group="g",node="gw1",lun="0",image="rbd/a"} 3.5"#,
        #"clio_lun_latency_seconds_count{group="g",node="gw1",lun="0",image="rbd/a"} 8"#,
        #"clio_logins_total{group="g",node="gw1",target="iqn.x",result="refused: authentication"} 1"#,
    ]) func line(_ line: String) {
        #expect(Self.metrics.exposition.text.split(separator: "\n").contains { $0 == line })
    }

    /// Without a relay there is a name, too, so that it is the same series.
    @Test func drained() {
        let lines = NodeMetrics.idle(group: "g", node: "gw1", isDrained: true).text.split(separator: "\n")
        #expect(lines.contains(#"clio_serving{group="g",node="gw1"} 0"#))
        #expect(lines.contains(#"clio_drained{group="g",node="gw1"} 1"#))
    }

    /// Every phase that the relay can be in has its sample.
    @Test func phases() {
        let all: [Machine.Phase] = [
            .detached, .resuming, .quiescing(.arm), .quiescing(.remap), .quiescing(.depart), .mapping, .joining,
            .arming,
            .serving, .departing, .left,
        ]
        #expect(Set(all.map(NodeReport.name)) == Set(NodeMetrics.phases))
    }

    /// No two samples are the same, and each name has one kind and one help.
    @Test func samplesAreTheirOwn() {
        let lines = Self.metrics.exposition.text.split(separator: "\n")
        let series = lines.filter { !$0.hasPrefix("#") }.map {
            $0.split(separator: " ").dropLast().joined(separator: " ")
        }
        #expect(Set(series).count == series.count)
        let headings = lines.filter { $0.hasPrefix("# TYPE") }
        #expect(Set(headings).count == headings.count)
        #expect(headings.allSatisfy { $0.hasSuffix(" counter") == ($0.split(separator: " ")[2].hasSuffix("_total")) })
    }

    private static var sources: URL {
        URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../..").standardized
    }

    /// What dashboard, rules and documentation name is there, and all that is there is documented.
    @Test(arguments: ["packaging/grafana/clio.json", "packaging/prometheus/clio.rules.yml", "docs/metrics.md"])
    func namesThatAreUsed(file: String) throws {
        let text = try String(contentsOf: Self.sources.appendingPathComponent(file), encoding: .utf8)
        let used = Set(text.matches(of: /\bclio_[a-z_]+[a-z]/).map { String($0.output) })
        let known = Set(Self.metrics.exposition.names + ["clio_beats_total"])
        // Queries of histograms name their samples.
        #expect(used.filter { !known.contains($0) && !known.contains($0.replacing("_bucket", with: "")) }.isEmpty)
        #expect(used.count > 5)
        if file.hasPrefix("docs") { #expect(known.subtracting(used).isEmpty) }
    }

    @Test func dashboardIsJSON() throws {
        let data = try Data(contentsOf: Self.sources.appendingPathComponent("packaging/grafana/clio.json"))
        let dashboard = try #require(JSONSerialization.jsonObject(with: data) as? [String: Any])
        let panels = try #require(dashboard["panels"] as? [[String: Any]])
        #expect(panels.count > 10)
        #expect(Set(panels.compactMap { $0["id"] as? Int }).count == panels.count)
    }
}

@Suite(.timeLimit(.minutes(1))) struct MetricsServerTests {
    private static func ask(_ port: UInt16, _ request: String) throws -> String {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        inet_pton(AF_INET, "127.0.0.1", &address.sin_addr)
        let connected = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        try #require(connected == 0)
        try Control.write(Array(request.utf8), to: descriptor)
        shutdown(descriptor, Int32(SHUT_WR))
        var out: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = recv(descriptor, &chunk, chunk.count, 0)
            guard count > 0 else { break }
            out += chunk[..<count]
        }
        return String(decoding: out, as: UTF8.self)
    }

    @Test(arguments: [
        ("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK\r\n", "\r\n\r\na 1\n"),
        ("GET /metrics?x=1 HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\n", "\r\n\r\na 1\n"),
        ("HEAD /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n", "\r\n\r\n"),
        ("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 404 ", "look at /metrics\n"),
        ("POST /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 405 ", "only GET\n"),
        ("nonsense\r\n\r\n", "HTTP/1.1 400 ", "not HTTP\n"), ("GET /metr", "", ""),
        (String(repeating: "x", count: 20000), "", ""),
    ]) func answers(request: String, first: String, last: String) async throws {
        let endpoint = try #require(MetricsServer.Endpoint("127.0.0.1:0"))
        let server = try MetricsServer(endpoint) { "a 1\n" }
        defer { server.finish() }
        // It blocks: not on one of the few threads that the server's side needs, too.
        let answer = try await withCheckedThrowingContinuation { continuation in
            DispatchQueue.global().async { continuation.resume(with: Result { try Self.ask(server.port, request) }) }
        }
        #expect(first.isEmpty ? answer.isEmpty : answer.hasPrefix(first) && answer.hasSuffix(last), "\(answer)")
    }

    @Test func aPlaceThatIsTaken() throws {
        let server = try MetricsServer(try #require(MetricsServer.Endpoint("127.0.0.1:0"))) { "" }
        defer { server.finish() }
        #expect(throws: Errno.addressInUse) {
            _ = try MetricsServer(try #require(MetricsServer.Endpoint("127.0.0.1:\(server.port)"))) { "" }
        }
    }

    @Test func endpoints() {
        #expect(MetricsServer.Endpoint("127.0.0.1:9847")?.description == "127.0.0.1:9847")
        #expect(MetricsServer.Endpoint("[::1]:1")?.description == "[::1]:1")
        for text in ["", ":", "9847", "127.0.0.1", "host:1", "127.0.0.1:70000", "::1:9847", "[127.0.0.1]:1", "none"] {
            #expect(MetricsServer.Endpoint(text) == nil, "\(text)")
        }
    }
}

@Suite struct ReadingTests {
    @Test func whatComesInTime() async { #expect(await Reading().run(within: .seconds(60)) { 3 } == 3) }

    /// What hangs is done without, now and for as long as it hangs.
    @Test func whatHangs() async throws {
        let reading = Reading()
        let gate = DispatchSemaphore(value: 0)
        #expect(await reading.run(within: .milliseconds(20)) { gate.wait() } == nil)
        #expect(await reading.run(within: .seconds(60)) { 1 } == nil)
        gate.signal()
        var value: Int?
        for _ in 0..<100 where value == nil {
            value = await reading.run(within: .seconds(60)) { 2 }
            try await Task.sleep(for: .milliseconds(10))
        }
        #expect(value == 2)
    }
}
