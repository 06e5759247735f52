// SPDX-License-Identifier: Apache-2.0

import CNetlink

/// A message of a generic netlink family.
public struct GenericMessage: Sendable, Hashable {
    /// The family's number.
    public var family: UInt16
    /// The family's command.
    public var command: UInt8
    /// Version of the family's protocol.
    public var version: UInt8
    public var attributes: Attributes

    public init(family: UInt16, command: UInt8, version: UInt8 = 1, attributes: Attributes = Attributes()) {
        self.family = family
        self.command = command
        self.version = version
        self.attributes = attributes
    }
}

/// One netlink message of a datagram (`struct nlmsghdr` and what follows).
struct Frame: Equatable {
    enum Content: Equatable {
        case message(GenericMessage)
        /// `NLMSG_ERROR`: 0, or a positive errno, and the kernel's words.
        case acknowledgement(Int32, String?)
        /// `NLMSG_DONE`: the end of a dump, with 0 or a positive errno.
        case done(Int32)
        /// `NLMSG_NOOP`, `NLMSG_OVERRUN`, and what cannot be read.
        case other(UInt16)
    }

    var sequence: UInt32
    var flags: UInt16
    var content: Content

    static let headerLength = 16
    private static let genericHeaderLength = 4

    /// A request.
    static func request(_ message: GenericMessage, flags: UInt16, sequence: UInt32, port: UInt32) -> [UInt8] {
        let attributes = message.attributes.encoded
        var out: [UInt8] = []
        func put(_ value: some FixedWidthInteger) { withUnsafeBytes(of: value) { out.append(contentsOf: $0) } }
        put(UInt32(headerLength + genericHeaderLength + attributes.count))
        put(message.family)
        put(flags)
        put(sequence)
        put(port)
        put(message.command)
        put(message.version)
        put(UInt16(0))
        return out + attributes
    }

    /// Takes a datagram apart. What follows a length that does not fit is dropped.
    static func decode(_ datagram: [UInt8]) -> [Frame] {
        var frames: [Frame] = []
        var offset = 0
        while datagram.count - offset >= headerLength {
            let header = datagram.withUnsafeBytes { bytes in
                (
                    length: Int(bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self)),
                    type: bytes.loadUnaligned(fromByteOffset: offset + 4, as: UInt16.self),
                    flags: bytes.loadUnaligned(fromByteOffset: offset + 6, as: UInt16.self),
                    sequence: bytes.loadUnaligned(fromByteOffset: offset + 8, as: UInt32.self)
                )
            }
            guard header.length >= headerLength, header.length <= datagram.count - offset else { break }
            let payload = Array(datagram[offset + headerLength..<offset + header.length])
            frames.append(
                Frame(
                    sequence: header.sequence, flags: header.flags,
                    content: content(header.type, header.flags, payload)))
            offset += (header.length + 3) & ~3
        }
        return frames
    }

    private static func content(_ type: UInt16, _ flags: UInt16, _ payload: [UInt8]) -> Content {
        let code = payload.count >= 4 ? payload.withUnsafeBytes { $0.loadUnaligned(as: Int32.self) } : nil
        switch Int32(type) {
        case NLMSG_ERROR:
            guard let code, code <= 0, code != .min else { return .other(type) }
            return .acknowledgement(-code, words(flags, payload))
        case NLMSG_DONE:
            let code = code ?? 0
            return code <= 0 && code != .min ? .done(-code) : .other(type)
        case 0..<Int32(NLMSG_MIN_TYPE):
            return .other(type)
        default:
            guard payload.count >= genericHeaderLength,
                let attributes = Attributes(decoding: payload.dropFirst(genericHeaderLength))
            else { return .other(type) }
            return .message(
                GenericMessage(family: type, command: payload[0], version: payload[1], attributes: attributes))
        }
    }

    /// The kernel's explanation that follows the error and the request's header (`NETLINK_EXT_ACK`, `NETLINK_CAP_ACK`).
    private static func words(_ flags: UInt16, _ payload: [UInt8]) -> String? {
        guard flags & extended != 0 else { return nil }
        var start = 4 + headerLength
        if flags & capped == 0, payload.count >= 8 {
            // The whole request was sent back.
            let length = payload.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 4, as: UInt32.self) }
            start = 4 + (Int(length) + 3) & ~3
        }
        guard start <= payload.count, let attributes = Attributes(decoding: payload.dropFirst(start)) else {
            return nil
        }
        return attributes.string(UInt16(NLMSGERR_ATTR_MSG.rawValue))
    }

    /// `NLM_F_CAPPED` and `NLM_F_ACK_TLVS`.
    private static let capped: UInt16 = 0x100
    private static let extended: UInt16 = 0x200
}
