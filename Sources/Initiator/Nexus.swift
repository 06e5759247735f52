// SPDX-License-Identifier: Apache-2.0

import CISCSI
import Foundation
import Glibc
import Synchronization

/// An I_T nexus with many commands outstanding at once: an iSCSI session that a thread of its own drives.
///
/// `send` may be called from any number of tasks; each waits for its own answer, so the queue depth is the number of
/// tasks that wait. The thread also answers the target's NOP-Ins, which an idle ``ISCSISession`` does not.
///
/// ```swift
/// let nexus = try await Nexus.login(portal: "10.77.0.11:3260", target: iqn)
/// async let first = nexus.send(.read(0, blocks: 8))
/// async let second = nexus.send(.read(8, blocks: 8))
/// print(try await first, try await second)
/// await nexus.close()
/// ```
public final class Nexus: Sendable {
    /// The portal, `address:port`.
    public let portal: String
    private let mailbox: Mailbox

    /// Logs in.
    ///
    /// - Parameters: as for ``ISCSISession``.
    ///   - namespace: the network namespace that the portal is reached from (`ip netns`); nil for the process's own.
    /// - Throws: `ISCSIError` if the portal does not answer or refuses, or the namespace cannot be entered.
    public static func login(
        portal: String, target: String, initiator: String = "iqn.2026-11.example.clio:initiator", isid: UInt32? = nil,
        chap: ISCSISession.CHAP? = nil, mutual: ISCSISession.CHAP? = nil, timeout: Int32 = 30, namespace: String? = nil
    ) async throws -> Nexus {
        let mailbox = try Mailbox()
        return try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Nexus, any Error>) in
            Thread.detachNewThread {
                let session: ISCSISession
                do {
                    if let namespace { try enterNetworkNamespace(namespace) }
                    session = try ISCSISession(
                        portal: portal, target: target, initiator: initiator, isid: isid, chap: chap, mutual: mutual,
                        timeout: timeout)
                } catch {
                    continuation.resume(throwing: error)
                    return
                }
                continuation.resume(returning: Nexus(portal: portal, mailbox: mailbox))
                Driver(session: session, mailbox: mailbox).run()
            }
        }
    }

    private init(portal: String, mailbox: Mailbox) {
        self.portal = portal
        self.mailbox = mailbox
    }

    deinit { mailbox.close() }

    /// Sends one command and waits for its status, while others are outstanding.
    ///
    /// - Throws: `ISCSIError` if the session is or gets lost, or the command's time is up: it has no answer then.
    public func send(_ command: SCSICommand, lun: Int = 0) async throws -> SCSIReply {
        try await withCheckedThrowingContinuation { continuation in
            post(.command(command, lun: lun) { continuation.resume(with: $0) })
        }
    }

    /// Sends a command whose status has to be GOOD, and returns its data.
    @discardableResult
    public func good(_ command: SCSICommand, lun: Int = 0) async throws -> [UInt8] {
        try await send(command, lun: lun).requireGood(command, lun: lun, portal: portal)
    }

    /// Takes the unit attentions that wait for this I_T nexus, at most eight of them.
    public func ready(lun: Int = 0) async throws {
        for _ in 0..<8 where try await send(.testUnitReady, lun: lun).isGood { return }
        try await good(.testUnitReady, lun: lun)
    }

    /// Sends commands with up to `depth` of them outstanding.
    ///
    /// - Parameters:
    ///   - depth: at least 1.
    ///   - next: the next command; nil ends it. Called from many tasks at once.
    ///   - answered: called with each command and its reply, from many tasks at once.
    /// - Throws: what `send` throws, and `answered`.
    public func pipeline(
        depth: Int, lun: Int = 0, next: @escaping @Sendable () -> SCSICommand?,
        answered: @escaping @Sendable (SCSICommand, SCSIReply) throws -> Void
    ) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<max(1, depth) {
                group.addTask {
                    while let command = next() { try answered(command, try await self.send(command, lun: lun)) }
                }
            }
            try await group.waitForAll()
        }
    }

    /// Sends a task management request that concerns more than one task, and waits for the response. Commands that it
    /// ends at the device are ended here only by the device's answer, or by their time.
    public func manage(_ function: TaskManagement, lun: Int = 0) async throws -> TaskManagementResponse {
        try await withCheckedThrowingContinuation { continuation in
            post(.management(function, lun: lun) { continuation.resume(with: $0) })
        }
    }

    /// Logs out. Commands that are outstanding end in an error. Closing twice is no error.
    public func close() async {
        await withCheckedContinuation { continuation in
            if !mailbox.post(.close { continuation.resume() }) { continuation.resume() }
        }
    }

    private func post(_ request: Request) {
        if !mailbox.post(request) {
            request.fail(ISCSIError(operation: request.name, portal: portal, text: "the session is closed or lost"))
        }
    }
}

