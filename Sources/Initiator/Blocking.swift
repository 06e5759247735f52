// SPDX-License-Identifier: Apache-2.0

import CISCSI
import Foundation
import Glibc

/// Runs what blocks (libiscsi's synchronous calls) on a thread of its own, so that it holds up no task of Swift's pool.
///
/// - Parameter namespace: name of the network namespace to do it in (`ip netns`), or nil for the process's own. Only the
///   new thread enters it, and the threads and sockets it makes; entering takes root.
/// - Throws: `ISCSIError` if the namespace cannot be entered; what `body` throws.
public func blocking<Value: Sendable>(
    in namespace: String? = nil, _ body: @escaping @Sendable () throws -> Value
) async throws -> Value {
    try await withCheckedThrowingContinuation { continuation in
        Thread.detachNewThread {
            continuation.resume(
                with: Result {
                    if let namespace { try enterNetworkNamespace(namespace) }
                    return try body()
                })
        }
    }
}

/// Moves the calling thread into a network namespace that `ip netns` has named (`setns(2)`, `ip-netns(8)`).
func enterNetworkNamespace(_ name: String) throws(ISCSIError) {
    let descriptor = open("/run/netns/\(name)", O_RDONLY | O_CLOEXEC)
    defer { if descriptor >= 0 { close(descriptor) } }
    guard descriptor >= 0, setns(descriptor, clio_clone_newnet) == 0 else {
        throw ISCSIError(
            operation: "enter network namespace \(name)", portal: "-", text: String(cString: strerror(errno)))
    }
}
