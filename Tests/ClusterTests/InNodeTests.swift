// SPDX-License-Identifier: Apache-2.0

import ConfigFS
import Foundation
import Kmod
import SystemPackage
import Testing

/// Kmod and ConfigFS on a real kernel: run inside a gateway node by `WrapperTests`, never anywhere else, since they load
/// modules and change LIO's tree.
enum InNode {
    static let variable = "CLIO_TEST_IN_NODE"
    static let isHere = ProcessInfo.processInfo.environment[variable] == "1"
    static let note = "runs inside a node of the lab only: WrapperTests takes it there"
}

private func kmodError(_ body: () throws(KmodError) -> Void) -> KmodError? {
    do throws(KmodError) {
        try body()
        return nil
    } catch { return error }
}

private func configError(_ body: () throws(ConfigFSError) -> Void) -> ConfigFSError? {
    do throws(ConfigFSError) {
        try body()
        return nil
    } catch { return error }
}

@Suite("Inside a node", .serialized, .enabled(if: InNode.isHere, Comment(rawValue: InNode.note)))
struct InNodeTests {
    let modules = KernelModules()
    let tree = ConfigTree()

    @Test("Modules load with what they depend on, once")
    func modulesLoad() throws {
        #expect(modules.directory.string == "/lib/modules/\(modules.release)")
        #expect(try modules.state(of: "iscsi_target_mod") == .notLoaded)
        #expect(modules.loaded("target_core_mod") == nil)
        #expect(try modules.info("iscsi_target_mod").dependencies.contains("target_core_mod"))

        #expect(try modules.load("iscsi_target_mod") == .loaded)
        #expect(try modules.load("iscsi_target_mod") == .alreadyLoaded)
        #expect(try modules.load("target-core-mod") == .alreadyLoaded)
        #expect(try modules.state(of: "iscsi_target_mod") == .live)
        let loaded = try #require(modules.loaded("iscsi_target_mod"))
        #expect(try loaded.sourceVersion == modules.info("iscsi_target_mod").sourceVersion)
        #expect(try #require(modules.loaded("target_core_mod")?.references) >= 1)
        #expect(try modules.state(of: "configfs") == .builtIn)
    }

    @Test("A Clio kernel is one that has blk_cluster")
    func clioKernel() throws {
        #expect(try modules.exists("blk_cluster"))
        let info = try modules.info("blk_cluster")
        #expect(info.license?.contains("GPL") == true)
        #expect(info.versionMagic?.hasPrefix(modules.release) == true)
        #expect(try modules.load("rbd", options: ["single_major": "N"]) == .loaded)
        #expect(modules.loaded("blk_cluster") != nil)
        let parameter = try String(contentsOfFile: "/sys/module/rbd/parameters/single_major", encoding: .utf8)
        #expect(parameter == "N\n")
    }

