// SPDX-License-Identifier: Apache-2.0
import Foundation
import Testing

@testable import Lab

/// A gateway's cliod in the lab may do what its unit lets it do.
@Suite struct DaemonTests {
    @Test func capabilitiesAreTheUnits() throws {
        let root = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../..")
        let unit = try String(contentsOf: root.appending(path: "Sources/clio/cliod@.service"), encoding: .utf8)
        let wanted = Lab.daemonCapabilities.map { "CAP_\($0.uppercased())" }.joined(separator: " ")
        #expect(unit.contains("\nCapabilityBoundingSet=\(wanted)\n"))
    }
}

@Suite struct ProcessRecordTests {
    /// A line of `/proc/PID/stat`; the name holds what breaks a careless parser.
    static func stat(
        _ pid: Int32, name: String = "a) S 1 (b", state: Character = "S", parent: Int32 = 1, session: Int32,
        start: UInt64
    ) -> String {
        "\(pid) (\(name)) \(state) \(parent) \(session) \(session) 0 -1 4194560 1 0 0 0 5 6 0 0 20 0 1 0 \(start) 99 100"
    }

    static func table(_ lines: [String]) -> ProcessTable {
        ProcessTable(processes: lines.compactMap { ProcessStatus(stat: $0.utf8) }, bootID: "boot")
    }

    @Test func statusLine() throws {
        let status = try #require(
            ProcessStatus(stat: Self.stat(42, state: "t", parent: 7, session: 40, start: 1234).utf8))
        #expect(status.pid == 42)
        #expect(status.state == "t")
        #expect(status.parent == 7)
        #expect(status.session == 40)
        #expect(status.startTime == 1234)
        #expect(ProcessStatus(stat: "".utf8) == nil)
        #expect(ProcessStatus(stat: "42 (x) S 1 2".utf8) == nil)
        #expect(ProcessStatus(stat: ")42(".utf8) == nil)
    }

    @Test func ownStatusLine() throws {
        let text = try #require(Files.text("/proc/self/stat"))
        let status = try #require(ProcessStatus(stat: text.utf8))
        #expect(status.pid == getpid())
        #expect(status.session == getsid(0))
        #expect(ProcessTable.current().processes.contains { $0.pid == getpid() && $0.startTime == status.startTime })
    }

    @Test func recordText() {
        #expect(ProcessRecord(text: "42 1234 boot\n") == ProcessRecord(text: "42 1234 boot"))
        #expect(ProcessRecord(text: "42 1234 boot")?.pid == 42)
        for broken in ["", "42", "42 1234", "x 1 boot", "42 x boot", "1 2 boot", "-3 2 boot", "42 1 boot more"] {
            #expect(ProcessRecord(text: broken) == nil, "\(broken)")
        }
    }

    @Test func membersOfASession() throws {
        let record = try #require(ProcessRecord(text: "40 100 boot"))
        let table = Self.table([
            Self.stat(43, state: "t", parent: 40, session: 40, start: 120),
            Self.stat(40, session: 40, start: 100), Self.stat(41, parent: 40, session: 40, start: 101),
            Self.stat(44, state: "Z", parent: 40, session: 40, start: 130),
            Self.stat(50, parent: 40, session: 50, start: 130),
        ])
        #expect(table.members(of: record).map(\.pid) == [40, 41, 43])
        #expect(table.isAlive(record))
    }

    @Test func leaderDiedButChildrenLive() throws {
        let record = try #require(ProcessRecord(text: "40 100 boot"))
        let table = Self.table([Self.stat(41, session: 40, start: 101)])
        #expect(table.members(of: record).map(\.pid) == [41])
        #expect(!table.isAlive(record))
    }

    @Test func recycledIdentifierIsNobodyOfOurs() throws {
        let record = try #require(ProcessRecord(text: "40 100 boot"))
        let recycled = Self.table([Self.stat(40, session: 40, start: 777), Self.stat(41, session: 40, start: 778)])
        #expect(recycled.members(of: record).isEmpty)
        #expect(!recycled.isAlive(record))
        let otherBoot = try #require(ProcessRecord(text: "40 100 earlier"))
        let alive = Self.table([Self.stat(40, session: 40, start: 100)])
        #expect(alive.members(of: otherBoot).isEmpty)
        let zombie = Self.table([Self.stat(40, state: "Z", session: 40, start: 100)])
        #expect(!zombie.isAlive(record))
    }

    /// A real process: recorded by the shell that becomes it, found with its child, ended with it.
    @Test func startFreezeThawEnd() async throws {
        let folder = NSTemporaryDirectory() + "lab-processes-\(UUID().uuidString)"
        try Files.folder(folder)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let processes = Processes(folder: folder)
        let log = folder + ".log"
        defer { try? FileManager.default.removeItem(atPath: log) }
        try await processes.start(
            "one", ["/bin/sh", "-c", "echo \"$GREETING\"; sleep 600 & wait"], log: log,
            environment: ["GREETING": "hello"])
        #expect(processes.labels() == ["one"])
        #expect(processes.isAlive("one"))
        for _ in 0..<100 where processes.pids("one").count < 2 { try await Task.sleep(for: .milliseconds(10)) }
        let pids = processes.pids("one")
        #expect(pids.count == 2)
        #expect(pids.first == processes.record("one")?.pid)
        #expect(Files.text(log) == "hello\n")
        try await processes.freeze("one")
        #expect(processes.isFrozen("one"))
        try await processes.thaw("one")
        #expect(!processes.isFrozen("one"))
        try await processes.end(["one", "never-started"])
        #expect(!processes.isAlive("one"))
        #expect(processes.labels().isEmpty)
        let table = ProcessTable.current()
        #expect(!table.processes.contains { pids.contains($0.pid) && $0.state != "Z" })
    }

    @Test func frozenProcessesEndToo() async throws {
        let folder = NSTemporaryDirectory() + "lab-processes-\(UUID().uuidString)"
        try Files.folder(folder)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let processes = Processes(folder: folder)
        try await processes.start("one", ["sleep", "600"], log: "/dev/null")
        try await processes.freeze("one")
        try await processes.end(["one"], grace: .milliseconds(100))
        #expect(!processes.isAlive("one"))
    }
}

