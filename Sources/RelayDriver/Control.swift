// SPDX-License-Identifier: Apache-2.0
import Dispatch
import Foundation
import Synchronization
import SystemPackage
import Target

/// Orders to the cliod of this machine, over a socket that only root can use: one line with the order, one line of JSON
/// with the answer.
public enum Control {
    public enum Order: String, Sendable, CaseIterable {
        /// What it says of itself.
        case report
        /// Take on the group's configuration as it is now.
        case reload
        /// Leave the group in order and take everything off this machine.
        case leave
    }

    public struct Answer: Codable, Sendable {
        public var report: NodeReport?
        public var changes: [String] = []
        public var problems: [String] = []
        public var skipped: [String] = []
        /// What the node serves, for a summary.
        public var luns = 0
        public var targets = 0
        public var ports = 0

        init(report: NodeReport? = nil) { self.report = report }

        /// The answer for what a gateway came to.
        init(_ report: Gateway.Report) {
            changes = report.changes
            problems = report.problems
            skipped = report.skipped
            luns = report.luns
            targets = report.targets
            ports = report.ports
        }

        init(problem: String) { problems = [problem] }
    }

    /// Where the group's cliod listens.
    public static func path(_ group: String) -> String { "/run/clio/\(group).sock" }

    /// Gives an order and waits for the answer; blocks.
    ///
    /// - Returns: `nil` if no cliod runs for the group on this machine.
    /// - Throws: `Errno` if it does not let us, or went away over the order.
    public static func give(_ order: Order, group: String) throws -> Answer? {
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw Errno(rawValue: errno) }
        defer { close(descriptor) }
        guard let address = UnixAddress(path(group)) else { return nil }
        guard address.with({ connect(descriptor, $0, $1) }) == 0 else {
            if errno == ENOENT || errno == ECONNREFUSED { return nil }
            throw Errno(rawValue: errno)
        }
        try write(Array("\(order.rawValue)\n".utf8), to: descriptor)
        let line = try readLine(from: descriptor, limit: 1 << 20)
        guard let answer = try? JSONDecoder().decode(Answer.self, from: Data(line)) else {
            throw Errno(rawValue: ECONNRESET)
        }
        return answer
    }

    static func write(_ bytes: [UInt8], to descriptor: Int32) throws(Errno) {
        var sent = 0
        while sent < bytes.count {
            let count = bytes[sent...].withUnsafeBytes {
                send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw Errno(rawValue: errno) }
            sent += count
        }
    }

    fileprivate static func readLine(from descriptor: Int32, limit: Int) throws(Errno) -> [UInt8] {
        var line: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4096)
        while line.count < limit {
            let count = chunk.withUnsafeMutableBytes { recv(descriptor, $0.baseAddress, $0.count, 0) }
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw Errno(rawValue: errno) }
            if count == 0 { break }
            line += chunk[..<count]
            if let end = line.firstIndex(of: 0x0a) { return Array(line[..<end]) }
        }
        return line
    }
}

/// The side that takes orders.
public final class ControlServer: Sendable {
    private let path: String
    /// Safe to share: set up before it is shared; cancelling is all that is done to it later, from anywhere.
    private nonisolated(unsafe) let source: any DispatchSourceRead
    private let busy = DispatchGroup()

    /// Listens.
    ///
    /// - Throws: `Errno` if the socket cannot be made: `EADDRINUSE` if another cliod listens there. What one that has died
    ///   left is replaced.
    public init(
        group: String, handler: @escaping @Sendable (Control.Order) async -> Control.Answer
    ) throws(Errno) {
        path = Control.path(group)
        let descriptor = try Self.listen(at: path)
        source = DispatchSource.makeReadSource(fileDescriptor: descriptor)
        let busy = busy
        source.setEventHandler {
            while true {
                let client = accept(descriptor, nil, nil)
                guard client >= 0 else { return }
                _ = fcntl(client, F_SETFD, FD_CLOEXEC)
                busy.enter()
                DispatchQueue.global().async { serve(client, busy, handler) }
            }
        }
        source.setCancelHandler { close(descriptor) }
        source.activate()
    }

    private static func listen(at path: String) throws(Errno) -> Int32 {
        guard let address = UnixAddress(path) else { throw .fileNameTooLong }
        let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        let probe = socket(AF_UNIX, kind, 0)
        guard probe >= 0 else { throw Errno(rawValue: errno) }
        let isTaken = address.with { connect(probe, $0, $1) } == 0
        close(probe)
        if isTaken { throw .addressInUse }
        mkdir("/run/clio", 0o700)
        unlink(path)
        let descriptor = socket(AF_UNIX, kind | Int32(SOCK_NONBLOCK.rawValue), 0)
        guard descriptor >= 0 else { throw Errno(rawValue: errno) }
        guard address.with({ bind(descriptor, $0, $1) }) == 0, chmod(path, 0o600) == 0,
            Glibc.listen(descriptor, 16) == 0
        else {
            let error = Errno(rawValue: errno)
            close(descriptor)
            throw error
        }
        return descriptor
    }

    /// Takes no more orders, and waits until those that were taken are answered.
    public func finish() async {
        source.cancel()
        unlink(path)
        await withCheckedContinuation { continuation in
            busy.notify(queue: .global()) { continuation.resume() }
        }
    }
}

/// Reads one order, has it carried out, and answers.
private func serve(
    _ client: Int32, _ busy: DispatchGroup, _ handler: @escaping @Sendable (Control.Order) async -> Control.Answer
) {
    var patience = timeval(tv_sec: 5, tv_usec: 0)
    setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
    guard let line = try? Control.readLine(from: client, limit: 64),
        let order = Control.Order(rawValue: String(decoding: line, as: UTF8.self))
    else {
        close(client)
        return busy.leave()
    }
    Task {
        let answer = await handler(order)
        if let json = try? JSONEncoder().encode(answer) { try? Control.write(Array(json) + [0x0a], to: client) }
        close(client)
        busy.leave()
    }
}
