// SPDX-License-Identifier: Apache-2.0
import Foundation
import Lab
import Testing

/// The lab itself, brought up for these tests. Stock kernel: what is shown here needs nothing of ours in the nodes.
@Suite("Lab", .serialized, .enabled(if: geteuid() == 0, "needs root"))
struct LabLiveTests {
    /// Brings a lab up for `body`, and ends it whatever happens; no console may show a splat. What an earlier run left is for
    /// `up` to clear away.
    private func withLab(_ options: LabOptions, _ body: (Lab) async throws -> Void) async throws {
        let lab = try await Lab.up(options)
        do {
            try await body(lab)
        } catch {
            try? await lab.down()
            throw error
        }
        #expect(lab.consoleProblems() == [])
        try await lab.down()
    }

    private func options(_ name: String, gateways: Int, initiators: Int) -> LabOptions {
        LabOptions(
            name: "\(name)-\(getpid())", gateways: gateways, initiators: initiators, luns: 2, size: 64 << 20,
            kernel: .stock)
    }

    /// Whether there is no such process, or nothing of it but its status for whoever adopted it.
    private func isGone(_ pid: Int32) -> Bool {
        guard let status = try? String(contentsOfFile: "/proc/\(pid)/status", encoding: .utf8) else { return true }
        return status.contains("State:\tZ")
    }

    /// Whether a TCP connection from the bridge's address to `port` of a node comes about within 2 s.
    private func connects(_ lab: Lab, _ node: String, port: Int) async throws -> Bool {
        let address = try #require(lab.description().nodes.first { $0.name == node }).address
        return try await lab.host(["timeout", "2", "bash", "-c", "exec 3<>/dev/tcp/\(address)/\(port)"]).status == 0
    }

    /// The lab as it is, but for the nodes' processes: those that run commands come and go between two looks.
    private func withoutProcesses(_ lab: Lab) -> LabDescription {
        var description = lab.description()
        for node in description.nodes.indices { description.nodes[node].pids = [] }
        return description
    }

