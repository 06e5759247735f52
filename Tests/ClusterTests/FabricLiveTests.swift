// SPDX-License-Identifier: Apache-2.0

import Foundation
import Initiator
import Lab
import Testing

/// One logical unit through several fabrics at once.
@Suite("Fabrics", .serialized, .timeLimit(.minutes(10)))
struct FabricLiveTests {
    /// Each gateway has a disk of the LUN beside its iSCSI port.
    ///
    /// On the debug kernel, too: other fabrics call the target core from other contexts than iSCSI's threads.
    @Test(arguments: [KernelFlavour.clio, .debug])
    func iSCSIAndLoopback(kernel: KernelFlavour) async throws {
        try await withLab(LabOptions(name: "fabric-test", gateways: 2, initiators: 0, luns: 1, kernel: kernel)) { lab in
            try await addLocalPorts(lab)
            try await everyPathListsAllPorts(lab)
            try await withHost(lab) { iSCSI in
                try await dataIsOne(lab, iSCSI)
                try await countersAgree(lab, iSCSI)
                try await reservationsAreOne(lab, iSCSI)
                try await resetsAreTold(lab, iSCSI)
            }
            try await nodesComeAndGo(lab)
            try await removeLocalPorts(lab)
        }
    }

    /// SRP over soft-RoCE to both gateways, beside iSCSI and a gateway's own disk. On a machine with more to do soft-RoCE drops
    /// connections, and unit attentions with them, so this is a target of its own.
    @Test(.enabled(if: ProcessInfo.processInfo.environment["CLIO_TEST_SRP"] != nil, "make test-srp runs it"))
    func srpOverEthernet() async throws {
        try await withLab(LabOptions(name: "srp-test", gateways: 2, initiators: 1, luns: 1, kernel: .rdma)) { lab in
            try await addSRP(lab)
            try await connect(lab)
            try await srpPathsAreOne(lab)
            try await withHost(lab) { try await srpReservations(lab, $0) }
            try await srpPortsClose(lab)
        }
    }

    /// Fibre Channel over the nodes' Ethernet at gw1, beside iSCSI at gw2: `tcm_fc` shows what Clio exports, set up by hand, as
    /// the group has no such fabric (docs/fabrics.md).
    @Test(.enabled(if: ProcessInfo.processInfo.environment["CLIO_TEST_FCOE"] != nil, "make test-fcoe runs it"))
    func fibreChannelOverEthernet() async throws {
        try await withLab(LabOptions(name: "fcoe-test", gateways: 2, initiators: 1, luns: 1, kernel: .fcoe)) { lab in
            try await addFCoE(lab)
            try await fcoeDataIsOne(lab)
            try await withHost(lab) { try await fcoeReservations(lab, $0) }
            try await removeFCoE(lab)
        }
    }

    // MARK: Steps of FCoE

    /// A node's port name as libfc makes it: NAA 2h and its Ethernet address.
    private func portName(_ lab: Lab, _ node: String) async throws -> String {
        let address = try await lab.check(node, ["cat", "/sys/class/net/vec0/address"])
        return "20:00:" + address.trimmingCharacters(in: .whitespacesAndNewlines)
    }

    /// Port 3: at gw1 that of tcm_fc, at gw2 one of tcm_remote. No switch: the ports find each other (VN2VN).
    private func addFCoE(_ lab: Lab) async throws {
        let (port, host) = (try await portName(lab, "gw1"), try await portName(lab, "ini1"))
        let show = """
            modprobe $1
            cd /sys/kernel/config/target
            mkdir -p $2/tpgt_1
            cd $2/tpgt_1
            echo 3 > rtpi
            mkdir lun/lun_0
            unit=$(ls -d /sys/kernel/config/target/core/iblock_*/*/wwn)
            ln -s ${unit%/wwn} lun/lun_0/unit

            """
        let letIn = "mkdir acls/\(host) acls/\(host)/lun_0; ln -s $PWD/lun/lun_0 acls/\(host)/lun_0/unit\n"
        try await lab.check(
            "gw1", ["sh", "-e", "-s", "tcm_fc", "fc/\(port)"], input: Array((show + letIn).utf8))
        try await lab.check("gw2", ["sh", "-e", "-s", "tcm_remote", "remote/fc.\(port)"], input: Array(show.utf8))
        let link = "modprobe fcoe; echo vec0 > /sys/module/libfcoe/parameters/create_vn2vn"
        for node in ["gw1", "ini1"] { try await lab.check(node, ["sh", "-ec", link]) }
        let find = """
            i=0
            until disk=$(ls -d /sys/class/fc_host/host*/device/rport-*/target*/*/scsi_generic/*); do
                i=$((i+1)); [ $i -lt 100 ] || exit 1; sleep 0.2
            done 2>/dev/null
            ln -s /dev/${disk##*/} /dev/fc
            ln -s /dev/$(ls ${disk%/scsi_generic/*}/block) /dev/fc-block
            """
        try await lab.check("ini1", ["sh", "-e"], input: Array(find.utf8))
        try await waitForDisk(lab, "ini1", "/dev/fc")
    }

