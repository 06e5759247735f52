// SPDX-License-Identifier: Apache-2.0

import ClusterModel
import Logging
import Rados
import Relay
import Synchronization
import Testing

@testable import RelayDriver

/// The relay's requests on a real cluster.
@Suite("The group object on a real cluster", .enabled(if: LiveCeph.isGiven, Comment(rawValue: LiveCeph.note)))
struct GroupObjectLiveTests {
    let cluster: Cluster
    let pool: Pool
    let group = LiveCeph.unique("g")

    init() async throws {
        cluster = try await Cluster.connect(GroupObject.tune(LiveCeph.options(), Timing()))
        pool = try await cluster.pool("rbd")
        try await pool.writeFull(StoredGroup.objectName(for: group), [])
    }

    private func object(
        _ pool: Pool, _ handler: @escaping @Sendable (GroupObject.Happening) -> Void = { _ in }
    ) -> GroupObject {
        GroupObject(
            pool: pool, group: group, expiry: .seconds(7),
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
            handler: handler)
    }

    private let record = Record(instance: 0x1014, clients: ["10.77.0.11:0/1", "10.77.0.11:0/2"])

    @Test func recordsAreSwappedOnlyUnderTheirGuards() async throws {
        let object = object(pool)
        guard case .members(let empty) = await object.perform(.read) else {
            Issue.record("no read")
            return
        }
        #expect(empty.members.isEmpty && empty.beats.isEmpty)
        let join = Swap(guards: [.member("gw1", nil)], changes: [.member("gw1", record), .beat("gw1", 1)])
        #expect(await object.perform(.swap(join)) == .swapped)
        #expect(await object.perform(.swap(join)) == .mismatch, "the record is there now")
        let renewal = Swap(guards: [.beat("gw1", 1), .member("gw1", record)], changes: [.beat("gw1", 2)])
        #expect(await object.perform(.swap(renewal)) == .swapped)
        #expect(await object.perform(.swap(renewal)) == .mismatch, "the beat has moved")

        guard case .members(let joined) = await object.perform(.read) else {
            Issue.record("no read")
            return
        }
        #expect(joined.members == ["gw1": record])
        #expect(joined.beats == ["gw1": 2])
        #expect(joined.version > empty.version)

        let leave = Swap(guards: [.member("gw1", record)], changes: [.member("gw1", nil), .beat("gw1", nil)])
        #expect(await object.perform(.swap(leave)) == .swapped)
        #expect(try await object.snapshot().members.isEmpty)
    }

    /// Of many that want the same, one gets it.
    @Test func oneWins() async throws {
        let object = object(pool)
        let replies = await withTaskGroup(of: Reply.self) { tasks in
            for instance in 1...20 {
                let record = Record(instance: UInt64(instance), clients: [])
                let swap = Swap(guards: [.member("gw1", nil)], changes: [.member("gw1", record)])
                tasks.addTask { await object.perform(.swap(swap)) }
            }
            return await tasks.reduce(into: [Reply]()) { $0.append($1) }
        }
        #expect(replies.filter { $0 == .swapped }.count == 1)
        #expect(replies.filter { $0 == .mismatch }.count == 19)
    }

    /// What nobody's relay has written is no reason to go on as if it were not there.
    @Test func damageIsNotOverlooked() async throws {
        var operation = WriteOperation()
        operation.omapSet("member.gw9", [1, 2, 3])
        try await pool.execute(operation, on: StoredGroup.objectName(for: group))
        #expect(await object(pool).perform(.read) == .failed(.unavailable))
    }

    @Test func messagesReachEveryWatch() async throws {
        let (arrived, arrive) = AsyncStream.makeStream(of: WatchNotification.self)
        let listener = object(pool) { happening in
            if case .notification(let notification) = happening { arrive.yield(notification) }
        }
        #expect(await listener.perform(.watch) == .watching)
        #expect(listener.isWatching)
        let message = Message.look(origin: Member(node: "gw1", instance: 1)).encoded
        async let reply = object(pool).perform(.notify(message, timeout: .seconds(2)))
        for await notification in arrived {
            #expect(notification.payload == message)
            try notification.acknowledge([9, 9])
            break
        }
        #expect(await reply == .notified([[9, 9]]))
        await listener.close()
        #expect(!listener.isWatching)
    }

    @Test func blocklistedClientsLearnOfIt() async throws {
        let victim = try await Cluster.connect(GroupObject.tune(LiveCeph.options(), Timing()))
        let victims = object(try await victim.pool("rbd"))
        #expect(await victims.perform(.read) != .failed(.blocklisted))
        let before = try await cluster.osdMapEpoch()
        let address = try victim.addresses()
        guard case .blocklisted(let epoch) = await object(pool).perform(.blocklist([address])) else {
            Issue.record("not blocklisted")
            return
        }
        #expect(epoch > before)
        var reply = Reply.watching
        for _ in 0..<50 where reply != .failed(.blocklisted) {
            reply = await victims.perform(.swap(Swap(guards: [], changes: [.beat("victim", 1)])))
            try await Task.sleep(for: .milliseconds(100))
        }
        #expect(reply == .failed(.blocklisted))
        try await cluster.unblocklist(address)
    }
}
