// SPDX-License-Identifier: Apache-2.0
import Exposition
import Testing

@testable import TopView

@Suite struct TopViewTests {
    /// What a cliod serves, as far as it is looked at.
    private func answer(
        _ node: String, reads: Int = 0, writes: Int = 0, seconds: Double = 0, compared: Int = 0, luns: Int = 1
    ) throws -> Answer {
        var out = Exposition(labels: ["group": "default", "node": node])
        out.add("clio_serving", .gauge, "Serving.", 1)
        out.add("clio_phase", .gauge, "Phase.", 0, ["phase": "arming"])
        out.add("clio_phase", .gauge, "Phase.", 1, ["phase": "serving"])
        out.add("clio_lease_age_seconds", .gauge, "Age.", 0.25)
        out.add("clio_config_version", .gauge, "Version.", 3)
        out.add("clio_config_wanted_version", .gauge, "Version.", 4)
        for lun in 0..<luns {
            for (kind, count) in [("read", reads), ("write", writes)] {
                let labels: KeyValuePairs = ["lun": String(lun), "image": "rbd/lun\(lun)", "operation": kind]
                out.add("clio_lun_operations_total", .counter, "Requests.", count, labels)
                out.add("clio_lun_bytes_total", .counter, "Bytes.", count << 20, labels)
                out.add("clio_lun_operation_seconds_total", .counter, "Time.", seconds / 2, labels)
            }
            out.add(
                "clio_lun_compare_and_write_total", .counter, "CAW.", compared,
                ["lun": String(lun), "image": "rbd/lun\(lun)"])
        }
        return .figures(try #require(NodeFigures(Samples(out.text))))
    }

    @Test func ratesOfAllNodesTogether() throws {
        let rates = LUNRates.between(
            [try answer("gw1", reads: 100, writes: 10, seconds: 1), try answer("gw2", reads: 50, compared: 4)],
            [try answer("gw1", reads: 140, writes: 20, seconds: 2), try answer("gw2", reads: 60, compared: 8)],
            seconds: 2)
        let lun = try #require(rates.first)
        #expect(rates.count == 1)
        #expect(lun.image == "rbd/lun0")
        #expect(lun.readsPerSecond == 25)
        #expect(lun.writesPerSecond == 5)
        #expect(lun.bytesReadPerSecond == Double(25 << 20))
        #expect(lun.meanLatencySeconds == 1.0 / 60)
        #expect(lun.comparedPerSecond == 2)
    }

    /// A cliod's LUN that was mapped anew counts from 0; a node heard for the first time says nothing of its past.
    @Test func countersThatBeginAnew() throws {
        let anew = LUNRates.between([try answer("gw1", reads: 100)], [try answer("gw1", reads: 30)], seconds: 1)
        #expect(anew.first?.readsPerSecond == 30)
        let new = LUNRates.between(
            [.none(place: "10.0.0.1:9847", why: "no answer in time")], [try answer("gw1", reads: 1_000_000)], seconds: 1
        )
        #expect(new.first?.readsPerSecond == 0)
        #expect(new.first?.meanLatencySeconds == nil)
    }

    @Test func frameShowsNodesAndLUNs() throws {
        let (before, now) = ([try answer("gw1")], [try answer("gw1", reads: 30, seconds: 0.03)])
        let frame = Frame(
            head: "clio top", answers: now + [.none(place: "10.77.0.12:9847", why: "connection refused")],
            rates: LUNRates.between(before, now, seconds: 1), order: .lun, width: 120, height: 30)
        #expect(
            frame.lines == [
                "clio top",
                "",
                "NODE  PHASE    AGE s  LEFT s  VERSION  SESSIONS  IN FLIGHT  PROBLEMS",
                "gw1   serving    0.2       -   3 of 4         -          -         -",
                "10.77.0.12:9847  connection refused",
                "",
                "LUN  IMAGE     READ/s  WRITE/s  READ MiB/s  WRITE MiB/s  MEAN ms  CAW/s  MISS/s  AWAY/s",
                "  0  rbd/lun0      30        0        30.0          0.0     1.00      0       0       0",
            ])
    }

    @Test(arguments: [(20, 5), (80, 9), (1, 1), (0, 0), (200, 100)])
    func framesFitTheirTerminal(width: Int, height: Int) throws {
        let now = [try answer("gw1", luns: 40)]
        let rates = LUNRates.between(now, now, seconds: 1)
        let frame = Frame(head: "clio top", answers: now, rates: rates, order: .traffic, width: width, height: height)
        #expect(frame.lines.count <= height)
        #expect(frame.lines.allSatisfy { $0.count <= width })
        if height == 9 { #expect(frame.lines.last == "… and 38 more") }
        if height == 100 { #expect(frame.lines.count == 46) }
    }

    @Test func orders() throws {
        func rate(_ lun: Int, _ reads: Double) -> LUNRates {
            LUNRates(
                lun: lun, image: "rbd/\(lun)", readsPerSecond: reads, writesPerSecond: 0, bytesReadPerSecond: 0,
                bytesWrittenPerSecond: 0, meanLatencySeconds: nil, comparedPerSecond: 0, miscomparedPerSecond: 0,
                turnedAwayPerSecond: 0)
        }
        let rates = [rate(0, 1), rate(1, 5), rate(2, 1)]
        func shown(_ order: Frame.Order) -> [String] {
            Frame(head: "", answers: [], rates: rates, order: order, width: 40, height: 20).lines.suffix(3)
                .compactMap { $0.split(separator: " ").first.map(String.init) }
        }
        #expect(shown(.lun) == ["0", "1", "2"])
        #expect(shown(.traffic) == ["1", "0", "2"])
    }

    /// A name with an escape sequence does not reach the terminal.
    @Test func namesCommandNothing() {
        let frame = Frame(
            head: "h", answers: [.none(place: "x\u{1b}[2J\u{9b}1m\n", why: "y")], rates: [], order: .lun, width: 80,
            height: 9)
        #expect(!frame.lines.joined().unicodeScalars.contains { $0.properties.generalCategory == .control })
    }

    @Test func drained() {
        let labels = "{group=\"g\",node=\"gw1\"}"
        #expect(NodeFigures(Samples("clio_serving\(labels) 0\nclio_drained\(labels) 1\n"))?.phase == "drained")
        #expect(NodeFigures(Samples("clio_serving\(labels) 0\n"))?.phase == "not attached")
    }

    @Test func whatIsNoCliod() {
        #expect(NodeFigures(Samples("up 1\nclio_serving 1\n")) == nil)
    }
}
