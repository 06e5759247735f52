// SPDX-License-Identifier: Apache-2.0
import ClusterModel
import Foundation
import RBD
import Rados
import SystemPackage
import Testing

@testable import Target

/// Parsing of what the kernel and Ceph say, from recorded text.
@Suite struct ReadingTests {
    @Test func mappingsFromSysfs() throws {
        let scratch = try Scratch()
        func put(_ id: Int, _ values: [String: String]) throws {
            for (name, value) in values { try scratch.put("\(value)\n", "bus/devices/\(id)/\(name)") }
        }
        let common = [
            "pool": "rbd", "pool_ns": "", "cluster_fsid": "8e8c7223-56f0-4061-a806-f5fab29e70c3", "size": "1073741824",
        ]
        try put(0, common.merging(["name": "lun0", "image_id": "1013", "current_snap": "-"]) { $1 })
        try put(10, common.merging(["name": "lun0", "image_id": "1013", "current_snap": "monday"]) { $1 })
        try put(2, common.merging(["name": "lun1", "pool_ns": "ns", "image_id": "1014", "current_snap": "-"]) { $1 })
        try scratch.put("1\n", "block/rbd10/ro")
        let rbd = KernelRBD(bus: scratch.path.appending("bus"), blocks: scratch.path.appending("block"))
        #expect(rbd.mappings().map(\.device) == ["/dev/rbd0", "/dev/rbd2", "/dev/rbd10"])
        #expect(rbd.mappings()[2].snapshot == "monday")
        #expect(rbd.mappings()[2].readOnly)
        #expect(rbd.mapping(at: "/dev/rbd10") == rbd.mappings()[2])
        #expect(rbd.mapping(at: "/dev/rbd1") == nil)
        #expect(rbd.mapping(at: "/dev/sda") == nil)
        // One that was renamed has its old name here, and its id still.
        #expect(rbd.mappings(of: ["1014", "9"]).map(\.device) == ["/dev/rbd2"])
        let fsid = "8E8C7223-56f0-4061-a806-f5fab29e70c3"
        let all = rbd.mappings()
        func id(_ image: String, namespace: String = "", imageID: String?, fsid: String = fsid) -> Int? {
            let name = ImageName(pool: "rbd", namespace: namespace, image: image)
            return rbd.mapping(of: name, imageID: imageID, fsid: fsid, among: all)?.id
        }
        #expect(id("lun0", imageID: "1013") == 0)
        #expect(id("lun1", namespace: "ns", imageID: "1014") == 2)
        // Another namespace, image made anew, another cluster, an image that is not known yet.
        #expect(id("lun1", imageID: "1014") == nil)
        #expect(id("lun0", imageID: "9999") == nil)
        #expect(id("lun0", imageID: "1013", fsid: "other") == nil)
        #expect(id("lun0", imageID: nil) == nil)
    }

    /// What is known of a mapping is not taken for another one's that got its number.
    @Test func aNumberIsGivenAgain() throws {
        let scratch = try Scratch()
        func put(_ folder: String, image: String) throws {
            for (name, value) in ["name": image, "pool": "rbd", "image_id": "id of \(image)"] {
                try scratch.put("\(value)\n", "bus/devices/\(folder)/\(name)")
            }
        }
        try put("0", image: "lun0")
        try put("1", image: "lun1")
        let rbd = KernelRBD(bus: scratch.path.appending("bus"), blocks: scratch.path.appending("block"))
        #expect(rbd.mappings(of: ["id of lun1"]).map(\.image) == ["lun1"])
        try put("new", image: "lun2")
        let devices = scratch.path.appending("bus").appending("devices").string
        try FileManager.default.moveItem(atPath: "\(devices)/1", toPath: "\(devices)/old")
        try FileManager.default.moveItem(atPath: "\(devices)/new", toPath: "\(devices)/1")
        try FileManager.default.removeItem(atPath: "\(devices)/old")
        #expect(rbd.mappings(of: ["id of lun1"]).isEmpty)
        #expect(rbd.mappings(of: ["id of lun0", "id of lun2"]).map(\.image) == ["lun0", "lun2"])
    }

    @Test func noRBDModuleNoMappings() throws {
        let scratch = try Scratch()
        #expect(KernelRBD(bus: scratch.path.appending("none")).mappings().isEmpty)
    }

