// SPDX-License-Identifier: Apache-2.0

import CRados
import CRadosWatchers
import Synchronization
import SystemPackage

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// A notification that reached a watch.
///
/// The notifier waits until every watcher has acknowledged it or its time is over: acknowledge each, once what it asks for
/// is done.
public struct WatchNotification: Sendable {
    /// The notification's number, the same at every watcher.
    public let id: UInt64
    /// The ``Cluster/instanceID`` of the client that sent it.
    public let notifier: UInt64
    /// What it sent.
    public let payload: [UInt8]

    let pool: Pool
    let object: String
    let cookie: UInt64

    /// Acknowledges it (`rados_notify_ack`), with an answer for the notifier. Returns at once.
    ///
    /// - Throws: what librados gave; an answer that comes too late is no error.
    public func acknowledge(_ reply: [UInt8] = []) throws(RadosError) {
        let result = reply.withChars {
            rados_notify_ack(pool.handle.raw, object, id, cookie, $0, Int32(clamping: $1))
        }
        guard result == 0 else { throw RadosError("rados_notify_ack", pool.describe(object), result) }
    }
}

/// What librados' threads hand to a watch. It holds neither pool nor cluster, so that the last reference to those never goes
/// on a thread of librados.
struct WatchSink: Sendable {
    struct Item: Sendable {
        var id: UInt64
        var notifier: UInt64
        var cookie: UInt64
        var payload: [UInt8]
    }

    let continuation: AsyncThrowingStream<Item, any Error>.Continuation
    let dropped: Counter
    let subject: String
}

/// A number several threads count up.
final class Counter: Sendable {
    private let state = Mutex(0)
    var value: Int { state.withLock { $0 } }
    func increment() { state.withLock { $0 += 1 } }
}

/// Watches by the number that went into librados as the callbacks' argument.
private let sinks = Registry<WatchSink>()

/// A watch on an object (`rados_aio_watch2`): the notifications sent to it, as an `AsyncSequence` for one reader.
///
/// ```swift
/// let watch = try await pool.watch("clio.group.default")
/// for try await notification in watch {
///     try notification.acknowledge(Array("done".utf8))
/// }
/// ```
///
/// The sequence ends when the watch is closed. It **throws** `disconnected` (`ENOTCONN`), or what else Ceph says, when the
/// watch is lost: notifications may have been missed, so read the state anew, ``close()``, and watch again.
///
/// At most `capacity` notifications wait to be read. One that comes when there is no room is dropped and not acknowledged:
/// its sender learns of it as a timeout. ``dropped`` counts them.
public final class Watch: Sendable, AsyncSequence {
    public typealias Element = WatchNotification

    /// The object that is watched.
    public let object: String
    public let pool: Pool

    /// The number Ceph knows the watch by; with ``Cluster/instanceID`` it names this watch among all.
    public let cookie: UInt64

    private let id: UInt
    private let stream: AsyncThrowingStream<WatchSink.Item, any Error>
    private let sink: WatchSink
    private let open = Mutex(true)

    private init(
        _ pool: Pool, _ object: String, cookie: UInt64, id: UInt, sink: WatchSink,
        stream: AsyncThrowingStream<WatchSink.Item, any Error>
    ) {
        self.pool = pool
        self.object = object
        self.cookie = cookie
        self.id = id
        self.sink = sink
        self.stream = stream
    }

    /// Closes it in the background if nobody did.
    deinit {
        guard take() else { return }
        let (pool, cookie) = (pool, cookie)
        Blocking.detach { _ = rados_unwatch2(pool.handle.raw, cookie) }
    }

