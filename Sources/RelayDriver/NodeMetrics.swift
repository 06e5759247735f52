// SPDX-License-Identifier: Apache-2.0
import ClusterModel
import Exposition
import Netlink
import Target

/// A node's state in numbers, for Prometheus. `docs/metrics.md` describes each.
struct NodeMetrics: Sendable {
    /// What has happened since cliod began, beside ``NodeReport/events``.
    struct Counters: Sendable {
        /// Peers that this node fenced.
        var fencings = 0
        /// Times that this node found itself fenced.
        var fenced = 0
        /// Leases that lapsed.
        var lapses = 0
        /// Watches of the group object that were lost.
        var watchesLost = 0
        /// Times that the group's configuration was taken on.
        var reconciliations = 0
        /// Of those, the ones that left problems.
        var reconciliationErrors = 0
    }

    var group: String
    var report: NodeReport
    var counters: Counters
    /// Highest version of the group that this node has seen.
    var wantedVersion: Int
    /// Nodes of the group that are not drained, and whether each has a record that says `up`.
    var members: [String: Bool]
    /// Whether somebody wants this node to serve nothing.
    var isDrained = false
    var luns: [LUNStatistics] = []
    var logins: [LoginStatistics] = []
    var devices: [BlkCluster.Device] = []
    /// Whether the machine's statistics could be read in time.
    var isComplete = true
    var version: String

    static let phases = [
        "detached", "resuming", "lapsed", "fenced", "draining", "mapping", "joining", "arming", "serving", "departing",
        "left",
    ]

    var exposition: Exposition {
        var out = Exposition(labels: ["group": group, "node": report.node])
        addNode(&out)
        addLease(&out)
        addEvents(&out)
        addConfiguration(&out)
        for lun in luns { add(lun, &out) }
        for login in logins { add(login, &out) }
        return out
    }

    /// Of a node without a relay: it waits for Ceph, or to be resumed.
    static func idle(group: String, node: String, isDrained: Bool) -> Exposition {
        var out = Exposition(labels: ["group": group, "node": node])
        addServing(false, isDrained: isDrained, &out)
        return out
    }

    private static func addServing(_ isServing: Bool, isDrained: Bool, _ out: inout Exposition) {
        out.add("clio_serving", .gauge, "Whether hosts are served: 1 or 0.", isServing ? 1 : 0)
        out.add("clio_drained", .gauge, "Whether none are to be: clio node drain.", isDrained ? 1 : 0)
    }

    private func addNode(_ out: inout Exposition) {
        out.add("clio_build_info", .gauge, "1; the version of cliod.", 1, ["version": version])
        out.add("clio_uptime_seconds", .gauge, "How long cliod has run.", report.uptime)
        Self.addServing(report.isServing, isDrained: isDrained, &out)
        for phase in Self.phases {
            out.add(
                "clio_phase", .gauge, "1 for the phase that the relay is in, 0 for the others.",
                report.phase == phase ? 1 : 0, ["phase": phase])
        }
        for (peer, isUp) in members.sorted(by: { $0.key < $1.key }) {
            out.add(
                "clio_member_up", .gauge,
                "Whether a node of the group that is not drained is a member, as this node sees it.",
                isUp ? 1 : 0, ["peer": peer])
        }
        out.add("clio_sessions", .gauge, "Hosts that are logged in to the node's own ports.", report.sessions)
        out.add("clio_fencings_total", .counter, "Peers that this node fenced.", counters.fencings)
        out.add("clio_fenced_total", .counter, "Times that this node found itself fenced.", counters.fenced)
        out.add(
            "clio_statistics_complete", .gauge, "Whether the kernel's statistics could be read in time: 1 or 0.",
            isComplete ? 1 : 0)
    }

    private func addLease(_ out: inout Exposition) {
        out.add("clio_lease_epoch", .gauge, "Number of the lease; 0: there never was one.", report.epoch)
        if let age = report.leaseAge {
            out.add("clio_lease_age_seconds", .gauge, "Time since the last renewal was sent.", age)
        }
        if let left = report.leaseLeft {
            out.add("clio_lease_left_seconds", .gauge, "Time until the lease ends unless it is renewed.", left)
        }
        out.add("clio_lease_lapses_total", .counter, "Leases that lapsed.", counters.lapses)
        if let beat = report.beat {
            out.add(
                "clio_beats_total", .counter, "The node's beat in RADOS; each renewal of the lease advances it.", beat)
        }
        out.add(
            "clio_watching", .gauge, "Whether the node watches the group object: 1 or 0.", report.isWatching ? 1 : 0)
        out.add(
            "clio_watches_lost_total", .counter, "Watches of the group object that were lost.", counters.watchesLost)
        out.add(
            "clio_commands_in_flight", .gauge, "Commands handed to devices and not settled.", report.inFlight)
        out.add(
            "clio_commands_orphaned", .gauge, "Of the commands in flight, those whose session is gone.", report.orphans)
    }