    @Test func monitors() throws {
        let both =
            #"{"mons":[{"public_addrs":{"addrvec":[{"type":"v2","addr":"10.0.0.1:3300","nonce":0},"#
            + #"{"type":"v1","addr":"10.0.0.1:6789","nonce":0}]}},{"public_addrs":{"addrvec":[{"type":"v1","addr":"[fd00::2]:6789"}]}}]}"#
        let found = try CephAccess.monitors(inDump: Array(both.utf8))
        #expect(found.list == ["10.0.0.1:6789", "[fd00::2]:6789"])
        #expect(found.messenger == .v1)
        let encrypted = try CephAccess.monitors(inDump: Array(both.utf8), encrypted: true)
        #expect(encrypted.list == ["10.0.0.1:3300"])
        #expect(encrypted.messenger == .encrypted)
        let modern = #"{"mons":[{"public_addrs":{"addrvec":[{"type":"v2","addr":"10.0.0.1:3300"}]}}]}"#
        let only = try CephAccess.monitors(inDump: Array(modern.utf8))
        #expect(only.list == ["10.0.0.1:3300"])
        #expect(only.messenger == .v2)
    }

    @Test func keys() throws {
        let scratch = try Scratch()
        try scratch.put("[client.other]\nkey = no\n[client.gw]\n\tkey = AQ==\n\tcaps mon = \"allow *\"\n", "keyring")
        let keyring = scratch.path.appending("keyring")
        try scratch.put(
            "# c\n[global]\nauth_client_required = cephx\n[client]\nkeyring = \(scratch.path)/$id.missing, \(keyring)\n",
            "conf")
        let conf = scratch.path.appending("conf")
        #expect(try CephAccess.key(for: .init(configuration: conf, id: "gw", keyring: keyring))?.revealed == "AQ==")
        #expect(try CephAccess.key(for: .init(configuration: conf, id: "gw"))?.revealed == "AQ==")
        let error = try #require(throws: CephAccess.Failure.self) {
            try CephAccess.key(for: .init(configuration: conf, id: "nobody", keyring: keyring))
        }
        #expect(error.description.contains("no key of client.nobody in \(keyring)"))
        try scratch.put("[global]\nauth client required = none\n", "open.conf")
        #expect(
            try CephAccess.key(
                for: .init(configuration: scratch.path.appending("open.conf"), id: "gw", keyring: keyring)) != nil)
        #expect(
            try CephAccess.key(
                for: .init(configuration: scratch.path.appending("open.conf"), id: "x", keyring: keyring)) == nil)
    }

    @Test func sessions() {
        #expect(Gateway.sessionAddress("No active iSCSI Session for Initiator Endpoint: iqn.a\n") == nil)
        let info = """
            InitiatorName: iqn.1993-08.org.debian:01:a
            InitiatorAlias: host
            LIO Session ID: 1   ISID: 0x00 02 3d 00 00 00  TSIH: 1  SessionType: Normal
            Session State: TARG_SESS_STATE_LOGGED_IN
            CID: 0  Connection State: TARG_CONN_STATE_LOGGED_IN
               Address 10.77.0.101 TCP  StatSN: 0x00000001
            """
        #expect(Gateway.sessionAddress(info) == "10.77.0.101")
    }

    @Test func nodeNames() throws {
        var group = Group(name: "default", nodes: [Node(name: "gw1", portals: []), Node(name: "gw2", portals: [])])
        #expect(try Gateway.nodeName("gw2", in: group) == "gw2")
        let unknown = try #require(throws: Gateway.Failure.self) { try Gateway.nodeName("gw9", in: group) }
        #expect(unknown.description == "group \"default\" has no node \"gw9\"; it has gw1, gw2")
        let host = SystemFiles.hostName
        group.nodes.append(Node(name: String(host.prefix { $0 != "." }), portals: []))
        #expect(try Gateway.nodeName(nil, in: group) == group.nodes[2].name)
    }
}

/// Images that cannot be shared, and the commands that fix them.
@Suite struct ImageCheckTests {
    private func info(_ features: ImageFeatures, size: UInt64 = 1 << 30, locks: [ImageClient] = []) -> ImageInfo {
        ImageInfo(
            spec: ImageSpec(pool: "rbd", namespace: "ns", name: "lun0"), id: "1", size: size, features: features,
            lockOwners: locks)
    }

    @Test func aPlainImageIsFine() {
        #expect(ImageCheck.faults(info([.layering, .deepFlatten, .striping, .dataPool])).isEmpty)
        #expect(ImageCheck.lockFault(info([.layering])) == nil)
    }

