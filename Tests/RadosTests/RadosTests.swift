// SPDX-License-Identifier: Apache-2.0

import Dispatch
import SystemPackage
import Testing

@testable import Rados

/// What needs no cluster: formats, texts, bookkeeping. The rest is `RadosLiveTests`.
@Suite struct NotifyReplyTests {
    private func le<Number: FixedWidthInteger>(_ number: Number) -> [UInt8] {
        withUnsafeBytes(of: number.littleEndian) { Array($0) }
    }

    @Test func nobodyWatched() {
        #expect(NotifyReply(decoding: le(UInt32(0)) + le(UInt32(0))) == NotifyReply())
    }

    @Test func acknowledgementsAndTimeouts() {
        var bytes = le(UInt32(2))
        bytes += le(UInt64(4711)) + le(UInt64(0xDEAD_BEEF_0000_0001)) + le(UInt32(3)) + [7, 8, 9]
        bytes += le(UInt64(4712)) + le(UInt64(2)) + le(UInt32(0))
        bytes += le(UInt32(1)) + le(UInt64(UInt64.max)) + le(UInt64(3))
        let reply = NotifyReply(decoding: bytes)
        #expect(
            reply
                == NotifyReply(
                    acknowledged: [
                        .init(watcher: 4711, cookie: 0xDEAD_BEEF_0000_0001, payload: [7, 8, 9]),
                        .init(watcher: 4712, cookie: 2, payload: []),
                    ], timedOut: [.init(watcher: UInt64.max, cookie: 3)]))
        #expect(reply?.isComplete == false)
    }

    @Test func everyTruncationIsRefused() {
        var bytes = le(UInt32(1)) + le(UInt64(1)) + le(UInt64(2)) + le(UInt32(2)) + [1, 2]
        bytes += le(UInt32(1)) + le(UInt64(3)) + le(UInt64(4))
        #expect(NotifyReply(decoding: bytes) != nil)
        for length in 0..<bytes.count { #expect(NotifyReply(decoding: Array(bytes[..<length])) == nil, "\(length)") }
        #expect(NotifyReply(decoding: bytes + [0]) == nil)
    }

    @Test func hugeCountsAreRefused() {
        #expect(NotifyReply(decoding: le(UInt32.max)) == nil)
        #expect(NotifyReply(decoding: le(UInt32(1)) + le(UInt64(1)) + le(UInt64(1)) + le(UInt32.max)) == nil)
    }
}

@Suite struct RadosErrorTests {
    @Test(arguments: [
        (Int32(-2), RadosError.Kind.notFound), (-17, .alreadyExists), (-125, .comparisonFailed), (-34, .versionChanged),
        (-75, .versionChanged), (-110, .timedOut), (-1, .notPermitted), (-13, .notPermitted), (-108, .blocklisted),
        (-107, .disconnected), (-28, .noSpace), (-122, .noSpace), (-22, .invalid), (-5, .other),
        (-4095, .mismatch(offset: 0)), (-4096, .mismatch(offset: 1)), (-4_198_399, .mismatch(offset: 4_194_304)),
        (Int32.min, .mismatch(offset: 2_147_479_553)),
    ])
    func kinds(result: Int32, kind: RadosError.Kind) {
        #expect(RadosError("rados_aio_write_op_operate", "rbd/x", result).kind == kind)
    }

    @Test func mismatchCountsFromTheObjectsStart() {
        let error = RadosError("rados_aio_write_op_operate", "rbd/x", -4100, extent: 512)
        #expect(error.kind == .mismatch(offset: 517))
        #expect(error.description.contains("rbd/x holds other data, from byte 517 on"))
    }

    @Test func everyTextNamesObjectCallAndErrno() {
        for code in Int32(1)...133 {
            let error = RadosError("rados_call", "pool/object", -code)
            #expect(error.errno.rawValue == code)
            #expect(error.description.contains("pool/object"))
            #expect(error.description.contains("(rados_call, errno \(code))"))
        }
    }

