// SPDX-License-Identifier: Apache-2.0

import Foundation
import Initiator
import Lab
import Reservations
import Testing

/// What only a kernel sees that looks for what goes wrong unnoticed: KASAN, lockdep, sleeping where one must not.
@Suite(
    "Registry and krbd, debug kernel", .serialized, .twoUnits(.debug), .whole, .timeLimit(.minutes(10)))
struct RegistryDebugTests {
    /// Guards: a resize, which krbd tells consumers of, and reservations or resets take two locks in two orders.
    @Test func resizesReservationsAndResets() async throws {
        try await TwoUnits.with { units in
            let lun = units.held.lun
            let hosts = [try await units.held.host("a", "gw1"), try await units.held.host("b", "gw2")]
            // Others: what one's own reset ends has no answer.
            let managers = [try await units.held.host("c", "gw1"), try await units.held.host("d", "gw2")]
            let end = ContinuousClock.now + .seconds(15)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for (index, host) in hosts.enumerated() {
                    let key = UInt64(0xA + index)
                    let changes: [SCSICommand] = [
                        .persistentReserveOut(.registerAndIgnoreExistingKey, actionKey: key),
                        .persistentReserveOut(.reserve, key: key, type: 5),
                        .persistentReserveOut(.preemptAndAbort, key: key, actionKey: UInt64(0xB - index), type: 5),
                        .persistentReserveOut(.release, key: key, type: 5),
                    ]
                    group.addTask {
                        while ContinuousClock.now < end {
                            for change in changes { _ = try await host.send(change, lun: lun) }
                        }
                    }
                    group.addTask {
                        while ContinuousClock.now < end {
                            _ = try await host.send(.write(0, StuckCommands.old), lun: lun)
                        }
                    }
                }
                for manager in managers {
                    group.addTask {
                        while ContinuousClock.now < end { _ = try await manager.manage(.logicalUnitReset, lun: lun) }
                    }
                }
                group.addTask {
                    try await resize(units, from: 257, until: end)
                }
                try await group.waitForAll()
            }
            // They are as big as the image, and the consoles are clean.
            let size = try await resize(units, 1024)
            let readCapacity = SCSICommand(cdb: [0x25] + [UInt8](repeating: 0, count: 9), inputLength: 8)
            for host in hosts {
                try await until(.seconds(20), "\(host.portal) has the new size") {
                    let data = try await host.send(readCapacity, lun: lun).data
                    return data.prefix(4).reduce(0) { $0 << 8 | UInt64($1) } == size / 512 - 1
                }
            }
        }
    }

    /// Guards: a read whose answer has begun to arrive when its OSD dies cannot be aborted.
    @Test func aReadHalfAnsweredIsAborted() async throws {
        try await TwoUnits.with { units in
            let held = units.held
            let block = try held.block()
            let host = try await held.host("host", "gw1")
            let (osd, data) = ("osd.\(held.data)", [UInt8](repeating: 1, count: 512 << 10))
            for part in 0..<2 { try await held.write(host, block + UInt64(1024 * part), data) }
            for step in 1...8 {
                // A megabyte takes several round trips.
                try await units.lab.slow("gw1", from: held.data, Slowness(delay: .milliseconds(100)))
                let read = host.start(.read(block, blocks: 2048), lun: held.lun)
                try await Task.sleep(for: .milliseconds(100 * step))
                try await units.lab.pause(osd)
                try await units.lab.cut("gw1", from: .oneOSD(held.data))
                let wasOver = read.isSettled
                let aborted = try await host.startAborting(read).value(within: .seconds(10))
                #expect(
                    wasOver || aborted == .complete || aborted == .taskDoesNotExist,
                    "step \(step): \(aborted.map { "\($0)" } ?? "no answer")")
                print("step \(step): \(wasOver ? "answered" : "aborted")")
                try await units.lab.resume(osd)
                try await units.lab.heal("gw1")
                try await host.ready(lun: held.lun)
                // The connection has not lost its place.
                #expect(try await host.good(.read(block, blocks: 1024), lun: held.lun) == data, "step \(step)")
            }
        }
    }

    /// Guards: who learns of another size uses the registration of a mapping that got none, or has none any more.
    @Test func resizesAndMappingsThatFail() async throws {
        try await TwoUnits.with { units in
            let end = ContinuousClock.now + .seconds(20)
            async let resizes: Void = {
                try await resize(units, from: 257, until: end)
            }()
            var failed = 0
            while ContinuousClock.now < end {
                #expect(try await units.map("gw1", units.image, "lease,noshare").status != 0)
                failed += 1
                #expect(try await units.map("gw1", units.image, "ro,noshare").status == 0)
                let own = try await units.device("gw1")
                let unmap = """
                    for device in /sys/bus/rbd/devices/*; do
                        [ "$(cat $device/name)" = \(units.image) ] && [ /dev/rbd${device##*/} != \(own) ] || continue
                        echo ${device##*/} > /sys/bus/rbd/remove_single_major
                    done
                    """
                try await units.lab.check("gw1", ["sh", "-c", unmap])
            }
            try await resizes
            print("\(failed) mappings failed")
            let host = try await units.held.host("host", "gw1")
            try await host.good(.read(0, blocks: 1), lun: units.held.lun)
        }
    }

    /// Guards: a module is unloaded, and its code or its memory are used later: by RCU, work items, the lease, netlink.
    @Test func modulesComeAndGo() async throws {
        try await TwoUnits.with { units in
            let (held, lab) = (units.held, units.lab)
            let clio = try lab.executable("clio")
            let changes: [SCSICommand] = [
                .persistentReserveOut(.registerAndIgnoreExistingKey, actionKey: 0xA),
                .persistentReserveOut(.reserve, key: 0xA, type: 5),
                .persistentReserveOut(.clear, key: 0xA),
            ]
            for round in 1...4 {
                let (leaving, staying) = (try await held.host("a", "gw1"), try await held.host("b", "gw2"))
                for lun in [held.lun, units.other] {
                    try await leaving.ready(lun: lun)
                    try await leaving.good(.write(0, StuckCommands.old), lun: lun)
                    try await leaving.good(
                        .compareAndWrite(0, expected: StuckCommands.old, new: StuckCommands.newer), lun: lun)
                }
                for change in changes { try await leaving.good(change, lun: held.lun) }
                // Each change is an event of both gateways, until one of them is gone.
                let isGone = Mutexed(false)
                async let gone: Void = {
                    defer { isGone.change { $0 = true } }
                    // Without cliod the lease runs on, and ends while the modules go, or would.
                    if round.isMultiple(of: 2) { try await lab.killDaemon("gw1") }
                    try await lab.check("gw1", [clio, "node", "down"], timeout: .seconds(120))
                    try await lab.unloadModules("gw1")
                }()
                var count = 0
                while !isGone.value {
                    for change in changes { _ = try await staying.send(change, lun: held.lun) }
                    count += changes.count
                }
                try await gone
                print("round \(round): \(count) changes")
                try await units.start("gw1")
            }
        }
    }

    /// Grows the held unit's image.
    private func resize(_ units: TwoUnits, from mebibytes: Int, until end: ContinuousClock.Instant) async throws {
        for size in mebibytes... {
            guard ContinuousClock.now < end else { break }
            try await resize(units, size)
        }
    }

    @discardableResult
    private func resize(_ units: TwoUnits, _ mebibytes: Int) async throws -> UInt64 {
        try await units.lab.hostCheck(
            ["rbd", "resize", "--no-progress", "--allow-shrink", "--size", "\(mebibytes)M", "rbd/\(units.image)"])
        return UInt64(mebibytes) << 20
    }
}
