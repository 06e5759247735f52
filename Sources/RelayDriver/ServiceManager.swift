// SPDX-License-Identifier: Apache-2.0
import Foundation

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// systemd, if it runs this process: readiness, status and signs of life (sd_notify(3), sd_watchdog_enabled(3)).
public struct ServiceManager: Sendable {
    private let socket: String?
    /// How often systemd wants a sign of life at least; `nil`: it does not.
    public let watchdog: Duration?

    /// Reads `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    public init(environment: [String: String] = ProcessInfo.processInfo.environment) {
        socket = environment["NOTIFY_SOCKET"].flatMap { $0.isEmpty ? nil : $0 }
        let isOurs = environment["WATCHDOG_PID"].flatMap { Int32($0) }.map { $0 == getpid() } ?? true
        let period = environment["WATCHDOG_USEC"].flatMap { Int64($0) }.flatMap { $0 > 0 ? $0 : nil }
        watchdog = isOurs ? period.map { .microseconds($0) } : nil
    }

    /// The start takes longer, but goes on: another three minutes, unless this is said again.
    public func extendStart() { send("EXTEND_TIMEOUT_USEC=180000000") }

    /// Hosts are served.
    public func ready() { send("READY=1") }

    /// One line for `systemctl status`.
    public func status(_ text: String) { send("STATUS=\(text.replacing("\n", with: " "))") }

    public func stopping() { send("STOPPING=1") }

    public func alive() { send("WATCHDOG=1") }

    /// One datagram. systemd not listening is no reason to fail.
    private func send(_ text: String) {
        guard let socket else { return }
        let descriptor = Glibc.socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return }
        defer { close(descriptor) }
        UnixAddress(socket)?.with { address, length in
            _ = Array(text.utf8).withUnsafeBytes { sendto(descriptor, $0.baseAddress, $0.count, 0, address, length) }
        }
    }
}

/// `struct sockaddr_un`.
struct UnixAddress {
    private var address = sockaddr_un()
    private let length: socklen_t

    /// - Parameter path: a path, or `@` and an abstract name. `nil` if it is too long (108 bytes).
    init?(_ path: String) {
        address.sun_family = sa_family_t(AF_UNIX)
        var bytes = Array(path.utf8)
        let isAbstract = bytes.first == UInt8(ascii: "@")
        if isAbstract { bytes[0] = 0 } else { bytes.append(0) }
        guard bytes.count <= MemoryLayout.size(ofValue: address.sun_path) else { return nil }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
        let used = MemoryLayout<sockaddr_un>.offset(of: \.sun_path).map { $0 + bytes.count }
        length = socklen_t(used ?? MemoryLayout<sockaddr_un>.size)
    }

    func with<Result>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result {
        withUnsafePointer(to: address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, length) }
        }
    }
}
