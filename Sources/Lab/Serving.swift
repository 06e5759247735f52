// SPDX-License-Identifier: Apache-2.0
import Foundation
import Initiator

// How gateways come to export the images: by Clio, or each for itself as without it.
extension Lab {
    /// Whether Clio makes the gateways serve; otherwise the lab's user does, or LIO by itself.
    var isServedByClio: Bool { options.serve && options.kernel != .stock }

    /// The keyring of the client that gateways are, as `clio group init` writes it.
    var gatewayKeyring: String { "\(folder)/ceph.client.clio.keyring" }
    static let gatewayKeyringInNode = "etc/ceph/ceph.client.clio.keyring"

    /// What must be there once before any gateway can serve.
    func prepareServing() async throws {
        guard isServedByClio else { return }
        try Files.write(groupFile, to: "\(folder)/group.yaml")
        let clio = try executable("clio")
        try await clioOnHost(clio, ["group", "init"] + (options.ceph.erasure ? ["--image-pool", "data"] : []))
        try await clioOnHost(clio, ["apply", "-f", "\(folder)/group.yaml"])
        logger.notice("clio: group \(folder)/group.yaml is in Ceph")
        guard let keyring = Files.bytes(gatewayKeyring, from: 0) else {
            throw LabError(gatewayKeyring, "cannot be read, which clio group init has written")
        }
        for node in plan.nodes where node.role == .gateway {
            let path = "/\(Self.gatewayKeyringInNode)"
            try await check(node.name, ["sh", "-c", "umask 077 && cat > \(path)"], input: keyring)
        }
    }

    /// Makes `node` export all images.
    func serve(_ node: LabDescription.Node) async throws {
        let way: String
        if options.kernel == .stock {
            way = "LIO by itself"
            try await check(node.name, ["sh", "-es"], input: Array(stockScript(node).utf8))
        } else if options.daemon {
            way = "cliod"
            try await startDaemon(node.name)
            try await waitUntilServed(node)
        } else {
            way = "clio node up --alone"
            try await check(node.name, [try executable("clio"), "node", "up", "--alone"], timeout: .seconds(120))
        }
        logger.notice("\(node.name): serves \(node.portal ?? "") (\(way))")
    }

    /// The log of a node's cliod, in the node.
    public static let daemonLog = "/var/log/cliod.log"

    /// Where a gateway's cliod serves metrics, at its address on the bridge.
    public static let metricsPort = 9847

    /// What a gateway's cliod may do at most, as its systemd unit has it.
    public static let daemonCapabilities = [
        "sys_admin", "sys_module", "net_admin", "net_bind_service", "dac_override", "dac_read_search",
    ]

    /// Starts a gateway's cliod, which goes on by itself, and does not wait for it to serve.
    ///
    /// - Parameter extra: more of its options.
    public func startDaemon(_ node: String, _ extra: String = "") async throws {
        let address = plan.nodes.first { $0.name == node }?.address ?? "127.0.0.1"
        let metrics = "--metrics \(address):\(Self.metricsPort)"
        let bounds = (["-all"] + Self.daemonCapabilities.map { "+\($0)" }).joined(separator: ",")
        let confined = "setpriv --no-new-privs --bounding-set \(bounds) \(try executable("cliod"))"
        let start = "setsid \(confined) \(metrics) \(extra) >>\(Self.daemonLog) 2>&1 </dev/null &"
        try await check(node, ["sh", "-c", start])
        // The log becomes part of the console, which can be read from outside whatever the node does.
        let follow = "tail -n +1 -F \(Self.daemonLog) 2>/dev/null > /dev/console < /dev/null &"
        try await check(node, ["sh", "-c", "pgrep -x tail > /dev/null || { \(follow) }"])
    }

    /// Ends a gateway's cliod as by power loss: with no chance to say anything. Its lease runs on.
    public func killDaemon(_ node: String) async throws {
        try await check(node, ["sh", "-c", "kill -9 $(pgrep -x cliod)"])
    }

    /// Unloads what a gateway has loaded to serve, after `clio node down`: each module once nobody uses it any more.
    ///
    /// - Throws: `LabError` if something is left: a LUN, a device, or a module that is used, be it by a command that never ended.
    ///   A reference that a thread is about to drop may stay a moment.
    public func unloadModules(_ node: String) async throws {
        try await check(node, ["sh", "-c", Self.unload], timeout: .seconds(120))
    }

