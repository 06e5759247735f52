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
    ///   - attributes: whether there will be commands with another task attribute than SIMPLE, which take a detour.
    /// - Throws: `ISCSIError` if the portal does not answer or refuses, or the namespace cannot be entered.
    public static func login(
        portal: String, target: String, initiator: String = "iqn.2026-11.example.clio:initiator", isid: UInt32? = nil,
        chap: ISCSISession.CHAP? = nil, mutual: ISCSISession.CHAP? = nil, timeout: Int32 = 30, namespace: String? = nil,
        attributes: Bool = false
    ) async throws -> Nexus {
        let mailbox = try Mailbox()
        return try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Nexus, any Error>) in
            Thread.detachNewThread {
                let (session, writer): (ISCSISession, AttributeWriter?)
                do {
                    if let namespace { try enterNetworkNamespace(namespace) }
                    session = try ISCSISession(
                        portal: portal, target: target, initiator: initiator, isid: isid, chap: chap, mutual: mutual,
                        timeout: timeout)
                    writer = attributes ? try AttributeWriter(session) : nil
                } catch {
                    continuation.resume(throwing: error)
                    return
                }
                continuation.resume(returning: Nexus(portal: portal, mailbox: mailbox))
                let driver = Driver(session: session, mailbox: mailbox, writer: writer)
                // Its callbacks only know it weakly.
                withExtendedLifetime(driver) { driver.run() }
            }
        }
    }

    /// Logs in within a time; a login that comes later is given up.
    ///
    /// - Parameters: as for ``login(portal:target:initiator:isid:chap:mutual:timeout:namespace:attributes:)``.
    ///   - limit: how long it may take.
    /// - Throws: as there, and if it takes longer.
    public static func login(
        within limit: Duration, portal: String, target: String, initiator: String, isid: UInt32? = nil, timeout: Int32,
        namespace: String?, attributes: Bool = false
    ) async throws -> Nexus {
        let attempt = OneOf<Nexus>()
        Task {
            do {
                let nexus = try await login(
                    portal: portal, target: target, initiator: initiator, isid: isid, timeout: timeout,
                    namespace: namespace, attributes: attributes)
                if !attempt.settle(.success(nexus)) { await nexus.close() }
            } catch { attempt.settle(.failure(error)) }
        }
        Task {
            try? await Task.sleep(for: limit)
            attempt.settle(.failure(ISCSIError(operation: "log in", portal: portal, text: "no answer in \(limit)")))
        }
        return try await attempt.value
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
        try await start(command, lun: lun).value
    }

    /// Sends one command, without waiting for its status.
    public func start(_ command: SCSICommand, lun: Int = 0) -> Pending<SCSIReply> {
        let pending = Pending<SCSIReply>(lun: lun)
        post(.command(command, pending))
        return pending
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
        try await startManaging(function, lun: lun).value
    }

    /// Sends a task management request that concerns more than one task, without waiting for the response.
    public func startManaging(_ function: TaskManagement, lun: Int = 0) -> Pending<TaskManagementResponse> {
        let pending = Pending<TaskManagementResponse>(lun: lun)
        post(.management(function, pending))
        return pending
    }

    /// Sends ABORT TASK for a command of this nexus that has no answer yet, without waiting for the response. It is answered
    /// TASK DOES NOT EXIST, and not sent, if the command has an answer.
    public func startAborting(_ command: Pending<SCSIReply>) -> Pending<TaskManagementResponse> {
        let pending = Pending<TaskManagementResponse>(lun: command.lun)
        post(.abort(command, pending))
        return pending
    }

    /// Logs out. Commands that are outstanding end in an error. Closing twice is no error.
    public func close() async {
        await withCheckedContinuation { continuation in
            if !mailbox.post(.close { continuation.resume() }) { continuation.resume() }
        }
    }

    /// Closes the connection without a word, and with it the session. Commands that are outstanding end in an error.
    public func drop() async {
        await withCheckedContinuation { continuation in
            if !mailbox.post(.drop { continuation.resume() }) { continuation.resume() }
        }
    }

    /// From now on the host neither reads nor writes, and answers no NOP-In; its TCP connection stays. Commands that are
    /// outstanding have no answer until ``drop()`` or ``close()``, which both drop the connection then.
    public func fallSilent() async {
        await withCheckedContinuation { continuation in
            if !mailbox.post(.silence { continuation.resume() }) { continuation.resume() }
        }
    }

    private func post(_ request: Request) {
        if !mailbox.post(request) {
            request.fail(ISCSIError(operation: request.name, portal: portal, text: "the session is closed or lost"))
        }
    }
}

/// An answer that a nexus waits for.
public final class Pending<Value: Sendable>: Sendable {
    fileprivate let lun: Int
    private let result = OneOf<Value>()

    fileprivate init(lun: Int) { self.lun = lun }

    fileprivate func settle(_ result: Result<Value, any Error>) { self.result.settle(result) }

    /// Whether there is an answer, or will be none.
    public var isSettled: Bool { result.isSettled }

    /// Waits for the answer; to be asked by one task at a time.
    ///
    /// - Throws: `ISCSIError` if the session is or gets lost, or the command's time is up: it has no answer then.
    public var value: Value { get async throws { try await result.value } }

