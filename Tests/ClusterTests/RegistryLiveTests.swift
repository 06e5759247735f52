// SPDX-License-Identifier: Apache-2.0

import Foundation
import Initiator
import Lab
import Netlink
import Reservations
import Testing

/// `make test` runs those that take seconds, `make test-in-flight` all of them.
///
/// What the kernel does about devices of the cluster and their reservations holds when RADOS does not answer, answers too
/// late, or has what cannot be read; and it concerns one device.
@Suite("Registry, reservations, krbd", .serialized, .twoUnits(gateways: 3), .timeLimit(.minutes(5)))
struct RegistryLiveTests {
    // MARK: Changes whose result is not known

    /// Guards: a signal ends an ioctl that changes reservations, and what the OSD does of it later no node enforces.
    @Test func aSignalLeavesNoChangeUntold() async throws {
        try await TwoUnits.with { units in
            let held = units.held
            let paths = [try await held.host("victim", "gw1"), try await held.host("victim", "gw2")]
            for path in paths { try await path.good(.persistentReserveOut(.register, actionKey: 0xA), lun: held.lun) }
            let tool = [try units.lab.executable("ioc-pr"), try await units.device("gw1")]
            for words in [["ignore", "0xB"], ["reserve", "0xB", "3"]] {
                #expect(try await units.lab.exec("gw1", tool + words).outputText == "good")
            }
            for path in paths { try await path.ready(lun: held.lun) }
            try await held.hold("gw1", from: units.osd)
            async let preempt = units.lab.exec("gw1", tool + ["preempt", "0xB", "0xA", "3"])
            try await held.waitForRequests("gw1", units.osd)
            try await units.lab.check("gw1", ["sh", "-c", "kill -9 $(pgrep -x ioc-pr)"])
            try await Task.sleep(for: .milliseconds(300))
            try await units.lab.heal("gw1")
            print("the ioctl ended with status \(try await preempt.status)")
            try await held.waitForQuiet("gw1", units.osd)
            let stays = try ReservationState(decoding: try await units.stateBytes()).registrations
                .contains { $0.key == 0xA }
            for path in paths {
                try await until(.seconds(20), "\(path.portal) enforces what RADOS has") {
                    try await pastAttentions(path, .write(0, StuckCommands.old), held.lun).isGood == stays
                }
            }
        }
    }

    /// Guards: a change that was done and whose answer was lost is sent again, meets itself, and is told to the host as a
    /// conflict, and to no other node.
    @Test(.whole) func anOwnChangeIsNotAnothers() async throws {
        try await TwoUnits.with { units in
            let held = units.held
            let settings = ["osd_pg_log_dups_tracked 10", "osd_min_pg_log_entries 10", "osd_max_pg_log_entries 20"]
            for setting in settings {
                try await units.lab.hostCheck(
                    ["ceph", "config", "set", "osd"] + setting.split(separator: " ").map(String.init))
            }
            let victim = try await held.host("victim", "gw2")
            let host = try await held.host("host", "gw1")
            try await victim.good(.persistentReserveOut(.register, actionKey: 0xA), lun: held.lun)
            try await host.good(.persistentReserveOut(.register, actionKey: 0xB), lun: held.lun)
            try await host.good(.persistentReserveOut(.reserve, key: 0xB, type: 5), lun: held.lun)
            // The OSD has the request before it stands still, and answers into the void.
            let osd = "osd.\(units.osd)"
            try await units.lab.pause(osd)
            let preempt = host.start(
                .persistentReserveOut(.preempt, key: 0xB, actionKey: 0xA, type: 5), lun: held.lun)
            try await held.waitForRequests("gw1", units.osd)
            try await Task.sleep(for: .milliseconds(300))
            try await units.lab.cut("gw1", from: .oneOSD(units.osd))
            try await units.lab.resume(osd)
            try await until(.seconds(20), "the OSD has done it") {
                try await !ReservationState(decoding: units.stateBytes()).registrations
                    .contains { $0.key == 0xA }
            }
            // Until the logs of all placement groups forget.
            try await units.lab.hostCheck(
                ["rados", "-p", "rbd", "bench", "5", "write", "-b", "512", "-O", "512", "-t", "16", "--no-cleanup"])
            // A new interval: all clients send again what has no answer.
            try await units.lab.hostCheck(["ceph", "osd", "down", "\(units.osd)"])
            try await until(.seconds(30), "\(osd) is back") {
                try await units.lab.hostCheck(["ceph", "osd", "stat"]).contains("\(units.lab.options.osds) up")
            }
            try await units.lab.heal("gw1")
            let reply = try await preempt.value(within: .seconds(60))
            #expect(reply?.isGood == true, "\(reply.map { "\($0)" } ?? "no answer")")
            let write = try await pastAttentions(victim, .write(0, StuckCommands.old), held.lun)
            #expect(write.isReservationConflict, "\(write)")
            for setting in settings {
                try await units.lab.hostCheck(
                    ["ceph", "config", "rm", "osd"] + setting.split(separator: " ").prefix(1).map(String.init))
            }
        }
    }

