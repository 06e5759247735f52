// SPDX-License-Identifier: Apache-2.0

import CNetlink
import Dispatch
import Synchronization
import SystemPackage

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// A generic netlink socket: requests to families of the kernel's, and what they send by themselves.
///
/// The kernel works on a request while it is being sent, and answers before that returns. So sending happens on a queue of
/// the socket's own, one request after the other in the order they were made; those that say that they take their time
/// go beside it.
///
/// ```swift
/// let socket = try GenericNetlink()
/// let family = try await socket.family("blk-cluster")
/// try await socket.join("monitor", of: family)
/// let devices = try await socket.dump(family, 13, "device-get")
/// for try await message in socket.notifications { … }
/// ```
public final class GenericNetlink: Sendable {
    /// A family of the kernel's.
    public struct Family: Sendable, Hashable {
        public var name: String
        public var id: UInt16
        public var version: UInt32
        /// Numbers of the multicast groups, by name.
        public var groups: [String: UInt32]
    }

    /// The controller, which knows the others (`GENL_ID_CTRL`).
    public static let controller = Family(name: "nlctrl", id: UInt16(GENL_ID_CTRL), version: 2, groups: [:])

    /// What came without a request, of all families and groups; for one reader. Ends with an error when the socket is
    /// closed, or when something was lost.
    public let notifications: AsyncThrowingStream<GenericMessage, any Error>

    /// One request under way.
    private struct Pending {
        let family: String
        let operation: String
        var replies: [GenericMessage] = []
        var interrupted = false
        var waiter: CheckedContinuation<Result<[GenericMessage], NetlinkError>, Never>
    }

    private struct State {
        var sequence: UInt32 = 0
        var pending: [UInt32: Pending] = [:]
        var closed = false
        /// A socket has one dump at a time (`EBUSY`).
        var dumping = false
        var waitingToDump: [CheckedContinuation<Void, Never>] = []
    }

    private let handle: SocketHandle
    private let state = Mutex(State())
    private let notified: AsyncThrowingStream<GenericMessage, any Error>.Continuation
    private let sender = DispatchQueue(label: "clio.netlink.send")
    private let receiver = DispatchQueue(label: "clio.netlink.receive")
    /// Safe to share: set up before it is shared; cancelling is all that is done to it later, from anywhere.
    private nonisolated(unsafe) let source: any DispatchSourceRead

    /// Opens a socket (`genl_connect`).
    ///
    /// - Parameter capacity: how many notifications may wait to be read, at least 1.
    public init(capacity: Int = 4096) throws(NetlinkError) {
        handle = try SocketHandle()
        (notifications, notified) = AsyncThrowingStream.makeStream(
            of: GenericMessage.self, throwing: (any Error).self, bufferingPolicy: .bufferingOldest(max(1, capacity)))
        source = DispatchSource.makeReadSource(fileDescriptor: handle.descriptor, queue: receiver)
        source.setEventHandler { [weak self] in self?.receive() }
        // The descriptor must live until the source is done with it.
        source.setCancelHandler { [handle] in _ = handle }
        source.activate()
    }

    deinit { close() }

    /// Closes it: requests under way and the notifications end. A second time does nothing.
    public func close() { end(.closed, Errno(rawValue: ESHUTDOWN)) }

    // MARK: Families

    /// A family by name (`CTRL_CMD_GETFAMILY`).
    ///
    /// - Throws: `noFamily` if the kernel has none of that name.
    public func family(_ name: String) async throws(NetlinkError) -> Family {
        var attributes = Attributes()
        attributes.put(UInt16(CTRL_ATTR_FAMILY_NAME), string: name)
        let operation = "look up"
        let replies: [GenericMessage]
        do {
            replies = try await exchange(
                Self.controller, UInt8(CTRL_CMD_GETFAMILY), operation, attributes, flags: 0, beside: false)
        } catch  where error.errno == .noSuchFileOrDirectory {
            throw NetlinkError(
                .noFamily, family: name, operation: operation, errno: error.errno,
                remedy: "load the module that has it, or boot a kernel that does")
        }
        guard let reply = replies.last?.attributes,
            let id = reply.number(UInt16(CTRL_ATTR_FAMILY_ID), as: UInt16.self)
        else { throw .malformed(name, operation, "no number") }
        var groups: [String: UInt32] = [:]
        for group in reply.nested(UInt16(CTRL_ATTR_MCAST_GROUPS))?.list ?? [] {
            guard let group = Attributes(decoding: group.payload),
                let groupName = group.string(UInt16(CTRL_ATTR_MCAST_GRP_NAME)),
                let number = group.number(UInt16(CTRL_ATTR_MCAST_GRP_ID), as: UInt32.self)
            else { continue }
            groups[groupName] = number
        }
        return Family(
            name: name, id: id, version: reply.number(UInt16(CTRL_ATTR_VERSION), as: UInt32.self) ?? 1, groups: groups)
    }