    private func addEvents(_ out: inout Exposition) {
        let events = report.events
        out.add("clio_events_sent_total", .counter, "Events that this node's kernel raised.", events.sent)
        let outcomes = [
            ("acknowledged", events.acknowledged), ("refused", events.refused), ("late", events.late),
            ("fenced", events.fenced),
        ]
        for (outcome, count) in outcomes {
            out.add(
                "clio_events_ended_total", .counter, "This node's events by how they ended.", count,
                ["outcome": outcome])
        }
        out.add("clio_events_applied_total", .counter, "Other nodes' events that were done here.", events.applied)
        out.add(
            "clio_events_apply_errors_total", .counter, "Other nodes' events that failed here.", events.failed)
    }

    private func addConfiguration(_ out: inout Exposition) {
        out.add(
            "clio_config_version", .gauge, "Version of the group's configuration that the node has taken on.",
            report.version)
        out.add(
            "clio_config_wanted_version", .gauge,
            "Highest version of the group's configuration that the node has seen.",
            wantedVersion)
        out.add("clio_problems", .gauge, "Parts of the configuration that do not work here.", report.problems.count)
        out.add(
            "clio_reconciliations_total", .counter, "Times that the group's configuration was taken on.",
            counters.reconciliations)
        out.add(
            "clio_reconciliation_errors_total", .counter, "Times that it was, and something did not work.",
            counters.reconciliationErrors)
    }

    private func add(_ lun: LUNStatistics, _ out: inout Exposition) {
        let labels: KeyValuePairs = ["lun": String(lun.lun), "image": lun.image]
        out.add("clio_lun_size_bytes", .gauge, "Size of the LUN.", lun.size, labels)
        out.add(
            "clio_lun_commands_total", .counter, "SCSI commands of all hosts, whatever they ask.", lun.commands, labels)
        if let requests = lun.requests {
            let kinds = [("read", requests.reads), ("write", requests.writes), ("discard", requests.discards)]
            for (kind, requests) in kinds {
                let labels: KeyValuePairs = ["lun": String(lun.lun), "image": lun.image, "operation": kind]
                out.add("clio_lun_operations_total", .counter, "Requests to the image.", requests.count, labels)
                out.add("clio_lun_bytes_total", .counter, "Bytes that those moved.", requests.bytes, labels)
                out.add(
                    "clio_lun_operation_seconds_total", .counter, "Sum of the times that they took.", requests.seconds,
                    labels)
            }
        }
        guard let device = devices.first(where: { $0.disk == lun.disk }) else { return }
        out.add(
            "clio_lun_admitted_total", .counter, "Commands admitted under the lease.", device.admitted, labels)
        out.add(
            "clio_lun_refused_total", .counter, "Commands refused because the lease had lapsed.", device.refused, labels
        )
        out.add(
            "clio_lun_held_total", .counter, "Commands answered BUSY because a peer might still have writes in flight.",
            device.held, labels)
        out.add("clio_lun_compare_and_write_total", .counter, "COMPARE AND WRITE commands.", device.compared, labels)
        out.add(
            "clio_lun_miscompares_total", .counter, "COMPARE AND WRITE commands that did not compare equal.",
            device.miscompared, labels)
        out.add(
            "clio_lun_resets_total", .counter, "Task management of the whole cluster done here.", device.resets, labels)
        out.add(
            "clio_lun_reservation_reads_total", .counter, "PERSISTENT RESERVE IN commands.", device.prIn, labels)
        out.add(
            "clio_lun_reservation_changes_total", .counter,
            "PERSISTENT RESERVE OUT, RESERVE and RELEASE commands, whatever came of them.", device.prOut, labels)
        let latency = device.latency
        if !latency.counts.isEmpty {
            out.add(
                "clio_lun_latency_seconds", "Time from a command's admission until the device had done with it.",
                counts: latency.counts, bounds: latency.bounds, sum: Double(latency.nanoseconds) / 1e9, labels)
        }
    }

    private func add(_ login: LoginStatistics, _ out: inout Exposition) {
        out.add(
            "clio_logins_total", .counter, "Logins at this node, by how they ended.", login.accepted,
            ["target": login.iqn, "result": "accepted"])
        for (reason, count) in login.refused.sorted(by: { $0.key < $1.key }) {
            out.add(
                "clio_logins_total", .counter, "Logins at this node, by how they ended.", count,
                ["target": login.iqn, "result": "refused: \(reason)"])
        }
    }
}
