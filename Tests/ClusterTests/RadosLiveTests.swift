// SPDX-License-Identifier: Apache-2.0

import Foundation
import Rados
import SystemPackage
import Testing

@Suite("Rados against a real cluster", .enabled(if: LiveCeph.isGiven, Comment(rawValue: LiveCeph.note)))
struct RadosLiveTests {
    let cluster: Cluster
    let pool: Pool

    init() async throws {
        cluster = try await LiveCeph.connect()
        pool = try await cluster.pool("rbd", namespace: "")
    }

    /// Runs a test with an object that is gone afterwards.
    private func withObject(_ body: (String) async throws -> Void) async throws {
        let name = LiveCeph.unique("clio.test")
        do {
            try await body(name)
        } catch {
            try? await pool.remove(name)
            throw error
        }
        try? await pool.remove(name)
    }

    private func error(_ body: () async throws -> Void) async -> RadosError? {
        do {
            try await body()
            return nil
        } catch { return error as? RadosError }
    }

    // MARK: Cluster

    @Test func identity() async throws {
        #expect(UUID(uuidString: cluster.fsid) != nil)
        #expect(cluster.instanceID > 0)
        let other = try await LiveCeph.connect()
        #expect(other.instanceID != cluster.instanceID)
        #expect(other.fsid == cluster.fsid)
        let address = try cluster.addresses()
        #expect(address.contains(":0/"), "\(address)")
        #expect(try other.addresses() != address)
        #expect(pool.id > 0)
    }

    @Test func monitorCommands() async throws {
        let output = try await cluster.monitorCommand("osd pool ls")
        let names = try JSONDecoder().decode([String].self, from: Data(output.data))
        #expect(names.contains("rbd"))
        #expect(try await cluster.osdMapEpoch() > 0)
        try await cluster.waitForLatestOSDMap()
        let error = await error { _ = try await cluster.monitorCommand("no such thing") }
        #expect(error?.kind == .invalid)
        #expect(error?.description.contains("no such thing") == true)
    }

    @Test func poolThatIsNotThere() async throws {
        let error = await error { _ = try await cluster.pool("nowhere") }
        #expect(error?.kind == .poolNotFound)
        #expect(error?.description.contains("there is no pool nowhere") == true)
        #expect(error?.description.contains("ceph osd pool create nowhere") == true)
    }

