// SPDX-License-Identifier: Apache-2.0
import Synchronization

/// Looks at configfs and sysfs that nobody's life depends on.
///
/// Reading waits for whoever removes what is read, and that for commands in flight. So it goes on a ``Lane`` of its own, and
/// is done without if it takes too long.
final class Reading: Sendable {
    private let lane = Lane()
    private let busy = Mutex(false)

    /// What `piece` gives, or `nil` if it takes longer than `limit` or an earlier one still goes on.
    func run<Value: Sendable>(within limit: Duration, _ piece: @escaping @Sendable () -> Value) async -> Value? {
        let isFree = busy.withLock { busy in
            defer { busy = true }
            return !busy
        }
        guard isFree else { return nil }
        let once = Once<Value?>()
        return await withCheckedContinuation { continuation in
            once.set(continuation)
            lane.add {
                let value = piece()
                self.busy.withLock { $0 = false }
                once.resume(value)
            }
            Task {
                try? await Task.sleep(for: limit)
                once.resume(nil)
            }
        }
    }
}

/// A continuation that the first one resumes.
private final class Once<Value: Sendable>: Sendable {
    private let continuation = Mutex<CheckedContinuation<Value, Never>?>(nil)

    func set(_ continuation: CheckedContinuation<Value, Never>) { self.continuation.withLock { $0 = continuation } }

    func resume(_ value: Value) {
        let taken = continuation.withLock { continuation in
            defer { continuation = nil }
            return continuation
        }
        taken?.resume(returning: value)
    }
}
