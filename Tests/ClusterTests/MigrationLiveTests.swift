// SPDX-License-Identifier: Apache-2.0

import Foundation
import Initiator
import Lab
import Testing

/// A gateway that targetcli has set up, on the distribution's kernel: its configuration becomes a group, and the group becomes
/// a configuration that targetcli restores.
@Suite("Migration", .serialized)
struct MigrationLiveTests {
    private static let target = "iqn.2026-11.example.admin:disk"
    private static let host = "iqn.2026-11.example.admin:host"
    private static let chap = ISCSISession.CHAP(user: "host", password: "aSecretOf16Bytes")

    @Test func targetcliAndBack() async throws {
        let options = LabOptions(
            name: "migration-test", gateways: 1, initiators: 0, luns: 1, kernel: .stock, serve: false)
        try await withLab(options) { lab in
            try await setUp(lab)
            let before = try await identity(lab)

            // To Clio.
            let clio = try lab.executable("clio")
            try await lab.check("gw1", ["targetcli", "saveconfig", "/tmp/saved.json"])
            let imported = try await lab.exec("gw1", [clio, "import", "targetcli", "gw1=/tmp/saved.json"])
            #expect(imported.status == 0, "\(imported.errorText)")
            #expect(!imported.errorText.contains("not carried over"), "\(imported.errorText)")
            let access = ["--ceph-conf", lab.description().cephConf, "--keyring", lab.description().keyring]
            try await lab.hostCheck([clio, "group", "init", "--no-client"] + access)
            let file = Array(imported.outputText.utf8)
            let early = try await lab.host([clio, "apply", "-f", "-"] + access, input: file)
            #expect(early.status == 2 && early.errorText.contains("rbd/lun0 is open by"), "\(early.errorText)")
            try await lab.check("gw1", ["targetcli", "clearconfig", "confirm=true"])
            try await lab.check("gw1", ["sh", "-c", "echo 0 > /sys/bus/rbd/remove_single_major"])
            try await lab.hostCheck([clio, "apply", "-f", "-"] + access, input: file)

            // And back.
            let export = [clio, "export", "targetcli", "--node"]
            let unknown = try await lab.host(export + ["gw9"] + access)
            #expect(unknown.status != 0 && unknown.errorText.contains("gw9"), "\(unknown.errorText)")
            let saved = try await lab.hostCheck(export + ["gw1"] + access)
            try await map(lab)
            try await lab.check("gw1", ["sh", "-c", "umask 077; cat > /tmp/back.json"], input: Array(saved.utf8))
            try await lab.check("gw1", ["targetcli", "restoreconfig", "/tmp/back.json"])
            #expect(try await identity(lab) == before)
            await #expect(throws: ISCSIError.self) {
                try await identity(lab, ISCSISession.CHAP(user: "host", password: "anotherOf16Bytes"))
            }
        }
    }

    /// Maps the lab's image where udev would show it.
    private func map(_ lab: Lab) async throws {
        let keyring = try String(contentsOfFile: lab.description().keyring, encoding: .utf8)
        let key = try #require(keyring.firstMatch(of: /key = (\S+)/)?.1)
        let configuration = try String(contentsOfFile: lab.description().cephConf, encoding: .utf8)
        let monitor = try #require(configuration.firstMatch(of: /v1:([0-9.:]+)/)?.1)
        try await lab.check(
            "gw1", ["sh", "-es"],
            input: Array(
                """
                modprobe -a rbd target_core_iblock iscsi_target_mod
                echo '\(monitor) name=admin,secret=\(key) rbd lun0 -' > /sys/bus/rbd/add_single_major
                mkdir -p /dev/rbd/rbd
                ln -sf /dev/rbd0 /dev/rbd/rbd/lun0
                """.utf8))
    }

    private func setUp(_ lab: Lab) async throws {
        try await map(lab)
        let portal = try #require(lab.description().nodes.first?.portal).split(separator: ":")
        let group = "/iscsi/\(Self.target)/tpg1"
        try await lab.check(
            "gw1", ["sh", "-es"],
            input: Array(
                """
                # targetcli asks the system's bus for tcmu-runner.
                mkdir -p /run/dbus /root/.targetcli /etc/rtslib-fb-target
                dbus-daemon --system --fork --nopidfile
                mountpoint -q /sys/kernel/config || mount -t configfs configfs /sys/kernel/config
                targetcli set global auto_add_default_portal=false
                targetcli /backstores/block create disk /dev/rbd/rbd/lun0
                targetcli /iscsi create \(Self.target)
                targetcli \(group)/portals create \(portal[0]) \(portal[1])
                targetcli \(group)/luns create /backstores/block/disk
                targetcli \(group)/acls create \(Self.host)
                targetcli \(group)/acls/\(Self.host) set auth userid=\(Self.chap.user)
                targetcli \(group)/acls/\(Self.host) set auth password=\(Self.chap.password)
                targetcli \(group) set attribute authentication=1
                """.utf8), timeout: .seconds(120))
    }

    private func identity(_ lab: Lab, _ chap: ISCSISession.CHAP = chap) async throws -> String {
        let portal = try #require(lab.description().nodes.first?.portal)
        return try await blocking(in: lab.description().netns) {
            let session = try ISCSISession(
                portal: portal, target: Self.target, initiator: Self.host, chap: chap, timeout: 5)
            try session.ready(lun: 0)
            return try Identity(session: session, lun: 0).serial
        }
    }
}
