// SPDX-License-Identifier: Apache-2.0
import ClusterModel

/// What was seen of a machine that is to be a gateway. ``Readiness`` judges it.
public struct MachineFacts: Sendable {
    public struct Module: Sendable {
        public enum File: Sendable, Equatable {
            case missing, builtIn, clio, other
            case unreadable(String)
        }

        public var name: String
        public var file: File
        /// Whether the one that runs is another than the file's; `false` too if none runs.
        public var runsAnother: Bool

        public init(_ name: String, file: File, runsAnother: Bool = false) {
            self.name = name
            self.file = file
            self.runsAnother = runsAnother
        }
    }

    /// A firewall's rules, as its tool prints them.
    public enum Rules: Sendable {
        /// `iptables -S`, of IPv4 or IPv6.
        case iptables(String, isIPv6: Bool)
        /// `nft list ruleset`.
        case nftables(String)
        /// The tool is there and failed, with what it said.
        case unreadable(tool: String, String)
    }

    public enum Ceph: Sendable {
        case unreachable(String)
        /// Reached, with what the client may not do.
        case reached(refused: [String])
    }

    public var release = ""
    public var hasConfigFS = false
    public var modules: [Module] = []
    /// Debian packages that are installed; `nil` without a dpkg database.
    public var packages: Set<String>?
    /// Whether cliod is where it is looked for.
    public var hasDaemon = false
    /// Whether the kernel takes its clock for synchronised; `nil` if it does not say.
    public var isClockSynchronised: Bool?
    public var ceph = Ceph.unreachable("")
    /// The type of the client's key, and why the kernel cannot use it; nil if there is no key to look at.
    public var key: (type: CephKeyType, unusable: CephAccess.UnusableKey?)?
    public var group = ""
    public var node = ""
    /// Whether the group could be read.
    public var isGroupKnown = false
    /// The node's portals; `nil`: the group has no such node.
    public var portals: [Portal]?
    /// The machine's addresses, as ``Portal/address`` writes them.
    public var addresses: Set<String> = []
    public var rules: [Rules] = []

    public init() {}
}

/// One line of what `clio node bootstrap` finds.
public struct Finding: Sendable, Hashable, Codable {
    public enum State: String, Sendable, Codable {
        case ok, missing
        /// It cannot be told from here: no reason to refuse.
        case unknown
    }

    public var check: String
    public var state: State
    public var detail: String
    /// What mends it; `nil` if nothing is to be mended.
    public var remedy: String?
}

/// Whether a machine can be a gateway. Pure.
public enum Readiness {
    /// Modules that Clio changes or adds, and how its own are known.
    public enum Mark: Sendable, Equatable {
        case itself
        case uses(String)
        case exports(String)
        case parameter(String)
    }

    public static let modules: [(name: String, mark: Mark)] = [
        ("blk_cluster", .itself), ("libceph", .exports("ceph_osdc_abort_some")), ("rbd", .uses("blk_cluster")),
        ("target_core_mod", .exports("target_tmr_apply")), ("target_core_iblock", .uses("blk_cluster")),
        ("iscsi_target_mod", .parameter("tmr_warm_reset")),
    ]

    /// The kernels that clio-dkms builds modules for, and no others (`BUILD_EXCLUSIVE_KERNEL`).
    static let series = "6.12"

    /// Debian packages that make Clio's modules; none for a kernel of another series.
    private static func modulePackages(_ facts: MachineFacts) -> [String] {
        facts.release.hasPrefix("\(series).") ? ["clio-dkms", "linux-headers-\(facts.release)"] : []
    }

    /// Debian packages that mend what is missing: `--install` installs them.
    public static func packagesToInstall(_ facts: MachineFacts) -> [String] {
        guard let installed = facts.packages else { return [] }
        var out: [String] = []
        if !facts.hasDaemon { out.append("clio") }
        if facts.modules.contains(where: { [.missing, .other].contains($0.file) }) {
            out += modulePackages(facts)
        }
        let timekeepers: Set = ["chrony", "ntpsec", "openntpd", "systemd-timesyncd"]
        if facts.isClockSynchronised == false, installed.isDisjoint(with: timekeepers) { out.append("chrony") }
        return out.filter { !installed.contains($0) }
    }

