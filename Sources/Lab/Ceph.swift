// SPDX-License-Identifier: Apache-2.0
import Foundation
import Logging

/// A Ceph cluster inside the lab's network namespace: one monitor, one manager, OSDs.
struct Ceph: Sendable {
    let folder: String
    let network: Network
    let processes: Processes
    let logger: Logger
    let fsid: String
    /// Secret of `client.admin`.
    let adminKey: String
    let osds: Int
    /// Copies of each object.
    let replicas: Int
    /// Bytes each OSD says it has; memory is used as data comes.
    let capacity: Int
    let options: CephOptions

    /// The client's configuration, for the host's tools and in the nodes.
    var configuration: String { "\(folder)/ceph.conf" }
    var keyring: String { "\(folder)/keyring" }
    private var daemons: String { "\(folder)/ceph" }
    private var daemonConfiguration: String { "\(daemons)/ceph.conf" }

    /// A new random secret in cephx's encoding: type 1 (AES), creation time, length, 16 bytes.
    static func newSecret() -> String {
        func little<Integer: FixedWidthInteger>(_ value: Integer) -> [UInt8] {
            withUnsafeBytes(of: value.littleEndian, Array.init)
        }
        var generator = SystemRandomNumberGenerator()
        let secret = (0..<16).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
        let time = UInt32(truncatingIfNeeded: Int(Date().timeIntervalSince1970))
        return Data(little(UInt16(1)) + little(time) + little(UInt32(0)) + little(UInt16(16)) + secret)
            .base64EncodedString()
    }

    /// Where the monitor is, as Ceph writes it.
    private static func monitor(_ options: CephOptions) -> String {
        let address = options.ipv6 ? "[\(Network.ipv6(Network.bridgeAddress))]" : Network.bridgeAddress
        return "[v2:\(address):3300\(options.secure ? "" : ",v1:\(address):6789")]"
    }

    /// What all of them, daemons and clients, have to know of how they talk.
    private static func messenger(_ options: CephOptions) -> String {
        var lines = ["mon host = \(monitor(options))"]
        if options.secure {
            lines += ["ms bind msgr1 = false"]
            lines += ["cluster", "service", "client", "mon cluster", "mon service", "mon client"].map {
                "ms \($0) mode = secure"
            }
        }
        if options.ipv6 { lines += ["ms bind ipv4 = false", "ms bind ipv6 = true"] }
        return lines.joined(separator: "\n")
    }

    /// `ceph.conf` and keyring of a client.
    static func clientFiles(
        fsid: String, adminKey: String, keyring: String, _ options: CephOptions
    ) -> (configuration: String, keyring: String) {
        (
            """
            [global]
            fsid = \(fsid)
            \(messenger(options))
            auth client required = cephx
            keyring = \(keyring)
            rbd default features = 1
            \(options.erasure ? "rbd default data pool = data" : "")
            client mount timeout = 20
            rados mon op timeout = 30
            log file = /dev/null

            """,
            """
            [client.admin]
                key = \(adminKey)
                caps mon = "allow *"
                caps osd = "allow *"
                caps mgr = "allow *"

            """
        )
    }

    /// Where the package has the object classes. Debian 13's OSDs look for them relative to where they are started
    /// (`lib/<architecture>/rados-classes`).
    private static var classes: String? {
        let architectures = (try? FileManager.default.contentsOfDirectory(atPath: "/usr/lib")) ?? []
        let libraries = ["/usr/lib64", "/usr/lib"] + architectures.map { "/usr/lib/\($0)" }
        return libraries.map { "\($0)/rados-classes" }.first(where: Files.exists)
    }

