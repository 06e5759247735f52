// SPDX-License-Identifier: Apache-2.0

import CRados
import Dispatch
import Synchronization
import SystemPackage

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// A connection to a Ceph cluster (`rados_t`).
///
/// **Threads.** Operations on objects, watches and notifications are librados' asynchronous calls: nobody waits on a
/// thread. What librados only offers as a blocking call (connecting, monitor commands, waiting for a map) runs on a
/// thread of its own. Swift's cooperative pool never blocks.
///
/// **Lifetime.** The connection lasts as long as this object, its pools and their watches are referenced. The last
/// release disconnects (`rados_shutdown`), which takes some milliseconds.
///
/// **Bounds.** Every call is bounded by ``Timeouts``, given at ``connect(_:)``.
public final class Cluster: Sendable {
    /// How long to wait at most. Rounded up to whole seconds, at least one.
    public struct Timeouts: Sendable, Hashable {
        /// For ``Cluster/connect(_:)``, overall (`client_mount_timeout`).
        public var connect: Duration
        /// For a monitor's answer (`rados_mon_op_timeout`).
        public var monitor: Duration
        /// For an OSD's answer (`rados_osd_op_timeout`). After it, the operation may or may not have happened.
        public var osd: Duration

        public init(
            connect: Duration = .seconds(10), monitor: Duration = .seconds(10), osd: Duration = .seconds(10)
        ) {
            self.connect = connect
            self.monitor = monitor
            self.osd = osd
        }
    }

    /// How to reach the cluster and as whom.
    public struct Options: Sendable, Hashable {
        /// ceph.conf.
        public var configuration: FilePath
        /// The client's name without the leading `client.`.
        public var id: String
        /// The file with the client's key; nil for the one ceph.conf names.
        public var keyring: FilePath?
        public var timeouts: Timeouts
        /// Settings of ceph.conf to override, by name.
        public var settings: [String: String]

        public init(
            configuration: FilePath = "/etc/ceph/ceph.conf", id: String = "admin", keyring: FilePath? = nil,
            timeouts: Timeouts = Timeouts(), settings: [String: String] = [:]
        ) {
            self.configuration = configuration
            self.id = id
            self.keyring = keyring
            self.timeouts = timeouts
            self.settings = settings
        }
    }

    let handle: ClusterHandle
    /// What it was connected with.
    public let options: Options
    /// The cluster's id (`rados_cluster_fsid`): a UUID.
    public let fsid: String
    /// This client's number in the cluster (`rados_get_instance_id`), the `4711` of `client.4711`; never used twice. It is
    /// the notifier's id that watchers see.
    public let instanceID: UInt64
    /// What ``Pool`` errors call the cluster.
    var name: String { "cluster \(fsid)" }

    private init(_ handle: ClusterHandle, _ options: Options, fsid: String, instanceID: UInt64) {
        self.handle = handle
        self.options = options
        self.fsid = fsid
        self.instanceID = instanceID
    }

    /// Connects (`rados_create2`, `rados_conf_read_file`, `rados_connect`).
    ///
    /// - Throws: `invalid` for a configuration or keyring that cannot be read; `timedOut` if no monitor answers within
    ///   `timeouts.connect`; `notPermitted` for a wrong key.
    public static func connect(_ options: Options = Options()) async throws(RadosError) -> Cluster {
        let bound = options.timeouts.connect.wholeSeconds
        let late = RadosError(
            .timedOut, operation: "rados_connect", object: subject(options), errno: .timedOut,
            detail: "no monitor answered within \(bound) s", remedy: unreachable(options))
        return try await Blocking.run(atMost: .seconds(bound) + .milliseconds(500), otherwise: late) {
            () throws(RadosError) -> Cluster in try connectBlocking(options)
        }
    }

    /// What errors say of a cluster that is not connected yet.
    private static func subject(_ options: Options) -> String {
        "the cluster of \(options.configuration) as client.\(options.id)"
    }

    private static func unreachable(_ options: Options) -> String {
        "is `mon host` of \(options.configuration) right, and are the monitors up and reachable from here?"
    }

