// SPDX-License-Identifier: Apache-2.0

import Foundation
import Initiator
import Lab
import Testing

/// A gateway comes or goes while hosts of another one end commands.
extension InFlightTests {
    /// Guards: PREEMPT AND ABORT through another gateway finds a unit that has a consumer, and no handle yet.
    @Test(.whole) func preemptWhileAUnitIsAttached() async throws {
        try await Stuck.with { stuck in
            let clio = try stuck.lab.executable("clio")
            let victim = try await stuck.host("victim", "gw2")
            let fencer = try await stuck.host("fencer", "gw2")
            try await stuck.arm(victim: victim, fencer: fencer)
            for round in 1...3 {
                try await stuck.lab.check("gw1", [clio, "node", "down"])
                // To read what is reserved takes gw1 a while, which begins when the unit is attached.
                try await stuck.lab.slow("gw1", from: stuck.placement.state, Slowness(delay: .milliseconds(200)))
                let isUp = Mutexed(false)
                async let up: Void = {
                    defer { isUp.change { $0 = true } }
                    try await stuck.lab.check("gw1", [clio, "node", "up"], timeout: .seconds(150))
                }()
                var preempted = 0
                while !isUp.value {
                    try await stuck.pastAttentions(fencer, Stuck.preemptAndAbort)
                    preempted += 1
                    try await stuck.pastAttentions(victim, .persistentReserveOut(.register, actionKey: 0xA))
                }
                try await up
                print("round \(round): \(preempted) times")
                try await stuck.lab.heal("gw1")
                try await stuck.pastAttentions(fencer, Stuck.preemptAndAbort)
                let there = try await stuck.host("victim", "gw1")
                #expect(try await stuck.keys(there) == [0xB])
                #expect(try await there.send(.write(0, Stuck.old), lun: stuck.lun).isReservationConflict)
                await there.drop()
                try await stuck.pastAttentions(victim, .persistentReserveOut(.register, actionKey: 0xA))
            }
        }
    }

    /// Guards: LOGICAL UNIT RESET is rejected while another gateway leaves and something of its own is in flight.
    @Test(.whole, arguments: [true, false])
    func resetsWhileAGatewayLeaves(withAStuckWrite isStuck: Bool) async throws {
        try await Stuck.with { stuck in
            let clio = try stuck.lab.executable("clio")
            let block = try stuck.block()
            let host = try await stuck.host("host", "gw1")
            let manager = try await stuck.host("manager", "gw2")
            if isStuck {
                try await stuck.hold("gw1", from: stuck.data)
                _ = host.start(.write(block, Stuck.old), lun: stuck.lun)
                try await stuck.waitForRequests("gw1", stuck.data)
            }
            let isDown = Mutexed(false)
            async let down: Void = {
                defer { isDown.change { $0 = true } }
                try await stuck.lab.check("gw1", [clio, "node", "down"], timeout: .seconds(120))
            }()
            var responses: [TaskManagementResponse: Int] = [:]
            func reset() async throws {
                responses[try await manager.manage(.logicalUnitReset, lun: stuck.lun), default: 0] += 1
            }
            // Long enough for the node that cannot leave to be fenced; it has left once it hears of its write.
            let end = ContinuousClock.now + .seconds(10)
            while !isDown.value, ContinuousClock.now < end { try await reset() }
            try await stuck.lab.heal("gw1")
            while !isDown.value { try await reset() }
            try await down
            print(responses)
            #expect(Set(responses.keys) == [.complete], "\(responses)")
            try await manager.ready(lun: stuck.lun)
            try await stuck.write(manager, block)
            try await stuck.expectNewer(after: "gw1", block, through: manager)
        }
    }

    /// Guards: `node down` says nothing while a write keeps it that no OSD answers, and does not end.
    @Test func nodeDownNamesWhatIsStuck() async throws {
        try await Stuck.with { stuck in
            let clio = try stuck.lab.executable("clio")
            let block = try stuck.block()
            let victim = try await stuck.host("victim", "gw1")
            try await stuck.hold("gw1", from: stuck.data)
            _ = victim.start(.write(block, Stuck.old), lun: stuck.lun)
            try await stuck.waitForRequests("gw1", stuck.data)
            let down = try await stuck.lab.exec("gw1", [clio, "node", "down"], timeout: .seconds(120))
            #expect(down.status != 0)
            let image = "image rbd/lun\(stuck.lun): 1 command in flight"
            for part in [image, "osd.\(stuck.data)", "have fenced it"] {
                #expect(down.errorText.contains(part), "\(down.errorText)")
            }
            let other = try await stuck.host("victim", "gw2")
            try await stuck.write(other, block)
            // It has gone on leaving, and then has left.
            try await stuck.lab.heal("gw1")
            try await stuck.lab.check("gw1", [clio, "node", "down"], timeout: .seconds(120))
            try await stuck.expectNewer(after: "gw1", block, through: other)
        }
    }
}
