// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import ClusterModel
import Foundation
import Rados

extension Access: ExpressibleByArgument {}
extension Fabric: ExpressibleByArgument {}

/// `all`, or items separated by commas.
private func choice<Item>(
    _ text: String?, _ what: String, _ item: (String) -> Item?
) throws -> Choice<Item>? {
    guard let text else { return nil }
    if text == "all" { return .all }
    let items = text.split(separator: ",", omittingEmptySubsequences: false).map { item(String($0)) }
    guard !items.contains(where: { $0 == nil }) else {
        throw ValidationError("\"\(text)\" is no list of \(what); write them with commas between, or \"all\"")
    }
    return .only(items.compactMap { $0 })
}

private func names(_ text: String?, _ what: String) throws -> Choice<String>? {
    try choice(text, what) { $0.isEmpty ? nil : $0 }
}

private func numbers(_ text: String?) throws -> Choice<Int>? { try choice(text, "LUN numbers") { Int($0) } }

/// What a list shows: the items as JSON, or a table.
private struct ListOptions: ParsableArguments {
    @Flag(help: "Print JSON.")
    var json = false

    @OptionGroup var ceph: CephOptions
    @OptionGroup var group: GroupOption

    func list<Item: Encodable>(
        _ items: (ClusterModel.Group) -> [Item], _ columns: [String], _ row: (Item) -> [String]
    ) async throws {
        try await reporting {
            let store = try await ceph.store(group.group, in: try await ceph.connect())
            var stored = try await store.load().stored
            stored.config.redact()
            let items = items(stored.config)
            if json { return try printJSON(items) }
            printTable("Group \"\(group.group)\", version \(stored.version)", columns, items.map(row))
        }
    }
}

private func text(_ list: [some CustomStringConvertible]?) -> String {
    list.map { $0.map(\.description).joined(separator: ", ") } ?? "all"
}

// MARK: Targets

