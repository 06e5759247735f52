// SPDX-License-Identifier: Apache-2.0
import ClusterModel
import Foundation
import Rados
import SystemPackage

/// What the kernel's Ceph client has to be told: monitors and key.
public enum CephAccess {
    /// Why it could not be found out.
    public struct Failure: Error, CustomStringConvertible {
        public let description: String
    }

    /// Monitors from the cluster itself, the key from the client's keyring.
    ///
    /// - Throws: `UnusableKey`, too.
    public static func credentials(of cluster: Cluster) async throws -> KernelRBD.Credentials {
        if let unusable = try keyType(for: cluster.options)?.unusable { throw unusable }
        let dump = try await cluster.monitorCommand("mon dump")
        // Who has clients speak nothing else wants it of the kernel's, too.
        let isEncrypted = cluster.setting("ms_client_mode") == "secure"
        guard let monitors = try? monitors(inDump: dump.data, encrypted: isEncrypted), !monitors.list.isEmpty else {
            throw Failure(
                description: isEncrypted
                    ? "ms_client_mode is secure, and no monitor has an address of messenger v2 (ceph mon dump). Fix: ceph mon "
                        + "enable-msgr2" : "the cluster's monitor map lists no address (ceph mon dump)")
        }
        return KernelRBD.Credentials(
            monitors: monitors.list.joined(separator: ","), messenger: monitors.messenger, name: cluster.options.id,
            key: try key(for: cluster.options))
    }

    /// Addresses in `ceph mon dump`'s JSON: those of messenger v1, else those of v2.
    ///
    /// - Parameter encrypted: only those of v2 will do, as v1 encrypts nothing.
    static func monitors(
        inDump json: [UInt8], encrypted: Bool = false
    ) throws -> (list: [String], messenger: KernelRBD.Messenger) {
        struct Dump: Decodable {
            struct Monitor: Decodable {
                struct Addresses: Decodable {
                    struct Address: Decodable {
                        let type: String
                        let addr: String
                    }
                    let addrvec: [Address]
                }
                let publicAddrs: Addresses
            }
            let mons: [Monitor]
        }
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        let dump = try decoder.decode(Dump.self, from: Data(json))
        func list(_ type: String) -> [String] {
            dump.mons.flatMap { $0.publicAddrs.addrvec }.filter { $0.type == type }.map(\.addr)
        }
        if encrypted { return (list("v2"), .encrypted) }
        let old = list("v1")
        return old.isEmpty ? (list("v2"), .v2) : (old, .v1)
    }

    /// The client's key: from the keyring given, else from the one ceph.conf names, else from Ceph's usual places.
    public static func key(for options: Cluster.Options) throws(Failure) -> Secret? {
        let entity = "client.\(options.id)"
        let conf = Settings(parsing: SystemFiles.text(options.configuration) ?? "")
        let sections = [entity, "client", "global"]
        if let key = conf.value("key", in: sections) { return Secret(key) }
        var places: [FilePath] = []
        if let keyring = options.keyring {
            places = [keyring]
        } else {
            let named =
                conf.value("keyring", in: sections).map { $0.split(whereSeparator: { ", ;".contains($0) }) } ?? []
            let usual = [
                "/etc/ceph/$cluster.$name.keyring", "/etc/ceph/$cluster.keyring", "/etc/ceph/keyring",
                "/etc/ceph/keyring.bin",
            ]
            places = (named.map(String.init) + (named.isEmpty ? usual : [])).map { text in
                FilePath(
                    text.replacing("$cluster", with: "ceph").replacing("$name", with: entity).replacing(
                        "$id", with: options.id
                    )
                    .replacing("$type", with: "client"))
            }
        }
        for place in places {
            guard let text = SystemFiles.text(place) else { continue }
            if let key = Settings(parsing: text).value("key", in: [entity]) { return Secret(key) }
        }
        if conf.value("auth client required", in: sections) == "none" { return nil }
        throw Failure(
            description: "no key of \(entity) in \(places.map(\.string).joined(separator: ", ")): "
                + "the kernel needs it to map images; name the keyring with --keyring")
    }

    /// A file of Ceph's ini dialect.
    struct Settings {
        private var values: [String: [String: String]] = [:]

        init(parsing text: String) {
            var section = "global"
            for raw in text.split(whereSeparator: \.isNewline) {
                let line = raw.drop { $0.isWhitespace }
                if line.isEmpty || line.first == "#" || line.first == ";" { continue }
                if line.first == "[", let end = line.firstIndex(of: "]") {
                    section = String(line[line.index(after: line.startIndex)..<end])
                    continue
                }
                guard let equals = line.firstIndex(of: "=") else { continue }
                let key = Self.key(String(line[..<equals]))
                let value = String(line[line.index(after: equals)...]).trimmingCharacters(in: .whitespaces)
                values[section, default: [:]][key] = value
            }
        }

        /// Blanks, `_` and `-` in a key are the same.
        private static func key(_ text: String) -> String {
            text.split { $0.isWhitespace || $0 == "_" || $0 == "-" }.joined(separator: " ")
        }

        func value(_ key: String, in sections: [String]) -> String? {
            sections.lazy.compactMap { values[$0]?[Self.key(key)] }.first
        }
    }
}
