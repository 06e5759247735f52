// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import ClusterModel
import Foundation
import Netlink
import Rados
import RelayDriver
import Target

struct EventsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "events", abstract: "Follow what happens in the group, until interrupted.",
        discussion: """
            Changes of the member records, from anywhere; and on a gateway the events its kernel raises and how they end, and
            lapses of its lease. Listening costs nobody anything: what follows the group does not delay its events.
            """)

    @Flag(help: "Print one JSON object a line.")
    var json = false

    @OptionGroup var ceph: CephOptions
    @OptionGroup var group: GroupOption

    /// One line of output.
    private struct Line: Encodable {
        /// Seconds since 1970.
        let time: Double
        /// `member`, `event-raised`, `event-ended`, `lease-lapsed`.
        let what: String
        /// Node or unit.
        let subject: String
        let detail: String
    }

    func run() async throws {
        try await reporting {
            let cluster = try await ceph.connect()
            let stored = try await ceph.store(group.group, in: cluster).load().stored
            let pool = try await cluster.pool(ceph.pool)
            let kernel = try? await BlkCluster()
            try kernel?.observe()
            try await withThrowingTaskGroup(of: Void.self) { tasks in
                tasks.addTask { try await followMembers(stored, pool) }
                if let kernel { tasks.addTask { try await followKernel(kernel) } }
                try await tasks.next()
                tasks.cancelAll()
            }
        }
    }

    private func followMembers(_ stored: StoredGroup, _ pool: Pool) async throws {
        var changes = MemberChanges(of: stored, in: pool)
        while true {
            for change in try await changes.next() { say("member", change.node, change.state) }
            try await Task.sleep(for: .milliseconds(500))
        }
    }

    private func followKernel(_ kernel: BlkCluster) async throws {
        for try await notification in kernel.notifications {
            switch notification {
            case .raised(let event): say("event-raised", event.unit, "\(event.kind) \(event.id)")
            case .ended(let event, let outcome, let late):
                let names = late.isEmpty ? "" : ": \(late.joined(separator: ", "))"
                let passed = Self.elapsed(since: event.sent)
                say("event-ended", event.unit, "\(event.kind) \(event.id) \(outcome)\(names) after \(passed)")
            case .lapsed(let lease): say("lease-lapsed", "this node", "lease \(lease.epoch)")
            case .event, .settled, .applied: break
            }
        }
    }

    /// Time from `start`, of CLOCK_BOOTTIME in nanoseconds, to now.
    private static func elapsed(since start: UInt64) -> String {
        var time = timespec()
        clock_gettime(CLOCK_BOOTTIME, &time)
        let now = UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
        return String(format: "%.3f s", Double(now &- start) / 1e9)
    }

    private func say(_ what: String, _ subject: String, _ detail: String) {
        let line = Line(time: Date().timeIntervalSince1970, what: what, subject: subject, detail: detail)
        if json {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
            guard let data = try? encoder.encode(line) else { return }
            tell(String(decoding: data, as: UTF8.self))
        } else {
            let clock = Date().formatted(.iso8601.time(includingFractionalSeconds: true))
            tell("\(clock)  \(what)  \(subject)  \(detail)")
        }
    }
}

struct TimingCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "timing", abstract: "Print F and the settings of hosts that follow from the group's times.")

    @Flag(help: "Print JSON.")
    var json = false

    @OptionGroup var ceph: CephOptions
    @OptionGroup var group: GroupOption

    func run() async throws {
        try await reporting {
            let timing = try await ceph.store(group.group, in: try await ceph.connect()).load().stored.config.timing
            if json {
                struct Output: Encodable {
                    let timing: Timing
                    let hosts: [HostSetting]
                }
                try printJSON(Output(timing: timing, hosts: timing.hosts))
                return
            }
            print(timing.explanation)
            printTable("Hosts", ["host", "where", "setting"], timing.hosts.map { [$0.host, $0.place, $0.setting] })
        }
    }
}