    static func start(
        _ pool: Pool, _ object: String, capacity: Int, expiry: Duration?
    ) async throws(RadosError) -> Watch {
        let (stream, continuation) = AsyncThrowingStream.makeStream(
            of: WatchSink.Item.self, throwing: (any Error).self,
            bufferingPolicy: .bufferingOldest(Swift.max(1, capacity)))
        let sink = WatchSink(continuation: continuation, dropped: Counter(), subject: pool.describe(object))
        let id = sinks.add(sink)
        let handle = HandleMemory()
        // One that comes about after the deadline is taken back. Not earlier: until its completion has run, librados may
        // free what the number stands for at any time, and it has done so if the completion brings an error.
        let late: @Sendable (CompletionResult) -> Void = { result in
            if result.code >= 0 { _ = rados_unwatch2(pool.handle.raw, handle.value) }
        }
        let deadline = pool.cluster.options.timeouts.osd
        let result = await Completion.run(keeping: handle, deadline: deadline, late: late) { completion in
            rados_aio_watch2(
                pool.handle.raw, object, completion, handle.pointer,
                { argument, notification, cookie, notifier, data, length in
                    LibraryThread.mark()
                    let sink = sinks[UInt(bitPattern: argument)]
                    let item = WatchSink.Item(
                        id: notification, notifier: notifier, cookie: cookie,
                        payload: bytes(data?.assumingMemoryBound(to: CChar.self), length))
                    if case .dropped = sink?.continuation.yield(item) { sink?.dropped.increment() }
                },
                { argument, _, code in
                    LibraryThread.mark()
                    let sink = sinks[UInt(bitPattern: argument)]
                    sink?.continuation.finish(
                        throwing: RadosError(
                            "rados_aio_watch2", sink?.subject ?? "", code == 0 ? -ENOTCONN : code,
                            detail: "notifications may have been missed"))
                },
                UInt32(clamping: expiry?.wholeSeconds ?? 0), UnsafeMutableRawPointer(bitPattern: id))
        }
        guard result.code >= 0 else {
            sinks.remove(id)
            throw RadosError("rados_aio_watch2", pool.describe(object), result.code)
        }
        return Watch(pool, object, cookie: handle.value, id: id, sink: sink, stream: stream)
    }

    /// Notifications that were dropped because nobody read fast enough.
    public var dropped: Int { sink.dropped.value }

    /// Time since the OSD last confirmed the watch (`rados_watch_check`), in milliseconds' resolution.
    ///
    /// - Throws: `disconnected` and others if the watch is lost; `invalid` if it is closed.
    public func check() throws(RadosError) -> Duration {
        // Under the lock: closing frees what the number stands for.
        let answer = open.withLock { open in open ? rados_watch_check(pool.handle.raw, cookie) : nil }
        guard let result = answer else {
            throw RadosError(
                .invalid, operation: "rados_watch_check", object: pool.describe(object), errno: .badFileDescriptor,
                detail: "the watch is closed")
        }
        guard result >= 0 else { throw RadosError("rados_watch_check", pool.describe(object), result) }
        return .milliseconds(result)
    }

    /// Ends the watch (`rados_aio_unwatch`) and the sequence. A second time does nothing.
    ///
    /// - Throws: what Ceph gave; the watch counts as closed nonetheless, and Ceph drops it when it expires.
    public func close() async throws(RadosError) {
        guard take() else { return }
        let (pool, cookie) = (pool, cookie)
        let result = await Completion.run(deadline: pool.cluster.options.timeouts.osd) { completion in
            rados_aio_unwatch(pool.handle.raw, cookie, completion)
        }
        // A watch that was lost is one Ceph may not know any more.
        guard result.code >= 0 || result.code == -ENOENT || result.code == -ENOTCONN else {
            throw RadosError("rados_aio_unwatch", pool.describe(object), result.code)
        }
    }

    /// Whether it was open. Callbacks that come later find nobody.
    private func take() -> Bool {
        let wasOpen = open.withLock { open in
            defer { open = false }
            return open
        }
        guard wasOpen else { return false }
        sinks.remove(id)
        sink.continuation.finish()
        return true
    }

    public func makeAsyncIterator() -> Iterator {
        Iterator(watch: self, items: stream.makeAsyncIterator())
    }

    public struct Iterator: AsyncIteratorProtocol {
        let watch: Watch
        var items: AsyncThrowingStream<WatchSink.Item, any Error>.Iterator

        fileprivate init(watch: Watch, items: AsyncThrowingStream<WatchSink.Item, any Error>.Iterator) {
            self.watch = watch
            self.items = items
        }

