// SPDX-License-Identifier: Apache-2.0

import ClusterModel

/// What relays tell each other by notify. Little-endian, versioned; see ``encoded``.
public enum Message: Hashable, Sendable {
    /// An event of `origin`'s. Its events below `floor` are complete: nobody needs to remember them.
    case event(origin: Member, id: UInt64, floor: UInt64, payload: [UInt8])
    /// Demand this OSD map epoch.
    case barrier(origin: Member, epoch: UInt32)
    /// The membership has changed: look.
    case look(origin: Member)

    /// Most bytes an event may carry.
    public static let maximumPayload = 4096

    public var origin: Member {
        switch self {
        case .event(let origin, _, _, _), .barrier(let origin, _), .look(let origin): origin
        }
    }
}

/// A member's answer to a ``Message``, in the acknowledgement of the notify.
public struct Acknowledgement: Hashable, Sendable {
    public enum Subject: Hashable, Sendable {
        case event(origin: Member, id: UInt64)
        case barrier(epoch: UInt32)
    }

    public var member: Member
    public var subject: Subject
    /// 0, or a positive errno.
    public var code: UInt32

    public init(member: Member, subject: Subject, code: UInt32 = 0) {
        self.member = member
        self.subject = subject
        self.code = code
    }
}

private let formatVersion: UInt8 = 1

extension Message {
    public var encoded: [UInt8] {
        var out = Encoder()
        out.put(formatVersion)
        switch self {
        case .event(let origin, let id, let floor, let payload):
            out.put(UInt8(1))
            out.put(origin)
            out.put(id)
            out.put(floor)
            out.put(payload)
        case .barrier(let origin, let epoch):
            out.put(UInt8(2))
            out.put(origin)
            out.put(epoch)
        case .look(let origin):
            out.put(UInt8(3))
            out.put(origin)
        }
        return out.bytes
    }

    /// `nil` for anything that ``encoded`` does not produce.
    public init?(decoding bytes: [UInt8]) {
        var input = Decoder(bytes)
        guard input.byte() == formatVersion, let kind = input.byte(), let origin = input.member() else { return nil }
        switch kind {
        case 1:
            guard let id = input.integer(UInt64.self), let floor = input.integer(UInt64.self),
                let payload = input.bytes(),
                payload.count <= Self.maximumPayload
            else { return nil }
            self = .event(origin: origin, id: id, floor: floor, payload: payload)
        case 2:
            guard let epoch = input.integer(UInt32.self) else { return nil }
            self = .barrier(origin: origin, epoch: epoch)
        case 3:
            self = .look(origin: origin)
        default:
            return nil
        }
        guard input.isAtEnd else { return nil }
    }
}

extension Acknowledgement {
    public var encoded: [UInt8] {
        var out = Encoder()
        out.put(formatVersion)
        switch subject {
        case .event(let origin, let id):
            out.put(UInt8(1))
            out.put(origin)
            out.put(id)
        case .barrier(let epoch):
            out.put(UInt8(2))
            out.put(epoch)
        }
        out.put(member)
        out.put(code)
        return out.bytes
    }

    /// `nil` for anything that ``encoded`` does not produce, such as the empty answer of who is no member.
    public init?(decoding bytes: [UInt8]) {
        var input = Decoder(bytes)
        guard input.byte() == formatVersion, let kind = input.byte() else { return nil }
        switch kind {
        case 1:
            guard let origin = input.member(), let id = input.integer(UInt64.self) else { return nil }
            subject = .event(origin: origin, id: id)
        case 2:
            guard let epoch = input.integer(UInt32.self) else { return nil }
            subject = .barrier(epoch: epoch)
        default:
            return nil
        }
        guard let member = input.member(), let code = input.integer(UInt32.self), input.isAtEnd else { return nil }
        self.member = member
        self.code = code
    }
}

extension Record {
    /// The value of omap `member.<node>`.
    public var encoded: [UInt8] {
        var out = Encoder()
        out.put(formatVersion)
        out.put(instance)
        switch state {
        case .up: out.put(UInt8(1))
        case .leaving: out.put(UInt8(2))
        case .fenced(.marked, let by):
            out.put(UInt8(3))
            out.put(Array(by.utf8))
        case .fenced(.blocklisted(let epoch), let by):
            out.put(UInt8(4))
            out.put(epoch)
            out.put(Array(by.utf8))
        case .fenced(.settled(let epoch), let by):
            out.put(UInt8(5))
            out.put(epoch)
            out.put(Array(by.utf8))
        }
        out.put(fencedBefore)
        out.put(UInt16(clients.count))
        for client in clients { out.put(Array(client.utf8)) }
        return out.bytes
    }

    /// `nil` for anything that ``encoded`` does not produce.
    public init?(decoding bytes: [UInt8]) {
        var input = Decoder(bytes)
        guard input.byte() == formatVersion, let instance = input.integer(UInt64.self), let kind = input.byte() else {
            return nil
        }
        switch kind {
        case 1: state = .up
        case 2: state = .leaving
        case 3:
            guard let by = input.text() else { return nil }
            state = .fenced(.marked, by: by)
        case 4, 5:
            guard let epoch = input.integer(UInt32.self), let by = input.text() else { return nil }
            state = .fenced(kind == 4 ? .blocklisted(epoch: epoch) : .settled(epoch: epoch), by: by)
        default: return nil
        }
        guard let fencedBefore = input.integer(UInt32.self), let count = input.integer(UInt16.self) else { return nil }
        var clients: [String] = []
        for _ in 0..<count {
            guard let client = input.text() else { return nil }
            clients.append(client)
        }
        guard input.isAtEnd else { return nil }
        self.instance = instance
        self.clients = clients
        self.fencedBefore = fencedBefore
    }
}

private struct Encoder {
    var bytes: [UInt8] = []

    mutating func put(_ value: some FixedWidthInteger) {
        withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }

    mutating func put(_ value: [UInt8]) {
        put(UInt16(truncatingIfNeeded: value.count))
        bytes.append(contentsOf: value)
    }

    mutating func put(_ member: Member) {
        put(Array(member.node.utf8))
        put(member.instance)
    }
}

private struct Decoder {
    private let input: [UInt8]
    private var offset = 0

    init(_ input: [UInt8]) { self.input = input }

    var isAtEnd: Bool { offset == input.count }

    mutating func byte() -> UInt8? { integer(UInt8.self) }

    mutating func integer<Value: FixedWidthInteger & UnsignedInteger>(_: Value.Type) -> Value? {
        let size = Value.bitWidth / 8
        guard input.count - offset >= size else { return nil }
        var value: Value = 0
        for index in 0..<size { value |= Value(input[offset + index]) << Value(8 * index) }
        offset += size
        return value
    }

    mutating func bytes() -> [UInt8]? {
        guard let count = integer(UInt16.self), input.count - offset >= Int(count) else { return nil }
        defer { offset += Int(count) }
        return Array(input[offset..<offset + Int(count)])
    }

    /// Names and addresses. They go to logs and terminals, which none may command.
    mutating func text() -> String? {
        guard let text = bytes().flatMap({ String(validating: $0, as: UTF8.self) }),
            !text.unicodeScalars.contains(where: \.isControl)
        else { return nil }
        return text
    }

    mutating func member() -> Member? {
        guard let node = text(), let instance = integer(UInt64.self) else { return nil }
        return Member(node: node, instance: instance)
    }
}
