// SPDX-License-Identifier: Apache-2.0

import SystemPackage

/// What went wrong with an entry of configfs: which one, doing what, why, and what to do about it.
public struct ConfigFSError: Error, Sendable, Equatable, CustomStringConvertible {
    /// What was being done.
    public enum Operation: String, Sendable {
        case makeDirectory = "mkdir"
        case removeDirectory = "rmdir"
        case link = "symlink"
        case unlink = "unlink"
        case readLink = "readlink"
        case read = "read"
        case write = "write"
        case list = "list"
        case inspect = "stat"
    }

    /// What was being done.
    public let operation: Operation
    /// The whole path of the entry.
    public let path: FilePath
    /// The reason the kernel gave.
    public let errno: Errno
    /// The value that was being written, or the destination of the link that was being made; secrets are blanked.
    public let value: String?
    /// Entries that keep this one from going (`EBUSY`): symbolic links to it, by their whole path.
    public let holders: [FilePath]
    /// What to do about it, where that is known.
    public let remedy: String?

    public init(
        _ operation: Operation, _ path: FilePath, _ errno: Errno, value: String? = nil, holders: [FilePath] = [],
        remedy: String? = nil
    ) {
        self.operation = operation
        self.path = path
        self.errno = errno
        self.value = value
        self.holders = holders
        self.remedy = remedy
    }

    public var description: String {
        var text: String
        switch operation {
        case .write: text = "cannot write \(Self.quoted(value ?? "")) to \(path)"
        case .link: text = "cannot link \(path) to \(value ?? "?")"
        case .makeDirectory: text = "cannot create \(path)"
        case .removeDirectory, .unlink: text = "cannot remove \(path)"
        case .read, .readLink: text = "cannot read \(path)"
        case .list: text = "cannot list \(path)"
        case .inspect: text = "cannot look at \(path)"
        }
        text += ": \(errno) (\(operation.rawValue), errno \(errno.rawValue))"
        if !holders.isEmpty {
            text += "; held by \(holders.map(\.string).joined(separator: ", "))"
        }
        if let remedy {
            text += "; \(remedy)"
        }
        return text
    }

    /// A value as a person can read it on one line: quoted, control characters escaped, long ones cut.
    static func quoted(_ value: String) -> String {
        let longest = 120
        let shown = value.count > longest ? value.prefix(longest) + "…" : value[...]
        var text = "\""
        for scalar in shown.unicodeScalars {
            switch scalar {
            case "\n": text += "\\n"
            case "\t": text += "\\t"
            case "\"": text += "\\\""
            case "\\": text += "\\\\"
            case _ where scalar.value < 0x20 || scalar.value == 0x7F: text += "\\u{\(String(scalar.value, radix: 16))}"
            default: text.unicodeScalars.append(scalar)
            }
        }
        return text + "\""
    }
}