    private static let unload = """
        ls -d /sys/bus/rbd/devices/* /sys/kernel/config/target/core/* /sys/kernel/config/target/iscsi/iqn* 2>/dev/null \
            && { echo is left; exit 1; }
        [ ! -d /sys/kernel/config/target/iscsi ] || rmdir /sys/kernel/config/target/iscsi || exit 1
        modules="iscsi_target_mod target_core_iblock target_core_user target_core_file target_core_pscsi tcm_remote \
            target_core_mod rbd blk_cluster libceph"
        loaded() { for one in $modules; do grep "^$one " /proc/modules; done; }
        for try in 1 2 3 4 5 6 7 8 9 10; do
            [ -z "$(loaded)" ] && exit 0
            for one in $modules; do grep -q "^$one " /proc/modules && rmmod $one; done
            sleep 1
        done
        echo loaded: "$(loaded)"
        exit 1
        """

    /// Waits until a host is served through a gateway's port.
    ///
    /// - Parameter lun: the LUN to ask for; `nil`: the lab's first.
    /// - Throws: `LabError` with the end of cliod's log if that takes longer than `limit`.
    public func waitUntilServed(
        _ node: LabDescription.Node, lun: Int? = nil, within limit: Duration = .seconds(60)
    ) async throws {
        guard let portal = node.portal, let lun = lun ?? plan.luns.first?.lun else { return }
        let end = ContinuousClock.now + limit
        while true {
            do {
                try await blocking(in: netns) {
                    try ISCSISession(portal: portal, target: Self.targetName, timeout: 5).ready(lun: lun)
                }
                return
            } catch {
                guard ContinuousClock.now < end else {
                    let log = try? await check(node.name, ["tail", "-n", "15", Self.daemonLog])
                    throw LabError(node.name, "does not serve after \(limit): \(error)\n\(log ?? "")")
                }
                try await Task.sleep(for: .milliseconds(200))
            }
        }
    }

    private func clioOnHost(_ clio: String, _ arguments: [String]) async throws {
        try await hostCheck(
            [clio] + arguments + ["--ceph-conf", "\(folder)/ceph.conf", "--keyring", "\(folder)/keyring"])
    }

    /// The group as `clio apply` reads it: any host, no CHAP.
    var groupFile: String {
        var lines = ["group: default", "target:", "  iqn: \(Self.targetName)", "  access: open", "nodes:"]
        for node in plan.nodes where node.role == .gateway {
            lines += ["  - name: \(node.name)", "    portals: [\"\(node.portal ?? "")\"]"]
        }
        lines.append(plan.luns.isEmpty ? "luns: []" : "luns:")
        for lun in plan.luns {
            lines += ["  - lun: \(lun.lun)", "    image: \(lun.path)", "    serial: \"\(lun.serial)\""]
        }
        return lines.joined(separator: "\n") + "\n"
    }

    /// What an administrator without Clio types on each gateway: iblock on krbd, the same target name, the same serial
    /// numbers, and one portal group, which is number 1 on every node.
    func stockScript(_ node: LabDescription.Node) -> String {
        let group = "/sys/kernel/config/target/iscsi/\(Self.targetName)/tpgt_1"
        var script = """
            modprobe -a rbd target_core_mod target_core_iblock iscsi_target_mod
            mountpoint -q /sys/kernel/config || mount -t configfs configfs /sys/kernel/config
            mkdir -p \(group)

            """
        for lun in plan.luns {
            let store = "/sys/kernel/config/target/core/iblock_\(lun.lun)/\(lun.image)"
            let map = "\(Network.bridgeAddress):6789 name=admin,secret=\(plan.adminKey) \(lun.pool) \(lun.image) -"
            script += """
                echo '\(map)' > /sys/bus/rbd/add_single_major
                for rbd in /sys/bus/rbd/devices/*; do
                    [ "$(cat $rbd/name)" = \(lun.image) ] && device=/dev/rbd${rbd##*/}
                done
                mkdir -p \(store)
                echo udev_path=$device > \(store)/control
                echo 1 > \(store)/enable
                echo \(lun.serial) > \(store)/wwn/vpd_unit_serial
                mkdir -p \(group)/lun/lun_\(lun.lun)
                ln -s \(store) \(group)/lun/lun_\(lun.lun)/store

                """
        }
        script += """
            echo 1 > \(group)/attrib/generate_node_acls
            echo 1 > \(group)/attrib/cache_dynamic_acls
            echo 0 > \(group)/attrib/demo_mode_write_protect
            echo 0 > \(group)/attrib/authentication
            mkdir -p \(group)/np/\(node.portal ?? "")
            echo 1 > \(group)/enable

            """
        return script
    }
}