        public mutating func next() async throws -> WatchNotification? {
            guard let item = try await items.next() else { return nil }
            return WatchNotification(
                id: item.id, notifier: item.notifier, payload: item.payload, pool: watch.pool, object: watch.object,
                cookie: item.cookie)
        }
    }
}

/// Where librados writes a watch's number.
private final class HandleMemory: Sendable {
    /// Safe to share: written by librados before the completion, read after it.
    nonisolated(unsafe) let pointer = UnsafeMutablePointer<UInt64>.allocate(capacity: 1)

    init() { pointer.initialize(to: 0) }

    deinit { pointer.deallocate() }

    var value: UInt64 { pointer.pointee }
}

// MARK: Notifying

/// What came of a notification: who answered, and who did not in time.
public struct NotifyReply: Sendable, Hashable {
    /// A watcher that acknowledged.
    public struct Acknowledgement: Sendable, Hashable {
        /// Its ``Cluster/instanceID``.
        public var watcher: UInt64
        /// Its ``Watch/cookie``: one client may watch several times.
        public var cookie: UInt64
        /// Its answer.
        public var payload: [UInt8]

        public init(watcher: UInt64, cookie: UInt64, payload: [UInt8]) {
            self.watcher = watcher
            self.cookie = cookie
            self.payload = payload
        }
    }

    /// A watcher that did not acknowledge in time.
    public struct Silent: Sendable, Hashable {
        public var watcher: UInt64
        public var cookie: UInt64

        public init(watcher: UInt64, cookie: UInt64) {
            self.watcher = watcher
            self.cookie = cookie
        }
    }

    public var acknowledged: [Acknowledgement]
    public var timedOut: [Silent]

    /// Whether every watcher there was has acknowledged.
    public var isComplete: Bool { timedOut.isEmpty }

    public init(acknowledged: [Acknowledgement] = [], timedOut: [Silent] = []) {
        self.acknowledged = acknowledged
        self.timedOut = timedOut
    }

    /// Reads what `rados_aio_notify` gave: `le32` count of `{le64 client, le64 cookie, le32 length, bytes}`, then `le32`
    /// count of `{le64 client, le64 cookie}` (librados.h). Nil for anything else.
    public init?(decoding bytes: [UInt8]) {
        var reader = Reader(rest: bytes[...])
        var reply = NotifyReply()
        guard let acknowledgements = reader.integer(UInt32.self) else { return nil }
        for _ in 0..<acknowledgements {
            guard let watcher = reader.integer(UInt64.self), let cookie = reader.integer(UInt64.self),
                let length = reader.integer(UInt32.self), let payload = reader.bytes(Int(length))
            else { return nil }
            reply.acknowledged.append(Acknowledgement(watcher: watcher, cookie: cookie, payload: payload))
        }
        guard let silent = reader.integer(UInt32.self) else { return nil }
        for _ in 0..<silent {
            guard let watcher = reader.integer(UInt64.self), let cookie = reader.integer(UInt64.self) else {
                return nil
            }
            reply.timedOut.append(Silent(watcher: watcher, cookie: cookie))
        }
        guard reader.rest.isEmpty else { return nil }
        self = reply
    }

    /// Takes little-endian numbers and bytes off the front.
    private struct Reader {
        var rest: ArraySlice<UInt8>

        mutating func bytes(_ count: Int) -> [UInt8]? {
            guard rest.count >= count else { return nil }
            defer { rest = rest.dropFirst(count) }
            return Array(rest.prefix(count))
        }

        mutating func integer<Number: FixedWidthInteger & UnsignedInteger>(_: Number.Type) -> Number? {
            bytes(Number.bitWidth / 8).map { $0.reversed().reduce(0) { $0 << 8 | Number($1) } }
        }
    }
}

/// One who watches an object.
public struct Watcher: Sendable, Hashable {
    /// Its ``Cluster/instanceID``.
    public var instance: UInt64
    /// Its ``Watch/cookie``.
    public var cookie: UInt64
    /// Where it speaks from, as ``Cluster/blocklist(_:for:)`` wants it.
    public var address: String
    /// How long Ceph keeps the watch when it does not hear of the client any more, in seconds.
    public var expiry: UInt32

