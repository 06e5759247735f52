// SPDX-License-Identifier: Apache-2.0
import Foundation

/// From whom `cut` separates a node. As text: `osd`, `osd.N`, `hosts`, `all`.
public enum CutScope: RawRepresentable, Codable, Hashable, Sendable {
    /// Ceph's monitors, managers and OSDs.
    case osd
    /// The OSD of this number, and nothing else of Ceph.
    case oneOSD(Int)
    /// iSCSI hosts: TCP port 3260 from and to the node.
    case hosts
    /// Everything but the lab's own control connection (`exec`).
    case all

    public init?(rawValue: String) {
        switch rawValue {
        case "osd": self = .osd
        case "hosts": self = .hosts
        case "all": self = .all
        default:
            guard let osd = OSDName.number(rawValue) else { return nil }
            self = .oneOSD(osd)
        }
    }

    public var rawValue: String {
        switch self {
        case .osd: "osd"
        case .oneOSD(let osd): OSDName.text(osd)
        case .hosts: "hosts"
        case .all: "all"
        }
    }
}

/// What Ceph calls an OSD: `osd.N`.
public enum OSDName {
    public static func text(_ number: Int) -> String { "osd.\(number)" }

    /// The number in `osd.N`; nil if `text` is nothing like it.
    public static func number(_ text: String) -> Int? {
        guard text.hasPrefix("osd."), let number = Int(text.dropFirst(4)), number >= 0, Self.text(number) == text else {
            return nil
        }
        return number
    }
}

/// What happens to packets between a node and one OSD, in both directions.
public struct Slowness: Codable, Hashable, Sendable {
    /// How long each is held.
    public var delay: Duration
    /// Which part of them vanishes, 0 to 1.
    public var loss: Double

    public init(delay: Duration = .zero, loss: Double = 0) {
        self.delay = delay
        self.loss = loss
    }
}

/// What is wrong with a node's part of the network.
struct LinkFaults: Codable, Sendable, Equatable {
    var cuts: Set<CutScope> = []
    /// By OSD.
    var slow: [Int: Slowness] = [:]
}

/// The lab's network: a namespace with a bridge, and one tap a node.
struct Network: Sendable {
    /// Name of the namespace.
    let netns: String

    /// Address of the bridge: Ceph, and tools of the host.
    static let bridgeAddress = "10.77.0.1"
    static let prefixLength = 24
    /// The same network for a Ceph that has IPv6 addresses only, beside the one for everything else.
    static let prefixLength6 = 64
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

    /// Address of an OSD: each has its own, so that a rule can name one of them.
    static func address(osd: Int) -> String { "10.77.0.\(200 + osd)" }

    /// The IPv6 address that goes with an IPv4 address.
    static func ipv6(_ address: String) -> String { "fd77::\(address.split(separator: ".").last ?? "")" }

    /// The queue that holds packets between an address and an OSD until their time has come (NFQUEUE).
    static func queue(_ address: String, osd: Int) -> UInt16 {
        let host = address.split(separator: ".").last.flatMap { UInt16($0) } ?? 0
        return host << 8 | UInt16(osd)
    }

    /// Ethernet address that goes with an IPv4 address.
    static func ethernet(_ address: String) -> String {
        let bytes = address.split(separator: ".").compactMap { UInt8($0) }
        return (["02", "00"] + bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }).joined(separator: ":")
    }

    /// Makes the namespace, the bridge with the addresses of Ceph, and a tap for each of `nodes`.
    ///
    /// - Parameter ipv6: whether Ceph has IPv6 addresses, too.
    /// - Throws: `LabError` if a namespace of that name exists, or the host lacks something.
    func up(nodes: [String], osds: Int, ipv6: Bool) async throws {
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
        lines += (0..<osds).map { "addr add \(Self.address(osd: $0))/\(Self.prefixLength) dev \(Self.bridge)" }
        if ipv6 {
            // Addresses are there at once, without looking whether somebody has them.
            lines += ([Self.bridgeAddress] + (0..<osds).map(Self.address(osd:))).map {
                "addr add \(Self.ipv6($0))/\(Self.prefixLength6) dev \(Self.bridge) nodad"
            }
        }
        for node in nodes {
            lines += ["tuntap add dev \(node) mode tap", "link set \(node) master \(Self.bridge) up"]
        }
        let batch = lines.joined(separator: "\n") + "\n"
        try await Command.check(["ip", "-n", netns, "-batch", "-"], input: Array(batch.utf8))
        if !Files.exists("/proc/sys/net/bridge") { _ = try? await Command.run(["modprobe", "br_netfilter"]) }
        try await Command.check(
            prefix + ["sh", "-ec", "echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables; iptables-restore"],
            input: Array(Self.calls.utf8))
    }

    /// Removes the namespace and with it bridge and taps. Nothing happens if there is none.
    func down() async throws {
        guard Files.exists(path) else { return }
        try await Command.check(["ip", "netns", "del", netns])
    }

    /// Puts exactly `faults`, by address, in force.
    func apply(_ faults: [String: LinkFaults]) async throws {
        // Only the chain is replaced: with the built-in ones the kernel would drop all packets that are held.
        try await Command.check(prefix + ["iptables-restore", "--noflush"], input: Array(Self.rules(faults).utf8))
    }

    /// Where the rules of all faults are called from, for `iptables-restore`. Packets between nodes cross the bridge and meet
    /// FORWARD, those from and to the bridge's own addresses INPUT and OUTPUT.
    static let calls: String = {
        let chains = ["INPUT", "FORWARD", "OUTPUT"]
        let lines = ["*filter", ":\(chain) -"] + chains.map { "-A \($0) -j \(chain)" } + ["COMMIT", ""]
        return lines.joined(separator: "\n")
    }()

    /// Rules of all faults, for `iptables-restore`: packets of cut nodes vanish without an answer.
    ///
    /// - Parameter faults: What is wrong between each node's address and others.
    static func rules(_ faults: [String: LinkFaults]) -> String {
        var lines = ["*filter", ":\(chain) -"]
        for (address, fault) in faults.sorted(by: { $0.key < $1.key }) {
            let cuts = fault.cuts.sorted { $0.rawValue < $1.rawValue }.flatMap { rules(address, $0) }
            let slow = fault.slow.sorted { $0.key < $1.key }.flatMap { rules(address, osd: $0.key, $0.value) }
            lines += (cuts + slow).map { "-A \(chain) \($0)" }
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
        case .oneOSD(let osd): return between(address, osd: osd).map { "\($0) -j DROP" }
        case .hosts: return drop(asServer + asClient, "3260")
        case .all:
            return [
                "-s \(address) -d \(bridgeAddress) -p tcp --sport \(controlPort) -j RETURN",
                "-s \(bridgeAddress) -d \(address) -p tcp --dport \(controlPort) -j RETURN",
                "-s \(address) -j DROP", "-d \(address) -j DROP",
            ]
        }
    }

    /// What is lost is lost before it is held.
    private static func rules(_ address: String, osd: Int, _ slowness: Slowness) -> [String] {
        var lines: [String] = []
        if slowness.loss > 0 {
            lines += between(address, osd: osd).map {
                "\($0) -m statistic --mode random --probability \(slowness.loss) -j DROP"
            }
        }
        if slowness.delay > .zero {
            lines += between(address, osd: osd).map { "\($0) -j NFQUEUE --queue-num \(queue(address, osd: osd))" }
        }
        return lines
    }

    private static func between(_ address: String, osd: Int) -> [String] {
        let other = Self.address(osd: osd)
        return ["-s \(address) -d \(other)", "-s \(other) -d \(address)"]
    }
}
