// SPDX-License-Identifier: Apache-2.0
import ClusterModel
import Foundation
import Kmod
import Rados
import SystemPackage
import Testing

@testable import Target

/// Keys that a kernel, or librados, cannot use.
@Suite struct CephKeyTests {
    /// A key of a type, as Ceph encodes it.
    private func key(_ type: UInt8, length: UInt8) -> Secret {
        let head: [UInt8] = [type, 0, 1, 2, 3, 4, 0, 0, 0, 0, length, 0]
        return Secret(Data(head + [UInt8](repeating: 7, count: Int(length))).base64EncodedString())
    }

    @Test func types() {
        #expect(CephKeyType(of: key(1, length: 16)) == .aes)
        #expect(CephKeyType(of: key(2, length: 32)) == .aes256k)
        #expect(CephKeyType(of: key(9, length: 32)) == .other(9))
        #expect(CephKeyType(of: Secret("AQ==")) == nil)
        #expect(CephKeyType(of: Secret("not a key")) == nil)
        #expect([CephKeyType.aes, .aes256k, .other(9)].map(\.description) == ["aes", "aes256k", "9"])
    }

    /// What the kernel says counts most; before it can say something, what it was built of.
    @Test func kernels() {
        func reads(_ answer: Int32, _ dependencies: [String], _ release: String) -> Bool {
            CephKeyType.readsAES256K(answer, dependencies: dependencies, release: release)
        }
        #expect(reads(0, [], "6.12.118+deb13-amd64"))
        for refusal in [-EINVAL, -524] { #expect(!reads(refusal, ["krb5"], "7.3.4")) }
        #expect(!reads(-ENODEV, ["libcrc32c"], "6.12.118+deb13-amd64"))
        #expect(reads(-ENODEV, ["krb5"], "6.12.0-211.el10.x86_64"))
        #expect(reads(-EPERM, [], "7.0-amd64") && reads(-EPERM, [], "10.1.2"))
        #expect(!reads(-EPERM, [], "6.19.1"))
    }

    @Test func ofAClient() throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "clio-key-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let keyring = folder.appending(path: "keyring").path
        let options = Cluster.Options(id: "clio", keyring: FilePath(keyring))
        try "[client.clio]\n\tkey = \(key(1, length: 16).revealed)\n".write(
            toFile: keyring, atomically: true, encoding: .utf8)
        let found = try #require(try CephAccess.keyType(for: options))
        #expect(found.type == .aes && found.unusable == nil)
        // No kernel can use this one.
        try "[client.clio]\n\tkey = \(key(9, length: 16).revealed)\n".write(
            toFile: keyring, atomically: true, encoding: .utf8)
        let unusable = try #require(try CephAccess.keyType(for: options)?.unusable)
        #expect(unusable.detail.hasPrefix("the key of client.clio is of type 9, which the Ceph client of kernel "))
        #expect(unusable.remedy.contains("ceph auth rotate --key-type=aes client.clio"))
        #expect(!unusable.description.contains("boot"))
        let old = CephAccess.UnusableKey(.aes256k, of: "clio", release: "6.12.118")
        #expect(old.description.contains("kernel 6.12.118 cannot use (Linux 7.0"))
        #expect(old.remedy.hasSuffix("; or boot a newer kernel"))
        try FileManager.default.removeItem(atPath: keyring)
        #expect(throws: CephAccess.Failure.self) { try CephAccess.keyType(for: options) }
    }

    /// The monitors answer EINVAL to all that they do not like.
    @Test func refusals() {
        func error(_ words: String?, _ kind: RadosError.Kind = .invalid) -> RadosError {
            RadosError(
                kind, operation: "rados_mon_command", object: "auth get-or-create", errno: .invalidArgument,
                detail: words)
        }
        let words = "creating key with insecure key type aes not allowed"
        let refusal = GatewayClient.refusal(error(words), of: .aes)?.description ?? ""
        #expect(refusal.contains(words) && refusal.contains("ceph mon set auth_allowed_ciphers aes,aes256k"))
        #expect(refusal.contains("--key-type aes256k"))
        #expect(GatewayClient.refusal(error(words), of: .aes256k)?.description.hasSuffix("--key-type aes") == true)
        #expect(GatewayClient.refusal(error("bad entity name"), of: .aes) == nil)
        #expect(GatewayClient.refusal(error(nil), of: .aes) == nil)
        #expect(GatewayClient.refusal(error(words, .notPermitted), of: .aes) == nil)
    }

    @Test func withoutAMonitor() async throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "clio-key-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let conf = folder.appending(path: "ceph.conf").path
        let keyring = folder.appending(path: "keyring").path
        try "[global]\nmon host = 127.0.0.1:1\nlog file = /dev/null\n".write(
            toFile: conf, atomically: true, encoding: .utf8)
        // Neither librados can read it: it does not get as far as the monitor.
        try "[client.clio]\n\tkey = \(key(9, length: 32).revealed)\n".write(
            toFile: keyring, atomically: true, encoding: .utf8)
        let options = Cluster.Options(
            configuration: FilePath(conf), id: "clio", keyring: FilePath(keyring),
            timeouts: Cluster.Timeouts(connect: .seconds(5)))
        let error = await #expect(throws: RadosError.self) { try await CephAccess.connect(options) }
        #expect(error?.detail?.contains("of type 9") == true && error?.remedy?.contains("key-type=aes") == true)
    }
}