@Suite struct NetworkTests {
    @Test func addresses() {
        #expect(Network.address(.gateway, 1) == "10.77.0.11")
        #expect(Network.address(.initiator, 1) == "10.77.0.101")
        #expect(Network.ethernet("10.77.0.101") == "02:00:0a:4d:00:65")
    }

    @Test func nothingIsCut() {
        let rules = Network.rules([:])
        #expect(rules.hasPrefix("*filter\n"))
        #expect(rules.hasSuffix("COMMIT\n"))
        #expect(!rules.contains("DROP"))
        for chain in ["INPUT", "FORWARD", "OUTPUT"] {
            #expect(Network.calls.contains("-A \(chain) -j CLIO-CUT\n"))
            #expect(!rules.contains(chain))
        }
    }

    @Test func cutFromCeph() {
        let rules = Network.rules(["10.77.0.11": LinkFaults(cuts: [.osd])]).split(separator: "\n").filter {
            $0.hasPrefix("-A CLIO-CUT")
        }
        #expect(
            rules == [
                "-A CLIO-CUT -s 10.77.0.11 -p tcp -m multiport --dports 3300,6789,6800:7300 -j DROP",
                "-A CLIO-CUT -d 10.77.0.11 -p tcp -m multiport --sports 3300,6789,6800:7300 -j DROP",
            ])
    }

    @Test func cutFromHosts() {
        let rules = Network.rules(["10.77.0.12": LinkFaults(cuts: [.hosts])]).split(separator: "\n").filter {
            $0.hasPrefix("-A CLIO-CUT")
        }
        #expect(rules.count == 4)
        #expect(rules.allSatisfy { $0.contains("3260") && $0.hasSuffix("-j DROP") })
        #expect(rules.contains("-A CLIO-CUT -d 10.77.0.12 -p tcp -m multiport --dports 3260 -j DROP"))
        #expect(rules.contains("-A CLIO-CUT -s 10.77.0.12 -p tcp -m multiport --sports 3260 -j DROP"))
    }

    @Test func cutFromAllKeepsTheControlConnection() throws {
        let lines = Network.rules(["10.77.0.11": LinkFaults(cuts: [.all])]).split(separator: "\n").map(String.init)
        let keep = try #require(lines.firstIndex { $0.contains("--sport 22") && $0.hasSuffix("RETURN") })
        let drop = try #require(lines.firstIndex { $0.hasSuffix("-s 10.77.0.11 -j DROP") })
        #expect(keep < drop)
        #expect(lines.contains("-A CLIO-CUT -d 10.77.0.11 -j DROP"))
        #expect(!lines.contains { $0.contains("REJECT") })
    }

    @Test func cutsAddUp() {
        let both = Network.rules([
            "10.77.0.12": LinkFaults(cuts: [.hosts, .osd]), "10.77.0.11": LinkFaults(cuts: [.osd]),
        ])
        #expect(both.split(separator: "\n").filter { $0.hasSuffix("DROP") }.count == 8)
    }

    private func rules(_ fault: LinkFaults) -> [String] {
        Network.rules(["10.77.0.11": fault]).split(separator: "\n").filter { $0.hasPrefix("-A CLIO-CUT") }
            .map { String($0.dropFirst("-A CLIO-CUT ".count)) }
    }

    @Test func cutFromOneOSD() {
        #expect(
            rules(LinkFaults(cuts: [.oneOSD(2)])) == [
                "-s 10.77.0.11 -d 10.77.0.202 -j DROP", "-s 10.77.0.202 -d 10.77.0.11 -j DROP",
            ])
    }

    @Test func slowFromOneOSD() {
        #expect(
            rules(LinkFaults(slow: [1: Slowness(delay: .milliseconds(200), loss: 0.05)])) == [
                "-s 10.77.0.11 -d 10.77.0.201 -m statistic --mode random --probability 0.05 -j DROP",
                "-s 10.77.0.201 -d 10.77.0.11 -m statistic --mode random --probability 0.05 -j DROP",
                "-s 10.77.0.11 -d 10.77.0.201 -j NFQUEUE --queue-num 2817",
                "-s 10.77.0.201 -d 10.77.0.11 -j NFQUEUE --queue-num 2817",
            ])
        #expect(rules(LinkFaults(slow: [1: Slowness(loss: 1)])).allSatisfy { $0.hasSuffix("DROP") })
        #expect(rules(LinkFaults(slow: [1: Slowness(delay: .seconds(1))])).allSatisfy { $0.contains("NFQUEUE") })
        // A cut is before a delay: what it drops is not held.
        let both = rules(LinkFaults(cuts: [.oneOSD(1)], slow: [1: Slowness(delay: .seconds(1))]))
        #expect(both.prefix(2).allSatisfy { $0.hasSuffix("DROP") })
    }

    @Test(arguments: [
        (Slowness(), "nothing would be slow"), (Slowness(delay: .seconds(3601)), "must be 0 to 3600 s"),
        (Slowness(delay: .seconds(-1)), "must be 0 to 3600 s"), (Slowness(loss: 1.5), "must be 0 to 100 %"),
    ])
    func slownessOutOfRange(_ slowness: Slowness, _ reason: String) {
        let error = #expect(throws: LabError.self) { try Lab.check(slowness) }
        #expect(error?.reason == reason)
    }

    @Test func scopesAsText() throws {
        for scope in [CutScope.osd, .oneOSD(0), .oneOSD(12), .hosts, .all] {
            #expect(CutScope(rawValue: scope.rawValue) == scope)
        }
        for text in ["osd.", "osd.x", "osd.-1", "osd.01", "osd. 1", "OSD", ""] {
            #expect(CutScope(rawValue: text) == nil)
        }
        let faults = ["a": LinkFaults(cuts: [.oneOSD(3), .all], slow: [1: Slowness(delay: .seconds(2))])]
        let kept = try JSONEncoder().encode(faults)
        #expect(try JSONDecoder().decode([String: LinkFaults].self, from: kept) == faults)
    }

    @Test func blocksOfAnOSD() {
        let placement = Placement(
            group: 0, pool: 0, state: 1, id: 0, header: 0, objects: [1, 2, 0, 2, 3, 4, 4, 4], objectSize: 4 << 20)
        #expect(placement.onlyData == 2, "0 and 1 are needed, 3 has one object, 4 has more")
        #expect(placement.block(on: 2) == 8192)
        #expect(placement.block(on: 2, skipping: 1) == 3 * 8192)
        #expect(placement.block(on: 2, skipping: 2) == nil)
        #expect(placement.block(on: 5) == nil)
    }
}

