// SPDX-License-Identifier: Apache-2.0
import Foundation

/// From whom `cut` separates a node.
public enum CutScope: String, Codable, Sendable, CaseIterable {
    /// Ceph's monitors, managers and OSDs.
    case osd
    /// iSCSI hosts: TCP port 3260 from and to the node.
    case hosts
    /// Everything but the lab's own control connection (`exec`).
    case all
}

/// The lab's network: a namespace with a bridge, and one tap a node.
struct Network: Sendable {
    /// Name of the namespace.
    let netns: String

    /// Address of the bridge: Ceph, and tools of the host.
    static let bridgeAddress = "10.77.0.1"
    static let prefixLength = 24
    static let bridge = "br0"
    /// Port of the node's ssh server, which no cut closes.
    static let controlPort = 22
    /// Chain of the filter table that holds all cuts.
    static let chain = "CLIO-CUT"
    /// Ports of monitors (v2, v1), and of all other daemons of Ceph.
    static let cephPorts = "3300,6789,6800:7300"

    var path: String { "/run/netns/\(netns)" }

    /// What to put before a command so that it runs in the namespace.
    var prefix: [String] { ["nsenter", "--net=\(path)"] }

    /// Address of the node numbered `index`, from 1, of a role.
    static func address(_ role: LabDescription.Role, _ index: Int) -> String {
        "10.77.0.\((role == .gateway ? 10 : 100) + index)"
    }

    /// Ethernet address that goes with an IPv4 address.
    static func ethernet(_ address: String) -> String {
        let bytes = address.split(separator: ".").compactMap { UInt8($0) }
        return (["02", "00"] + bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }).joined(separator: ":")
    }

    /// Makes the namespace, the bridge and a tap for each of `nodes`.
    ///
    /// - Throws: `LabError` if a namespace of that name exists, or the host lacks something.
    func up(nodes: [String]) async throws {
        guard !Files.exists(path) else {
            throw LabError(
                "network namespace \(netns)", "exists, but no lab's folder says that a lab made it",
                remedy: "ip netns del \(netns), if it is not in use")
        }
        try await Command.check(["ip", "netns", "add", netns])
        var lines = [
            "link set lo up", "link add \(Self.bridge) type bridge forward_delay 0",
            "addr add \(Self.bridgeAddress)/\(Self.prefixLength) dev \(Self.bridge)", "link set \(Self.bridge) up",
        ]
        for node in nodes {
            lines += ["tuntap add dev \(node) mode tap", "link set \(node) master \(Self.bridge) up"]
        }
        let batch = lines.joined(separator: "\n") + "\n"
        try await Command.check(["ip", "-n", netns, "-batch", "-"], input: Array(batch.utf8))
        if !Files.exists("/proc/sys/net/bridge") { _ = try? await Command.run(["modprobe", "br_netfilter"]) }
        try await Command.check(
            prefix + ["sh", "-ec", "echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables; iptables-restore"],
            input: Array(Self.rules([:]).utf8))
    }

    /// Removes the namespace and with it bridge and taps. Nothing happens if there is none.
    func down() async throws {
        guard Files.exists(path) else { return }
        try await Command.check(["ip", "netns", "del", netns])
    }

    /// Puts exactly `cuts`, scope by address, in force.
    func apply(_ cuts: [String: Set<CutScope>]) async throws {
        try await Command.check(prefix + ["iptables-restore"], input: Array(Self.rules(cuts).utf8))
    }

    /// Rules of the filter table for `iptables-restore`: packets of cut nodes vanish without an answer.
    ///
    /// Packets between nodes cross the bridge and meet FORWARD, those from and to the bridge's own address INPUT and
    /// OUTPUT.
    ///
    /// - Parameter cuts: What each node's address is cut from.
    static func rules(_ cuts: [String: Set<CutScope>]) -> String {
        var lines = ["*filter", ":INPUT ACCEPT", ":FORWARD ACCEPT", ":OUTPUT ACCEPT", ":\(chain) -"]
        lines += ["INPUT", "FORWARD", "OUTPUT"].map { "-A \($0) -j \(chain)" }
        for (address, scopes) in cuts.sorted(by: { $0.key < $1.key }) {
            for scope in CutScope.allCases where scopes.contains(scope) {
                lines += rules(address, scope).map { "-A \(chain) \($0)" }
            }
        }
        return (lines + ["COMMIT", ""]).joined(separator: "\n")
    }

    private static func rules(_ address: String, _ scope: CutScope) -> [String] {
        func drop(_ pairs: [(String, String)], _ ports: String) -> [String] {
            pairs.map { "\($0) \(address) -p tcp -m multiport \($1) \(ports) -j DROP" }
        }
        let asClient = [("-s", "--dports"), ("-d", "--sports")]
        let asServer = [("-d", "--dports"), ("-s", "--sports")]
        switch scope {
        case .osd: return drop(asClient, cephPorts)
        case .hosts: return drop(asServer + asClient, "3260")
        case .all:
            return [
                "-s \(address) -d \(bridgeAddress) -p tcp --sport \(controlPort) -j RETURN",
                "-s \(bridgeAddress) -d \(address) -p tcp --dport \(controlPort) -j RETURN",
                "-s \(address) -j DROP", "-d \(address) -j DROP",
            ]
        }
    }
}
