// SPDX-License-Identifier: Apache-2.0
import Foundation
import Glibc
import Synchronization

/// Holds the packets of one netfilter queue (`linux/netfilter/nfnetlink_queue.h`), each for the same time, and lets them
/// go on in order. Not every kernel has `sch_netem`, and that could not let go of all it holds at a word.
public enum PacketDelay {
    /// What the process says once it holds packets.
    static let ready = "holding"

    /// Holds packets until SIGTERM, upon which all that are held go on.
    ///
    /// - Parameters:
    ///   - queue: number of the queue, in the network namespace of the calling thread.
    ///   - delay: how long each packet is held.
    /// - Throws: `LabError` if the kernel has no such queues, or somebody else has this one.
    public static func run(queue: UInt16, delay: Duration) throws {
        // Initialised before a signal can come.
        ended.store(false, ordering: .relaxed)
        signal(SIGTERM) { _ in PacketDelay.ended.store(true, ordering: .relaxed) }
        let socket = try QueueSocket(queue)
        print(ready)
        fflush(nil)
        var held: [(id: UInt32, due: ContinuousClock.Instant)] = []
        while !ended.load(ordering: .relaxed) {
            for id in try socket.packets(wait: 5) { held.append((id, .now + delay)) }
            let due = held.prefix { $0.due <= .now }
            guard let last = due.last else { continue }
            try socket.accept(upTo: last.id)
            held.removeFirst(due.count)
        }
        // The rule is gone by now, but a packet may still be on its way here.
        for id in try socket.packets(wait: 20) { held.append((id, .now)) }
        if let last = held.last { try socket.accept(upTo: last.id) }
    }

    private static let ended = Atomic(false)
}

/// A socket that owns a queue.
private struct QueueSocket: ~Copyable {
    private let descriptor: Int32
    private let queue: UInt16

    // linux/netlink.h: NETLINK_NETFILTER, NLM_F_REQUEST, NLM_F_ACK, NLMSG_ERROR
    private static let netfilter: Int32 = 12
    private static let (request, acknowledge, error): (UInt16, UInt16, UInt16) = (1, 4, 2)
    // linux/netfilter/nfnetlink.h: the subsystem is the message type's high byte.
    private static let subsystem: UInt16 = 3 << 8
    private enum Message: UInt16 {
        case packet = 0
        case config = 2
        case verdicts = 3
    }
    // NFQA_CFG_CMD, NFQA_CFG_PARAMS, NFQA_CFG_QUEUE_MAXLEN, NFQA_CFG_MASK, NFQA_CFG_FLAGS
    private enum Setting: UInt16 {
        case command = 1
        case copy, length, mask, flags
    }
    // NFQA_PACKET_HDR, NFQA_VERDICT_HDR
    private static let (packetHeader, verdictHeader): (UInt16, UInt16) = (1, 2)

    init(_ queue: UInt16) throws(LabError) {
        self.queue = queue
        descriptor = socket(AF_NETLINK, Int32(SOCK_RAW.rawValue) | Int32(SOCK_CLOEXEC.rawValue), Self.netfilter)
        guard descriptor >= 0 else { throw Self.failure(queue, errno) }
        var size: Int32 = 16 << 20
        setsockopt(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, &size, socklen_t(MemoryLayout<Int32>.size))
        // Bind to the queue; descriptors only, no data; a long queue; segments as large as the card's (GSO).
        try configure(.command, [1, 0, 0, 0])
        try configure(.copy, [0, 0, 0, 0, 1])
        try configure(.length, [0, 1, 0, 0])
        try send(
            .config, attribute(Setting.mask.rawValue, [0, 0, 0, 4]) + attribute(Setting.flags.rawValue, [0, 0, 0, 4]),
            acknowledged: true)
    }

    deinit { close(descriptor) }

