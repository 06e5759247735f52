// SPDX-License-Identifier: Apache-2.0

import SystemPackage

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// What went wrong in Ceph: which call, on which object, why, and what to do about it.
public struct RadosError: Error, Sendable, Equatable, CustomStringConvertible {
    /// Kinds a caller may want to tell apart. librados' own reason stays in ``RadosError/errno``.
    public enum Kind: Sendable, Hashable {
        /// No such object, or an `assertExists` that failed (`ENOENT`).
        case notFound
        /// No such pool (`ENOENT` of `rados_ioctx_create`).
        case poolNotFound
        /// The object is there already (`EEXIST` of an exclusive create).
        case alreadyExists
        /// A ``WriteOperation/compare(_:at:)`` found other bytes; `offset` is that of the first different byte,
        /// in bytes from the start of the object.
        case mismatch(offset: UInt64)
        /// An omap comparison did not hold (`ECANCELED`).
        case comparisonFailed
        /// An `assertVersion` that failed: the object is at another version (`ERANGE`, `EOVERFLOW`).
        case versionChanged
        /// No answer within the time allowed (`ETIMEDOUT`).
        case timedOut
        /// The key is wrong or may not do this (`EPERM`, `EACCES`).
        case notPermitted
        /// This client is on the cluster's blocklist (`ESHUTDOWN`): it has been fenced.
        case blocklisted
        /// The watch is gone, and notifications may have been missed (`ENOTCONN`).
        case disconnected
        /// Full cluster or pool, or quota (`ENOSPC`, `EDQUOT`).
        case noSpace
        /// The configuration, the keyring or an argument is wrong.
        case invalid
        /// Anything else.
        case other
    }

    public let kind: Kind
    /// The librados call, for instance `rados_connect`.
    public let operation: String
    /// What it was about: `pool/object`, `pool/namespace/object`, a pool, or the cluster.
    public let object: String
    /// The reason as a positive errno; `ECANCELED` for a mismatch.
    public let errno: Errno
    /// More on the reason, where there is more: the monitor's words, what was wrong in the arguments.
    public let detail: String?
    /// What to do about it, where that is known.
    public let remedy: String?

    public init(
        _ kind: Kind, operation: String, object: String, errno: Errno, detail: String? = nil, remedy: String? = nil
    ) {
        self.kind = kind
        self.operation = operation
        self.object = object
        self.errno = errno
        self.detail = detail
        self.remedy = remedy
    }

    /// librados reports a mismatch of an extent as `-MAX_ERRNO - offset`, and `MAX_ERRNO` is 4095.
    static let mismatchBase: Int32 = 4095

    /// The error for what a librados call returned (a negative number).
    ///
    /// - Parameter extent: where the extent began that was compared.
    init(_ operation: String, _ object: String, _ result: Int32, extent: UInt64 = 0, detail: String? = nil) {
        if result <= -Self.mismatchBase {
            let offset = extent + UInt64(-(Int64(result) + Int64(Self.mismatchBase)))
            self.init(
                .mismatch(offset: offset), operation: operation, object: object, errno: .canceled, detail: detail)
            return
        }
        let reason = Errno(rawValue: result < 0 ? -result : result)
        let (kind, remedy) = Self.classify(reason)
        self.init(kind, operation: operation, object: object, errno: reason, detail: detail, remedy: remedy)
    }

    private static func classify(_ reason: Errno) -> (Kind, String?) {
        switch reason {
        case .noSuchFileOrDirectory: (.notFound, nil)
        case .fileExists: (.alreadyExists, nil)
        case .canceled: (.comparisonFailed, nil)
        case Errno(rawValue: ERANGE), .overflow: (.versionChanged, nil)
        case .timedOut: (.timedOut, "are the monitors and OSDs up and reachable from here? (ceph -s)")
        case .notPermitted, .permissionDenied:
            (.notPermitted, "check the client's key and capabilities (ceph auth get client.…)")
        case Errno(rawValue: ESHUTDOWN):
            (
                .blocklisted,
                "this client was fenced: connect anew, or take it off the blocklist (ceph osd blocklist ls)"
            )
        case Errno(rawValue: ENOTCONN): (.disconnected, nil)
        case .noSpace, Errno(rawValue: EDQUOT): (.noSpace, "make room or raise the quota (ceph df)")
        case .invalidArgument: (.invalid, nil)
        default: (.other, nil)
        }
    }

    public var description: String {
        var text: String
        switch kind {
        case .notFound: text = "\(object) does not exist"
        case .poolNotFound: text = "there is no pool \(object)"
        case .alreadyExists: text = "\(object) exists already"
        case .mismatch(let offset): text = "\(object) holds other data, from byte \(offset) on"
        case .comparisonFailed: text = "\(object) holds another value than expected"
        case .versionChanged: text = "\(object) was changed in the meantime"
        case .timedOut: text = "\(object): no answer from Ceph in time"
        case .notPermitted: text = "\(object): Ceph does not allow this to this client"
        case .blocklisted: text = "\(object): this client is on Ceph's blocklist"
        case .disconnected: text = "\(object): the watch is lost"
        case .noSpace: text = "\(object): no space"
        case .invalid, .other: text = "\(object): \(errno)"
        }
        if let detail { text += ": \(detail)" }
        text += " (\(operation), errno \(errno.rawValue))"
        if let remedy { text += "; \(remedy)" }
        return text
    }
}
