// SPDX-License-Identifier: Apache-2.0

import SystemPackage

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// What went wrong in talking to the kernel: which family, which operation, why, and what to do about it.
public struct NetlinkError: Error, Sendable, Equatable, CustomStringConvertible {
    /// Kinds a caller may want to tell apart. The kernel's own reason stays in ``NetlinkError/errno``.
    public enum Kind: Sendable, Hashable {
        /// The kernel has no family of that name (`ENOENT` of the controller): its module is not loaded.
        case noFamily
        /// The family has no multicast group of that name.
        case noGroup
        /// The kernel refused the request.
        case refused
        /// More came in than was read (`ENOBUFS`): messages are lost, and it is not known which.
        case overrun
        /// The socket is closed.
        case closed
        /// A message that does not follow netlink's rules.
        case malformed
    }

    public let kind: Kind
    /// The family's name.
    public let family: String
    /// What was asked of it, `lease-arm` for instance.
    public let operation: String
    /// The reason as a positive errno.
    public let errno: Errno
    /// The kernel's own words (`NLMSGERR_ATTR_MSG`), or what was malformed.
    public let detail: String?
    /// What to do about it, where that is known.
    public let remedy: String?

    public init(
        _ kind: Kind, family: String, operation: String, errno: Errno, detail: String? = nil, remedy: String? = nil
    ) {
        self.kind = kind
        self.family = family
        self.operation = operation
        self.errno = errno
        self.detail = detail
        self.remedy = remedy
    }

    /// The kernel's answer to a request.
    static func refused(_ family: String, _ operation: String, _ code: Int32, _ detail: String? = nil) -> NetlinkError {
        let errno = Errno(rawValue: code)
        let remedy: String? =
            errno == .notPermitted || errno == .permissionDenied ? "run it as root (CAP_NET_ADMIN)" : nil
        return NetlinkError(
            .refused, family: family, operation: operation, errno: errno, detail: detail, remedy: remedy)
    }

    static func malformed(_ family: String, _ operation: String, _ detail: String) -> NetlinkError {
        NetlinkError(.malformed, family: family, operation: operation, errno: .badMessage, detail: detail)
    }

    public var description: String {
        var text: String
        switch kind {
        case .noFamily: text = "the kernel has no netlink family \"\(family)\""
        case .noGroup: text = "netlink family \(family) has no such multicast group"
        case .refused: text = "netlink \(family): \(operation): \(errno)"
        case .overrun: text = "netlink \(family): messages were lost"
        case .closed: text = "netlink \(family): \(operation): the socket is closed"
        case .malformed: text = "netlink \(family): \(operation): malformed message"
        }
        if let detail { text += ": \(detail)" }
        text += " (\(operation), errno \(errno.rawValue))"
        if let remedy { text += "; \(remedy)" }
        return text
    }
}
