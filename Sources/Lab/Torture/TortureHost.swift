// SPDX-License-Identifier: Apache-2.0
import Initiator

/// What hosts of a round know of the cluster.
struct TortureSite: Sendable {
    var gateways: [String]
    var portals: [String]
    var namespace: String
    /// Of the unit that is written and counted in.
    var naa: [UInt8]
    /// What had no answer is over so long after its path has been given up: the node's `ping` and `pingTimeout`, F, and a second.
    static let wait = Duration.seconds(17)
    /// The same if the node has closed the path: F, and a second.
    static let waitOnceClosed = Duration.seconds(11)
    /// Within this, every command and every task management function is answered or its session ends, whatever failed.
    static let bound = Duration.seconds(120)
    /// Units: for stamps and counters, for fencing, for reservations.
    static let (stamps, fencing, reservations) = (0, 1, 2)
    /// For commands that are stuck.
    var stuck: Int
    /// Relative target port identifiers of the gateways.
    var ports: [UInt16]

    static func initiator(_ name: String) -> String { "iqn.2026-11.example.clio:torture-\(name)" }

    func logIn(
        _ name: String, _ gateway: Int, isid: UInt32, attributes: Bool = false, within limit: Duration = .seconds(5)
    ) async throws -> Nexus {
        try await Nexus.login(
            within: limit, portal: portals[gateway], target: Lab.targetName,
            initiator: Self.initiator(name), isid: isid, timeout: 300, namespace: namespace,
            attributes: attributes)
    }
}

/// How a command ended for its host.
enum TortureAnswer: Sendable {
    case reply(SCSIReply)
    /// The session ended first.
    case lost
    /// Nothing within the time that the host had for it.
    case none

    var isGood: Bool { if case .reply(let reply) = self { reply.isGood } else { false } }
}

extension TortureAnswer: CustomStringConvertible {
    var description: String {
        switch self {
        case .reply(let reply): reply.isGood ? "GOOD" : "\(reply)"
        case .lost: "session lost"
        case .none: "no answer"
        }
    }
}

extension Nexus {
    /// Waits for the end of a command. Until then it asks for signs of life, so that a session that the other end no longer
    /// knows ends.
    func answer(_ pending: Pending<SCSIReply>, within limit: Duration, lun: Int) async -> TortureAnswer {
        let end = ContinuousClock.now + limit
        var probe: Pending<SCSIReply>?
        do {
            while ContinuousClock.now < end {
                let slice = min(.seconds(2), end - ContinuousClock.now)
                if let reply = try await pending.value(within: slice) { return .reply(reply) }
                if probe?.isSettled ?? true { probe = start(.testUnitReady, lun: lun) }
            }
            return .none
        } catch {
            return .lost
        }
    }

    /// Sends a command and waits for its end.
    func answer(to command: SCSICommand, within limit: Duration, lun: Int) async -> TortureAnswer {
        await answer(start(command, lun: lun), within: limit, lun: lun)
    }

    /// The same, for commands that may as well be sent again: past unit attentions and what passes by itself.
    func answer(toRepeatable command: SCSICommand, within limit: Duration, lun: Int) async -> TortureAnswer {
        let end = ContinuousClock.now + limit
        while true {
            let answer = await answer(to: command, within: max(.zero, end - ContinuousClock.now), lun: lun)
            guard case .reply(let reply) = answer, ContinuousClock.now < end else { return answer }
            guard reply.isBusy || reply.isTaskSetFull || reply.isTaskAborted || reply.isAttention else { return answer }
            try? await Task.sleep(for: .milliseconds(reply.isAttention ? 1 : 50))
        }
    }

    /// Waits for the response to a task management function; nil if there is none, or the session ends.
    func response(
        _ pending: Pending<TaskManagementResponse>, within limit: Duration, lun: Int
    ) async -> (response: TaskManagementResponse?, isLost: Bool) {
        let end = ContinuousClock.now + limit
        var probe: Pending<SCSIReply>?
        do {
            while ContinuousClock.now < end {
                let slice = min(.seconds(2), end - ContinuousClock.now)
                if let response = try await pending.value(within: slice) { return (response, false) }
                if probe?.isSettled ?? true { probe = start(.testUnitReady, lun: lun) }
            }
            return (nil, false)
        } catch {
            return (nil, true)
        }
    }
}

extension SCSIReply {
    /// A unit attention came in place of the command.
    var isAttention: Bool { sense?.key == 0x06 }
}
