// SPDX-License-Identifier: Apache-2.0

import CRados

/// How the value stored in an omap has to compare with the one given; both are byte strings. These are the three that an
/// OSD knows (`CEPH_OSD_OP_OMAP_CMP`).
public enum OmapComparison: Sendable, Hashable {
    case equal
    case less
    case greater

    var raw: UInt8 {
        switch self {
        case .equal: UInt8(LIBRADOS_CMPXATTR_OP_EQ)
        case .less: UInt8(LIBRADOS_CMPXATTR_OP_LT)
        case .greater: UInt8(LIBRADOS_CMPXATTR_OP_GT)
        }
    }
}

/// What each comparison of an operation came to: librados writes a number a step, before the completion runs.
///
/// A mismatch is reported as an offset *within the extent compared*; with the step known, it becomes one in the object.
final class StepResults: Sendable {
    /// Safe to share: written by librados before the completion, which is before anyone reads; nobody writes after it.
    private nonisolated(unsafe) let codes: UnsafeMutablePointer<Int32>
    /// Where the extent of each step begins, in bytes; 0 for steps without one.
    private let offsets: [UInt64]

    init(offsets: [UInt64]) {
        self.offsets = offsets
        codes = .allocate(capacity: max(1, offsets.count))
        codes.initialize(repeating: 0, count: max(1, offsets.count))
    }

    deinit { codes.deallocate() }

    func pointer(_ step: Int) -> UnsafeMutablePointer<Int32> { codes + step }

    /// Where the extent began whose comparison gave this code.
    func base(of code: Int32) -> UInt64 {
        // Should no step own up to it, one compared extent is as good as known.
        let step = offsets.indices.first { codes[$0] == code }
        return step.map { offsets[$0] } ?? offsets.first { $0 != 0 } ?? 0
    }
}

/// Steps that happen to one object all at once or not at all, in the order they were added (`rados_write_op_t`).
///
/// Comparisons see the object as it was before the operation. The first step that fails is the error of the whole.
///
/// ```swift
/// var operation = WriteOperation()
/// operation.compare(oldHeader)
/// operation.writeFull(newState)
/// try await pool.execute(operation, on: "clio.scsi.5e2a")
/// ```
public struct WriteOperation: Sendable, Hashable {
    enum Step: Sendable, Hashable {
        case create(exclusive: Bool)
        case assertExists
        case assertVersion(UInt64)
        case compare([UInt8], offset: UInt64)
        case omapCompare(key: String, OmapComparison, [UInt8])
        case write([UInt8], offset: UInt64)
        case writeFull([UInt8])
        case append([UInt8])
        case truncate(UInt64)
        case remove
        case omapSet([String: [UInt8]])
        case omapRemove([String])
        case omapClear
    }

    var steps: [Step] = []

    public init() {}

    /// Whether there is nothing to do.
    public var isEmpty: Bool { steps.isEmpty }

    /// Creates the object; `exclusive` fails with `alreadyExists` if it is there (`rados_write_op_create`).
    public mutating func create(exclusive: Bool = true) { steps.append(.create(exclusive: exclusive)) }

    /// Fails with `notFound` if the object is not there (`rados_write_op_assert_exists`).
    public mutating func assertExists() { steps.append(.assertExists) }

    /// Fails with `versionChanged` if the object is not at this version (`rados_write_op_assert_version`).
    public mutating func assertVersion(_ version: UInt64) { steps.append(.assertVersion(version)) }

    /// Fails with `mismatch(offset:)` if the object holds other bytes there (`rados_write_op_cmpext`). What lies beyond
    /// the object's end counts as zeros.
    public mutating func compare(_ bytes: [UInt8], at offset: UInt64 = 0) {
        steps.append(.compare(bytes, offset: offset))
    }

    /// Fails with `comparisonFailed` if the omap value does not compare so (`rados_write_op_omap_cmp2`). A key that is
    /// not there has the empty value.
    public mutating func omapCompare(_ key: String, _ comparison: OmapComparison = .equal, _ value: [UInt8]) {
        steps.append(.omapCompare(key: key, comparison, value))
    }

    /// Writes bytes at an offset (`rados_write_op_write`).
    public mutating func write(_ bytes: [UInt8], at offset: UInt64) { steps.append(.write(bytes, offset: offset)) }

    /// Makes the bytes all the object holds (`rados_write_op_write_full`).
    public mutating func writeFull(_ bytes: [UInt8]) { steps.append(.writeFull(bytes)) }