    @Test func detailAndRemedy() {
        let error = RadosError(
            .timedOut, operation: "rados_connect", object: "the cluster", errno: .timedOut, detail: "no monitor",
            remedy: "look at it")
        #expect(
            error.description
                == "the cluster: no answer from Ceph in time: no monitor (rados_connect, errno 110); look at it")
    }
}

@Suite struct StepResultsTests {
    @Test func theStepThatFailedGivesTheOffset() {
        let results = StepResults(offsets: [0, 100, 200])
        results.pointer(0).pointee = 0
        results.pointer(1).pointee = -4097
        #expect(results.base(of: -4097) == 100)
        results.pointer(1).pointee = 0
        results.pointer(2).pointee = -4097
        #expect(results.base(of: -4097) == 200)
    }

    @Test func withoutAnOwnerTheOnlyExtentIsIt() {
        #expect(StepResults(offsets: [0, 300]).base(of: -4097) == 300)
        #expect(StepResults(offsets: []).base(of: -4097) == 0)
    }

    @Test func offsetsOfOperations() {
        var write = WriteOperation()
        write.assertExists()
        write.compare([1], at: 512)
        write.write([2], at: 1024)
        #expect(write.offsets == [0, 512, 0])
        var read = ReadOperation()
        _ = read.read(offset: 5, length: 1)
        read.compare([1], at: 7)
        #expect(read.offsets == [0, 7])
    }
}

@Suite struct SmallThingTests {
    @Test(arguments: [
        (Duration.zero, Int64(1)), (.milliseconds(1), 1), (.seconds(1), 1), (.milliseconds(1001), 2),
        (.seconds(30), 30),
    ])
    func wholeSeconds(duration: Duration, seconds: Int64) {
        #expect(duration.wholeSeconds == seconds)
    }

    @Test func commands() {
        #expect(
            CommandValue.json([
                "prefix": .text("osd pool create"), "pool": .text("a/\"b\""), "pg_num": .number(8), "yes": .flag(true),
                "ids": .list(["1", "2"]),
            ]) == #"{"ids":["1","2"],"pg_num":8,"pool":"a/\"b\"","prefix":"osd pool create","yes":true}"#)
    }

    @Test func registry() {
        let registry = Registry<String>()
        let first = registry.add("a")
        let second = registry.add("b")
        #expect(first != 0 && second != first)
        #expect(registry[first] == "a")
        #expect(registry.remove(first) == "a")
        #expect(registry.remove(first) == nil)
        #expect(registry[first] == nil)
        #expect(registry.add("c") != first)
        #expect(registry.count == 2)
    }

    @Test func strings() {
        let seen: [[UInt8]] = withStrings([[1, 0, 2], [], [3]]) { pointers, lengths in
            (0..<3).map { index in
                guard let pointer = pointers?[index], let length = lengths?[index] else { return [0xFF] }
                return bytes(UnsafeMutablePointer(mutating: pointer), length)
            }
        }
        #expect(seen == [[1, 0, 2], [], [3]])
    }

    @Test func deadlineOfABlockingCall() async {
        let gate = DispatchSemaphore(value: 0)
        let late = RadosError("late", "x", -110)
        do throws(RadosError) {
            try await Blocking.run(atMost: .milliseconds(50), otherwise: late) { () throws(RadosError) -> Void in
                gate.wait()
            }
            Issue.record("it was in time")
        } catch { #expect(error == late) }
        gate.signal()
    }

    /// More of them than any pool has threads: each goes on once all of them are there.
    @Test(.timeLimit(.minutes(1))) func blockingCallsDoNotWaitForEachOther() async {
        let count = 100
        let arrived = DispatchSemaphore(value: 0)
        let gate = DispatchSemaphore(value: 0)
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<count {
                group.addTask {
                    await Blocking.run {
                        arrived.signal()
                        gate.wait()
                    }
                }
            }
            await Blocking.run {
                for _ in 0..<count { arrived.wait() }
                for _ in 0..<count { gate.signal() }
            }
        }
    }
}