    /// Without replicas the lease to read (`osd_heartbeat_grace` · the ratio below) is 120 s instead of 16 s. An OSD that stood
    /// still for longer than what was left of it would never serve again: nobody acknowledges a new lease then, and nothing
    /// else ends the state `laggy` (Ceph's `PeeringState::recheck_readable`; github.com/ceph/ceph-container/issues/1682).
    ///
    /// With replicas another OSD takes over, 20 s after the first has fallen silent. Ceph wants to hear that from two hosts, and
    /// here is one.
    private var daemonFile: String {
        func address(_ ipv4: String) -> String { options.ipv6 ? Network.ipv6(ipv4) : ipv4 }
        let failover =
            replicas == 1
            ? "osd pool default read lease ratio = 6"
            : "mon osd reporter subtree level = osd\nmon osd min down reporters = 1"
        let addresses = (0..<osds).map { "[\(OSDName.text($0))]\npublic addr = \(address(Network.address(osd: $0)))\n" }
            .joined()
        return """
            [global]
            fsid = \(fsid)
            \(Self.messenger(options))
            public addr = \(address(Network.bridgeAddress))
            auth cluster required = cephx
            auth service required = cephx
            auth client required = cephx
            auth allow insecure global id reclaim = false
            keyring = \(daemons)/keyring
            run dir = \(daemons)
            log file = \(daemons)/$name.log
            admin socket = \(daemons)/$name.asok
            crash dir = \(daemons)
            osd pool default size = \(replicas)
            osd pool default min size = 1
            osd pool default pg autoscale mode = off
            \(failover)
            osd crush chooseleaf type = 0
            mon allow pool size one = true
            mon allow pool delete = true
            mon warn on pool no redundancy = false
            mon data avail warn = 1
            mon data avail crit = 0
            paxos propose interval = 0.1
            paxos min wait = 0.02
            mon tick interval = 1
            mgr initial modules = iostat
            mon data = \(daemons)/mon
            mgr data = \(daemons)/mgr
            osd data = \(daemons)/osd.$id
            osd objectstore = \(options.store.rawValue)
            memstore device bytes = \(capacity)
            bluestore block size = \(capacity)
            mon debug no require bluestore for ec overwrites = true
            \(Self.classes.map { "osd class dir = \($0)" } ?? "")
            \(addresses)
            """
    }

    private var prefix: [String] { network.prefix }
    /// `rbd`. A client that came before the OSDs looks again at each tick, 5 s by default.
    private var rbd: [String] { prefix + ["rbd", "-c", configuration, "--objecter-tick-interval", "0.2"] }

