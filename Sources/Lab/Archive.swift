// SPDX-License-Identifier: Apache-2.0

/// A cpio archive in the `newc` format, which the kernel unpacks as initramfs
/// (Documentation/driver-api/early-userspace/buffer-format.rst).
struct Archive {
    private(set) var bytes: [UInt8] = []
    private var inode: UInt32 = 0
    private var folders: Set<String> = []

    /// Adds a regular file, and the folders above it with mode 0755 unless they are there.
    mutating func add(_ path: String, _ content: [UInt8], mode: UInt32 = 0o644) {
        addParents(of: path)
        append(path, mode: 0o100000 | mode & 0o7777, content)
    }

    mutating func add(_ path: String, _ content: String, mode: UInt32 = 0o644) {
        add(path, Array(content.utf8), mode: mode)
    }

    /// Adds a folder, and those above it.
    mutating func add(folder path: String, mode: UInt32 = 0o755) {
        guard folders.insert(path).inserted else { return }
        addParents(of: path)
        append(path, mode: 0o040000 | mode & 0o7777, [])
    }

    /// The complete archive.
    func finished() -> [UInt8] {
        var archive = self
        archive.inode = UInt32.max
        archive.append("TRAILER!!!", mode: 0, [])
        archive.pad(to: 512)
        return archive.bytes
    }

    private mutating func addParents(of path: String) {
        guard let slash = path.lastIndex(of: "/") else { return }
        add(folder: String(path[..<slash]))
    }

    private mutating func append(_ path: String, mode: UInt32, _ content: [UInt8]) {
        inode &+= 1
        let name = Array(path.utf8) + [0]
        let fields: [UInt32] = [
            inode, mode, 0, 0, 1, 0, UInt32(content.count), 0, 0, 0, 0, UInt32(name.count), 0,
        ]
        bytes += Array("070701".utf8)
        for field in fields {
            let digits = String(field, radix: 16, uppercase: true)
            bytes += Array((String(repeating: "0", count: 8 - digits.count) + digits).utf8)
        }
        bytes += name
        pad(to: 4)
        bytes += content
        pad(to: 4)
    }

    private mutating func pad(to boundary: Int) {
        bytes += [UInt8](repeating: 0, count: (boundary - bytes.count % boundary) % boundary)
    }
}
