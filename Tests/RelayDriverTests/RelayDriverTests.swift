// SPDX-License-Identifier: Apache-2.0

import ClusterModel
import Foundation
import Relay
import Synchronization
import Target
import Testing

@testable import RelayDriver

@Suite struct LaneTests {
    /// One after the other, in the order given, though each lets others run in between.
    @Test func keepsTheOrder() async {
        let lane = Lane()
        let seen = Mutex<[Int]>([])
        for number in 0..<100 {
            lane.add {
                await Task.yield()
                seen.withLock { $0.append(number) }
            }
        }
        let count = await lane.run { seen.withLock { $0.count } }
        #expect(count == 100)
        #expect(seen.withLock { $0 } == Array(0..<100))
    }

    /// What blocks on it holds no thread of Swift's pool: with more of them than processors, others still run.
    @Test func blocksNobodyElse() async {
        let lanes = (0..<16).map { _ in Lane() }
        let gate = DispatchSemaphore(value: 0)
        for lane in lanes { lane.add { gate.waitOnItsOwnThread() } }
        let sum = await withTaskGroup(of: Int.self) { group in
            for number in 1...100 { group.addTask { number } }
            return await group.reduce(0, +)
        }
        #expect(sum == 5050)
        for _ in lanes { gate.signal() }
        for lane in lanes { await lane.run {} }
    }
}

extension DispatchSemaphore {
    /// `wait()`, which async code may only call where blocking is meant.
    fileprivate func waitOnItsOwnThread() { wait() }
}

@Suite struct NodeReportTests {
    private func report(
        _ phase: Machine.Phase, problems: [NodeReport.Problem] = [.init(text: "LUN 3", since: 2)]
    ) -> NodeReport {
        var machine = Machine(node: "gw1", timing: Timing())
        _ = machine.handle(.tick, now: Relay.Instant(nanoseconds: 0))
        var status = machine.status
        status.phase = phase
        status.until = Relay.Instant(nanoseconds: 9_000_000_000)
        return NodeReport(
            node: "gw1", status: status, since: 3, seen: ["gw2": .init(state: "up", since: 4)],
            now: Relay.Instant(nanoseconds: 5_000_000_000), lease: .seconds(5),
            sessions: 3,
            inFlight: 1, orphans: 0, events: NodeReport.Events(), version: 2, versionSince: 1,
            uptime: .seconds(7), problems: problems)
    }

    @Test func agesAndRests() {
        let report = report(.serving)
        #expect(report.leaseLeft == 4)
        #expect(report.leaseAge == 1)
        #expect(report.isServing)
        #expect(self.report(.quiescing(.arm)).phase == "lapsed")
        #expect(!self.report(.arming).isServing)
    }

    @Test func isReadByWhoeverAsked() {
        let report = report(.serving)
        #expect(NodeReport(decoding: report.encoded) == report)
    }

    /// A thousand LUNs whose pool has gone still fit into an answer.
    @Test func namesSoManyProblems() {
        let many = (0..<1000).map { NodeReport.Problem(text: "LUN \($0)", since: Double(1000 - $0)) }
        let report = report(.serving, problems: many)
        #expect(report.problems.count == 101)
        #expect(report.problems.last?.text == "and 900 more; the log names them")
        #expect(report.problems.last?.since == 1)
    }

    /// Relays answer other messages with other bytes.
    @Test(arguments: [[], [1, 2, 3], Array("{\"node\":1}".utf8), Array("clio: report\n".utf8)] as [[UInt8]])
    func whatIsNoReport(bytes: [UInt8]) { #expect(NodeReport(decoding: bytes) == nil) }

    /// Whoever reaches the pool can answer; what is shown to people must not command their terminals, nor stop clio.
    @Test func hostileReports() {
        func expectRefused(_ what: String, _ change: (inout NodeReport) -> Void) {
            var report = report(.serving)
            change(&report)
            #expect(NodeReport(decoding: report.encoded) == nil, "\(what)")
        }
        expectRefused("node") { $0.node = "gw1\u{1b}[2J" }
        expectRefused("no node") { $0.node = "" }
        expectRefused("phase") { $0.phase = "serving\n" }
        expectRefused("problems") { $0.problems = Array(repeating: $0.problems[0], count: 102) }
        expectRefused("since") { $0.problems[0].since = -1e300 }
        expectRefused("phase's since") { $0.phaseSince = 1e300 }
        expectRefused("version's since") { $0.versionSince = -1 }
        expectRefused("seen") { $0.seen = ["a b": .init(state: "up", since: 0)] }
        expectRefused("seen as") { $0.seen = ["b": .init(state: "\r", since: 0)] }
    }

    /// An error of several lines is told in one.
    @Test func problemsAreLines() {
        let report = report(.serving, problems: [.init(text: "a\nb\u{1b}", since: 1)])
        #expect(report.problems.map(\.text) == ["a b "])
        #expect(NodeReport(decoding: report.encoded) == report)
        var raw = report
        raw.problems[0].text = "a\nb\u{9b}"
        #expect(NodeReport(decoding: raw.encoded) == report)
    }

    /// Relays of another version tell less.
    @Test func olderReports() throws {
        var report = report(.serving)
        report.phaseSince = nil
        report.seen = nil
        #expect(!String(decoding: report.encoded, as: UTF8.self).contains("seen"))
        #expect(NodeReport(decoding: report.encoded) == report)
    }

    /// The question is no message of the protocol's, and no message is the question.
    @Test func theQuestionStandsApart() {
        #expect(Message(decoding: NodeReport.question) == nil)
        #expect(Message(decoding: GroupStore.announcement) == nil)
        #expect(GroupStore.announcement != NodeReport.question)
    }
}

@Suite struct BootTimeTests {
    @Test func goesOn() {
        let first = Relay.Instant.now
        let second = Relay.Instant.now
        #expect(first.nanoseconds > 0 && second >= first)
    }

