// SPDX-License-Identifier: Apache-2.0

import Rados
import Testing

@Suite("Watch and notify on a real cluster", .enabled(if: LiveCeph.isGiven, Comment(rawValue: LiveCeph.note)))
struct WatchLiveTests {
    let cluster: Cluster
    let pool: Pool

    init() async throws {
        cluster = try await LiveCeph.connect()
        pool = try await cluster.pool("rbd")
    }

    private func withObject(_ body: (String) async throws -> Void) async throws {
        let name = LiveCeph.unique("clio.watch")
        try await pool.writeFull(name, [])
        do {
            try await body(name)
        } catch {
            try? await pool.remove(name)
            throw error
        }
        try await pool.remove(name)
    }

    /// Answers every notification until the watch ends, and gives what came.
    private func answering(_ watch: Watch, with reply: [UInt8]) -> Task<[WatchNotification], any Error> {
        Task {
            var seen: [WatchNotification] = []
            for try await notification in watch {
                seen.append(notification)
                try notification.acknowledge(reply + notification.payload)
            }
            return seen
        }
    }

    @Test func everyWatcherAnswers() async throws {
        try await withObject { name in
            let other = try await LiveCeph.connect()
            let otherPool = try await other.pool("rbd")
            let first = try await pool.watch(name)
            let second = try await otherPool.watch(name)
            let firstSeen = answering(first, with: [1])
            let secondSeen = answering(second, with: [2])

            let reply = try await pool.notify(name, [7, 8])
            #expect(reply.isComplete)
            #expect(
                Set(reply.acknowledged) == [
                    .init(watcher: cluster.instanceID, cookie: first.cookie, payload: [1, 7, 8]),
                    .init(watcher: other.instanceID, cookie: second.cookie, payload: [2, 7, 8]),
                ])
            #expect(try await otherPool.notify(name).acknowledged.count == 2)

            try await first.close()
            try await second.close()
            let seen = try await firstSeen.value
            #expect(seen.map(\.payload) == [[7, 8], []])
            #expect(seen.map(\.notifier) == [cluster.instanceID, other.instanceID])
            #expect(Set(seen.map(\.id)).count == 2)
            #expect(try await secondSeen.value.map(\.id) == seen.map(\.id))
            #expect(try await pool.notify(name) == NotifyReply())
        }
    }

    @Test func silentWatcherIsNamed() async throws {
        try await withObject { name in
            let deaf = try await pool.watch(name)
            let good = try await pool.watch(name)
            let seen = answering(good, with: [])
            let start = ContinuousClock.now
            let reply = try await pool.notify(name, [1], timeout: .seconds(1))
            #expect(ContinuousClock.now - start < .seconds(5))
            #expect(reply.acknowledged.map(\.cookie) == [good.cookie])
            #expect(reply.timedOut == [.init(watcher: cluster.instanceID, cookie: deaf.cookie)])
            #expect(!reply.isComplete)
            try await deaf.close()
            try await good.close()
            _ = try await seen.value
        }
    }

    @Test func closedTwice() async throws {
        try await withObject { name in
            let watch = try await pool.watch(name)
            #expect(try watch.check() < .seconds(30))
            try await watch.close()
            try await watch.close()
            do throws(RadosError) {
                _ = try watch.check()
                Issue.record("a closed watch is not valid")
            } catch { #expect(error.kind == .invalid) }
            var count = 0
            for try await _ in watch { count += 1 }
            #expect(count == 0)
        }
    }

    @Test func forgottenWatchGoesAway() async throws {
        try await withObject { name in
            _ = try await pool.watch(name)
            var left = -1
            for _ in 0..<50 where left != 0 {
                left = try await pool.watchers(name).count
                try await Task.sleep(for: .milliseconds(50))
            }
            #expect(left == 0)
        }
    }

    @Test func bufferIsBounded() async throws {
        try await withObject { name in
            let watch = try await pool.watch(name, capacity: 2)
            let pool = pool
            // Nobody reads: two wait, the others are dropped, and no one is answered.
            let replies = try await withThrowingTaskGroup(of: NotifyReply.self) { group in
                for number in 0..<5 {
                    group.addTask { try await pool.notify(name, [UInt8(number)], timeout: .seconds(1)) }
                }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            #expect(replies.allSatisfy { $0.timedOut.count == 1 && $0.acknowledged.isEmpty })
            #expect(watch.dropped == 3)
            try await watch.close()
            var seen = 0
            for try await _ in watch { seen += 1 }
            #expect(seen == 2)
        }
    }

    @Test func watchersAreListed() async throws {
        try await withObject { name in
            #expect(try await pool.watchers(name) == [])
            let other = try await LiveCeph.connect()
            let mine = try await pool.watch(name)
            let theirs = try await other.pool("rbd").watch(name, expiry: .seconds(12))
            let found = try await pool.watchers(name)
            #expect(found.map(\.instance) == [cluster.instanceID, other.instanceID].sorted())
            let entry = found.first { $0.instance == other.instanceID }
            #expect(entry?.cookie == theirs.cookie)
            #expect(entry?.expiry == 12)
            #expect(try entry?.address == other.addresses())
            try await mine.close()
            try await theirs.close()
            #expect(try await pool.watchers(name) == [])
        }
    }

    @Test func missingObject() async throws {
        do throws(RadosError) {
            _ = try await pool.watch("clio.nothing")
            Issue.record("watched what is not there")
        } catch { #expect(error.kind == .notFound && error.object == "rbd/clio.nothing") }
        do throws(RadosError) {
            _ = try await pool.notify("clio.nothing")
            Issue.record("notified what is not there")
        } catch { #expect(error.kind == .notFound) }
        do throws(RadosError) {
            _ = try await pool.watchers("clio.nothing")
            Issue.record("listed what is not there")
        } catch { #expect(error.kind == .notFound) }
    }

    @Test("An object that is removed ends its watches with an error")
    func removedObject() async throws {
        let name = LiveCeph.unique("clio.watch")
        try await pool.writeFull(name, [])
        let watch = try await pool.watch(name)
        let reader = Task { () -> RadosError? in
            do {
                for try await _ in watch {}
                return nil
            } catch { return error as? RadosError }
        }
        try await pool.remove(name)
        let error = try #require(await reader.value)
        #expect(error.kind == .disconnected)
        #expect(error.object == "rbd/\(name)")
        #expect(throws: RadosError.self) { try watch.check() }
        try await watch.close()
    }

    @Test("A fenced client can neither write nor keep its watch, once the OSD has the map")
    func blocklist() async throws {
        try await withObject { name in
            let victim = try await LiveCeph.connect()
            let victims = try await victim.pool("rbd")
            let address = try victim.addresses()
            let watch = try await victims.watch(name)
            let reader = Task { () -> RadosError? in
                do {
                    for try await _ in watch {}
                    return nil
                } catch { return error as? RadosError }
            }
            try await victims.writeFull(name, [1])

            let before = try await cluster.osdMapEpoch()
            try await cluster.blocklist(address, for: .seconds(60))
            try await cluster.waitForLatestOSDMap()
            #expect(try await cluster.osdMapEpoch() > before)
            // An operation of one who knows the map: from then on the object's OSD knows it as well.
            #expect(try await pool.readAll(name).bytes == [1])
            do throws(RadosError) {
                try await victims.writeFull(name, [2])
                Issue.record("a fenced client wrote")
            } catch {
                #expect(error.kind == .blocklisted)
                #expect(error.description.contains("fenced"))
            }
            #expect(try await pool.readAll(name).bytes == [1])
            #expect(await reader.value != nil)
            try? await watch.close()

            let rejoined = try await LiveCeph.connect()
            try await rejoined.pool("rbd").writeFull(name, [3])
            try await cluster.unblocklist(address)
            try await cluster.unblocklist(address)
        }
    }

    @Test func manyAtOnce() async throws {
        try await withObject { name in
            let watch = try await pool.watch(name)
            let seen = answering(watch, with: [])
            let pool = pool
            try await withThrowingTaskGroup(of: Bool.self) { group in
                for number in 0..<200 {
                    group.addTask { try await pool.notify(name, [UInt8(number)]).isComplete }
                }
                for try await complete in group { #expect(complete) }
            }
            #expect(watch.dropped == 0)
            try await watch.close()
            #expect(try await Set(seen.value.map(\.payload)).count == 200)
        }
    }
}
