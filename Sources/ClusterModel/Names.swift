// SPDX-License-Identifier: Apache-2.0

/// Names and addresses of iSCSI: what may stand in a group file.
public enum ISCSIName {
    /// Longest name in bytes: RFC 7143 section 4.2.7.1 allows 223; LIO's `ISCSI_IQN_LEN` is 224 with the final NUL.
    public static let maximumLength = 223

    /// What is wrong with an iSCSI name, or `nil` if it is well formed (RFC 7143 section 4.2.7: `iqn.`, `eui.`, `naa.`).
    ///
    /// Upper case is refused: RFC 3722 maps names to lower case, and LIO compares bytes.
    public static func fault(_ name: String) -> String? {
        if name.isEmpty { return "an iSCSI name must not be empty" }
        if name.utf8.count > maximumLength {
            return "an iSCSI name has at most \(maximumLength) bytes, this one has \(name.utf8.count)"
        }
        if name.hasPrefix("iqn.") { return iqnFault(name) }
        if name.hasPrefix("eui.") { return hexFault(name, kind: "eui", digits: [16]) }
        if name.hasPrefix("naa.") { return hexFault(name, kind: "naa", digits: [16, 32]) }
        let lower = name.lowercased()
        if lower != name, ["iqn.", "eui.", "naa."].contains(where: lower.hasPrefix) {
            return "an iSCSI name is written in lower case: \"\(lower)\""
        }
        return "\"\(name)\" is not an iSCSI name; it starts with \"iqn.\", \"eui.\" or \"naa.\""
    }

    private static func iqnFault(_ name: String) -> String? {
        if let bad = name.unicodeScalars.first(where: { !isAllowed($0) }) {
            let lower = Character(bad).lowercased()
            if lower != String(bad) {
                return "an iSCSI name is written in lower case: \"\(name.lowercased())\""
            }
            return "character \"\(bad)\" is not allowed in an iSCSI name; use a-z, 0-9, \"-\", \".\", \":\""
        }
        let rest = Array(name.dropFirst(4))
        let shape = "an iqn is \"iqn.YYYY-MM.<reversed domain>[:<anything>]\""
        guard rest.count > 8, rest[0..<4].allSatisfy(isDigit), rest[4] == "-", rest[5..<7].allSatisfy(isDigit),
            rest[7] == "."
        else { return "\(shape); \"\(name)\" has no date YYYY-MM followed by a dot" }
        guard let month = Int(String(rest[5..<7])), (1...12).contains(month) else {
            return "\(shape); month \(String(rest[5..<7])) does not exist"
        }
        let tail = rest[8...]
        let domain = String(tail.prefix { $0 != ":" })
        let labels = domain.split(separator: ".", omittingEmptySubsequences: false)
        guard !domain.isEmpty, labels.allSatisfy({ !$0.isEmpty && $0.first != "-" && $0.last != "-" }) else {
            return "\(shape); \"\(domain)\" is not a reversed domain name"
        }
        if tail.contains(":"), tail.last == ":", tail.firstIndex(of: ":") == tail.indices.last {
            return "\(shape); nothing follows the \":\""
        }
        return nil
    }

    private static func hexFault(_ name: String, kind: String, digits: [Int]) -> String? {
        let rest = name.dropFirst(4)
        let counts = digits.map(String.init).joined(separator: " or ")
        guard digits.contains(rest.count), rest.allSatisfy({ $0.isASCII && $0.isHexDigit }) else {
            return "an \(kind) name is \"\(kind).\" and \(counts) hexadecimal digits"
        }
        return nil
    }

    private static func isDigit(_ c: Character) -> Bool { ("0"..."9").contains(c) }

    /// Letters and digits of any script (RFC 3722 leaves them after normalisation) restricted to ASCII, because LIO's
    /// configfs uses the name as a directory and compares bytes; and `-`, `.`, `:`.
    private static func isAllowed(_ c: Unicode.Scalar) -> Bool {
        switch c {
        case "a"..."z", "0"..."9", "-", ".", ":": true
        default: false
        }
    }
}

/// A network portal: an IP address and a TCP port.
public struct Portal: Hashable, Sendable, CustomStringConvertible {
    /// The address in canonical text: dotted quad, or RFC 5952 without brackets.
    public let address: String
    /// `true` for IPv6.
    public let isIPv6: Bool
    /// TCP port, 1…65535. 3260 is iSCSI's.
    public let port: UInt16

    public static let defaultPort: UInt16 = 3260

