// SPDX-License-Identifier: Apache-2.0

/// A netlink attribute: a type and bytes (`struct nlattr`, include/uapi/linux/netlink.h).
public struct Attribute: Sendable, Hashable {
    /// 0…16383: without the two flag bits.
    public var type: UInt16
    /// `NLA_F_NESTED`: the payload is a sequence of attributes.
    public var isNested: Bool
    public var payload: [UInt8]

    public init(type: UInt16, isNested: Bool = false, payload: [UInt8]) {
        self.type = type
        self.isNested = isNested
        self.payload = payload
    }

    /// Largest payload: the length is 16 bits and counts the header's 4.
    public static let maximumPayload = 0xffff - 4
}

/// The attributes of a message, in order. Numbers are in the machine's byte order, as netlink has them.
public struct Attributes: Sendable, Hashable {
    public private(set) var list: [Attribute] = []

    public init() {}

    public var isEmpty: Bool { list.isEmpty }

    // MARK: Building

    /// Adds raw bytes. A payload longer than ``Attribute/maximumPayload`` cannot be sent and is a programming error.
    public mutating func put(_ type: UInt16, bytes: [UInt8]) {
        precondition(bytes.count <= Attribute.maximumPayload, "attribute \(type) of \(bytes.count) bytes")
        list.append(Attribute(type: type, payload: bytes))
    }

    /// Adds a number (`NLA_U8` … `NLA_U64`).
    public mutating func put(_ type: UInt16, _ number: some FixedWidthInteger & UnsignedInteger) {
        put(type, bytes: withUnsafeBytes(of: number) { Array($0) })
    }

    /// Adds a string with its final zero byte (`NLA_NUL_STRING`).
    public mutating func put(_ type: UInt16, string: String) { put(type, bytes: Array(string.utf8) + [0]) }

    /// Adds an attribute without payload (`NLA_FLAG`).
    public mutating func put(flag type: UInt16) { put(type, bytes: []) }

    /// Adds attributes within one (`NLA_NESTED`).
    public mutating func put(_ type: UInt16, nested: Attributes) {
        list.append(Attribute(type: type, isNested: true, payload: nested.encoded))
    }

    // MARK: Reading

    /// The first attribute of a type.
    public subscript(type: UInt16) -> Attribute? { list.first { $0.type == type } }

    /// A number of exactly this width; `nil` if it is not there or has another length.
    public func number<Number: FixedWidthInteger & UnsignedInteger>(_ type: UInt16, as _: Number.Type) -> Number? {
        guard let payload = self[type]?.payload, payload.count == Number.bitWidth / 8 else { return nil }
        return payload.withUnsafeBytes { $0.loadUnaligned(as: Number.self) }
    }

    /// All numbers of a type (`multi-attr`) that have exactly this width, in order.
    public func numbers<Number: FixedWidthInteger & UnsignedInteger>(_ type: UInt16, as _: Number.Type) -> [Number] {
        list.filter { $0.type == type && $0.payload.count == Number.bitWidth / 8 }.map { attribute in
            attribute.payload.withUnsafeBytes { $0.loadUnaligned(as: Number.self) }
        }
    }

    /// A string without its final zero byte; `nil` if it is not there or no UTF-8.
    public func string(_ type: UInt16) -> String? { self[type].flatMap(Self.string) }

    /// All strings of a type (`multi-attr`).
    public func strings(_ type: UInt16) -> [String] { list.filter { $0.type == type }.compactMap(Self.string) }

    public func bytes(_ type: UInt16) -> [UInt8]? { self[type]?.payload }

    /// Whether an attribute of this type is there (`NLA_FLAG`).
    public func flag(_ type: UInt16) -> Bool { self[type] != nil }

    /// The attributes within one; `nil` if it is not there or holds something else.
    public func nested(_ type: UInt16) -> Attributes? { self[type].flatMap { Attributes(decoding: $0.payload) } }

    private static func string(_ attribute: Attribute) -> String? {
        let text = attribute.payload.prefix { $0 != 0 }
        return String(validating: text, as: UTF8.self)
    }

    // MARK: Wire

    private static let headerLength = 4
    private static let nestedFlag: UInt16 = 1 << 15
    private static let byteOrderFlag: UInt16 = 1 << 14

    /// As they go over the wire: each padded to 4 bytes (`NLA_ALIGNTO`).
    public var encoded: [UInt8] {
        var out: [UInt8] = []
        for attribute in list {
            let length = UInt16(Self.headerLength + attribute.payload.count)
            withUnsafeBytes(of: length) { out.append(contentsOf: $0) }
            let type = attribute.type | (attribute.isNested ? Self.nestedFlag : 0)
            withUnsafeBytes(of: type) { out.append(contentsOf: $0) }
            out += attribute.payload
            out += [UInt8](repeating: 0, count: (4 - out.count % 4) % 4)
        }
        return out
    }

    /// Reads attributes; `nil` if a length does not fit. The padding of the last one may be missing.
    public init?(decoding bytes: some RandomAccessCollection<UInt8>) {
        var rest = Array(bytes)[...]
        while !rest.isEmpty {
            guard rest.count >= Self.headerLength else { return nil }
            let (length, type) = rest.withUnsafeBytes {
                ($0.loadUnaligned(as: UInt16.self), $0.loadUnaligned(fromByteOffset: 2, as: UInt16.self))
            }
            guard Int(length) >= Self.headerLength, Int(length) <= rest.count else { return nil }
            list.append(
                Attribute(
                    type: type & ~(Self.nestedFlag | Self.byteOrderFlag), isNested: type & Self.nestedFlag != 0,
                    payload: Array(rest.dropFirst(Self.headerLength).prefix(Int(length) - Self.headerLength))))
            rest = rest.dropFirst((Int(length) + 3) & ~3)
        }
    }
}
