// SPDX-License-Identifier: Apache-2.0

import Foundation
import RBD
import Rados
import Testing

/// A cluster whose daemons stop answering (SIGSTOP): every call ends within its bound, says so, and works again afterwards.
/// In a run of its own, since nothing else works meanwhile.
///
/// The OSD is stopped for less than its lease to read, 120 s in the lab, after which it would not serve again.
enum FrozenCeph {
    /// Process ids of the monitor and the OSD, of a cluster that has one of each.
    static let monitor = pid("CLIO_TEST_CEPH_MON_PID")
    static let osd = pid("CLIO_TEST_CEPH_OSD_PID")

    private static func pid(_ variable: String) -> pid_t? {
        ProcessInfo.processInfo.environment[variable].flatMap { pid_t($0) }.flatMap { $0 > 1 ? $0 : nil }
    }
}

@Suite(
    "Daemons of Ceph that do not answer", .serialized,
    .enabled(
        if: LiveCeph.isGiven && FrozenCeph.monitor != nil && FrozenCeph.osd != nil,
        "WrapperTests names the daemons that may be stopped"))
struct FrozenCephTests {
    let cluster: Cluster
    let pool: Pool

    init() async throws {
        cluster = try await Cluster.connect(
            LiveCeph.options(timeouts: .init(connect: .seconds(10), monitor: .seconds(1), osd: .seconds(1))))
        pool = try await cluster.pool("rbd")
    }

    /// Expects a call to fail within five seconds as one that had no answer.
    private func expectTimeout(
        _ operation: String, _ body: () async throws -> Void, sourceLocation: SourceLocation = #_sourceLocation
    ) async {
        let start = ContinuousClock.now
        do {
            try await body()
            Issue.record("it had an answer", sourceLocation: sourceLocation)
        } catch let error as RadosError {
            #expect(error.kind == .timedOut, sourceLocation: sourceLocation)
            #expect(error.operation == operation, sourceLocation: sourceLocation)
        } catch let error as RBDError {
            #expect(error.kind == .timedOut, sourceLocation: sourceLocation)
            #expect(error.operation == operation, sourceLocation: sourceLocation)
        } catch { Issue.record(error, sourceLocation: sourceLocation) }
        #expect(ContinuousClock.now - start < .seconds(5), sourceLocation: sourceLocation)
    }

    /// Stops a process, and waits until it is (proc_pid_stat(5): state T).
    private func stop(_ process: pid_t) async throws {
        try #require(kill(process, SIGSTOP) == 0)
        for _ in 0..<100 {
            let line = try String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8)
            if line.split(separator: ")").last?.hasPrefix(" T") == true { return }
            try await Task.sleep(for: .milliseconds(20))
        }
        Issue.record("process \(process) does not stop")
    }

    /// Tries again while it times out: a PG that lost its lease takes some seconds to get a new one.
    @discardableResult
    private func patiently<Value>(_ body: () async throws -> Value) async throws -> Value {
        for _ in 0..<15 {
            do {
                return try await body()
            } catch let error as RadosError where error.kind == .timedOut {
            } catch let error as RBDError where error.kind == .timedOut {}
        }
        return try await body()
    }

    @Test func frozenOSD() async throws {
        let osd = try #require(FrozenCeph.osd)
        let name = LiveCeph.unique("clio.frozen")
        try await patiently { try await pool.writeFull(name, [1]) }
        let images = Images(in: pool)
        let image = LiveCeph.unique("clio-frozen")
        try await patiently { try await images.create(image, size: 1 << 20) }
        let watch = try await patiently { try await pool.watch(name) }
        do {
            try await stop(osd)
            defer { kill(osd, SIGCONT) }
            await expectTimeout("rados_aio_read_op_operate") { _ = try await pool.read(name, length: 1) }
            await expectTimeout("rados_aio_write_op_operate") { try await pool.writeFull(name, [2]) }
            await expectTimeout("rados_aio_watch2") { _ = try await pool.watch(name) }
            await expectTimeout("rados_aio_notify") { _ = try await pool.notify(name, timeout: .seconds(1)) }
            await expectTimeout("list_watchers") { _ = try await pool.watchers(name) }
            await expectTimeout("rbd_open_read_only") { _ = try await images.info(image) }
            #expect(try watch.check() > .seconds(3))
            await expectTimeout("rados_aio_unwatch") { try await watch.close() }
        }
        // It answers again; the write without an answer may have happened or not.
        #expect([[1], [2]].contains(try await patiently { try await pool.read(name, length: 1) }))
        let again = try await patiently { try await pool.watch(name) }
        try await again.close()
        try await patiently { try await images.remove(image) }
        try await patiently { try await pool.remove(name) }
    }

    @Test func frozenMonitor() async throws {
        let monitor = try #require(FrozenCeph.monitor)
        do {
            try await stop(monitor)
            defer { kill(monitor, SIGCONT) }
            await expectTimeout("rados_mon_command") { _ = try await cluster.osdMapEpoch() }
            await expectTimeout("rados_wait_for_latest_osdmap") { try await cluster.waitForLatestOSDMap() }
            await expectTimeout("rados_blocklist_add") {
                try await cluster.blocklist("192.0.2.1:0/1", for: .seconds(9))
            }
            await expectTimeout("rados_mon_command") { try await cluster.unblocklist("192.0.2.1:0/1") }
            await expectTimeout("rados_ioctx_create") { _ = try await cluster.pool("nowhere") }
            await expectTimeout("rados_connect") {
                _ = try await Cluster.connect(LiveCeph.options(timeouts: .init(connect: .seconds(2))))
            }
        }
        // Whoever waited for the map in vain is still heard.
        try await cluster.waitForLatestOSDMap()
        #expect(try await cluster.osdMapEpoch() > 0)
    }
}
