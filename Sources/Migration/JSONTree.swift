// SPDX-License-Identifier: Apache-2.0
import ClusterModel

/// JSON (RFC 8259) that knows the line of each value, so that what is wrong can be pointed at.
struct JSONTree: Sendable {
    enum Value: Sendable {
        case null
        case bool(Bool)
        /// As written.
        case number(String)
        case string(String)
        case array([JSONTree])
        /// In the order of the file.
        case object([(key: String, value: JSONTree)])
    }

    let value: Value
    /// From 1.
    let line: Int

    /// Largest text accepted, bytes.
    static let maximumSize = 64 << 20
    /// Deepest nesting accepted.
    static let maximumDepth = 64

    init(parsing text: String) throws(InvalidGroup) {
        var parser = Parser(bytes: Array(text.utf8))
        self = try parser.document()
    }

    init(_ value: Value, line: Int) {
        self.value = value
        self.line = line
    }

    /// What it is, for messages.
    var kind: String {
        switch value {
        case .null: "null"
        case .bool: "true or false"
        case .number: "a number"
        case .string: "text"
        case .array: "a list"
        case .object: "an object"
        }
    }

    /// Whether it is null, false or empty, which these systems write for "none".
    var isNothing: Bool {
        switch value {
        case .null: true
        case .bool(let value): !value
        case .number: false
        case .string(let text): text.isEmpty
        case .array(let items): items.isEmpty
        case .object(let members): members.isEmpty
        }
    }
}

private struct Parser {
    let bytes: [UInt8]
    var position = 0
    var line = 1
    var depth = 0

    init(bytes: [UInt8]) { self.bytes = bytes }

    private func fault(_ message: String) -> InvalidGroup {
        InvalidGroup([Problem(path: "", line: line, message: "not JSON: \(message)")])
    }

    mutating func document() throws(InvalidGroup) -> JSONTree {
        guard bytes.count <= JSONTree.maximumSize else {
            throw InvalidGroup([
                Problem(path: "", message: "the file is larger than \(JSONTree.maximumSize >> 20) MiB")
            ])
        }
        space()
        guard position < bytes.count else {
            throw InvalidGroup([Problem(path: "", message: "the file is empty")])
        }
        let tree = try value()
        space()
        guard position == bytes.count else { throw fault("something follows the end: \(here)") }
        return tree
    }

    private var here: String {
        guard position < bytes.count else { return "the end of the file" }
        let byte = bytes[position]
        return byte > 0x20 && byte < 0x7f ? "\"\(Character(Unicode.Scalar(byte)))\"" : "byte \(byte)"
    }

    private mutating func space() {
        while position < bytes.count {
            switch bytes[position] {
            case 0x0a: line += 1
            case 0x20, 0x09, 0x0d: break
            default: return
            }
            position += 1
        }
    }

    private mutating func take(_ byte: UInt8) -> Bool {
        guard position < bytes.count, bytes[position] == byte else { return false }
        position += 1
        return true
    }

    private mutating func word(_ text: StaticString) -> Bool {
        let length = text.utf8CodeUnitCount
        guard bytes.count - position >= length else { return false }
        let matches = text.withUTF8Buffer { $0.elementsEqual(bytes[position..<position + length]) }
        if matches { position += length }
        return matches
    }

    private mutating func value() throws(InvalidGroup) -> JSONTree {
        depth += 1
        defer { depth -= 1 }
        guard depth <= JSONTree.maximumDepth else { throw fault("nested deeper than \(JSONTree.maximumDepth) levels") }
        let start = line
        if take(UInt8(ascii: "{")) { return JSONTree(try object(), line: start) }
        if take(UInt8(ascii: "[")) { return JSONTree(try array(), line: start) }
        if take(UInt8(ascii: "\"")) { return JSONTree(.string(try string()), line: start) }
        if word("true") { return JSONTree(.bool(true), line: start) }
        if word("false") { return JSONTree(.bool(false), line: start) }
        if word("null") { return JSONTree(.null, line: start) }
        if let number = number() { return JSONTree(.number(number), line: start) }
        throw fault("a value is expected, not \(here)")
    }

