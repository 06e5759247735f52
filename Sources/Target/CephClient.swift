// SPDX-License-Identifier: Apache-2.0
import ClusterModel
import Foundation
import Rados
import SystemPackage

/// What a Ceph client may do, as `ceph auth` has it: grants for monitors and for OSDs, with commas between them.
public struct ClientCaps: Sendable, Equatable {
    public var mon: String
    public var osd: String

    public init(mon: String = "", osd: String = "") {
        self.mon = mon
        self.osd = osd
    }

    /// What a gateway needs and no more. `profile rbd` lets a client read the monitors' maps and put clients on the blocklist,
    /// which is how nodes are fenced; on OSDs, read, write, watch and call the object classes of images, in these pools.
    public init(pools: [String]) {
        self.init(mon: "profile rbd", osd: pools.map { "profile rbd pool=\($0)" }.joined(separator: ", "))
    }

    /// These, and what a gateway needs for `pools` besides: grants that are there stay.
    public func extended(to pools: [String]) -> ClientCaps {
        var mon = Self.grants(self.mon)
        if !mon.contains(where: { ["profile rbd", "allow *"].contains($0) }) { mon.append("profile rbd") }
        var osd = Self.grants(self.osd)
        for pool in pools
        where !osd.contains(where: { ["allow *", "profile rbd", "profile rbd pool=\(pool)"].contains($0) }) {
            osd.append("profile rbd pool=\(pool)")
        }
        return ClientCaps(mon: mon.joined(separator: ", "), osd: osd.joined(separator: ", "))
    }

    /// Whether ``extended(to:)`` would add nothing.
    public func suffices(for pools: [String]) -> Bool {
        let wanted = extended(to: pools)
        return Self.grants(wanted.mon) == Self.grants(mon) && Self.grants(wanted.osd) == Self.grants(osd)
    }

    /// As arguments of `ceph auth`.
    public var words: [String] { ["mon", mon, "osd", osd] }

    private static func grants(_ text: String) -> [String] {
        text.split(whereSeparator: { ",;".contains($0) }).map { grant in
            let words = grant.split(whereSeparator: \.isWhitespace).joined(separator: " ")
            return words.replacing("allow profile ", with: "profile ").replacing("pool = ", with: "pool=")
        }
        .filter { !$0.isEmpty }
    }
}

/// The Ceph client that gateways are, so that none of them needs the administrator's key.
public struct GatewayClient: Sendable {
    /// Its name, unless another is given.
    public static let defaultName = "clio"

    public var caps: ClientCaps
    /// Made anew, rather than found.
    public var isNew: Bool
    /// Its caps were less before.
    public var isExtended: Bool
    /// What belongs in its keyring: a secret.
    public var keyring: String
    /// Of its key; nil for what is none.
    public var keyType: CephKeyType?

    /// Makes the client, or gives one that is there what it lacks; a second time changes nothing (`auth get`,
    /// `auth get-or-create`, `auth caps`).
    ///
    /// - Parameters:
    ///   - name: without `client.`.
    ///   - pools: that of the group and those of its images.
    ///   - keyType: of a key that is made anew. Monitors that do not know of types pass over it, and make keys of type `aes`.
    /// - Throws: `notPermitted` if the one who asks is no administrator of the cluster.
    public static func make(
        _ name: String, pools: [String], keyType: CephKeyType = .aes, in cluster: Cluster
    ) async throws -> GatewayClient {
        let entity: [String: CommandValue] = ["entity": .text("client.\(name)")]
        do {
            let found = try entry(try await cluster.monitorCommand("auth get", entity))
            let caps = ClientCaps(mon: found.caps["mon"] ?? "", osd: found.caps["osd"] ?? "")
            if caps.suffices(for: pools) {
                return GatewayClient(
                    caps: caps, isNew: false, isExtended: false, keyring: found.keyring, keyType: found.keyType)
            }
            let wanted = caps.extended(to: pools)
            // `auth caps` replaces all: those for managers and metadata servers are given as they were.
            var words = wanted.words
            for (kind, text) in found.caps.sorted(by: { $0.key < $1.key }) where !["mon", "osd"].contains(kind) {
                words += [kind, text]
            }
            _ = try await cluster.monitorCommand("auth caps", entity.merging(["caps": .list(words)]) { $1 })
            return GatewayClient(
                caps: wanted, isNew: false, isExtended: true, keyring: found.keyring, keyType: found.keyType)
        } catch let error as RadosError {
            guard error.kind == .notFound else { throw error }
        }
        let caps = ClientCaps(pools: pools)
        let arguments = entity.merging(["caps": .list(caps.words), "key_type": .text(keyType.description)]) { $1 }
        let output: Cluster.CommandOutput
        do {
            output = try await cluster.monitorCommand("auth get-or-create", arguments)
        } catch {
            if let refusal = refusal(error, of: keyType) { throw refusal }
            throw error
        }
        let made = try entry(output)
        return GatewayClient(caps: caps, isNew: true, isExtended: false, keyring: made.keyring, keyType: made.keyType)
    }

