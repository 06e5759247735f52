// SPDX-License-Identifier: Apache-2.0

import Foundation
import SystemPackage
import Testing

@testable import ConfigFS

/// A tree in a folder of its own, gone afterwards. What it holds is made by hand: plain files stand for attributes.
private final class Scratch {
    let folder: URL
    let tree: ConfigTree

    init() throws {
        folder = FileManager.default.temporaryDirectory.appendingPathComponent("configfs-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        tree = ConfigTree(root: FilePath(folder.path))
    }

    deinit { try? FileManager.default.removeItem(at: folder) }

    func attribute(_ path: String, _ value: String = "") throws {
        try value.write(to: folder.appendingPathComponent(path), atomically: false, encoding: .utf8)
    }
}

private func failure(_ body: () throws -> Void) -> ConfigFSError? {
    do {
        try body()
        return nil
    } catch { return error as? ConfigFSError }
}

@Suite struct ConfigTreeTests {
    private let scratch: Scratch
    private var tree: ConfigTree { scratch.tree }

    init() throws { scratch = try Scratch() }

    @Test func paths() {
        let tree = ConfigTree(root: "/sys/kernel/config/")
        #expect(tree.path("target/core") == "/sys/kernel/config/target/core")
        #expect(tree.path("/sys/kernel/config/target") == "/sys/kernel/config/target")
        #expect(tree.path("/target") == "/sys/kernel/config/target")
        #expect(tree.path("a/./b/../c") == "/sys/kernel/config/a/c")
        #expect(tree.path("/sys/kernel/configuration") == "/sys/kernel/config/sys/kernel/configuration")
        #expect(tree.path("") == "/sys/kernel/config")
    }

    @Test func kinds() throws {
        try tree.makeDirectory("core")
        try scratch.attribute("core/enable", "1\n")
        try tree.link("core/link", to: "core")
        #expect(try tree.kind(of: "core") == .directory)
        #expect(try tree.kind(of: "core/enable") == .attribute)
        #expect(try tree.kind(of: "core/link") == .link)
        #expect(try tree.kind(of: "core/none") == nil)
        #expect(try tree.kind(of: "core/enable/below") == nil)
        #expect(try tree.exists("core") && !tree.exists("other"))
        #expect(try tree.list("core") == ["enable", "link"])
        #expect(try tree.list("core", .attribute) == ["enable"])
        #expect(try tree.list("", .directory) == ["core"])
        #expect(
            try tree.entries(of: "core") == [
                .init(name: "enable", kind: .attribute), .init(name: "link", kind: .link),
            ])
    }

    @Test func danglingLinkIsALink() throws {
        try tree.link("dead", to: "nowhere")
        #expect(try tree.kind(of: "dead") == .link)
        #expect(try tree.list("") == ["dead"])
    }

    @Test(arguments: [
        ("1\n", "1"), ("1", "1"), ("", ""), ("\n", ""), ("a\nb\n", "a\nb"), ("LIO-ORG\0\n", "LIO-ORG"),
        (" 1 \n", " 1 "),
    ])
    func reading(raw: String, value: String) throws {
        try scratch.attribute("a", raw)
        #expect(try tree.read("a") == value)
        #expect(try tree.readRaw("a") == Array(raw.utf8))
    }

    @Test func readingLongAttributes() throws {
        let long = String(repeating: "0123456789", count: 1000)
        try scratch.attribute("a", long)
        #expect(try tree.read("a") == long)
    }

    @Test func writing() throws {
        try scratch.attribute("a", "")
        try tree.write("hello", to: "a")
        #expect(try tree.readRaw("a") == Array("hello".utf8))
        #expect(try tree.set("a", to: "hello") == false)
        #expect(try tree.set("a", to: "world") == true)
        #expect(try tree.read("a") == "world")
    }

    @Test func longestValue() throws {
        try scratch.attribute("a")
        try tree.write(String(repeating: "x", count: ConfigTree.maximumValueSize), to: "a")
        let error = failure { try tree.write(String(repeating: "x", count: 4096), to: "a") }
        #expect(error?.errno == .messageTooLong)
        #expect(error?.description.contains("at most 4095 bytes") == true)
        #expect(error?.description.contains(String(repeating: "x", count: 200)) == false)
    }