    @Test func kernelsTimes() {
        #expect(Relay.Instant(kernel: 17).kernel == 17)
        #expect(Relay.Instant(kernel: .max) == .never)
        #expect(Relay.Instant(nanoseconds: -1).kernel == 0)
    }
}

/// Orders over a socket: needs /run, which only root can write.
@Suite(.serialized, .enabled(if: geteuid() == 0, "needs root")) struct ControlTests {
    private let group = "test-\(getpid())"

    @Test func ordersAreAnswered() async throws {
        let server = try ControlServer(group: group) { order in
            var answer = Control.Answer()
            answer.changes = [order.rawValue]
            return answer
        }
        for order in Control.Order.allCases {
            #expect(try Control.give(order, group: group)?.changes == [order.rawValue])
        }
        let mode = try FileManager.default.attributesOfItem(atPath: Control.path(group))[.posixPermissions] as? Int
        #expect(mode == 0o600)
        #expect(throws: (any Error).self, "one a group") {
            try ControlServer(group: group) { _ in Control.Answer() }
        }
        await server.finish()
        #expect(try Control.give(.report, group: group) == nil)
    }

    /// The end waits for the answers that are due.
    @Test func whatWasTakenIsAnswered() async throws {
        let (gate, open) = AsyncStream.makeStream(of: Void.self)
        let (taken, take) = AsyncStream.makeStream(of: Void.self)
        let server = try ControlServer(group: group) { _ in
            take.yield()
            for await _ in gate { break }
            return Control.Answer(problem: "late")
        }
        let group = group
        let asked = Task.detached { try Control.give(.leave, group: group) }
        for await _ in taken { break }
        let finished = Task { await server.finish() }
        open.yield()
        await finished.value
        #expect(try await asked.value?.problems == ["late"])
    }

    /// One that died leaves its socket behind.
    @Test func whatADeadOneLeftIsReplaced() async throws {
        try FileManager.default.createDirectory(atPath: "/run/clio", withIntermediateDirectories: true)
        try Data().write(to: URL(fileURLWithPath: Control.path(group)))
        let server = try ControlServer(group: group) { _ in Control.Answer() }
        #expect(try Control.give(.report, group: group) != nil)
        await server.finish()
    }
}

@Suite struct ServiceManagerTests {
    /// systemd's side of sd_notify(3): a datagram for each word.
    @Test(arguments: [false, true]) func tells(abstract: Bool) throws {
        let path = abstract ? "@clio-notify-\(getpid())" : NSTemporaryDirectory() + "clio-notify-\(getpid())"
        let socket = Foundation.socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
        defer {
            close(socket)
            unlink(path)
        }
        let address = try #require(UnixAddress(path))
        #expect(address.with { bind(socket, $0, $1) } == 0)
        let manager = ServiceManager(environment: ["NOTIFY_SOCKET": path, "WATCHDOG_USEC": "3000000"])
        #expect(manager.watchdog == .seconds(3))
        manager.extendStart()
        manager.ready()
        manager.status("two\nlines")
        manager.alive()
        manager.stopping()
        var words: [String] = []
        var buffer = [UInt8](repeating: 0, count: 256)
        for _ in 0..<5 {
            let count = recv(socket, &buffer, buffer.count, Int32(MSG_DONTWAIT))
            words.append(String(decoding: buffer.prefix(max(0, count)), as: UTF8.self))
        }
        #expect(
            words == [
                "EXTEND_TIMEOUT_USEC=180000000", "READY=1", "STATUS=two lines", "WATCHDOG=1", "STOPPING=1",
            ])
    }

    @Test func withoutSystemd() {
        let manager = ServiceManager(environment: [:])
        #expect(manager.watchdog == nil)
        manager.ready()
        #expect(ServiceManager(environment: ["WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"]).watchdog == nil)
        #expect(UnixAddress(String(repeating: "x", count: 200)) == nil)
    }
}

@Suite struct SightsTests {
    @Test func keepSinceWhen() {
        var sights = Sights()
        var snapshot = Snapshot(version: 1, members: ["a": Record(instance: 1, clients: [])])
        sights.note(snapshot, of: ["a", "b"], now: 10)
        #expect(sights.inWords == ["a": .init(state: "up", since: 10), "b": .init(state: "absent", since: 10)])
        snapshot.version = 2
        snapshot.members["a"]?.state = .fenced(.settled(epoch: 7), by: "b")
        snapshot.members["x"] = Record(instance: 2, clients: [])
        sights.note(snapshot, of: ["a", "b"], now: 20)
        #expect(
            sights.inWords == [
                "a": .init(state: "fenced by b, OSD map 7", since: 20), "b": .init(state: "absent", since: 10),
                "x": .init(state: "up", since: 20),
            ])
        snapshot.version = 3
        snapshot.members = [:]
        sights.note(snapshot, of: ["b"], now: 30)
        #expect(sights.inWords == ["b": .init(state: "absent", since: 10)])
    }
}