    /// Puts the client's key where ``CephAccess/options(configuration:id:keyring:timeouts:)`` looks for it; only root can read it.
    ///
    /// - Returns: whether it was not there already.
    public func writeKeyring(to path: FilePath) throws -> Bool {
        guard SystemFiles.text(path) != keyring.trimmingCharacters(in: .whitespacesAndNewlines) else { return false }
        do {
            try SystemFiles.replace(path, with: keyring, permissions: .ownerReadWrite)
        } catch {
            throw CephAccess.Failure(
                description: "\(path): cannot be written (\(error)); name another place with --keyring-file")
        }
        return true
    }

    /// What to make of an error if it says that the monitors make no key of this type. They answer EINVAL, whatever the reason
    /// (tracker.ceph.com/issues/80998); only their words tell.
    static func refusal(_ error: RadosError, of type: CephKeyType) -> CephAccess.Failure? {
        guard error.kind == .invalid, let words = error.detail, words.contains("key type") else { return nil }
        let remedy =
            type == .aes
            ? "kernels before Linux 7.0 can use no other: allow it (ceph mon set auth_allowed_ciphers aes,aes256k, and ceph "
                + "config rm mon mon_auth_allow_insecure_key), or, if all gateways have Linux 7.0 and Ceph 19.2.6 or 20.2.4 "
                + "or later of both, run this again with --key-type aes256k"
            : "run this again with --key-type aes"
        return CephAccess.Failure(description: "the monitors make no key of type \(type) (\(words)); \(remedy)")
    }

    private struct Entry: Decodable {
        let entity: String
        let key: String
        let caps: [String: String]

        var keyring: String { "[\(entity)]\n\tkey = \(key)\n" }
        var keyType: CephKeyType? { CephKeyType(of: Secret(key)) }
    }

    private static func entry(_ output: Cluster.CommandOutput) throws -> Entry {
        guard let entry = try? JSONDecoder().decode([Entry].self, from: Data(output.data)).first else {
            throw CephAccess.Failure(description: "the monitors' answer about the client's caps cannot be understood")
        }
        return entry
    }
}

extension CephAccess {
    /// Whom to be: the client that is asked for; without a wish and without a keyring the gateways' own if its keyring is beside
    /// Ceph's configuration (``keyringPath(of:beside:)``), else the administrator.
    public static func options(
        configuration: String, id: String?, keyring: String?, timeouts: Cluster.Timeouts = Cluster.Timeouts()
    ) -> Cluster.Options {
        let own = keyringPath(of: GatewayClient.defaultName, beside: configuration)
        if id ?? GatewayClient.defaultName == GatewayClient.defaultName, keyring == nil, SystemFiles.exists(own) {
            return Cluster.Options(
                configuration: FilePath(configuration), id: GatewayClient.defaultName, keyring: own, timeouts: timeouts)
        }
        return Cluster.Options(
            configuration: FilePath(configuration), id: id ?? "admin", keyring: keyring.map { FilePath($0) },
            timeouts: timeouts)
    }

    /// Where Ceph looks for a client's keyring: `/etc/ceph/ceph.client.clio.keyring` beside `/etc/ceph/ceph.conf`.
    public static func keyringPath(of name: String, beside configuration: String) -> FilePath {
        let path = FilePath(configuration)
        return path.removingLastComponent().appending("\(path.stem ?? "ceph").client.\(name).keyring")
    }
}