@Suite struct ConsoleLogTests {
    static let healthy = """
        [    0.000000] Linux version 6.12.117
        [    0.040000] setup_one_line failed for device 0 : failed to parse channel pair
        [    0.050000] epollctl add err fd 1, Operation not permitted
        [    0.050000] This architecture does not have kernel memory protection.
        [    2.550000] uml-vector uml-vector.0 vec0: netif_napi_add_weight() called with weight 128
        [   27.160000] Rounding down aligned max_sectors from 4294967295 to 4294967288
        [   27.200000] rbd: rbd0: capacity 1073741824 features 0x1
        [   30.000000] MODE SENSE: unimplemented page/subpage: 0x0a/0x05
        [   40.000000] libceph: osd0 (1)10.77.0.1:6800 socket closed (con state OPEN)
        [   41.000000]  connection1:0: detected conn error (1020)
        clio-lab: node is up
        """

    @Test func healthyConsoleHasNone() {
        #expect(ConsoleLog.problems(Self.healthy.utf8, node: "gw1").isEmpty)
        #expect(ConsoleLog.problems([UInt8](), node: "gw1").isEmpty)
    }

    @Test(arguments: [
        "BUG: KASAN: slab-use-after-free in iblock_execute_rw+0x1/0x2",
        "WARNING: CPU: 0 PID: 12 at drivers/block/rbd.c:100 rbd_dev_create+0x0/0x1",
        "WARNING: possible circular locking dependency detected",
        "WARNING: possible recursive locking detected",
        "BUG: sleeping function called from invalid context at mm/slab.h:1",
        "BUG: scheduling while atomic: kworker/0:1/12/0x00000002",
        "INFO: task kworker/0:2:22 blocked for more than 60 seconds.",
        "Kernel panic - not syncing: Attempted to kill init!",
        "Oops: general protection fault, probably for non-canonical address",
        "kernel BUG at lib/list_debug.c:1!",
        "rcu: INFO: rcu_sched self-detected stall on CPU",
        "refcount_t: underflow; use-after-free.",
        "list_del corruption. prev->next should be 1",
        "watchdog: BUG: soft lockup - CPU#0 stuck for 22s!",
        "WARNING: suspicious RCU usage",
        "kmemleak: 3 new suspected memory leaks",
        "rbd: Unknown symbol blk_cluster_register (err -2)",
    ])
    func splat(_ line: String) {
        let console = Self.healthy + "\n[   50.000000] \(line)\r\n[   50.000001] Call Trace:\n"
        let problems = ConsoleLog.problems(console.utf8, node: "gw2")
        #expect(problems == [ConsoleProblem(node: "gw2", line: 12, text: "[   50.000000] \(line)")])
        #expect(problems.first?.description == "gw2, console line 12: [   50.000000] \(line)")
    }