    private func fcoeDataIsOne(_ lab: Lab) async throws {
        let page = try await lab.check("ini1", ["sg_vpd", "-p", "di", "/dev/fc"])
        #expect(page.contains("Relative target port: 0x3") && page.contains("Fibre Channel"), "\(page)")
        #expect(Set(try await portGroups(lab, "ini1", "/dev/fc").keys) == [1, 2, 3])
        // Of many frames each way, and through the block layer. Of more at once the host's taps drop some; FCoE wants an Ethernet
        // that does not.
        let copy = """
            dd if=/dev/urandom of=/tmp/data bs=256k count=16 status=none
            dd if=/tmp/data of=/dev/fc-block bs=256k seek=16 oflag=direct status=none
            dd if=/dev/fc-block bs=256k skip=16 count=16 iflag=direct status=none | cmp - /tmp/data
            """
        try await lab.check("ini1", ["sh", "-e"], input: Array(copy.utf8), timeout: .seconds(60))
        try await withHost(lab) { iSCSI in
            try await iSCSI.good(.write(2048, Self.block(51)))
            let read = "sg_dd if=/dev/fc bs=512 skip=2048 count=1 of=- 2>/dev/null"
            #expect(try await lab.check("ini1", ["sh", "-c", read]).hasPrefix("51 "))
            let write = "printf %-512s 52 > /tmp/52; sg_dd if=/tmp/52 of=/dev/fc bs=512 seek=2048 count=1 2>/dev/null"
            try await lab.check("ini1", ["sh", "-ec", write])
            #expect(try await iSCSI.good(.read(2048, blocks: 1)) == Self.block(52))
        }
    }

    private func fcoeReservations(_ lab: Lab, _ iSCSI: Initiator.Nexus) async throws {
        let out = ["sg_persist", "-n", "--out"]
        try await lab.check("ini1", out + ["--register", "--param-sark=0xc", "/dev/fc"])
        try await lab.check("ini1", out + ["--reserve", "--param-rk=0xc", "--prout-type=5", "/dev/fc"])
        #expect(try await iSCSI.good(.persistentReserveIn(.readKeys)).suffix(8) == [0, 0, 0, 0, 0, 0, 0, 12])
        #expect(try await iSCSI.send(.write(2048, Self.block(1))).isReservationConflict)
        let shown = try await lab.check("gw2", [try lab.executable("clio"), "pr", "show", "0"])
        let host = try await portName(lab, "ini1").replacing(":", with: "")
        #expect(shown.contains("fc:\(host)"), "\(shown)")
        try await iSCSI.good(.persistentReserveOut(.register, actionKey: 0xB))
        try await iSCSI.good(.persistentReserveOut(.preempt, key: 0xB, actionKey: 0xC, type: 5))
        let told = try await lab.exec("ini1", ["sg_turs", "-v", "/dev/fc"])
        #expect(told.errorText.contains("Registrations preempted"), "\(told.errorText)")
        let write = "sg_dd if=/tmp/52 of=/dev/fc bs=512 seek=2048 count=1"
        #expect(try await lab.exec("ini1", ["sh", "-c", write]).status != 0, "its registration is gone")
        try await iSCSI.good(.persistentReserveOut(.clear, key: 0xB))
        #expect(try await iSCSI.manage(.logicalUnitReset) == .complete)
        let reset = try await lab.exec("ini1", ["sg_turs", "-v", "/dev/fc"])
        #expect(reset.errorText.contains("Bus device reset function occurred"), "\(reset.errorText)")
    }