    @Test func folders() throws {
        #expect(try tree.ensureDirectory("target/core/iblock_0/lun0"))
        #expect(try !tree.ensureDirectory("target/core/iblock_0/lun0"))
        #expect(try !tree.ensureDirectory("target/core"))
        #expect(try tree.kind(of: "target/core/iblock_0/lun0") == .directory)
        let error = failure { try tree.makeDirectory("target") }
        #expect(error?.errno == .fileExists)
        #expect(error?.operation == .makeDirectory)
        try scratch.attribute("file")
        let blocked = failure { try tree.ensureDirectory("file/x") }
        #expect(blocked?.errno == .fileExists && blocked?.path == tree.path("file"))
    }

    @Test func links() throws {
        try tree.ensureDirectory("core/lun0")
        try tree.ensureDirectory("core/lun1")
        try tree.ensureDirectory("lun")
        try tree.link("lun/a", to: "core/lun0")
        #expect(try tree.destination(of: "lun/a") == tree.path("core/lun0"))
        #expect(try tree.resolvedDestination(of: "lun/a") == tree.path("core/lun0"))
        #expect(try !tree.ensureLink("lun/a", to: "core/lun0"))
        #expect(try tree.ensureLink("lun/a", to: "core/lun1"))
        #expect(try tree.resolvedDestination(of: "lun/a") == tree.path("core/lun1"))
        #expect(failure { try tree.link("lun/a", to: "core/lun0") }?.errno == .fileExists)
        // configfs shows the links it holds relative: ../../..
        try FileManager.default.createSymbolicLink(
            atPath: tree.path("lun/b").string, withDestinationPath: "../core/lun0")
        #expect(try tree.destination(of: "lun/b") == "../core/lun0")
        #expect(try tree.resolvedDestination(of: "lun/b") == tree.path("core/lun0"))
        #expect(try !tree.ensureLink("lun/b", to: "core/lun0"))
        try tree.unlink("lun/b")
        #expect(try tree.kind(of: "lun/b") == nil)
    }

    @Test func removingATree() throws {
        try tree.ensureDirectory("target/iscsi/iqn/tpgt_1/lun/lun_0")
        try tree.ensureDirectory("target/iscsi/iqn/tpgt_1/acls/host/lun_0")
        try tree.ensureDirectory("target/core/iblock_0/lun0")
        try tree.link("target/iscsi/iqn/tpgt_1/lun/lun_0/port", to: "target/core/iblock_0/lun0")
        try tree.link("target/iscsi/iqn/tpgt_1/acls/host/lun_0/mapped", to: "target/iscsi/iqn/tpgt_1/lun/lun_0")
        try scratch.attribute("target/iscsi/iqn/tpgt_1/enable", "1")
        #expect(try tree.removeTree("target/iscsi/iqn"))
        #expect(try tree.list("target/iscsi") == [])
        // What the links led to is untouched.
        #expect(try tree.exists("target/core/iblock_0/lun0"))
        #expect(try !tree.removeTree("target/iscsi/iqn"))
        try tree.link("single", to: "target")
        #expect(try tree.removeTree("single"))
        #expect(try tree.exists("target"))
    }

    @Test func removingALinkedFolderDoesNotFollow() throws {
        try tree.ensureDirectory("a/b")
        try tree.ensureDirectory("other")
        try scratch.attribute("other/kept")
        try tree.link("a/b/out", to: "other")
        try tree.removeTree("a")
        #expect(try tree.exists("other/kept"))
    }

    // MARK: Errors

    @Test func missingAttribute() throws {
        try tree.makeDirectory("core")
        let error = failure { try tree.write("1", to: "core/enable") }
        #expect(error?.errno == .noSuchFileOrDirectory)
        #expect(error?.path == tree.path("core/enable"))
        #expect(error?.value == "1")
        let text = error?.description ?? ""
        #expect(text.hasPrefix("cannot write \"1\" to \(tree.root)/core/enable: "), "\(text)")
        #expect(text.contains("errno 2"))
        // Writing never creates: that would hide a wrong name.
        #expect(try tree.list("core") == [])
    }