    @Test func bytesThatAreNoText() {
        let bytes: [UInt8] = [0xff, 0xfe, 0x0a] + Array("WARNING: here".utf8)
        #expect(ConsoleLog.problems(bytes, node: "n").map(\.line) == [2])
    }
}

@Suite struct DescriptionTests {
    @Test func json() throws {
        let description = LabDescription(
            netns: "clio-lab", cephConf: "/run/clio-lab/ceph.conf", keyring: "/run/clio-lab/keyring",
            nodes: [
                .init(
                    name: "gw1", role: .gateway, address: "10.77.0.11", portal: "10.77.0.11:3260", iqn: "iqn.x:lab",
                    pids: [7, 8]),
                .init(name: "ini1", role: .initiator, address: "10.77.0.101", portal: nil, iqn: "iqn.x:ini1", pids: []),
            ],
            luns: [.init(lun: 0, pool: "rbd", image: "lun0", serial: "0123456789ab0000")])
        let data = try JSONEncoder().encode(description)
        #expect(try JSONDecoder().decode(LabDescription.self, from: data) == description)
        let object = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
        #expect(Set(object.keys) == ["netns", "ceph_conf", "keyring", "nodes", "luns"])
        let nodes = try #require(object["nodes"] as? [[String: Any]])
        for node in nodes { #expect(Set(node.keys) == ["name", "role", "address", "portal", "iqn", "pids"]) }
        #expect(nodes[0]["role"] as? String == "gateway")
        #expect(nodes[0]["pids"] as? [Int] == [7, 8])
        #expect(nodes[1]["portal"] is NSNull)
        let luns = try #require(object["luns"] as? [[String: Any]])
        #expect(Set(luns[0].keys) == ["lun", "pool", "namespace", "image", "serial"])
    }

    @Test func pathsOfImages() {
        #expect(LabDescription.LUN(lun: 0, pool: "rbd", image: "lun0", serial: "").path == "rbd/lun0")
        let inNamespace = LabDescription.LUN(lun: 0, pool: "rbd", namespace: "tenant", image: "lun0", serial: "")
        #expect(inNamespace.path == "rbd/tenant/lun0")
    }
}

@Suite struct OptionTests {
    @Test(
        arguments: [
            ("1G", 1 << 30), ("512M", 512 << 20), ("1GiB", 1 << 30), ("1.5g", 3 << 29), ("1048576", 1 << 20),
            ("2T", 2 << 40),
            ("64MB", nil), ("", nil), ("G", nil), ("-1G", nil), ("1GG", nil), ("1 G", nil), ("x", nil), ("1e3", nil),
            ("99999999T", nil),
        ] as [(String, Int?)])
    func sizes(_ text: String, _ bytes: Int?) {
        #expect(LabOptions.bytes(text) == bytes)
    }

