// SPDX-License-Identifier: Apache-2.0

import Foundation
import Initiator
import Lab
import Testing

/// Prometheus, where `make test-cluster` unpacks it.
enum Prometheus {
    static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../..")
        .standardized.path
    static let folder = "\(root)/.build/prometheus/usr/bin"
    static var isThere: Bool { FileManager.default.isExecutableFile(atPath: "\(folder)/prometheus") }
}

extension GatewayTests {
    /// A real Prometheus scrapes both gateways and evaluates the rules that we ship.
    @Suite(.serialized, .enabled(if: Prometheus.isThere, "make test-cluster fetches Prometheus")) struct Metrics {
        static let server = "http://127.0.0.1:9090"

        let cluster: LiveCluster

        init() throws { cluster = try LiveCluster.current }

        private func endpoint(_ node: LabDescription.Node) -> String { "\(node.address):\(Lab.metricsPort)" }

        /// The values of a query, by node.
        private func query(_ expression: String) async throws -> [String: Double] {
            struct Answer: Decodable {
                struct Data: Decodable {
                    struct Sample: Decodable {
                        let metric: [String: String]
                        let value: [Value]
                    }
                    let result: [Sample]
                }
                enum Value: Decodable {
                    case time(Double)
                    case text(String)
                    init(from decoder: any Decoder) throws {
                        let container = try decoder.singleValueContainer()
                        if let time = try? container.decode(Double.self) {
                            self = .time(time)
                        } else {
                            self = .text(try container.decode(String.self))
                        }
                    }
                }
                let data: Data
            }
            let text = try await cluster.host(
                "curl", "-sfG", "--data-urlencode", "query=\(expression)", "\(Self.server)/api/v1/query")
            let answer = try JSONDecoder().decode(Answer.self, from: Data(text.utf8))
            let pairs = answer.data.result.compactMap { sample -> (String, Double)? in
                guard case .text(let value) = sample.value.last, let number = Double(value) else { return nil }
                return (sample.metric["node"] ?? "", number)
            }
            return Dictionary(pairs) { $0 + $1 }
        }

        private func eventually(_ expression: String, _ condition: ([String: Double]) -> Bool) async throws -> Bool {
            for _ in 0..<60 {
                if let values = try? await query(expression), condition(values) { return true }
                try await Task.sleep(for: .milliseconds(250))
            }
            return false
        }

        @Test func textIsRight() async throws {
            for node in cluster.gateways {
                try await cluster.restartDaemon(node.name)
                let check =
                    "set -o pipefail; curl -sf http://\(endpoint(node))/metrics | \(Prometheus.folder)/promtool check metrics"
                try await cluster.host("bash", "-c", check)
            }
        }

        @Test func prometheusScrapesAndEvaluates() async throws {
            for node in cluster.gateways { try await cluster.restartDaemon(node.name) }
            let folder = NSTemporaryDirectory() + "clio-prometheus-\(UUID().uuidString)"
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            defer { try? FileManager.default.removeItem(atPath: folder) }
            let targets = cluster.gateways.map { "\"\(endpoint($0))\"" }.joined(separator: ", ")
            try """
            global: {scrape_interval: 1s, evaluation_interval: 1s}
            rule_files: ["\(Prometheus.root)/packaging/prometheus/clio.rules.yml"]
            scrape_configs:
              - job_name: clio
                static_configs: [{targets: [\(targets)]}]
            """.write(toFile: "\(folder)/prometheus.yml", atomically: true, encoding: .utf8)
            let (lab, bin) = (cluster.lab, Prometheus.folder)
            let prometheus = Task {
                try await lab.host(
                    [
                        "timeout", "60", "\(bin)/prometheus", "--config.file=\(folder)/prometheus.yml",
                        "--storage.tsdb.path=\(folder)/data", "--web.listen-address=127.0.0.1:9090",
                        "--log.level=warn",
                    ], timeout: .seconds(90))
            }
            defer { prometheus.cancel() }

            #expect(try await eventually("clio_serving") { $0 == ["gw1": 1, "gw2": 1] })
            #expect(try await eventually("clio_lease_age_seconds") { $0.count == 2 && $0.values.allSatisfy { $0 < 5 } })
            #expect(try await eventually("clio_member_up") { $0 == ["gw1": 2, "gw2": 2] })
            #expect(
                try await eventually("clio_config_version - clio_config_wanted_version") { $0 == ["gw1": 0, "gw2": 0] })
            #expect(try await query("clio_statistics_complete") == ["gw1": 1, "gw2": 1])

            // What a host does is counted where it does it.
            let names = [
                "write": "clio_lun_operations_total{operation=\"write\",lun=\"0\"}",
                "bytes": "clio_lun_bytes_total{operation=\"write\",lun=\"0\"}",
                "compared": "clio_lun_compare_and_write_total{lun=\"0\"}",
                "missed": "clio_lun_miscompares_total{lun=\"0\"}",
                "timed": "clio_lun_latency_seconds_count{lun=\"0\"}",
                "reserved": "clio_lun_reservation_changes_total{lun=\"0\"}",
            ]
            var before: [String: [String: Double]] = [:]
            for (key, name) in names { before[key] = try await query(name) }
            try await cluster.sessions { sessions in
                let block = [UInt8](repeating: 7, count: 512)
                for _ in 0..<10 { try sessions[0].good(.write(64, block)) }
                try sessions[0].good(.persistentReserveOut(.register, actionKey: 7))
                try sessions[0].good(.persistentReserveOut(.register, key: 7))
                try sessions[1].good(.compareAndWrite(64, expected: block, new: block))
                let other = [UInt8](repeating: 8, count: 512)
                _ = try? sessions[1].good(.compareAndWrite(64, expected: other, new: block))
            }
            func grew(_ key: String, _ node: String, by amount: Double) async throws -> Bool {
                let base = before[key]?[node] ?? 0
                return try await eventually(names[key] ?? "") { ($0[node] ?? 0) == base + amount }
            }
            #expect(try await grew("write", "gw1", by: 10))
            #expect(try await grew("bytes", "gw1", by: 5120))
            #expect(try await grew("compared", "gw2", by: 2))
            #expect(try await grew("missed", "gw2", by: 1))
            #expect(try await grew("write", "gw2", by: 0))
            #expect(try await grew("timed", "gw1", by: 10))
            #expect(try await grew("timed", "gw2", by: 2))
            #expect(try await grew("reserved", "gw1", by: 2))
            let quantile = "histogram_quantile(0.9, sum by (node, le) (clio_lun_latency_seconds_bucket{lun=\"0\"}))"
            #expect(try await eventually(quantile) { ($0["gw1"] ?? 0) > 0 && ($0["gw1"] ?? 100) < 10 })

            // Rules are evaluated without an error, and nothing is wrong.
            let rules = try await cluster.host("curl", "-sf", "\(Self.server)/api/v1/rules")
            #expect(rules.contains("\"health\":\"ok\"") && !rules.contains("\"health\":\"err\""), "\(rules)")
            let alerts = try await cluster.host("curl", "-sf", "\(Self.server)/api/v1/alerts")
            #expect(!alerts.contains("\"state\":\"firing\""), "\(alerts)")
        }
    }
}

extension LiveCluster {
    /// A new cliod, as the lab starts one; back within the lease, hosts notice nothing.
    ///
    /// - Parameter options: more of its options.
    func restartDaemon(_ node: String, _ options: String = "") async throws {
        try await lab.killDaemon(node)
        try await lab.startDaemon(node, options)
        let clio = try lab.executable("clio")
        for _ in 0..<50 {
            if let status = try? await exec(node, clio, "node", "up"), !status.isEmpty { return }
            try await Task.sleep(for: .milliseconds(200))
        }
        throw LabError(node, "its cliod does not answer")
    }
}