    @Test func firstMissingFolderIsNamed() throws {
        try tree.makeDirectory("core")
        let deep = failure { _ = try tree.read("core/iblock_0/lun0/udev_path") }
        #expect(deep?.remedy == "there is no \(tree.root)/core/iblock_0")
        let target = failure { try tree.makeDirectory("target/core") }
        #expect(target?.remedy?.contains("modprobe target_core_mod") == true)
        try tree.makeDirectory("target")
        let iscsi = failure { try tree.makeDirectory("target/iscsi/iqn.2026-11.example:x") }
        #expect(iscsi?.remedy?.contains("modprobe iscsi_target_mod") == true)
        let link = failure { try tree.link("gone/link", to: "target") }
        #expect(link?.remedy?.contains("have to exist") == true)
        #expect(link?.value == tree.path("target").string)
    }

    @Test func fullFolder() throws {
        try tree.ensureDirectory("a/b")
        let error = failure { try tree.removeDirectory("a") }
        #expect(error?.errno == .directoryNotEmpty)
        #expect(error?.remedy == "remove what is in it first")
        #expect(failure { try tree.removeDirectory("none") }?.errno == .noSuchFileOrDirectory)
        #expect(failure { _ = try tree.list("none") }?.operation == .list)
        #expect(failure { _ = try tree.destination(of: "a") }?.operation == .readLink)
        #expect(failure { try tree.unlink("none") }?.operation == .unlink)
    }

    @Test func whoHoldsIt() throws {
        try tree.ensureDirectory("core/iblock_0/lun0")
        try tree.ensureDirectory("iscsi/lun_0")
        try tree.ensureDirectory("iscsi/lun_1")
        try tree.link("iscsi/lun_0/a", to: "core/iblock_0/lun0")
        try tree.link("iscsi/lun_1/b", to: "core/iblock_0")
        #expect(tree.links(leadingTo: "core/iblock_0/lun0") == [tree.path("iscsi/lun_0/a")])
        #expect(
            tree.links(leadingTo: "core/iblock_0") == [tree.path("iscsi/lun_0/a"), tree.path("iscsi/lun_1/b")])
        #expect(tree.links(leadingTo: "iscsi") == [])
        let error = ConfigFSError(
            .removeDirectory, tree.path("core/iblock_0"), .resourceBusy, holders: [tree.path("iscsi/lun_0/a")],
            remedy: "remove the links first")
        #expect(error.description.contains("held by \(tree.root)/iscsi/lun_0/a; remove the links first"))
    }

    @Test func secretsAreNotShown() {
        let error = failure { try tree.write("twelve-chars", to: "none", secret: true) }
        #expect(error?.description.contains("twelve-chars") == false)
        #expect(error?.value == "(secret)")
    }

    @Test(arguments: [
        ("1\n", "\"1\\n\""), ("a\tb", "\"a\\tb\""), ("\"", "\"\\\"\""), ("\u{1}", "\"\\u{1}\""), ("ü", "\"ü\""),
        ("\\", "\"\\\\\""), ("", "\"\""),
    ])
    func quoting(value: String, shown: String) {
        #expect(ConfigFSError.quoted(value) == shown)
    }

    // MARK: Mounts

    @Test func mounts() {
        let mounts = """
            sysfs /sys sysfs rw 0 0
            configfs /sys/kernel/config configfs rw,relatime 0 0
            tmpfs /mnt/with\\040space tmpfs rw 0 0
            config /mnt/with\\040space/config configfs rw 0 0
            none /over configfs rw 0 0
            none /over tmpfs rw 0 0
            """
        #expect(ConfigTree.isConfigFS("/sys/kernel/config", mounts: mounts))
        #expect(ConfigTree.isConfigFS("/sys/kernel/config/target", mounts: mounts))
        #expect(!ConfigTree.isConfigFS("/sys/kernel/configuration", mounts: mounts))
        #expect(!ConfigTree.isConfigFS("/sys/kernel", mounts: mounts))
        #expect(ConfigTree.isConfigFS("/mnt/with space/config", mounts: mounts))
        #expect(!ConfigTree.isConfigFS("/mnt/with space", mounts: mounts))
        #expect(!ConfigTree.isConfigFS("/over", mounts: mounts))
        #expect(!tree.isMounted)
    }

    @Test func notMounted() {
        let standard = ConfigTree()
        guard !standard.isMounted else { return }
        let error = failure { _ = try standard.list("target") }
        #expect(error?.remedy?.contains("mount -t configfs") == true)
    }
}