    /// Waits for the answer for a while.
    ///
    /// - Returns: nil if there is none in time.
    /// - Throws: as ``value``.
    public func value(within limit: Duration) async throws -> Value? {
        let end = ContinuousClock.now + limit
        while !isSettled {
            guard ContinuousClock.now < end else { return nil }
            try await Task.sleep(for: .milliseconds(10))
        }
        return try await value
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
    case command(SCSICommand, Pending<SCSIReply>)
    case management(TaskManagement, Pending<TaskManagementResponse>)
    case abort(Pending<SCSIReply>, Pending<TaskManagementResponse>)
    case silence(@Sendable () -> Void)
    case drop(@Sendable () -> Void)
    case close(@Sendable () -> Void)

    var name: String {
        switch self {
        case .command(let command, _): command.name
        case .management(let function, _): "task management function \(function.rawValue)"
        case .abort: "ABORT TASK"
        case .silence: "fall silent"
        case .drop: "drop the connection"
        case .close: "log out"
        }
    }

    func fail(_ error: ISCSIError) {
        switch self {
        case .command(_, let pending): pending.settle(.failure(error))
        case .management(_, let pending), .abort(_, let pending): pending.settle(.failure(error))
        case .silence(let done), .drop(let done), .close(let done): done()
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
    /// The task is about to be freed.
    private let ended: () -> Void

    init(
        _ request: Request, portal: String, task: UnsafeMutablePointer<scsi_task>? = nil, output: [UInt8] = [],
        cancelled: @escaping () -> Void, ended: @escaping () -> Void = {}
    ) {
        self.request = request
        self.portal = portal
        self.task = task
        self.cancelled = cancelled
        self.ended = ended
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
        ended()
        switch request {
        case .command(_, let pending):
            if (0...0xFF).contains(status), let task, let reply = ISCSISession.reply(task) {
                pending.settle(.success(reply))
                return
            }
        case .management(_, let pending), .abort(_, let pending):
            if status == 0, let data {
                pending.settle(.success(TaskManagementResponse(data.load(as: UInt32.self))))
                return
            }
        case .silence, .drop, .close:
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
    private let writer: AttributeWriter?
    /// The tasks of commands without an answer.
    private var tasks: [ObjectIdentifier: UnsafeMutablePointer<scsi_task>] = [:]
    private var isLost = false
    private var isSilent = false

    init(session: ISCSISession, mailbox: Mailbox, writer: AttributeWriter?) {
        self.session = session
        self.mailbox = mailbox
        self.writer = writer
    }

    func run() {
        let context = session.context
        var closing: [Request] = []
        while closing.isEmpty, !isLost {
            for request in mailbox.take() {
                switch request {
                case .close: closing.append(request)
                case .drop:
                    closing.append(request)
                    isLost = true
                case .silence(let done):
                    isSilent = true
                    done()
                default: submit(request)
                }
            }
            if isLost { break }
            var polls = [
                pollfd(fd: mailbox.wake, events: Int16(POLLIN), revents: 0),
                pollfd(fd: iscsi_get_fd(context), events: Int16(iscsi_which_events(context)), revents: 0),
            ]
            // libiscsi looks after the commands' time limits when it is called, so at least once a second.
            if closing.isEmpty, poll(&polls, isSilent ? 1 : 2, 1000) < 0, errno != EINTR { isLost = true }
            if isSilent {
                isLost = isLost || !closing.isEmpty
            } else if iscsi_service(context, Int32(polls[1].revents)) < 0 || iscsi_is_logged_in(context) == 0 {
                isLost = true
            }
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
        case .command(let command, let pending):
            guard command.attribute == .simple || writer != nil else {
                request.fail(
                    ISCSIError(
                        operation: command.name, portal: session.portal,
                        text: "the nexus was logged in without task attributes"))
                return
            }
            guard let task = ISCSISession.task(command) else {
                request.fail(session.failure(command.name))
                return
            }
            let name = ObjectIdentifier(pending)
            let entry = Outstanding(
                request, portal: session.portal, task: task, output: command.output,
                cancelled: { [weak self] in self?.isLost = true }, ended: { [weak self] in self?.tasks[name] = nil })
            var data = entry.data
            let reference = Unmanaged.passRetained(entry)
            let status = withUnsafeMutablePointer(to: &data) { data in
                iscsi_scsi_command_async(
                    context, Int32(pending.lun), task, answered, command.output.isEmpty ? nil : data,
                    reference.toOpaque())
            }
            guard status == 0 else { return refuse(request, reference) }
            tasks[name] = task
            if command.attribute != .simple { writer?.set(command.attribute, ofTask: task.pointee.itt) }
        case .management(let function, let pending):
            // Referenced task tag: FFFFFFFFh where no task is named (RFC 7143, 11.5.4).
            manage(request, function.rawValue, lun: pending.lun, tag: 0xFFFF_FFFF, number: 0)
        case .abort(let command, let pending):
            guard let task = tasks[ObjectIdentifier(command)] else {
                pending.settle(.success(.taskDoesNotExist))
                return
            }
            manage(
                request, ISCSI_TM_ABORT_TASK.rawValue, lun: pending.lun, tag: task.pointee.itt,
                number: task.pointee.cmdsn)
        case .silence, .drop, .close:
            break
        }
    }

    private func manage(_ request: Request, _ function: UInt32, lun: Int, tag: UInt32, number: UInt32) {
        let entry = Outstanding(request, portal: session.portal) { [weak self] in self?.isLost = true }
        let reference = Unmanaged.passRetained(entry)
        let status = iscsi_task_mgmt_async(
            session.context, Int32(lun), iscsi_task_mgmt_funcs(function), tag, number, answered, reference.toOpaque())
        if status != 0 { refuse(request, reference) }
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
