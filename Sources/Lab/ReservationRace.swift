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
        var random = SystemRandomNumberGenerator()
        while clock.now < end, let path = paths.randomElement() {
            let command = Self.drawReservationCommand(
                key: UInt64(host), hosts: hosts, types: [1, 5, 7], using: &random)
            let sent = (clock.now - begin).nanoseconds
            let reply = try await path.session.send(command, lun: lun)
            let answered = (clock.now - begin).nanoseconds
            if reply.isAttention || reply.isTaskAborted && command.output.isEmpty { continue }
            guard let kind = ReservationHistory.Operation.Kind(command, of: path.nexus, reply) else {
                throw LabError("\(path.nexus)", "\(command.cdb) was answered \(reply)")
            }
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
        let port = try Self.initiatorPort(name, isid: UInt32(host))
        var paths: [ReservationPath] = []
        for node in description().nodes {
            guard let portal = node.portal else { continue }
            let session = try await Nexus.login(
                portal: portal, target: Self.targetName, initiator: name, isid: UInt32(host), namespace: netns)
            try await session.ready(lun: lun)
            let relative = try await relativePort(portal, lun: lun)
            paths.append(ReservationPath(session: session, nexus: Reservations.Nexus(port, port: relative)))
        }
        return paths
    }

    /// What reservations call the initiator port that logs in with this name and ISID, at most 24 bits.
    static func initiatorPort(_ name: String, isid: UInt32) throws(LabError) -> TransportID {
        // What libiscsi makes of it: of type 10b, with the number in its random part.
        guard let port = TransportID(iscsi: name, isid: 0x80 << 40 | UInt64(isid) << 16) else {
            throw LabError(name, "is not an initiator's name")
        }
        return port
    }

    /// The relative target port identifier of a gateway's portal.
    func relativePort(_ portal: String, lun: Int) async throws -> UInt16 {
        let relative = try await blocking(in: netns) {
            let probe = try ISCSISession(portal: portal, target: Self.targetName)
            return try Identity(session: probe, lun: lun).relativePort
        }
        guard let relative else { throw LabError(portal, "does not name its target port") }
        return relative
    }

    /// The object that keeps the reservations of a unit, and its pool.
    public func reservationsObject(lun: Int = 0) async throws -> (pool: String, object: String) {
        guard let unit = description().luns.first(where: { $0.lun == lun }) else {
            throw LabError("LUN \(lun)", "is not in the lab")
        }
        let info = try await hostCheck(["rbd", "info", unit.path])
        guard let id = info.split(separator: "\n").first(where: { $0.contains("\tid: ") })?.split(separator: " ").last
        else { throw LabError(unit.path, "has no id: \(info)") }
        return (unit.pool, ReservationState.objectName(imageID: String(id)))
    }

    /// The reservations of a unit, as RADOS has them.
    public func reservations(lun: Int = 0) async throws -> ReservationState {
        let (pool, object) = try await reservationsObject(lun: lun)
        let rados = ["rados", "-p", pool, "-N", options.ceph.namespace]
        guard try await hostCheck(rados + ["ls"]).split(separator: "\n").contains(Substring(object))
        else { return ReservationState() }
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("\(object).\(UUID())")
        defer { try? FileManager.default.removeItem(at: file) }
        try await hostCheck(rados + ["get", object, file.path])
        return try ReservationState(decoding: Array(Data(contentsOf: file)))
    }

    static let readFullStatus = SCSICommand.persistentReserveIn(.readFullStatus, length: 0x4000)

    /// A PERSISTENT RESERVE command of a host with one key among others, whose keys are 1, 2, …
    static func drawReservationCommand(
        key: UInt64, hosts: Int, types: [UInt8], using random: inout some RandomNumberGenerator
    ) -> SCSICommand {
        let other = UInt64.random(in: 1...UInt64(hosts), using: &random)
        let type = types.randomElement(using: &random) ?? 5
        return switch Int.random(in: 0..<12, using: &random) {
        case 0..<3: .persistentReserveOut(.registerAndIgnoreExistingKey, actionKey: key)
        case 3: .persistentReserveOut(.register, actionKey: key)
        case 4: .persistentReserveOut(.register, key: key)
        case 5, 6: .persistentReserveOut(.reserve, key: key, type: type)
        case 7: .persistentReserveOut(.release, key: key, type: type)
        case 8: .persistentReserveOut(.preempt, key: key, actionKey: other, type: type)
        case 9: .persistentReserveOut(.preemptAndAbort, key: key, actionKey: other, type: type)
        case 10: .persistentReserveOut(.clear, key: key)
        default: readFullStatus
        }
    }
}

extension ReservationHistory.Operation.Kind {
    /// What an answer says of a command. Nil if it says nothing: a unit attention came in place of the command, or no rule knows
    /// such an answer.
    ///
    /// - Parameter ports: relative target port identifiers of all gateways.
    init?(_ command: SCSICommand, of nexus: Reservations.Nexus, ports: [UInt16] = [], _ reply: SCSIReply) {
        let sent = ReservationCommand(nexus: nexus, cdb: command.cdb, parameters: command.output, ports: ports)
        let status: CommandStatus?
        if reply.isGood {
            status = .good
        } else if reply.isReservationConflict {
            status = .reservationConflict
        } else if let sense = reply.sense, sense.key == 5 {
            status = .checkCondition(
                key: 5, code: UInt8(sense.additional >> 8), qualifier: UInt8(sense.additional & 0xFF))
        } else {
            status = nil
        }
        switch (command.cdb[0], status) {
        case (0x5F, let status?), (0x16, let status?), (0x17, let status?): self = .change(sent, status)
        case (0x5F, nil), (0x16, nil), (0x17, nil):
            guard reply.isTaskAborted else { return nil }
            self = .aborted(sent)
        case (0x5E, .good): self = .read(cdb: command.cdb, data: reply.data)
        case (0x5E, let status?): self = .refusedRead(cdb: command.cdb, status)
        case (_, .good), (_, .reservationConflict):
            self = .medium(nexus, cdb: command.cdb, isGood: status == .good)
        default: return nil
        }
    }
}

extension Duration {
    var nanoseconds: UInt64 {
        UInt64(components.seconds) * 1_000_000_000 + UInt64(components.attoseconds / 1_000_000_000)
    }
}