    @Test func wrongKey() async throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(LiveCeph.unique("clio-key"))
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let keyring = folder.appendingPathComponent("keyring")
        // A key that is well formed (type 1, time, length 16, sixteen bytes) and not the cluster's.
        let key = Data([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0] + [UInt8](repeating: 0x5A, count: 16))
        let text = "[client.admin]\n\tkey = \(key.base64EncodedString())\n"
        try text.write(to: keyring, atomically: true, encoding: .utf8)
        var options = LiveCeph.options(timeouts: .init(connect: .seconds(3)))
        options.keyring = FilePath(keyring.path)
        let error = await error { _ = try await Cluster.connect(options) }
        #expect(error?.operation == "rados_connect")
        #expect(error?.kind == .notPermitted, "\(String(describing: error))")
        #expect(error?.description.contains("ceph auth get client.admin") == true)
    }

    @Test func keyringThatIsNotThere() async throws {
        var options = LiveCeph.options()
        options.keyring = "/nonexistent/keyring"
        let error = await error { _ = try await Cluster.connect(options) }
        #expect(error?.kind == .invalid)
        #expect(error?.object == "/nonexistent/keyring")
    }

    // MARK: Objects

    @Test func bytes() async throws {
        try await withObject { name in
            #expect(try await !pool.exists(name))
            let first = try await pool.writeFull(name, Array("hello".utf8))
            #expect(try await pool.exists(name))
            #expect(try await pool.status(name).size == 5)
            #expect(try await pool.read(name, offset: 1, length: 3) == Array("ell".utf8))
            #expect(try await pool.read(name, offset: 3, length: 100) == Array("lo".utf8))
            let (bytes, version) = try await pool.readAll(name)
            #expect(bytes == Array("hello".utf8))
            #expect(version == first)
            let second = try await pool.writeFull(name, Array("hi".utf8))
            #expect(second > first)
            #expect(try await pool.readAll(name).bytes == Array("hi".utf8))
            try await pool.remove(name)
            #expect(await error { try await pool.remove(name) }?.kind == .notFound)
        }
    }

    @Test func largeObject() async throws {
        try await withObject { name in
            let bytes = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 * 7) }
            try await pool.writeFull(name, bytes)
            #expect(try await pool.readAll(name).bytes == bytes)
            let error = await error { _ = try await pool.readAll(name, limit: 1000) }
            #expect(error?.errno == .fileTooLarge)
            #expect(error?.description.contains("300000 bytes") == true)
        }
    }

    @Test func emptyObject() async throws {
        try await withObject { name in
            var operation = WriteOperation()
            operation.create()
            try await pool.execute(operation, on: name)
            #expect(try await pool.readAll(name).bytes == [])
            #expect(try await pool.omap(name) == [:])
        }
    }

    @Test func missingObjectNamesItself() async throws {
        let error = await error { _ = try await pool.read("clio.nothing", length: 10) }
        #expect(error?.kind == .notFound)
        #expect(error?.object == "rbd/clio.nothing")
        #expect(error?.errno == .noSuchFileOrDirectory)
    }

    @Test func namespacesAreApart() async throws {
        try await withObject { name in
            let other = try await cluster.pool("rbd", namespace: "clio-test")
            try await other.writeFull(name, [1])
            #expect(try await !pool.exists(name))
            let error = await error { _ = try await other.status("nothing") }
            #expect(error?.object == "rbd/clio-test/nothing")
            try await other.remove(name)
        }
    }

    // MARK: Operations

    @Test func exclusiveCreate() async throws {
        try await withObject { name in
            var operation = WriteOperation()
            operation.create()
            operation.writeFull([1, 2, 3])
            try await pool.execute(operation, on: name)
            let error = await error { try await pool.execute(operation, on: name) }
            #expect(error?.kind == .alreadyExists)
            #expect(error?.object == "rbd/\(name)")
        }
    }

    @Test func assertions() async throws {
        try await withObject { name in
            var exists = WriteOperation()
            exists.assertExists()
            exists.writeFull([1])
            #expect(await error { try await pool.execute(exists, on: name) }?.kind == .notFound)
            #expect(try await !pool.exists(name))

            let version = try await pool.writeFull(name, [1])
            var atVersion = WriteOperation()
            atVersion.assertVersion(version)
            atVersion.writeFull([2])
            let next = try await pool.execute(atVersion, on: name)
            #expect(next > version)
            // Behind, and ahead.
            #expect(await error { try await pool.execute(atVersion, on: name) }?.kind == .versionChanged)
            var ahead = WriteOperation()
            ahead.assertVersion(next + 100)
            ahead.writeFull([3])
            #expect(await error { try await pool.execute(ahead, on: name) }?.kind == .versionChanged)
            #expect(try await pool.readAll(name).bytes == [2])
        }
    }

    @Test(arguments: [UInt64(0), 1, 4095, 4096, 70_000])
    func mismatchTellsWhere(offset: UInt64) async throws {
        try await withObject { name in
            let length = 80_000
            let old = [UInt8](repeating: 7, count: length)
            try await pool.writeFull(name, old)
            var expected = old
            expected[Int(offset)] = 8
            var operation = WriteOperation()
            operation.compare(expected)
            operation.write([9], at: 0)
            let error = await error { try await pool.execute(operation, on: name) }
            #expect(error?.kind == .mismatch(offset: offset))
            #expect(error?.description.contains("from byte \(offset) on") == true)
            #expect(try await pool.readAll(name).bytes == old)
        }
    }

    @Test func mismatchOffsetCountsFromTheExtent() async throws {
        // RADOS gives the place within the compared extent; ours is that of the object.
        try await withObject { name in
            try await pool.writeFull(name, [0, 1, 2, 3, 4, 5, 6, 7])
            var operation = WriteOperation()
            operation.compare([4, 5, 9, 7], at: 4)
            operation.write([0xFF], at: 0)
            #expect(await error { try await pool.execute(operation, on: name) }?.kind == .mismatch(offset: 6))
            // Of several extents, the one that differs.
            var several = WriteOperation()
            several.compare([0, 1], at: 0)
            several.compare([2, 3], at: 2)
            several.compare([5, 0], at: 5)
            several.write([0xFF], at: 0)
            #expect(await error { try await pool.execute(several, on: name) }?.kind == .mismatch(offset: 6))
            var reading = ReadOperation()
            reading.compare([2], at: 2)
            reading.compare([5, 0], at: 5)
            #expect(await error { _ = try await pool.execute(reading, on: name) }?.kind == .mismatch(offset: 6))
        }
    }

    @Test func compareBeyondTheEndIsZeros() async throws {
        try await withObject { name in
            try await pool.writeFull(name, [1])
            var operation = WriteOperation()
            operation.compare([1, 0, 0])
            operation.writeFull([2])
            try await pool.execute(operation, on: name)
            #expect(try await pool.readAll(name).bytes == [2])
        }
    }

    @Test func compareAndWriteLosesNothing() async throws {
        try await withObject { name in
            try await pool.writeFull(name, [0, 0])
            let pool = pool
            let each = 50
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<4 {
                    group.addTask {
                        var done = 0
                        while done < each {
                            let old = try await pool.read(name, length: 2)
                            let count = UInt16(old[0]) << 8 | UInt16(old[1])
                            let new = count + 1
                            var operation = WriteOperation()
                            operation.compare(old)
                            operation.write([UInt8(new >> 8), UInt8(new & 0xFF)], at: 0)
                            do {
                                try await pool.execute(operation, on: name)
                                done += 1
                            } catch let error as RadosError {
                                guard case .mismatch = error.kind else { throw error }
                            }
                        }
                    }
                }
                try await group.waitForAll()
            }
            let end = try await pool.read(name, length: 2)
            #expect(Int(end[0]) << 8 | Int(end[1]) == 4 * each)
        }
    }

    @Test func omap() async throws {
        try await withObject { name in
            var fill = WriteOperation()
            fill.create()
            fill.omapSet(["member.gw1": [1], "member.gw2": [2, 0, 2], "beat.gw1": [], "ümlaut": Array("ü".utf8)])
            try await pool.execute(fill, on: name)
            #expect(try await pool.omap(name).count == 4)
            #expect(try await pool.omap(name, prefix: "member.") == ["member.gw1": [1], "member.gw2": [2, 0, 2]])
            #expect(
                try await pool.omap(name, keys: ["beat.gw1", "ümlaut", "none"])
                    == ["beat.gw1": [], "ümlaut": Array("ü".utf8)])

            var change = WriteOperation()
            change.omapCompare("member.gw1", .equal, [1])
            change.omapSet("member.gw1", [9])
            change.omapRemove("member.gw2")
            try await pool.execute(change, on: name)
            #expect(try await pool.omap(name, prefix: "member.") == ["member.gw1": [9]])
            let error = await error { try await pool.execute(change, on: name) }
            #expect(error?.kind == .comparisonFailed)

            var other = WriteOperation()
            other.omapCompare("member.gw1", .greater, [1])
            other.omapCompare("member.gw1", .less, [9, 0])
            other.omapClear()
            try await pool.execute(other, on: name)
            #expect(try await pool.omap(name) == [:])
        }
    }

    @Test func omapOfAMissingKeyIsEmpty() async throws {
        try await withObject { name in
            var operation = WriteOperation()
            operation.create(exclusive: false)
            operation.omapCompare("first", .equal, [])
            operation.omapSet("first", [1])
            try await pool.execute(operation, on: name)
            #expect(await error { try await pool.execute(operation, on: name) }?.kind == .comparisonFailed)
        }
    }

    @Test func manyKeysAreReadInPages() async throws {
        try await withObject { name in
            let values = Dictionary(uniqueKeysWithValues: (0..<2500).map { ("key.\($0)", Array("\($0)".utf8)) })
            var operation = WriteOperation()
            operation.omapSet(values)
            try await pool.execute(operation, on: name)
            #expect(try await pool.omap(name) == values)
            #expect(try await pool.omap(name, prefix: "key.24").count == 111)
        }
    }

    @Test func readOperationIsOneMoment() async throws {
        try await withObject { name in
            var fill = WriteOperation()
            fill.writeFull(Array("config".utf8))
            fill.omapSet("member.gw1", [1])
            let version = try await pool.execute(fill, on: name)

            var operation = ReadOperation()
            operation.assertVersion(version)
            let status = operation.status()
            let bytes = operation.read(length: 100)
            let some = operation.read(offset: 3, length: 2)
            let members = operation.omapValues(prefix: "member.")
            let one = operation.omapValues(of: ["member.gw1"])
            let result = try await pool.execute(operation, on: name)
            #expect(result.version == version)
            #expect(result[status].size == 6)
            #expect(abs(result[status].modified - Int64(Date().timeIntervalSince1970)) < 60)
            #expect(result[bytes] == Array("config".utf8))
            #expect(result[some] == Array("fi".utf8))
            #expect(result[members] == OmapPage(values: ["member.gw1": [1]]))
            #expect(result[one] == ["member.gw1": [1]])

            var compared = ReadOperation()
            compared.compare(Array("coNfig".utf8))
            _ = compared.read(length: 6)
            #expect(await error { _ = try await pool.execute(compared, on: name) }?.kind == .mismatch(offset: 2))
            var keyed = ReadOperation()
            keyed.omapCompare("member.gw1", .equal, [2])
            #expect(await error { _ = try await pool.execute(keyed, on: name) }?.kind == .comparisonFailed)
        }
    }

    @Test func otherSteps() async throws {
        try await withObject { name in
            var operation = WriteOperation()
            operation.write([1, 2, 3], at: 2)
            operation.append([4])
            operation.truncate(to: 5)
            try await pool.execute(operation, on: name)
            #expect(try await pool.readAll(name).bytes == [0, 0, 1, 2, 3])
            #expect(await error { try await pool.execute(WriteOperation(), on: name) }?.kind == .invalid)
        }
    }
}

