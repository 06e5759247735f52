// SPDX-License-Identifier: Apache-2.0
import Foundation
import SystemPackage

/// Small files of the lab's folder and of `/proc`.
enum Files {
    /// Whole content of a small file, `nil` if it cannot be read. Unlike `String(contentsOfFile:)`, right for `/proc`.
    static func text(_ path: String) -> String? {
        bytes(path, from: 0).map { String(decoding: $0, as: UTF8.self) }
    }

    /// Content of the file at `path` from byte `offset` on, `nil` if it cannot be read.
    ///
    /// - Parameter chunk: How many bytes to read at a time.
    static func bytes(_ path: String, from offset: Int64, chunk size: Int = 65536) -> [UInt8]? {
        guard let file = try? FileDescriptor.open(FilePath(path), .readOnly, options: [.closeOnExec])
        else { return nil }
        defer { try? file.close() }
        var content: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: size)
        if offset > 0, (try? file.seek(offset: offset, from: .start)) == nil { return nil }
        while true {
            guard let count = try? chunk.withUnsafeMutableBytes({ try file.read(into: $0) }) else { return nil }
            if count == 0 { return content }
            content += chunk[..<count]
        }
    }

    /// Replaces the file at `path`, making its folders.
    static func write(_ bytes: [UInt8], to path: String, mode: UInt16 = 0o644) throws {
        let path = FilePath(path)
        let new = FilePath(path.string + ".new")
        do {
            try folder(path.removingLastComponent().string)
            let file = try FileDescriptor.open(
                new, .writeOnly, options: [.create, .truncate, .closeOnExec],
                permissions: FilePermissions(rawValue: CModeT(mode)))
            try file.closeAfter { _ = try file.writeAll(bytes) }
            guard rename(new.string, path.string) == 0 else { throw Errno(rawValue: errno) }
        } catch let error as Errno {
            throw LabError(path.string, "cannot be written: \(error)")
        }
    }

    static func write(_ text: String, to path: String, mode: UInt16 = 0o644) throws {
        try write(Array(text.utf8), to: path, mode: mode)
    }

    /// Makes the folder `path` and those above it.
    static func folder(_ path: String) throws {
        do {
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        } catch {
            throw LabError(path, "cannot be made: \(error.localizedDescription)")
        }
    }

    static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    /// The real path of `path`, without links.
    static func resolved(_ path: String) -> String {
        guard let pointer = realpath(path, nil) else { return path }
        defer { free(pointer) }
        return String(cString: pointer)
    }
}
