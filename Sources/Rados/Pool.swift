// SPDX-License-Identifier: Apache-2.0

import CRados
import SystemPackage

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// A pool, or a namespace of it (`rados_ioctx_t`).
///
/// Objects hold bytes and an *omap*: a sorted map from keys to byte strings.
public final class Pool: Sendable {
    public let cluster: Cluster
    /// The pool's name.
    public let name: String
    /// The namespace; "" is the default one.
    public let namespace: String
    package let handle: PoolHandle

    init(_ cluster: Cluster, _ handle: PoolHandle, name: String, namespace: String) {
        self.cluster = cluster
        self.handle = handle
        self.name = name
        self.namespace = namespace
    }

    /// The pool's number (`rados_ioctx_get_id`).
    public var id: Int64 { rados_ioctx_get_id(handle.raw) }

    /// The way errors name an object: `pool/object` or `pool/namespace/object`.
    public func describe(_ object: String) -> String {
        namespace.isEmpty ? "\(name)/\(object)" : "\(name)/\(namespace)/\(object)"
    }

    // MARK: Operations

    /// Carries out a write operation (`rados_aio_write_op_operate`): all of its steps or none.
    ///
    /// - Returns: the object's version after it.
    /// - Throws: the error of the first step that failed; `timedOut` leaves open whether it happened.
    @discardableResult
    public func execute(_ operation: WriteOperation, on object: String) async throws(RadosError) -> UInt64 {
        guard !operation.isEmpty else {
            throw RadosError(
                .invalid, operation: "rados_aio_write_op_operate", object: describe(object), errno: .invalidArgument,
                detail: "an operation without steps")
        }
        let results = StepResults(offsets: operation.offsets)
        let result = await Completion.run(keeping: results) { completion in
            guard let raw = rados_create_write_op() else { return -ENOMEM }
            defer { rados_release_write_op(raw) }
            operation.build(raw, results)
            return rados_aio_write_op_operate(raw, handle.raw, completion, object, nil, 0)
        }
        return try check(result, results, "rados_aio_write_op_operate", object)
    }

    /// Carries out a read operation (`rados_aio_read_op_operate`).
    public func execute(_ operation: ReadOperation, on object: String) async throws(RadosError) -> ReadResult {
        let memory = ReadMemory(operation)
        let result = await Completion.run(keeping: memory) { completion in
            guard let raw = rados_create_read_op() else { return -ENOMEM }
            defer { rados_release_read_op(raw) }
            operation.build(raw, into: memory)
            return rados_aio_read_op_operate(raw, handle.raw, completion, object, 0)
        }
        let version = try check(result, memory.results, "rados_aio_read_op_operate", object)
        return ReadResult(version: version, memory: memory)
    }

    private func check(
        _ result: CompletionResult, _ results: StepResults, _ operation: String, _ object: String
    ) throws(RadosError) -> UInt64 {
        guard result.code >= 0 else {
            throw RadosError(operation, describe(object), result.code, extent: results.base(of: result.code))
        }
        return result.version
    }

    // MARK: Single steps

    /// Bytes of an object from an offset on, as far as there are.
    public func read(_ object: String, offset: UInt64 = 0, length: Int) async throws(RadosError) -> [UInt8] {
        var operation = ReadOperation()
        let bytes = operation.read(offset: offset, length: length)
        return try await execute(operation, on: object)[bytes]
    }

    /// All of an object, at one moment, and its version.
    ///
    /// - Parameter limit: the size in bytes beyond which it is refused (`invalid`, `EFBIG`).
    public func readAll(
        _ object: String, limit: Int = 16 << 20
    ) async throws(RadosError) -> (bytes: [UInt8], version: UInt64) {
        // Small objects, the common case, need one round; larger ones a second, of the right size.
        var length = min(limit, 64 << 10)
        while true {
            var operation = ReadOperation()
            let status = operation.status()
            let bytes = operation.read(length: length)
            let result = try await execute(operation, on: object)
            let size = result[status].size
            if size <= UInt64(length) { return (result[bytes], result.version) }
            guard size <= UInt64(limit) else {
                throw RadosError(
                    .invalid, operation: "rados_aio_read_op_operate", object: describe(object), errno: .fileTooLarge,
                    detail: "it holds \(size) bytes, \(limit) are expected at most")
            }
            length = Int(size)
        }
    }

    /// An object's size and time.
    public func status(_ object: String) async throws(RadosError) -> ObjectStatus {
        var operation = ReadOperation()
        let status = operation.status()
        return try await execute(operation, on: object)[status]
    }

    /// Whether there is such an object.
    public func exists(_ object: String) async throws(RadosError) -> Bool {
        do throws(RadosError) {
            _ = try await status(object)
            return true
        } catch {
            if error.kind == .notFound { return false }
            throw error
        }
    }

    /// Makes the bytes all the object holds; creates it if need be.
    ///
    /// - Returns: the object's version after it.
    @discardableResult
    public func writeFull(_ object: String, _ bytes: [UInt8]) async throws(RadosError) -> UInt64 {
        var operation = WriteOperation()
        operation.writeFull(bytes)
        return try await execute(operation, on: object)
    }

    /// Removes an object. `notFound` if there is none.
    public func remove(_ object: String) async throws(RadosError) {
        var operation = WriteOperation()
        operation.remove()
        try await execute(operation, on: object)
    }

    /// All omap values of an object whose keys begin with `prefix`. Read in pages: not all from one moment if there are
    /// more than fit one page (1024, less if the OSD says so).
    public func omap(_ object: String, prefix: String = "") async throws(RadosError) -> [String: [UInt8]] {
        var values: [String: [UInt8]] = [:]
        var after = ""
        while true {
            var operation = ReadOperation()
            let page = operation.omapValues(after: after, prefix: prefix)
            let result = try await execute(operation, on: object)[page]
            values.merge(result.values) { $1 }
            // Keys are ordered by their bytes in RADOS.
            guard result.more, let last = result.values.keys.max(by: { $0.utf8.lexicographicallyPrecedes($1.utf8) })
            else { return values }
            after = last
        }
    }

    /// The omap values of these keys, as far as they are there.
    public func omap(_ object: String, keys: [String]) async throws(RadosError) -> [String: [UInt8]] {
        var operation = ReadOperation()
        let values = operation.omapValues(of: keys)
        return try await execute(operation, on: object)[values]
    }
}

/// The `rados_ioctx_t`, destroyed with its last user.
package final class PoolHandle: Sendable {
    /// Safe to share: librados locks inside; namespace and locator, which are not protected, are set before it is shared.
    package nonisolated(unsafe) let raw: rados_ioctx_t

    init(_ raw: rados_ioctx_t) { self.raw = raw }

    deinit { rados_ioctx_destroy(raw) }
}