struct TargetCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "target", abstract: "Add, remove, change and list targets.",
        subcommands: [Add.self, Remove.self, Set.self, List.self])

    struct Lists: ParsableArguments {
        @Option(help: ArgumentHelp("Who may log in: hosts (those of the group) or open (any).", valueName: "access"))
        var access: Access?
        @Option(help: ArgumentHelp("Nodes that serve it, with commas between, or all.", valueName: "names"))
        var nodes: String?
        @Option(help: ArgumentHelp("Numbers of the LUNs it shows, or all.", valueName: "numbers"))
        var luns: String?
        @Option(help: ArgumentHelp("iSCSI names of the hosts it admits, or all.", valueName: "names"))
        var hosts: String?
        @Option(
            name: .customLong("port"),
            help: ArgumentHelp(
                "In another fabric than iSCSI: a node and the name of its port; may be repeated.",
                valueName: "node=port"))
        var ports: [String] = []

        func validate() throws {
            _ = (try names(nodes, "nodes"), try numbers(luns), try names(hosts, "hosts"), try portsByNode())
        }

        var isEmpty: Bool { access == nil && nodes == nil && luns == nil && hosts == nil && ports.isEmpty }

        private func portsByNode() throws -> [String: [String]] {
            try ports.reduce(into: [:]) { result, text in
                guard let sign = text.firstIndex(of: "="), sign > text.startIndex else {
                    throw ValidationError("--port is NODE=PORT, not \"\(text)\"")
                }
                let port = String(text[text.index(after: sign)...])
                result[String(text[..<sign]), default: []] += port.isEmpty ? [] : [port]
            }
        }

        func set(_ iqn: String, in group: inout ClusterModel.Group) throws {
            try group.setTarget(
                iqn, access: access, nodes: try names(nodes, "nodes"), luns: try numbers(luns),
                hosts: try names(hosts, "hosts"), ports: try portsByNode())
        }
    }

    struct Add: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Add a target.",
            discussion:
                "An iSCSI target is served at the nodes' portals, one of another fabric by the ports that are named.")
        @Argument(help: ArgumentHelp("Its iSCSI name; in another fabric, any name.", valueName: "name"))
        var iqn: String
        @Option(help: ArgumentHelp("iscsi, loopback, vhost, srp or fc.", valueName: "fabric")) var fabric = Fabric.iscsi
        @OptionGroup var lists: Lists
        @OptionGroup var options: ChangeOptions

        func validate() throws {
            guard fabric != .iscsi || lists.ports.isEmpty else {
                throw ValidationError("--port goes with another --fabric")
            }
        }

        func run() async throws {
            try await options.change("clio target add \(iqn)") { group, _ in
                let target =
                    fabric == .iscsi
                    ? ClusterTarget(iqn: iqn) : ClusterTarget(name: iqn, fabric: fabric, ports: [:])
                try group.addTarget(target)
                try lists.set(iqn, in: &group)
            }
        }
    }

    struct Remove: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Remove a target; its sessions end.")
        @Argument(help: ArgumentHelp("Its iSCSI name.", valueName: "iqn")) var iqn: String
        @OptionGroup var options: ChangeOptions

        func run() async throws {
            try await options.change("clio target remove \(iqn)") { group, _ in try group.removeTarget(iqn) }
        }
    }

    struct Set: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Change what is given of a target.",
            discussion: """
                What is not given stays as it is. --port replaces the ports of the nodes that are named, and with NODE= takes \
                a node off the target.
                """)
        @Argument(help: ArgumentHelp("Its name.", valueName: "name")) var iqn: String
        @OptionGroup var lists: Lists
        @OptionGroup var options: ChangeOptions

        func validate() throws {
            guard !lists.isEmpty else {
                throw ValidationError("say what to set: --access, --nodes, --luns, --hosts or --port")
            }
        }

        func run() async throws {
            try await options.change("clio target set \(iqn)") { group, _ in try lists.set(iqn, in: &group) }
        }
    }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "List the targets.",
            discussion: "With it, whether discovery asks for CHAP (on), and proves itself to the host (mutual).")
        @OptionGroup fileprivate var options: ListOptions

        /// A target with what discovery, which all of iSCSI's share, asks for.
        private struct Row: Encodable {
            let target: ClusterTarget
            /// `nil`: the fabric has none.
            let discovery: String?

            private enum CodingKeys: CodingKey { case discovery }

            func encode(to encoder: any Encoder) throws {
                try target.encode(to: encoder)
                var container = encoder.container(keyedBy: CodingKeys.self)
                try container.encodeIfPresent(discovery, forKey: .discovery)
            }
        }

        private func rows(_ group: ClusterModel.Group) -> [Row] {
            let chap = group.discovery.map { $0.mutualUser == nil ? "on" : "mutual" } ?? "off"
            return group.targets.map { Row(target: $0, discovery: $0.fabric == .iscsi ? chap : nil) }
        }

        func run() async throws {
            let columns = ["target", "fabric", "access", "discovery CHAP", "nodes", "luns", "hosts"]
            try await options.list(rows, columns) { row in
                let target = row.target
                return [
                    target.iqn, target.fabric.rawValue, target.access.rawValue, row.discovery ?? "-",
                    text(target.ports?.keys.sorted() ?? target.nodes), text(target.luns),
                    target.access == .open ? "any" : text(target.hosts),
                ]
            }
        }
    }
}

// MARK: LUNs

