// SPDX-License-Identifier: Apache-2.0

/// What went wrong in the lab: which object, why, and what to do about it.
public struct LabError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The object the error is about: a node, a file, a command.
    public var object: String
    /// Why it failed, usually in the words of the tool or the kernel.
    public var reason: String
    /// What the reader can do, or `nil` if nothing better than to read the reason is known.
    public var remedy: String?

    public init(_ object: String, _ reason: String, remedy: String? = nil) {
        self.object = object
        self.reason = reason
        self.remedy = remedy
    }

    public var description: String {
        guard let remedy else { return "\(object): \(reason)" }
        return "\(object): \(reason)\n  → \(remedy)"
    }
}
