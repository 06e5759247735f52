// SPDX-License-Identifier: Apache-2.0
import Foundation
import SystemPackage

/// Keeps two commands from changing one lab at a time.
struct Lock: Sendable {
    private let file: FileDescriptor
    private let path: String

    /// Waits up to 2 minutes for the lock of the lab in `folder`.
    ///
    /// - Throws: `LabError` if another command holds it longer.
    init(_ folder: String) throws {
        let path = "\(folder).lock"
        for _ in 0..<2400 {
            let file: FileDescriptor
            do {
                file = try FileDescriptor.open(
                    FilePath(path), .readWrite, options: [.create, .closeOnExec], permissions: [.ownerReadWrite])
            } catch {
                throw LabError(path, "cannot be opened: \(error)", remedy: "run as root, or set CLIO_LAB_DIR")
            }
            if flock(file.rawValue, LOCK_EX | LOCK_NB) == 0, Self.isSame(file, path) {
                self.file = file
                self.path = path
                return
            }
            try? file.close()
            usleep(50_000)
        }
        throw LabError(path, "another clio-lab command holds it")
    }

    /// - Parameter forGood: Remove the file too; who waits for it notices and makes another.
    func release(forGood: Bool = false) {
        if forGood { unlink(path) }
        try? file.close()
    }

    /// Whether `path` still names the open file.
    private static func isSame(_ file: FileDescriptor, _ path: String) -> Bool {
        var opened = stat()
        var named = stat()
        return fstat(file.rawValue, &opened) == 0 && stat(path, &named) == 0 && opened.st_dev == named.st_dev
            && opened.st_ino == named.st_ino
    }
}
