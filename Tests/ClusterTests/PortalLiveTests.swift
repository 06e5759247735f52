// SPDX-License-Identifier: Apache-2.0

import Initiator
import Lab
import Testing

/// iSCSI beyond one IPv4 portal a node: IPv6, several portals, and each side proving itself to the other, to open-iscsi.
@Suite("Portals", .serialized, .timeLimit(.minutes(10)))
struct PortalLiveTests {
    static let target = "iqn.2026-11.example.clio:secret"

    @Test func iPv6AndMutualCHAP() async throws {
        try await withLab(LabOptions(name: "portal-test", gateways: 2, initiators: 1, luns: 1)) { lab in
            try await addAddresses(lab)
            try await apply(lab)
            try await discoveryAsksForCredentials(lab)
            try await eachProvesItself(lab)
            try await diskThroughIPv6(lab)
        }
    }

    private var gateways: [(name: String, address: String)] { [("gw1", "fd77::11"), ("gw2", "fd77::12")] }
    private var portals: [String] { gateways.map { "[\($0.address)]:3260" } }

    /// The lab's network is IPv4; the tests' own addresses stand beside it.
    private func addAddresses(_ lab: Lab) async throws {
        for (node, address) in gateways + [("ini1", "fd77::101")] {
            try await lab.check(node, ["ip", "-6", "addr", "add", "\(address)/64", "dev", "vec0", "nodad"])
        }
        try await lab.hostCheck(["ip", "-6", "addr", "add", "fd77::1/64", "dev", "br0", "nodad"])
    }

    private func apply(_ lab: Lab) async throws {
        let description = lab.description()
        let lun = description.luns[0]
        let host = try #require(description.nodes.first { $0.role == .initiator }).iqn
        let nodes = gateways.map { name, address in
            let ipv4 = description.nodes.first { $0.name == name }?.portal ?? ""
            return "  - {name: \(name), portals: [\"\(ipv4)\", \"[\(address)]:3260\"]}"
        }
        let file = """
            discovery: {user: finder, password: who-may-look, mutualUser: clio, mutualPassword: it-is-clio-1}
            targets:
              - {iqn: "\(description.nodes[0].iqn)", access: open}
              - {iqn: "\(Self.target)", access: hosts}
            nodes:
            \(nodes.joined(separator: "\n"))
            luns:
              - {lun: 0, image: \(lun.pool)/\(lun.image), serial: "\(lun.serial)"}
            hosts:
              - iqn: \(host)
                chap: {user: alice, password: twelve-chars, mutualUser: bob, mutualPassword: other-chars-2}

            """
        let clio = try lab.executable("clio")
        try await lab.check("gw1", [clio, "apply", "-f", "-", "--wait", "30"], input: Array(file.utf8))
        for (name, _) in gateways {
            let status = try await lab.check(name, [clio, "status"])
            #expect(status.contains("in step with the group"), "\(status)")
            #expect(!status.contains("who-may-look") && !status.contains("other-chars-2"))
        }
        // A session of libiscsi's through each new portal.
        let (portals, target) = (portals, description.nodes[0].iqn)
        let identities = try await blocking(in: description.netns) {
            try portals.map { try Identity(session: try ISCSISession(portal: $0, target: target)) }
        }
        #expect(identities.map(\.relativePort) == [1, 2], "a portal is not a port of its own")
    }

    /// A setting of `iscsiadm`'s discovery record at a portal.
    private func discover(_ lab: Lab, _ portal: String, _ settings: [(String, String)]) async throws -> CommandResult {
        let record = ["iscsiadm", "-m", "discoverydb", "-t", "sendtargets", "-p", portal]
        _ = try await lab.exec("ini1", record + ["-o", "delete"])
        try await lab.check("ini1", record + ["-o", "new"])
        for (name, value) in settings {
            try await lab.check(
                "ini1", record + ["-o", "update", "-n", "discovery.sendtargets.auth.\(name)", "-v", value])
        }
        return try await lab.exec("ini1", record + ["--discover"])
    }

    private func discoveryAsksForCredentials(_ lab: Lab) async throws {
        let settings = [
            ("authmethod", "CHAP"), ("username", "finder"), ("password", "who-may-look"), ("username_in", "clio"),
            ("password_in", "it-is-clio-1"),
        ]
        for portal in portals {
            #expect(try await discover(lab, portal, []).status != 0, "nobody may look unasked")
            let wrong = settings.map { $0.0 == "password" ? ($0.0, "wrong-secret-1") : $0 }
            #expect(try await discover(lab, portal, wrong).status != 0)
            let impostor = settings.map { $0.0 == "password_in" ? ($0.0, "wrong-secret-1") : $0 }
            #expect(try await discover(lab, portal, impostor).status != 0, "the target has to prove itself")
            let found = try await discover(lab, portal, settings)
            #expect(found.status == 0, "\(found.errorText)")
            // "[fd77::11]:3260,3 iqn…": four portals, by the number of their node's port.
            let listed = found.outputText.split(separator: "\n").filter { $0.hasSuffix(" \(Self.target)") }
            #expect(
                Set(listed.map { String($0.prefix { $0 != " " }) }) == [
                    "10.77.0.11:3260,3", "[fd77::11]:3260,3", "10.77.0.12:3260,4", "[fd77::12]:3260,4",
                ])
        }
    }

    private func set(_ lab: Lab, _ settings: [(String, String)]) async throws {
        for (name, value) in settings {
            try await lab.check(
                "ini1",
                [
                    "iscsiadm", "-m", "node", "-T", Self.target, "-o", "update", "-n", "node.session.auth.\(name)",
                    "-v", value,
                ])
        }
    }

    private func logIn(_ lab: Lab, _ portal: String) async throws -> CommandResult {
        try await lab.exec("ini1", ["iscsiadm", "-m", "node", "-T", Self.target, "-p", portal, "--login"])
    }

    private func eachProvesItself(_ lab: Lab) async throws {
        try await set(lab, [("authmethod", "CHAP"), ("username", "alice"), ("password", "wrong-secret-1")])
        #expect(try await logIn(lab, portals[0]).status != 0)
        try await set(
            lab, [("password", "twelve-chars"), ("username_in", "bob"), ("password_in", "wrong-secret-1")])
        #expect(try await logIn(lab, portals[0]).status != 0, "the target has to prove itself")
        try await set(lab, [("password_in", "other-chars-2")])
        for portal in portals {
            let result = try await logIn(lab, portal)
            #expect(result.status == 0, "\(result.errorText)")
        }
    }

    private func diskThroughIPv6(_ lab: Lab) async throws {
        let sessions = try await lab.check("ini1", ["iscsiadm", "-m", "session"])
        #expect(portals.allSatisfy { sessions.contains($0) }, "\(sessions)")
        // What is written through one is read through the other.
        let script = """
            set -- /dev/sd?
            printf %-512s by-ipv6 | dd of=$1 seek=8 oflag=direct status=none
            dd if=$2 skip=8 count=1 iflag=direct status=none
            """
        let settled = "i=0; until [ -b /dev/sdb ] || [ $i = 50 ]; do i=$((i+1)); sleep 0.2; done; multipath -F; "
        #expect(try await lab.check("ini1", ["sh", "-c", settled + script]).hasPrefix("by-ipv6"))
        try await lab.check("ini1", ["iscsiadm", "-m", "node", "-T", Self.target, "--logout"])
    }
}
