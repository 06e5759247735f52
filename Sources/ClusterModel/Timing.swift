// SPDX-License-Identifier: Apache-2.0

/// The times that make active/active safe, in whole seconds. See the design, "The rules that make it safe".
public struct Timing: Hashable, Codable, Sendable {
    /// How often a node renews its lease. 1…20 s.
    public var renew: Int
    /// L: how long a node may submit I/O after the last renewal it sent. 2…60 s.
    public var lease: Int
    /// D: a node whose beat has stood still this long is dead and gets fenced. 3…120 s.
    public var dead: Int
    /// F: within this time of a node's or a link's last sign of life none of its writes can land any more. 5…300 s.
    public var bound: Int
    /// How often a target pings an idle connection (NOP-In). 3…60 s, LIO's range for `nopin_timeout`.
    public var ping: Int
    /// How long a host has to answer a ping. 3…60 s, LIO's range for `nopin_response_timeout`.
    public var pingTimeout: Int

    /// Time allowed for fencing a dead node (member record, blocklist, OSD map barrier), and for aborting the commands of
    /// a silent host. Seconds.
    public static let margin = 3

    public init(renew: Int = 1, lease: Int = 5, dead: Int = 7, bound: Int? = nil, ping: Int = 3, pingTimeout: Int = 3) {
        self.renew = renew
        self.lease = lease
        self.dead = dead
        self.ping = ping
        self.pingTimeout = pingTimeout
        self.bound = bound ?? Self.smallestBound(dead: dead, ping: ping, pingTimeout: pingTimeout)
    }

    /// The least F that the other figures allow: a dead node is noticed after D and fenced within ``margin``; a silent host
    /// is noticed after a ping and its time-out, and its commands are aborted within ``margin``.
    public static func smallestBound(dead: Int, ping: Int, pingTimeout: Int) -> Int {
        max(dead, ping + pingTimeout) + margin
    }

    static var ranges: [(key: String, path: KeyPath<Timing, Int>, range: ClosedRange<Int>)] {
        [
            ("renew", \.renew, 1...20), ("lease", \.lease, 2...60), ("dead", \.dead, 3...120),
            ("bound", \.bound, 5...300),
            ("ping", \.ping, 3...60), ("pingTimeout", \.pingTimeout, 3...60),
        ]
    }

    /// What does not fit, by key.
    func faults() -> [(key: String, message: String)] {
        var out: [(String, String)] = []
        for (key, path, range) in Self.ranges where !range.contains(self[keyPath: path]) {
            out.append((key, "is \(range.lowerBound) to \(range.upperBound) seconds, not \(self[keyPath: path])"))
        }
        guard out.isEmpty else { return out }
        if renew * 3 > lease {
            out.append(
                (
                    "renew",
                    "renewing every \(renew) s leaves no room for two lost renewals in a lease of \(lease) s; "
                        + "lease must be at least \(renew * 3)"
                ))
        }
        if dead < lease + renew {
            out.append(
                (
                    "dead",
                    "a node may still write \(lease) s (lease) after its last renewal, and its beat moves only every "
                        + "\(renew) s (renew); dead must be at least \(lease + renew), not \(dead)"
                ))
        }
        let least = Self.smallestBound(dead: dead, ping: ping, pingTimeout: pingTimeout)
        if bound < least {
            out.append(
                (
                    "bound",
                    "a dead node is noticed after \(dead) s, a silent host after \(ping) + \(pingTimeout) s, and "
                        + "fencing takes up to \(Self.margin) s; bound must be at least \(least), not \(bound)"
                ))
        }
        return out
    }

    /// Settings of hosts, so that none sends a command elsewhere before F has passed.
    ///
    /// - Linux: a host must not find a path dead sooner than the node finds the host dead, after `ping` + `pingTimeout` (see
    ///   docs/safety.md). After `replacement_timeout` the session's commands fail over; multipathd sets it to
    ///   `fast_io_fail_tmo` for the paths it manages, so both have to say so (open-iscsi README 8.1, multipath.conf(5)). A
    ///   command that times out goes to error handling, which must not begin before F either.
    /// - ESXi: `RecoveryTimeout`, 1…120 s, is the same for its software initiator.
    /// - Windows: MPIO fails requests over `LinkDownTime` after the link went; the disk must not be removed before that
    ///   (`PDORemovePeriod`), and without MPIO requests are held for `MaxRequestHoldTime`.
    public var hosts: [HostSetting] {
        let linux = "Linux"
        let patience = max(5, ping + pingTimeout - 5)
        let windows = "Windows"
        return [
            HostSetting(linux, "/etc/iscsi/iscsid.conf", "node.session.timeo.replacement_timeout = \(bound)"),
            HostSetting(linux, "/etc/iscsi/iscsid.conf", "node.conn[0].timeo.noop_out_interval = 5"),
            HostSetting(linux, "/etc/iscsi/iscsid.conf", "node.conn[0].timeo.noop_out_timeout = \(patience)"),
            HostSetting(linux, "/etc/multipath.conf", "fast_io_fail_tmo \(bound)"),
            HostSetting(linux, "/etc/multipath.conf", "dev_loss_tmo \(bound * 6)"),
            HostSetting(linux, "/sys/block/sd*/device/timeout", "\(max(bound, 30)) or more"),
            HostSetting("ESXi", "software iSCSI adapter, advanced options", "RecoveryTimeout = \(min(bound, 120))"),
            HostSetting(windows, "iSCSI initiator, registry", "LinkDownTime = \(bound)"),
            HostSetting(windows, "iSCSI initiator, registry", "MaxRequestHoldTime = \(max(bound, 60))"),
            HostSetting(windows, "MPIO", "PDORemovePeriod = \(max(bound + 10, 20))"),
        ] + (bound > 120 ? [HostSetting("ESXi", "", "cannot wait longer than 120 s: not for this group")] : [])
    }

    /// Why F is what it is. Plain text, several lines.
    public var explanation: String {
        """
        F = \(bound) s: that long after a node's or a link's last sign of life none of its writes can land any more.
          renew \(renew) s, lease \(lease) s     a node that cannot renew stops submitting \(lease) s after its last renewal
          dead \(dead) s                a node whose beat stands still that long is fenced
          ping \(ping) s + \(pingTimeout) s         a host that answers no ping is dropped after that
          margin \(Self.margin) s              for fencing, and for ending a silent host's commands
        A host must not resend elsewhere a command that had no answer before \(bound) s have passed.
        """
    }

    /// ``hosts`` as plain text, several lines.
    public var hostSettings: String {
        let lines = hosts.map { "  \($0.host), \($0.place)\($0.place.isEmpty ? "" : ": ")\($0.setting)" }
        let rule = "F = \(bound) s: a host must not resend elsewhere a command that had no answer before"
        return "\(rule) \(bound) s have passed.\n" + lines.joined(separator: "\n")
    }
}

/// A setting of a host that follows from a group's ``Timing``.
public struct HostSetting: Hashable, Codable, Sendable {
    /// Which hosts: `Linux`, `ESXi`, `Windows`.
    public var host: String
    /// The file, or where else it is set.
    public var place: String
    /// As it is written there.
    public var setting: String

    init(_ host: String, _ place: String, _ setting: String) {
        self.host = host
        self.place = place
        self.setting = setting
    }
}