    @Test func life() async throws {
        try await withLab(options("life", gateways: 2, initiators: 1)) { lab in
            try describes(lab)
            try await executes(lab)
            try await leavesTheHostAlone(lab)
            try await exportsToAnInitiator(lab)
            try await freezesAndThaws(lab)
            try await cutsAndHeals(lab)
            try await killsAndStarts(lab)
            let again = await #expect(throws: LabError.self) { try await Lab.up(lab.options) }
            #expect(again?.reason == "is up already")
            #expect(withoutProcesses(try Lab.attach(lab.options.name)) == withoutProcesses(lab))

            let pids = lab.description().nodes.flatMap(\.pids)
            #expect(lab.consoleProblems() == [])
            try await lab.down()
            #expect(!FileManager.default.fileExists(atPath: lab.folder))
            #expect(!FileManager.default.fileExists(atPath: "/run/netns/\(lab.netns)"))
            for pid in pids { #expect(isGone(pid), "\(pid)") }
            #expect(try await Lab.down(lab.options.name) == false)
            #expect(throws: LabError.self) { try Lab.attach(lab.options.name) }
        }
    }

    private func describes(_ lab: Lab) throws {
        let description = lab.description()
        #expect(description.nodes.map(\.name) == ["gw1", "gw2", "ini1"])
        #expect(description.nodes.map(\.role) == [.gateway, .gateway, .initiator])
        #expect(description.nodes.map(\.portal) == ["10.77.0.11:3260", "10.77.0.12:3260", nil])
        #expect(description.nodes.allSatisfy { !$0.pids.isEmpty })
        #expect(description.luns.map(\.image) == ["lun0", "lun1"])
        #expect(Set(description.luns.map(\.serial)).count == 2)
        #expect(lab.daemons().allSatisfy { $0.alive })
        #expect(throws: LabError.self) { try lab.state("gw3") }
    }

    private func executes(_ lab: Lab) async throws {
        #expect(try await lab.check("gw2", ["hostname"]) == "gw2")
        let script = "cat; echo err >&2; exit 42"
        let result = try await lab.exec("gw1", ["sh", "-c", script], input: Array("a\0b".utf8))
        #expect(result == CommandResult(status: 42, output: Array("a\0b".utf8), errors: Array("err\n".utf8)))
        let words = ["", "two  words", "it's", "$HOME `id` \"q\" \\ * ~", "line\nbreak", "-n", "é"]
        #expect(try await lab.check("gw1", ["printf", "[%s]"] + words) == words.map { "[\($0)]" }.joined())
        #expect(try await lab.exec("gw1", ["sh", "-c", "kill -9 $$"]).status == 137)
        #expect(try await lab.exec("gw1", ["no-such-command"]).status == 127)
        let megabytes = try await lab.exec("gw1", ["head", "-c", "8M", "/dev/zero"])
        #expect(megabytes.output.count == 8 << 20)

        let start = ContinuousClock.now
        await #expect(throws: LabError("gw1: sleep 60", "no end after 1.0 seconds")) {
            try await lab.exec("gw1", ["sleep", "60"], timeout: .seconds(1))
        }
        #expect(ContinuousClock.now - start < .seconds(5))
        #expect(try await lab.exec("gw1", ["pgrep", "-x", "sleep", "-c", "-f", "60"]).status != 0)

        // More at once than the node's server takes unauthenticated connections.
        try await withThrowingTaskGroup(of: String.self) { group in
            for number in 0..<16 { group.addTask { try await lab.check("ini1", ["echo", "\(number)"]) } }
            var answers: Set<String> = []
            for try await answer in group { answers.insert(answer) }
            #expect(answers.count == 16)
        }
        let long = await #expect(throws: LabError.self) {
            try await lab.exec("gw1", ["echo", String(repeating: "x", count: 9000)])
        }
        #expect(long?.remedy == "give a long script as input to sh -s")
    }

    private func leavesTheHostAlone(_ lab: Lab) async throws {
        let probe = "clio-lab-probe-\(getpid())"
        for folder in ["/usr", "/usr/lib", "/host", "/host/etc", "/opt"] {
            let result = try await lab.exec("gw1", ["touch", "\(folder)/\(probe)"])
            #expect(result.status != 0, "\(folder)")
        }
        // These take it, and it is the node's own.
        for folder in ["/etc", "/run", "/tmp", "/var/lib", "/root", "/lib"] {
            try await lab.check("gw1", ["touch", "\(folder)/\(probe)"])
            #expect(!FileManager.default.fileExists(atPath: "\(folder)/\(probe)"), "\(folder)")
        }
        #expect(try await lab.check("gw1", ["modprobe", "-n", "-v", "loop"]).contains("loop.ko"))
        // What the kernel loads by itself comes through /sbin/modprobe.
        try await lab.check("gw1", ["mkdir", "-p", "/sys/kernel/config/target/core/fileio_99/probe"])
        try await lab.check("gw1", ["rmdir", "/sys/kernel/config/target/core/fileio_99/probe"])
    }

    private func exportsToAnInitiator(_ lab: Lab) async throws {
        for node in ["gw1", "gw2"] {
            let address = try #require(lab.description().nodes.first { $0.name == node }).address
            let found = try await lab.check("ini1", ["iscsiadm", "-m", "discovery", "-t", "st", "-p", address])
            #expect(found.contains(Lab.targetName))
        }
        try await lab.check("ini1", ["iscsiadm", "-m", "node", "--login"])
        var maps = ""
        for _ in 0..<50 {
            maps = try await lab.check("ini1", ["multipath", "-ll"])
            if maps.components(separatedBy: "active ready running").count == 5 { break }
            try await Task.sleep(for: .milliseconds(200))
        }
        #expect(maps.components(separatedBy: "active ready running").count == 5, "two maps of two paths:\n\(maps)")
        #expect(maps.components(separatedBy: "policy=").count == 3, "one group a map:\n\(maps)")
        for lun in lab.description().luns {
            let id = "36001405\(lun.serial)"
            let device = try #require(maps.split(separator: "\n").first { $0.hasPrefix(id.prefix(24)) }, "\(maps)")
            let path = "/dev/mapper/\(device.split(separator: " ")[0])"
            let script =
                "echo \"$1\" | dd of=\"$2\" bs=512 conv=sync oflag=direct status=none; blockdev --flushbufs \"$2\"; head -c 4 \"$2\""
            #expect(try await lab.check("ini1", ["sh", "-ec", script, "sh", "lun\(lun.lun)", path]) == "lun\(lun.lun)")
            // Ceph has it.
            let stored = try await lab.hostCheck(["sh", "-c", "rbd export rbd/\(lun.image) - 2>/dev/null | head -c 4"])
            #expect(stored == "lun\(lun.lun)")
        }
        try await lab.check("ini1", ["sh", "-c", "multipath -F; iscsiadm -m node --logout"])
    }

    private func freezesAndThaws(_ lab: Lab) async throws {
        try await lab.check("gw1", ["sh", "-c", "(while :; do :; done) > /dev/null 2>&1 & echo $! > /run/spin"])
        let before = try await lab.check("gw1", ["cat", "/proc/uptime"])
        try await lab.freeze("gw1")
        #expect(try lab.state("gw1") == .frozen)
        #expect(try await lab.host(["ping", "-c", "1", "-W", "1", "10.77.0.11"]).status != 0)
        #expect(try await connects(lab, "gw1", port: 3260) == false)
        let refused = await #expect(throws: LabError.self) { try await lab.exec("gw1", ["true"]) }
        #expect(refused?.remedy == "clio-lab thaw gw1")
        #expect(try lab.state("gw2") == .running)
        try await Task.sleep(for: .seconds(3))
        try await lab.thaw("gw1")
        try await lab.thaw("gw1")
        #expect(try lab.state("gw1") == .running)
        let after = try await lab.check("gw1", ["cat", "/proc/uptime"])
        func seconds(_ text: String) -> Double { Double(text.split(separator: " ")[0]) ?? 0 }
        #expect(seconds(after) - seconds(before) >= 3, "the clock goes on under a freeze")
        try await lab.check("gw1", ["sh", "-c", "kill $(cat /run/spin)"])
        #expect(try await connects(lab, "gw1", port: 3260))
    }

    private func cutsAndHeals(_ lab: Lab) async throws {
        let read = ["timeout", "3", "dd", "if=/dev/rbd0", "of=/dev/null", "bs=4k", "count=1", "iflag=direct"]
        #expect(try await lab.exec("gw1", read).status == 0)
        #expect(try lab.cuts("gw1") == [])

        try await lab.cut("gw1", from: .hosts)
        #expect(try await connects(lab, "gw1", port: 3260) == false)
        #expect(try await lab.exec("ini1", ["ping", "-c", "1", "-W", "2", "10.77.0.11"]).status == 0)
        #expect(try await connects(lab, "gw2", port: 3260))
        #expect(try await lab.exec("gw1", read).status == 0)
        let between = "exec 3<>/dev/tcp/10.77.0.11/3260"
        #expect(try await lab.exec("ini1", ["timeout", "2", "bash", "-c", between]).status != 0)

        try await lab.heal("gw1")
        #expect(try await lab.exec("ini1", ["timeout", "2", "bash", "-c", between]).status == 0)

        try await lab.cut("gw1", from: .osd)
        #expect(try lab.cuts("gw1") == [.osd])
        #expect(try await connects(lab, "gw1", port: 3260))
        let hanging = "dd if=/dev/rbd0 of=/dev/null bs=4k count=1 iflag=direct && echo done > /run/read"
        try await lab.check("gw1", ["sh", "-c", "(\(hanging)) > /dev/null 2>&1 &"])
        try await Task.sleep(for: .seconds(2))
        #expect(try await lab.exec("gw1", ["test", "-e", "/run/read"]).status != 0, "reads while cut from Ceph")
        try await lab.heal("gw1")
        var arrived = false
        for _ in 0..<100 where !arrived {
            arrived = try await lab.exec("gw1", ["test", "-e", "/run/read"]).status == 0
            if !arrived { try await Task.sleep(for: .milliseconds(200)) }
        }
        #expect(arrived, "the read goes on once healed")

        try await lab.cut("gw1", from: .all)
        #expect(try await lab.exec("ini1", ["ping", "-c", "1", "-W", "1", "10.77.0.11"]).status != 0)
        #expect(try await lab.host(["ping", "-c", "1", "-W", "1", "10.77.0.11"]).status != 0)
        #expect(try await connects(lab, "gw1", port: 3260) == false)
        #expect(try await lab.check("gw1", ["echo", "still here"]) == "still here")
        try await lab.heal("gw1")
        #expect(try await lab.host(["ping", "-c", "1", "-W", "2", "10.77.0.11"]).status == 0)
    }

    private func killsAndStarts(_ lab: Lab) async throws {
        let pids = try #require(lab.description().nodes.first { $0.name == "gw2" }).pids
        try await lab.kill("gw2")
        try await lab.kill("gw2")
        #expect(try lab.state("gw2") == .dead)
        for pid in pids { #expect(isGone(pid), "\(pid)") }
        let dead = await #expect(throws: LabError.self) { try await lab.exec("gw2", ["true"]) }
        #expect(dead?.reason == "is dead")
        await #expect(throws: LabError.self) { try await lab.freeze("gw2") }
        try await lab.start("gw2")
        #expect(try await connects(lab, "gw2", port: 3260))
        let running = await #expect(throws: LabError.self) { try await lab.start("gw2") }
        #expect(running?.reason == "runs already")
    }

    /// `cut` from one OSD, `slow` and `pause`, each by what becomes of reads of two OSDs.
    @Test func oneOSD() async throws {
        var options = options("osd", gateways: 1, initiators: 0)
        options.osds = 2
        try await withLab(options) { lab in
            let placement = try await lab.placement()
            let cut = placement.objects[0]
            let other = 1 - cut
            /// Begins a read of an OSD, and returns the file that says that it has ended.
            func read(_ osd: Int, _ number: Int = 0) async throws -> String {
                let block = try #require(placement.block(on: osd)) + UInt64(number)
                let done = "/run/read.\(UUID())"
                let dd = "dd if=/dev/rbd0 of=/dev/null bs=512 skip=\(block) count=1 iflag=direct && touch \(done)"
                try await lab.check("gw1", ["sh", "-c", "(\(dd)) > /dev/null 2>&1 &"])
                return done
            }
            func isDone(_ file: String) async throws -> Bool {
                try await lab.exec("gw1", ["test", "-e", file]).status == 0
            }
            func ends(_ file: String) async throws -> Bool {
                for _ in 0..<300 {
                    if try await isDone(file) { return true }
                    try await Task.sleep(for: .milliseconds(100))
                }
                return false
            }
            /// The other OSD answers; who asked this one before waits still.
            func onlyWaits(_ file: String) async throws {
                #expect(try await ends(try await read(other)))
                #expect(try await !isDone(file))
            }

            try await lab.cut("gw1", from: .oneOSD(cut))
            #expect(try lab.cuts("gw1") == [.oneOSD(cut)])
            let vanished = try await read(cut)
            try await onlyWaits(vanished)
            try await lab.heal("gw1")
            #expect(try await ends(vanished), "TCP sends it again")

            try await lab.slow("gw1", from: cut, Slowness(delay: .seconds(3600)))
            let held = try await read(cut)
            try await onlyWaits(held)
            try await lab.heal("gw1")
            #expect(try await ends(held))

            let start = ContinuousClock.now
            try await lab.slow("gw1", from: cut, Slowness(delay: .milliseconds(400)))
            #expect(try await ends(try await read(cut)))
            #expect(ContinuousClock.now - start >= .milliseconds(800), "both directions are slow")

            try await lab.slow("gw1", from: cut, Slowness(loss: 1))
            #expect(try lab.slowness("gw1") == [cut: Slowness(loss: 1)])
            let lost = try await read(cut)
            try await onlyWaits(lost)
            try await lab.slow("gw1", from: cut, Slowness(loss: 0.2))
            #expect(try await ends(lost), "TCP sends again what is lost")
            try await lab.heal("gw1")
            #expect(try lab.slowness("gw1") == [:])

            try await lab.pause("osd.\(cut)")
            #expect(lab.isPaused("osd.\(cut)"))
            let paused = try await read(cut)
            try await onlyWaits(paused)
            try await lab.resume("osd.\(cut)")
            #expect(!lab.isPaused("osd.\(cut)"))
            #expect(try await ends(paused))

            await #expect(throws: LabError.self) { try await lab.cut("gw1", from: .oneOSD(2)) }
            await #expect(throws: LabError.self) { try await lab.slow("gw1", from: 2, Slowness(loss: 1)) }
            await #expect(throws: LabError.self) { try await lab.slow("gw1", from: cut, Slowness()) }
            await #expect(throws: LabError.self) { try await lab.pause("osd.2") }
        }
    }

    /// A run that was killed half-way leaves processes, a namespace, a folder; the next one clears them away.
    @Test func aPreviousRunThatDied() async throws {
        let options = options("died", gateways: 1, initiators: 0)
        let first = try await Lab.up(options)
        let old = first.description().nodes.flatMap(\.pids)
        try FileManager.default.removeItem(atPath: "\(first.folder)/complete")
        try FileManager.default.removeItem(atPath: "\(first.folder)/lab.json")
        try await withLab(options) { second in
            for pid in old { #expect(isGone(pid), "\(pid)") }
            let name = try await second.check("gw1", ["hostname"])
            #expect(name == "gw1")
        }
    }

    @Test func aFolderOfSomebodyElse() async throws {
        let options = options("foreign", gateways: 1, initiators: 0)
        let folder = "/run/clio-lab-\(options.name)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        for attempt in [{ _ = try await Lab.up(options) }, { _ = try await Lab.down(options.name) }] {
            let refused = await #expect(throws: LabError.self) { try await attempt() }
            #expect(refused?.reason == "was not made by a lab")
        }
        #expect(FileManager.default.fileExists(atPath: folder))
    }
}