    private func removeFCoE(_ lab: Lab) async throws {
        let unlink = "echo vec0 > /sys/module/libfcoe/parameters/destroy"
        for node in ["ini1", "gw1"] { try await lab.check(node, ["sh", "-ec", unlink]) }
        let remove = """
            cd /sys/kernel/config/target/$1/*/tpgt_1
            for host in acls/*; do [ ! -e $host ] || { rm $host/lun_0/unit; rmdir $host/lun_0 $host; }; done
            rm lun/lun_0/unit
            rmdir lun/lun_0
            cd ../..
            rmdir */tpgt_1
            rmdir *:*
            """
        try await lab.check("gw1", ["sh", "-e", "-s", "fc"], input: Array(remove.utf8))
        try await lab.check("gw2", ["sh", "-e", "-s", "remote"], input: Array(remove.utf8))
    }

    // MARK: Steps of SRP

    /// A node's GID: link-local, of its Ethernet address.
    private func gid(_ last: Int) -> String {
        "fe8000000000000000000afffe4d00" + (last < 16 ? "0" : "") + String(last, radix: 16)
    }

    private func addSRP(_ lab: Lab) async throws {
        for node in ["gw1", "gw2", "ini1"] {
            try await lab.check(
                node, ["sh", "-ec", "modprobe rdma_rxe; rdma link add rxe0 type rxe netdev vec0"])
        }
        try await apply(lab) {
            $0.replacing(
                "\nluns:",
                with: """

                      - {fabric: srp, name: hpc, ports: {gw1: [ib.\(gid(11))], gw2: [ib.\(gid(12))]}}
                      - {fabric: loopback, name: local, ports: {gw1: [naa.5001405000000001]}}
                    luns:
                    """
            ).replacing(
                "\nhosts: []",
                with: "\nhosts:\n  - {fabric: srp, name: ib.0000000000000000\(gid(101).suffix(16))}")
        }
        try await waitForDisk(lab, "gw1")
    }

    /// A disk for each gateway, `/dev/disk-11` and `/dev/disk-12`.
    private func connect(_ lab: Lab) async throws {
        let script = """
            modprobe ib_srp
            for last in 11 12; do
                guid=$(printf 00000afffe4d%04x $last)
                echo "id_ext=$guid,ioc_guid=$guid,dest=10.77.0.$last:5555" > /sys/class/infiniband_srp/srp-rxe0-1/add_target
                i=0
                until disk=$(grep -l $guid /sys/class/scsi_host/host*/ioc_guid) && disk=${disk%/*} &&
                    name=$(ls -d $disk/device/target*/*/scsi_generic/*); do
                    i=$((i+1)); [ $i -lt 50 ] || exit 1; sleep 0.2
                done
                ln -sf /dev/${name##*/} /dev/disk-$last
            done
            """
        try await lab.check("ini1", ["sh", "-e"], input: Array(script.utf8))
    }

    private func srpPathsAreOne(_ lab: Lab) async throws {
        for (last, port) in [(11, 3), (12, 4)] {
            let disk = "/dev/disk-\(last)"
            try await lab.check("ini1", ["sh", "-c", "sg_turs \(disk) || sg_turs \(disk)"])
            let page = try await lab.check("ini1", ["sg_vpd", "-p", "di", disk])
            #expect(page.contains("Relative target port: 0x\(port)") && page.contains("Target port group: 0x\(port)"))
            #expect(page.contains("SCSI RDMA Protocol"), "\(page)")
            #expect(try await portGroups(lab, "ini1", disk) == [1: 0, 2: 0, 3: 0, 4: 0, 5: 0])
        }
        #expect(try await portGroups(lab, "gw1") == [1: 0, 2: 0, 3: 0, 4: 0, 5: 0])
        // Written through one gateway by SRP, read through the other by SRP and on the first by loopback.
        let copy = "printf %-512s 43 > /tmp/43; sg_dd if=/tmp/43 of=/dev/disk-12 bs=512 seek=2048 count=1 2>/dev/null"
        try await lab.check("ini1", ["sh", "-ec", copy])
        let back = "sg_dd if=/dev/disk-11 bs=512 skip=2048 count=1 of=- 2>/dev/null"
        #expect(try await lab.check("ini1", ["sh", "-c", back]).hasPrefix("43 "))
        #expect(try await read(lab, 2048) == 43)
    }

