// SPDX-License-Identifier: Apache-2.0

/// The identity of a logical unit: VPD page 80h's serial, and the NAA designator LIO makes of it.
///
/// Every node must show a host the same identity for one logical unit and different ones for different units: it is what
/// multipath software goes by. LIO takes both from the backstore's `wwn/vpd_unit_serial`.
public struct LUNSerial: Hashable, Sendable, CustomStringConvertible {
    /// The serial as VPD page 80h shows it.
    public let text: String

    public var description: String { text }

    /// Length in characters. 36 is a UUID's; longer ones are cut by some hosts.
    public static let lengths = 8...36

    /// Hexadecimal digits of the serial that go into the NAA designator: 36 bits of vendor specific identifier and 64 of
    /// its extension (SPC-4 7.8.6.6.5, LIO's `spc_gen_naa_6h_vendor_specific`).
    public static let naaDigits = 25

    /// LIO's IEEE company id (OpenFabrics Alliance), its default for `wwn/company_id`.
    public static let companyID: UInt32 = 0x001405

    /// Why a serial was refused.
    public struct Fault: Error, Equatable { public let message: String }

    /// A serial given by a person: hexadecimal digits, in groups by `-` if wished, like a UUID.
    ///
    /// Other characters are refused although LIO would take them, because it leaves them out of the NAA designator: two
    /// different serials could then become one identity.
    public init(_ text: String) throws(Fault) {
        let rule = "a serial is \(Self.lengths.lowerBound) to \(Self.lengths.upperBound) hexadecimal digits and \"-\""
        if let bad = text.unicodeScalars.first(where: { !Self.isDigit($0) && $0 != "-" }) {
            throw Fault(message: "\(rule); \"\(bad)\" is not allowed")
        }
        guard Self.lengths.contains(text.utf8.count) else {
            throw Fault(message: "\(rule); this one has \(text.utf8.count) characters")
        }
        let digits = text.unicodeScalars.count(where: Self.isDigit)
        guard digits >= Self.lengths.lowerBound else {
            throw Fault(message: "\(rule), at least \(Self.lengths.lowerBound) digits; this one has \(digits)")
        }
        self.text = text
    }

    /// The serial of an image nobody chose one for, the same wherever and whenever it is derived: a hash (FNV-1a, 128 bit)
    /// of the cluster's fsid, the pool's id, the namespace and the image's id, written like a UUID.
    ///
    /// An image that is renamed keeps it; one that is deleted and made anew gets another.
    public init(fsid: String, poolID: Int64, namespace: String, imageID: String) {
        var hash: UInt128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d
        let prime = UInt128(1) << 88 | 0x13b
        func mix(_ byte: UInt8) { hash = (hash ^ UInt128(byte)) &* prime }
        for field in ["clio-lun", fsid.lowercased(), String(poolID), namespace, imageID] {
            field.utf8.forEach(mix)
            mix(0)
        }
        for _ in 0..<16 { mix(0) }
        let digits = String(hash, radix: 16)
        let padded = Array(String(repeating: "0", count: 32 - digits.count) + digits)
        let groups = [0..<8, 8..<12, 12..<16, 16..<20, 20..<32].map { String(padded[$0]) }
        text = groups.joined(separator: "-")
    }

    /// The NAA designator of VPD page 83h as 32 hexadecimal digits, `6001405…`: what `/dev/disk/by-id/wwn-0x…` shows.
    ///
    /// The same computation as LIO's: company id, then the first ``naaDigits`` hexadecimal digits of the serial, zero-filled.
    public var naa: String {
        let company = String(Self.companyID, radix: 16)
        let head = "6" + String(repeating: "0", count: 6 - company.count) + company
        // Of ASCII bytes: a group of thousands of LUNs is compared by this.
        let digits = text.utf8.lazy.filter { Self.isDigit(Unicode.Scalar($0)) }.prefix(Self.naaDigits)
        let tail = String(decoding: Array(digits), as: UTF8.self).lowercased()
        return head + tail + String(repeating: "0", count: 32 - head.count - tail.count)
    }

    private static func isDigit(_ c: Unicode.Scalar) -> Bool {
        switch c {
        case "0"..."9", "a"..."f", "A"..."F": true
        default: false
        }
    }
}