    /// Adds bytes at the end (`rados_write_op_append`).
    public mutating func append(_ bytes: [UInt8]) { steps.append(.append(bytes)) }

    /// Cuts the object, or fills it with zeros, to this size in bytes (`rados_write_op_truncate`).
    public mutating func truncate(to size: UInt64) { steps.append(.truncate(size)) }

    /// Removes the object (`rados_write_op_remove`).
    public mutating func remove() { steps.append(.remove) }

    /// Sets omap values (`rados_write_op_omap_set2`).
    public mutating func omapSet(_ values: [String: [UInt8]]) { steps.append(.omapSet(values)) }

    /// Sets one omap value.
    public mutating func omapSet(_ key: String, _ value: [UInt8]) { omapSet([key: value]) }

    /// Removes omap keys; those that are not there are no error (`rados_write_op_omap_rm_keys2`).
    public mutating func omapRemove(_ keys: [String]) { steps.append(.omapRemove(keys)) }

    /// Removes one omap key.
    public mutating func omapRemove(_ key: String) { omapRemove([key]) }

    /// Removes all omap keys (`rados_write_op_omap_clear`).
    public mutating func omapClear() { steps.append(.omapClear) }

    /// Where the extents begin that are compared.
    var offsets: [UInt64] {
        steps.map { if case .compare(_, let offset) = $0 { offset } else { 0 } }
    }

    /// Hands the steps to librados, which copies buffers and keys before it returns (`bufferlist::append`). Only the
    /// results have to outlive this.
    func build(_ operation: rados_write_op_t, _ results: StepResults) {
        for (index, step) in steps.enumerated() {
            let result = results.pointer(index)
            switch step {
            case .create(let exclusive):
                rados_write_op_create(
                    operation, Int32(exclusive ? LIBRADOS_CREATE_EXCLUSIVE : LIBRADOS_CREATE_IDEMPOTENT), nil)
            case .assertExists:
                rados_write_op_assert_exists(operation)
            case .assertVersion(let version):
                rados_write_op_assert_version(operation, version)
            case .compare(let bytes, let offset):
                bytes.withChars { rados_write_op_cmpext(operation, $0, $1, offset, result) }
            case .omapCompare(let key, let comparison, let value):
                value.withChars { value, length in
                    rados_write_op_omap_cmp2(operation, key, comparison.raw, value, key.utf8.count, length, result)
                }
            case .write(let bytes, let offset):
                bytes.withChars { rados_write_op_write(operation, $0, $1, offset) }
            case .writeFull(let bytes):
                bytes.withChars { rados_write_op_write_full(operation, $0, $1) }
            case .append(let bytes):
                bytes.withChars { rados_write_op_append(operation, $0, $1) }
            case .truncate(let size):
                rados_write_op_truncate(operation, size)
            case .remove:
                rados_write_op_remove(operation)
            case .omapSet(let values):
                let sorted = values.sorted { $0.key < $1.key }
                withStrings(sorted.map { Array($0.key.utf8) }) { keys, keyLengths in
                    withStrings(sorted.map(\.value)) { values, valueLengths in
                        rados_write_op_omap_set2(operation, keys, values, keyLengths, valueLengths, sorted.count)
                    }
                }
            case .omapRemove(let keys):
                withStrings(keys.map { Array($0.utf8) }) { pointers, lengths in
                    rados_write_op_omap_rm_keys2(operation, pointers, lengths, keys.count)
                }
            case .omapClear:
                rados_write_op_omap_clear(operation)
            }
        }
    }
}

/// What reading an omap gave.
public struct OmapPage: Sendable, Hashable {
    public var values: [String: [UInt8]]
    /// Whether there are more keys after the last one of these.
    public var more: Bool

    public init(values: [String: [UInt8]] = [:], more: Bool = false) {
        self.values = values
        self.more = more
    }
}

/// Size and time of an object.
public struct ObjectStatus: Sendable, Hashable {
    /// In bytes.
    public var size: UInt64
    /// Last change, in whole seconds since 1970.
    public var modified: Int64
}

/// A step of a ``ReadOperation``: the place of its result in the ``ReadResult``.
public struct ReadStep<Value: Sendable>: Sendable {
    let index: Int
    let extract: @Sendable (ReadMemory.Slot) -> Value
}