    private func srpReservations(_ lab: Lab, _ iSCSI: Initiator.Nexus) async throws {
        let out = ["sg_persist", "-n", "--out"]
        try await lab.check("ini1", out + ["--register", "--param-sark=0xc", "/dev/disk-11"])
        try await lab.check("ini1", out + ["--reserve", "--param-rk=0xc", "--prout-type=5", "/dev/disk-11"])
        #expect(try await iSCSI.send(.write(2048, Self.block(1))).isReservationConflict)
        let write = "sg_dd if=/tmp/43 of=/dev/disk-12 bs=512 seek=2048 count=1"
        #expect(try await lab.exec("ini1", ["sh", "-c", write]).status != 0, "its other port is not registered")
        let shown = try await lab.check("gw2", [try lab.executable("clio"), "pr", "show", "0"])
        #expect(shown.contains("srp:0000000000000000\(gid(101).suffix(16))"), "\(shown)")
        try await iSCSI.good(.persistentReserveOut(.register, actionKey: 0xB))
        try await iSCSI.good(.persistentReserveOut(.preempt, key: 0xB, actionKey: 0xC, type: 5))
        let told = try await lab.exec("ini1", ["sg_turs", "-v", "/dev/disk-11"])
        #expect(told.errorText.contains("Registrations preempted"), "\(told.errorText)")
        try await iSCSI.good(.persistentReserveOut(.clear, key: 0xB))
        #expect(try await iSCSI.manage(.logicalUnitReset) == .complete)
        for disk in ["/dev/disk-11", "/dev/disk-12"] {
            let told = try await lab.exec("ini1", ["sg_turs", "-v", disk])
            #expect(told.errorText.contains("Bus device reset function occurred"), "\(told.errorText)")
        }
    }

    /// A node that leaves drops its SRP hosts, though they are connected, and lets them in again.
    private func srpPortsClose(_ lab: Lab) async throws {
        let clio = try lab.executable("clio")
        try await lab.check("gw2", [clio, "node", "down"], timeout: .seconds(60))
        let left = "find /sys/kernel/config/target/srpt /sys/kernel/config/target/remote -name 'tpgt_*'"
        #expect(try await lab.check("gw2", ["sh", "-c", left]).isEmpty)
        #expect(try await lab.exec("ini1", ["timeout", "20", "sg_inq", "/dev/disk-12"]).status != 0)
        #expect(try await portGroups(lab, "ini1", "/dev/disk-11") == [1: 0, 2: 3, 3: 0, 4: 3, 5: 0])
        try await lab.startDaemon("gw2")
        let again =
            "i=0; until timeout 5 sg_inq /dev/disk-12; do i=$((i+1)); [ $i -lt 30 ] || exit 1; sleep 1; done 2>&1"
        try await lab.check("ini1", ["sh", "-c", again], timeout: .seconds(200))
    }

    // MARK: Steps

    private func apply(_ lab: Lab, _ edit: (String) -> String) async throws {
        let clio = try lab.executable("clio")
        let text = edit(try await lab.check("gw1", [clio, "get"]))
        try await lab.check("gw1", [clio, "apply", "-f", "-", "--wait", "30"], input: Array(text.utf8))
    }

    private static let local = """
          - fabric: loopback
            name: local
            ports: {gw1: [naa.5001405000000001], gw2: [naa.5001405000000002]}

        """

