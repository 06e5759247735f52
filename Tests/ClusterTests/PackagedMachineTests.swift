// SPDX-License-Identifier: Apache-2.0

import Foundation
import Initiator
import Lab
import Testing

/// Where `make test-machine` has what `packaging/machine.sh` made.
private let machineFolder = ProcessInfo.processInfo.environment["CLIO_TEST_MACHINE"]

/// A machine with Debian's own kernel and systemd becomes a gateway by the lines of README, beside one of the lab's.
///
/// `packaging/machine.sh` makes the machine and types the first line, which installs the packages; QEMU emulates it, a dozen times
/// slower than it would run, which is no matter here.
@Suite(
    "Packaged machine", .serialized, .timeLimit(.minutes(30)),
    .enabled(if: machineFolder != nil, "make test-machine runs it"))
struct PackagedMachineTests {
    private static let address = "10.77.0.50"

    @Test func becomesAGatewayByReadme() async throws {
        try await withLab(LabOptions(name: "machine-test", gateways: 1, initiators: 0, luns: 1)) { lab in
            let machine = try Machine(lab: lab, files: #require(machineFolder))
            do {
                try await machine.plugIn()
                try await machine.whilePowered { try await becomesAGateway(machine, lab) }
            } catch {
                print("--- the machine's console\n\(machine.console().suffix(6000))")
                throw error
            }
            for problem in machine.problems() { Issue.record("\(problem)") }
        }
    }

    private func becomesAGateway(_ machine: Machine, _ lab: Lab) async throws {
        try await machine.waitUntilUp()
        try await machine.synchroniseClock()
        for line in try Self.readme() where !line.command.hasPrefix("apt install ") {
            try await type(line, on: machine)
        }
        try await serves(lab, machine)
        // From boot to exports without a hand on it; and its peer does not take it for dead meanwhile.
        try await machine.reboot()
        try await serves(lab, machine)
        let log = try await lab.check("gw1", ["cat", Lab.daemonLog])
        #expect(!log.contains("fencing"), "\(log)")
        try await machine.synchroniseClock()
        let again = try await machine.check("clio node bootstrap --install")
        #expect(again.contains("nothing to change"), "\(again)")
        try await showsPortsOfOthers(lab)
        try await machine.check("clio node down")
        #expect(try await !machine.check("ls /sys/kernel/config/target/core").contains("iblock"))
        // What systemd would not do is not promised.
        let options = "--id clio --keyring /etc/ceph/ceph.client.clio.keyring"
        let refused = try await machine.check("clio node up \(options) 2>&1 || true")
        #expect(refused.contains("CLIOD_OPTIONS=\"\(options)\""), "\(refused)")
        // One that the group does not have is not started again and again.
        try await lab.check("gw1", [try lab.executable("clio"), "node", "remove", "debian"])
        let unknown = try await machine.check(
            "systemctl start cliod@default || systemctl show -p ExecMainStatus -p NRestarts cliod@default")
        #expect(unknown.contains("ExecMainStatus=3") && unknown.contains("NRestarts=0"), "\(unknown)")
    }

    // MARK: README

    /// A line of README's `console` block: `machine# command`.
    private struct Line {
        let machine: String
        let command: String
    }

    private static func readme() throws -> [Line] {
        let root = URL(fileURLWithPath: #filePath).appendingPathComponent("../../..").standardized
        let text = try String(contentsOf: root.appendingPathComponent("README.md"), encoding: .utf8)
        let block = try #require(text.components(separatedBy: "```console\n").dropFirst().first)
        let lines = block.components(separatedBy: "```")[0].split(separator: "\n").map { line in
            let parts = line.split(separator: "# ", maxSplits: 1).map(String.init)
            return Line(machine: parts[0], command: parts.last ?? "")
        }
        try #require(lines.count == 3 && lines[0].command.hasPrefix("apt install "))
        return lines
    }

    private func type(_ line: Line, on machine: Machine) async throws {
        if line.machine == "admin" {
            try await machine.administrator(line.command)
        } else {
            print(try await machine.check(line.command.replacing("10.77.0.11", with: Self.address)))
        }
    }

    // MARK: What it has become

    /// One unit through both ports, whose counter loses nothing.
    private func serves(_ lab: Lab, _ machine: Machine) async throws {
        let portals = try [#require(lab.description().nodes[0].portal), "\(Self.address):3260"]
        let identities = try await blocking(in: lab.netns) {
            try portals.map { try Identity(session: try ISCSISession(portal: $0, target: Lab.targetName, timeout: 60)) }
        }
        #expect(identities[0].naa != nil && identities[0].naa == identities[1].naa)
        #expect(identities.map(\.relativePort) == [1, 2])
        #expect(identities[0].portGroups == identities[1].portGroups)
        #expect(identities[1].portGroups.map(\.state) == [0, 0])
        var race = CompareAndWriteRace(target: Lab.targetName, portals: portals)
        race.namespace = lab.netns
        race.lba = 64
        race.blocks = 4
        let outcome = try await race.run()
        #expect(outcome.lost == 0 && outcome.successes > 0)
        let status = try await machine.check("clio status")
        #expect(status.contains("in step with the group"), "\(status)")
        print("COMPARE AND WRITE through both: \(outcome.successes), lost \(outcome.lost)\n\(status)")
    }

    /// A disk of the other gateway's own is a port that the machine's tells of; Debian has no tcm_remote to show it with.
    private func showsPortsOfOthers(_ lab: Lab) async throws {
        let port = "gw1=naa.5001405000000001"
        try await lab.check(
            "gw1", [try lab.executable("clio"), "target", "add", "local", "--fabric", "loopback", "--port", port])
        var ports: [UInt16] = []
        for _ in 0..<60 where ports.count < 3 {
            try await Task.sleep(for: .seconds(1))
            ports = try await blocking(in: lab.netns) {
                let session = try ISCSISession(portal: "\(Self.address):3260", target: Lab.targetName, timeout: 60)
                return try Identity(session: session).portGroups.flatMap(\.ports)
            }
        }
        #expect(ports.sorted() == [1, 2, 3])
    }

    // MARK: The machine

    private struct Machine {
        let lab: Lab
        let files: String
        private let folder: String

        init(lab: Lab, files: String) throws {
            self.lab = lab
            self.files = files
            folder = "\(lab.folder)/machine"
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        }

        /// Gives it a port of the lab's bridge, and the administrator ssh and what is to be copied.
        func plugIn() async throws {
            let tap = "link set dev machine master br0 up"
            try await lab.hostCheck(["sh", "-ec", "ip tuntap add dev machine mode tap; ip \(tap)"])
            try """
            Host gw1
                HostName \(PackagedMachineTests.address)
                User root
                IdentityFile \(files)/key
                StrictHostKeyChecking no
                UserKnownHostsFile /dev/null
                LogLevel ERROR
                ConnectTimeout 10
                ServerAliveInterval 10
            """.write(toFile: "\(folder)/ssh", atomically: true, encoding: .utf8)
            for name in ["ceph.conf", "ceph.client.clio.keyring"] {
                try await lab.check("gw1", ["cat", "/etc/ceph/\(name)"])
                    .appending("\n").write(toFile: "\(folder)/\(name)", atomically: true, encoding: .utf8)
            }
        }

        /// Runs it for as long as `body` does; it writes to a file of its own.
        func whilePowered(_ body: () async throws -> Void) async throws {
            try await lab.hostCheck([
                "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "\(files)/disk.img", disk,
            ])
            let command = [
                "timeout", "1500", "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m",
                "1024",
                "-pidfile", "\(folder)/pid", "-nodefaults", "-no-user-config", "-display", "none", "-serial",
                "file:\(folder)/console",
                "-kernel", "\(files)/vmlinuz", "-initrd", "\(files)/initrd",
                "-append", "root=/dev/vda rw console=ttyS0 panic=-1 systemd.show_status=false",
                "-drive", "file=\(disk),if=virtio,cache=unsafe", "-device", "virtio-rng-pci",
                "-netdev", "tap,id=lab,ifname=machine,script=no,downscript=no",
                "-device", "virtio-net-pci,netdev=lab,mac=02:00:0a:4d:00:32",
            ]
            let lab = lab
            let machine = Task { try await lab.host(command, timeout: .seconds(1600)) }
            func end() async {
                _ = try? await lab.host(["sh", "-c", "kill $(cat \(folder)/pid)"])
                _ = try? await machine.value
            }
            do {
                try await body()
            } catch {
                await end()
                throw error
            }
            await end()
        }

        private var disk: String { "\(folder)/disk.qcow2" }

        /// Waits for its ssh.
        func waitUntilUp() async throws {
            let end = ContinuousClock.now + .seconds(400)
            while try await lab.host(ssh("true")).status != 0 {
                try #require(ContinuousClock.now < end, "the machine does not come up")
                try await Task.sleep(for: .seconds(2))
            }
        }

        /// Has its clock taken for synchronised, as a time server's client does.
        func synchroniseClock() async throws { try await check("python3 -c '\(Lab.synchronisedClock)'") }

        /// Reboots it, and waits until it serves.
        func reboot() async throws {
            let before = try await check("cat /proc/sys/kernel/random/boot_id")
            _ = try await lab.host(ssh("systemctl reboot"))
            let end = ContinuousClock.now + .seconds(400)
            while true {
                let now = try await lab.host(
                    ssh("cat /proc/sys/kernel/random/boot_id && systemctl is-active cliod@default"))
                let lines = now.outputText.split(separator: "\n").map(String.init)
                if lines.count == 2, lines[0] != before, lines[1] == "active" { return }
                try #require(ContinuousClock.now < end, "the machine does not serve again: \(lines)")
                try await Task.sleep(for: .seconds(2))
            }
        }

        private func ssh(_ command: String) -> [String] { ["ssh", "-F", "\(folder)/ssh", "gw1", command] }

        @discardableResult
        func check(_ command: String) async throws -> String {
            try await lab.hostCheck(ssh(command), timeout: .seconds(300))
        }

        /// A line that the administrator types.
        func administrator(_ command: String) async throws {
            let here = command.replacing(" /etc/ceph/", with: " \(folder)/")
                .replacing("scp ", with: "scp -F \(folder)/ssh ")
            try await lab.hostCheck(["sh", "-ec", here])
        }

        func console() -> String {
            String(decoding: FileManager.default.contents(atPath: "\(folder)/console") ?? Data(), as: UTF8.self)
        }

        /// What its kernel complains of. Modules from DKMS carry no signature that this kernel knows.
        func problems() -> [ConsoleProblem] {
            ConsoleLog.problems(console().utf8, node: "the machine").filter {
                !$0.text.contains("module verification failed")
            }
        }
    }
}
