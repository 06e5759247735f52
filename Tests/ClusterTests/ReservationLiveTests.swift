// SPDX-License-Identifier: Apache-2.0

import ClusterModel
import Rados
import Reservations
import Target
import Testing

@Suite("Reservations in RADOS", .enabled(if: LiveCeph.isGiven, Comment(rawValue: LiveCeph.note)))
struct ReservationLiveTests {
    @Test func readsWhatIsThere() async throws {
        let cluster = try await LiveCeph.connect()
        let pool = try await cluster.pool("rbd")
        let id = LiveCeph.unique("image")
        var group = Group(name: "test")
        group.luns = [LogicalUnit(lun: 7, image: "rbd/disk", imageID: id)]
        let stored = StoredGroup(version: 1, config: group, ports: [])
        let object = ReservationState.objectName(imageID: id)

        let store = try await ReservationStore("7", of: stored, in: cluster)
        #expect(store.place == "rbd/\(object)")
        // Nothing there: nothing registered
        #expect(try await store.load() == ReservationState())

        var state = ReservationState()
        let initiator = try #require(TransportID(iscsi: "iqn.2026-01.test:host", isid: 1))
        let reserve = ReservationCommand(nexus: Nexus(initiator, port: 1), cdb: [0x16, 0, 0, 0, 0, 0])
        #expect(state.apply(reserve) == .good)
        try await pool.writeFull(object, state.encoded())
        do {
            #expect(try await ReservationStore("rbd/disk", of: stored, in: cluster).load() == state)
            try await pool.writeFull(object, Array(state.encoded().dropLast()))
            let error = await #expect(throws: ReservationStore.Failure.self) { try await store.load() }
            #expect(error?.description.contains("rbd/\(object) is cut off") == true)
        } catch {
            try? await pool.remove(object)
            throw error
        }
        try await pool.remove(object)
        await #expect(throws: ReservationStore.Failure.self) {
            try await ReservationStore("8", of: stored, in: cluster)
        }
    }
}