    // MARK: Mappings

    /// Guards: of two mappings of a unit under the lease one has all resets and reservations, and the other none.
    @Test func aUnitIsLeasedOnce() async throws {
        try await TwoUnits.with { units in
            let before = try await units.lab.check("gw1", ["ls", "/sys/bus/rbd/devices"])
            for options in ["lease", "lease,noshare"] {
                let second = try await units.map("gw1", units.image, options)
                #expect(second.status != 0 && second.errorText.contains("File exists"), "\(second)")
            }
            #expect(try await units.lab.check("gw1", ["ls", "/sys/bus/rbd/devices"]) == before)
            let host = try await units.held.host("host", "gw1")
            try await host.good(.write(0, StuckCommands.old), lun: units.held.lun)
        }
    }

    /// Guards: a snapshot that is mapped under the lease shares the reservations of its image.
    @Test func aSnapshotIsNotLeased() async throws {
        try await TwoUnits.with { units in
            try await units.lab.hostCheck(["rbd", "snap", "create", "--no-progress", "rbd/\(units.image)@snap"])
            let before = try await units.lab.check("gw1", ["ls", "/sys/bus/rbd/devices"])
            let leased = try await units.map("gw1", units.image, snap: "snap", "lease")
            #expect(leased.status != 0 && leased.errorText.contains("Invalid argument"), "\(leased)")
            #expect(try await units.lab.check("gw1", ["dmesg"]).contains("lease is not for a snapshot"))
            #expect(try await units.lab.check("gw1", ["ls", "/sys/bus/rbd/devices"]) == before)
            // Without the lease it is a disk as any.
            #expect(try await units.map("gw1", units.image, snap: "snap", "ro").status == 0)
            let script = """
                for device in /sys/bus/rbd/devices/*; do
                    [ "$(cat $device/current_snap)" = snap ] || continue
                    dd if=/dev/rbd${device##*/} of=/dev/null bs=4096 count=1 iflag=direct
                    echo ${device##*/} > /sys/bus/rbd/remove_single_major
                done
                """
            try await units.lab.check("gw1", ["sh", "-ec", script])
            #expect(try await units.lab.check("gw1", ["ls", "/sys/bus/rbd/devices"]) == before)
        }
    }

    // MARK: States that cannot be read

    /// What a node cannot read as a state of reservations.
    enum Unreadable: CaseIterable {
        case garbage, ofAFutureVersion

        func bytes(_ good: [UInt8]) -> [UInt8] {
            switch self {
            case .garbage: [UInt8]("no state of reservations, but longer than its header".utf8)
            case .ofAFutureVersion: Array(good[..<4] + [2, 0] + good[6...])
            }
        }
    }

    /// Guards: commands go on by the rights of a state that was there before one that cannot be read.
    @Test(arguments: Unreadable.allCases) func anUnreadableStateKeepsNoRights(_ kind: Unreadable) async throws {
        try await TwoUnits.with { units in
            let held = units.held
            let holder = try await held.host("holder", "gw1")
            let other = try await held.host("other", "gw2")
            try await holder.good(.persistentReserveOut(.register, actionKey: 0xA), lun: held.lun)
            try await holder.good(.persistentReserveOut(.reserve, key: 0xA, type: 1), lun: held.lun)
            try await other.ready(lun: held.lun)
            let good = try await units.stateBytes()
            try await units.replaceState(kind.bytes(good))
            for host in [holder, other] {
                // Whoever asks makes its gateway look.
                #expect(try await !host.send(.persistentReserveIn(.readKeys), lun: held.lun).isGood)
                for command in [SCSICommand.write(0, StuckCommands.old), .read(0, blocks: 1)] {
                    let reply = try await host.send(command, lun: held.lun)
                    // A hard error: no path has a better answer.
                    #expect([0x03, 0x04].contains(reply.sense?.key), "\(reply)")
                }
                let register = SCSICommand.persistentReserveOut(.registerAndIgnoreExistingKey, actionKey: 0xC)
                #expect(try await !host.send(register, lun: held.lun).isGood)
            }
            #expect(try await units.stateBytes() == kind.bytes(good), "nobody writes over what he cannot read")
            try await units.replaceState(good)
            // By themselves: nobody asks for reservations now.
            try await until(.seconds(10), "the holder goes on") {
                try await holder.send(.write(0, StuckCommands.newer), lun: held.lun).isGood
            }
            try await until(.seconds(10), "the other has its rights") {
                try await other.send(.read(0, blocks: 1), lun: held.lun).isGood
            }
            #expect(try await other.send(.write(0, StuckCommands.old), lun: held.lun).isReservationConflict)
        }
    }