    static let refused: [(ImageFeatures, String)] = [
        ([.layering, .exclusiveLock], "rbd feature disable rbd/ns/lun0 exclusive-lock"),
        (
            [.exclusiveLock, .objectMap, .fastDiff],
            "rbd feature disable rbd/ns/lun0 fast-diff object-map exclusive-lock"
        ),
        (
            [.exclusiveLock, .objectMap, .fastDiff, .journaling],
            "rbd feature disable rbd/ns/lun0 journaling fast-diff object-map exclusive-lock"
        ),
    ]

    @Test(arguments: refused)
    func exclusiveLockIsRefusedWithTheFix(_ features: ImageFeatures, _ command: String) throws {
        let faults = ImageCheck.faults(info(features))
        #expect(faults.count == 1)
        #expect(try #require(faults.first).hasSuffix("Fix: \(command)"))
    }

    @Test func sizes() {
        #expect(ImageCheck.faults(info([], size: 0)).first?.contains("too small: 0 bytes") == true)
        #expect(ImageCheck.faults(info([], size: ImageCheck.smallest - 512)).count == 1)
        #expect(ImageCheck.faults(info([], size: ImageCheck.smallest)).isEmpty)
        let odd = ImageCheck.faults(info([], size: (10 << 20) + 100))
        #expect(odd.first?.hasSuffix("Fix: rbd resize --size 11M rbd/ns/lun0") == true)
    }

    @Test func aLockIsReportedWithItsOwner() throws {
        let owner = ImageClient(name: "client.4711", address: "10.77.0.9:0/1", cookie: "my lock")
        let text = try #require(ImageCheck.lockFault(info([.layering], locks: [owner])))
        #expect(text.contains("locked by client.4711 at 10.77.0.9:0/1"))
        #expect(text.contains("rbd lock rm rbd/ns/lun0 'my lock' client.4711"))
    }

    /// An image is one group's, and nobody else has it open when it becomes so.
    @Test func claims() throws {
        let claim = ImageClaim(group: "default", pool: "rbd")
        var image = info([.layering])
        #expect(claim.fault(image, members: []) == nil)
        image.watchers = [ImageClient(name: "client.9", address: "10.77.0.9:0/1", cookie: "1")]
        #expect(claim.fault(image, members: ["10.77.0.9:0/1"]) == nil)
        #expect(try #require(claim.fault(image, members: [])).contains("is open by client.9 at 10.77.0.9:0/1"))
        image.lockOwners = [5, 6].map { ImageClient(name: "client.\($0)", address: nil, cookie: "clio") }
        image.lockTag = "clio:rbd/default"
        #expect(claim.fault(image, members: []) == nil)
        image.lockTag = "clio:other/default"
        let text = try #require(claim.fault(image, members: []))
        #expect(text.contains("belongs to group other/default"))
        #expect(text.hasSuffix("rbd lock rm rbd/ns/lun0 clio client.5; rbd lock rm rbd/ns/lun0 clio client.6"))
        image.lockTag = "somebody's"
        #expect(try #require(claim.fault(image, members: [])).contains("believes to be alone"))
    }

    @Test func severalFaultsAreAllTold() {
        #expect(ImageCheck.faults(info([.exclusiveLock, .migrating, .nonPrimary], size: 0)).count == 4)
    }
}

@Suite struct StatisticsTests {
    @Test func disk() throws {
        let text =
            "    8461     0   676880     2893     7124       11   569920    61722   2  17904  64700   10  0   80  44  0  0"
        let disk = try #require(DiskStatistics(parsing: text))
        #expect(disk.reads == .init(count: 8461, bytes: 676_880 * 512, seconds: 2.893))
        #expect(disk.writes == .init(count: 7124, bytes: 569_920 * 512, seconds: 61.722))
        #expect(disk.discards == .init(count: 10, bytes: 80 * 512, seconds: 0.044))
    }

    @Test func oldKernelsHaveNoDiscards() throws {
        let disk = try #require(DiskStatistics(parsing: "1 0 8 3 4 0 16 6 0 9 10"))
        #expect(disk.discards == .init(count: 0, bytes: 0, seconds: 0))
    }

    @Test(arguments: ["", "1 2 3", "a b c d e f g h i j k", "-1 0 8 3 4 0 16 6 0 9 10"])
    func noStatistics(_ text: String) { #expect(DiskStatistics(parsing: text) == nil) }
}