    @Test(
        arguments: [
            ("7.3", KernelVersions(others: "7.3")),
            ("gw1=6.12,gw2=7.3", KernelVersions(nodes: ["gw1": "6.12", "gw2": "7.3"])),
            ("7.3,gw1=6.12", KernelVersions(others: "7.3", nodes: ["gw1": "6.12"])),
            ("", nil), ("7", nil), ("7.3.4", nil), ("7.3,", nil), ("7.3,6.12", nil), ("gw1", nil), ("gw1=", nil),
            ("gw1=7.3,gw1=6.12", nil), ("gw1=7.3=6.12", nil), ("7.-3", nil),
        ] as [(String, KernelVersions?)])
    func kernelVersions(_ text: String, _ versions: KernelVersions?) {
        #expect(KernelVersions(text) == versions)
    }

    @Test func ranges() throws {
        try LabOptions(name: "a").validate()
        func message(_ change: (inout LabOptions) -> Void) -> String? {
            var options = LabOptions(name: "a")
            change(&options)
            do {
                try options.validate()
                return nil
            } catch { return error.description }
        }
        #expect(message { $0.gateways = 0 } == "--nodes 0: must be 1 to 64")
        #expect(message { $0.initiators = -1 } == "--initiators -1: must be 0 to 64")
        #expect(message { $0.osds = 17 } == "--osds 17: must be 1 to 16")
        #expect(
            message { $0.replicas = 2 } == "--replicas 2: must be 1 to the number of OSDs, 1\n  → --osds 2")
        #expect(message { ($0.osds, $0.replicas) = (3, 0) } != nil)
        #expect(message { ($0.osds, $0.replicas) = (3, 3) } == nil)
        #expect(
            message { $0.versions.nodes["gw9"] = "7.3" }
                == "--kernel gw9=: is no node of this lab\n  → one of: gw1 gw2 ini1")
        #expect(message { $0.versions.nodes["gw2"] = "7.3" } == nil)
        #expect(message { $0.luns = 257 } == "--luns 257: must be 0 to 256")
        #expect(message { $0.size = 1000 } == "--size 1000: must be a multiple of 1 MiB, at most 1 TiB")
        #expect(message { ($0.osds, $0.ceph.erasure) = (2, true) } != nil)
        #expect(message { ($0.osds, $0.ceph.erasure, $0.kernel) = (3, true, .stock) } == nil)
        for option in [\CephOptions.secure, \.ipv6] {
            #expect(message { ($0.kernel, $0.ceph[keyPath: option]) = (.stock, true) } != nil)
        }
        for name in ["", "-x", "a b", "a/b", "..", "é", String(repeating: "x", count: 33)] {
            #expect(message { $0.name = name } != nil, "\(name)")
        }
    }

    @Test func labsDoNotShareAnything() {
        #expect(Lab.netns("clio-lab") == "clio-lab")
        #expect(Lab.netns("two") == "clio-lab-two")
        #expect(Lab.folder("two") != Lab.folder("clio-lab"))
    }

    @Test func missingPackagesAreNamedOnce() {
        let without: Set<String> = ["ceph", "rbd", "dropbear", "iscsid", "iscsiadm"]
        #expect(
            Requirements.missingPackages(initiators: true) { !without.contains($0) }
                == ["ceph-common", "dropbear-bin", "open-iscsi"])
        #expect(
            Requirements.missingPackages(initiators: false) { !without.contains($0) } == [
                "ceph-common", "dropbear-bin",
            ])
        #expect(Requirements.missingPackages(initiators: true) { _ in true } == [])
    }
}