struct LUNCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lun", abstract: "Add, remove, change and list LUNs.",
        subcommands: [Add.self, Remove.self, Set.self, List.self])

    struct Add: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Export an image as a LUN.",
            discussion: "The number is the same for every host, stays with the image, and is not given again soon.")
        @Argument(help: ArgumentHelp("pool/image or pool/namespace/image.", valueName: "image")) var image: String
        @Option(help: ArgumentHelp("Its number (default: one above the highest ever used).", valueName: "number"))
        var lun: Int?
        @Option(help: ArgumentHelp("Its serial number (default: derived from the image).", valueName: "serial"))
        var serial: String?
        @Option(
            help: ArgumentHelp("A target that lists its LUNs and shall show it; may be repeated.", valueName: "iqn"))
        var target: [String] = []
        @Option(help: ArgumentHelp("A host that lists its LUNs and shall see it; may be repeated.", valueName: "iqn"))
        var host: [String] = []
        @OptionGroup var options: ChangeOptions

        func run() async throws {
            try await options.change("clio lun add \(image)") { group, now in
                try group.addLUN(
                    image: image, number: lun, serial: serial, targets: target, hosts: host, highest: now.highestLUN)
            }
        }
    }

    struct Remove: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Stop exporting a LUN.",
            discussion: "The image and its data stay, and so do the registrations of hosts with it (clio pr).")
        @Argument(help: ArgumentHelp("Its number or image.", valueName: "lun")) var lun: String
        @OptionGroup var options: ChangeOptions

        func run() async throws {
            var before: StoredGroup?
            let cluster = try await options.change("clio lun remove \(lun)") { group, now in
                let removed = try group.removeLUN(lun)
                before = now
                before?.config.luns = removed.imageID == nil ? [] : [removed]
            }
            if let before, let cluster { await warn(of: before, in: cluster) }
        }

        /// What is done is done, whether or not this can be told.
        ///
        /// - Parameter before: the group with what was removed for its only LUN.
        private func warn(of before: StoredGroup, in cluster: Cluster) async {
            var problems: [String] = []
            for report in await ReservationReport.all(of: before, in: cluster, &problems)
            where !report.registrations.isEmpty {
                let hosts = Swift.Set(report.registrations.map(\.path.initiator)).sorted()
                complain(
                    "clio: image \(report.image) keeps the registrations of \(hosts.joined(separator: ", ")) for when "
                        + "it is a LUN again; clio pr clear \(report.image), on a node that serves it, removes them")
            }
            for problem in problems { complain("clio: \(problem)") }
        }
    }

    struct Set: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Give a LUN another image or serial number.",
            discussion: "Another image has an identity of its own: hosts see another disk under the number.")
        @Argument(help: ArgumentHelp("Its number or image.", valueName: "lun")) var lun: String
        @Option(help: ArgumentHelp("pool/image or pool/namespace/image.", valueName: "image")) var image: String?
        @Option(help: ArgumentHelp("Serial number.", valueName: "serial")) var serial: String?
        @OptionGroup var options: ChangeOptions

        func validate() throws {
            guard image != nil || serial != nil else { throw ValidationError("say what to set: --image or --serial") }
        }

        func run() async throws {
            try await options.change("clio lun set \(lun)") { group, _ in
                try group.setLUN(lun, image: image, serial: serial)
            }
        }
    }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List the LUNs.")
        @OptionGroup fileprivate var options: ListOptions

        func run() async throws {
            try await options.list(\.luns, ["lun", "image", "serial"]) {
                [String($0.lun), $0.image, $0.serial ?? "(no image yet)"]
            }
        }
    }
}

// MARK: Hosts

