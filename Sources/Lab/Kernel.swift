// SPDX-License-Identifier: Apache-2.0
import Foundation
import Logging

/// A User Mode Linux kernel as the toolkit leaves it.
struct Kernel: Codable, Sendable, Equatable {
    /// Path of the executable.
    var executable: String
    /// Folder with its modules, `…/lib/modules/RELEASE`.
    var modules: String

    var release: String { String(modules.split(separator: "/").last ?? "") }

    /// Reads what `folder` holds: `linux` and `lib/modules/RELEASE`.
    ///
    /// - Throws: `LabError` if something of it is not there.
    init(folder: String) throws(LabError) {
        let folder = Files.resolved(folder)
        executable = "\(folder)/linux"
        guard access(executable, X_OK) == 0 else {
            throw LabError(executable, "no such executable", remedy: "make -C kernel um builds one")
        }
        let releases = (try? FileManager.default.contentsOfDirectory(atPath: "\(folder)/lib/modules")) ?? []
        guard let release = releases.first, releases.count == 1 else {
            throw LabError("\(folder)/lib/modules", "holds \(releases.count) releases, expected one")
        }
        modules = "\(folder)/lib/modules/\(release)"
    }

    /// Finds the kernel of `flavour`, building it if it is not there; `version` if not the toolkit's own.
    ///
    /// `$CLIO_KERNEL_DIR` overrides what the toolkit says of its own: a folder with the kernel, or with one folder a flavour.
    ///
    /// - Throws: `LabError` if there is no checkout to build it from, or the build fails.
    static func find(_ flavour: KernelFlavour, version: String? = nil, logger: Logger) async throws -> Kernel {
        if version == nil, let folder = environment("CLIO_KERNEL_DIR") {
            let own = "\(folder)/\(flavour.rawValue)"
            return try Kernel(folder: Files.exists("\(own)/linux") ? own : folder)
        }
        guard let source = sourceFolder() else {
            throw LabError(
                "kernel \(flavour.rawValue)", "no checkout with kernel/Makefile around \(executablePath())",
                remedy: "run clio-lab from the checkout's .build/release, or set CLIO_KERNEL_DIR")
        }
        let make =
            ["make", "-s", "-C", "\(source)/kernel", "FLAVOUR=\(flavour.rawValue)"]
            + (version.map { ["KERNEL=\($0)"] } ?? [])
        if version != nil { _ = try await Command.check(make + ["fetch"], timeout: .seconds(600)) }
        let folder = try await Command.check(make + ["um-dir"])
        if !Files.exists("\(folder)/linux") {
            logger.notice("building kernel \(flavour.rawValue)\(version.map { " \($0)" } ?? ""): minutes, once")
            let status = try await Command.attached(make + ["um"], timeout: .seconds(3600), toErrors: true)
            guard status == 0 else {
                throw LabError("kernel \(flavour.rawValue)", "its build failed (make: status \(status), see above)")
            }
        }
        return try Kernel(folder: folder)
    }

    /// The checkout this executable, or else the working folder, is in.
    static func sourceFolder() -> String? {
        for start in [executablePath(), FileManager.default.currentDirectoryPath] {
            var path = start
            while let slash = path.lastIndex(of: "/") {
                if Files.exists("\(path)/kernel/Makefile"), Files.exists("\(path)/Package.swift") { return path }
                path = String(path[..<slash])
            }
        }
        return nil
    }

    /// Path of the running executable.
    static func executablePath() -> String { Files.resolved("/proc/self/exe") }
}
