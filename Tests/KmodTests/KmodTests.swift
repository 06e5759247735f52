// SPDX-License-Identifier: Apache-2.0

import Foundation
import SystemPackage
import Testing

@testable import Kmod

private func failure(_ body: () throws -> Void) -> KmodError? {
    do {
        try body()
        return nil
    } catch { return error as? KmodError }
}

@Suite("A module directory made by hand", .enabled(if: MadeUpModules.depmod != nil, "depmod (package kmod) is missing"))
struct MadeUpModuleTests {
    private let made: MadeUpModules
    private let modules: KernelModules

    init() throws {
        made = try MadeUpModules()
        modules = KernelModules(directory: made.directory)
    }

    @Test func names() throws {
        #expect(try modules.resolve("clio_base") == ["clio_base"])
        #expect(try modules.exists("clio_top"))
        // The kernel does not tell - from _.
        #expect(try modules.resolve("clio-top") == ["clio_top"])
        #expect(try modules.resolve("clio_nothing") == [])
        #expect(try !modules.exists("clio_nothing"))
    }

    @Test func aliases() throws {
        #expect(try modules.resolve("clio-alias-one") == ["clio_top"])
        #expect(try Set(modules.resolve("clio-alias-two")) == ["clio_top", "clio_other"])
    }

    @Test func builtIn() throws {
        #expect(try modules.state(of: "clio_builtin") == .builtIn)
        #expect(try modules.load("clio_builtin") == .builtIn)
        #expect(try modules.exists("clio_builtin"))
    }

    @Test func info() throws {
        let base = try modules.info("clio_base")
        #expect(base.name == "clio_base")
        #expect(base.path == made.directory.appending("kernel/clio_base.ko"))
        #expect(base.version == "1.2")
        #expect(base.sourceVersion == "ABC123")
        #expect(base.versionMagic == "6.12.0-clio SMP")
        #expect(base.license == "GPL")
        #expect(base.dependencies == [])
        let top = try modules.info("clio_top")
        #expect(top.dependencies == ["clio_base"])
        #expect(top.version == nil && top.sourceVersion == nil)
    }

    @Test func missing() throws {
        for attempt in [
            failure { try modules.load("clio_nothing") }, failure { _ = try modules.info("clio_nothing") },
            failure { try modules.unload("clio_nothing") },
        ] {
            let error = try #require(attempt)
            #expect(error.kind == .missing)
            #expect(error.module == "clio_nothing")
            #expect(error.directory == made.directory)
            let text = error.description
            #expect(text.contains("there is no kernel module clio_nothing for kernel \(modules.release)"))
            #expect(text.contains(made.directory.string))
            #expect(text.contains("depmod"))
        }
    }

    @Test func indexedButGone() throws {
        try made.remove("kernel/clio_other.ko")
        let error = failure { try modules.load("clio_other") }
        #expect(error?.kind == .missing)
        #expect(error?.module == "clio_other")
    }

    @Test func notLoaded() throws {
        #expect(try modules.state(of: "clio_base") == .notLoaded)
        #expect(modules.loaded("clio_base") == nil)
        #expect(try !modules.unload("clio_base"))
    }

    @Test("What no kernel can load is an error with the module's name, whoever asks")
    func unloadable() throws {
        let error = try #require(failure { try modules.load("clio_base", options: ["a": "1"]) })
        #expect(error.module == "clio_base")
        #expect(error.operation == "load")
        #expect(error.kind == .mismatch || error.kind == .notPermitted || error.kind == .other)
        #expect(try modules.state(of: "clio_base") == .notLoaded)
    }

    @Test func manyAtOnce() async throws {
        let modules = modules
        try await withThrowingTaskGroup(of: String.self) { group in
            for _ in 0..<32 { group.addTask { try modules.info("clio_top").name } }
            for try await name in group { #expect(name == "clio_top") }
        }
    }
}

@Suite struct KernelModulesTests {
    @Test func directoryThatIsNotThere() throws {
        let modules = KernelModules(directory: "/nonexistent/modules")
        #expect(try !modules.exists("blk_cluster"))
        let error = try #require(failure { try modules.load("clio_blk_cluster") })
        #expect(error.kind == .missing)
        #expect(error.description.contains("/nonexistent/modules"))
        #expect(error.description.contains("the directory does not exist"))
    }

    @Test func runningSystem() throws {
        let modules = KernelModules()
        #expect(modules.directory == FilePath("/lib/modules").appending(modules.release))
        let release = try String(contentsOfFile: "/proc/sys/kernel/osrelease", encoding: .utf8)
        #expect(modules.release == release.trimmingCharacters(in: .whitespacesAndNewlines))
        #expect(try modules.state(of: "clio_no_such_module") == .notLoaded)
        // Whatever the kernel says it has loaded, it has loaded.
        guard let text = try? String(contentsOfFile: "/proc/modules", encoding: .utf8) else { return }
        for line in text.split(separator: "\n").prefix(5) {
            let name = String(line.prefix { $0 != " " })
            #expect(modules.loaded(name)?.name == name)
            #expect(try modules.state(of: name) == .live)
            #expect(modules.loaded(name)?.references != nil)
        }
    }

    @Test func whatSysSays() throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("sys-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: folder) }
        let module = folder.appendingPathComponent("blk_cluster")
        try FileManager.default.createDirectory(at: module, withIntermediateDirectories: true)
        try "0.1\n".write(to: module.appendingPathComponent("version"), atomically: true, encoding: .utf8)
        try "FEED\n".write(to: module.appendingPathComponent("srcversion"), atomically: true, encoding: .utf8)
        try "2\n".write(to: module.appendingPathComponent("refcnt"), atomically: true, encoding: .utf8)
        let modules = KernelModules(directory: nil, sysModule: FilePath(folder.path))
        #expect(
            modules.loaded("blk-cluster")
                == KernelModules.Loaded(name: "blk_cluster", version: "0.1", sourceVersion: "FEED", references: 2))
        #expect(modules.loaded("rbd") == nil)
    }

    @Test(arguments: [("1", "1"), ("a b", "\"a b\""), ("", "")])
    func options(value: String, quoted: String) {
        #expect(KernelModules.quoted(value) == quoted)
    }

    @Test func errorTexts() {
        func text(_ kind: KmodError.Kind) -> String {
            KmodError(
                kind, module: "rbd", operation: "load", release: "6.12.1", directory: "/lib/modules/6.12.1",
                errno: .init(rawValue: 8), remedy: "do this"
            ).description
        }
        #expect(text(.missing) == "there is no kernel module rbd for kernel 6.12.1 in /lib/modules/6.12.1; do this")
        #expect(text(.mismatch).contains("rbd does not fit the running kernel 6.12.1"))
        #expect(text(.inUse) == "cannot load kernel module rbd: it is in use; do this")
        #expect(text(.notPermitted).hasPrefix("cannot load kernel module rbd: "))
        #expect(text(.other).contains("errno 8"))
    }
}