struct HostCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "host", abstract: "Add, remove, change and list hosts.",
        subcommands: [Add.self, Remove.self, Set.self, List.self])

    /// Credentials. Secrets come from files: arguments are seen by everyone on the machine.
    struct Credentials: ParsableArguments {
        @Option(help: ArgumentHelp("CHAP name of the host.", valueName: "name")) var user: String?
        @Option(help: ArgumentHelp("File with its CHAP secret; - for standard input.", valueName: "path"))
        var passwordFile: String?
        @Option(help: ArgumentHelp("CHAP name of the target.", valueName: "name")) var mutualUser: String?
        @Option(help: ArgumentHelp("File with the target's CHAP secret.", valueName: "path"))
        var mutualPasswordFile: String?

        var isEmpty: Bool { user == nil && mutualUser == nil }

        func validate() throws {
            guard (user == nil) == (passwordFile == nil) else {
                throw ValidationError("--user and --password-file go together")
            }
            guard (mutualUser == nil) == (mutualPasswordFile == nil) else {
                throw ValidationError("--mutual-user and --mutual-password-file go together")
            }
            guard passwordFile != "-" || mutualPasswordFile != "-" else {
                throw ValidationError("only one secret can come from standard input")
            }
        }

        func read() throws -> [CHAPChange] {
            var changes: [CHAPChange] = []
            if let user, let passwordFile { changes.append(.own(user: user, password: try secret(passwordFile))) }
            if let mutualUser, let mutualPasswordFile {
                changes.append(.mutual(user: mutualUser, password: try secret(mutualPasswordFile)))
            }
            return changes
        }

        private func secret(_ file: String) throws -> Secret {
            Secret(String(try readText(file).prefix { !$0.isNewline }))
        }
    }

    struct Add: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Let a host log in.")
        @Argument(help: ArgumentHelp("Its iSCSI name, or that of its port in another fabric.", valueName: "name"))
        var iqn: String
        @Option(help: ArgumentHelp("iscsi, srp or fc.", valueName: "fabric")) var fabric = Fabric.iscsi
        @Option(help: ArgumentHelp("Numbers of the LUNs it sees, or all.", valueName: "numbers")) var luns: String?
        @Option(
            help: ArgumentHelp("A target that lists its hosts and shall admit it; may be repeated.", valueName: "iqn"))
        var target: [String] = []
        @OptionGroup var credentials: Credentials
        @OptionGroup var options: ChangeOptions

        func validate() throws {
            _ = try numbers(luns)
            guard credentials.mutualUser == nil || credentials.user != nil else {
                throw ValidationError("--mutual-user needs --user: the target proves itself to who has proved itself")
            }
        }

        func run() async throws {
            let chap = try credentials.read()
            try await options.change("clio host add \(iqn)") { group, _ in
                var host = Host(iqn: iqn)
                host.fabric = fabric
                try group.addHost(host, targets: target)
                try group.setHost(iqn, chap: chap, luns: try numbers(luns))
            }
        }
    }

    struct Remove: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Let a host in no longer; its sessions end.")
        @Argument(help: ArgumentHelp("Its iSCSI name.", valueName: "iqn")) var iqn: String
        @OptionGroup var options: ChangeOptions

        func run() async throws {
            try await options.change("clio host remove \(iqn)") { group, _ in try group.removeHost(iqn) }
        }
    }

    struct Set: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Change what is given of a host.", discussion: "What is not given stays as it is.")
        @Argument(help: ArgumentHelp("Its iSCSI name.", valueName: "iqn")) var iqn: String
        @Option(help: ArgumentHelp("Numbers of the LUNs it sees, or all.", valueName: "numbers")) var luns: String?
        @Flag(help: "Let it in without CHAP.") var noChap = false
        @Flag(help: "The target does not prove itself to it any more.") var noMutual = false
        @OptionGroup var credentials: Credentials
        @OptionGroup var options: ChangeOptions

        func validate() throws {
            _ = try numbers(luns)
            guard noChap || noMutual || luns != nil || !credentials.isEmpty else {
                throw ValidationError(
                    "say what to set: --luns, --user with --password-file, --mutual-user with --mutual-password-file, "
                        + "--no-mutual or --no-chap")
            }
            guard !noChap || (credentials.isEmpty && !noMutual) else {
                throw ValidationError("--no-chap goes with no other option of CHAP")
            }
            guard !noMutual || credentials.mutualUser == nil else {
                throw ValidationError("--no-mutual and --mutual-user exclude each other")
            }
        }

        func run() async throws {
            var chap = try credentials.read()
            if noChap { chap.append(.removeAll) }
            if noMutual { chap.append(.removeMutual) }
            try await options.change("clio host set \(iqn)") { group, _ in
                try group.setHost(iqn, chap: chap, luns: try numbers(luns))
            }
        }
    }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "List the hosts.", discussion: "CHAP secrets are shown as asterisks.")
        @OptionGroup fileprivate var options: ListOptions

        func run() async throws {
            try await options.list(\.hosts, ["host", "CHAP", "luns"]) {
                [$0.iqn, $0.chap.map { $0.mutualUser == nil ? $0.user : "\($0.user), mutual" } ?? "no", text($0.luns)]
            }
        }
    }
}