@Suite struct CommandTests {
    @Test(arguments: ["plain", "two words", "it's", "", "$HOME `id` \\ \"q\" *", "line\nbreak", "-n", "é"])
    func quotingSurvivesAShell(_ argument: String) async throws {
        let result = try await Command.run(["sh", "-c", "printf %s " + Command.quoted(argument)])
        #expect(String(decoding: result.output, as: UTF8.self) == argument)
    }

    @Test func resultsAreKeptApart() async throws {
        let script = "cat; echo err >&2; exit 7"
        let result = try await Command.run(["sh", "-c", script], input: Array("in".utf8))
        #expect(result == CommandResult(status: 7, output: Array("in".utf8), errors: Array("err\n".utf8)))
        #expect(try await Command.run(["sh", "-c", "kill -9 $$"]).status == 137)
    }

    @Test func errorsNameTheCommand() async throws {
        await #expect(throws: LabError("sh -c 'echo no >&2; exit 3'", "status 3: no")) {
            try await Command.check(["sh", "-c", "echo no >&2; exit 3"])
        }
        let missing = await #expect(throws: LabError.self) { try await Command.check(["no-such-command-of-ours"]) }
        #expect(missing?.remedy == "is no-such-command-of-ours installed?")
        let slow = await #expect(throws: LabError.self) {
            try await Command.run(["sleep", "60"], timeout: .milliseconds(200))
        }
        #expect(slow?.object == "sleep 60")
    }
}

@Suite struct ImageTests {
    /// The kernel's reader is not here; cpio's is the same format's.
    @Test(.enabled(if: Requirements.find("cpio") != nil)) func archive() async throws {
        var archive = Archive()
        archive.add("init", "#!/bin/sh\n", mode: 0o755)
        archive.add(folder: "overlay/root", mode: 0o700)
        archive.add("overlay/root/odd", [1, 2, 3, 4, 5])
        archive.add("overlay/etc/a/b", "")
        let bytes = archive.finished()
        #expect(bytes.count % 512 == 0)
        let listed = try await Command.check(["cpio", "-itv", "--quiet"], input: bytes)
        let lines = listed.split(separator: "\n").map { $0.split(separator: " ") }
        #expect(
            lines.map { $0.last.map(String.init) } == [
                "init", "overlay", "overlay/root", "overlay/root/odd", "overlay/etc", "overlay/etc/a",
                "overlay/etc/a/b",
            ])
        #expect(lines[0].first == "-rwxr-xr-x")
        #expect(lines[2].first == "drwx------")
        #expect(lines[3][4] == "5")
        let odd = try await Command.run(["cpio", "-i", "--quiet", "--to-stdout", "overlay/root/odd"], input: bytes)
        #expect(odd.output == [1, 2, 3, 4, 5])
    }

    @Test func secrets() throws {
        let secret = try #require(Data(base64Encoded: Ceph.newSecret()))
        #expect(secret.count == 28)
        #expect(Array(secret[0..<2]) == [1, 0])
        #expect(Array(secret[10..<12]) == [16, 0])
        #expect(Ceph.newSecret() != Ceph.newSecret())
    }
}
