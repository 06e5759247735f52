// SPDX-License-Identifier: Apache-2.0

import SystemPackage

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// The kernel's configfs, or any folder that stands in its place.
///
/// Every path is relative to the root (`target/iscsi/…`); an absolute path under the root is
/// taken as it is. What is read and written
/// are *attributes*: small text files of at most ``maximumValueSize`` bytes. Every call is a handful of system calls on a
/// file system in memory and returns when the kernel is done, which for LIO may be when a device has been opened.
///
/// Errors are ``ConfigFSError``: the operation, the whole path, the errno, the value, and where known the remedy.
public struct ConfigTree: Sendable {
    /// Where configfs is mounted by convention.
    public static let standardRoot: FilePath = "/sys/kernel/config"

    /// What the kernel takes in one write, in bytes: a page less the terminator (`SIMPLE_ATTR_SIZE` of fs/configfs/file.c).
    public static let maximumValueSize = 4095

    /// The folder every relative path starts from.
    public let root: FilePath

    /// What a path names.
    public enum Kind: Sendable, Hashable {
        case directory, attribute, link
    }

    /// One entry of a folder.
    public struct Entry: Sendable, Hashable {
        public let name: String
        public let kind: Kind

        public init(name: String, kind: Kind) {
            self.name = name
            self.kind = kind
        }
    }

    /// The tree at `root`. Nothing is touched yet: see ``isMounted``.
    public init(root: FilePath = ConfigTree.standardRoot) {
        self.root = root.lexicallyNormalized()
    }

