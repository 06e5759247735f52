// SPDX-License-Identifier: Apache-2.0
import CPRState

/// TYPE of a persistent reservation (SPC-4 6.13.3.4).
public enum ReservationType: UInt8, Sendable, CaseIterable, CustomStringConvertible {
    case writeExclusive = 1
    case exclusiveAccess = 3
    case writeExclusiveRegistrantsOnly = 5
    case exclusiveAccessRegistrantsOnly = 6
    case writeExclusiveAllRegistrants = 7
    case exclusiveAccessAllRegistrants = 8

    /// Whether each registered nexus is a holder.
    public var isAllRegistrants: Bool {
        self == .writeExclusiveAllRegistrants || self == .exclusiveAccessAllRegistrants
    }

    /// In the words of SPC-4.
    public var description: String {
        switch self {
        case .writeExclusive: "write exclusive"
        case .exclusiveAccess: "exclusive access"
        case .writeExclusiveRegistrantsOnly: "write exclusive, registrants only"
        case .exclusiveAccessRegistrantsOnly: "exclusive access, registrants only"
        case .writeExclusiveAllRegistrants: "write exclusive, all registrants"
        case .exclusiveAccessAllRegistrants: "exclusive access, all registrants"
        }
    }
}

/// A nexus that has registered a key.
public struct Registration: Hashable, Sendable {
    public let nexus: Nexus
    /// Never 0.
    public let key: UInt64
    /// Whether it holds the persistent reservation.
    public let isHolder: Bool

    /// The key as tools of hosts write it: `0x` and 16 digits.
    public var keyText: String { "0x" + hex(key, digits: 16) }
}

/// All reservations of a logical unit, persistent (SPC-4) and SPC-2, as every node sees them.
///
/// The rules are those of the kernel: this wraps `kernel/blk-cluster/pr_state.c`.
public struct ReservationState: Sendable {
    /// Most bytes a state takes up in RADOS.
    public static let maximumEncodedSize = 300 << 10

    /// The object that keeps the state, in the image's pool and namespace.
    public static func objectName(imageID: String) -> String { "clio.scsi.\(imageID)" }

    /// Memory of a `struct prs_state`, with room for its entries.
    private var memory: [UInt64]

    /// Nothing registered, nothing reserved, version 0.
    public init() { self.init(capacity: 0) }

    private init(capacity: Int) {
        let words = (prs_size(UInt32(capacity)) + 7) / 8
        memory = [UInt64](unsafeUninitializedCapacity: words) { buffer, count in
            // Writes to all of it
            UnsafeMutableRawPointer(buffer.baseAddress).map {
                prs_init($0.bindMemory(to: prs_state.self, capacity: 1), UInt32(capacity))
            }
            count = words
        }
    }

    /// Why bytes are not a state.
    public enum DecodingError: Error, Hashable, CustomStringConvertible {
        /// There are fewer than it says.
        case truncated
        /// They are something else.
        case foreign
        /// A later version of Clio wrote them.
        case newer
        /// The checksum is wrong.
        case damaged
        /// It contradicts itself.
        case malformed

        init(_ code: Int32) {
            switch code {
            case PRS_E_TRUNCATED: self = .truncated
            case PRS_E_MAGIC: self = .foreign
            case PRS_E_FORMAT: self = .newer
            case PRS_E_CRC: self = .damaged
            default: self = .malformed
            }
        }

        public var description: String {
            switch self {
            case .truncated: "is cut off"
            case .foreign: "is not a reservation state"
            case .newer: "was written by a newer Clio; use a newer one"
            case .damaged: "is damaged: its checksum is wrong"
            case .malformed: "contradicts itself"
            }
        }
    }

    /// Reads what ``encoded()`` or a kernel wrote (`prs_decode`).
    public init(decoding bytes: [UInt8]) throws(DecodingError) {
        let capacity = bytes.withUnsafeBufferPointer { prs_decode_capacity($0.baseAddress, $0.count) }
        guard capacity >= 0 else { throw DecodingError(capacity) }
        self.init(capacity: Int(capacity))
        let result = change { state in
            bytes.withUnsafeBufferPointer { prs_decode($0.baseAddress, $0.count, state) }
        }
        guard result == 0 else { throw DecodingError(result) }
    }

    /// The state as it is kept in RADOS; equal states have equal bytes (`prs_encode`).
    public func encoded() -> [UInt8] {
        look { state in
            [UInt8](unsafeUninitializedCapacity: prs_encoded_size(state)) { buffer, count in
                count = prs_encode(state, buffer.baseAddress, buffer.count)
            }
        }
    }

    /// Grows by one with each change; 0 if there was none.
    public var version: UInt64 { look { $0.pointee.version } }

    /// PRGENERATION (SPC-4 6.13.2).
    public var generation: UInt32 { look { $0.pointee.generation } }

    /// The persistent reservation's type; nil if there is none.
    public var type: ReservationType? { ReservationType(rawValue: look { $0.pointee.type }) }

    /// The last APTPL bit that a host sent. Clio keeps registrations over a restart of gateways either way.
    public var persistsThroughPowerLoss: Bool { look { $0.pointee.aptpl } }

    /// Who has the SPC-2 reservation (RESERVE); nil if nobody has.
    public var reserver: Nexus? { look { $0.pointee.reserved ? Nexus($0.pointee.reserver) : nil } }

    /// By target port, then by TransportID.
    public var registrations: [Registration] {
        let all = type?.isAllRegistrants ?? false
        return entries.filter { $0.key != 0 }.map {
            Registration(
                nexus: Nexus($0.nexus), key: $0.key, isHolder: all || Int32($0.flags) & PRS_HOLDER != 0)
        }
    }

    /// Nexuses that are not registered any more and still have to be told; see ``effects(on:since:)``.
    public var remembered: [Nexus] { entries.filter { $0.key == 0 }.map { Nexus($0.nexus) } }

    private var entries: [prs_entry] {
        look { state in
            (0..<UInt32(state.pointee.nr)).compactMap { prs_entry_at(state, $0)?.pointee }
        }
    }

    func look<Value>(_ body: (UnsafePointer<prs_state>) -> Value) -> Value {
        memory.withUnsafeBytes { buffer in
            guard let start = buffer.baseAddress else { preconditionFailure("a state is never empty") }
            return body(start.assumingMemoryBound(to: prs_state.self))
        }
    }

    private mutating func change<Value>(_ body: (UnsafeMutablePointer<prs_state>) -> Value) -> Value {
        memory.withUnsafeMutableBytes { buffer in
            guard let start = buffer.baseAddress else { preconditionFailure("a state is never empty") }
            return body(start.assumingMemoryBound(to: prs_state.self))
        }
    }

    /// Replaces this state if `body` makes a new one of it.
    mutating func replace(_ body: (_ old: UnsafePointer<prs_state>, _ new: UnsafeMutablePointer<prs_state>) -> Bool) {
        var new = ReservationState(capacity: Int(PRS_ENTRIES_MAX))
        guard look({ old in new.change { body(old, $0) } }) else { return }
        // Without the room that is not needed
        self = ReservationState(capacity: Int(new.look { $0.pointee.nr }))
        change { state in new.look { prs_copy(state, $0) } }
    }
}

extension ReservationState: Hashable {
    public static func == (left: ReservationState, right: ReservationState) -> Bool {
        left.encoded() == right.encoded()
    }

    public func hash(into hasher: inout Hasher) { hasher.combine(encoded()) }
}
