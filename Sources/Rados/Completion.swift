// SPDX-License-Identifier: Apache-2.0

import CRados
import Dispatch
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// Values that C callbacks refer to by number. A number that is no longer known is simply nobody's: a late callback can
/// not touch memory that is gone.
final class Registry<Value: Sendable>: Sendable {
    private struct State {
        var next: UInt = 1
        var values: [UInt: Value] = [:]
    }

    private let state = Mutex(State())

    /// Keeps a value and gives it a number, never 0 and never used before.
    func add(_ value: Value) -> UInt {
        state.withLock {
            let id = $0.next
            $0.next += 1
            $0.values[id] = value
            return id
        }
    }

    subscript(id: UInt) -> Value? {
        state.withLock { $0.values[id] }
    }

    /// Takes a value out.
    @discardableResult
    func remove(_ id: UInt) -> Value? {
        state.withLock { $0.values.removeValue(forKey: id) }
    }

    /// Changes a value in place.
    func update<Result: Sendable>(_ id: UInt, _ change: (inout Value?) -> Result) -> Result {
        state.withLock { change(&$0.values[id]) }
    }

    var count: Int { state.withLock { $0.values.count } }
}

/// What an asynchronous librados call came back with.
struct CompletionResult: Sendable {
    /// Zero or more, or a negative errno.
    var code: Int32
    /// The object's version after the call (`rados_aio_get_version`).
    var version: UInt64
    /// Whether librados is done with the call; false after a deadline, when its memory may still be written to.
    var completed = true
}

/// One asynchronous call under way.
private struct Pending: Sendable {
    /// Who waits; nil once they stopped waiting.
    var waiter: CheckedContinuation<CompletionResult, Never>?
    /// Memory the call reads or fills, until librados is done with it.
    let memory: (any Sendable)?
    /// What to do, on a thread of its own, if the call comes back when nobody waits any more.
    let late: (@Sendable (CompletionResult) -> Void)?
}

private let pending = Registry<Pending>()

/// Asynchronous calls of librados as `async` functions: no thread waits while the cluster works.
enum Completion {
    /// Starts a call and waits for its completion.
    ///
    /// - Parameters:
    ///   - memory: kept alive until librados is done with the call, even when the deadline passes first.
    ///   - deadline: how long to wait at most; needed only for watches and notifications, which `rados_osd_op_timeout`
    ///     does not bound. nil waits for librados.
    ///   - late: takes the result if it comes after the deadline, on a thread where it may block.
    ///   - start: hands the completion to librados; returns what librados returned.
    static func run(
        keeping memory: (any Sendable)? = nil, deadline: Duration? = nil,
        late: (@Sendable (CompletionResult) -> Void)? = nil, _ start: (rados_completion_t) -> Int32
    ) async -> CompletionResult {
        await withCheckedContinuation { continuation in
            let id = pending.add(Pending(waiter: continuation, memory: memory, late: late))
            var completion: rados_completion_t?
            let created = rados_aio_create_completion2(
                UnsafeMutableRawPointer(bitPattern: id),
                { completion, argument in
                    guard let completion else { return }
                    let result = CompletionResult(
                        code: rados_aio_get_return_value(completion), version: rados_aio_get_version(completion))
                    rados_aio_release(completion)
                    LibraryThread.mark()
                    guard let call = pending.remove(UInt(bitPattern: argument)) else { return }
                    if let waiter = call.waiter {
                        waiter.resume(returning: result)
                    } else if let late = call.late {
                        Blocking.detach { late(result) }
                    }
                }, &completion)
            guard created == 0, let completion else {
                finish(id, CompletionResult(code: created < 0 ? created : -ENOMEM, version: 0))
                return
            }
            let started = start(completion)
            if started < 0 {
                // librados did not take it: the callback will not come.
                rados_aio_release(completion)
                finish(id, CompletionResult(code: started, version: 0))
                return
            }
            if let deadline {
                Blocking.after(deadline) {
                    let waiter = pending.update(id) { entry in
                        let waiter = entry?.waiter
                        entry?.waiter = nil
                        return waiter
                    }
                    waiter?.resume(returning: CompletionResult(code: -ETIMEDOUT, version: 0, completed: false))
                }
            }
        }
    }

