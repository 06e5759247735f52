// SPDX-License-Identifier: Apache-2.0

import Foundation
import Initiator
import Lab
import Testing

/// EXTENDED COPY: what it reads and writes is its host's.
extension InFlightTests {
    /// What of a copy waits for an OSD, and how its host gives it up.
    enum StuckCopy: CaseIterable {
        case readAndDropped, readAndSilent, writeAndDropped, writeAndSilent

        var isRead: Bool { self == .readAndDropped || self == .readAndSilent }
        var isDropped: Bool { self == .readAndDropped || self == .writeAndDropped }
    }

    /// Guards: what an EXTENDED COPY reads or writes is nobody's, so it goes on when its host has given it up, and lands over
    /// what that has written since.
    @Test(arguments: Stuck.isWhole ? StuckCopy.allCases : [.readAndDropped])
    func aCopyOutlivesItsSession(_ copy: StuckCopy) async throws {
        try await Stuck.with { stuck in
            let (stuckBlock, other) = (try stuck.block(), try stuck.blockElsewhere())
            let (source, destination) = copy.isRead ? (stuckBlock, other) : (other, stuckBlock)
            let host = try await stuck.host("host", "gw1")
            try await stuck.write(host, source, Stuck.old)
            try await start(stuck, host, from: (stuck.lun, source), to: (stuck.lun, destination))
            if copy.isDropped { await host.drop() } else { await host.fallSilent() }
            try await Task.sleep(for: Stuck.bound)
            let again = try await stuck.host("host", "gw2")
            try await stuck.write(again, destination)
            try await stuck.expectNewer(after: "gw1", destination, through: again)
        }
    }

    /// Guards: LOGICAL UNIT RESET or PREEMPT AND ABORT, on either unit of an EXTENDED COPY, is answered while the copy may
    /// still write: at that moment it reads or writes at the other unit.
    @Test func aCopyIsWaitedForOnBothUnits() async throws {
        try await Stuck.with { stuck in
            let (lun, block) = try await stuck.anotherUnit()
            let (here, there) = ((lun: stuck.lun, block: try stuck.block()), (lun: lun, block: block))
            for (source, destination) in [(here, there), (there, here)] {
                for claimed in Stuck.isWhole ? [there.lun, here.lun] : [there.lun] {
                    for isReset in [true, false] {
                        print("copy to LUN \(destination.lun), \(isReset ? "reset" : "preemption") of LUN \(claimed)")
                        let victim = try await stuck.host("victim", "gw1")
                        let fencer = try await stuck.host("fencer", "gw2")
                        for nexus in [victim, fencer] { try await nexus.ready(lun: lun) }
                        try await stuck.write(victim, source.block, Stuck.old, lun: source.lun)
                        try await stuck.arm(victim: victim, fencer: fencer, lun: claimed)
                        try await start(stuck, victim, from: source, to: destination)
                        let claim = Task {
                            if isReset {
                                let response = try await fencer.manage(.logicalUnitReset, lun: claimed)
                                #expect(response == .complete)
                            } else {
                                try await fencer.good(Stuck.preemptAndAbort, lun: claimed)
                            }
                        }
                        let isDone = Mutexed(false)
                        async let done: Void = {
                            try await claim.value
                            isDone.change { $0 = true }
                        }()
                        try await Task.sleep(for: .seconds(3))
                        // A read that is stuck at the unit itself is aborted, and the copy ends with it.
                        if source.lun != claimed || source.lun != stuck.lun {
                            #expect(!isDone.value, "the copy may still write")
                        }
                        if !isDone.value { try await stuck.lab.heal("gw1") }
                        try await done
                        try await fencer.ready(lun: destination.lun)
                        try await stuck.write(fencer, destination.block, lun: destination.lun)
                        try await stuck.expectNewer(
                            after: "gw1", destination.block, lun: destination.lun, through: fencer)
                        try await fencer.ready(lun: claimed)
                        try await fencer.good(.persistentReserveOut(.clear, key: 0xB), lun: claimed)
                        for nexus in [victim, fencer] { await nexus.drop() }
                    }
                }
            }
        }
    }

    /// Guards: the children of an EXTENDED COPY are gone while a reset that came from another gateway holds them.
    @Test(.whole) func copiesAndResetsCorruptLists() async throws {
        try await Stuck.with(kernel: .debug) { stuck in
            let copier = try await stuck.host("copier", "gw1")
            let manager = try await stuck.host("manager", "gw2")
            let copy = SCSICommand.extendedCopy(
                from: try await stuck.place(0, copier), to: try await stuck.place(32768, copier), blocks: 8192)
            let end = ContinuousClock.now + .seconds(15)
            async let copies: Int = {
                var begun = 0
                while ContinuousClock.now < end {
                    guard let reply = try? await copier.send(copy, lun: stuck.lun) else { break }
                    if reply.isGood || reply.isTaskAborted { begun += 1 }
                }
                return begun
            }()
            while ContinuousClock.now < end {
                _ = try await manager.startManaging(.logicalUnitReset, lun: stuck.lun).value(within: .seconds(20))
            }
            #expect(await copies > 0)
            // Nobody resets any more; consoles are looked at at the end.
            try await copier.ready(lun: stuck.lun)
            try await copier.good(copy, lun: stuck.lun)
        }
    }

    /// Has a copy of a few blocks get stuck at gw1, which it is sent to as a command of the LUN that is used.
    private func start(
        _ stuck: Stuck, _ host: Initiator.Nexus, from source: (lun: Int, block: UInt64),
        to destination: (lun: Int, block: UInt64)
    ) async throws {
        let copy = SCSICommand.extendedCopy(
            from: try await stuck.place(source.block, lun: source.lun, host),
            to: try await stuck.place(destination.block, lun: destination.lun, host), blocks: 1)
        try await stuck.hold("gw1", from: stuck.data)
        _ = host.start(copy, lun: stuck.lun)
        try await stuck.waitForRequests("gw1", stuck.data)
    }
}
