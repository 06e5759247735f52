// SPDX-License-Identifier: Apache-2.0

import Foundation
import Initiator
import Reservations

/// What hosts were told that changed a unit's reservations at random through all gateways, and what came of it.
public struct ReservationRace: Sendable {
    public let history: ReservationHistory
    /// What RADOS has at the end.
    public let end: ReservationState
    /// Gateways whose PERSISTENT RESERVE IN does not say at the end what RADOS has.
    public let disagreeing: [String]
}

extension Lab {
    /// Hosts register, reserve, preempt and clear at random, each through a gateway that it draws for each command, and read
    /// the full status in between. Their registrations stay.
    ///
    /// - Parameter hosts: at most 255. A host has one key, for all of its paths.
    /// - Throws: `ISCSIError` if a gateway does not answer; `LabError` if it answers what no rule knows.
    public func raceReservations(
        hosts: Int = 8, lun: Int = 0, for duration: Duration = .seconds(20)
    ) async throws -> ReservationRace {
        var history = ReservationHistory(initial: try await reservations(lun: lun))
        let begin = ContinuousClock.now
        try await withThrowingTaskGroup(of: [ReservationHistory.Operation].self) { group in
            for number in 1...hosts {
                group.addTask { [self] in
                    try await race(host: number, of: hosts, lun: lun, from: begin, to: begin + duration)
                }
            }
            for try await operations in group { history.operations += operations }
        }
        let end = try await reservations(lun: lun)
        var disagreeing: [String] = []
        for (path, node) in zip(try await reservationPaths(host: 1, lun: lun), gateways) {
            let status = Self.readFullStatus
            let sent = (ContinuousClock.now - begin).nanoseconds
            let data = try await path.session.good(status, lun: lun)
            let answered = (ContinuousClock.now - begin).nanoseconds
            // The order has to end with this.
            history.operations.append(
                ReservationHistory.Operation(
                    host: 1, sent: sent, answered: answered, kind: .read(cdb: status.cdb, data: data)))
            if data != end.read(status.cdb).data { disagreeing.append(node) }
            await path.session.close()
        }
        return ReservationRace(history: history, end: end, disagreeing: disagreeing)
    }

    private func race(
        host: Int, of hosts: Int, lun: Int, from begin: ContinuousClock.Instant, to end: ContinuousClock.Instant
    ) async throws -> [ReservationHistory.Operation] {
        let clock = ContinuousClock()
        let paths = try await reservationPaths(host: host, lun: lun)
        var operations: [ReservationHistory.Operation] = []
        while clock.now < end, let path = paths.randomElement() {
            let command = Self.raceCommand(key: UInt64(host), hosts: hosts)
            let sent = (clock.now - begin).nanoseconds
            let reply = try await path.session.send(command, lun: lun)
            let answered = (clock.now - begin).nanoseconds
            guard let kind = try Self.operation(command, path.nexus, reply) else { continue }
            operations.append(
                ReservationHistory.Operation(host: host, sent: sent, answered: answered, kind: kind))
        }
        for path in paths { await path.session.close() }
        return operations
    }

    /// A host's session with a gateway, and what the reservations of a unit call it.
    public struct ReservationPath: Sendable {
        public let session: Initiator.Nexus
        public let nexus: Reservations.Nexus
    }

    /// Logs a host in to each gateway, in the order of the gateways. The same host number is the same initiator port.
    ///
    /// - Parameter host: 1 to 255.
    public func reservationPaths(host: Int, lun: Int = 0) async throws -> [ReservationPath] {
        let name = "iqn.2026-11.example.clio:host\(host)"
        // What libiscsi makes of it: of type 10b, with the number in its random part.
        guard let port = TransportID(iscsi: name, isid: 0x80 << 40 | UInt64(host) << 16) else {
            throw LabError(name, "is not an initiator's name")
        }
        var paths: [ReservationPath] = []
        for node in description().nodes {
            guard let portal = node.portal else { continue }
            let session = try await Nexus.login(
                portal: portal, target: Self.targetName, initiator: name, isid: UInt32(host), namespace: netns)
            try await session.ready(lun: lun)
            let relative = try await blocking(in: netns) {
                let probe = try ISCSISession(portal: portal, target: Self.targetName)
                return try Identity(session: probe, lun: lun).relativePort
            }
            guard let relative else { throw LabError(node.name, "does not name its target port") }
            paths.append(ReservationPath(session: session, nexus: Reservations.Nexus(port, port: relative)))
        }
        return paths
    }