    private func addLocalPorts(_ lab: Lab) async throws {
        try await apply(lab) { $0.replacing("\nluns:", with: "\n" + Self.local + "luns:") }
        for gateway in ["gw1", "gw2"] { try await waitForDisk(lab, gateway) }
        let machine = "naa.5001405000000011"
        try await lab.check(
            "gw1",
            [try lab.executable("clio"), "target", "add", "machines", "--fabric", "vhost", "--port", "gw1=\(machine)"])
        for (gateway, folder) in [("gw1", "vhost"), ("gw2", "remote")] {
            let group = "/sys/kernel/config/target/\(folder)/\(machine)/tpgt_1/lun/lun_0/alua_tg_pt_gp"
            let script = "i=0; until grep -q port5 \(group); do i=$((i+1)); [ $i -lt 40 ] || exit 1; sleep 0.5; done"
            try await lab.check(gateway, ["sh", "-c", script])
        }
        // A second look finds nothing to do, whatever LIO made of what was written.
        let clio = try lab.executable("clio")
        for gateway in ["gw1", "gw2"] {
            #expect(try await lab.check(gateway, [clio, "status"]).contains("in step with the group"))
        }
        let initiator = "/sys/kernel/config/target/vhost/naa.5001405000000011/tpgt_1/nexus"
        #expect(try await lab.check("gw1", ["cat", initiator]) == "naa.3001405000000011")
    }

    private func waitForDisk(_ lab: Lab, _ gateway: String, _ disk: String = "/dev/sg0") async throws {
        let script = "i=0; until sg_turs \(disk); do i=$((i+1)); [ $i -lt 60 ] || exit 1; sleep 0.5; done 2>/dev/null"
        try await lab.check(gateway, ["sh", "-c", script])
    }