    /// As LIO's `np/` directory and SendTargets write it: `10.0.0.1:3260`, `[fd00::1]:3260`.
    public var description: String { isIPv6 ? "[\(address)]:\(port)" : "\(address):\(port)" }

    /// Why a portal was refused.
    public struct Fault: Error, Equatable { public let message: String }

    /// Parses `10.0.0.1:3260`, `10.0.0.1`, `[fd00::1]:3260`, `[fd00::1]`.
    ///
    /// Refuses host names, and addresses no host can connect to: a portal is announced to hosts by every node.
    public init(parsing text: String) throws(Fault) {
        let hint = "; write 10.0.0.1:3260 or \"[fd00::1]:3260\""
        let addressText: Substring
        let rest: Substring
        if text.hasPrefix("[") {
            guard let close = text.firstIndex(of: "]") else {
                throw Fault(message: "\"\(text)\": \"]\" is missing\(hint)")
            }
            addressText = text[text.index(after: text.startIndex)..<close]
            rest = text[text.index(after: close)...]
            guard let bytes = parseIPv6(addressText) else {
                throw Fault(message: "\"\(addressText)\" is not an IPv6 address\(hint)")
            }
            if let reason = unusable(ipv6: bytes) { throw Fault(message: "\(addressText) \(reason)") }
            address = format(ipv6: bytes)
            isIPv6 = true
        } else {
            let colons = text.count { $0 == ":" }
            if colons > 1 {
                throw Fault(message: "\"\(text)\": an IPv6 address stands in brackets\(hint)")
            }
            addressText = text.prefix { $0 != ":" }
            rest = text[addressText.endIndex...]
            guard let bytes = parseIPv4(addressText) else {
                throw Fault(message: "\"\(addressText)\" is not an IPv4 address\(hint)")
            }
            if let reason = unusable(ipv4: bytes) { throw Fault(message: "\(addressText) \(reason)") }
            address = bytes.map(String.init).joined(separator: ".")
            isIPv6 = false
        }
        if rest.isEmpty {
            port = Self.defaultPort
            return
        }
        let digits = rest.dropFirst()
        guard rest.first == ":", !digits.isEmpty, digits.allSatisfy({ ("0"..."9").contains($0) }),
            let number = UInt16(digits), number > 0
        else { throw Fault(message: "\"\(text)\": the port is a number from 1 to 65535") }
        port = number
    }
}

func parseIPv4(_ text: Substring) -> [UInt8]? {
    let parts = text.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count == 4 else { return nil }
    var bytes: [UInt8] = []
    for part in parts {
        guard (1...3).contains(part.count), part.allSatisfy({ ("0"..."9").contains($0) }),
            part.count == 1 || part.first != "0", let byte = UInt8(part)
        else { return nil }
        bytes.append(byte)
    }
    return bytes
}

func parseIPv6(_ text: Substring) -> [UInt16]? {
    let halves = text.components(around: "::")
    guard halves.count <= 2 else { return nil }
    func groups(_ half: Substring) -> [UInt16]? {
        if half.isEmpty { return [] }
        var out: [UInt16] = []
        let parts = half.split(separator: ":", omittingEmptySubsequences: false)
        for (i, part) in parts.enumerated() {
            if part.contains(".") {
                guard i == parts.count - 1, let v4 = parseIPv4(part) else { return nil }
                out.append(UInt16(v4[0]) << 8 | UInt16(v4[1]))
                out.append(UInt16(v4[2]) << 8 | UInt16(v4[3]))
            } else {
                guard (1...4).contains(part.count), part.allSatisfy({ $0.isASCII && $0.isHexDigit }),
                    let value = UInt16(part, radix: 16)
                else { return nil }
                out.append(value)
            }
        }
        return out
    }
    guard let head = groups(halves[0]) else { return nil }
    if halves.count == 1 { return head.count == 8 ? head : nil }
    guard let tail = groups(halves[1]), head.count + tail.count <= 7 else { return nil }
    return head + Array(repeating: 0, count: 8 - head.count - tail.count) + tail
}

/// RFC 5952: lower case, the longest run of two or more zero groups (the first of equals) as `::`.
func format(ipv6 groups: [UInt16]) -> String {
    var best = 0..<0
    var start = 0
    while start < groups.count {
        guard groups[start] == 0 else {
            start += 1
            continue
        }
        let end = groups[start...].firstIndex { $0 != 0 } ?? groups.count
        if end - start > best.count, end - start > 1 { best = start..<end }
        start = end
    }
    func hex(_ part: ArraySlice<UInt16>) -> String { part.map { String($0, radix: 16) }.joined(separator: ":") }
    if best.isEmpty { return hex(groups[...]) }
    return hex(groups[..<best.lowerBound]) + "::" + hex(groups[best.upperBound...])
}

