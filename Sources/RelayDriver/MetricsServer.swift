// SPDX-License-Identifier: Apache-2.0
import Dispatch
import Exposition
import Foundation
import SystemPackage

/// Serves measurements over HTTP/1.1: `GET /metrics`, one request a connection.
public final class MetricsServer: Sendable {
    /// Where to listen: an address of this machine and a port.
    public struct Endpoint: Sendable, Hashable, CustomStringConvertible {
        public let address: String
        public let port: UInt16
        let isIPv6: Bool

        /// `127.0.0.1:9847`, `[::1]:9847`; `nil` if it is neither.
        public init?(_ text: String) {
            guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]) else {
                return nil
            }
            var host = String(text[..<colon])
            isIPv6 = host.hasPrefix("[") && host.hasSuffix("]")
            if isIPv6 { host = String(host.dropFirst().dropLast()) }
            var bytes = in6_addr()
            guard inet_pton(isIPv6 ? AF_INET6 : AF_INET, host, &bytes) == 1 else { return nil }
            address = host
            self.port = port
        }

        public var description: String { isIPv6 ? "[\(address)]:\(port)" : "\(address):\(port)" }

        /// Calls `body` with the address as the kernel takes it.
        func with<Result>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result {
            func call<Address>(_ address: Address) -> Result {
                withUnsafePointer(to: address) {
                    $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                        body($0, socklen_t(MemoryLayout<Address>.size))
                    }
                }
            }
            if isIPv6 {
                var out = sockaddr_in6()
                out.sin6_family = sa_family_t(AF_INET6)
                out.sin6_port = port.bigEndian
                inet_pton(AF_INET6, address, &out.sin6_addr)
                return call(out)
            }
            var out = sockaddr_in()
            out.sin_family = sa_family_t(AF_INET)
            out.sin_port = port.bigEndian
            inet_pton(AF_INET, address, &out.sin_addr)
            return call(out)
        }
    }

    /// Most connections at a time; more are closed at once.
    static let mostConnections = 8
    /// Longest request that is read, bytes.
    static let longestRequest = 8192

    /// Safe to share: set up before it is shared; cancelling is all that is done to it later, from anywhere.
    private nonisolated(unsafe) let source: any DispatchSourceRead
    /// Where it listens; the port that the kernel chose for 0.
    public let port: UInt16

    /// Listens.
    ///
    /// - Parameter handler: gives the text to be served.
    /// - Throws: `Errno` if the address cannot be had.
    public init(_ endpoint: Endpoint, handler: @escaping @Sendable () async -> String) throws(Errno) {
        let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        let descriptor = socket(endpoint.isIPv6 ? AF_INET6 : AF_INET, kind, 0)
        guard descriptor >= 0 else { throw Errno(rawValue: errno) }
        var yes: Int32 = 1
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
        var bound = sockaddr_in6()
        var length = socklen_t(MemoryLayout<sockaddr_in6>.size)
        guard endpoint.with({ bind(descriptor, $0, $1) }) == 0, listen(descriptor, 16) == 0,
            withUnsafeMutablePointer(
                to: &bound,
                { $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) } }) == 0
        else {
            let error = Errno(rawValue: errno)
            close(descriptor)
            throw error
        }
        // At the same place for both families.
        port = UInt16(bigEndian: bound.sin6_port)
        let slots = DispatchSemaphore(value: Self.mostConnections)
        source = DispatchSource.makeReadSource(fileDescriptor: descriptor)
        source.setEventHandler {
            while true {
                let client = accept(descriptor, nil, nil)
                guard client >= 0 else { return }
                _ = fcntl(client, F_SETFD, FD_CLOEXEC)
                guard slots.wait(timeout: .now()) == .success else {
                    close(client)
                    continue
                }
                DispatchQueue.global().async {
                    Self.serve(client, handler) {
                        close(client)
                        slots.signal()
                    }
                }
            }
        }
        source.setCancelHandler { close(descriptor) }
        source.activate()
    }

    /// Takes no more requests.
    public func finish() { source.cancel() }

    private static func serve(
        _ client: Int32, _ handler: @escaping @Sendable () async -> String, done: @escaping @Sendable () -> Void
    ) {
        var patience = timeval(tv_sec: 5, tv_usec: 0)
        let size = socklen_t(MemoryLayout<timeval>.size)
        setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, size)
        setsockopt(client, SOL_SOCKET, SO_SNDTIMEO, &patience, size)
        guard let line = requestLine(client) else { return done() }
        let words = line.split(separator: " ")
        let path = words.count > 1 ? words[1].prefix { $0 != "?" } : ""
        guard words.count == 3, words[2].hasPrefix("HTTP/1.") else {
            send(client, "400 Bad Request", "not HTTP\n")
            return done()
        }
        guard words[0] == "GET" || words[0] == "HEAD" else {
            send(client, "405 Method Not Allowed", "only GET\n", extra: "Allow: GET, HEAD\r\n")
            return done()
        }
        guard path == "/metrics" else {
            send(client, "404 Not Found", "look at /metrics\n")
            return done()
        }
        let isBodyWanted = words[0] == "GET"
        Task {
            let text = await handler()
            // Writing may block for as long as the other side likes.
            DispatchQueue.global().async {
                send(client, "200 OK", text, type: Exposition.contentType, isBodyWanted: isBodyWanted)
                done()
            }
        }
    }

    /// The first line, once all of the request's head has come; `nil` if it does not, or is too long.
    private static func requestLine(_ client: Int32) -> Substring? {
        let end = ContinuousClock.now + .seconds(5)
        var head: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4096)
        while head.count < longestRequest, ContinuousClock.now < end {
            let count = chunk.withUnsafeMutableBytes { recv(client, $0.baseAddress, $0.count, 0) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return nil }
            head += chunk[..<count]
            let text = String(decoding: head, as: UTF8.self)
            if text.contains("\r\n\r\n") { return text.split(separator: "\r\n", maxSplits: 1).first }
        }
        return nil
    }

    private static func send(
        _ client: Int32, _ status: String, _ body: String, type: String = "text/plain; charset=utf-8",
        extra: String = "", isBodyWanted: Bool = true
    ) {
        let head =
            "HTTP/1.1 \(status)\r\nContent-Type: \(type)\r\nContent-Length: \(body.utf8.count)\r\n\(extra)"
            + "Connection: close\r\n\r\n"
        // Whoever asked may have gone; nobody else minds.
        try? Control.write(Array((head + (isBodyWanted ? body : "")).utf8), to: client)
    }
}