    /// REPORT TARGET PORT GROUPS and VPD 83h, whichever way.
    private func everyPathListsAllPorts(_ lab: Lab) async throws {
        let portals = lab.description().nodes.compactMap(\.portal)
        let target = lab.description().nodes[0].iqn
        let identities = try await blocking(in: lab.description().netns) {
            try portals.map { try Identity(session: try ISCSISession(portal: $0, target: target)) }
        }
        #expect(identities.map(\.relativePort) == [1, 2])
        for identity in identities { #expect(identity.portGroups.map(\.ports) == [[1], [2], [3], [4], [5]]) }
        for (gateway, port) in [("gw1", 3), ("gw2", 4)] {
            #expect(try await portGroups(lab, gateway) == [1: 0, 2: 0, 3: 0, 4: 0, 5: 0])
            let page = try await lab.check(gateway, ["sg_vpd", "-p", "di", "/dev/sg0"])
            #expect(page.contains("Relative target port: 0x\(port)") && page.contains("Target port group: 0x\(port)"))
            #expect(page.contains("0x\(identities[0].naa ?? "?")"))
        }
    }

    /// States by port, as a node's disk reports them.
    private func portGroups(
        _ lab: Lab, _ node: String, _ disk: String = "/dev/sg0"
    ) async throws -> [UInt16: UInt8] {
        // Which state it was told of last is not asked here.
        try await waitForDisk(lab, node, disk)
        let text = try await lab.check(node, ["sg_rtpg", "--hex", disk])
        let bytes = text.split(whereSeparator: \.isNewline).flatMap { line in
            // "00     00 00 00 30 …   text": the offset, then up to 16 bytes.
            line.dropFirst(2).prefix(56).split(separator: " ").compactMap { $0.count == 2 ? UInt8($0, radix: 16) : nil }
        }
        var states: [UInt16: UInt8] = [:]
        for group in Identity.portGroups(bytes) { for port in group.ports { states[port] = group.state } }
        return states
    }

    /// Waits until a node's disk reports these states.
    private func show(_ lab: Lab, _ node: String, _ expected: [UInt16: UInt8]) async throws {
        var found: [UInt16: UInt8] = [:]
        for _ in 0..<40 {
            found = try await portGroups(lab, node)
            if found == expected { return }
            try await Task.sleep(for: .milliseconds(500))
        }
        Issue.record("\(node): states \(found), not \(expected)")
    }

    private func dataIsOne(_ lab: Lab, _ iSCSI: Initiator.Nexus) async throws {
        try await iSCSI.good(.write(2048, Self.block(41)))
        #expect(try await read(lab, 2048) == 41)
        let text = "printf %-512s 42 | dd of=/dev/sda seek=2048 oflag=direct status=none"
        try await lab.check("gw1", ["sh", "-c", text])
        #expect(try await iSCSI.good(.read(2048, blocks: 1)) == Self.block(42))
    }

    /// A block with a number in it, as text.
    private static func block(_ number: Int) -> [UInt8] {
        let text = Array(String(number).utf8)
        return text + [UInt8](repeating: 0x20, count: 512 - text.count)
    }

    private func read(_ lab: Lab, _ lba: Int) async throws -> Int? {
        let command = "dd if=/dev/sda skip=\(lba) count=1 iflag=direct status=none"
        return Int(try await lab.check("gw1", ["sh", "-c", command]).split(separator: " ").first ?? "")
    }

    /// COMPARE AND WRITE through both at once: nobody's success is lost.
    ///
    /// The host goes on until the disk's owner has had five turns, however slow its commands are: each time that it has none, the
    /// host leaves it longer between its own.
    private func countersAgree(_ lab: Lab, _ iSCSI: Initiator.Nexus) async throws {
        let lba = 4096
        try await iSCSI.good(.write(UInt64(lba), Self.block(0)))
        let script = """
            cd /tmp; won=0; tries=0
            until [ $won = 5 ]; do
                tries=$((tries + 1)); [ $tries -le 60 ] || exit 1
                dd if=/dev/sda skip=\(lba) count=1 iflag=direct status=none of=old
                { cat old; printf %-512s $(($(cat old) + 1)); } > both
                sg_compare_and_write --quiet --in=both --lba=\(lba) /dev/sg0
                case $? in 0) won=$((won + 1)) ;; 14) ;; *) exit 1 ;; esac
            done
            echo $won
            """
        async let local = lab.check("gw1", ["sh", "-c", script], timeout: .seconds(120))
        var (won, others, pause) = (0, 0, Duration.milliseconds(20))
        let end = ContinuousClock.now + .seconds(120)
        while others < 5, ContinuousClock.now < end {
            let old = try await iSCSI.good(.read(UInt64(lba), blocks: 1))
            let number = try #require(Int(String(decoding: old, as: UTF8.self).split(separator: " ").first ?? ""))
            pause = number - won == others ? min(pause * 1.25, .seconds(2)) : .milliseconds(20)
            others = number - won
            let reply = try await iSCSI.send(.compareAndWrite(UInt64(lba), expected: old, new: Self.block(number + 1)))
            if reply.isGood { won += 1 } else { #expect(reply.isMiscompare, "\(reply)") }
            try await Task.sleep(for: pause)
        }
        #expect(try await local == String(others))
        #expect(won > 0 && others > 0, "both took part")
        #expect(try await read(lab, lba) == won + others)
        print("COMPARE AND WRITE: \(won) through iSCSI at gw2, \(others) through loopback at gw1")
    }

    private func persist(_ lab: Lab, _ arguments: String...) async throws -> CommandResult {
        try await lab.exec("gw1", ["sg_persist", "-n"] + arguments + ["/dev/sg0"])
    }

    /// Guards: a nexus of loopback (TransportID: SAS) that gateways take for none, or for another's.
    private func reservationsAreOne(_ lab: Lab, _ iSCSI: Initiator.Nexus) async throws {
        #expect(try await persist(lab, "--out", "--register", "--param-sark=0xa").status == 0)
        #expect(try await persist(lab, "--out", "--reserve", "--param-rk=0xa", "--prout-type=5").status == 0)
        let keys = try await iSCSI.good(.persistentReserveIn(.readKeys))
        #expect(keys.suffix(8) == [0, 0, 0, 0, 0, 0, 0, 10])
        #expect(try await iSCSI.send(.write(2048, Self.block(1))).isReservationConflict)

        let clio = try lab.executable("clio")
        let shown = try await lab.check("gw2", [clio, "pr", "show", "0"])
        #expect(shown.contains("sas:3001405000000001 3    local"), "\(shown)")

        // The host takes it: the disk's owner is told, and may no longer write.
        try await iSCSI.good(.persistentReserveOut(.register, actionKey: 0xB))
        try await iSCSI.good(.persistentReserveOut(.preempt, key: 0xB, actionKey: 0xA, type: 5))
        let told = try await lab.exec("gw1", ["sg_turs", "-v", "/dev/sg0"])
        #expect(told.errorText.contains("Registrations preempted"), "\(told.errorText)")
        let write = "dd if=/dev/zero of=/dev/sda count=1 oflag=direct status=none"
        #expect(try await lab.exec("gw1", ["sh", "-c", write]).errorText.contains("Invalid exchange"))
        try await iSCSI.good(.persistentReserveOut(.clear, key: 0xB))
        try await lab.check("gw1", ["sh", "-c", write])
    }

    private func resetsAreTold(_ lab: Lab, _ iSCSI: Initiator.Nexus) async throws {
        #expect(try await iSCSI.manage(.logicalUnitReset) == .complete)
        let told = try await lab.exec("gw1", ["sg_turs", "-v", "/dev/sg0"])
        #expect(told.errorText.contains("Bus device reset function occurred"), "\(told.errorText)")
        try await iSCSI.ready()
        // And the other way; the host's RESERVE(6) does not survive it.
        try await iSCSI.good(.reserve6)
        try await lab.check("gw1", ["sg_reset", "--device", "/dev/sg0"])
        let sense = try await iSCSI.send(.testUnitReady).sense
        #expect(sense?.key == 6 && sense?.additional == 0x2903, "\(String(describing: sense))")
        try await waitForDisk(lab, "gw1")
        try await lab.check("gw1", ["sh", "-c", "dd if=/dev/zero of=/dev/sda count=1 oflag=direct status=none"])
    }

    /// A node that leaves takes its ports of all fabrics out, and one that is killed loses them when it is fenced.
    private func nodesComeAndGo(_ lab: Lab) async throws {
        let clio = try lab.executable("clio")
        try await lab.check("gw2", [clio, "node", "down"], timeout: .seconds(60))
        #expect(try await lab.check("gw2", ["sh", "-c", "ls /dev/sg* 2>/dev/null || true"]).isEmpty)
        let left = "find /sys/kernel/config/target/loopback /sys/kernel/config/target/remote -name 'tpgt_*'"
        #expect(try await lab.check("gw2", ["sh", "-c", left]).isEmpty)
        try await show(lab, "gw1", [1: 0, 2: 3, 3: 0, 4: 3, 5: 0])
        try await lab.startDaemon("gw2")
        try await waitForDisk(lab, "gw2")
        for gateway in ["gw1", "gw2"] { try await show(lab, gateway, [1: 0, 2: 0, 3: 0, 4: 0, 5: 0]) }

        // Without lease the node's own disk is refused as hosts are.
        try await lab.killDaemon("gw1")
        try await Task.sleep(for: .seconds(6))
        let refused = try await lab.exec("gw1", ["sg_turs", "-v", "/dev/sg0"])
        #expect(refused.status != 0 && refused.errorText.contains("Not Ready"), "\(refused.errorText)")
        try await lab.startDaemon("gw1")
        try await waitForDisk(lab, "gw1")
        #expect(try await read(lab, 2048) == 42)
    }

    private func removeLocalPorts(_ lab: Lab) async throws {
        try await apply(lab) { text in
            guard let start = text.range(of: "  - fabric: loopback"), let end = text.range(of: "\nluns:") else {
                return text
            }
            return text.replacingCharacters(in: start.lowerBound..<text.index(after: end.lowerBound), with: "")
        }
        for gateway in ["gw1", "gw2"] {
            let tree =
                "cd /sys/kernel/config/target; ls /dev/sg* 2>/dev/null; ls loopback remote vhost 2>/dev/null | grep naa"
            #expect(try await lab.exec(gateway, ["sh", "-c", tree]).outputText == "")
        }
    }

    /// A host's path through gw2.
    private func withHost(_ lab: Lab, _ body: (Initiator.Nexus) async throws -> Void) async throws {
        let paths = try await lab.reservationPaths(host: 1)
        var failure: (any Error)?
        do { try await body(paths[1].session) } catch { failure = error }
        for path in paths { await path.session.close() }
        if let failure { throw failure }
    }
}