/// Task management functions (RFC 7143, 11.5.1) that name no single task.
public enum TaskManagement: UInt32, Sendable, CaseIterable {
    case abortTaskSet = 2
    case clearTaskSet = 4
    case logicalUnitReset = 5
    case targetWarmReset = 6
    case targetColdReset = 7
}

/// How a task management request ended (RFC 7143, 11.6.1).
public enum TaskManagementResponse: Sendable, Hashable {
    case complete
    case taskDoesNotExist
    case logicalUnitDoesNotExist
    case notSupported
    case notAuthorized
    case rejected
    case other(UInt32)

    init(_ code: UInt32) {
        self =
            switch code {
            case 0: .complete
            case 1: .taskDoesNotExist
            case 2: .logicalUnitDoesNotExist
            case 5: .notSupported
            case 6: .notAuthorized
            case 255: .rejected
            default: .other(code)
            }
    }
}

/// What the thread of a nexus is asked to do, and whom it tells.
private enum Request: Sendable {
    case command(SCSICommand, lun: Int, @Sendable (Result<SCSIReply, any Error>) -> Void)
    case management(TaskManagement, lun: Int, @Sendable (Result<TaskManagementResponse, any Error>) -> Void)
    case close(@Sendable () -> Void)

    var name: String {
        switch self {
        case .command(let command, _, _): command.name
        case .management(let function, _, _): "task management function \(function.rawValue)"
        case .close: "log out"
        }
    }

    func fail(_ error: ISCSIError) {
        switch self {
        case .command(_, _, let done): done(.failure(error))
        case .management(_, _, let done): done(.failure(error))
        case .close(let done): done()
        }
    }
}

/// Requests on their way to the thread of a nexus, and the descriptor that wakes it (`eventfd(2)`).
private final class Mailbox: Sendable {
    private struct State {
        var requests: [Request] = []
        var isOpen = true
        let wake: Int32
    }
    private let state: Mutex<State>
    let wake: Int32

    init() throws(ISCSIError) {
        wake = eventfd(0, Int32(EFD_CLOEXEC) | Int32(EFD_NONBLOCK))
        guard wake >= 0 else {
            throw ISCSIError(operation: "eventfd", portal: "-", text: String(cString: strerror(errno)))
        }
        state = Mutex(State(wake: wake))
    }

    deinit { Glibc.close(wake) }

    /// - Returns: false if nobody will take it.
    func post(_ request: Request) -> Bool {
        state.withLock { state in
            guard state.isOpen else { return false }
            state.requests.append(request)
            if state.requests.count == 1 { eventfd_write(state.wake, 1) }
            return true
        }
    }

    /// The thread is to log out when nobody can ask it for anything any more.
    func close() { _ = post(.close {}) }

    /// All requests so far, in order.
    func take() -> [Request] {
        var count: eventfd_t = 0
        eventfd_read(wake, &count)
        return state.withLock { state in
            defer { state.requests = [] }
            return state.requests
        }
    }

    /// Takes no more requests; those that are there are returned.
    func end() -> [Request] {
        state.withLock { state in
            state.isOpen = false
            defer { state.requests = [] }
            return state.requests
        }
    }
}

/// A command or task management request that libiscsi has. libiscsi calls back exactly once for each, at the latest when
/// the context is destroyed, so it holds one reference that the callback releases.
private final class Outstanding {
    private let request: Request
    private let portal: String
    private let task: UnsafeMutablePointer<scsi_task>?
    /// The Data-Out Buffer, which has to stay where it is until the command has ended.
    private let output: UnsafeMutableBufferPointer<UInt8>
    /// libiscsi has given up the session: it says so by ending all that is outstanding, and in no other way.
    private let cancelled: () -> Void

    init(
        _ request: Request, portal: String, task: UnsafeMutablePointer<scsi_task>? = nil, output: [UInt8] = [],
        cancelled: @escaping () -> Void
    ) {
        self.request = request
        self.portal = portal
        self.task = task
        self.cancelled = cancelled
        self.output = .allocate(capacity: output.count)
        _ = self.output.initialize(from: output)
    }

