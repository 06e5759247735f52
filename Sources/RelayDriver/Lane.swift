// SPDX-License-Identifier: Apache-2.0
import Dispatch

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// Work on configfs and sysfs: one piece after the other, on a thread of its own.
///
/// Such a write can block for as long as a command is in flight. On a thread of Swift's pool, of which a small machine has
/// only one, that would stop the renewals of the lease.
final class Lane: Sendable {
    private let work: AsyncStream<@Sendable () async -> Void>.Continuation
    private let worker: Task<Void, Never>

    init() {
        let (stream, continuation) = AsyncStream.makeStream(of: (@Sendable () async -> Void).self)
        work = continuation
        let executor = ThreadExecutor()
        worker = Task(executorPreference: executor) { for await piece in stream { await piece() } }
    }

    deinit { work.finish() }

    /// Has `piece` done after everything that was given before.
    func add(_ piece: @escaping @Sendable () async -> Void) { work.yield(piece) }

    /// Does `piece` after everything that was given before, and waits for it.
    func run<Value: Sendable>(_ piece: @escaping @Sendable () async -> Value) async -> Value {
        await withCheckedContinuation { continuation in
            add { continuation.resume(returning: await piece()) }
        }
    }
}

/// Runs what prefers it on a queue with a thread of its own.
private final class ThreadExecutor: TaskExecutor {
    private let queue = DispatchQueue(label: "clio.gateway")

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        queue.async { job.runSynchronously(on: self.asUnownedTaskExecutor()) }
    }
}