private func unusable(ipv4 b: [UInt8]) -> String? {
    if b == [0, 0, 0, 0] {
        return "is every address of a node; name the one that hosts connect to, since every node announces it"
    }
    if b[0] == 127 { return "is a loopback address; hosts cannot reach it" }
    if b[0] >= 224 { return "is a multicast, broadcast or reserved address" }
    if b[0] == 0 { return "is not the address of a host" }
    return nil
}

private func unusable(ipv6 g: [UInt16]) -> String? {
    if g.allSatisfy({ $0 == 0 }) {
        return "is every address of a node; name the one that hosts connect to, since every node announces it"
    }
    if g.dropLast().allSatisfy({ $0 == 0 }), g[7] == 1 { return "is a loopback address; hosts cannot reach it" }
    if g[0] >> 8 == 0xff { return "is a multicast address" }
    if g[0] & 0xffc0 == 0xfe80 { return "is a link-local address; other nodes cannot announce it" }
    if g[0..<5].allSatisfy({ $0 == 0 }), g[5] == 0xffff { return "is an IPv4 address in IPv6 form; write it as IPv4" }
    return nil
}

extension Substring {
    /// The parts between the occurrences of a two-character separator.
    fileprivate func components(around separator: String) -> [Substring] {
        var parts: [Substring] = []
        var from = startIndex
        var i = startIndex
        while i < endIndex {
            if self[i...].hasPrefix(separator) {
                parts.append(self[from..<i])
                i = index(i, offsetBy: separator.count)
                from = i
            } else {
                i = index(after: i)
            }
        }
        parts.append(self[from...])
        return parts
    }
}

/// An RBD image by name: `pool/image` or `pool/namespace/image`.
public struct ImageName: Hashable, Sendable, CustomStringConvertible {
    public let pool: String
    /// Empty for the default namespace.
    public let namespace: String
    public let image: String

    public init(pool: String, namespace: String = "", image: String) {
        self.pool = pool
        self.namespace = namespace
        self.image = image
    }

    public var description: String { namespace.isEmpty ? "\(pool)/\(image)" : "\(pool)/\(namespace)/\(image)" }

    /// Why an image name was refused.
    public struct Fault: Error, Equatable { public let message: String }

    /// Parses `pool[/namespace]/image`. Characters that `rbd` or krbd's control file give a meaning are refused.
    public init(parsing text: String) throws(Fault) {
        let shape = "an image is written pool/image or pool/namespace/image"
        if text.isEmpty { throw Fault(message: "\(shape), this is empty") }
        // Bytes, here and below: there may be thousands of names.
        if text.utf8.contains(UInt8(ascii: "@")) {
            throw Fault(message: "\"\(text)\" names a snapshot; only an image itself can be exported")
        }
        if let bad = text.unicodeScalars.first(where: {
            $0.properties.isWhitespace || $0.isControl || $0 == "," || $0 == "="
        }) {
            throw Fault(message: "\(shape), without \"\(bad)\": krbd could not map it")
        }
        let parts = text.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
            .map { String(decoding: $0, as: UTF8.self) }
        guard (2...3).contains(parts.count), parts.allSatisfy({ !$0.isEmpty }) else {
            throw Fault(message: "\(shape), not \"\(text)\"")
        }
        guard parts.allSatisfy({ $0.utf8.count <= 96 }) else {
            throw Fault(message: "\(shape), each part at most 96 bytes")
        }
        pool = parts[0]
        namespace = parts.count == 3 ? parts[1] : ""
        image = parts[parts.count - 1]
    }
}

/// Names of nodes and groups.
enum PlainName {
    static func fault(_ name: String, what: String, limit: Int) -> String? {
        func isWord(_ c: Character) -> Bool { c.isASCII && (c.isLetter || c.isNumber) }
        guard !name.isEmpty, name.utf8.count <= limit,
            name.allSatisfy({ isWord($0) || $0 == "-" || $0 == "." || $0 == "_" }),
            let first = name.first, isWord(first), let last = name.last, isWord(last)
        else {
            return "\(what) is 1 to \(limit) letters, digits, \"-\", \".\" or \"_\", "
                + "with a letter or digit first and last; \"\(name)\" is not"
        }
        return nil
    }
}

extension Unicode.Scalar {
    /// Whether it may command a terminal (general category Cc): C0, DEL and C1.
    public var isControl: Bool { properties.generalCategory == .control }
}
