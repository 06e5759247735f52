// SPDX-License-Identifier: Apache-2.0

import Rados
import SystemPackage

/// What went wrong with an RBD image: which call, which image, why, and what to do about it.
public struct RBDError: Error, Sendable, Equatable, CustomStringConvertible {
    /// Kinds a caller may want to tell apart.
    public enum Kind: Sendable, Hashable {
        /// No such pool.
        case poolNotFound
        /// No such image in the pool and namespace (`ENOENT`).
        case imageNotFound
        /// An image, snapshot or clone of that name exists (`EEXIST`).
        case alreadyExists
        /// Watched, locked, protected or with snapshots (`EBUSY`, `ENOTEMPTY`).
        case inUse
        /// The key may not do this (`EPERM`, `EACCES`).
        case notPermitted
        /// No answer in time (`ETIMEDOUT`).
        case timedOut
        /// Anything else.
        case other
    }

    public let kind: Kind
    /// The librbd call, for instance `rbd_open_read_only`.
    public let operation: String
    /// The image: `pool/image` or `pool/namespace/image`; with a snapshot, `…@snap`.
    public let image: String
    /// The reason as a positive errno.
    public let errno: Errno
    /// What to do about it, where that is known.
    public let remedy: String?

    public init(_ kind: Kind, operation: String, image: String, errno: Errno, remedy: String? = nil) {
        self.kind = kind
        self.operation = operation
        self.image = image
        self.errno = errno
        self.remedy = remedy
    }

    /// The error for what a librbd call returned (a negative number).
    init(_ operation: String, _ image: String, _ result: Int32) {
        let reason = Errno(rawValue: result < 0 ? -result : result)
        let kind: Kind
        var remedy: String?
        switch reason {
        case .noSuchFileOrDirectory:
            kind = .imageNotFound
            remedy = "rbd ls shows the images of a pool; rbd create makes one"
        case .fileExists: kind = .alreadyExists
        case .resourceBusy, .directoryNotEmpty:
            kind = .inUse
            remedy = "rbd status \(image) shows its watchers, rbd snap ls its snapshots"
        case .notPermitted, .permissionDenied:
            kind = .notPermitted
            let pool = image.prefix { $0 != "/" }
            // OSDs know what a client may do from when it connected.
            remedy =
                "the client needs osd 'profile rbd pool=\(pool)' or more: clio group init --image-pool \(pool) gives it, "
                + "and a gateway that runs has it after clio node down and up"
        case .timedOut:
            kind = .timedOut
            remedy = "are the OSDs up and reachable from here? (ceph -s)"
        default: kind = .other
        }
        self.init(kind, operation: operation, image: image, errno: reason, remedy: remedy)
    }

    /// The error for a pool that could not be opened.
    init(_ error: RadosError, image: String) {
        let kind: Kind
        switch error.kind {
        case .poolNotFound: kind = .poolNotFound
        case .notPermitted: kind = .notPermitted
        case .timedOut: kind = .timedOut
        default: kind = .other
        }
        self.init(kind, operation: error.operation, image: image, errno: error.errno, remedy: error.remedy)
    }

    public var description: String {
        var text: String
        switch kind {
        case .poolNotFound: text = "there is no pool for image \(image)"
        case .imageNotFound: text = "there is no image \(image)"
        case .alreadyExists: text = "\(image) exists already"
        case .inUse: text = "image \(image) is in use"
        case .notPermitted: text = "image \(image): Ceph does not allow this to this client"
        case .timedOut: text = "image \(image): no answer from Ceph in time"
        case .other: text = "image \(image): \(errno)"
        }
        text += " (\(operation), errno \(errno.rawValue))"
        if let remedy { text += "; \(remedy)" }
        return text
    }
}
