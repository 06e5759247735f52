// SPDX-License-Identifier: Apache-2.0

/// What a node finds when it boots: an initramfs with a static busybox, the script that assembles the node's root from
/// the host's files, and the node's own files.
///
/// The root is a tmpfs. The host's folders are bound into it from one read-only mount of the host's file system
/// (hostfs), so Debian's tools and our own executables run as they are, and nothing a node does reaches the host's
/// files. `/etc` and `/lib` are the node's own, with a link for each entry of the host's; `/run`, `/tmp`, `/var`,
/// `/root` start empty. The whole host is at `/host`, read-only.
struct NodeImage: Sendable {
    /// Host name.
    var name: String
    var role: LabDescription.Role
    /// IPv4 address of `vec0`.
    var address: String
    /// IPv6 address of `vec0`; `nil`: none of the lab's.
    var ipv6: String?
    /// Folder with the kernel's modules on the host.
    var modules: String
    /// Kernel release the modules are for.
    var release: String
    /// Folders of the host's that must be in the node under the same path, wherever they are.
    var shares: [String]
    /// Folder of our executables, first in the node's PATH.
    var executables: String
    /// The node's own files, by path without the first `/`.
    var files: [String: File]

    struct File: Sendable {
        var content: [UInt8]
        var mode: UInt32 = 0o644

        init(_ text: String, mode: UInt32 = 0o644) {
            content = Array(text.utf8)
            self.mode = mode
        }

        init(_ content: [UInt8], mode: UInt32 = 0o644) {
            self.content = content
            self.mode = mode
        }
    }

    /// The line on the console that says a node is up.
    static let readyLine = "clio-lab: node is up"

    /// The initramfs.
    ///
    /// - Parameter busybox: The host's static busybox.
    func archive(busybox: [UInt8]) -> [UInt8] {
        var archive = Archive()
        archive.add("bin/busybox", busybox, mode: 0o755)
        archive.add("init", Self.firstStage, mode: 0o755)
        archive.add("node.conf", configuration)
        archive.add(folder: "overlay/root", mode: 0o700)
        archive.add(folder: "overlay/root/.ssh", mode: 0o700)
        for (path, file) in allFiles.sorted(by: { $0.key < $1.key }) {
            archive.add("overlay/\(path)", file.content, mode: file.mode)
        }
        return archive.finished()
    }

    private var allFiles: [String: File] {
        var files = self.files
        files["lab/init"] = File(secondStage, mode: 0o755)
        files["lab/run"] = File(run, mode: 0o755)
        files["etc/hostname"] = File("\(name)\n")
        return files
    }

    /// Variables for the first stage.
    private var configuration: String {
        // Entries of /etc that the node has itself must not be links into the host's.
        var own: Set<String> = ["etc/mtab", "etc/target"]
        for path in allFiles.keys where path.hasPrefix("etc/") {
            own.insert(path.split(separator: "/").prefix(2).joined(separator: "/"))
        }
        return """
            RELEASE=\(Command.quoted(release))
            MODULES=\(Command.quoted(modules))
            OWN=\(Command.quoted(own.sorted().joined(separator: " ")))
            shares() {
            \(shares.map { "    share \(Command.quoted($0))" }.joined(separator: "\n"))
            }

            """
    }

    /// `/init` of the initramfs.
    private static let firstStage = """
        #!/bin/busybox sh
        # SPDX-License-Identifier: Apache-2.0
        # Assembles the node's root in /new from the host's files, and goes there.
        /bin/busybox mkdir -p /proc /sys /dev /host /new
        /bin/busybox --install -s /bin
        export PATH=/bin
        . /node.conf

        share() {
            [ -e "/new$1" ] && return
            mkdir -p "/new$1"
            mount --bind "/host$1" "/new$1"
        }

        mount -t proc proc /proc
        mount -t devtmpfs dev /dev 2>/dev/null
        mount -t hostfs -o ro host /host || echo "clio-lab: no hostfs in this kernel"
        mount -t tmpfs -o mode=755 root /new
        cd /new
        mkdir -p proc sys dev run var etc root host lib/modules/"$RELEASE"
        mkdir -m 1777 tmp
        for path in /host/*; do
            name=${path#/host/}
            case $name in proc|sys|dev|run|tmp|var|etc|root|host|lib|lost+found) continue ;; esac
            if [ -L "$path" ]; then cp -P "$path" "$name"
            elif [ -d "$path" ]; then mkdir "$name"; mount --bind "$path" "$name"
            fi
        done
        ln -s /host/etc/* etc/
        set --
        for path in /host/usr/lib/*; do
            [ "$path" = /host/usr/lib/modules ] || set -- "$@" "${path#/host}"
        done
        ln -s "$@" lib/
        rm -rf $OWN
        ln -s /proc/self/mounts etc/mtab
        mount --bind "/host$MODULES" lib/modules/"$RELEASE"
        shares
        cp -a /overlay/. .

        cd /
        mount --move /host /new/host
        mount --move /proc /new/proc
        mount --move /dev /new/dev
        mount -t sysfs sys /new/sys
        exec switch_root /new /lab/init

        """

    /// Process 1 of the node.
    private var secondStage: String {
        """
        #!/bin/sh
        # SPDX-License-Identifier: Apache-2.0
        export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
        ip -batch - <<END
        link set lo up
        addr add \(address)/\(Network.prefixLength) dev vec0
        link set vec0 up
        \(ipv6.map { "addr add \($0)/\(Network.prefixLength6) dev vec0 nodad" } ?? "")
        END
        hostname \(name)
        mkdir -p /dev/pts /dev/shm /run/lock /run/udev /etc/target/pr /var/target/pr \\
            /var/lib /var/log /var/tmp /var/cache /var/spool
        ln -s /run /run/lock /var/
        mount -t devpts devpts /dev/pts
        mount -t tmpfs shm /dev/shm
        mount -t debugfs debug /sys/kernel/debug
        mount -t tmpfs -o ro none /host/proc
        mount -t tmpfs -o ro none /host/sys
        \(role == .initiator ? initiatorServices : "")
        dropbear -s -E -P /run/dropbear.pid -r /lab/hostkey -p \(address):\(Network.controlPort) 2>> /var/log/dropbear
        echo "\(Self.readyLine)"
        while :; do sleep 86400 & wait; done

        """
    }

    private let initiatorServices = """
        /lib/systemd/systemd-udevd --daemon --resolve-names=never 2>> /var/log/udevd
        modprobe -a iscsi_tcp dm-multipath 2>> /var/log/modprobe
        mkdir -p /etc/iscsi/nodes /etc/iscsi/send_targets /var/lib/iscsi /run/lock/iscsi
        iscsid >> /var/log/iscsid 2>&1
        multipathd >> /var/log/multipathd 2>&1
        """

    /// What `exec` runs in the node: the environment, then the command.
    private var run: String {
        """
        #!/bin/sh
        # SPDX-License-Identifier: Apache-2.0
        export PATH=\(Command.quoted(executables)):/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
        export LC_ALL=C.UTF-8
        "$@"
        # A shell of its own to the end, so that a signal becomes a status.
        exit $?

        """
    }

    init(
        name: String, role: LabDescription.Role, address: String, ipv6: String? = nil, kernel: Kernel, shares: [String],
        executables: String, files: [String: File]
    ) {
        self.name = name
        self.role = role
        self.address = address
        self.ipv6 = ipv6
        self.modules = kernel.modules
        self.release = kernel.release
        self.shares = shares
        self.executables = executables
        self.files = files
    }
}