/// Steps that read one object at one moment (`rados_read_op_t`).
///
/// ```swift
/// var operation = ReadOperation()
/// let config = operation.read(length: 1 << 20)
/// let members = operation.omapValues(prefix: "member.")
/// let result = try await pool.execute(operation, on: "clio.group.default")
/// print(result[config].count, result[members].values.keys, result.version)
/// ```
public struct ReadOperation: Sendable {
    enum Step: Sendable {
        case assertExists
        case assertVersion(UInt64)
        case compare([UInt8], offset: UInt64)
        case omapCompare(key: String, OmapComparison, [UInt8])
        case status
        case read(offset: UInt64, length: Int)
        case omapValues(after: String, prefix: String, limit: UInt64)
        case omapValuesByKeys([String])
    }

    var steps: [Step] = []

    public init() {}

    /// Fails with `notFound` if the object is not there (`rados_read_op_assert_exists`).
    public mutating func assertExists() { steps.append(.assertExists) }

    /// Fails with `versionChanged` if the object is not at this version (`rados_read_op_assert_version`).
    public mutating func assertVersion(_ version: UInt64) { steps.append(.assertVersion(version)) }

    /// Fails with `mismatch(offset:)` if the object holds other bytes there (`rados_read_op_cmpext`).
    public mutating func compare(_ bytes: [UInt8], at offset: UInt64 = 0) {
        steps.append(.compare(bytes, offset: offset))
    }

    /// Fails with `comparisonFailed` if the omap value does not compare so (`rados_read_op_omap_cmp2`).
    public mutating func omapCompare(_ key: String, _ comparison: OmapComparison = .equal, _ value: [UInt8]) {
        steps.append(.omapCompare(key: key, comparison, value))
    }

    /// The object's size and time (`rados_read_op_stat`).
    public mutating func status() -> ReadStep<ObjectStatus> {
        add(.status) { ObjectStatus(size: $0.size.pointee, modified: Int64($0.time.pointee)) }
    }

    /// Bytes of the object, as far as there are (`rados_read_op_read`).
    ///
    /// - Parameter length: at most so many bytes; a buffer of this size is set aside.
    public mutating func read(offset: UInt64 = 0, length: Int) -> ReadStep<[UInt8]> {
        add(.read(offset: offset, length: length)) { $0.bytesRead }
    }

    /// Omap values in order of their keys (`rados_read_op_omap_get_vals2`).
    ///
    /// - Parameters:
    ///   - after: only keys that come after this one.
    ///   - prefix: only keys that begin so.
    ///   - limit: at most so many; an OSD may give fewer and say that there are more.
    public mutating func omapValues(
        after: String = "", prefix: String = "", limit: UInt64 = 1024
    ) -> ReadStep<OmapPage> {
        add(.omapValues(after: after, prefix: prefix, limit: limit)) { $0.omap }
    }

    /// The omap values of these keys, as far as they are there (`rados_read_op_omap_get_vals_by_keys2`).
    public mutating func omapValues(of keys: [String]) -> ReadStep<[String: [UInt8]]> {
        add(.omapValuesByKeys(keys)) { $0.omap.values }
    }

    private mutating func add<Value>(
        _ step: Step, _ extract: @escaping @Sendable (ReadMemory.Slot) -> Value
    ) -> ReadStep<Value> {
        steps.append(step)
        return ReadStep(index: steps.count - 1, extract: extract)
    }

    /// Where the extents begin that are compared.
    var offsets: [UInt64] {
        steps.map { if case .compare(_, let offset) = $0 { offset } else { 0 } }
    }

    func build(_ operation: rados_read_op_t, into memory: ReadMemory) {
        for (index, step) in steps.enumerated() {
            let slot = memory.slots[index]
            let result = memory.results.pointer(index)
            switch step {
            case .assertExists:
                rados_read_op_assert_exists(operation)
            case .assertVersion(let version):
                rados_read_op_assert_version(operation, version)
            case .compare(let bytes, let offset):
                bytes.withChars { rados_read_op_cmpext(operation, $0, $1, offset, result) }
            case .omapCompare(let key, let comparison, let value):
                value.withChars { value, length in
                    rados_read_op_omap_cmp2(operation, key, comparison.raw, value, key.utf8.count, length, result)
                }
            case .status:
                rados_read_op_stat(operation, slot.size, slot.time, nil)
            case .read(let offset, let length):
                rados_read_op_read(operation, offset, length, slot.buffer, slot.length, nil)
            case .omapValues(let after, let prefix, let limit):
                rados_read_op_omap_get_vals2(operation, after, prefix, limit, slot.iterator, slot.more, nil)
            case .omapValuesByKeys(let keys):
                withStrings(keys.map { Array($0.utf8) }) { pointers, lengths in
                    rados_read_op_omap_get_vals_by_keys2(
                        operation, pointers, keys.count, lengths, slot.iterator, nil)
                }
            }
        }
    }
}

