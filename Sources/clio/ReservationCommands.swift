// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import ClusterModel
import Foundation
import Netlink
import Rados
import Reservations
import Target

struct ReservationCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pr", abstract: "Show which hosts have registered with a LUN and who has it reserved.",
        subcommands: [ReservationShow.self, ReservationKeys.self, ReservationClear.self])
}

/// The LUN, for commands about one.
struct UnitArgument: ParsableArguments {
    @Argument(help: ArgumentHelp("The LUN, by its number or its image.", valueName: "lun"))
    var lun: String

    @OptionGroup var ceph: CephOptions
    @OptionGroup var group: GroupOption

    /// Reads what RADOS keeps.
    func load() async throws -> (store: ReservationStore, report: ReservationReport) {
        let cluster = try await ceph.connect()
        let stored = try await ceph.store(group.group, in: cluster).load().stored
        let store = try await ReservationStore(lun, of: stored, in: cluster)
        let state = try await store.load()
        return (store, ReservationReport(unit: store.unit, object: store.place, state: state, of: stored))
    }
}

struct ReservationShow: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show", abstract: "Show a LUN's reservation and registrations, as every gateway sees them.",
        discussion: "A registration is of one path: an initiator port and a target port. The holder's has a star.")

    @Flag(help: "Print JSON.")
    var json = false

    @OptionGroup var unit: UnitArgument

    func run() async throws {
        try await reporting {
            let report = try await unit.load().report
            if json { return try printJSON(report) }
            print(
                "LUN \(report.lun), \(report.image): version \(report.version), generation \(report.generation), "
                    + "APTPL \(report.aptpl ? "on" : "off")")
            if let reserver = report.reserver {
                print("reserved (\(report.kind)) by \(reserver.initiator) at \(reserver.where)")
            } else if let type = report.type {
                print("reserved: \(type)")
            } else {
                print("not reserved")
            }
            printTable(
                "Registrations", ["key", "", "initiator", "port", "target", "node"],
                report.registrations.map {
                    [
                        $0.key, $0.holder ? "*" : "", $0.path.initiator, String($0.path.port), $0.path.target ?? "-",
                        $0.path.node ?? "-",
                    ]
                })
        }
    }
}

struct ReservationKeys: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "keys", abstract: "Show the keys registered with a LUN, and on how many paths.")

    @Flag(help: "Print JSON.")
    var json = false

    @OptionGroup var unit: UnitArgument

    func run() async throws {
        try await reporting {
            let keys = try await unit.load().report.keys
            if json { return try printJSON(keys) }
            printTable(
                "Keys", ["key", "", "paths", "initiators"],
                keys.map {
                    [$0.key, $0.holder ? "*" : "", String($0.paths), $0.initiators.joined(separator: " ")]
                })
        }
    }
}

struct ReservationClear: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "clear", abstract: "Remove every registration with a LUN, and its reservation.",
        discussion: """
            For what hosts have left behind that are gone for good: a host that relies on its reservation, and is not told \
            until its next command, may lose data. Each host that was registered gets the unit attention RESERVATIONS \
            PREEMPTED. Has to run on a node that serves the LUN.
            """)

    @Flag(name: .shortAndLong, help: "Do not ask.")
    var yes = false

    @OptionGroup var unit: UnitArgument

    private struct Failure: Error, CustomStringConvertible { let description: String }

    func run() async throws {
        try await reporting {
            let (store, report) = try await unit.load()
            if let reserver = report.reserver {
                throw Failure(
                    description: "LUN \(report.lun) is reserved by RESERVE (SPC-2) of \(reserver.initiator) at "
                        + "\(reserver.where), which no other nexus can clear: end that session, or reset the unit from "
                        + "any host (sg_reset --device)")
            }
            guard !report.registrations.isEmpty else {
                print("nothing to clear: no host has registered with LUN \(report.lun), \(report.image)")
                return
            }
            let device = try await device(of: store, report)
            guard try confirmed(report) else {
                print("nothing was changed")
                throw Exit.failed
            }
            try BlockReservation(device: device).clear()
            print("LUN \(report.lun), \(report.image): \(count(report)) removed")
        }
    }

    private func count(_ report: ReservationReport) -> String {
        let number = report.registrations.count
        return "\(number) \(number == 1 ? "registration" : "registrations")"
            + (report.type.map { " and the reservation (\($0))" } ?? "")
    }

    private func confirmed(_ report: ReservationReport) throws -> Bool {
        if yes { return true }
        guard isatty(0) == 1 else {
            throw Failure(description: "clio pr clear asks before it does it, and there is no terminal; use --yes")
        }
        for key in report.keys { print("\(key.key)  \(key.initiators.joined(separator: " "))") }
        print("Remove \(count(report)) of LUN \(report.lun), \(report.image)? [y/N] ", terminator: "")
        fflush(nil)
        return readLine()?.lowercased().hasPrefix("y") ?? false
    }

    /// The block device that this node has mapped the LUN's image to.
    private func device(of store: ReservationStore, _ report: ReservationReport) async throws -> String {
        let devices: [BlkCluster.Device]
        do {
            devices = try await BlkCluster().devices()
        } catch { throw Failure(description: "this machine is no node of the group: \(error)") }
        guard let device = devices.first(where: { $0.unit == store.kernelName && $0.leased }) else {
            throw Failure(
                description: "this node does not serve LUN \(report.lun), \(report.image): run clio pr clear on one "
                    + "that does; clio status shows which")
        }
        return "/dev/\(device.disk)"
    }
}

