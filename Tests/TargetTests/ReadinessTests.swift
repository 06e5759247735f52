// SPDX-License-Identifier: Apache-2.0
import ClusterModel
import Foundation
import Testing

@testable import Target

/// What `clio node bootstrap` makes of what it sees.
@Suite struct ReadinessTests {
    private func good() throws -> MachineFacts {
        var facts = MachineFacts()
        facts.release = "6.12.90"
        facts.hasConfigFS = true
        facts.modules = Readiness.modules.map { MachineFacts.Module($0.name, file: .clio) }
        facts.packages = ["clio", "clio-dkms"]
        facts.hasDaemon = true
        facts.isClockSynchronised = true
        facts.ceph = .reached(refused: [])
        facts.key = (.aes, nil)
        facts.group = "default"
        facts.node = "gw1"
        facts.isGroupKnown = true
        facts.portals = [try Portal(parsing: "10.0.0.1")]
        facts.addresses = ["10.0.0.1", "192.168.1.1"]
        facts.rules = [.iptables("-P INPUT ACCEPT\n", isIPv6: false)]
        return facts
    }

    private func bad(_ facts: MachineFacts) -> [Finding] { Readiness.findings(facts).filter { $0.state != .ok } }

    @Test func nothingMissing() throws {
        #expect(try bad(good()) == [])
        #expect(try Readiness.findings(good()).count == 13)
    }

    /// `--install` installs what is not there, and no second time server.
    @Test func packagesToInstall() throws {
        var facts = try good()
        #expect(Readiness.packagesToInstall(facts) == [])
        facts.isClockSynchronised = false
        facts.hasDaemon = false
        facts.packages = ["clio-dkms"]
        facts.modules[1].file = .other
        #expect(Readiness.packagesToInstall(facts) == ["clio", "linux-headers-6.12.90", "chrony"])
        facts.packages?.insert("systemd-timesyncd")
        #expect(Readiness.packagesToInstall(facts) == ["clio", "linux-headers-6.12.90"])
        facts.packages = nil
        #expect(Readiness.packagesToInstall(facts) == [])
    }

    struct Lack: Sendable, CustomTestStringConvertible {
        let check: String
        let remedy: String
        let change: @Sendable (inout MachineFacts) -> Void

        init(_ check: String, _ remedy: String, _ change: @escaping @Sendable (inout MachineFacts) -> Void) {
            self.check = check
            self.remedy = remedy
            self.change = change
        }

        var testDescription: String { "\(check): \(remedy)" }
    }

    /// Each thing that is missing is one line, with a remedy that names what to do.
    @Test(
        arguments: [
            Lack("kernel", "CONFIG_CONFIGFS_FS") { $0.hasConfigFS = false },
            Lack("clock", "chrony") { $0.isClockSynchronised = false },
            Lack("ceph", "keyring") { $0.ceph = .unreachable("time-out") },
            Lack("ceph", "clio group init") { $0.ceph = .reached(refused: ["cannot write"]) },
            Lack("key", "ceph auth rotate --key-type=aes client.clio") {
                $0.key = (.aes256k, CephAccess.UnusableKey(.aes256k, of: "clio", release: "6.12.90"))
            },
            Lack("network", "clio portal add gw1") { $0.portals = nil },
            Lack("network", "interface") { $0.addresses = ["10.0.0.2"] },
            Lack("packages", "apt install clio") { $0.hasDaemon = false },
            Lack("module rbd", "restart") { $0.modules[2].runsAnother = true },
            Lack("module rbd", "boot") {
                $0.modules[2].file = .builtIn
                $0.packages?.insert("linux-headers-6.12.90")
            },
            Lack("firewall", "3260") { $0.rules = [.iptables("-P INPUT DROP", isIPv6: false)] },
        ])
    func oneThingMissing(_ lack: Lack) throws {
        var facts = try good()
        lack.change(&facts)
        let bad = bad(facts)
        #expect(bad.map(\.check) == [lack.check])
        #expect(bad.first?.state == .missing)
        #expect(bad.first?.remedy?.contains(lack.remedy) == true, "\(bad)")
    }

    @Test func stockKernel() throws {
        var facts = try good()
        facts.packages = ["clio"]
        for index in facts.modules.indices { facts.modules[index].file = index == 0 ? .missing : .other }
        let bad = bad(facts)
        #expect(bad.count == 7)
        #expect(bad.last?.remedy == "apt install clio-dkms linux-headers-6.12.90")
    }