    public init(instance: UInt64, cookie: UInt64, address: String, expiry: UInt32) {
        self.instance = instance
        self.cookie = cookie
        self.address = address
        self.expiry = expiry
    }
}

/// Where librados leaves the answer to a notification.
private final class ReplyMemory: Sendable {
    /// Safe to share: written by librados before the completion, read after it.
    nonisolated(unsafe) let buffer = UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>.allocate(capacity: 1)
    nonisolated(unsafe) let length = UnsafeMutablePointer<Int>.allocate(capacity: 1)

    init() {
        buffer.initialize(to: nil)
        length.initialize(to: 0)
    }

    deinit {
        if let reply = buffer.pointee { rados_buffer_free(reply) }
        buffer.deallocate()
        length.deallocate()
    }
}

extension Pool {
    /// Watches an object, which has to exist.
    ///
    /// - Parameters:
    ///   - capacity: how many notifications may wait to be read, at least 1.
    ///   - expiry: how long Ceph keeps the watch when it does not hear of this client any more; nil for the cluster's
    ///     default (30 s).
    /// - Throws: `notFound` if there is no such object; `timedOut`.
    public func watch(
        _ object: String, capacity: Int = 256, expiry: Duration? = nil
    ) async throws(RadosError) -> Watch {
        try await Watch.start(self, object, capacity: capacity, expiry: expiry)
    }

    /// Sends a notification to all who watch an object (`rados_aio_notify`) and waits for their answers.
    ///
    /// - Parameters:
    ///   - payload: what they get.
    ///   - timeout: how long the watchers have to acknowledge; the OSD measures it, in whole seconds.
    /// - Returns: who answered and who did not in time. That some did not is not an error.
    /// - Throws: `notFound` if there is no such object; `timedOut` if the OSD itself does not answer.
    public func notify(
        _ object: String, _ payload: [UInt8] = [], timeout: Duration = .seconds(5)
    ) async throws(RadosError) -> NotifyReply {
        let memory = ReplyMemory()
        let whole = timeout.wholeSeconds
        let result = await Completion.run(
            keeping: memory, deadline: .seconds(whole) + cluster.options.timeouts.osd
        ) { completion in
            payload.withChars {
                rados_aio_notify(
                    handle.raw, object, completion, $0, Int32(clamping: $1), UInt64(whole) * 1000, memory.buffer,
                    memory.length)
            }
        }
        // Watchers that did not answer make it ETIMEDOUT, with the reply filled in. One that is our own deadline has none.
        if result.completed, result.code >= 0 || result.code == -ETIMEDOUT {
            let answer = bytes(memory.buffer.pointee, memory.length.pointee)
            if let reply = NotifyReply(decoding: answer) { return reply }
            if result.code >= 0 {
                throw RadosError(
                    .other, operation: "rados_aio_notify", object: describe(object), errno: .badMessage,
                    detail: "the reply of \(answer.count) bytes cannot be read")
            }
        }
        throw RadosError("rados_aio_notify", describe(object), result.code)
    }

    /// Who watches an object, this client included (`librados::IoCtx::list_watchers`), by instance and cookie.
    ///
    /// - Note: one that died stays in the list until its watch expires.
    public func watchers(_ object: String) async throws(RadosError) -> [Watcher] {
        let pool = self
        return try await Blocking.run(throwing: RadosError.self) { () throws(RadosError) -> [Watcher] in
            var list: UnsafeMutablePointer<clio_rados_watcher>?
            var count = 0
            let result = clio_rados_list_watchers(pool.handle.raw, object, &list, &count)
            guard result == 0 else { throw RadosError("list_watchers", pool.describe(object), result) }
            defer { free(list) }
            let found = UnsafeBufferPointer(start: list, count: count).map { entry in
                Watcher(
                    instance: UInt64(bitPattern: entry.instance), cookie: entry.cookie,
                    address: withUnsafeBytes(of: entry.address) {
                        String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
                    }, expiry: entry.expiry_seconds)
            }
            return found.sorted { ($0.instance, $0.cookie) < ($1.instance, $1.cookie) }
        }
    }
}
