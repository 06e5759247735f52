// SPDX-License-Identifier: Apache-2.0
import Foundation

/// What the lab needs of the host.
enum Requirements {
    /// Commands the lab runs, and the Debian package each comes from.
    static let commands: [(command: String, package: String)] = [
        ("ceph", "ceph-common"), ("rbd", "ceph-common"), ("monmaptool", "ceph-common"), ("ceph-mon", "ceph-mon"),
        ("ceph-mgr", "ceph-mgr"), ("ceph-osd", "ceph-osd"), ("ip", "iproute2"), ("iptables-restore", "iptables"),
        ("nsenter", "util-linux"), ("setsid", "util-linux"), ("ssh", "openssh-client"),
        ("ssh-keygen", "openssh-client"), ("dropbear", "dropbear-bin"), ("dropbearkey", "dropbear-bin"),
        ("busybox", "busybox-static"), ("modprobe", "kmod"),
    ]
    /// What initiator nodes run besides.
    static let initiatorCommands: [(command: String, package: String)] = [
        ("iscsid", "open-iscsi"), ("iscsiadm", "open-iscsi"), ("multipathd", "multipath-tools"),
        ("multipath", "multipath-tools"), ("udevadm", "udev"), ("dmsetup", "dmsetup"),
    ]

    /// Path of `command`, looked for where root's commands are.
    static func find(_ command: String) -> String? {
        let path = (environment("PATH") ?? "") + ":/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
        for folder in path.split(separator: ":") where access("\(folder)/\(command)", X_OK) == 0 {
            return "\(folder)/\(command)"
        }
        return nil
    }

    /// Packages whose commands `has` does not know, each once, in order.
    static func missingPackages(
        initiators: Bool, has: (String) -> Bool = { find($0) != nil }
    ) -> [String] {
        var missing: [String] = []
        for (command, package) in commands + (initiators ? initiatorCommands : [])
        where !has(command) && !missing.contains(package) {
            missing.append(package)
        }
        return missing
    }

    /// - Throws: `LabError` with everything the host lacks at once, and the command that fixes it.
    static func check(_ options: LabOptions) throws {
        var reasons: [String] = []
        var remedies: [String] = []
        if geteuid() != 0 {
            reasons.append("needs root, for network namespaces")
            remedies.append("run it as root, or by sudo")
        }
        let packages = missingPackages(initiators: options.initiators > 0)
        if !packages.isEmpty {
            reasons.append("missing packages: \(packages.joined(separator: ", "))")
            remedies.append("apt-get install --no-install-recommends \(packages.joined(separator: " "))")
        }
        if geteuid() == 0, !canOpenTun() {
            reasons.append("/dev/net/tun cannot be opened")
            remedies.append("modprobe tun, or give the container the device /dev/net/tun")
        }
        if let executable = find("busybox"), !isStatic(executable) {
            reasons.append("\(executable) is not linked statically")
            remedies.append("apt-get install busybox-static")
        }
        guard reasons.isEmpty else {
            throw LabError("this machine", reasons.joined(separator: "; "), remedy: remedies.joined(separator: "; "))
        }
    }

    private static func canOpenTun() -> Bool {
        let file = open("/dev/net/tun", O_RDWR | O_CLOEXEC)
        guard file >= 0 else { return false }
        close(file)
        return true
    }

    /// Whether the ELF file at `path` has no interpreter.
    private static func isStatic(_ path: String) -> Bool {
        guard let bytes = Files.bytes(path, from: 0) else { return false }
        func number(_ offset: Int, _ size: Int) -> Int {
            guard offset + size <= bytes.count else { return 0 }
            return (0..<size).reduce(0) { $0 | Int(bytes[offset + $1]) << (8 * $1) }
        }
        // e_phoff, e_phentsize, e_phnum; p_type 3 is PT_INTERP.
        let (start, size, count) = (number(32, 8), number(54, 2), number(56, 2))
        return !(0..<count).contains { number(start + $0 * size, 4) == 3 }
    }

    /// A folder for the nodes' memory: a tmpfs that has room for `bytes`.
    ///
    /// - Throws: `LabError` if none has.
    static func memoryFolder(bytes: Int) throws(LabError) -> String {
        let mounts = (Files.text("/proc/self/mounts") ?? "").split(separator: "\n").map { $0.split(separator: " ") }
        let folders = ["/dev/shm", "/run", "/tmp"].filter { folder in
            mounts.contains { $0.count > 2 && $0[1] == folder && $0[2] == "tmpfs" }
        }
        for folder in folders {
            var status = statvfs()
            guard statvfs(folder, &status) == 0 else { continue }
            if Int(status.f_bavail) * Int(status.f_frsize) >= bytes { return folder }
        }
        throw LabError(
            "memory of the nodes", "no tmpfs at /dev/shm, /run or /tmp has \(bytes >> 20) MiB free",
            remedy: "mount -o remount,size=\(bytes >> 20)M /dev/shm, or ask for fewer nodes")
    }
}