    /// Joins a multicast group of a family's (`nl_socket_add_membership`): what it sends comes as ``notifications``.
    public func join(_ group: String, of family: Family) throws(NetlinkError) {
        guard let number = family.groups[group] else {
            throw NetlinkError(
                .noGroup, family: family.name, operation: "join \(group)", errno: .noSuchFileOrDirectory)
        }
        // libnl's own codes say less than errno does.
        errno = 0
        guard nl_socket_add_membership(handle.raw, Int32(number)) == 0 else {
            throw .refused(family.name, "join \(group)", errno == 0 ? EINVAL : errno)
        }
    }

    // MARK: Requests

    /// Asks for something to be done, and waits until the kernel has acknowledged it.
    ///
    /// - Parameters:
    ///   - operation: what errors call it.
    ///   - beside: do not let requests made later wait for this one, which may take long.
    /// - Returns: what it answered, if it answers more than that it is done.
    @discardableResult
    public func request(
        _ family: Family, _ command: UInt8, _ operation: String, _ attributes: Attributes = Attributes(),
        beside: Bool = false
    ) async throws(NetlinkError) -> GenericMessage? {
        try await exchange(family, command, operation, attributes, flags: 0, beside: beside).last
    }

    /// Asks for a list (`NLM_F_DUMP`). One that changed while it was being read is read again, up to four times; then what
    /// was read last is as good as it gets.
    public func dump(
        _ family: Family, _ command: UInt8, _ operation: String, _ attributes: Attributes = Attributes()
    ) async throws(NetlinkError) -> [GenericMessage] {
        await beginDump()
        defer { endDump() }
        var attempt = 0
        while true {
            do {
                return try await exchange(
                    family, command, operation, attributes, flags: UInt16(NLM_F_ROOT | NLM_F_MATCH), beside: false)
            } catch  where error.errno == .interrupted && attempt < 4 {
                attempt += 1
            }
        }
    }

    private func beginDump() async {
        await withCheckedContinuation { waiter in
            let mayGo = state.withLock { state in
                guard state.dumping else {
                    state.dumping = true
                    return true
                }
                state.waitingToDump.append(waiter)
                return false
            }
            if mayGo { waiter.resume() }
        }
    }

    private func endDump() {
        let next: CheckedContinuation<Void, Never>? = state.withLock { state in
            guard state.waitingToDump.isEmpty else { return state.waitingToDump.removeFirst() }
            state.dumping = false
            return nil
        }
        next?.resume()
    }

    private func exchange(
        _ family: Family, _ command: UInt8, _ operation: String, _ attributes: Attributes, flags: UInt16, beside: Bool
    ) async throws(NetlinkError) -> [GenericMessage] {
        let message = GenericMessage(
            family: family.id, command: command, version: UInt8(truncatingIfNeeded: family.version),
            attributes: attributes)
        let result = await withCheckedContinuation { waiter in
            let sequence: UInt32? = state.withLock { state in
                guard !state.closed else { return nil }
                // 0 is what the kernel sends by itself.
                repeat { state.sequence &+= 1 } while state.sequence == 0 || state.pending[state.sequence] != nil
                state.pending[state.sequence] = Pending(
                    family: family.name, operation: operation, waiter: waiter)
                return state.sequence
            }
            guard let sequence else {
                return waiter.resume(
                    returning: .failure(
                        NetlinkError(
                            .closed, family: family.name, operation: operation, errno: Errno(rawValue: ESHUTDOWN))))
            }
            let frame = Frame.request(
                message, flags: UInt16(NLM_F_REQUEST | NLM_F_ACK) | flags, sequence: sequence, port: handle.port)
            let queue = beside ? DispatchQueue.global() : sender
            queue.async { [self] in send(frame, sequence) }
        }
        return try result.get()
    }

    private func send(_ frame: [UInt8], _ sequence: UInt32) {
        var sent: Int
        repeat {
            sent = frame.withUnsafeBytes { Glibc.send(handle.descriptor, $0.baseAddress, $0.count, 0) }
        } while sent < 0 && errno == EINTR
        // An error of the request itself comes as a reply; this one is of the socket.
        if sent < 0 { finish(sequence, code: errno) }
    }

    // MARK: Receiving

    /// Runs on `receiver` whenever there is something to read.
    private func receive() {
        while true {
            switch handle.read() {
            case .datagram(let datagram): for frame in Frame.decode(datagram) { take(frame) }
            case .foreign: break
            case .nothing: return
            case .failed(let code):
                end(code == ENOBUFS ? .overrun : .closed, Errno(rawValue: code))
                return
            }
        }
    }

