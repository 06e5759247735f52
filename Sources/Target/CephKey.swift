// SPDX-License-Identifier: Apache-2.0
import CKeyring
import ClusterModel
import Foundation
import Kmod
import Rados

/// Which cipher a cephx key is for: the first number in it (Ceph's `CryptoKey`: type, time, length, secret).
public enum CephKeyType: Sendable, Hashable, CustomStringConvertible {
    case aes
    /// What Ceph makes by default from 19.2.6 and 20.2.4 on. Linux reads it from 7.0 on (upstream b7cc142dbafe).
    case aes256k
    case other(UInt16)

    /// - Returns: nil for what is not a key at all.
    public init?(of key: Secret) {
        guard let bytes = Data(base64Encoded: key.revealed), bytes.count >= 12 else { return nil }
        switch UInt16(bytes[0]) | UInt16(bytes[1]) << 8 {
        case 1: self = .aes
        case 2: self = .aes256k
        case let number: self = .other(number)
        }
    }

    /// As `ceph auth` has it.
    public var description: String {
        switch self {
        case .aes: "aes"
        case .aes256k: "aes256k"
        case .other(let number): String(number)
        }
    }

    /// Whether the running kernel's Ceph client can use keys of this type.
    func isUsable(_ modules: KernelModules) -> Bool {
        guard self == .aes256k else { return self == .aes }
        return Self.readsAES256K(
            clio_key_try("ceph", "clio", Self.sample, Self.sample.count),
            dependencies: (try? modules.info("libceph"))?.dependencies ?? [], release: modules.release)
    }

    /// A key of this type that opens nothing.
    private static let sample =
        [2, 0] + [UInt8](repeating: 0, count: 8) + [32, 0] + [UInt8](repeating: 0, count: 32)

    /// - Parameters:
    ///   - answer: of the kernel, to such a key: 0, or a negative errno. It says nothing before libceph is loaded.
    ///   - dependencies: of the module libceph; distributions have carried the cipher back to older kernels.
    ///   - release: of the kernel.
    static func readsAES256K(_ answer: Int32, dependencies: [String], release: String) -> Bool {
        switch answer {
        case 0: true
        case -EINVAL, -EOPNOTSUPP, -524: false  // 524: the kernel's ENOTSUPP, which no program is to see
        default: dependencies.contains("krb5") || (release.split(separator: ".").first.flatMap { Int($0) } ?? 0) >= 7
        }
    }
}

extension CephAccess {
    /// A client's key that the running kernel cannot use: images cannot be mapped with it.
    public struct UnusableKey: Error, CustomStringConvertible {
        public let detail: String
        public let remedy: String
        public var description: String { "\(detail): \(remedy)" }

        init(_ type: CephKeyType, of id: String, release: String) {
            detail =
                "the key of client.\(id) is of type \(type), which the Ceph client of kernel \(release) cannot use"
                + (type == .aes256k ? " (Linux 7.0 is the first that can)" : "")
            remedy =
                "as an administrator, make it one of type aes (ceph auth rotate --key-type=aes client.\(id)), and copy its "
                + "keyring to each gateway (clio group init writes it)"
                + (type == .aes256k ? "; or boot a newer kernel" : "")
        }
    }

    /// The type of the client's key, and why the running kernel cannot use it; nil without a key.
    public static func keyType(
        for options: Cluster.Options, modules: KernelModules = KernelModules()
    ) throws(Failure) -> (type: CephKeyType, unusable: UnusableKey?)? {
        guard let key = try key(for: options), let type = CephKeyType(of: key) else { return nil }
        return (type, type.isUsable(modules) ? nil : UnusableKey(type, of: options.id, release: modules.release))
    }

    /// Connects; says so where it is the key that librados cannot read.
    public static func connect(_ options: Cluster.Options) async throws(RadosError) -> Cluster {
        do {
            return try await Cluster.connect(options)
        } catch {
            guard ![.timedOut, .notPermitted, .blocklisted].contains(error.kind), let key = try? key(for: options),
                let type = CephKeyType(of: key), type != .aes
            else { throw error }
            throw RadosError(
                error.kind, operation: error.operation, object: error.object, errno: error.errno,
                detail: "the client's key is of type \(type), which librados before Ceph 19.2.6 and 20.2.4 cannot read",
                remedy: "install a newer one, or, as an administrator who has it, make the key one of type aes: "
                    + "ceph auth rotate --key-type=aes client.\(options.id)")
        }
    }
}
