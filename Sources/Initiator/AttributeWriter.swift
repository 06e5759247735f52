// SPDX-License-Identifier: Apache-2.0

import CISCSI
import Foundation
import Glibc
import Synchronization

/// Gives commands the task attribute that libiscsi cannot, which sends all of them as SIMPLE.
///
/// It stands between libiscsi and the connection: a socket pair takes the connection's descriptor, and two threads carry
/// what one side says to the other. On the way out they write ATTR into the header of commands that are to have another.
final class AttributeWriter: Sendable {
    private let attributes = Mutex<[UInt32: TaskAttribute]>([:])

    /// - Parameter session: logged in, without digests, and nothing sent since.
    init(_ session: ISCSISession) throws(ISCSIError) {
        let descriptor = iscsi_get_fd(session.context)
        var pair: [Int32] = [-1, -1]
        let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        let connection = dup(descriptor)
        guard connection >= 0, socketpair(AF_UNIX, kind, 0, &pair) == 0, dup2(pair[0], descriptor) == descriptor else {
            throw ISCSIError(
                operation: "write task attributes", portal: session.portal, text: String(cString: strerror(errno)))
        }
        close(pair[0])
        // libiscsi's side must not block, as before; the threads may.
        _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
        _ = fcntl(connection, F_SETFL, fcntl(connection, F_GETFL) & ~O_NONBLOCK)
        let mine = pair[1]
        // Whoever is the last to end closes both.
        let ended = SharedCount()
        let finish: @Sendable () -> Void = {
            shutdown(connection, Int32(SHUT_RDWR))
            shutdown(mine, Int32(SHUT_RDWR))
            if ended.next() == 2 {
                close(connection)
                close(mine)
            }
        }
        Thread.detachNewThread {
            Self.carry(from: connection, to: mine) { _ in }
            finish()
        }
        Thread.detachNewThread { [self] in
            var header = OutgoingHeaders()
            Self.carry(from: mine, to: connection) { bytes in
                header.pass(&bytes) { tag in attributes.withLock { $0.removeValue(forKey: tag) } }
            }
            finish()
        }
    }

    /// To be called between the command's being handed to libiscsi and its being sent.
    func set(_ attribute: TaskAttribute, ofTask tag: UInt32) { attributes.withLock { $0[tag] = attribute } }

    private static func carry(from source: Int32, to destination: Int32, _ change: (inout [UInt8]) -> Void) {
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let count = recv(source, &buffer, buffer.count, 0)
            guard count > 0 else { return }
            var rest = Array(buffer[..<count])
            change(&rest)
            while !rest.isEmpty {
                let sent = send(destination, rest, rest.count, Int32(MSG_NOSIGNAL))
                guard sent > 0 else { return }
                rest.removeFirst(sent)
            }
        }
    }
}

/// Finds the headers of the commands in a stream of PDUs without digests (RFC 7143, 11.2).
struct OutgoingHeaders {
    /// Where the next byte is in its PDU.
    private var position = 0
    private var header: [UInt8] = []
    private static let length = 48

    /// Writes into commands' headers the attributes that `attribute` has for their tags.
    ///
    /// Byte 1 has the attribute, and the tag comes later, so of a header that has not come to its end the rest is held back:
    /// `bytes` are then fewer, or more, than those that came.
    mutating func pass(_ bytes: inout [UInt8], _ attribute: (UInt32) -> TaskAttribute?) {
        var out: [UInt8] = []
        out.reserveCapacity(bytes.count + Self.length)
        var rest = bytes[...]
        while !rest.isEmpty {
            if position == 0 {
                let more = rest.prefix(Self.length - header.count)
                header += more
                rest = rest.dropFirst(more.count)
                guard header.count == Self.length else { break }
                // Opcode 01h: SCSI command.
                if header[0] & 0x3F == 0x01, let found = attribute(UInt32(bigEndian: header[16...])) {
                    header[1] = header[1] & ~7 | found.rawValue
                }
                let data = Int(UInt32(bigEndian: [0] + header[5..<8]))
                position = Int(header[4]) * 4 + (data + 3) & ~3
                out += header
                header = []
            } else {
                let more = rest.prefix(position)
                out += more
                position -= more.count
                rest = rest.dropFirst(more.count)
            }
        }
        bytes = out
    }
}

/// Counts what several threads do.
private final class SharedCount: Sendable {
    private let count = Atomic(0)

    /// 1, 2, …
    func next() -> Int { count.add(1, ordering: .acquiringAndReleasing).newValue }
}
