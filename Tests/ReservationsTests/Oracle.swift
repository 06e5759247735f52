// SPDX-License-Identifier: Apache-2.0
import Reservations

/// The rules once more, as plainly as SPC-4 words them and without a look at the engine: what it is compared with.
///
/// Initiators all have an ISID, there is room for all, and parameter lists are well-formed.
struct Oracle {
    var keys: [Nexus: UInt64] = [:]
    var type: ReservationType?
    /// Nobody with an all registrants type.
    var holder: Nexus?
    var reserver: Nexus?
    var generation: UInt32 = 0
    var aptpl = false
    /// Of the last command.
    var effects: [Nexus: Effects] = [:]

    enum Command: CustomStringConvertible {
        case register(Nexus, key: UInt64, new: UInt64, ignore: Bool, all: Bool, list: [TransportID], aptpl: Bool)
        case reserve(Nexus, key: UInt64, ReservationType)
        case release(Nexus, key: UInt64, ReservationType)
        case clear(Nexus, key: UInt64)
        case preempt(Nexus, key: UInt64, victim: UInt64, ReservationType, scope: UInt8, abort: Bool)
        case move(Nexus, key: UInt64, new: UInt64, to: Nexus, unregister: Bool, aptpl: Bool)
        case spc2(Nexus, reserve: Bool)

        var sent: ReservationCommand {
            switch self {
            case .register(let nexus, let key, let new, let ignore, let all, let list, let aptpl):
                .persistentReserveOut(
                    nexus, action: ignore ? 6 : 0, key: key, actionKey: new,
                    flags: (all ? 0x04 : 0) | (list.isEmpty ? 0 : 0x08) | (aptpl ? 0x01 : 0), list: list)
            case .reserve(let nexus, let key, let type):
                .persistentReserveOut(nexus, action: 1, key: key, type: type.rawValue)
            case .release(let nexus, let key, let type):
                .persistentReserveOut(nexus, action: 2, key: key, type: type.rawValue)
            case .clear(let nexus, let key): .persistentReserveOut(nexus, action: 3, key: key)
            case .preempt(let nexus, let key, let victim, let type, let scope, let abort):
                .persistentReserveOut(
                    nexus, action: abort ? 5 : 4, key: key, actionKey: victim, type: type.rawValue,
                    scope: scope)
            case .move(let nexus, let key, let new, let to, let unregister, let aptpl):
                .persistentReserveOut(
                    nexus, action: 7, key: key, actionKey: new,
                    flags: (unregister ? 0x02 : 0) | (aptpl ? 0x01 : 0), to: to)
            case .spc2(let nexus, let reserve):
                ReservationCommand(nexus: nexus, cdb: [reserve ? 0x16 : 0x17, 0, 0, 0, 0, 0])
            }
        }

        var description: String {
            let sent = sent
            return "\(Script.name(sent.nexus)) cdb \(sent.cdb) parameters \(sent.parameters)"
        }
    }

    func holds(_ nexus: Nexus) -> Bool {
        guard let type else { return false }
        return type.isAllRegistrants ? keys[nexus] != nil : holder == nexus
    }

    var registrantsHaveRights: Bool {
        switch type {
        case nil, .writeExclusive, .exclusiveAccess: false
        default: true
        }
    }

    func rights(of nexus: Nexus) -> Rights {
        if let reserver { return reserver == nexus ? .all : [] }
        switch type {
        case nil: return .all
        case .writeExclusive: return holds(nexus) ? .all : [.status, .read]
        case .exclusiveAccess: return holds(nexus) ? .all : .status
        case .writeExclusiveRegistrantsOnly, .writeExclusiveAllRegistrants:
            return keys[nexus] != nil ? .all : [.status, .read]
        case .exclusiveAccessRegistrantsOnly, .exclusiveAccessAllRegistrants:
            return keys[nexus] != nil ? .all : .status
        }
    }

    static let badCDB = CommandStatus.checkCondition(key: 5, code: 0x24, qualifier: 0)
    static let badParameter = CommandStatus.checkCondition(key: 5, code: 0x26, qualifier: 0)
    static let badRelease = CommandStatus.checkCondition(key: 5, code: 0x26, qualifier: 4)