// MARK: Nodes and portals

struct PortalCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "portal", abstract: "Add, remove, change and list the portals of nodes.",
        subcommands: [Add.self, Remove.self, Set.self, List.self])

    struct Place: ParsableArguments {
        @Argument(help: ArgumentHelp("The node.", valueName: "node")) var node: String
        @Option(help: ArgumentHelp("For this target only, instead of the node's.", valueName: "iqn"))
        var target: String?
    }

    struct Add: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Add portals to a node.", discussion: "A node that the group does not have yet joins it.")
        @OptionGroup var place: Place
        @Argument(help: ArgumentHelp("Addresses: 10.77.0.11, 10.77.0.11:3261, [fd00::1].", valueName: "portal"))
        var portals: [String]
        @OptionGroup var options: ChangeOptions

        func run() async throws {
            try await options.change("clio portal add \(place.node) \(portals.joined(separator: " "))") { group, _ in
                try group.addPortals(portals, node: place.node, target: place.target)
            }
        }
    }

    struct Remove: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Remove portals from a node.",
            discussion:
                "A node that serves does not leave the group so, but in order: clio node drain, clio node remove.")
        @OptionGroup var place: Place
        @Argument(help: ArgumentHelp("Addresses.", valueName: "portal")) var portals: [String] = []
        @Flag(help: "All: the node leaves the group, or the target uses the node's own again.") var all = false
        @OptionGroup var options: ChangeOptions

        func validate() throws {
            guard all == portals.isEmpty else { throw ValidationError("name portals, or say --all") }
        }

        func run() async throws {
            let what = all ? "--all" : portals.joined(separator: " ")
            try await options.change("clio portal remove \(place.node) \(what)") { group, _ in
                if all {
                    try group.removeAllPortals(node: place.node, target: place.target)
                } else {
                    try group.removePortals(portals, node: place.node, target: place.target)
                }
            }
        }
    }

    struct Set: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Replace the portals of a node.")
        @OptionGroup var place: Place
        @Argument(help: ArgumentHelp("Addresses.", valueName: "portal")) var portals: [String]
        @OptionGroup var options: ChangeOptions

        func run() async throws {
            try await options.change("clio portal set \(place.node) \(portals.joined(separator: " "))") { group, _ in
                try group.setPortals(portals, node: place.node, target: place.target)
            }
        }
    }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "List the portals, by node and target; in another fabric than iSCSI, the ports.")
        @OptionGroup fileprivate var options: ListOptions

        private struct Row: Encodable {
            let node: String
            /// `nil`: no target has the node's own.
            let target: String?
            let fabric: Fabric
            /// iSCSI.
            let portals: [String]?
            /// Names of the ports in another fabric.
            let ports: [String]?
        }

        private func rows(_ group: ClusterModel.Group) -> [Row] {
            group.nodes.flatMap { node in
                let served = group.targets.filter { group.nodes(of: $0).contains(node) }
                let rows = served.map { target in
                    Row(
                        node: node.name, target: target.iqn, fabric: target.fabric,
                        portals: target.fabric == .iscsi ? group.portals(of: target, on: node) : nil,
                        ports: target.ports?[node.name])
                }
                // A node without portals, none of whose targets needs any, is whole.
                let isWhole = served.contains { $0.fabric == .iscsi || node.portals.isEmpty }
                let own = Row(node: node.name, target: nil, fabric: .iscsi, portals: node.portals, ports: nil)
                return isWhole ? rows : [own] + rows
            }
        }

        func run() async throws {
            try await options.list(rows, ["node", "target", "fabric", "portals or ports"]) {
                [
                    $0.node, $0.target ?? "-", $0.fabric.rawValue,
                    ($0.portals ?? $0.ports ?? []).joined(separator: ", "),
                ]
            }
        }
    }
}