    public static func findings(_ facts: MachineFacts) -> [Finding] {
        [kernel(facts)] + facts.modules.map { module($0, facts) } + [packages(facts), clock(facts), ceph(facts)]
            + (key(facts).map { [$0] } ?? []) + [network(facts), firewall(facts)]
    }

    private static func kernel(_ facts: MachineFacts) -> Finding {
        guard facts.hasConfigFS else {
            return Finding(
                check: "kernel", state: .missing, detail: "\(facts.release) has no configfs, which LIO is set up with",
                remedy: "boot a kernel built with CONFIG_CONFIGFS_FS")
        }
        return Finding(check: "kernel", state: .ok, detail: facts.release)
    }

    private static func module(_ module: MachineFacts.Module, _ facts: MachineFacts) -> Finding {
        let packages = modulePackages(facts)
        let dkms: String
        if packages.isEmpty {
            dkms =
                "clio-dkms builds for kernels \(series).* only (dkms status shows for which it has): boot one of those"
        } else if packages.allSatisfy({ facts.packages?.contains($0) == true }) {
            dkms = "clio-dkms is installed and has not built it: see dkms status, and run dkms autoinstall"
        } else {
            dkms = "install \(packages.joined(separator: " and "))"
        }
        let install = "\(dkms), or boot a kernel built with Clio's patches"
        func missing(_ detail: String, _ remedy: String) -> Finding {
            Finding(check: "module \(module.name)", state: .missing, detail: detail, remedy: remedy)
        }
        switch module.file {
        case .missing: return missing("kernel \(facts.release) has none", install)
        case .other: return missing("the kernel's own is installed, not Clio's", install)
        case .builtIn:
            return missing(
                "it is built into kernel \(facts.release), where Clio's cannot replace it",
                "boot a kernel that has it as a module")
        case .unreadable(let why): return missing(why, "install it anew, and run depmod")
        case .clio where module.runsAnother:
            return missing("Clio's is installed, but another one is loaded", "restart this machine")
        case .clio: return Finding(check: "module \(module.name)", state: .ok, detail: "Clio's")
        }
    }

    /// Packages only count for what is not here without them.
    private static func packages(_ facts: MachineFacts) -> Finding {
        let hasModules = facts.modules.allSatisfy { $0.file == .clio }
        guard let packages = facts.packages else {
            let detail = "no dpkg database, whence nothing is known of packages"
            return facts.hasDaemon
                ? Finding(check: "packages", state: .unknown, detail: detail)
                : Finding(
                    check: "packages", state: .missing, detail: "cliod is not installed; \(detail)",
                    remedy: "install cliod beside clio")
        }
        var missing: [String] = []
        if !facts.hasDaemon { missing.append("clio") }
        if !hasModules {
            missing += modulePackages(facts).filter { !packages.contains($0) }
        }
        guard missing.isEmpty else {
            let list = missing.joined(separator: " ")
            return Finding(
                check: "packages", state: .missing, detail: "not installed: \(list)", remedy: "apt install \(list)")
        }
        let own = ["clio", "clio-dkms"].filter(packages.contains)
        let none = hasModules ? "not needed: Clio is here without them" : "there is none for kernel \(facts.release)"
        return Finding(
            check: "packages", state: .ok, detail: own.isEmpty ? none : own.joined(separator: " "))
    }

    private static func clock(_ facts: MachineFacts) -> Finding {
        switch facts.isClockSynchronised {
        case true?: Finding(check: "clock", state: .ok, detail: "synchronised")
        case false?:
            Finding(
                check: "clock", state: .missing,
                detail: "not synchronised; Ceph refuses clients whose clock is far off",
                remedy: "apt install chrony, and see that it finds a server (chronyc tracking)")
        case nil: Finding(check: "clock", state: .unknown, detail: "the kernel does not say whether it is synchronised")
        }
    }