    /// Starts monitor and OSDs and makes the pool `rbd`, which becomes usable soon after this returns.
    func up() async throws {
        let secrets = (0..<osds).map { _ in Self.newSecret() }
        let ids = (0..<osds).map { _ in UUID().uuidString.lowercased() }
        var keys = """
            [mon.]
                key = \(Self.newSecret())
                caps mon = "allow *"
            [mgr.x]
                key = \(Self.newSecret())
                caps mon = "allow profile mgr"
                caps osd = "allow *"
                caps mds = "allow *"
            \(Self.clientFiles(fsid: fsid, adminKey: adminKey, keyring: keyring, options).keyring)
            """
        for (index, secret) in secrets.enumerated() {
            let key = """
                [osd.\(index)]
                    key = \(secret)
                    caps mon = "allow profile osd"
                    caps mgr = "allow profile osd"
                    caps osd = "allow *"

                """
            keys += key
        }
        try Files.write(daemonFile, to: daemonConfiguration)
        try Files.write(keys, to: "\(daemons)/keyring", mode: 0o600)
        try Files.folder("\(daemons)/mon")
        try Files.folder("\(daemons)/mgr")
        let monmap = "\(daemons)/monmap"
        try await Command.check(
            ["monmaptool", "--create", "--addv", "a", Self.monitor(options), "--fsid", fsid, monmap])
        let common = ["-c", daemonConfiguration]

        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                try await Command.check(
                    prefix + ["ceph-mon"] + common
                        + ["--mkfs", "-i", "a", "--monmap", monmap, "--keyring", "\(daemons)/keyring"])
                try await start("mon.a", ["ceph-mon"] + common + ["-f", "-i", "a"])
                try await run(
                    ids.enumerated().map { "osd new \($1) \($0)" }
                        + ["config set mgr mgr/devicehealth/enable_monitoring false"]
                        + (osds == 1 ? makePools : []))
            }
            for (index, id) in ids.enumerated() {
                group.addTask {
                    try Files.folder("\(daemons)/osd.\(index)")
                    try await Command.check(
                        prefix + ["ceph-osd"] + common
                            + ["--mkfs", "-i", "\(index)", "--osd-uuid", id, "--no-mon-config"])
                }
            }
            try await group.waitForAll()
        }
        logger.notice("Ceph: the monitor runs")
        for index in 0..<osds {
            try await start(OSDName.text(index), ["ceph-osd"] + common + ["-f", "-i", "\(index)"])
        }
        if osds > 1 {
            try await waitForOSDs()
            try await run(makePools)
        }
    }

    /// With several OSDs to be done when all are up: a placement group that moves to one that comes later is not served
    /// before the first one's lease to read it has ended, two minutes.
    private var makePools: [String] {
        var commands = ["osd pool create rbd 16", "osd pool application enable rbd rbd"]
        if options.erasure {
            commands += [
                "osd erasure-code-profile set lab k=2 m=1 crush-failure-domain=osd",
                "osd pool create data 16 16 erasure lab", "osd pool set data allow_ec_overwrites true",
                "osd pool set data min_size 2", "osd pool application enable data rbd",
            ]
        }
        return commands
    }

    private func waitForOSDs() async throws {
        struct Stat: Decodable {
            let up: Int
            enum CodingKeys: String, CodingKey { case up = "num_up_osds" }
        }
        let end = ContinuousClock.now + .seconds(60)
        while true {
            let text = try await run(["osd stat"], ["-f", "json"])
            let stat = text.firstIndex(of: "{").flatMap {
                try? JSONDecoder().decode(Stat.self, from: Data(text[$0...].utf8))
            }
            if stat?.up == osds { return }
            guard ContinuousClock.now < end else {
                throw LabError("\(osds) OSDs", "do not come up: \(text)", remedy: "see \(daemons)/*.log")
            }
        }
    }

    /// Gives the monitor commands, all to one interpreter: to start it takes longer than they do.
    @discardableResult
    private func run(_ commands: [String], _ options: [String] = []) async throws -> String {
        try await Command.check(
            prefix + ["ceph", "-c", configuration, "--connect-timeout", "30"] + options,
            input: Array((commands.joined(separator: "\n") + "\nquit\n").utf8), timeout: .seconds(60))
    }

    /// Starts the manager. No I/O waits for it, and it loads its modules for seconds: better last.
    func startManager() async throws {
        try await start("mgr.x", ["ceph-mgr", "-c", daemonConfiguration, "-f", "-i", "x"])
    }

    /// Starts the daemon of `label`.
    private func start(_ label: String, _ arguments: [String]) async throws {
        try await processes.start(label, prefix: prefix, arguments, log: "\(daemons)/\(label).out")
    }

    /// Creates an image, which also waits for its pools to be usable.
    ///
    /// - Parameter image: `pool/image` or `pool/namespace/image`.
    func create(image: String, bytes: Int) async throws {
        do {
            try await Command.check(
                rbd + ["create", "--size", "\(bytes)B", "--image-feature", "layering", image], timeout: .seconds(40))
        } catch let error as LabError {
            let dead = (["mon.a", "mgr.x"] + (0..<osds).map(OSDName.text)).filter { !processes.isAlive($0) }
            throw LabError(
                "image \(image)", error.reason,
                remedy: dead.isEmpty ? "see \(daemons)/*.log" : "not running: \(dead); see \(daemons)/*.out and *.log")
        }
    }

    /// Creates the namespace that images are to be in, if they are to be in one.
    func createNamespace() async throws {
        guard !options.namespace.isEmpty else { return }
        try await Command.check(
            rbd + ["namespace", "create", "rbd/\(options.namespace)"], timeout: .seconds(40))
    }
}
