// SPDX-License-Identifier: Apache-2.0
import SystemPackage

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// Small files of sysfs and procfs.
enum SystemFiles {
    /// All of a small file, without white space at its end; nil if it cannot be read.
    static func text(_ path: FilePath) -> String? {
        guard let bytes = try? bytes(path) else { return nil }
        var text = String(decoding: bytes, as: UTF8.self)
        while let last = text.last, last.isWhitespace || last == "\0" { text.removeLast() }
        return text
    }

    /// All of a file.
    static func bytes(_ path: FilePath, limit: Int = 1 << 20) throws(Errno) -> [UInt8] {
        do {
            let file = try FileDescriptor.open(path, .readOnly, options: .closeOnExec)
            return try file.closeAfter {
                var out: [UInt8] = []
                var chunk = [UInt8](repeating: 0, count: 65536)
                while out.count < limit {
                    let count = try chunk.withUnsafeMutableBytes { try file.read(into: $0) }
                    if count == 0 { break }
                    out += chunk[..<count]
                }
                return out
            }
        } catch let error as Errno {
            throw error
        } catch {
            throw .ioError
        }
    }

    /// One `write(2)` of the whole text.
    static func write(_ text: String, to path: FilePath) throws(Errno) {
        do {
            let file = try FileDescriptor.open(path, .writeOnly, options: .closeOnExec)
            try file.closeAfter {
                var text = text
                _ = try text.withUTF8 { try file.write(UnsafeRawBufferPointer($0)) }
            }
        } catch let error as Errno {
            throw error
        } catch {
            throw .ioError
        }
    }

    /// Makes a file be `text`, at once: nobody sees a part of it, or its text with other permissions.
    static func replace(_ path: FilePath, with text: String, permissions: FilePermissions) throws(Errno) {
        let draft = FilePath("\(path).new")
        do {
            _ = draft.withPlatformString { unlink($0) }
            let file = try FileDescriptor.open(
                draft, .writeOnly, options: [.create, .exclusiveCreate, .closeOnExec], permissions: permissions)
            try file.closeAfter { _ = try file.writeAll(text.utf8) }
        } catch let error as Errno {
            throw error
        } catch {
            throw .ioError
        }
        let result = draft.withPlatformString { from in path.withPlatformString { rename(from, $0) } }
        guard result == 0 else { throw Errno(rawValue: errno) }
    }

    static func exists(_ path: FilePath) -> Bool { path.withPlatformString { access($0, F_OK) == 0 } }

    /// What a directory holds under a name.
    struct Entry: Hashable {
        let name: String
        /// In sysfs no two things have the same one, whatever their names (kernfs counts them, 64 bits on a 64-bit kernel).
        let inode: UInt64
    }

    /// Names in a directory, sorted; empty if it is not there.
    static func list(_ path: FilePath) -> [String] { entries(path).map(\.name).sorted() }

    /// What is in a directory, in no order; empty if it is not there.
    static func entries(_ path: FilePath) -> [Entry] {
        guard let directory = path.withPlatformString({ opendir($0) }) else { return [] }
        defer { closedir(directory) }
        var entries: [Entry] = []
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { entries.append(Entry(name: name, inode: UInt64(entry.pointee.d_ino))) }
        }
        return entries
    }

    /// `mkdir -p`, mode 0755.
    static func makeDirectories(_ path: FilePath) throws(Errno) {
        if exists(path) { return }
        let parent = path.removingLastComponent()
        if parent != path, !parent.isEmpty { try makeDirectories(parent) }
        guard path.withPlatformString({ mkdir($0, 0o755) }) == 0 || errno == EEXIST else {
            throw Errno(rawValue: errno)
        }
    }

    static func mount(_ type: String, at path: FilePath) throws(Errno) {
        let result = path.withPlatformString { Glibc.mount(type, $0, type, 0, nil) }
        guard result == 0 else { throw Errno(rawValue: errno) }
    }

    static var isRoot: Bool { geteuid() == 0 }

    /// The node's name, `gethostname(2)`.
    static var hostName: String {
        var buffer = [CChar](repeating: 0, count: 256)
        guard gethostname(&buffer, buffer.count - 1) == 0 else { return "" }
        return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
