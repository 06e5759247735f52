// SPDX-License-Identifier: Apache-2.0
import Foundation
import SystemPackage
import Testing

@testable import Target

@Suite struct ClientCapsTests {
    @Test func ofANewClient() {
        let caps = ClientCaps(pools: ["rbd", "ssd"])
        #expect(caps.words == ["mon", "profile rbd", "osd", "profile rbd pool=rbd, profile rbd pool=ssd"])
        #expect(caps.suffices(for: ["ssd", "rbd"]))
        #expect(!caps.suffices(for: ["hdd"]))
    }

    /// What is there stays, however it is written.
    @Test func ofOneThatIsThere() {
        let caps = ClientCaps(mon: "allow r", osd: "allow class-read object_prefix x ,allow profile rbd pool = rbd")
        #expect(!caps.suffices(for: ["rbd"]))
        let more = caps.extended(to: ["rbd", "ssd"])
        #expect(more.mon == "allow r, profile rbd")
        #expect(more.osd == "allow class-read object_prefix x, profile rbd pool=rbd, profile rbd pool=ssd")
        #expect(more.suffices(for: ["rbd", "ssd"]))
        #expect(more.extended(to: ["rbd"]) == more)
        #expect(ClientCaps(mon: "allow *", osd: "allow *").suffices(for: ["any"]))
        #expect(ClientCaps(mon: "profile rbd", osd: "profile rbd").suffices(for: ["any"]))
    }

    @Test func whomToBe() throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "clio-client-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let conf = folder.appending(path: "ceph.conf").path
        #expect(CephAccess.options(configuration: conf, id: nil, keyring: nil).id == "admin")
        let own = CephAccess.keyringPath(of: "clio", beside: conf)
        #expect(own == FilePath(folder.appending(path: "ceph.client.clio.keyring").path))
        let client = GatewayClient(
            caps: ClientCaps(), isNew: true, isExtended: false, keyring: "[client.clio]\n\tkey = AQ==\n")
        #expect(try client.writeKeyring(to: own))
        #expect(try !client.writeKeyring(to: own))
        let attributes = try FileManager.default.attributesOfItem(atPath: own.string)
        #expect(attributes[.posixPermissions] as? Int == 0o600)
        #expect(throws: CephAccess.Failure.self) { try client.writeKeyring(to: "/nonexistent/keyring") }

        let options = CephAccess.options(configuration: conf, id: nil, keyring: nil)
        #expect(options.id == "clio" && options.keyring == own)
        #expect(CephAccess.options(configuration: conf, id: "clio", keyring: nil).keyring == own)
        #expect(CephAccess.options(configuration: conf, id: "admin", keyring: nil).id == "admin")
        // A keyring without a name is, as ever, the administrator's.
        #expect(CephAccess.options(configuration: conf, id: nil, keyring: "/k").id == "admin")
    }
}
