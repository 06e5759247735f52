// SPDX-License-Identifier: Apache-2.0

import Foundation
import Lab
import Testing

/// Three gateways are drained, started anew with a newer kernel and resumed, one after the other, while a host writes and
/// verifies.
@Suite("Rolling upgrade", .serialized, .timeLimit(.minutes(10)))
struct RollingUpgradeTests {
    @Test func noHostNotices() async throws {
        try await withLab(LabOptions(name: "upgrade-test", gateways: 3, initiators: 1), upgrade)
    }

    private func upgrade(_ lab: Lab) async throws {
        let host = lab.initiators[0]
        let map = try await logIn(host, lab)
        // Each block is read back after it was written, with a checksum and the number of the write in it.
        let fio = """
            fio --name=upgrade --filename=\(map) --rw=randwrite --bs=4k --size=48m --ioengine=libaio --iodepth=8 --direct=1 \
            --verify=crc32c --verify_backlog=512 --time_based --runtime=600 --write_lat_log=/tmp/upgrade \
            --status-interval=600 > /tmp/fio.log 2>&1 & echo $! > /tmp/fio.pid; wait $!; echo $? > /tmp/fio.status
            """
        async let writing = lab.exec(host, ["sh", "-c", fio], timeout: .seconds(500))
        try await Task.sleep(for: .seconds(2))
        do {
            try await refuses(lab)
            for gateway in lab.gateways { try await upgrade(gateway, lab) }
        } catch {
            _ = try? await lab.check(host, ["sh", "-c", "kill -INT $(cat /tmp/fio.pid)"])
            _ = try? await writing
            throw error
        }
        try await lab.check(host, ["sh", "-c", "kill -INT $(cat /tmp/fio.pid)"])
        _ = try await writing
        let said = try await lab.check(host, ["cat", "/tmp/fio.log"])
        let status = try await lab.check(host, ["cat", "/tmp/fio.status"])
        // 128: ended by a signal, as it was.
        #expect(["0", "128", "130"].contains(status), "\(status): \(said)")
        #expect(said.contains("err= 0"), "\(said)")
        let log = try await lab.check(host, ["sh", "-c", "cat /tmp/upgrade_clat.*.log"])
        let pauses = log.split(separator: "\n").compactMap { line in
            line.split(separator: ",").dropFirst().first.flatMap { Double($0.trimmingCharacters(in: .whitespaces)) }
        }
        #expect(pauses.count > 1000)
        let longest = (pauses.max() ?? 0) / 1e9
        print("\(pauses.count) writes; the longest took \(String(format: "%.2f", longest)) s")
        try await remove("gw3", lab)
        // What a host waits for if it is not told: a time-out of its own, 5 s at least.
        #expect(longest < 5)
    }

    /// What would take the LUNs away is not done by mistake.
    private func refuses(_ lab: Lab) async throws {
        let unknown = try await clio(lab, "drain", "gw9")
        #expect(unknown.status == 1 && unknown.errorText.contains("gw9"), "\(unknown)")
        let alive = try await clio(lab, "remove", "gw1")
        #expect(alive.status == 1 && alive.errorText.contains("clio node drain gw1"), "\(alive)")
    }

    /// Out of the group, another kernel and another cliod, and back.
    private func upgrade(_ gateway: String, _ lab: Lab) async throws {
        let begin = ContinuousClock.now
        let others = lab.gateways.filter { $0 != gateway }
        var result = try await clio(lab, "drain", gateway)
        #expect(result.status == 0, "\(result.errorText)")
        // It is out of the group first, and then taken down.
        for _ in 0..<40 where try await mapped(gateway, lab) { try await Task.sleep(for: .milliseconds(250)) }
        #expect(try await !mapped(gateway, lab))
        let status = try await lab.check(others[0], [lab.executable("clio"), "status"])
        #expect(status.contains("node \(gateway) is drained for"), "\(status)")

        try await lab.kill(gateway)
        try await lab.start(gateway, version: OtherKernelTests.newer, serve: false)
        let release = try await lab.check(gateway, ["uname", "-r"])
        #expect(release.hasPrefix("\(OtherKernelTests.newer)."), "\(release)")
        try await lab.startDaemon(gateway)
        try await Task.sleep(for: .seconds(2))
        let up = try await lab.exec(gateway, [lab.executable("clio"), "node", "up"], timeout: .seconds(60))
        #expect(up.status == 1 && up.errorText.contains("clio node resume \(gateway)"), "\(up)")
        #expect(try await !mapped(gateway, lab), "stays out")

        result = try await clio(lab, "resume", gateway)
        #expect(result.status == 0, "\(result.errorText)")
        // The host has to have its path back before it loses the next one.
        let host = lab.initiators[0]
        var paths = 0
        for _ in 0..<80 where paths < 3 {
            try await Task.sleep(for: .milliseconds(250))
            paths = try await readyPaths(host, lab)
        }
        #expect(paths == 3)
        print("\(gateway): drained, booted and back after \(ContinuousClock.now - begin)")
    }

    private func mapped(_ gateway: String, _ lab: Lab) async throws -> Bool {
        try await lab.check(gateway, ["ls", "/sys/bus/rbd/devices"]) != ""
    }

    /// A node leaves for good.
    private func remove(_ gateway: String, _ lab: Lab) async throws {
        let result = try await clio(lab, "remove", gateway, "--force")
        #expect(result.status == 0, "\(result.errorText)")
        let clio = try lab.executable("clio")
        #expect(try await !lab.check("gw1", [clio, "get"]).contains(gateway))
        var status = ""
        for _ in 0..<40 {
            status = try await lab.check("gw1", [clio, "status"])
            if !status.contains(gateway) { break }
            try await Task.sleep(for: .milliseconds(250))
        }
        #expect(!status.contains(gateway), "\(status)")
        let log = try await lab.check(gateway, ["tail", "-n", "3", Lab.daemonLog])
        #expect(log.contains("no node"), "\(log)")
    }

    private func clio(_ lab: Lab, _ words: String...) async throws -> CommandResult {
        let description = lab.description()
        return try await lab.host(
            [try lab.executable("clio"), "node"] + words + [
                "--ceph-conf", description.cephConf, "--keyring", description.keyring,
            ], timeout: .seconds(90))
    }

    private func readyPaths(_ host: String, _ lab: Lab) async throws -> Int {
        try await lab.check(host, ["multipath", "-ll"]).components(separatedBy: "active ready running").count - 1
    }

    /// - Returns: the unit's device, once it has all paths.
    private func logIn(_ host: String, _ lab: Lab) async throws -> String {
        let portal = try #require(lab.description().nodes.compactMap(\.portal).first)
        try await lab.check(host, ["iscsiadm", "-m", "discovery", "-t", "sendtargets", "-p", portal])
        try await lab.check(host, ["iscsiadm", "-m", "node", "-T", Lab.targetName, "--login"])
        for _ in 0..<40 {
            let maps = try await lab.check(host, ["multipath", "-ll"])
            if try await readyPaths(host, lab) == 3, let name = maps.split(separator: " ").first {
                return "/dev/mapper/\(name)"
            }
            try await Task.sleep(for: .milliseconds(500))
        }
        throw LabError(host, "multipath shows no map with three paths")
    }
}