    private static func connectBlocking(_ options: Options) throws(RadosError) -> Cluster {
        let subject = subject(options)
        guard (try? FileDescriptor.open(options.configuration, .readOnly).close()) != nil else {
            throw RadosError(
                .invalid, operation: "rados_conf_read_file", object: options.configuration.string,
                errno: .noSuchFileOrDirectory, detail: "cannot read Ceph's configuration",
                remedy: "name it with --ceph-conf, or put it there")
        }
        if let keyring = options.keyring, (try? FileDescriptor.open(keyring, .readOnly).close()) == nil {
            throw RadosError(
                .invalid, operation: "rados_connect", object: keyring.string, errno: .noSuchFileOrDirectory,
                detail: "cannot read the keyring of client.\(options.id)",
                remedy: "name it with --keyring; ceph auth get client.\(options.id) shows what belongs in it")
        }
        var raw: rados_t?
        let created = rados_create2(&raw, "ceph", "client.\(options.id)", 0)
        guard created == 0, let raw else { throw RadosError("rados_create2", subject, created) }
        let handle = ClusterHandle(raw)
        let read = options.configuration.withPlatformString { rados_conf_read_file(raw, $0) }
        guard read == 0 else {
            throw RadosError(
                .invalid, operation: "rados_conf_read_file", object: options.configuration.string,
                errno: Errno(rawValue: -read), detail: "cannot read Ceph's configuration")
        }
        // librados would write to standard error what our errors say better.
        var settings = ["log_to_stderr": "false", "err_to_stderr": "false"]
        settings["client_mount_timeout"] = String(options.timeouts.connect.wholeSeconds)
        settings["rados_mon_op_timeout"] = String(options.timeouts.monitor.wholeSeconds)
        settings["rados_osd_op_timeout"] = String(options.timeouts.osd.wholeSeconds)
        if let keyring = options.keyring { settings["keyring"] = keyring.string }
        settings.merge(options.settings) { $1 }
        for (name, value) in settings.sorted(by: { $0.key < $1.key }) {
            let set = rados_conf_set(raw, name, value)
            guard set == 0 else {
                throw RadosError(
                    .invalid, operation: "rados_conf_set", object: subject, errno: Errno(rawValue: -set),
                    detail: "setting \(name) = \(value)")
            }
        }
        let connected = rados_connect(raw)
        ProcessEnd.connected()
        guard connected == 0 else {
            throw connectError(connected, options)
        }
        var buffer = [CChar](repeating: 0, count: 64)
        let length = rados_cluster_fsid(raw, &buffer, buffer.count)
        guard length > 0 else { throw RadosError("rados_cluster_fsid", subject, length) }
        let fsid = String(decoding: buffer.prefix(Int(length)).map(UInt8.init(bitPattern:)), as: UTF8.self)
        return Cluster(handle, options, fsid: fsid, instanceID: rados_get_instance_id(raw))
    }

    private static func connectError(_ result: Int32, _ options: Options) -> RadosError {
        let reason = Errno(rawValue: -result)
        let subject = subject(options)
        switch reason {
        case .timedOut:
            return RadosError(
                .timedOut, operation: "rados_connect", object: subject, errno: reason,
                detail: "no monitor answered within \(options.timeouts.connect.wholeSeconds) s",
                remedy: unreachable(options))
        case .noSuchFileOrDirectory:
            return RadosError(
                .invalid, operation: "rados_connect", object: subject, errno: reason,
                detail: "there is no key for client.\(options.id), or no `mon host`",
                remedy: "name its keyring with --keyring, or `keyring` and `mon host` in \(options.configuration)")
        case .notPermitted, .permissionDenied:
            return RadosError(
                .notPermitted, operation: "rados_connect", object: subject, errno: reason,
                remedy: "the key is not the one the cluster has: compare with ceph auth get client.\(options.id)")
        default:
            return RadosError("rados_connect", subject, result)
        }
    }

    // MARK: Pools

    /// A pool by name (`rados_ioctx_create`), and a namespace in it (`rados_ioctx_set_namespace`; "" is the default one).
    ///
    /// - Throws: `poolNotFound`.
    public func pool(_ name: String, namespace: String = "") async throws(RadosError) -> Pool {
        let cluster = self
        return try await bounded("rados_ioctx_create", "pool \(name)") { () throws(RadosError) -> Pool in
            var raw: rados_ioctx_t?
            let result = rados_ioctx_create(cluster.handle.raw, name, &raw)
            guard result == 0, let raw else {
                if result == -ENOENT {
                    throw RadosError(
                        .poolNotFound, operation: "rados_ioctx_create", object: name, errno: .noSuchFileOrDirectory,
                        remedy: "create it (ceph osd pool create \(name)) or name another; ceph osd pool ls shows them")
                }
                throw RadosError("rados_ioctx_create", "pool \(name)", result)
            }
            rados_ioctx_set_namespace(raw, namespace)
            return Pool(cluster, PoolHandle(raw), name: name, namespace: namespace)
        }
    }

    // MARK: Identity