    mutating func apply(_ command: Command) -> CommandStatus {
        effects = [:]
        if case .spc2(let nexus, let reserve) = command { return spc2(nexus, reserve: reserve) }
        if reserver != nil { return .reservationConflict }
        switch command {
        case .register(let nexus, let key, let new, let ignore, let all, let list, let aptpl):
            return register(nexus, key: key, new: new, ignore: ignore, all: all, list: list, aptpl: aptpl)
        case .reserve(let nexus, let key, let wanted):
            guard keys[nexus] == key else { return .reservationConflict }
            if type == nil {
                take(wanted, nexus)
                return .good
            }
            return holds(nexus) && type == wanted ? .good : .reservationConflict
        case .release(let nexus, let key, let named):
            guard keys[nexus] == key else { return .reservationConflict }
            guard holds(nexus) else { return .good }
            guard type == named else { return Self.badRelease }
            if registrantsHaveRights { tell(.reservationsReleased, keys.keys.filter { $0 != nexus }) }
            drop()
            return .good
        case .clear(let nexus, let key):
            guard keys[nexus] == key else { return .reservationConflict }
            tell(.reservationsPreempted, keys.keys.filter { $0 != nexus })
            keys = [:]
            drop()
            generation += 1
            return .good
        case .preempt(let nexus, let key, let victim, let wanted, let scope, let abort):
            return preempt(nexus, key: key, victim: victim, wanted, scope: scope, abort: abort)
        case .move(let nexus, let key, let new, let to, let unregister, let aptpl):
            guard keys[nexus] == key else { return .reservationConflict }
            guard let type else { return Self.badCDB }
            guard !type.isAllRegistrants, holder == nexus else { return .reservationConflict }
            let ports = Script.ports + [nexus.port]
            guard new != 0, to != nexus, ports.contains(to.port) else { return Self.badParameter }
            keys[to] = new
            holder = to
            if unregister { keys[nexus] = nil }
            self.aptpl = aptpl
            generation += 1
            return .good
        case .spc2: return .good
        }
    }

    private mutating func spc2(_ nexus: Nexus, reserve: Bool) -> CommandStatus {
        if holds(nexus) || (keys[nexus] != nil && registrantsHaveRights) { return .good }
        if !keys.isEmpty { return .reservationConflict }
        if reserve {
            if let reserver, reserver != nexus { return .reservationConflict }
            reserver = nexus
        } else if reserver == nexus {
            reserver = nil
        }
        return .good
    }

    private mutating func register(
        _ nexus: Nexus, key: UInt64, new: UInt64, ignore: Bool, all: Bool, list: [TransportID], aptpl: Bool
    ) -> CommandStatus {
        let old = keys[nexus]
        if ignore, !list.isEmpty { return Self.badParameter }
        if !ignore, key != old ?? 0 { return .reservationConflict }
        if old != nil, !list.isEmpty { return Self.badParameter }
        if old == nil, new == 0 { return .good }
        let ports = all ? Script.ports + [nexus.port] : [nexus.port]
        for port in ports {
            let there = keys[Nexus(nexus.initiator, port: port)]
            if !ignore, let there, there != key, there != new { return .reservationConflict }
        }
        let held = holder
        for port in ports { keys[Nexus(nexus.initiator, port: port)] = new == 0 ? nil : new }
        for initiator in list {
            for port in ports where keys[Nexus(initiator, port: port)] == nil {
                keys[Nexus(initiator, port: port)] = new
            }
        }
        if let held, keys[held] == nil {
            if registrantsHaveRights { tell(.reservationsReleased, Array(keys.keys)) }
            drop()
        }
        if type != nil, keys.isEmpty { drop() }
        self.aptpl = aptpl
        generation += 1
        return .good
    }

    private mutating func preempt(
        _ nexus: Nexus, key: UInt64, victim: UInt64, _ wanted: ReservationType, scope: UInt8, abort: Bool
    ) -> CommandStatus {
        guard keys[nexus] == key else { return .reservationConflict }
        let all = type?.isAllRegistrants ?? false
        if victim == 0, !all { return Self.badParameter }
        let named = victim == 0 ? Array(keys.keys) : keys.filter { $0.value == victim }.map(\.key)
        if named.isEmpty { return .reservationConflict }
        let takes = all ? victim == 0 : holder.map { named.contains($0) } ?? false
        // Of no interest where registrations are all that goes (5.7.11.4.4)
        if takes, scope != 0 { return Self.badCDB }
        for loser in named where !takes || loser != nexus { keys[loser] = nil }
        tell(.registrationsPreempted, named.filter { $0 != nexus })
        if abort { tell(.abort, named) }
        if takes {
            if type != wanted { tell(.reservationsReleased, keys.keys.filter { $0 != nexus }) }
            take(wanted, nexus)
        } else if keys.isEmpty {
            drop()
        }
        generation += 1
        return .good
    }

    private mutating func take(_ wanted: ReservationType, _ nexus: Nexus) {
        type = wanted
        holder = wanted.isAllRegistrants ? nil : nexus
    }

    private mutating func drop() {
        type = nil
        holder = nil
    }

    private mutating func tell(_ effect: Effects, _ nexuses: [Nexus]) {
        for nexus in nexuses { effects[nexus, default: []].insert(effect) }
    }
}
