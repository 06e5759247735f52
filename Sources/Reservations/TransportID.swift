// SPDX-License-Identifier: Apache-2.0
import CPRState

/// The name of an initiator port as reservations keep it (SPC-4 7.5.4): of Fibre Channel, SRP, iSCSI or SAS.
///
/// Two of them are equal exactly if they name the same port: reserved bytes are zero, and an iSCSI ISID has 12 lower
/// case digits.
public struct TransportID: Hashable, Sendable {
    /// PROTOCOL IDENTIFIER (SPC-4 7.5.1).
    public enum TransportProtocol: UInt8, Sendable, Codable, CaseIterable {
        case fibreChannel = 0
        case srp = 4
        case iscsi = 5
        case sas = 6
    }

    /// As it goes over the wire: 24 bytes, for iSCSI 24 to 248.
    public let bytes: [UInt8]

    /// Reads one that takes up all of `bytes`; nil if it is malformed or of another protocol.
    public init?(_ bytes: [UInt8]) {
        guard let (id, length) = Self.parse(bytes[...]), length == bytes.count else { return nil }
        self = id
    }

    init(canonical bytes: [UInt8]) { self.bytes = bytes }

    /// Reads one at the beginning of `bytes`, which may go on (`prs_tid_parse`).
    ///
    /// - Returns: it and how many bytes it takes up there; nil if there is none.
    public static func parse(_ bytes: ArraySlice<UInt8>) -> (id: TransportID, length: Int)? {
        var nexus = prs_nexus()
        let length = bytes.withUnsafeBufferPointer { prs_tid_parse($0.baseAddress, UInt32($0.count), &nexus) }
        return length == 0 ? nil : (TransportID(canonical: nexus.id), Int(length))
    }

    /// An iSCSI initiator: the port with this ISID (48 bits), or all of its ports.
    ///
    /// Nil if the name is empty, longer than 223 bytes, or has a comma, a space or a control character.
    public init?(iscsi name: String, isid: UInt64? = nil) {
        let port = isid.map { ",i,0x" + hex($0, digits: 12) } ?? ""
        let text = Array((name + port).utf8)
        let length = max(20, (text.count + 4) & ~3)
        guard name.utf8.count <= 223, !name.utf8.contains(0), (isid ?? 0) >> 48 == 0 else { return nil }
        self.init(
            [isid == nil ? 0x05 : 0x45, 0, 0, UInt8(length)] + text
                + [UInt8](repeating: 0, count: length - text.count))
    }

    /// A Fibre Channel N_Port by its name (SPC-4 7.5.4.2).
    public init(fibreChannel name: UInt64) {
        self.init(canonical: [0] + zeros(7) + bigEndian(name) + zeros(8))
    }

    /// A SAS port by its address (SPC-4 7.5.4.7).
    public init(sas address: UInt64) {
        self.init(canonical: [6] + zeros(3) + bigEndian(address) + zeros(12))
    }

    /// An SRP initiator port by the halves of its 128-bit identifier (SPC-4 7.5.4.5).
    public init(srp high: UInt64, _ low: UInt64) {
        self.init(canonical: [4] + zeros(7) + bigEndian(high) + bigEndian(low))
    }

    public var transportProtocol: TransportProtocol? { TransportProtocol(rawValue: bytes[0] & 0x0f) }
}

extension TransportID: LosslessStringConvertible {
    /// `iqn.…` or `iqn.…,i,0x00023d000001`, `fc:2100000e1e09a2b4`, `sas:5000c50012345678`, `srp:` and 32 digits.
    public var description: String {
        switch transportProtocol {
        case .iscsi: String(decoding: bytes.dropFirst(4).prefix { $0 != 0 }, as: UTF8.self)
        case .fibreChannel: "fc:" + hex(bytes[8..<16])
        case .sas: "sas:" + hex(bytes[4..<12])
        case .srp: "srp:" + hex(bytes[8..<24])
        case nil: hex(bytes[...])
        }
    }

    /// Reads what ``description`` writes.
    public init?(_ text: String) {
        for (prefix, digits) in [("fc:", 16), ("sas:", 16), ("srp:", 32)] where text.hasPrefix(prefix) {
            let number = text.dropFirst(prefix.count)
            guard number.utf8.count == digits, isHex(number), let high = UInt64(number.prefix(16), radix: 16) else {
                return nil
            }
            switch prefix {
            case "fc:": self.init(fibreChannel: high)
            case "sas:": self.init(sas: high)
            default:
                guard let low = UInt64(number.suffix(16), radix: 16) else { return nil }
                self.init(srp: high, low)
            }
            return
        }
        guard let comma = text.firstIndex(of: ",") else {
            self.init(iscsi: text)
            return
        }
        let port = text[comma...]
        guard port.hasPrefix(",i,0x"), port.utf8.count == 17, isHex(port.dropFirst(5)),
            let isid = UInt64(port.dropFirst(5), radix: 16)
        else { return nil }
        self.init(iscsi: String(text[..<comma]), isid: isid)
    }
}

/// An I_T nexus: an initiator port and a target port.
public struct Nexus: Hashable, Sendable, CustomStringConvertible {
    /// Relative target port identifier; 0 for a node that uses the image directly, through no target port.
    public var port: UInt16
    public var initiator: TransportID

    public init(_ initiator: TransportID, port: UInt16) {
        self.port = port
        self.initiator = initiator
    }

    public var description: String { "\(initiator) at port \(port)" }

    init(_ nexus: prs_nexus) { self.init(TransportID(canonical: nexus.id), port: nexus.port) }

    var raw: prs_nexus {
        var nexus = prs_nexus()
        nexus.port = port
        nexus.tid_len = UInt16(initiator.bytes.count)
        withUnsafeMutableBytes(of: &nexus.tid) { $0.copyBytes(from: initiator.bytes) }
        return nexus
    }
}

extension prs_nexus {
    /// The bytes of the TransportID.
    var id: [UInt8] { withUnsafeBytes(of: tid) { Array($0.prefix(Int(tid_len))) } }
}

/// Whether it has nothing but hexadecimal digits, so no sign.
func isHex(_ text: Substring) -> Bool { text.allSatisfy(\.isHexDigit) }

func zeros(_ count: Int) -> [UInt8] { [UInt8](repeating: 0, count: count) }

func bigEndian(_ value: UInt64) -> [UInt8] { withUnsafeBytes(of: value.bigEndian) { Array($0) } }

/// With as many digits, in lower case.
func hex(_ value: UInt64, digits: Int) -> String {
    let text = String(value, radix: 16)
    return String(repeating: "0", count: max(0, digits - text.count)) + text
}

func hex(_ bytes: ArraySlice<UInt8>) -> String { bytes.map { hex(UInt64($0), digits: 2) }.joined() }
