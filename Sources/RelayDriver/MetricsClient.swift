// SPDX-License-Identifier: Apache-2.0
import Foundation
import SystemPackage

/// Reads what a ``MetricsServer`` serves.
public enum MetricsClient {
    /// Why there is nothing.
    public struct Failure: Error, Sendable, CustomStringConvertible {
        public let description: String
    }

    /// Longest answer that is taken, bytes: 10,000 LUNs have about half of that.
    static let longestAnswer = 64 << 20

    /// `GET /metrics`. Blocks.
    ///
    /// - Parameter limit: longest time in all.
    public static func read(_ endpoint: MetricsServer.Endpoint, within limit: Duration) throws(Failure) -> String {
        let end = ContinuousClock.now + limit
        let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        let descriptor = socket(endpoint.isIPv6 ? AF_INET6 : AF_INET, kind, 0)
        guard descriptor >= 0 else { throw failure(errno) }
        defer { close(descriptor) }
        try setPatience(descriptor, until: end)
        guard endpoint.with({ connect(descriptor, $0, $1) }) == 0 else { throw failure(errno) }
        let request = Array("GET /metrics HTTP/1.1\r\nHost: \(endpoint)\r\nConnection: close\r\n\r\n".utf8)
        do {
            try Control.write(request, to: descriptor)
        } catch {
            throw Failure(description: "\(error)")
        }
        var answer: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            try setPatience(descriptor, until: end)
            let count = chunk.withUnsafeMutableBytes { recv(descriptor, $0.baseAddress, $0.count, 0) }
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw failure(errno) }
            if count == 0 { break }
            answer += chunk[..<count]
            guard answer.count <= longestAnswer else { throw Failure(description: "the answer has no end") }
        }
        return try body(of: answer)
    }

    /// The body of an answer that ends with its connection.
    static func body(of answer: [UInt8]) throws(Failure) -> String {
        let text = String(decoding: answer, as: UTF8.self)
        guard text.hasPrefix("HTTP/1."), let head = text.firstRange(of: "\r\n\r\n") else {
            throw Failure(description: "the answer is not HTTP; does something else listen there?")
        }
        let status = text.prefix { $0 != "\r\n" }.split(separator: " ", maxSplits: 1)
        guard status.count == 2, status[1].hasPrefix("200") else {
            throw Failure(description: "the answer is \(status.count == 2 ? status[1] : "damaged")")
        }
        return String(text[head.upperBound...])
    }

    /// For connecting, sending and receiving: what is left of the time.
    private static func setPatience(_ descriptor: Int32, until end: ContinuousClock.Instant) throws(Failure) {
        let left = (end - .now).components
        let microseconds = Int(left.attoseconds / 1_000_000_000_000)
        guard left.seconds > 0 || microseconds > 0 else { throw failure(EAGAIN) }
        var patience = timeval(tv_sec: Int(left.seconds), tv_usec: microseconds)
        let size = socklen_t(MemoryLayout<timeval>.size)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, size)
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &patience, size)
    }

    private static func failure(_ code: Int32) -> Failure {
        let isLate = [EAGAIN, EINPROGRESS, ETIMEDOUT].contains(code)
        return Failure(description: isLate ? "no answer in time" : "\(Errno(rawValue: code))".lowercased())
    }
}