    private static func ceph(_ facts: MachineFacts) -> Finding {
        switch facts.ceph {
        case .unreachable(let why):
            Finding(
                check: "ceph", state: .missing, detail: why,
                remedy:
                    "see that /etc/ceph has ceph.conf and the client's keyring, and that this machine reaches the monitors"
            )
        case .reached(let refused) where !refused.isEmpty:
            Finding(
                check: "ceph", state: .missing, detail: refused.joined(separator: "; "),
                remedy:
                    "as an administrator, clio group init: it makes the group, and the gateways' client with the caps it needs"
            )
        case .reached: Finding(check: "ceph", state: .ok, detail: "monitors answer, and the client may do what it must")
        }
    }

    private static func key(_ facts: MachineFacts) -> Finding? {
        guard let key = facts.key else { return nil }
        guard let unusable = key.unusable else {
            return Finding(check: "key", state: .ok, detail: "of type \(key.type), which this kernel can use")
        }
        return Finding(check: "key", state: .missing, detail: unusable.detail, remedy: unusable.remedy)
    }

    private static func network(_ facts: MachineFacts) -> Finding {
        guard facts.isGroupKnown else {
            let detail = "group \"\(facts.group)\" cannot be read, which has the node's portals"
            return Finding(check: "network", state: .unknown, detail: detail)
        }
        guard let portals = facts.portals else {
            return Finding(
                check: "network", state: .missing, detail: "group \"\(facts.group)\" has no node \"\(facts.node)\"",
                remedy: "clio portal add \(facts.node) ADDRESS, with an address of this machine that hosts reach")
        }
        let absent = portals.filter { !facts.addresses.contains($0.address) }
        guard absent.isEmpty else {
            return Finding(
                check: "network", state: .missing,
                detail: "no interface has \(absent.map(\.address).joined(separator: ", "))",
                remedy: "give an interface the address, or change the node's portals (clio portal)")
        }
        return Finding(
            check: "network", state: .ok, detail: portals.map(\.description).joined(separator: ", "))
    }

    private static func firewall(_ facts: MachineFacts) -> Finding {
        var unknown: [String] = []
        let portals = facts.portals ?? []
        let ports = portals.isEmpty ? [Portal.defaultPort] : Set(portals.map(\.port)).sorted()
        for rules in facts.rules {
            for port in ports {
                let tool: String
                let verdict: PortFilter.Verdict
                switch rules {
                case .iptables(let text, let isIPv6):
                    let concerned = portals.isEmpty || portals.contains { $0.port == port && $0.isIPv6 == isIPv6 }
                    guard concerned else { continue }
                    tool = isIPv6 ? "ip6tables" : "iptables"
                    verdict = PortFilter.iptables(text, port: port)
                case .nftables(let text):
                    tool = "nft"
                    verdict = PortFilter.nftables(text, port: port)
                case .unreadable(let name, let why):
                    unknown.append("\(name) does not tell its rules: \(why)")
                    continue
                }
                switch verdict {
                case .open: break
                case .unclear: unknown.append("\(tool) has rules that may keep hosts from port \(port)")
                case .filtered:
                    return Finding(
                        check: "firewall", state: .missing, detail: "\(tool) drops what comes for port \(port)",
                        remedy: "let TCP port \(port) in from the hosts' network")
                }
            }
        }
        if !unknown.isEmpty {
            var seen: Set<String> = []
            let once = unknown.filter { seen.insert($0).inserted }
            return Finding(check: "firewall", state: .unknown, detail: once.joined(separator: "; "))
        }
        return Finding(
            check: "firewall", state: .ok,
            detail: "port \(ports.map(String.init).joined(separator: ", ")) is not filtered")
    }
}

/// Whether a firewall lets a TCP port in, from the text of its rules. Only plain cases are decided: rules that depend on
/// addresses, sets or marks leave it unclear.
public enum PortFilter {
    public enum Verdict: Sendable, Equatable { case open, filtered, unclear }

