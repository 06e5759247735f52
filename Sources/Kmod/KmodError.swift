// SPDX-License-Identifier: Apache-2.0

import SystemPackage

/// What went wrong with a kernel module: which one, of which kernel, why, and what to do about it.
public struct KmodError: Error, Sendable, Equatable, CustomStringConvertible {
    /// Kinds a caller may want to tell apart.
    public enum Kind: Sendable, Hashable {
        /// No module, alias or built-in of that name in the directory searched.
        case missing
        /// The module's file was built for another kernel or is no module (`ENOEXEC`).
        case mismatch
        /// Not allowed (`EPERM`, `EACCES`), or refused by a blacklist.
        case notPermitted
        /// In use (`EBUSY`, `EAGAIN`).
        case inUse
        /// Anything else.
        case other
    }

    public let kind: Kind
    /// The module or alias asked for.
    public let module: String
    /// What was to be done with it: `load`, `unload`, `read`, `look up`.
    public let operation: String
    /// The kernel's release (`uname -r`).
    public let release: String
    /// The directory that was searched.
    public let directory: FilePath
    /// The reason libkmod or the kernel gave.
    public let errno: Errno
    /// What to do about it, where that is known.
    public let remedy: String?

    public init(
        _ kind: Kind, module: String, operation: String, release: String, directory: FilePath, errno: Errno,
        remedy: String? = nil
    ) {
        self.kind = kind
        self.module = module
        self.operation = operation
        self.release = release
        self.directory = directory
        self.errno = errno
        self.remedy = remedy
    }

    public var description: String {
        var text: String
        switch kind {
        case .missing:
            text = "there is no kernel module \(module) for kernel \(release) in \(directory)"
        case .mismatch:
            text = "kernel module \(module) does not fit the running kernel \(release): \(errno)"
        case .notPermitted:
            text = "cannot \(operation) kernel module \(module): \(errno)"
        case .inUse:
            text = "cannot \(operation) kernel module \(module): it is in use"
        case .other:
            text = "cannot \(operation) kernel module \(module) of \(directory): \(errno) (errno \(errno.rawValue))"
        }
        if let remedy {
            text += "; \(remedy)"
        }
        return text
    }
}