@Suite("A cluster that cannot be reached")
struct UnreachableClusterTests {
    /// Connects with a configuration that names these monitors, and gives the error and the seconds it took.
    private func attempt(_ monitors: String, connect: Duration) async throws -> (RadosError?, Duration) {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(LiveCeph.unique("clio-conf"))
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let configuration = folder.appendingPathComponent("ceph.conf")
        let keyring = folder.appendingPathComponent("keyring")
        try "[global]\nmon host = \(monitors)\nlog file = \(folder.path)/log\n"
            .write(to: configuration, atomically: true, encoding: .utf8)
        try "[client.admin]\n\tkey = AQAAAAAAAAAAABAAAAAAAAAAAAAAAAAAAAAAAA==\n"
            .write(to: keyring, atomically: true, encoding: .utf8)
        let options = Cluster.Options(
            configuration: FilePath(configuration.path), keyring: FilePath(keyring.path),
            timeouts: .init(connect: connect))
        let start = ContinuousClock.now
        do {
            _ = try await Cluster.connect(options)
            return (nil, .zero)
        } catch { return (error, ContinuousClock.now - start) }
    }

    @Test("Nobody listens: a bounded wait, then what to look at")
    func refused() async throws {
        let (error, time) = try await attempt("127.0.0.1:1", connect: .seconds(2))
        #expect(error?.kind == .timedOut)
        #expect(error?.description.contains("no monitor answered within 2 s") == true)
        #expect(error?.description.contains("mon host") == true)
        #expect(time < .seconds(5), "\(time)")
    }

    @Test func noConfiguration() async throws {
        do {
            _ = try await Cluster.connect(.init(configuration: "/nonexistent/ceph.conf"))
            Issue.record("connected")
        } catch {
            #expect(error.kind == .invalid)
            #expect(error.object == "/nonexistent/ceph.conf")
            #expect(error.description.contains("--ceph-conf"))
        }
    }
}