    private static func finish(_ id: UInt, _ result: CompletionResult) {
        pending.remove(id)?.waiter?.resume(returning: result)
    }
}

/// Tells threads of librados from ours: disconnecting on one of its own would wait for itself.
enum LibraryThread {
    /// A thread-specific value that is set on threads that have called back.
    private static let key: pthread_key_t? = {
        var key = pthread_key_t()
        return pthread_key_create(&key, nil) == 0 ? key : nil
    }()

    /// Called first thing by every callback.
    static func mark() {
        if let key { pthread_setspecific(key, UnsafeRawPointer(bitPattern: 1)) }
    }

    /// Whether this thread is one of librados'.
    static var isCurrent: Bool {
        guard let key else { return false }
        return pthread_getspecific(key) != nil
    }
}

/// Calls of librados and librbd that have no asynchronous form: each runs on a thread of its own, so that none waits for
/// another and none holds a thread of Swift's cooperative pool. They are rare, and a thread costs less than the round trip.
package enum Blocking {
    /// Fires deadlines; nothing on it blocks.
    private static let timer = DispatchQueue(label: "clio.rados.timer")

    /// Runs `body` on a thread of its own, and does not wait for it.
    static func detach(_ body: @escaping @Sendable () -> Void) {
        let box = Unmanaged.passRetained(ThreadBody(body))
        var thread = pthread_t()
        let result = pthread_create(
            &thread, nil,
            { argument in
                if let argument { Unmanaged<ThreadBody>.fromOpaque(argument).takeRetainedValue().run() }
                return nil
            }, box.toOpaque())
        guard result == 0 else {
            // No more threads: one of Dispatch's has to do.
            box.release()
            DispatchQueue.global().async(execute: body)
            return
        }
        pthread_detach(thread)
    }

    /// Runs `body`, which must not block, when the time has passed.
    static func after(_ delay: Duration, _ body: @escaping @Sendable () -> Void) {
        timer.asyncAfter(deadline: .now() + delay.timeInterval, execute: body)
    }

    /// Runs a blocking call.
    package static func run<Value: Sendable>(_ body: @escaping @Sendable () -> Value) async -> Value {
        await withCheckedContinuation { continuation in
            detach { continuation.resume(returning: body()) }
        }
    }

    /// Runs a blocking call that may throw.
    package static func run<Value: Sendable, Failure: Error>(
        throwing failure: Failure.Type, _ body: @escaping @Sendable () throws(Failure) -> Value
    ) async throws(Failure) -> Value {
        let result: Result<Value, Failure> = await run { () -> Result<Value, Failure> in
            do throws(Failure) { return .success(try body()) } catch { return .failure(error) }
        }
        return try result.get()
    }

    /// Runs a blocking call that may throw, and stops waiting for it after `limit`. The call itself then goes on by
    /// itself; what it gives is dropped.
    static func run<Value: Sendable, Failure: Error>(
        atMost limit: Duration, otherwise late: Failure, _ body: @escaping @Sendable () throws(Failure) -> Value
    ) async throws(Failure) -> Value {
        let result: Result<Value, Failure> = await withCheckedContinuation { continuation in
            let waiter = Once(continuation)
            detach {
                do throws(Failure) { waiter.resume(.success(try body())) } catch { waiter.resume(.failure(error)) }
            }
            after(limit) { waiter.resume(.failure(late)) }
        }
        return try result.get()
    }
}

/// What a thread is to do.
private final class ThreadBody: Sendable {
    let run: @Sendable () -> Void

    init(_ run: @escaping @Sendable () -> Void) { self.run = run }
}

/// A continuation that takes the first of several results.
private final class Once<Value: Sendable>: Sendable {
    private let continuation: Mutex<CheckedContinuation<Value, Never>?>

    init(_ continuation: CheckedContinuation<Value, Never>) {
        self.continuation = Mutex(continuation)
    }

    func resume(_ value: Value) {
        let waiter = continuation.withLock { waiter in
            defer { waiter = nil }
            return waiter
        }
        waiter?.resume(returning: value)
    }
}

extension Duration {
    /// In seconds.
    var timeInterval: Double {
        let (seconds, attoseconds) = components
        return Double(seconds) + Double(attoseconds) / 1e18
    }
}
