// SPDX-License-Identifier: Apache-2.0

import Foundation
import Lab
import Testing

/// docs/operations.md, typed line by line on empty machines.
@Suite("Operations guide", .serialized, .timeLimit(.minutes(10)))
struct OperationsGuideTests {
    /// A line of a `console` block: `machine# command`.
    private struct Line: CustomStringConvertible {
        let number: Int
        let machine: String
        let command: String
        var description: String { "docs/operations.md:\(number): \(machine)# \(command)" }
    }

    /// The machines of the guide, and the lab's that play them.
    private static let cast = ["admin": "ini2", "host1": "ini1", "gw1": "gw1", "gw2": "gw2", "gw3": "gw3"]

    private func guide() throws -> [Line] {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let text = try String(contentsOf: root.appending(path: "docs/operations.md"), encoding: .utf8)
        var lines: [Line] = []
        var inside = false
        for (index, line) in text.components(separatedBy: "\n").enumerated() {
            if line.hasPrefix("```") {
                inside = line == "```console"
            } else if inside {
                let parts = line.split(separator: "# ", maxSplits: 1).map(String.init)
                try #require(parts.count == 2, "line \(index + 1) is no command: \(line)")
                lines.append(Line(number: index + 1, machine: parts[0], command: parts[1]))
            }
        }
        return lines
    }

    @Test func everyLineWorks() async throws {
        let lines = try guide()
        try #require(lines.count > 40)
        let options = LabOptions(name: "guide-test", gateways: 3, initiators: 2, luns: 0, serve: false)
        try await withLab(options) { lab in
            try await prepare(lab)
            for line in lines { try await type(line, lab) }
        }
    }

    private func type(_ line: Line, _ lab: Lab) async throws {
        let node = try #require(Self.cast[line.machine], "\(line): no such machine")
        let path = try URL(fileURLWithPath: lab.executable("clio")).deletingLastPathComponent().path
        let result = try await lab.exec(
            node, ["sh", "-c", "cd /root && PATH=\(path):$PATH && \(line.command)"], timeout: .seconds(120))
        try #require(result.status == 0, "\(line)\n\(result.outputText)\n\(result.errorText)")
        if line.command == "clio apply -f group.yaml --wait 30" || line.command == "clio rollback 10" {
            #expect(!result.outputText.contains("nothing"), "\(line)\n\(result.outputText)")
        }
        if line.command == "multipath -ll" {
            #expect(try await paths(node, lab) == 2)
        }
    }

    /// Active paths; multipathd takes a moment.
    private func paths(_ node: String, _ lab: Lab) async throws -> Int {
        var count = 0
        for _ in 0..<40 where count < 2 {
            count =
                try await lab.check(node, ["multipath", "-ll"]).components(separatedBy: "active ready running").count
                - 1
            try await Task.sleep(for: .milliseconds(250))
        }
        return count
    }

    /// What the guide takes for granted: names, ssh from the administrator's machine, the clock's time server; and that only that
    /// machine has the administrator's key.
    private func prepare(_ lab: Lab) async throws {
        // iscsid has read its name already.
        let rename = """
            echo InitiatorName=iqn.2026-11.example.clio:host1 > /etc/iscsi/initiatorname.iscsi
            kill $(pgrep -x iscsid) && while pgrep -x iscsid > /dev/null; do sleep 0.1; done
            iscsid
            """
        try await lab.check("ini1", ["sh", "-c", rename])
        let key = try Data(contentsOf: URL(fileURLWithPath: "\(lab.folder)/key"))
        try await lab.check(
            "ini2",
            [
                "sh", "-c",
                "umask 077; cat > /root/.ssh/id_ed25519; echo 'StrictHostKeyChecking no' > /root/.ssh/config",
            ], input: Array(key))
        for gateway in lab.gateways {
            try await lab.check(gateway, ["rm", "/etc/ceph/ceph.client.admin.keyring"])
            try await lab.synchroniseClock(gateway)
        }
    }
}