    /// The addresses this client speaks from, as the blocklist wants them (`rados_getaddrs`), for instance
    /// `10.77.0.1:0/1234567890`: IP, port, nonce.
    public func addresses() throws(RadosError) -> String {
        var text: UnsafeMutablePointer<CChar>?
        let result = rados_getaddrs(handle.raw, &text)
        guard result == 0, let text else { throw RadosError("rados_getaddrs", name, result) }
        defer { rados_buffer_free(text) }
        return String(cString: text)
    }

    /// A setting as it counts for this client (`rados_conf_get`): of ceph.conf, of the cluster's own configuration, or Ceph's
    /// default; nil for a name that this librados does not know.
    public func setting(_ name: String) -> String? {
        var buffer = [CChar](repeating: 0, count: 1024)
        guard rados_conf_get(handle.raw, name, &buffer, buffer.count) == 0 else { return nil }
        return String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    // MARK: Monitors

    /// What a command printed.
    public struct CommandOutput: Sendable, Hashable {
        /// What it gave out, mostly JSON.
        public let data: [UInt8]
        /// What it says of itself.
        public let status: String

        /// The output as text.
        public var text: String { String(decoding: data, as: UTF8.self) }
    }

    /// Runs a monitor command (`rados_mon_command`), with its arguments as `ceph` would send them.
    ///
    /// - Parameters:
    ///   - prefix: the command's words: `osd pool create`.
    ///   - arguments: by name; `format` is JSON unless given.
    ///   - input: what `ceph -i` would send.
    public func monitorCommand(
        _ prefix: String, _ arguments: [String: CommandValue] = [:], input: [UInt8] = []
    ) async throws(RadosError) -> CommandOutput {
        var whole: [String: CommandValue] = ["prefix": .text(prefix), "format": .text("json")]
        whole.merge(arguments) { $1 }
        return try await monitorCommand(json: CommandValue.json(whole), input: input)
    }

    /// Runs a monitor command given as JSON: `{"prefix": "osd stat", "format": "json"}`.
    public func monitorCommand(json: String, input: [UInt8] = []) async throws(RadosError) -> CommandOutput {
        let cluster = self
        return try await Blocking.run(throwing: RadosError.self) { () throws(RadosError) -> CommandOutput in
            var data: UnsafeMutablePointer<CChar>?
            var dataLength = 0
            var status: UnsafeMutablePointer<CChar>?
            var statusLength = 0
            let result = json.withCString { command in
                var commands: [UnsafePointer<CChar>?] = [command]
                return input.withUnsafeBytes { bytes in
                    rados_mon_command(
                        cluster.handle.raw, &commands, 1, bytes.bindMemory(to: CChar.self).baseAddress, bytes.count,
                        &data, &dataLength, &status, &statusLength)
                }
            }
            defer {
                if let data { rados_buffer_free(data) }
                if let status { rados_buffer_free(status) }
            }
            let output = CommandOutput(
                data: bytes(data, dataLength), status: String(decoding: bytes(status, statusLength), as: UTF8.self))
            guard result >= 0 else {
                throw RadosError(
                    "rados_mon_command", json, result, detail: output.status.isEmpty ? nil : output.status)
            }
            return output
        }
    }

    // MARK: Fencing

    /// Puts a client on the cluster's blocklist (`rados_blocklist_add`).
    ///
    /// Returns when the monitors have it in a new OSD map. **An OSD enforces it once it has that map, not before**: until
    /// then it may still take a write of that client. An operation sent by a client that knows the map makes the OSD get
    /// the map first; so to be sure of an object, call ``waitForLatestOSDMap()`` and then operate on it, or have whoever
    /// uses the data raise its epoch barrier.
    ///
    /// - Parameters:
    ///   - address: as ``addresses()`` or a watcher's address gives it: `IP:port/nonce`, or `IP:0/0` for every client there.
    ///   - duration: for how long, in whole seconds; nil for the cluster's own default (an hour).
    public func blocklist(_ address: String, for duration: Duration? = nil) async throws(RadosError) {
        let cluster = self
        let seconds = UInt32(clamping: duration.map { $0.wholeSeconds } ?? 0)
        try await bounded("rados_blocklist_add", "client \(address)") { () throws(RadosError) in
            var text = Array(address.utf8CString)
            let result = rados_blocklist_add(cluster.handle.raw, &text, seconds)
            guard result == 0 else { throw RadosError("rados_blocklist_add", "client \(address)", result) }
        }
    }

    /// Lets a client back in (`osd blocklist rm`). One that is not on the list is no error.
    public func unblocklist(_ address: String) async throws(RadosError) {
        do throws(RadosError) {
            _ = try await monitorCommand(
                "osd blocklist", ["blocklistop": .text("rm"), "addr": .text(address)])
        } catch {
            if error.kind != .notFound { throw error }
        }
    }

    /// Waits until this client has the newest OSD map (`rados_wait_for_latest_osdmap`).
    public func waitForLatestOSDMap() async throws(RadosError) {
        let cluster = self
        try await bounded("rados_wait_for_latest_osdmap", name) { () throws(RadosError) in
            let result = rados_wait_for_latest_osdmap(cluster.handle.raw)
            guard result == 0 else { throw RadosError("rados_wait_for_latest_osdmap", cluster.name, result) }
        }
    }

    /// Runs a blocking call that waits for the monitors in a way `rados_mon_op_timeout` does not bound: a newer OSD map.
    private func bounded<Value: Sendable>(
        _ operation: String, _ object: String, _ body: @escaping @Sendable () throws(RadosError) -> Value
    ) async throws(RadosError) -> Value {
        let limit = options.timeouts.monitor.wholeSeconds
        // Later than librados' own bound, which is to tell where it can.
        return try await Blocking.run(
            atMost: .seconds(limit) + .milliseconds(500), otherwise: RadosError(operation, object, -ETIMEDOUT), body)
    }

    /// The monitors' current OSD map epoch (`osd stat`).
    public func osdMapEpoch() async throws(RadosError) -> UInt32 {
        struct Status: Decodable { var epoch: UInt32 }
        let output = try await monitorCommand("osd stat")
        guard let status = try? JSONDecoder().decode(Status.self, from: Data(output.data)) else {
            throw RadosError(
                .other, operation: "rados_mon_command", object: "osd stat", errno: .badMessage, detail: output.text)
        }
        return status.epoch
    }
}

/// An argument of a monitor command.
public enum CommandValue: Sendable, Hashable, Encodable {
    case text(String)
    case number(Int64)
    case flag(Bool)
    case list([String])

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .text(let value): try container.encode(value)
        case .number(let value): try container.encode(value)
        case .flag(let value): try container.encode(value)
        case .list(let value): try container.encode(value)
        }
    }

    /// A command as JSON, its keys in order.
    static func json(_ command: [String: CommandValue]) -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        guard let data = try? encoder.encode(command) else { return "{}" }
        return String(decoding: data, as: UTF8.self)
    }
}

