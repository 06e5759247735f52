// SPDX-License-Identifier: Apache-2.0

import CNetlink
import Testing

@testable import Netlink

/// What the kernel sends, as the client reads it.
@Suite struct BlkClusterTests {
    private func message(_ command: Int, _ build: (inout Attributes) -> Void) -> GenericMessage {
        var attributes = Attributes()
        build(&attributes)
        return GenericMessage(family: 40, command: UInt8(command), attributes: attributes)
    }

    @Test func event() throws {
        let message = message(Int(BLK_CLUSTER_CMD_EVENT)) {
            $0.put(UInt16(BLK_CLUSTER_A_EVENT_ID), UInt64(7))
            $0.put(UInt16(BLK_CLUSTER_A_EVENT_KIND), BLK_CLUSTER_KIND_CLEAR_TASK_SET.rawValue)
            $0.put(UInt16(BLK_CLUSTER_A_EVENT_UNIT), string: "rbd:2.5e2a")
            $0.put(UInt16(BLK_CLUSTER_A_EVENT_SENT), UInt64(1_000))
            $0.put(UInt16(BLK_CLUSTER_A_EVENT_PAYLOAD), bytes: [1, 1, 0, 0])
        }
        guard case .event(let event) = BlkCluster.Notification(message) else {
            Issue.record("no event")
            return
        }
        #expect(event.id == 7)
        #expect(event.kind == .clearTaskSet)
        #expect(event.unit == "rbd:2.5e2a")
        #expect(event.deadline == nil)
        #expect(event.payload == [1, 1, 0, 0])
    }

    @Test func eventOfANewerKernel() {
        let message = message(Int(BLK_CLUSTER_CMD_EVENT_RAISED)) {
            $0.put(UInt16(BLK_CLUSTER_A_EVENT_ID), UInt64(8))
            $0.put(UInt16(BLK_CLUSTER_A_EVENT_KIND), UInt32(77))
            $0.put(9000, string: "unknown")
        }
        guard case .raised(let event) = BlkCluster.Notification(message) else {
            Issue.record("no event")
            return
        }
        #expect(event.kind == .other(77))
        #expect("\(event.kind)" == "kind 77")
    }

    @Test func endOfAnEvent() {
        let message = message(Int(BLK_CLUSTER_CMD_EVENT_ENDED)) {
            $0.put(UInt16(BLK_CLUSTER_A_EVENT_ID), UInt64(8))
            $0.put(UInt16(BLK_CLUSTER_A_EVENT_OUTCOME), BLK_CLUSTER_OUTCOME_LATE.rawValue)
            $0.put(UInt16(BLK_CLUSTER_A_EVENT_LATE), string: "gw2")
            $0.put(UInt16(BLK_CLUSTER_A_EVENT_LATE), string: "gw3")
        }
        guard case .ended(let event, .late, let nodes) = BlkCluster.Notification(message) else {
            Issue.record("no end")
            return
        }
        #expect(event.id == 8)
        #expect(nodes == ["gw2", "gw3"])
    }

    @Test func tasks() {
        let applied = message(Int(BLK_CLUSTER_CMD_APPLIED)) {
            $0.put(UInt16(BLK_CLUSTER_A_TASK_ID), UInt64(3))
            $0.put(UInt16(BLK_CLUSTER_A_TASK_ERROR), UInt32(5))
        }
        #expect(BlkCluster.Notification(applied) == .applied(3, error: 5))
        let settled = message(Int(BLK_CLUSTER_CMD_SETTLED)) { $0.put(UInt16(BLK_CLUSTER_A_TASK_ID), UInt64(4)) }
        #expect(BlkCluster.Notification(settled) == .settled(4))
    }

    /// Without the number that names it, nothing can be done about a message.
    @Test(arguments: [BLK_CLUSTER_CMD_EVENT, BLK_CLUSTER_CMD_SETTLED, BLK_CLUSTER_CMD_APPLIED].map { Int($0) })
    func withoutANumber(command: Int) {
        #expect(BlkCluster.Notification(message(command) { _ in }) == nil)
    }

    /// One attribute for each class, in order.
    @Test func latency() {
        var attributes = Attributes()
        for count in [7, 0, 3] as [UInt64] { attributes.put(UInt16(BLK_CLUSTER_A_DEVICE_LATENCY), count) }
        attributes.put(UInt16(BLK_CLUSTER_A_DEVICE_LATENCY), bytes: [1])
        attributes.put(UInt16(BLK_CLUSTER_A_DEVICE_TOOK), UInt64(500))
        let latency = BlkCluster.Device(attributes).latency
        #expect(latency.counts == [7, 0, 3] && latency.nanoseconds == 500)
        #expect(latency.bounds == [65_536e-9, 262_144e-9])
        #expect(BlkCluster.Device(Attributes()).latency.bounds.isEmpty)
    }

    /// Padding attributes, which 64-bit numbers may need, do not disturb.
    @Test func lease() {
        var attributes = Attributes()
        attributes.put(UInt16(BLK_CLUSTER_A_LEASE_PAD), bytes: [])
        attributes.put(UInt16(BLK_CLUSTER_A_LEASE_EPOCH), UInt64(9))
        attributes.put(UInt16(BLK_CLUSTER_A_LEASE_INSTANCE), UInt64(0x1014))
        attributes.put(flag: UInt16(BLK_CLUSTER_A_LEASE_LAPSED))
        attributes.put(UInt16(BLK_CLUSTER_A_LEASE_ORPHANS), UInt32(2))
        let lease = BlkCluster.Lease(attributes)
        #expect(lease.epoch == 9 && lease.instance == 0x1014 && lease.lapsed && lease.orphans == 2)
        #expect(lease.inFlight == 0 && lease.barrier == 0)
    }
}