    private mutating func object() throws(InvalidGroup) -> JSONTree.Value {
        var members: [(key: String, value: JSONTree)] = []
        var keys: Set<String> = []
        space()
        if take(UInt8(ascii: "}")) { return .object([]) }
        while true {
            space()
            guard take(UInt8(ascii: "\"")) else { throw fault("a key in quotes is expected, not \(here)") }
            let key = try string()
            guard keys.insert(key).inserted else {
                throw fault("key \"\(key)\" stands twice in one object; which one is meant?")
            }
            space()
            guard take(UInt8(ascii: ":")) else { throw fault("\":\" is expected after \"\(key)\", not \(here)") }
            space()
            members.append((key, try value()))
            space()
            if take(UInt8(ascii: "}")) { return .object(members) }
            guard take(UInt8(ascii: ",")) else { throw fault("\",\" or \"}\" is expected, not \(here)") }
        }
    }

    private mutating func array() throws(InvalidGroup) -> JSONTree.Value {
        var items: [JSONTree] = []
        space()
        if take(UInt8(ascii: "]")) { return .array([]) }
        while true {
            space()
            items.append(try value())
            space()
            if take(UInt8(ascii: "]")) { return .array(items) }
            guard take(UInt8(ascii: ",")) else { throw fault("\",\" or \"]\" is expected, not \(here)") }
        }
    }

    private mutating func number() -> String? {
        let start = position
        var end = position
        func digits() -> Int {
            let first = end
            while end < bytes.count, (0x30...0x39).contains(bytes[end]) { end += 1 }
            return end - first
        }
        if end < bytes.count, bytes[end] == UInt8(ascii: "-") { end += 1 }
        let leading = end
        let count = digits()
        guard count > 0, count == 1 || bytes[leading] != 0x30 else { return nil }
        if end < bytes.count, bytes[end] == UInt8(ascii: ".") {
            end += 1
            guard digits() > 0 else { return nil }
        }
        if end < bytes.count, bytes[end] | 0x20 == UInt8(ascii: "e") {
            end += 1
            if end < bytes.count, [UInt8(ascii: "+"), UInt8(ascii: "-")].contains(bytes[end]) { end += 1 }
            guard digits() > 0 else { return nil }
        }
        position = end
        return String(decoding: bytes[start..<end], as: UTF8.self)
    }

    private mutating func string() throws(InvalidGroup) -> String {
        var out: [UInt8] = []
        while position < bytes.count {
            let byte = bytes[position]
            position += 1
            switch byte {
            case UInt8(ascii: "\""): return String(decoding: out, as: UTF8.self)
            case UInt8(ascii: "\\"): out += Array(String(try escape()).utf8)
            case 0..<0x20: throw fault("a line or control character within text; is a quote missing?")
            default: out.append(byte)
            }
        }
        throw fault("text in quotes does not end")
    }

    private mutating func escape() throws(InvalidGroup) -> Unicode.Scalar {
        guard position < bytes.count else { throw fault("text in quotes does not end") }
        let byte = bytes[position]
        position += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return Unicode.Scalar(byte)
        case UInt8(ascii: "b"): return "\u{8}"
        case UInt8(ascii: "f"): return "\u{c}"
        case UInt8(ascii: "n"): return "\n"
        case UInt8(ascii: "r"): return "\r"
        case UInt8(ascii: "t"): return "\t"
        case UInt8(ascii: "u"):
            let first = try unit()
            if let scalar = Unicode.Scalar(first) { return scalar }
            // A pair of surrogates.
            guard first < 0xdc00, word("\\u") else { throw fault("half a surrogate pair in text") }
            let second = try unit()
            guard (0xdc00...0xdfff).contains(second),
                let scalar = Unicode.Scalar(0x10000 + (first - 0xd800) << 10 + (second - 0xdc00))
            else { throw fault("half a surrogate pair in text") }
            return scalar
        default: throw fault("\"\\\(Character(Unicode.Scalar(byte)))\" means nothing in JSON")
        }
    }

    private mutating func unit() throws(InvalidGroup) -> UInt32 {
        guard bytes.count - position >= 4,
            let value = UInt32(String(decoding: bytes[position..<position + 4], as: UTF8.self), radix: 16)
        else { throw fault("\"\\u\" needs four hexadecimal digits") }
        position += 4
        return value
    }
}