    /// Whether the root lies in a mounted configfs (`/proc/self/mounts`: the last mount over it decides).
    public var isMounted: Bool {
        guard let descriptor = try? FileDescriptor.open("/proc/self/mounts", .readOnly, options: [.closeOnExec]) else {
            return false
        }
        defer { try? descriptor.close() }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 16384)
        while let count = try? chunk.withUnsafeMutableBytes({ try descriptor.read(into: $0) }), count > 0 {
            bytes += chunk[..<count]
        }
        return Self.isConfigFS(root, mounts: String(decoding: bytes, as: UTF8.self))
    }

    /// The answer of ``isMounted`` from the text of `/proc/self/mounts` (fields of `fstab(5)`).
    static func isConfigFS(_ root: FilePath, mounts: String) -> Bool {
        var best: (depth: Int, configfs: Bool) = (-1, false)
        for line in mounts.split(separator: "\n") {
            let fields = line.split(separator: " ")
            guard fields.count >= 3 else { continue }
            let point = FilePath(unescape(fields[1]))
            let depth = point.components.count
            if root.starts(with: point), depth >= best.depth { best = (depth, fields[2] == "configfs") }
        }
        return best.configfs
    }

    /// Undoes the octal escapes of `/proc/self/mounts` (`\040` is a space).
    private static func unescape(_ field: Substring) -> String {
        var bytes: [UInt8] = []
        var rest = Array(field.utf8)[...]
        while let byte = rest.popFirst() {
            let digits = rest.prefix(3)
            if byte == UInt8(ascii: "\\"), digits.count == 3,
                let code = UInt8(String(decoding: digits, as: UTF8.self), radix: 8)
            {
                bytes.append(code)
                rest = rest.dropFirst(3)
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// The whole path of an entry: an absolute path that does not lie under the root is taken as relative to it.
    public func path(_ relative: FilePath) -> FilePath {
        let relative = relative.lexicallyNormalized()
        if relative.isAbsolute && relative.starts(with: root) { return relative }
        return root.pushing(relative.removingRoot()).lexicallyNormalized()
    }

    // MARK: Looking

    /// What the path names, or nil if there is nothing. A link is `link`, wherever it leads.
    public func kind(of entry: FilePath) throws(ConfigFSError) -> Kind? {
        let path = path(entry)
        var status = stat()
        guard path.withPlatformString({ lstat($0, &status) }) == 0 else {
            let reason = Errno(rawValue: errno)
            if reason == .noSuchFileOrDirectory || reason == .notDirectory { return nil }
            throw failure(.inspect, path, reason)
        }
        switch status.st_mode & S_IFMT {
        case S_IFDIR: return .directory
        case S_IFLNK: return .link
        default: return .attribute
        }
    }

    /// Whether there is anything at the path.
    public func exists(_ entry: FilePath) throws(ConfigFSError) -> Bool {
        try kind(of: entry) != nil
    }

    /// What a folder holds, by name in byte order.
    public func entries(of directory: FilePath) throws(ConfigFSError) -> [Entry] {
        let path = path(directory)
        guard let stream = path.withPlatformString({ opendir($0) }) else {
            throw failure(.list, path, Errno(rawValue: errno))
        }
        defer { closedir(stream) }
        var found: [Entry] = []
        while true {
            errno = 0
            guard let entry = readdir(stream) else {
                let reason = errno
                if reason != 0 { throw failure(.list, path, Errno(rawValue: reason)) }
                break
            }
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name == "." || name == ".." { continue }
            // configfs says of each what it is; a folder may have thousands, and asking takes a call each.
            let kind: Kind? =
                switch Int(entry.pointee.d_type) {
                case DT_DIR: .directory
                case DT_LNK: .link
                case DT_UNKNOWN: try self.kind(of: path.appending(name))
                default: .attribute
                }
            // An entry that went away meanwhile is not an error: it is simply not there.
            if let kind { found.append(Entry(name: name, kind: kind)) }
        }
        return found.sorted { $0.name < $1.name }
    }

    /// The names in a folder, in byte order; with `kind`, only those of that kind.
    public func list(_ directory: FilePath, _ kind: Kind? = nil) throws(ConfigFSError) -> [String] {
        try entries(of: directory).filter { kind == nil || $0.kind == kind }.map(\.name)
    }

    /// Where a link leads, as it is written in the link.
    public func destination(of link: FilePath) throws(ConfigFSError) -> FilePath {
        let path = path(link)
        var buffer = [CChar](repeating: 0, count: Int(PATH_MAX))
        let length = path.withPlatformString { readlink($0, &buffer, buffer.count) }
        guard length >= 0 else { throw failure(.readLink, path, Errno(rawValue: errno)) }
        return FilePath(String(decoding: buffer.prefix(length).map(UInt8.init(bitPattern:)), as: UTF8.self))
    }

    /// Where a link leads, as a whole path without `.` and `..`.
    public func resolvedDestination(of link: FilePath) throws(ConfigFSError) -> FilePath {
        let destination = try destination(of: link)
        if destination.isAbsolute { return destination.lexicallyNormalized() }
        return path(link).removingLastComponent().pushing(destination).lexicallyNormalized()
    }

    // MARK: Attributes

    /// What an attribute holds, byte for byte.
    public func readRaw(_ attribute: FilePath) throws(ConfigFSError) -> [UInt8] {
        let path = path(attribute)
        do {
            let descriptor = try FileDescriptor.open(path, .readOnly, options: [.closeOnExec])
            return try descriptor.closeAfter {
                var bytes: [UInt8] = []
                var chunk = [UInt8](repeating: 0, count: 4096)
                while true {
                    let count = try chunk.withUnsafeMutableBytes { try descriptor.read(into: $0) }
                    if count == 0 { return bytes }
                    bytes += chunk[..<count]
                }
            }
        } catch {
            throw failure(.read, path, (error as? Errno) ?? .ioError)
        }
    }

    /// What an attribute holds, without the line end (and the NUL some of LIO's carry) at its end.
    public func read(_ attribute: FilePath) throws(ConfigFSError) -> String {
        var bytes = try readRaw(attribute)[...]
        while let last = bytes.last, last == 0x0A || last == 0 { bytes.removeLast() }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Writes an attribute that exists, by exactly one `write(2)`: the kernel takes each one as a value of its own.
    ///
    /// - Parameters:
    ///   - value: at most ``maximumValueSize`` bytes; handed over as it is, no line end added.
    ///   - secret: whether the value must not be shown in an error.
    /// - Throws: what `open` or `write` gave; `EMSGSIZE` for a value that is too long; `EIO` for one taken in part only.
    public func write(_ value: String, to attribute: FilePath, secret: Bool = false) throws(ConfigFSError) {
        let path = path(attribute)
        let bytes = Array(value.utf8)
        let shown = secret ? "(secret)" : value
        guard bytes.count <= Self.maximumValueSize else {
            throw failure(.write, path, .messageTooLong, value: shown)
        }
        var written = 0
        do {
            let descriptor = try FileDescriptor.open(path, .writeOnly, options: [.closeOnExec])
            written = try descriptor.closeAfter {
                try bytes.withUnsafeBytes { try descriptor.write($0, retryOnInterrupt: false) }
            }
        } catch {
            throw failure(.write, path, (error as? Errno) ?? .ioError, value: shown)
        }
        guard written == bytes.count else {
            throw ConfigFSError(
                .write, path, .ioError, value: shown, remedy: "the kernel took \(written) of \(bytes.count) bytes")
        }
    }

    /// Writes an attribute unless it holds this value already (line ends at the end aside).
    ///
    /// - Returns: whether anything was written.
    @discardableResult
    public func set(_ attribute: FilePath, to value: String) throws(ConfigFSError) -> Bool {
        if try read(attribute) == value { return false }
        try write(value, to: attribute)
        return true
    }

    // MARK: Folders and links

    /// Creates a folder, which makes the kernel create the object. Its parent has to be there.
    public func makeDirectory(_ directory: FilePath) throws(ConfigFSError) {
        let path = path(directory)
        guard path.withPlatformString({ mkdir($0, 0o755) }) == 0 else {
            throw failure(.makeDirectory, path, Errno(rawValue: errno))
        }
    }

    /// Creates a folder, and those above it under the root, where they are missing.
    ///
    /// - Returns: whether the folder itself was created.
    @discardableResult
    public func ensureDirectory(_ directory: FilePath) throws(ConfigFSError) -> Bool {
        let path = path(directory)
        if try kind(of: path) == .directory { return false }
        let parent = path.removingLastComponent()
        if parent != root && parent.starts(with: root) { try ensureDirectory(parent) }
        do throws(ConfigFSError) {
            try makeDirectory(path)
            return true
        } catch {
            // Someone else, or the kernel (default groups), was faster.
            if error.errno == .fileExists, try kind(of: path) == .directory { return false }
            throw error
        }
    }

    /// Creates a symbolic link, which makes the kernel tie two objects together.
    ///
    /// - Parameter destination: relative to the root, or absolute. configfs wants an existing folder of the same configfs.
    public func link(_ link: FilePath, to destination: FilePath) throws(ConfigFSError) {
        let path = path(link)
        let target = self.path(destination)
        let result = target.withPlatformString { target in path.withPlatformString { symlink(target, $0) } }
        guard result == 0 else { throw failure(.link, path, Errno(rawValue: errno), value: target.string) }
    }

    /// Creates a symbolic link unless there is one that leads there. One that leads elsewhere is replaced.
    ///
    /// - Returns: whether anything was changed.
    @discardableResult
    public func ensureLink(_ link: FilePath, to destination: FilePath) throws(ConfigFSError) -> Bool {
        if try kind(of: link) == .link {
            if try resolvedDestination(of: link) == path(destination) { return false }
            try unlink(link)
        }
        try self.link(link, to: destination)
        return true
    }

    /// Removes a link.
    public func unlink(_ link: FilePath) throws(ConfigFSError) {
        let path = path(link)
        let result = path.withPlatformString {
            #if canImport(Glibc)
                Glibc.unlink($0)
            #else
                Musl.unlink($0)
            #endif
        }
        guard result == 0 else { throw failure(.unlink, path, Errno(rawValue: errno)) }
    }

    /// Removes one folder. In configfs its attributes and default groups go with it; anything a person made must be gone.
    public func removeDirectory(_ directory: FilePath) throws(ConfigFSError) {
        let path = path(directory)
        guard path.withPlatformString({ rmdir($0) }) == 0 else {
            throw failure(.removeDirectory, path, Errno(rawValue: errno))
        }
    }

    /// Removes a folder and all that is in it: first every link below it, then the folders from the bottom up.
    ///
    /// Default groups, which the kernel made and refuses to remove (`EPERM`), go with the folder they belong to.
    /// Where the root is not configfs, plain files are removed as well. Nothing there is no error.
    ///
    /// - Returns: whether there was anything to remove.
    @discardableResult
    public func removeTree(_ directory: FilePath) throws(ConfigFSError) -> Bool {
        let path = path(directory)
        guard let kind = try kind(of: path) else { return false }
        guard kind == .directory else {
            try unlink(path)
            return true
        }
        let real = isMounted
        try removeLinks(below: path, alsoFiles: !real)
        try removeFolders(at: path, top: true)
        return true
    }

    private func removeLinks(below path: FilePath, alsoFiles: Bool) throws(ConfigFSError) {
        for entry in try entries(of: path) {
            let child = path.appending(entry.name)
            switch entry.kind {
            case .directory: try removeLinks(below: child, alsoFiles: alsoFiles)
            case .link: try unlink(child)
            case .attribute: if alsoFiles { try unlink(child) }
            }
        }
    }

    private func removeFolders(at path: FilePath, top: Bool) throws(ConfigFSError) {
        for entry in try entries(of: path) where entry.kind == .directory {
            try removeFolders(at: path.appending(entry.name), top: false)
        }
        do throws(ConfigFSError) {
            try removeDirectory(path)
        } catch {
            let defaultGroup = error.errno == .notPermitted || error.errno == .permissionDenied
            if top || !defaultGroup { throw error }
        }
    }

    // MARK: Errors

    /// Links anywhere under the root's top folder of `path` that lead to it or below it.
    ///
    /// Looked up only once something was busy, so that the cost does not matter.
    public func links(leadingTo entry: FilePath) -> [FilePath] {
        let path = path(entry)
        var found: [FilePath] = []
        var folders: [FilePath] = [root]
        while let folder = folders.popLast() {
            guard let entries = try? entries(of: folder) else { continue }
            for entry in entries {
                let child = folder.appending(entry.name)
                switch entry.kind {
                case .directory: folders.append(child)
                case .link:
                    if let destination = try? resolvedDestination(of: child), destination.starts(with: path),
                        !child.starts(with: path)
                    {
                        found.append(child)
                    }
                case .attribute: break
                }
            }
        }
        return found.sorted { $0.string < $1.string }
    }

    private func failure(
        _ operation: ConfigFSError.Operation, _ path: FilePath, _ reason: Errno, value: String? = nil
    ) -> ConfigFSError {
        var holders: [FilePath] = []
        if reason == .resourceBusy && operation == .removeDirectory { holders = links(leadingTo: path) }
        return ConfigFSError(
            operation, path, reason, value: value, holders: holders,
            remedy: remedy(operation, path, reason, held: !holders.isEmpty))
    }

    private func remedy(
        _ operation: ConfigFSError.Operation, _ path: FilePath, _ reason: Errno, held: Bool
    ) -> String? {
        switch reason {
        case .noSuchFileOrDirectory where root == Self.standardRoot && !isMounted:
            return "configfs is not mounted: modprobe configfs && mount -t configfs configfs \(root)"
        case .noSuchFileOrDirectory where operation == .link:
            return "both the folder of the link and what it leads to have to exist"
        case .noSuchFileOrDirectory:
            if operation == .write, (try? kind(of: path)) == .attribute {
                return "the kernel does not find what the object needs; its reason is in the kernel log (dmesg)"
            }
            return missing(path)
        case .resourceBusy where held:
            return "remove the links first"
        case .resourceBusy where operation == .removeDirectory || operation == .unlink:
            return "something in the kernel still uses it: a session, an open device, or an enabled portal group"
        case .resourceBusy where operation == .write:
            return "the kernel does not change this while the object is in use"
        case .directoryNotEmpty:
            return "remove what is in it first"
        case .permissionDenied, .notPermitted:
            return geteuid() == 0 ? "the kernel does not allow this here" : "this needs root"
        case .invalidArgument where operation == .write, .invalidArgument where operation == .makeDirectory:
            return "the kernel refuses this value; its reason is in the kernel log (dmesg)"
        case .messageTooLong:
            return "the kernel takes at most \(Self.maximumValueSize) bytes"
        default:
            return nil
        }
    }

    /// Names the folder that is the first one missing, and the module that brings it where that is known.
    private func missing(_ path: FilePath) -> String? {
        var present = path
        var absent = path
        while present != root && present.starts(with: root) {
            if let kind = try? kind(of: present), kind != .link || present != path { break }
            absent = present
            present = present.removingLastComponent()
        }
        if absent == root.appending("target") { return "there is no \(absent): modprobe target_core_mod" }
        if absent == root.appending("target").appending("iscsi") {
            return "there is no \(absent): modprobe iscsi_target_mod"
        }
        return absent == path ? nil : "there is no \(absent)"
    }
}
