// SPDX-License-Identifier: Apache-2.0

import Foundation
import Initiator
import Lab
import Testing

/// A lab with two units. The reservations of one are at an OSD that serves nothing else which nodes need to map it, and that
/// the other unit and the group do not need at all: what the OSD holds up is to concern that unit alone.
struct TwoUnits: Sendable {
    let lab: Lab
    /// The unit whose reservations can be held up.
    let held: StuckCommands
    /// Its image, in the pool `rbd`.
    let image: String
    /// The object with its reservations.
    let state: String
    /// The LUN of the other one, of which blocks of the first data object are used.
    let other = 0

    /// The OSD with the reservations.
    var osd: Int { held.placement.state }

    private init(_ lab: Lab) async throws {
        self.lab = lab
        let own = try await lab.placement(objects: 1)
        let free = Set(0..<lab.options.osds).subtracting(
            [own.group, own.pool, own.id, own.header, own.state] + own.objects)
        for number in 1...200 {
            let placement = try await Self.create("unit\(number)", lab)
            guard free.contains(placement.state), Self.isElsewhere(placement), let data = placement.onlyData else {
                continue
            }
            image = "unit\(number)"
            held = StuckCommands(lab, lun: 1, placement, data: data)
            let id = try await lab.hostCheck(["rados", "-p", "rbd", "get", "rbd_id.\(image)", "-"])
            // A length of four bytes comes first.
            state = "clio.scsi.\(id.utf8.dropFirst(4).reduce(into: "") { $0.unicodeScalars.append(.init($1)) })"
            try await add(image, lun: held.lun)
            return
        }
        throw LabError("the lab's images", "none has its reservations at an OSD of its own")
    }

    /// Whether the OSD with the reservations has nothing else that is needed to map the image.
    private static func isElsewhere(_ placement: Placement) -> Bool {
        ![placement.id, placement.header, placement.objects[0]].contains(placement.state)
    }

    private static func create(_ image: String, _ lab: Lab) async throws -> Placement {
        let create = ["rbd", "create", "--image-feature", "layering", "--size", "\(lab.options.size)B", "rbd/\(image)"]
        try await lab.hostCheck(create)
        return try await lab.placement(image: image)
    }

    /// Makes an image that needs nothing of the OSD with the reservations to be mapped.
    func imageElsewhere() async throws -> String {
        for number in 1...200 {
            let name = "elsewhere\(number)"
            let placement = try await Self.create(name, lab)
            if [placement.state, placement.id, placement.header, placement.objects[0]].allSatisfy({ $0 != osd }) {
                return name
            }
        }
        throw LabError("the lab's images", "each needs osd.\(osd)")
    }

    /// Has the group export an image, and waits until all gateways do.
    func add(_ image: String, lun: Int) async throws {
        let description = lab.description()
        try await lab.hostCheck(
            [try lab.executable("clio"), "lun", "add", "rbd/\(image)", "--lun", "\(lun)"]
                + ["--ceph-conf", description.cephConf, "--keyring", description.keyring])
        for node in description.nodes where try lab.state(node.name) == .running {
            try await lab.waitUntilServed(node, lun: lun)
        }
    }

    // MARK: What tests do to it

    /// Starts a gateway's cliod, and waits until the unit that nothing holds up is served.
    func start(_ gateway: String) async throws {
        try await lab.startDaemon(gateway)
        let node = try #require(lab.description().nodes.first { $0.name == gateway })
        try await lab.waitUntilServed(node, lun: other)
    }

    /// What the node of a gateway has mapped the held unit to.
    func device(_ gateway: String) async throws -> String {
        let script = """
            for device in /sys/bus/rbd/devices/*; do
                [ "$(cat $device/name)" = \(image) ] && echo /dev/rbd${device##*/} && exit
            done
            """
        return try await lab.check(gateway, ["sh", "-c", script])
    }

    /// Has a node map an image, by hand.
    func map(_ gateway: String, _ image: String, snap: String = "-", _ options: String) async throws -> CommandResult {
        let script = """
            key=$(awk '$1 == "key" { print $3 }' /etc/ceph/ceph.client.clio.keyring)
            echo "\(Lab.hostAddress):6789 name=clio,secret=$key,\(options) rbd \(image) \(snap)" |
                tee /sys/bus/rbd/add_single_major
            """
        return try await lab.exec(gateway, ["sh", "-c", script])
    }

    /// The bytes of the held unit's state.
    func stateBytes() async throws -> [UInt8] {
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("\(state).\(UUID())")
        defer { try? FileManager.default.removeItem(at: file) }
        try await lab.hostCheck(["rados", "-p", "rbd", "get", state, file.path])
        return Array(try Data(contentsOf: file))
    }

    func replaceState(_ bytes: [UInt8]) async throws {
        try await lab.hostCheck(["rados", "-p", "rbd", "put", state, "-"], input: bytes)
    }

    /// A figure that a gateway's cliod serves, summed over labels.
    func figure(_ gateway: String, _ name: String) async throws -> Double {
        let address = try #require(lab.description().nodes.first { $0.name == gateway }?.address)
        let text = try await lab.hostCheck(["curl", "-sf", "http://\(address):\(Lab.metricsPort)/metrics"])
        return text.split(separator: "\n").filter { $0.hasPrefix("\(name){") || $0.hasPrefix("\(name) ") }
            .compactMap { $0.split(separator: " ").last.flatMap { Double($0) } }.reduce(0, +)
    }
}

extension TwoUnits {
    @TaskLocal private static var running: TwoUnits?

    /// Runs a test on the suite's lab, without reservations. At its end all that is held goes on, all sessions are dropped,
    /// and the consoles are clean.
    static func with(_ body: (TwoUnits) async throws -> Void) async throws {
        let units = try #require(running, "the suite has no lab")
        let clio = try units.lab.executable("clio")
        for lun in [units.other, units.held.lun] {
            try await units.lab.check("gw2", [clio, "pr", "clear", "\(lun)", "--yes"])
        }
        let problems = units.lab.consoleProblems().count
        do {
            try await body(units)
        } catch {
            try await units.held.end()
            throw error
        }
        try await units.held.end()
        for problem in units.lab.consoleProblems().dropFirst(problems) { Issue.record("\(problem)") }
    }

    /// One lab for the tests of a suite.
    struct SuiteLab: SuiteTrait, TestScoping {
        let isRecursive = false
        let options: LabOptions

        func provideScope(
            for test: Test, testCase: Test.Case?, performing body: @concurrent @Sendable () async throws -> Void
        ) async throws {
            try await withLab(options) { lab in
                let units = try await TwoUnits(lab)
                try await TwoUnits.$running.withValue(units) { try await body() }
            }
        }
    }
}

extension Trait where Self == TwoUnits.SuiteLab {
    static func twoUnits(_ kernel: KernelFlavour = .clio, gateways: Int = 2) -> Self {
        // One OSD more than the group, the pool and LUN 0 can need.
        Self(
            options: LabOptions(
                name: "units-test", gateways: gateways, initiators: 0, osds: 7, luns: 1, size: 256 << 20,
                kernel: kernel))
    }
}
