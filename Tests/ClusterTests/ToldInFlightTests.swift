// SPDX-License-Identifier: Apache-2.0

import Foundation
import Initiator
import Lab
import Testing

/// What hosts are told.
extension InFlightTests {
    /// Guards: past `hold` a host is told LOGICAL UNIT NOT READY, an error, and not BUSY.
    @Test(.whole) func pastHoldHostsAreTold() async throws {
        try await Stuck.with { stuck in
            let host = try await stuck.host("host", "gw1")
            // A peer that is silent, and that nobody can fence.
            try await stuck.lab.pause("mon.a")
            try await stuck.lab.freeze("gw2")
            var told: [SCSIReply] = []
            try await until(.seconds(30), "commands are held back") {
                let reply = try await host.send(.read(0, blocks: 1), lun: stuck.lun)
                if !reply.isGood { told.append(reply) }
                return told.contains { $0.isBusy } || told.count >= 10
            }
            #expect(told.contains { $0.isBusy }, "\(told)")
            #expect(!told.contains { $0.sense?.key == 0x02 }, "\(told)")
            try await stuck.lab.resume("mon.a")
            try await stuck.lab.thaw("gw2")
        }
    }

    /// Guards: a command that its own host aborts, and so gets no status, takes its place in the command window with it; once
    /// 64 have, which is all, the host may send nothing any more.
    @Test func abortedCommandsCloseTheCommandWindow() async throws {
        try await Stuck.with { stuck in
            let block = try stuck.block()
            let host = try await stuck.host("host", "gw1")
            for round in 1...3 {
                try await stuck.hold("gw1", from: stuck.data)
                for number in 0..<30 { _ = host.start(.write(block + UInt64(number), Stuck.old), lun: stuck.lun) }
                try await stuck.waitForRequests("gw1", stuck.data)
                let abort = host.startManaging(.abortTaskSet, lun: stuck.lun)
                #expect(try await abort.value(within: .seconds(1)) == nil)
                try await stuck.lab.heal("gw1")
                #expect(try await abort.value(within: .seconds(30)) == .complete)
                let told = try await host.start(.testUnitReady, lun: stuck.lun).value(within: .seconds(30))
                try #require(told != nil, "the host may send nothing any more, round \(round)")
            }
        }
    }

    /// Guards: of two sessions of one initiator name one takes the unit attention of the other.
    @Test(.whole) func eachSessionHasItsUnitAttention() async throws {
        try await Stuck.with { stuck in
            let sessions = [
                try await stuck.host("host", "gw1", isid: 1), try await stuck.host("host", "gw1", isid: 2),
            ]
            let manager = try await stuck.host("manager", "gw2")
            #expect(try await manager.manage(.logicalUnitReset, lun: stuck.lun) == .complete)
            for session in sessions { #expect(try await stuck.attentions(session).contains(0x2903)) }
        }
    }

    /// Guards: a unit attention that is reported takes the others with it.
    @Test(.whole) func noUnitAttentionSwallowsAnother() async throws {
        try await Stuck.with { stuck in
            let host = try await stuck.host("host", "gw1")
            let witness = try await stuck.host("witness", "gw1")
            let clio = try stuck.lab.executable("clio")
            try await stuck.lab.check("gw2", [clio, "node", "down"])
            try await until(.seconds(20), "states have changed") {
                try await stuck.attentions(witness).contains(0x2A06)
            }
            let image = try #require(stuck.lab.description().luns.first { $0.lun == stuck.lun })
            try await stuck.lab.hostCheck(
                ["rbd", "resize", "--no-progress", "--size", "512M", "\(image.pool)/\(image.image)"])
            try await until(.seconds(20), "the capacity has changed") {
                try await stuck.attentions(witness).contains(0x2A09)
            }
            let found = try await stuck.attentions(host)
            #expect(found.contains(0x2A06))
            #expect(found.contains(0x2A09))
        }
    }

    /// Guards: GOOD for PERSISTENT RESERVE OUT comes with a residual, as if its parameters had not been taken; SCOPE and TYPE of a
    /// PREEMPT are looked at although it establishes no reservation; a host is told BUSY for as long as the state of
    /// reservations cannot be read, as if that went away by itself.
    @Test func whatReservationsAreAnswered() async throws {
        try await Stuck.with { stuck in
            let hosts = [try await stuck.host("host", "gw1"), try await stuck.host("host", "gw2")]
            let other = try await stuck.host("other", "gw1")
            func out(
                _ nexus: Initiator.Nexus, _ action: PersistentReserveOut, key: UInt64 = 0, actionKey: UInt64 = 0,
                type: UInt8 = 0
            ) async throws {
                let command = SCSICommand.persistentReserveOut(action, key: key, actionKey: actionKey, type: type)
                let reply = try await nexus.send(command, lun: stuck.lun)
                #expect(reply.isGood && reply.residual == 0, "\(action): \(reply), residual \(reply.residual)")
            }
            for host in hosts { try await out(host, .register, actionKey: 0xA) }
            try await out(hosts[0], .reserve, key: 0xA, type: 1)
            try await out(hosts[0], .release, key: 0xA, type: 1)
            try await out(hosts[0], .reserve, key: 0xA, type: 5)
            let keys = try await other.send(.persistentReserveIn(.readKeys), lun: stuck.lun)
            #expect(keys.data.count == 24 && keys.residual == 4096 - 24)

            // A registration is preempted, and no reservation: SPC-4, 5.7.11.4.4.
            let preemptions: [(PersistentReserveOut, UInt8)] = [(.preempt, 0x21), (.preemptAndAbort, 0x0F)]
            for (action, scopeAndType) in preemptions {
                try await out(other, .register, actionKey: 0xC)
                try await out(hosts[0], action, key: 0xA, actionKey: 0xC, type: scopeAndType)
                #expect(try await stuck.keys(other) == [0xA])
            }

            let (pool, object) = try await stuck.lab.reservationsObject(lun: stuck.lun)
            let kept = "\(stuck.lab.folder)/kept"
            func rados(_ words: String...) async throws {
                try await stuck.lab.hostCheck(["rados", "-p", pool] + words)
            }
            try await rados("get", object, kept)
            try await stuck.lab.hostCheck(["sh", "-c", "head -c 200 /dev/urandom > \(kept).garbage"])
            try await rados("put", object, "\(kept).garbage")
            let commands: [SCSICommand] = [
                .persistentReserveIn(.readKeys), .read(0, blocks: 1), .write(0, Stuck.old),
                .persistentReserveOut(.register, key: 0xA, actionKey: 0xA),
            ]
            for host in hosts {
                for command in commands {
                    let reply = try await host.send(command, lun: stuck.lun)
                    // HARDWARE ERROR, INTERNAL TARGET FAILURE: nothing that is worth trying again, here or elsewhere.
                    #expect(reply.sense?.key == 4 && reply.sense?.additional == 0x4400, "\(command.cdb[0]): \(reply)")
                }
            }
            try await rados("put", object, kept)
            for host in hosts {
                try await until(.seconds(30), "what is right again is taken") {
                    try await host.send(.persistentReserveIn(.readKeys), lun: stuck.lun).isGood
                }
                #expect(try await stuck.keys(host) == [0xA])
                for command in commands { try await host.good(command, lun: stuck.lun) }
            }
            #expect(try await other.send(.write(0, Stuck.old), lun: stuck.lun).isReservationConflict)
        }
    }
}
