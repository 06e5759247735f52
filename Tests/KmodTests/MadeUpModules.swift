// SPDX-License-Identifier: Apache-2.0

import Foundation
import SystemPackage

/// A module directory made by hand and indexed by the real depmod(8). The modules are ELF objects with what depmod and
/// libkmod read of one, and nothing a kernel could run.
final class MadeUpModules {
    static let depmod = ["/sbin/depmod", "/usr/sbin/depmod"].first { FileManager.default.isExecutableFile(atPath: $0) }

    private let base: URL
    let directory: FilePath

    /// - Parameter release: the kernel the directory is for, in the form depmod insists on.
    init(release: String = "6.12.0-clio") throws {
        base = FileManager.default.temporaryDirectory.appendingPathComponent("kmod-\(UUID().uuidString)")
        let folder = base.appendingPathComponent("lib/modules/\(release)")
        directory = FilePath(folder.path)
        try FileManager.default.createDirectory(
            at: folder.appendingPathComponent("kernel"), withIntermediateDirectories: true)
        try Data().write(to: folder.appendingPathComponent("modules.order"))
        try Data("kernel/drivers/clio_builtin.ko\n".utf8).write(to: folder.appendingPathComponent("modules.builtin"))
        try Data("clio_builtin.license=GPL\0clio_builtin.alias=fs-cliobuiltin\0".utf8)
            .write(to: folder.appendingPathComponent("modules.builtin.modinfo"))
        try add(
            "clio_base", ["license=GPL", "version=1.2", "srcversion=ABC123", "vermagic=\(release) SMP"],
            exports: ["clio_base_function"])
        try add("clio-top", ["license=GPL", "alias=clio-alias-*", "depends=clio_base"], needs: ["clio_base_function"])
        try add("clio_other", ["license=GPL", "alias=clio-alias-two"])
        let depmod = Process()
        depmod.executableURL = URL(fileURLWithPath: Self.depmod ?? "/sbin/depmod")
        depmod.arguments = ["-b", base.path, release]
        try depmod.run()
        depmod.waitUntilExit()
    }

    deinit { try? FileManager.default.removeItem(at: base) }

    private func add(_ name: String, _ modinfo: [String], exports: [String] = [], needs: [String] = []) throws {
        let fields = modinfo + ["name=\(name.replacingOccurrences(of: "-", with: "_"))"]
        let file = Self.object(
            modinfo: fields.flatMap { Array($0.utf8) + [0] }, exports: exports.flatMap { Array($0.utf8) + [0] },
            undefined: needs)
        try Data(file).write(to: URL(fileURLWithPath: directory.appending("kernel/\(name).ko").string))
    }

    func remove(_ file: String) throws {
        try FileManager.default.removeItem(atPath: directory.appending(file).string)
    }

    /// A relocatable ELF64 object of this machine's byte order with the sections .modinfo, __ksymtab_strings, .symtab and
    /// .strtab (elf(5)).
    private static func object(modinfo: [UInt8], exports: [UInt8], undefined: [String]) -> [UInt8] {
        func number<Number: FixedWidthInteger>(_ value: Number) -> [UInt8] {
            withUnsafeBytes(of: value.littleEndian) { Array($0) }
        }
        var symbolNames: [UInt8] = [0]
        var symbols = [UInt8](repeating: 0, count: 24)
        for name in undefined {
            // A global symbol (1 << 4) of no section.
            symbols += number(UInt32(symbolNames.count)) + [0x10, 0] + number(UInt16(0)) + number(UInt64(0))
            symbols += number(UInt64(0))
            symbolNames += Array(name.utf8) + [0]
        }
        let sections: [(name: String, type: UInt32, bytes: [UInt8], link: UInt32, entry: UInt64)] = [
            ("", 0, [], 0, 0), (".modinfo", 1, modinfo, 0, 0), ("__ksymtab_strings", 1, exports, 0, 0),
            (".symtab", 2, symbols, 4, 24), (".strtab", 3, symbolNames, 0, 0), (".shstrtab", 3, [], 0, 0),
        ]
        var sectionNames: [UInt8] = []
        var nameOffsets: [UInt32] = []
        for section in sections {
            nameOffsets.append(UInt32(sectionNames.count))
            sectionNames += Array(section.name.utf8) + [0]
        }
        var body: [UInt8] = []
        var headers: [UInt8] = []
        for (index, section) in sections.enumerated() {
            while body.count % 8 != 0 { body.append(0) }
            let bytes = index == sections.count - 1 ? sectionNames : section.bytes
            headers += number(nameOffsets[index]) + number(section.type) + number(UInt64(0)) + number(UInt64(0))
            headers += number(UInt64(64 + body.count)) + number(UInt64(bytes.count)) + number(section.link)
            headers += number(UInt32(section.type == 2 ? 1 : 0)) + number(UInt64(8)) + number(section.entry)
            body += bytes
        }
        while body.count % 8 != 0 { body.append(0) }
        #if arch(arm64)
            let machine: UInt16 = 183
        #else
            let machine: UInt16 = 62
        #endif
        var header: [UInt8] = [0x7F, 0x45, 0x4C, 0x46, 2, 1, 1, 0] + [UInt8](repeating: 0, count: 8)
        header += number(UInt16(1)) + number(machine) + number(UInt32(1)) + number(UInt64(0)) + number(UInt64(0))
        header += number(UInt64(64 + body.count)) + number(UInt32(0)) + number(UInt16(64)) + number(UInt16(0))
        header += number(UInt16(0)) + number(UInt16(64)) + number(UInt16(sections.count))
        header += number(UInt16(sections.count - 1))
        return header + body + headers
    }
}