    /// Guards: a unit whose reservations could not be read when it was mapped stays out of service until something happens to
    /// the lease.
    @Test func aFailedFirstReadIsTriedAgain() async throws {
        try await TwoUnits.with { units in
            let held = units.held
            let host = try await held.host("host", "gw2")
            try await host.good(.persistentReserveOut(.register, actionKey: 0xA), lun: held.lun)
            let good = try await units.stateBytes()
            try await units.lab.check("gw1", [try units.lab.executable("clio"), "node", "down"])
            try await units.replaceState(Unreadable.garbage.bytes(good))
            try await units.start("gw1")
            let here = try await held.host("host", "gw1", lun: units.other)
            #expect(try await !here.send(.read(0, blocks: 1), lun: held.lun).isGood)
            let epoch = try await units.figure("gw1", "clio_lease_epoch")
            try await units.replaceState(good)
            try await until(.seconds(10), "the unit is served") {
                try await here.send(.read(0, blocks: 1), lun: held.lun).isGood
            }
            #expect(try await units.figure("gw1", "clio_lease_epoch") == epoch, "by the same lease")
        }
    }

    // MARK: One unit's trouble

    /// Guards: a node does not arm its lease while the reservations of one unit cannot be read.
    @Test func anUnreadUnitStopsNoLease() async throws {
        try await TwoUnits.with { units in
            let held = units.held
            try await units.lab.check("gw1", [try units.lab.executable("clio"), "node", "down"])
            try await held.hold("gw1", from: units.osd)
            try await units.start("gw1")
            let host = try await held.host("host", "gw1", lun: units.other)
            for _ in 1...5 {
                try await host.good(.read(0, blocks: 1), lun: units.other)
                #expect(try await !host.send(.read(0, blocks: 1), lun: held.lun).isGood)
            }
            let epoch = try await units.figure("gw1", "clio_lease_epoch")
            try await units.lab.heal("gw1")
            try await until(.seconds(10), "the unit is served") {
                try await host.send(.read(0, blocks: 1), lun: held.lun).isGood
            }
            #expect(try await units.figure("gw1", "clio_lease_epoch") == epoch, "by the same lease")
        }
    }

    /// Guards: changes, nexus losses and events of a unit whose reservations do not answer keep those of other units waiting.
    @Test func aStuckUnitStopsNoOther() async throws {
        try await TwoUnits.with { units in
            let held = units.held
            let (here, there) = (try await held.host("a", "gw1"), try await held.host("b", "gw2"))
            for host in [here, there] { try await host.ready(lun: units.other) }
            let leaving = try await held.host("leaving", "gw1")
            try await leaving.good(.reserve6, lun: held.lun)
            let reserver = try await held.host("reserver", "gw1", lun: units.other)
            try await reserver.good(.reserve6, lun: units.other)

            try await held.hold("gw1", from: units.osd)
            // It loses its reservation, which gets stuck; then more than there are threads.
            await leaving.drop()
            try await held.waitForRequests("gw1", units.osd)
            let stuck = (1...16).map {
                here.start(.persistentReserveOut(.registerAndIgnoreExistingKey, actionKey: $0), lun: held.lun)
            }
            let event = there.startManaging(.logicalUnitReset, lun: held.lun)

            await reserver.drop()
            try await until(.seconds(10), "the other unit's reservation has gone with its host") {
                try await there.send(.testUnitReady, lun: units.other).isGood
            }
            try await here.ready(lun: units.other)
            for host in [here, there] {
                let register = SCSICommand.persistentReserveOut(.registerAndIgnoreExistingKey, actionKey: 0xA)
                #expect(try await host.start(register, lun: units.other).value(within: .seconds(10))?.isGood == true)
                let reset = host.startManaging(.logicalUnitReset, lun: units.other)
                #expect(try await reset.value(within: .seconds(10)) == .complete)
                for host in [here, there] { try await host.ready(lun: units.other) }
            }
            #expect(!stuck.contains { $0.isSettled } && !event.isSettled, "they are stuck")
            try await units.lab.heal("gw1")
            #expect(try await event.value(within: .seconds(30)) == .complete)
        }
    }

