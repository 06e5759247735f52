// SPDX-License-Identifier: Apache-2.0
import CTimex
import ClusterModel
import Foundation
import Kmod
import Rados
import SystemPackage

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

extension MachineFacts {
    /// Looks at this machine; changes nothing. Ceph and the group are the caller's to fill in.
    public static func ofThisMachine() -> MachineFacts {
        let modules = KernelModules()
        var facts = MachineFacts()
        facts.release = modules.release
        facts.hasConfigFS =
            SystemFiles.exists("/sys/kernel/config") || ((try? modules.exists("configfs")) ?? false)
        facts.modules = Readiness.modules.map { module($0.name, $0.mark, modules) }
        if let bytes = try? SystemFiles.bytes("/var/lib/dpkg/status", limit: 1 << 28) {
            facts.packages = PackageDatabase.installed(in: String(decoding: bytes, as: UTF8.self))
        }
        facts.hasDaemon = hasDaemon
        facts.isClockSynchronised = isClockSynchronised
        facts.addresses = addresses
        facts.rules = rules
        facts.node = SystemFiles.hostName
        return facts
    }

    private static func module(_ name: String, _ mark: Readiness.Mark, _ modules: KernelModules) -> Module {
        do {
            let info: KernelModules.Info
            do {
                info = try modules.info(name)
            } catch {
                if error.kind == .missing { return Module(name, file: .missing) }
                throw error
            }
            guard info.path != nil else { return Module(name, file: .builtIn) }
            let isOurs =
                switch mark {
                case .itself: true
                case .uses(let other): info.dependencies.contains(other)
                case .exports(let symbol): try modules.exports(of: name).contains(symbol)
                case .parameter(let parameter): info.parameters.contains(parameter)
                }
            guard isOurs else { return Module(name, file: .other) }
            return Module(name, file: .clio, runsAnother: runsAnother(name, mark, info, modules))
        } catch {
            return Module(name, file: .unreadable("\(error)"))
        }
    }

    private static func runsAnother(
        _ name: String, _ mark: Readiness.Mark, _ info: KernelModules.Info, _ modules: KernelModules
    ) -> Bool {
        guard let running = modules.loaded(name) else { return false }
        if let one = running.sourceVersion, let other = info.sourceVersion, one != other { return true }
        let folder = FilePath("/sys/module")
        switch mark {
        case .itself, .exports: return false
        case .uses(let other): return !SystemFiles.exists(folder.appending(other).appending("holders").appending(name))
        case .parameter(let parameter):
            return !SystemFiles.exists(folder.appending(name).appending("parameters").appending(parameter))
        }
    }

    /// Beside this command, or in PATH: where `clio node up` looks for it.
    private static var hasDaemon: Bool {
        let own = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? ""
        let path = ProcessInfo.processInfo.environment["PATH"] ?? "/usr/sbin:/usr/bin"
        let folders = [FilePath(own).removingLastComponent().string] + path.split(separator: ":").map(String.init)
        return folders.contains { FileManager.default.isExecutableFile(atPath: "\($0)/cliod") }
    }

    private static var isClockSynchronised: Bool? {
        let answer = clio_clock_synchronised()
        return answer < 0 ? nil : answer == 1
    }

    private static var addresses: Set<String> {
        var list: UnsafeMutablePointer<ifaddrs>?
        guard getifaddrs(&list) == 0 else { return [] }
        defer { freeifaddrs(list) }
        var out: Set<String> = []
        var entry = list
        while let current = entry {
            entry = current.pointee.ifa_next
            guard let address = current.pointee.ifa_addr else { continue }
            let family = Int32(address.pointee.sa_family)
            guard family == AF_INET || family == AF_INET6 else { continue }
            let length = family == AF_INET ? MemoryLayout<sockaddr_in>.size : MemoryLayout<sockaddr_in6>.size
            var buffer = [CChar](repeating: 0, count: Int(NI_MAXHOST))
            guard
                getnameinfo(address, socklen_t(length), &buffer, socklen_t(buffer.count), nil, 0, NI_NUMERICHOST) == 0
            else { continue }
            let text = String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            // What no portal can have, such as loopback, is refused here.
            if let portal = try? Portal(parsing: family == AF_INET ? text : "[\(text)]") { out.insert(portal.address) }
        }
        return out
    }

    private static var rules: [Rules] {
        var out: [Rules] = []
        for (tool, arguments) in [("iptables", ["-S"]), ("ip6tables", ["-S"]), ("nft", ["list", "ruleset"])] {
            guard
                let path = ["/usr/sbin", "/sbin", "/usr/bin"].map({ "\($0)/\(tool)" })
                    .first(where: FileManager.default.isExecutableFile(atPath:))
            else { continue }
            do {
                let text = try output(path, arguments)
                out.append(tool == "nft" ? .nftables(text) : .iptables(text, isIPv6: tool == "ip6tables"))
            } catch {
                out.append(.unreadable(tool: tool, "\(error)"))
            }
        }
        return out
    }

    private static func output(_ path: String, _ arguments: [String]) throws -> String {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: path)
        process.arguments = arguments
        let (out, errors) = (Pipe(), Pipe())
        process.standardOutput = out
        process.standardError = errors
        try process.run()
        // Such a tool says a line or two on standard error, which the pipe holds meanwhile.
        let text = String(decoding: out.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        let complaint = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            let line = complaint.split(whereSeparator: \.isNewline).first.map(String.init)
            throw Gateway.Failure(line ?? "exit status \(process.terminationStatus)")
        }
        return text
    }
}

extension CephAccess {
    /// What a gateway must be able to do and this client is refused. Nothing is changed: each write is one that the cluster
    /// would allow and then find without object.
    public static func refusals(of cluster: Cluster, pool: Pool) async -> [String] {
        var out: [String] = []
        do {
            _ = try await credentials(of: cluster)
        } catch is UnusableKey {
            // A finding of its own.
        } catch {
            out.append("\(error)")
        }
        do {
            var nothing = WriteOperation()
            nothing.assertExists()
            nothing.remove()
            _ = try await pool.execute(nothing, on: "clio.bootstrap")
        } catch {
            if error.kind != .notFound { out.append("cannot write: \(error)") }
        }
        do {
            // No address: the monitors look at the caps first. librados' own call would refuse it by itself.
            _ = try await cluster.monitorCommand(
                "osd blocklist", ["blocklistop": .text("add"), "addr": .text("none/1")])
        } catch {
            if error.kind != .invalid { out.append("cannot fence nodes: \(error)") }
        }
        return out
    }
}