    /// Identifiers of the packets that have come, in order.
    ///
    /// - Parameter wait: milliseconds to wait for the first.
    func packets(wait: Int32) throws(LabError) -> [UInt32] {
        var found: [UInt32] = []
        var wait = wait
        while true {
            var request = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            guard poll(&request, 1, wait) > 0 else { return found }
            wait = 0
            for message in try receive() where message.type == Self.subsystem | Message.packet.rawValue {
                // nfgenmsg, then attributes.
                var rest = message.body.dropFirst(4)
                while rest.count >= 4 {
                    let length = Int(Self.native16(rest, 0))
                    if Self.native16(rest, 2) & 0x3FFF == Self.packetHeader, rest.count >= 8 {
                        found.append(rest.dropFirst(4).prefix(4).reduce(0) { $0 << 8 | UInt32($1) })
                        break
                    }
                    rest = rest.dropFirst(max(4, (length + 3) & ~3))
                }
            }
        }
    }

    /// Lets all packets up to one go on.
    func accept(upTo id: UInt32) throws(LabError) {
        let acceptance: [UInt8] = [0, 0, 0, 1]
        try send(.verdicts, attribute(Self.verdictHeader, acceptance + Self.big(id)), acknowledged: false)
    }

    private func configure(_ setting: Setting, _ value: [UInt8]) throws(LabError) {
        try send(.config, attribute(setting.rawValue, value), acknowledged: true)
    }

    private func attribute(_ type: UInt16, _ value: [UInt8]) -> [UInt8] {
        let padding = [UInt8](repeating: 0, count: (4 - value.count % 4) % 4)
        return Self.bytes(UInt16(4 + value.count)) + Self.bytes(type) + value + padding
    }

    private func send(_ message: Message, _ attributes: [UInt8], acknowledged: Bool) throws(LabError) {
        // struct nfgenmsg: family, version, and the queue in network order.
        let body = [0, 0, UInt8(queue >> 8), UInt8(queue & 0xFF)] + attributes
        let flags = acknowledged ? Self.request | Self.acknowledge : Self.request
        let header =
            Self.bytes(UInt32(16 + body.count)) + Self.bytes(Self.subsystem | message.rawValue) + Self.bytes(flags)
            + Self.bytes(UInt32(0)) + Self.bytes(UInt32(0))
        let data = header + body
        guard Glibc.send(descriptor, data, data.count, 0) == data.count else { throw Self.failure(queue, errno) }
        guard acknowledged else { return }
        for answer in try receive() where answer.type == Self.error {
            let code = answer.body.prefix(4).enumerated().reduce(Int32(0)) { $0 | Int32($1.element) << (8 * $1.offset) }
            if code != 0 { throw Self.failure(queue, -code) }
        }
    }

    /// The messages of one datagram.
    private func receive() throws(LabError) -> [(type: UInt16, body: ArraySlice<UInt8>)] {
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        let count = recv(descriptor, &buffer, buffer.count, 0)
        // ENOBUFS: the kernel had more to say; those packets go on with the next that is accepted.
        guard count >= 0 || [EINTR, ENOBUFS, EAGAIN].contains(errno) else { throw Self.failure(queue, errno) }
        var messages: [(type: UInt16, body: ArraySlice<UInt8>)] = []
        var rest = buffer.prefix(max(0, count))
        while rest.count >= 16 {
            let length = Int(Self.native16(rest, 0)) | Int(Self.native16(rest, 2)) << 16
            guard (16...rest.count).contains(length) else { break }
            messages.append((Self.native16(rest, 4), rest.prefix(length).dropFirst(16)))
            rest = rest.dropFirst((length + 3) & ~3)
        }
        return messages
    }

    /// Netlink's own numbers are in the machine's order, of which this takes little endian for granted, as Ceph's keys do.
    private static func native16(_ bytes: ArraySlice<UInt8>, _ offset: Int) -> UInt16 {
        UInt16(bytes[bytes.startIndex + offset]) | UInt16(bytes[bytes.startIndex + offset + 1]) << 8
    }

    private static func bytes<Integer: FixedWidthInteger>(_ value: Integer) -> [UInt8] {
        withUnsafeBytes(of: value.littleEndian, Array.init)
    }

    private static func big(_ value: UInt32) -> [UInt8] { withUnsafeBytes(of: value.bigEndian, Array.init) }

    private static func failure(_ queue: UInt16, _ code: Int32) -> LabError {
        LabError(
            "netfilter queue \(queue)", String(cString: strerror(code)), remedy: "modprobe nfnetlink_queue, as root")
    }
}