    /// Guards: COMPARE AND WRITE for which no tag is left is an error, and not TASK SET FULL.
    @Test func compareAndWriteWithoutATag() async throws {
        try await TwoUnits.with { units in
            let held = units.held
            let block = try held.block()
            let zeros = [UInt8](repeating: 0, count: 512)
            var hosts: [Initiator.Nexus] = []
            for number in 1...4 { hosts.append(try await held.host("host\(number)", "gw1")) }
            try await held.hold("gw1", from: held.data)
            let commands = hosts.enumerated().flatMap { index, host in
                (0..<48).map { number in
                    host.start(
                        .compareAndWrite(block + UInt64(48 * index + number), expected: zeros, new: StuckCommands.old),
                        lun: held.lun)
                }
            }
            // A queue of krbd's has 128 tags.
            try await held.waitForRequests("gw1", held.data, atLeast: 128)
            try await until(.seconds(10), "what has no tag is answered") {
                commands.count { $0.isSettled } == commands.count - 128
            }
            try await units.lab.heal("gw1")
            var full = 0
            for command in commands {
                let reply = try await command.value(within: .seconds(30))
                if reply?.isTaskSetFull == true { full += 1 } else { #expect(reply?.isGood == true, "\(reply as Any)") }
            }
            #expect(full == commands.count - 128)
        }
    }

    // MARK: Who may ask

    /// Guards: any process, also of a container, may ask about the lease and the devices, which takes locks that commands need.
    @Test func onlyAdministratorsAskTheKernel() async throws {
        try await TwoUnits.with { units in
            let program = ["env", "\(InNode.variable)=1"] + (try WrapperTests.program("UnprivilegedTests"))
            let nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
            for wrapper in [nobody, ["unshare", "--net"] + nobody] {
                let result = try await units.lab.exec("gw1", wrapper + program, timeout: .seconds(60))
                WrapperTests.expectPassed(result, atLeast: 1)
            }
        }
    }

    // MARK: All at once; the last one, as it takes a gateway

    /// Guards: while the reservations of one unit do not answer, a fencing and a new LUN keep each other waiting, and with them
    /// the leases of all gateways.
    @Test func aStuckUnitAFencingAndANewLUN() async throws {
        try await TwoUnits.with { units in
            let held = units.held
            let image = try await units.imageElsewhere()
            let hosts = [
                try await held.host("host", "gw1", lun: units.other),
                try await held.host("host", "gw2", lun: units.other),
            ]
            var epochs: [Double] = []
            for gateway in ["gw1", "gw2"] { epochs.append(try await units.figure(gateway, "clio_lease_epoch")) }
            try await units.lab.pause("osd.\(units.osd)")
            try await units.lab.kill("gw3")
            let isOver = Mutexed(false)
            async let refused: [SCSIReply] = {
                var refused: [SCSIReply] = []
                while !isOver.value {
                    for host in hosts {
                        let reply = try await host.send(.read(0, blocks: 1), lun: units.other)
                        // Ports and LUNs that come and go are told.
                        if !reply.isGood, reply.sense?.key != 0x06 { refused.append(reply) }
                    }
                    try await Task.sleep(for: .milliseconds(20))
                }
                return refused
            }()
            // All devices are read then.
            try await until(.seconds(40), "gw3 is fenced") {
                var fencings = 0.0
                for gateway in ["gw1", "gw2"] { fencings += try await units.figure(gateway, "clio_fencings_total") }
                return fencings > 0
            }
            try await units.add(image, lun: 2)
            // Longer than a lease.
            try await Task.sleep(for: .seconds(6))
            isOver.change { $0 = true }
            let replies = try await refused
            #expect(replies.isEmpty, "\(replies)")
            for (gateway, epoch) in zip(["gw1", "gw2"], epochs) {
                #expect(try await units.figure(gateway, "clio_lease_epoch") == epoch)
            }
        }
    }

    // MARK: Helpers

    /// What a command comes to once the unit attentions have been taken.
    private func pastAttentions(
        _ nexus: Initiator.Nexus, _ command: SCSICommand, _ lun: Int
    ) async throws -> SCSIReply {
        for _ in 0..<8 {
            let reply = try await nexus.send(command, lun: lun)
            guard reply.sense?.key == 0x06 else { return reply }
        }
        return try await nexus.send(command, lun: lun)
    }
}

/// Run inside a node by ``RegistryLiveTests``, as a process without capabilities.
@Suite(.enabled(if: InNode.isHere, Comment(rawValue: InNode.note)))
struct UnprivilegedTests {
    @Test func theKernelIsNotAsked() async throws {
        let kernel = try await BlkCluster()
        let lease = await #expect(throws: NetlinkError.self) { try await kernel.lease() }
        #expect(lease?.errno == .notPermitted)
        let devices = await #expect(throws: NetlinkError.self) { try await kernel.devices() }
        #expect(devices?.errno == .notPermitted)
    }
}