    deinit {
        output.deallocate()
        if let task { scsi_free_scsi_task(task) }
    }

    /// The Data-Out Buffer as libiscsi takes it.
    var data: iscsi_data { iscsi_data(size: output.count, data: output.baseAddress) }

    func answer(_ context: OpaquePointer?, status: Int32, data: UnsafeMutableRawPointer?) {
        switch request {
        case .command(_, _, let done):
            if (0...0xFF).contains(status), let task, let reply = ISCSISession.reply(task) {
                done(.success(reply))
                return
            }
        case .management(_, _, let done):
            if status == 0, let data {
                done(.success(TaskManagementResponse(data.load(as: UInt32.self))))
                return
            }
        case .close:
            return
        }
        if UInt32(bitPattern: status) == SCSI_STATUS_CANCELLED.rawValue { cancelled() }
        let text =
            switch UInt32(bitPattern: status) {
            case SCSI_STATUS_TIMEOUT.rawValue: "no answer in time"
            case SCSI_STATUS_CANCELLED.rawValue: "the session was lost or closed"
            default: context.flatMap(iscsi_get_error).map { String(cString: $0) } ?? "no reason given"
            }
        request.fail(ISCSIError(operation: request.name, portal: portal, text: text))
    }
}

/// The thread's side of a nexus.
private final class Driver {
    private let session: ISCSISession
    private let mailbox: Mailbox
    private var isLost = false

    init(session: ISCSISession, mailbox: Mailbox) {
        self.session = session
        self.mailbox = mailbox
    }

    func run() {
        let context = session.context
        var closing: [Request] = []
        while closing.isEmpty, !isLost {
            for request in mailbox.take() {
                if case .close = request { closing.append(request) } else { submit(request) }
            }
            var polls = [
                pollfd(fd: iscsi_get_fd(context), events: Int16(iscsi_which_events(context)), revents: 0),
                pollfd(fd: mailbox.wake, events: Int16(POLLIN), revents: 0),
            ]
            // libiscsi looks after the commands' time limits when it is called, so at least once a second.
            if closing.isEmpty, poll(&polls, 2, 1000) < 0, errno != EINTR { isLost = true }
            if iscsi_service(context, Int32(polls[0].revents)) < 0 || iscsi_is_logged_in(context) == 0 { isLost = true }
        }
        let late = mailbox.end()
        // Before the commands go: the target would wait for what it will never get of them.
        if isLost { session.abandon() }
        iscsi_scsi_cancel_all_tasks(context)
        session.end()
        let lost = ISCSIError(operation: "session", portal: session.portal, text: "the session is closed or lost")
        for request in closing + late { request.fail(lost) }
    }

    private func submit(_ request: Request) {
        let context = session.context
        switch request {
        case .command(let command, let lun, _):
            guard let task = ISCSISession.task(command) else {
                request.fail(session.failure(command.name))
                return
            }
            let entry = Outstanding(request, portal: session.portal, task: task, output: command.output) {
                [weak self] in self?.isLost = true
            }
            var data = entry.data
            let reference = Unmanaged.passRetained(entry)
            let status = withUnsafeMutablePointer(to: &data) { data in
                iscsi_scsi_command_async(
                    context, Int32(lun), task, answered, command.output.isEmpty ? nil : data, reference.toOpaque())
            }
            if status != 0 { refuse(request, reference) }
        case .management(let function, let lun, _):
            let entry = Outstanding(request, portal: session.portal) { [weak self] in self?.isLost = true }
            let reference = Unmanaged.passRetained(entry)
            // Referenced task tag: FFFFFFFFh where no task is named (RFC 7143, 11.5.4).
            let status = iscsi_task_mgmt_async(
                context, Int32(lun), iscsi_task_mgmt_funcs(function.rawValue), 0xFFFF_FFFF, 0, answered,
                reference.toOpaque())
            if status != 0 { refuse(request, reference) }
        case .close:
            break
        }
    }

    /// libiscsi did not take a request, so it will not call back.
    private func refuse(_ request: Request, _ reference: Unmanaged<Outstanding>) {
        reference.release()
        request.fail(session.failure(request.name))
    }
}

/// libiscsi's callback (`iscsi_command_cb`).
private func answered(
    _ context: OpaquePointer?, _ status: Int32, _ data: UnsafeMutableRawPointer?, _ reference: UnsafeMutableRawPointer?
) {
    guard let reference else { return }
    Unmanaged<Outstanding>.fromOpaque(reference).takeRetainedValue().answer(context, status: status, data: data)
}