    /// The object that keeps the reservations of a unit, and its pool.
    public func reservationsObject(lun: Int = 0) async throws -> (pool: String, object: String) {
        guard let unit = description().luns.first(where: { $0.lun == lun }) else {
            throw LabError("LUN \(lun)", "is not in the lab")
        }
        let info = try await hostCheck(["rbd", "info", "\(unit.pool)/\(unit.image)"])
        guard let id = info.split(separator: "\n").first(where: { $0.contains("\tid: ") })?.split(separator: " ").last
        else { throw LabError("\(unit.pool)/\(unit.image)", "has no id: \(info)") }
        return (unit.pool, ReservationState.objectName(imageID: String(id)))
    }

    /// The reservations of a unit, as RADOS has them.
    public func reservations(lun: Int = 0) async throws -> ReservationState {
        let (pool, object) = try await reservationsObject(lun: lun)
        guard try await hostCheck(["rados", "-p", pool, "ls"]).split(separator: "\n").contains(Substring(object))
        else { return ReservationState() }
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("\(object).\(UUID())")
        defer { try? FileManager.default.removeItem(at: file) }
        try await hostCheck(["rados", "-p", pool, "get", object, file.path])
        return try ReservationState(decoding: Array(Data(contentsOf: file)))
    }

    private static let readFullStatus = SCSICommand.persistentReserveIn(.readFullStatus, length: 0x4000)

    private static func raceCommand(key: UInt64, hosts: Int) -> SCSICommand {
        let other = UInt64.random(in: 1...UInt64(hosts))
        return switch Int.random(in: 0..<12) {
        case 0..<3: .persistentReserveOut(.registerAndIgnoreExistingKey, actionKey: key)
        case 3: .persistentReserveOut(.register, actionKey: key)
        case 4: .persistentReserveOut(.register, key: key)
        case 5, 6: .persistentReserveOut(.reserve, key: key, type: [1, 5, 7].randomElement() ?? 5)
        case 7: .persistentReserveOut(.release, key: key, type: 5)
        case 8: .persistentReserveOut(.preempt, key: key, actionKey: other, type: 5)
        case 9: .persistentReserveOut(.preemptAndAbort, key: key, actionKey: other, type: 5)
        case 10: .persistentReserveOut(.clear, key: key)
        default: readFullStatus
        }
    }

    /// Nil for a unit attention, which comes in place of the command, and for a read that another host's PREEMPT AND ABORT
    /// aborted.
    private static func operation(
        _ command: SCSICommand, _ nexus: Reservations.Nexus, _ reply: SCSIReply
    ) throws -> ReservationHistory.Operation.Kind? {
        if reply.sense?.key == 6 { return nil }
        let sent = ReservationCommand(nexus: nexus, cdb: command.cdb, parameters: command.output)
        if reply.isTaskAborted { return command.output.isEmpty ? nil : .aborted(sent) }
        if command.output.isEmpty, reply.isGood { return .read(cdb: command.cdb, data: reply.data) }
        let status: CommandStatus
        if reply.isGood {
            status = .good
        } else if reply.isReservationConflict {
            status = .reservationConflict
        } else if let sense = reply.sense, sense.key == 5 {
            status = .checkCondition(
                key: 5, code: UInt8(sense.additional >> 8), qualifier: UInt8(sense.additional & 0xFF))
        } else {
            throw LabError("\(nexus)", "\(command.cdb) was answered \(reply)")
        }
        return .change(sent, status)
    }
}

extension Duration {
    fileprivate var nanoseconds: UInt64 {
        UInt64(components.seconds) * 1_000_000_000 + UInt64(components.attoseconds / 1_000_000_000)
    }
}