    /// No package mends what DKMS does not build, or has not built.
    @Test func noModulesByDKMS() throws {
        var facts = try good()
        facts.packages = ["clio", "clio-dkms", "linux-headers-6.12.90"]
        facts.modules[2].file = .other
        #expect(bad(facts).map(\.check) == ["module rbd"])
        #expect(bad(facts).first?.remedy?.contains("see dkms status") == true)
        facts.release = "6.19.1"
        #expect(bad(facts).map(\.check) == ["module rbd"])
        let remedy = try #require(bad(facts).first?.remedy)
        #expect(remedy.contains("for kernels 6.12.* only (dkms status") && !remedy.contains("install"), "\(remedy)")
        facts.packages = ["clio"]
        #expect(Readiness.packagesToInstall(facts) == [])
    }

    /// What is said of clio-dkms is what is packed.
    @Test func seriesOfDKMS() throws {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let script = try String(contentsOf: root.appending(path: "packaging/deb.sh"), encoding: .utf8)
        #expect(script.contains("kernel=${KERNEL:-\(Readiness.series)}"))
    }

    @Test func whatCannotBeToldIsNoFault() throws {
        var facts = try good()
        facts.packages = nil
        facts.isClockSynchronised = nil
        facts.isGroupKnown = false
        facts.portals = nil
        facts.rules = [.unreadable(tool: "nft", "no")]
        #expect(bad(facts).map(\.state) == [.unknown, .unknown, .unknown, .unknown])
    }

    @Test(
        arguments: [
            ("-P INPUT ACCEPT", .open),
            ("-P INPUT DROP", .filtered),
            ("-P INPUT DROP\n-A INPUT -i lo -j ACCEPT", .filtered),
            ("-P INPUT DROP\n-A INPUT -p tcp -m tcp --dport 3260 -j ACCEPT", .open),
            ("-P INPUT DROP\n-A INPUT -p tcp -m multiport --dports 22,3000:4000 -j ACCEPT", .open),
            ("-P INPUT DROP\n-A INPUT -p tcp -m multiport --dports 22,860 -j ACCEPT", .filtered),
            ("-P INPUT DROP\n-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", .filtered),
            ("-P INPUT DROP\n-A INPUT -s 10.0.0.0/8 -p tcp -m tcp --dport 3260 -j ACCEPT", .unclear),
            ("-P INPUT ACCEPT\n-A INPUT -p tcp -m tcp --dport 3260 -j REJECT --reject-with tcp-reset", .filtered),
            ("-P INPUT ACCEPT\n-A INPUT -p udp -j DROP", .open),
            ("-P INPUT ACCEPT\n-A INPUT -j ufw-before-input", .unclear),
            ("-P INPUT ACCEPT\n-A INPUT -p tcp -m tcp --dport 3260:x -j DROP\n-A INPUT -j", .filtered),
        ] as [(String, PortFilter.Verdict)])
    func iptables(text: String, verdict: PortFilter.Verdict) {
        #expect(PortFilter.iptables(text, port: 3260) == verdict)
    }

    @Test(
        arguments: [
            ("policy accept;", .open),
            ("policy drop;", .filtered),
            ("policy drop;\niif \"lo\" accept\nct state established,related accept", .filtered),
            ("policy drop;\ntcp dport 22 accept", .filtered),
            ("policy drop;\ntcp dport { 22, 3260 } accept", .unclear),
            ("policy drop;\ntcp dport 3000-4000 accept", .unclear),
            ("policy accept;\ntcp dport 3260 drop", .unclear),
        ] as [(String, PortFilter.Verdict)])
    func nftables(rules: String, verdict: PortFilter.Verdict) {
        let text = "table inet filter {\nchain input {\ntype filter hook input priority filter; \(rules)\n}\n}\n"
        #expect(PortFilter.nftables(text, port: 3260) == verdict)
        #expect(PortFilter.nftables(text.replacing("hook input", with: "hook output"), port: 3260) == .open)
    }

    @Test func packagesFromDpkg() {
        let text = """
            Package: clio
            Status: install ok installed

            Package: chrony
            Status: deinstall ok config-files
            """
        #expect(PackageDatabase.installed(in: text) == ["clio"])
    }
}