/// What a ``ReadOperation`` gave.
public struct ReadResult: Sendable {
    /// The object's version, as ``WriteOperation/assertVersion(_:)`` takes it.
    public let version: UInt64
    let memory: ReadMemory

    /// The result of a step of the operation that was executed. That of an omap step can be had once: librados walks it.
    public subscript<Value>(step: ReadStep<Value>) -> Value {
        step.extract(memory.slots[step.index])
    }
}

/// Memory that librados fills while a read operation is under way, and until its completion has run.
///
/// Safe to share although it is made of pointers: librados writes it before the completion, which is before anyone reads
/// it; after that nobody writes. After a deadline nobody reads it.
final class ReadMemory: Sendable {
    struct Slot: @unchecked Sendable {  // see above: written by librados only, before the completion
        let buffer: UnsafeMutablePointer<CChar>?
        let length: UnsafeMutablePointer<Int>
        let size: UnsafeMutablePointer<UInt64>
        let time: UnsafeMutablePointer<time_t>
        let iterator: UnsafeMutablePointer<rados_omap_iter_t?>
        let more: UnsafeMutablePointer<UInt8>

        init(capacity: Int) {
            buffer = capacity > 0 ? .allocate(capacity: capacity) : nil
            length = Self.one(0)
            size = Self.one(0)
            time = Self.one(0)
            iterator = Self.one(nil)
            more = Self.one(0)
        }

        private static func one<Value>(_ value: Value) -> UnsafeMutablePointer<Value> {
            let pointer = UnsafeMutablePointer<Value>.allocate(capacity: 1)
            pointer.initialize(to: value)
            return pointer
        }

        var bytesRead: [UInt8] { bytes(buffer, length.pointee) }

        var omap: OmapPage {
            var page = OmapPage(more: more.pointee != 0)
            guard let iterator = iterator.pointee else { return page }
            while true {
                var key: UnsafeMutablePointer<CChar>?
                var value: UnsafeMutablePointer<CChar>?
                var keyLength = 0
                var valueLength = 0
                guard rados_omap_get_next2(iterator, &key, &value, &keyLength, &valueLength) == 0, key != nil else {
                    return page
                }
                page.values[String(decoding: bytes(key, keyLength), as: UTF8.self)] = bytes(value, valueLength)
            }
        }

        func free() {
            if let iterator = iterator.pointee { rados_omap_get_end(iterator) }
            buffer?.deallocate()
            length.deallocate()
            size.deallocate()
            time.deallocate()
            iterator.deallocate()
            more.deallocate()
        }
    }

    let slots: [Slot]
    let results: StepResults

    init(_ operation: ReadOperation) {
        results = StepResults(offsets: operation.offsets)
        slots = operation.steps.map { step in
            if case .read(_, let length) = step { Slot(capacity: length) } else { Slot(capacity: 0) }
        }
    }

    deinit { for slot in slots { slot.free() } }
}

extension [UInt8] {
    /// The bytes as librados wants them.
    func withChars<Result>(_ body: (UnsafePointer<CChar>?, Int) -> Result) -> Result {
        withUnsafeBytes { body($0.bindMemory(to: CChar.self).baseAddress, $0.count) }
    }
}

/// Byte strings as a C array of pointers and one of lengths, for the time of the call.
func withStrings<Result>(
    _ strings: [[UInt8]], _ body: (UnsafePointer<UnsafePointer<CChar>?>?, UnsafePointer<Int>?) -> Result
) -> Result {
    // One block holds them all; each is followed by a NUL, so that none is a null pointer.
    var block: [CChar] = []
    var offsets: [Int] = []
    for string in strings {
        offsets.append(block.count)
        block += string.map { CChar(bitPattern: $0) }
        block.append(0)
    }
    return block.withUnsafeBufferPointer { block in
        let pointers = offsets.map { offset in block.baseAddress.map { $0 + offset } }
        let lengths = strings.map(\.count)
        return pointers.withUnsafeBufferPointer { pointers in
            lengths.withUnsafeBufferPointer { body(pointers.baseAddress, $0.baseAddress) }
        }
    }
}