    /// - Parameter text: `iptables -S`.
    public static func iptables(_ text: String, port: UInt16) -> Verdict {
        let lines = text.split(whereSeparator: \.isNewline).map { $0.split(separator: " ").map(String.init) }
        for words in lines where words.count > 3 && words[0] == "-A" && words[1] == "INPUT" {
            guard let jump = words.firstIndex(of: "-j") ?? words.firstIndex(of: "-g"), jump + 1 < words.count else {
                continue
            }
            let target = words[jump + 1]
            if ["LOG", "NFLOG", "TRACE", "MARK", "CONNMARK"].contains(target) { continue }
            switch matches(Array(words[2..<jump]), port) {
            case false?: continue
            case nil: return .unclear
            case true?:
                switch target {
                case "ACCEPT": return .open
                case "DROP", "REJECT": return .filtered
                default: return .unclear
                }
            }
        }
        return lines.contains(["-P", "INPUT", "DROP"]) ? .filtered : .open
    }

    /// Whether a rule matches a new connection from outside to a port; `nil` if that depends on more.
    private static func matches(_ words: [String], _ port: UInt16) -> Bool? {
        var certain = true
        var index = 0
        while index < words.count {
            let value = index + 1 < words.count ? words[index + 1] : ""
            switch words[index] {
            case "-p" where !["tcp", "all"].contains(value): return false
            case "-i" where value == "lo": return false
            case "--dport", "--dports": if !names(value, port) { return false }
            case "--state", "--ctstate": if !value.split(separator: ",").contains("NEW") { return false }
            case "-p", "-m": break
            case "--comment":
                // Blanks in it make more words of it; those behind are not looked at.
                index = words.count
            default: certain = false
            }
            index += 2
        }
        return certain ? true : nil
    }

    /// `3260`, `3000:4000`, `22,3260`.
    private static func names(_ text: String, _ port: UInt16) -> Bool {
        text.split(separator: ",").contains { part in
            let ends = part.split(separator: ":", omittingEmptySubsequences: false)
            guard let low = ends.first, let high = ends.last else { return false }
            return (UInt16(low) ?? 0)...max(UInt16(low) ?? 0, UInt16(high) ?? .max) ~= port
        }
    }

    /// - Parameter text: `nft list ruleset`.
    public static func nftables(_ text: String, port: UInt16) -> Verdict {
        var isInput = false
        var verdict = Verdict.open
        for raw in text.split(whereSeparator: \.isNewline) {
            let line = raw.trimmingPrefix { $0.isWhitespace }
            if line.hasPrefix("chain ") || line.hasPrefix("table ") || line.hasPrefix("}") { isInput = false }
            if line.hasPrefix("type filter hook input") { isInput = true }
            guard isInput else { continue }
            let words = line.split { " ;{},".contains($0) }
            if words.starts(with: ["type"]) {
                guard line.contains("policy drop") else { continue }
                // The rules below may let it in all the same.
                verdict = accepts(text, port) ? .unclear : .filtered
            } else if verdict == .open, words.contains(where: { ["drop", "reject", "jump", "goto"].contains($0) }) {
                verdict = .unclear
            }
        }
        return verdict
    }

    /// Whether some rule may accept a new connection to a port.
    private static func accepts(_ text: String, _ port: UInt16) -> Bool {
        text.split(whereSeparator: \.isNewline).contains { line in
            let words = line.split { " ;{},\t".contains($0) }
            if words.contains("jump") || words.contains("goto") || words.contains("vmap") { return true }
            guard words.contains("accept"), !line.contains("policy accept") else { return false }
            let isOther =
                words.contains("\"lo\"") || words.contains("icmp") || words.contains("icmpv6") || words.contains("udp")
                || words.contains("ipv6-icmp") || (words.contains("state") && !words.contains("new"))
            if isOther { return false }
            guard words.contains("dport") else { return true }
            return words.contains { word in
                let ends = word.split(separator: "-").map { UInt16($0) }
                guard let low = ends.first ?? nil, let high = ends.last ?? nil, low <= high else { return false }
                return low...high ~= port
            } || words.contains("iscsi-target")
        }
    }
}

/// Debian's packages.
enum PackageDatabase {
    /// Names of what is installed, from `/var/lib/dpkg/status`.
    static func installed(in text: String) -> Set<String> {
        var names: Set<String> = []
        var name: Substring = ""
        for line in text.split(whereSeparator: \.isNewline) {
            if line.hasPrefix("Package: ") { name = line.dropFirst(9) }
            if line.hasPrefix("Status: "), line.hasSuffix(" ok installed") { names.insert(String(name)) }
        }
        return names
    }
}
