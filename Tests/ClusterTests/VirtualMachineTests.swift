// SPDX-License-Identifier: Apache-2.0

import Foundation
import Initiator
import Lab
import Testing

/// A virtual machine in a gateway uses a logical unit through vhost-scsi, beside a host of iSCSI's at the other gateway.
///
/// QEMU emulates the machine (User Mode Linux has no KVM), which boots from the unit; `Tests/Guest/boot.S` is all it runs.
@Suite(
    "Virtual machine", .serialized, .timeLimit(.minutes(10)),
    .enabled(if: ProcessInfo.processInfo.environment["CLIO_TEST_VHOST"] != nil, "make test-vhost runs it"))
struct VirtualMachineTests {
    private static let port = "naa.5001405000000011"

    /// On the debug kernel, too: vhost-scsi calls the target core from a thread of QEMU's.
    @Test(arguments: [KernelFlavour.clio, .debug])
    func bootsFromTheUnitAndSharesIt(kernel: KernelFlavour) async throws {
        let options = LabOptions(name: "vhost-test", gateways: 2, initiators: 0, luns: 1, kernel: kernel)
        try await withLab(options, isKnown: isKnown) { lab in
            try await addPort(lab)
            let iSCSI = try await lab.reservationPaths(host: 1)[1].session
            try await boots(lab, iSCSI)
            try await dataIsOne(lab, iSCSI)
            try await reservationsHold(lab, iSCSI)
            try await resetsAreTold(lab, iSCSI)
            try await outlivesAFence(lab)
            try await outlivesALeave(lab)
            await iSCSI.close()
            try await keepsAPortThatGoes(lab)
        }
    }

    // MARK: Steps

    private func addPort(_ lab: Lab) async throws {
        let add = ["target", "add", "machines", "--fabric", "vhost", "--port", "gw1=\(Self.port)"]
        try await lab.check("gw1", [try lab.executable("clio")] + add)
        let group = "/sys/kernel/config/target/vhost/\(Self.port)/tpgt_1/lun/lun_0/alua_tg_pt_gp"
        try await wait(lab, "grep -q port3 \(group)")
    }

    private func boots(_ lab: Lab, _ iSCSI: Initiator.Nexus) async throws {
        let sector = try Array(Data(contentsOf: URL(fileURLWithPath: lab.executable("vm-boot"))))
        try await iSCSI.good(.write(0, sector))
        let machine = "qemu-system-x86_64 -accel tcg -nodefaults -no-user-config -display none -m 16 -serial stdio"
        let disk = "-device vhost-scsi-pci,wwpn=\(Self.port),bootindex=0"
        let start = "cd /tmp; mkfifo machine.in; setsid \(machine) \(disk) <>machine.in >machine.out 2>machine.err &"
        try await lab.check("gw1", ["sh", "-c", start])
        try await wait(lab, "grep -q started /tmp/machine.out")
    }

    /// What one writes the other reads.
    private func dataIsOne(_ lab: Lab, _ iSCSI: Initiator.Nexus) async throws {
        for word in ["abc", "def"] {
            try await iSCSI.good(.write(2048, Self.block(word)))
            #expect(try await tell(lab, "r") == "read:\(word)")
            #expect(try await tell(lab, "w") == "written")
            #expect(try await iSCSI.good(.read(2049, blocks: 1)) == Self.block(word))
        }
    }

    private func reservationsHold(_ lab: Lab, _ iSCSI: Initiator.Nexus) async throws {
        try await iSCSI.good(.write(2048, Self.block("ghi")))
        try await iSCSI.good(.persistentReserveOut(.register, actionKey: 0xA))
        try await iSCSI.good(.persistentReserveOut(.reserve, key: 0xA, type: 5))
        #expect(try await tell(lab, "r") == "read:ghi", "Write Exclusive lets everybody read")
        #expect(try await tell(lab, "w") == Self.refused)
        #expect(try await iSCSI.good(.read(2049, blocks: 1)) == Self.block("def"))
        try await iSCSI.good(.persistentReserveOut(.clear, key: 0xA))
        #expect(try await tell(lab, "w") == "written")
        #expect(try await iSCSI.good(.read(2049, blocks: 1)) == Self.block("ghi"))
    }

    /// The machine's BIOS takes the unit attention for a failure.
    private func resetsAreTold(_ lab: Lab, _ iSCSI: Initiator.Nexus) async throws {
        #expect(try await iSCSI.manage(.logicalUnitReset) == .complete)
        #expect(try await tell(lab, "r") == Self.refused)
        #expect(try await tell(lab, "r") == "read:ghi")
        try await iSCSI.ready()
    }

