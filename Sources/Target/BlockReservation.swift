// SPDX-License-Identifier: Apache-2.0
import CBlockPR
import SystemPackage

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// Persistent reservations of a block device, the node being the nexus (`IOC_PR_*`, linux/pr.h).
public struct BlockReservation: Sendable {
    /// Path of the device.
    public let device: String

    public init(device: String) { self.device = device }

    public enum Failure: Error, CustomStringConvertible {
        /// The device can't be opened, or refuses.
        case failed(device: String, what: String, Errno)
        /// Another nexus has a reservation that is in the way.
        case conflict(device: String, what: String)
        /// The kernel got no answer to go by: a `PR_STS_*`.
        case unknown(device: String, what: String, status: Int32)

        public var description: String {
            switch self {
            case .failed(let device, let what, .notSupported):
                "\(device): \(what): nodes share no reservations of it; is it mapped by cliod (krbd's option lease), and "
                    + "has the kernel Clio's patches?"
            case .failed(let device, let what, let errno) where errno.rawValue == ESHUTDOWN:
                "\(device): \(what): this node has no lease; clio status shows why"
            case .failed(let device, let what, let errno): "\(device): \(what): \(errno)"
            case .conflict(let device, let what): "\(device): \(what): conflicts with a reservation"
            case .unknown(let device, let what, let status): "\(device): \(what): failed with status \(status)"
            }
        }
    }

    /// Has every registration and the persistent reservation removed, for all nodes, and hosts told
    /// (unit attention 2Ah/03h; SPC-4 5.13.11.2.7). The node registers for that, which a RESERVE of SPC-2 forbids.
    ///
    /// - Throws: ``Failure``
    public func clear() throws(Failure) {
        let file: FileDescriptor
        do {
            file = try FileDescriptor.open(device, .readWrite)
        } catch let errno as Errno {
            throw .failed(device: device, what: "open", errno)
        } catch { throw .failed(device: device, what: "open", .ioError) }
        defer { try? file.close() }
        let key = UInt64.random(in: 1...UInt64.max)
        try check("register", clio_pr_register(file.rawValue, 0, key, UInt32(PR_FL_IGNORE_KEY)))
        try check("clear", clio_pr_clear(file.rawValue, key))
    }

    private func check(_ what: String, _ status: Int32) throws(Failure) {
        switch status {
        case 0: return
        case -1: throw .failed(device: device, what: what, Errno(rawValue: errno))
        case Int32(CLIO_PR_CONFLICT): throw .conflict(device: device, what: what)
        default: throw .unknown(device: device, what: what, status: status)
        }
    }
}