/// What is said of a LUN's reservations; the JSON of `clio pr show`.
struct ReservationReport: Encodable {
    /// An initiator port and a target port.
    struct Path: Encodable {
        let initiator: String
        let port: UInt16
        /// `nil` if the group has no such port (any more).
        let target: String?
        let node: String?

        var `where`: String {
            "port \(port)" + (target.map { " (\($0) on \(node ?? "-"))" } ?? "")
        }
    }

    struct Registered: Encodable {
        /// `0x` and 16 digits.
        let key: String
        let holder: Bool
        let path: Path
    }

    struct Key: Encodable {
        let key: String
        let holder: Bool
        let paths: Int
        let initiators: [String]
    }

    let lun: Int
    let image: String
    let object: String
    let version: UInt64
    let generation: UInt32
    let aptpl: Bool
    /// Code (SPC-4) and name of the persistent reservation's type.
    let typeCode: UInt8?
    let type: String?
    let reserver: Path?
    let registrations: [Registered]

    init(unit: LogicalUnit, object: String, state: ReservationState, of stored: StoredGroup) {
        func path(_ nexus: Nexus) -> Path {
            let port = stored.ports.first { $0.number == Int(nexus.port) }
            return Path(
                initiator: nexus.initiator.description, port: nexus.port, target: port?.iqn, node: port?.node)
        }
        lun = unit.lun
        image = unit.image
        self.object = object
        version = state.version
        generation = state.generation
        aptpl = state.persistsThroughPowerLoss
        typeCode = state.type?.rawValue
        type = state.type?.description
        reserver = state.reserver.map(path)
        registrations = state.registrations.map {
            Registered(key: $0.keyText, holder: $0.isHolder, path: path($0.nexus))
        }
    }

    /// Of each LUN that a host has registered with or reserved; what cannot be read is a problem.
    static func all(
        of stored: StoredGroup, in cluster: Cluster, _ problems: inout [String]
    ) async -> [ReservationReport] {
        var reports: [ReservationReport] = []
        for unit in stored.config.luns {
            do {
                let store = try await ReservationStore(String(unit.lun), of: stored, in: cluster)
                let report = ReservationReport(
                    unit: store.unit, object: store.place, state: try await store.load(), of: stored)
                if report.reserver != nil || !report.registrations.isEmpty { reports.append(report) }
            } catch { problems.append("reservations of LUN \(unit.lun): \(error)") }
        }
        return reports
    }

    /// What kind of reservation it is, if it is.
    var kind: String { reserver != nil ? "SPC-2" : type ?? "no" }

    /// The initiator ports that hold it, each once.
    var holders: [String] {
        reserver.map { [$0.initiator] } ?? Set(registrations.filter(\.holder).map(\.path.initiator)).sorted()
    }

    /// Each key once, in the order of keys.
    var keys: [Key] {
        Dictionary(grouping: registrations, by: \.key).map { key, registered in
            Key(
                key: key, holder: registered.contains(where: \.holder), paths: registered.count,
                initiators: Set(registered.map(\.path.initiator)).sorted())
        }.sorted { $0.key < $1.key }
    }
}