    /// Guards: a port that LIO does not let go while a machine is attached kept its node from coming back.
    private func outlivesAFence(_ lab: Lab) async throws {
        try await lab.killDaemon("gw1")
        try await Task.sleep(for: .seconds(6))
        #expect(try await tell(lab, "r") == Self.refused, "no lease")
        try await lab.startDaemon("gw1")
        try await works(lab)
    }

    private func outlivesALeave(_ lab: Lab) async throws {
        try await lab.check("gw1", [try lab.executable("clio"), "node", "down"], timeout: .seconds(60))
        let left = "cd /sys/kernel/config/target; ls core | grep iblock; ls -d */*/tpgt_*/lun/lun_*; ls /dev/rbd?"
        #expect(try await lab.exec("gw1", ["sh", "-c", left]).outputText == "")
        #expect(try await tell(lab, "r") == Self.refused)
        try await lab.startDaemon("gw1")
        try await works(lab)
    }

    /// A port that is taken out of the group is empty at once, and goes when the machine does.
    private func keepsAPortThatGoes(_ lab: Lab) async throws {
        let clio = try lab.executable("clio")
        try await lab.check("gw1", [clio, "target", "remove", "machines"])
        try await wait(lab, "\(clio) status | grep -q 'virtual machine is attached'")
        #expect(try await tell(lab, "r") == Self.refused)
        try await lab.check("gw1", ["sh", "-c", "kill $(pgrep -f ^qemu-system)"])
        try await wait(lab, "! ls /sys/kernel/config/target/vhost | grep -q naa")
        try await wait(lab, "! \(clio) status | grep -q 'virtual machine is attached'")
    }

    /// lockdep's false alarm about vhost-scsi and configfs as they are upstream: attaching a machine locks configfs' root under
    /// the port's mutex, showing a LUN takes this mutex under the lock of the LUN's folder, and the folders' locks are of one
    /// class.
    private func isKnown(_ problem: ConsoleProblem, _ lab: Lab) -> Bool {
        guard problem.text.hasSuffix("possible circular locking dependency detected"),
            let path = try? lab.consolePath(problem.node), let bytes = FileManager.default.contents(atPath: path)
        else { return false }
        let lines = String(decoding: bytes, as: UTF8.self).split(
            omittingEmptySubsequences: false, whereSeparator: \.isNewline)
        let splat = lines.dropFirst(problem.line).prefix(8).joined(separator: " ")
        return splat.contains("at: configfs_depend_item") && splat.contains("&tpg->tv_tpg_mutex")
            && splat.contains("[vhost_scsi]")
    }

    // MARK: The machine

    /// SeaBIOS' status for a command that ended with any other status than GOOD.
    private static let refused = "failed:0c"

    /// Has the machine do something.
    ///
    /// - Returns: its answer, a line.
    private func tell(_ lab: Lab, _ command: Character) async throws -> String {
        let script = """
            cd /tmp; before=$(wc -l < machine.out); printf \(command) > machine.in; i=0
            until [ $(wc -l < machine.out) -gt $before ]; do i=$((i+1)); [ $i -lt 100 ] || exit 1; sleep 0.2; done
            tail -n 1 machine.out
            """
        return try await lab.check("gw1", ["sh", "-c", script]).trimmingCharacters(in: .whitespacesAndNewlines)
    }

    /// Waits until the machine, which has been told nothing, reads and writes again.
    private func works(_ lab: Lab) async throws {
        let end = ContinuousClock.now + .seconds(60)
        while try await tell(lab, "r") != "read:ghi" {
            try #require(ContinuousClock.now < end)
            try await Task.sleep(for: .milliseconds(500))
        }
        #expect(try await tell(lab, "w") == "written")
    }

    /// Waits until a command succeeds in gw1.
    private func wait(_ lab: Lab, _ condition: String) async throws {
        let script = "i=0; until \(condition); do i=$((i+1)); [ $i -lt 80 ] || exit 1; sleep 0.5; done"
        try await lab.check("gw1", ["sh", "-c", script])
    }

    /// A block that begins with a word.
    private static func block(_ word: String) -> [UInt8] {
        Array(word.utf8) + [UInt8](repeating: 0x20, count: 512 - word.utf8.count)
    }
}
