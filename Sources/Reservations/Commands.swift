// SPDX-License-Identifier: Apache-2.0
import CPRState

/// PERSISTENT RESERVE OUT, RESERVE(6/10) or RELEASE(6/10), as a host sends it.
public struct ReservationCommand: Hashable, Sendable {
    public var nexus: Nexus
    public var cdb: [UInt8]
    /// The parameter list, as much as was transferred.
    public var parameters: [UInt8]
    /// Relative target port identifiers of the unit's target ports on all nodes (ALL_TG_PT, REGISTER AND MOVE).
    public var ports: [UInt16]

    public init(nexus: Nexus, cdb: [UInt8], parameters: [UInt8] = [], ports: [UInt16] = []) {
        self.nexus = nexus
        self.cdb = cdb
        self.parameters = parameters
        self.ports = ports
    }
}

/// How a command is answered.
public enum CommandStatus: Hashable, Sendable {
    case good
    case reservationConflict
    /// Sense key, additional sense code and its qualifier.
    case checkCondition(key: UInt8, code: UInt8, qualifier: UInt8)

    init(_ result: prs_result) {
        switch Int32(result.status) {
        case PRS_GOOD: self = .good
        case PRS_CONFLICT: self = .reservationConflict
        default:
            self = .checkCondition(key: result.sense_key, code: result.asc, qualifier: result.ascq)
        }
    }
}

/// Classes of commands, and the rights of a nexus to send them. A command that needs none never conflicts.
public struct Rights: OptionSet, Hashable, Sendable {
    public let rawValue: UInt8

    public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// TEST UNIT READY and the like: they conflict with SPC-2 reservations only.
    public static let status = Rights(rawValue: UInt8(PRS_STATUS))
    public static let read = Rights(rawValue: UInt8(PRS_READ))
    public static let write = Rights(rawValue: UInt8(PRS_WRITE))
    public static let all: Rights = [.status, .read, .write]

    /// What a command needs (`prs_class`).
    ///
    /// - Parameter cdb: at least 6 bytes.
    public static func needed(for cdb: [UInt8]) -> Rights {
        precondition(cdb.count >= 6, "a CDB has at least 6 bytes")
        return Rights(rawValue: prs_class(cdb, UInt32(cdb.count)))
    }
}

/// What a change does to a nexus.
public struct Effects: OptionSet, Hashable, Sendable {
    public let rawValue: UInt8

    public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// Unit attention 2Ah/03h, RESERVATIONS PREEMPTED.
    public static let reservationsPreempted = Effects(rawValue: UInt8(PRS_UA_PREEMPTED))
    /// Unit attention 2Ah/04h, RESERVATIONS RELEASED.
    public static let reservationsReleased = Effects(rawValue: UInt8(PRS_UA_RELEASED))
    /// Unit attention 2Ah/05h, REGISTRATIONS PREEMPTED.
    public static let registrationsPreempted = Effects(rawValue: UInt8(PRS_UA_REGISTRATION))
    /// Its commands are aborted, but for the one that asked for it.
    public static let abort = Effects(rawValue: UInt8(PRS_ABORT))
}

extension ReservationState {
    /// Processes a command (`prs_out`). What changed, if anything, shows in ``version``.
    public mutating func apply(_ command: ReservationCommand) -> CommandStatus {
        var result = prs_result()
        var nexus = command.nexus.raw
        replace { old, new in
            command.cdb.withUnsafeBufferPointer { cdb in
                command.parameters.withUnsafeBufferPointer { parameters in
                    command.ports.withUnsafeBufferPointer { ports in
                        withUnsafePointer(to: &nexus) { nexus in
                            var raw = prs_command(
                                nexus: nexus, cdb: cdb.baseAddress, cdb_len: UInt32(cdb.count),
                                params: parameters.baseAddress, params_len: UInt32(parameters.count),
                                ports: ports.baseAddress, nr_ports: UInt32(ports.count))
                            prs_out(old, &raw, new, &result)
                        }
                    }
                }
            }
            return result.changed
        }
        return CommandStatus(result)
    }

    /// Processes PERSISTENT RESERVE IN (`prs_in`).
    ///
    /// - Returns: the answer, and the data, cut off at the CDB's ALLOCATION LENGTH.
    public func read(_ cdb: [UInt8]) -> (status: CommandStatus, data: [UInt8]) {
        var result = prs_result()
        let data = look { state in
            [UInt8](unsafeUninitializedCapacity: Int(UInt16.max)) { buffer, count in
                count = Int(
                    prs_in(state, cdb, UInt32(cdb.count), buffer.baseAddress, UInt32(buffer.count), &result))
            }
        }
        return (CommandStatus(result), data)
    }

    /// The logical unit is reset: SPC-2 reservations end, persistent ones stay.
    public mutating func reset() { replace { prs_reset($0, $1) } }

    /// A nexus is lost, and with it its SPC-2 reservation.
    public mutating func lose(_ nexus: Nexus) {
        var raw = nexus.raw
        replace { prs_nexus_loss($0, &raw, $1) }
    }

    /// All nexuses of a target port are lost.
    public mutating func losePort(_ port: UInt16) {
        var raw = prs_nexus()
        raw.port = port
        replace { prs_nexus_loss($0, &raw, $1) }
    }

    /// Which commands a nexus may send.
    public func rights(of nexus: Nexus) -> Rights {
        var raw = nexus.raw
        return Rights(rawValue: look { prs_rights($0, &raw) })
    }

    /// What became of a nexus since the state with this version was in force.
    public func effects(on nexus: Nexus, since version: UInt64) -> Effects {
        var raw = nexus.raw
        return Effects(rawValue: look { prs_effects($0, &raw, version) })
    }
}
