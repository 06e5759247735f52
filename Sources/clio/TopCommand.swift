// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Exposition
import Foundation
import RelayDriver
import TopView

struct TopCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "top", abstract: "Watch nodes and LUNs: leases, rates, latency.",
        discussion: """
            Reads what cliods serve as Prometheus metrics, by default this machine's; with --from, of all nodes that are
            named, whose traffic is added up. Needs neither Ceph nor root. Rates are those of the last interval;
            COMPARE AND WRITE counts beside reads and writes; AWAY are commands refused without a lease or answered BUSY.

            KEYS
              s   sort by traffic, and back by LUN
              q   quit
            """)

    @Option(
        help: ArgumentHelp(
            "Where a cliod serves metrics (cliod --metrics); can be given more than once.", valueName: "address:port"))
    var from: [String] = []

    @Option(help: ArgumentHelp("Between two pictures, 1 to 60.", valueName: "seconds"))
    var interval = 2

    @Flag(help: "Print the picture of one interval, and end.")
    var once = false

    @Flag(help: "With --once: print JSON.")
    var json = false

    private var endpoints: [MetricsServer.Endpoint?] {
        (from.isEmpty ? [Self.usualPlace] : from).map { MetricsServer.Endpoint($0) }
    }

    /// Where cliod serves unless it is told otherwise.
    private static let usualPlace = "127.0.0.1:9847"

    func validate() throws {
        guard (1...60).contains(interval) else { throw ValidationError("--interval is 1 to 60 seconds") }
        guard once || !json else { throw ValidationError("--json needs --once") }
        guard once || Terminal.isThere else {
            throw ValidationError("standard input and output are no terminal; --once prints one picture")
        }
        for place in from where MetricsServer.Endpoint(place) == nil {
            throw ValidationError("--from \(place): write an IP address and a port, \(Self.usualPlace) or [::1]:9847")
        }
    }

    func run() async throws {
        try await reporting {
            let terminal = once ? nil : Terminal()
            defer { terminal?.restore() }
            var (earlier, since) = (await answers(), ContinuousClock.now)
            guard let terminal else {
                try await Task.sleep(for: .seconds(interval))
                return try printOnce(earlier, await answers(), since)
            }
            var (later, until) = (earlier, since)
            var order = Frame.Order.lun
            var next = since + .seconds(interval)
            while true {
                let size = terminal.size
                let rates = LUNRates.between(earlier, later, seconds: max(Self.seconds(since, until), 0.001))
                let frame = Frame(
                    head: head(later), answers: later, rates: rates, order: order, width: size.width,
                    height: size.height)
                terminal.show(frame.lines)
                switch terminal.input(within: next - .now) {
                case .key("q"), .key("\u{3}"), .end: return
                case .key("s"): order = order == .lun ? .traffic : .lun
                case .key, .nothing: break
                }
                if ContinuousClock.now >= next {
                    (earlier, since) = (later, until)
                    (later, until) = (await answers(), .now)
                    next = until + .seconds(interval)
                }
            }
        }
    }

    private func head(_ answers: [Answer]) -> String {
        let groups = Set(answers.compactMap { if case .figures(let figures) = $0 { figures.group } else { nil } })
        let group = groups.isEmpty ? "-" : groups.sorted().joined(separator: ", ")
        let time = Date().formatted(.iso8601.time(includingFractionalSeconds: false))
        return "clio top  group \(group)  \(time) UTC  every \(interval) s  s: sort, q: quit"
    }

    /// What each place says, all asked at once.
    private func answers() async -> [Answer] {
        await withTaskGroup(of: (Int, Answer).self) { group in
            for (index, endpoint) in endpoints.enumerated() {
                guard let endpoint else { continue }
                group.addTask { (index, Self.answer(endpoint)) }
            }
            return await group.reduce(into: [(Int, Answer)]()) { $0.append($1) }.sorted { $0.0 < $1.0 }.map(\.1)
        }
    }

    private static func answer(_ endpoint: MetricsServer.Endpoint) -> Answer {
        do {
            let text = try MetricsClient.read(endpoint, within: .seconds(3))
            guard let figures = NodeFigures(Samples(text)) else {
                return .none(place: "\(endpoint)", why: "these are not cliod's measurements")
            }
            return .figures(figures)
        } catch {
            return .none(place: "\(endpoint)", why: "\(error)")
        }
    }

    private static func seconds(_ from: ContinuousClock.Instant, _ to: ContinuousClock.Instant) -> Double {
        (to - from) / .seconds(1)
    }

    private struct Output: Encodable {
        struct Node: Encodable {
            let node: String
            let phase: String
            let isServing: Bool
            let leaseAge: Double?
            let leaseLeft: Double?
            let version: Int?
            let wantedVersion: Int?
            let sessions: Int?
            let inFlight: Int?
            let problems: Int?
        }
        let nodes: [Node]
        let luns: [LUNRates]
        /// Places without an answer, and why.
        let silent: [String: String]
    }

    private func printOnce(_ earlier: [Answer], _ later: [Answer], _ since: ContinuousClock.Instant) throws {
        let rates = LUNRates.between(earlier, later, seconds: Self.seconds(since, .now))
        var nodes: [Output.Node] = []
        var silent: [String: String] = [:]
        for answer in later {
            switch answer {
            case .figures(let node):
                nodes.append(
                    Output.Node(
                        node: node.node, phase: node.phase, isServing: node.isServing, leaseAge: node.leaseAge,
                        leaseLeft: node.leaseLeft, version: node.version, wantedVersion: node.wantedVersion,
                        sessions: node.sessions, inFlight: node.inFlight, problems: node.problems))
            case .none(let place, let why): silent[place] = why
            }
        }
        if json {
            try printJSON(Output(nodes: nodes, luns: rates, silent: silent))
        } else if !nodes.isEmpty {
            let frame = Frame(head: head(later), answers: later, rates: rates, order: .lun, width: .max, height: .max)
            for line in frame.lines { print(line) }
        }
        for (place, why) in silent.sorted(by: { $0.key < $1.key }) {
            complain("clio: no measurements from \(place): \(why); does cliod run there, with --metrics \(place)?")
        }
        if nodes.isEmpty { throw Exit.failed }
    }
}