    private func take(_ frame: Frame) {
        switch frame.content {
        case .message(let message):
            let isReply = state.withLock { state in
                guard frame.sequence != 0, state.pending[frame.sequence] != nil else { return false }
                state.pending[frame.sequence]?.replies.append(message)
                if frame.flags & UInt16(NLM_F_DUMP_INTR) != 0 {
                    state.pending[frame.sequence]?.interrupted = true
                }
                return true
            }
            if !isReply, case .dropped = notified.yield(message) { end(.overrun, Errno(rawValue: ENOBUFS)) }
        case .acknowledgement(let code, let words): finish(frame.sequence, code: code, words)
        case .done(let code):
            let changed = frame.flags & UInt16(NLM_F_DUMP_INTR) != 0
            finish(frame.sequence, code: changed && code == 0 ? EINTR : code)
        case .other: break
        }
    }

    private func finish(_ sequence: UInt32, code: Int32, _ words: String? = nil) {
        guard let call = state.withLock({ $0.pending.removeValue(forKey: sequence) }) else { return }
        let code = code == 0 && call.interrupted ? EINTR : code
        guard code != 0 else { return call.waiter.resume(returning: .success(call.replies)) }
        call.waiter.resume(returning: .failure(.refused(call.family, call.operation, code, words)))
    }

    private func end(_ kind: NetlinkError.Kind, _ code: Errno) {
        let calls: [Pending]? = state.withLock { state in
            guard !state.closed else { return nil }
            state.closed = true
            defer { state.pending = [:] }
            return Array(state.pending.values)
        }
        guard let calls else { return }
        source.cancel()
        for call in calls {
            call.waiter.resume(
                returning: .failure(NetlinkError(kind, family: call.family, operation: call.operation, errno: code)))
        }
        notified.finish(throwing: NetlinkError(kind, family: "generic", operation: "receive", errno: code))
    }
}

/// libnl's socket (`struct nl_sock`), freed with its last user.
private final class SocketHandle: Sendable {
    /// Safe to share: set up before it is shared; then only the descriptor is used, and membership, which is one
    /// `setsockopt`.
    nonisolated(unsafe) let raw: OpaquePointer
    let descriptor: Int32
    /// The socket's number, which the kernel answers to.
    let port: UInt32

    /// Room for messages that nobody has read yet, in bytes, as far as `net.core.rmem_max` goes.
    private static let receiveBuffer: Int32 = 1 << 20
    /// More than the longest message: payload, names, and the controller's list of operations.
    private static let longest = 64 << 10

    init() throws(NetlinkError) {
        func failed(_ operation: String) -> NetlinkError {
            .refused("generic", operation, errno == 0 ? ENOMEM : errno)
        }
        guard let raw = nl_socket_alloc() else { throw failed("nl_socket_alloc") }
        guard genl_connect(raw) == 0 else {
            let error = failed("genl_connect")
            nl_socket_free(raw)
            throw error
        }
        self.raw = raw
        descriptor = nl_socket_get_fd(raw)
        port = nl_socket_get_local_port(raw)
        nl_socket_set_nonblocking(raw)
        nl_socket_set_buffer_size(raw, Self.receiveBuffer, 0)
        var on: Int32 = 1
        for option in [NETLINK_EXT_ACK, NETLINK_CAP_ACK] {
            setsockopt(descriptor, SOL_NETLINK, option, &on, socklen_t(MemoryLayout<Int32>.size))
        }
    }

    deinit { nl_socket_free(raw) }

    enum Reading {
        case datagram([UInt8])
        /// Not from the kernel.
        case foreign
        case nothing
        case failed(Int32)
    }

    func read() -> Reading {
        var sender = sockaddr_nl()
        var length = socklen_t(MemoryLayout<sockaddr_nl>.size)
        var count = 0
        let datagram = [UInt8](unsafeUninitializedCapacity: Self.longest) { buffer, used in
            count = withUnsafeMutablePointer(to: &sender) { sender in
                sender.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    recvfrom(descriptor, buffer.baseAddress, buffer.count, Int32(MSG_TRUNC), $0, &length)
                }
            }
            used = max(0, min(count, buffer.count))
        }
        guard count >= 0 else {
            switch errno {
            case EAGAIN, EINTR: return .nothing
            default: return .failed(errno)
            }
        }
        guard count > 0, sender.nl_pid == 0 else { return .foreign }
        return count > Self.longest ? .failed(EMSGSIZE) : .datagram(datagram)
    }
}
