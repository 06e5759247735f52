// SPDX-License-Identifier: Apache-2.0

import Initiator

/// How long a gateway takes for LUNs, when it has many.
public struct LUNTimes: Sendable {
    /// From the command that adds one until a host is served it, median of nine, the tenth among them.
    public let tenth: Duration
    /// The same of the last nine.
    public let last: Duration
    /// All of them on a gateway that had none.
    public let all: Duration
}

extension Lab {
    /// Measures, through the first gateway, LUNs that `clio` adds. The images `rbd/lun<n>` have to be there; the lab serves those
    /// of numbers below 7.
    ///
    /// - Parameter count: how many LUNs there are in the end, 30 or more.
    /// - Throws: `LabError` if a command fails, or takes longer than fifteen minutes.
    public func lunTimes(count: Int) async throws -> LUNTimes {
        let (clio, node) = (try executable("clio"), description().nodes[0])
        guard let portal = node.portal, description().luns.count == 7 else { throw LabError("lab", "needs 7 LUNs") }
        let host = try await Nexus.login(
            portal: portal, target: Self.targetName, initiator: "iqn.2026-11.example.clio:counter", namespace: netns)
        try await host.ready(lun: 0)

        func served(_ lun: Int) async throws {
            let end = ContinuousClock.now + .seconds(600)
            while try await !host.send(.testUnitReady, lun: lun).isGood {
                guard ContinuousClock.now < end else { throw LabError("LUN \(lun)", "is not served") }
                try await Task.sleep(for: .milliseconds(5))
            }
        }
        func median(from first: Int) async throws -> Duration {
            // What it still has to do for those before is not this one's.
            try await Task.sleep(for: .seconds(10))
            var times: [Duration] = []
            for lun in first..<first + 9 {
                let start = ContinuousClock.now
                try await check(node.name, [clio, "lun", "add", "rbd/lun\(lun)", "--lun", "\(lun)"])
                try await served(lun)
                times.append(ContinuousClock.now - start)
            }
            return times.sorted()[4]
        }

        let tenth = try await median(from: 7)
        let entries = (16..<count - 9).map { "  - {lun: \($0), image: rbd/lun\($0)}\n" }.joined()
        let group = try await check(node.name, [clio, "get"]).replacing("\nluns:\n", with: "\nluns:\n\(entries)")
        try await check(
            node.name, [clio, "apply", "-f", "-", "--wait", "600"], input: Array(group.utf8), timeout: .seconds(900))
        let last = try await median(from: count - 9)
        await host.close()

        try await check(node.name, [clio, "node", "down"], timeout: .seconds(600))
        let start = ContinuousClock.now
        try await startDaemon(node.name)
        try await waitUntilServed(node, lun: count - 1, within: .seconds(600))
        return LUNTimes(tenth: tenth, last: last, all: ContinuousClock.now - start)
    }

    /// Measures what `targetcli restoreconfig` takes for as many LUNs on the stock kernel, and for ten of them. Mapping the images
    /// is not in it.
    public func restoreTimes(count: Int) async throws -> (ten: Duration, all: Duration) {
        let node = description().nodes[0]
        let group = "/sys/kernel/config/target/iscsi/\(Self.targetName)/tpgt_1"
        let map = "\(Network.bridgeAddress):6789 name=admin,secret=\(plan.adminKey) rbd"
        let script = """
            # targetcli asks the system's bus for tcmu-runner.
            mkdir -p /run/dbus /root/.targetcli /etc/rtslib-fb-target
            dbus-daemon --system --fork --nopidfile
            modprobe -a rbd target_core_mod target_core_iblock iscsi_target_mod
            mountpoint -q /sys/kernel/config || mount -t configfs configfs /sys/kernel/config
            mkdir -p \(group)/np/\(node.portal ?? "")
            n=0
            while [ $n -lt \(count) ]; do
                echo '\(map)' lun$n - > /sys/bus/rbd/add_single_major
                store=/sys/kernel/config/target/core/iblock_$n/lun$n
                mkdir -p $store \(group)/lun/lun_$n
                echo udev_path=/dev/rbd$n > $store/control
                echo /dev/rbd$n > $store/udev_path
                echo 1 > $store/enable
                ln -s $store \(group)/lun/lun_$n/store
                n=$((n + 1))
                [ $n != 10 ] || targetcli saveconfig /tmp/ten.json 2>&1
            done
            echo 1 > \(group)/enable
            targetcli saveconfig /tmp/all.json 2>&1
            """
        try await check(node.name, ["sh", "-es"], input: Array(script.utf8), timeout: .seconds(900))
        func restore(_ file: String) async throws -> Duration {
            try await check(node.name, ["targetcli", "clearconfig", "confirm=true"], timeout: .seconds(600))
            let start = ContinuousClock.now
            try await check(node.name, ["targetcli", "restoreconfig", file], timeout: .seconds(3600))
            return ContinuousClock.now - start
        }
        return (try await restore("/tmp/ten.json"), try await restore("/tmp/all.json"))
    }
}