/// The `rados_t`, shut down with its last user.
package final class ClusterHandle: Sendable {
    /// Safe to share: librados locks inside, and the pointer never changes.
    package nonisolated(unsafe) let raw: rados_t

    fileprivate init(_ raw: rados_t) {
        self.raw = raw
        ProcessEnd.opened()
    }

    deinit {
        nonisolated(unsafe) let raw = raw
        let shutDown = { @Sendable in
            rados_shutdown(raw)
            ProcessEnd.closed()
        }
        // If the last reference went with a callback: that thread cannot end librados, which waits for it.
        if LibraryThread.isCurrent { Blocking.detach(shutDown) } else { shutDown() }
    }
}

/// Holds up `exit(3)` while clusters are being shut down: it destroys librados' global variables and OpenSSL's, and threads of
/// librados that still run would crash.
private enum ProcessEnd {
    /// How long a cluster that somebody still uses holds up the end of the process.
    private static let patience = Duration.seconds(1)
    private static let open = Mutex(0)
    /// Registered after librados was loaded, so it runs before librados' own destructors.
    private static let whenLoaded: Void = register()
    /// Registered after OpenSSL, which librados begins to use when it connects, has registered `OPENSSL_cleanup`: what was
    /// registered last runs first.
    private static let whenConnected: Void = register()

    private static func register() {
        _ = atexit {
            let end = ContinuousClock.now + ProcessEnd.patience
            while ProcessEnd.open.withLock({ $0 }) > 0, ContinuousClock.now < end { usleep(1000) }
        }
    }

    static func opened() {
        _ = whenLoaded
        open.withLock { $0 += 1 }
    }

    static func connected() { _ = whenConnected }

    static func closed() { open.withLock { $0 -= 1 } }
}

/// The bytes librados allocated.
func bytes(_ start: UnsafeMutablePointer<CChar>?, _ count: Int) -> [UInt8] {
    guard let start, count > 0 else { return [] }
    return Array(UnsafeRawBufferPointer(start: start, count: count))
}

extension Duration {
    /// Whole seconds, rounded up, at least one.
    var wholeSeconds: Int64 {
        let (seconds, attoseconds) = components
        return max(1, attoseconds > 0 ? seconds + 1 : seconds)
    }
}