    @Test func moduleErrors() throws {
        let missing = try #require(kmodError { () throws(KmodError) -> Void in try modules.load("clio_nothing") })
        #expect(missing.kind == .missing)
        #expect(missing.description.contains("/lib/modules/\(modules.release)"))
        let held = try #require(kmodError { () throws(KmodError) -> Void in try modules.unload("target_core_mod") })
        #expect(held.kind == .inUse)
        #expect(held.description.contains("target_core_mod"))
        let parameter = try #require(
            kmodError { () throws(KmodError) -> Void in try modules.load("loop", options: ["max_loop": "many"]) })
        #expect(parameter.errno == .invalidArgument)
        #expect(parameter.description.contains("parameter"))
        #expect(try modules.load("loop") == .loaded)
        #expect(try modules.unload("loop"))
        #expect(try !modules.unload("loop"))
    }

    @Test("LIO's tree is built, busy while linked, and removed in the right order")
    func lioTree() throws {
        // The disk itself is made through configfs as well.
        try modules.load("null_blk", options: ["nr_devices": "0"])
        try modules.load("target_core_iblock")
        try mountConfigFS()
        #expect(tree.isMounted)
        #expect(try tree.kind(of: "target") == .directory)
        try tree.makeDirectory("nullb/clionull")
        try tree.write("64", to: "nullb/clionull/size")
        try tree.write("1", to: "nullb/clionull/memory_backed")
        try tree.write("1", to: "nullb/clionull/power")
        let busy = configError { () throws(ConfigFSError) -> Void in try tree.write("32", to: "nullb/clionull/size") }
        #expect(busy?.errno == .resourceBusy)
        #expect(busy?.value == "32")

        let store: FilePath = "target/core/iblock_7/disk"
        #expect(try tree.ensureDirectory(store))
        #expect(try !tree.ensureDirectory(store))
        let early = configError { () throws(ConfigFSError) -> Void in try tree.write("1", to: store.appending("enable"))
        }
        #expect(early?.errno == .invalidArgument)
        #expect(early?.description.contains("dmesg") == true)
        try tree.write("udev_path=/dev/nothing", to: store.appending("control"))
        let absentDisk = configError { () throws(ConfigFSError) -> Void in
            try tree.write("1", to: store.appending("enable"))
        }
        #expect(absentDisk?.errno == .noSuchFileOrDirectory)
        #expect(absentDisk?.remedy?.contains("dmesg") == true)
        try tree.write("udev_path=/dev/clionull", to: store.appending("control"))
        try tree.write("1", to: store.appending("enable"))
        #expect(try tree.read(store.appending("enable")) == "1")
        #expect(try tree.set(store.appending("wwn/vpd_unit_serial"), to: "x") == true)

        let target: FilePath = "target/iscsi/iqn.2026-11.example.clio:wrappers"
        let group = target.appending("tpgt_1")
        #expect(try tree.ensureDirectory(group.appending("lun/lun_0")))
        let port = group.appending("lun/lun_0/port")
        #expect(try tree.ensureLink(port, to: store))
        #expect(try !tree.ensureLink(port, to: store))
        #expect(try tree.resolvedDestination(of: port) == tree.path(store))
        #expect(try tree.ensureDirectory(group.appending("acls/iqn.2026-11.example.clio:host/lun_0")))
        let mapped = group.appending("acls/iqn.2026-11.example.clio:host/lun_0/map")
        try tree.link(mapped, to: group.appending("lun/lun_0"))

        let held = try #require(configError { () throws(ConfigFSError) -> Void in try tree.removeDirectory(store) })
        #expect(held.errno == .resourceBusy)
        #expect(held.holders == [tree.path(port)])
        #expect(held.description.contains("held by \(tree.path(port))"))
        let own = try #require(
            configError { () throws(ConfigFSError) -> Void in try tree.removeDirectory(group.appending("lun")) })
        #expect(own.errno == .notPermitted)
        let wrong = try #require(
            configError { () throws(ConfigFSError) -> Void in
                try tree.write("maybe", to: group.appending("attrib/cache_dynamic_acls"))
            })
        #expect(wrong.errno == .invalidArgument)
        #expect(wrong.value == "maybe")
        let absent = try #require(
            configError { () throws(ConfigFSError) -> Void in
                try tree.write("1", to: group.appending("attrib/nonsense"))
            })
        #expect(absent.path == tree.path(group.appending("attrib/nonsense")))

        #expect(try tree.removeTree(target))
        #expect(try !tree.removeTree(target))
        #expect(try tree.removeTree("target/core/iblock_7"))
        #expect(try tree.list("target/core").contains("iblock_7") == false)
        try tree.write("0", to: "nullb/clionull/power")
        try tree.removeDirectory("nullb/clionull")
    }

    private func mountConfigFS() throws {
        guard !tree.isMounted else { return }
        let mount = try Process.run(
            URL(fileURLWithPath: "/bin/mount"), arguments: ["-t", "configfs", "configfs", tree.root.string])
        mount.waitUntilExit()
    }
}
