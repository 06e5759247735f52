// SPDX-License-Identifier: Apache-2.0

import CNetlink
import SystemPackage
import Testing

@testable import Netlink

/// Against the controller, which every kernel has.
@Suite struct GenericNetlinkTests {
    @Test func resolvesTheController() async throws {
        let family = try await GenericNetlink().family("nlctrl")
        #expect(family.id == GenericNetlink.controller.id)
        #expect(family.version == 2)
        #expect(family.groups["notify"] != nil)
    }

    @Test func familyThatIsNotThere() async throws {
        let socket = try GenericNetlink()
        let error = await #expect(throws: NetlinkError.self) { try await socket.family("no-such-family") }
        #expect(error?.kind == .noFamily)
        #expect(error?.family == "no-such-family")
        #expect(error?.errno == .noSuchFileOrDirectory)
    }

    @Test func dumpsFamilies() async throws {
        let socket = try GenericNetlink()
        let families = try await socket.dump(
            GenericNetlink.controller, UInt8(CTRL_CMD_GETFAMILY), "list families")
        let names = families.compactMap { $0.attributes.string(UInt16(CTRL_ATTR_FAMILY_NAME)) }
        #expect(names.contains("nlctrl"))
        #expect(names.count == Set(names).count)
    }

    /// A command the family does not have.
    @Test func refusal() async throws {
        let socket = try GenericNetlink()
        let error = await #expect(throws: NetlinkError.self) {
            try await socket.request(GenericNetlink.controller, 200, "no-such-command")
        }
        #expect(error?.kind == .refused)
        #expect(error?.errno == .notSupportedOnSocket)
        #expect("\(try #require(error))".hasPrefix("netlink nlctrl: no-such-command: "))
    }

    /// An attribute of the wrong length: the kernel says which, if only in words.
    @Test func kernelsWords() async throws {
        let socket = try GenericNetlink()
        var attributes = Attributes()
        attributes.put(UInt16(CTRL_ATTR_FAMILY_ID), bytes: [1])
        let error = await #expect(throws: NetlinkError.self) {
            try await socket.request(
                GenericNetlink.controller, UInt8(CTRL_CMD_GETFAMILY), "look up", attributes)
        }
        #expect(error?.detail?.isEmpty == false, "\(String(describing: error))")
    }

    @Test func manyAtOnce() async throws {
        let socket = try GenericNetlink()
        try await withThrowingTaskGroup(of: UInt16.self) { group in
            for index in 0..<200 {
                group.addTask {
                    if index % 2 == 0 { return try await socket.family("nlctrl").id }
                    return try await socket.dump(
                        GenericNetlink.controller, UInt8(CTRL_CMD_GETFAMILY), "list families"
                    ).isEmpty ? 0 : GenericNetlink.controller.id
                }
            }
            for try await id in group { #expect(id == GenericNetlink.controller.id) }
        }
    }

    @Test func groupThatIsNotThere() async throws {
        let socket = try GenericNetlink()
        let family = try await socket.family("nlctrl")
        let error = #expect(throws: NetlinkError.self) { try socket.join("no-such-group", of: family) }
        #expect(error?.kind == .noGroup)
        try socket.join("notify", of: family)
    }

    @Test func closing() async throws {
        let socket = try GenericNetlink()
        socket.close()
        socket.close()
        let error = await #expect(throws: NetlinkError.self) { try await socket.family("nlctrl") }
        #expect(error?.kind == .closed)
        await #expect(throws: NetlinkError.self) { for try await _ in socket.notifications {} }
    }
}
