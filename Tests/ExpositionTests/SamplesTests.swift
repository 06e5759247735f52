// SPDX-License-Identifier: Apache-2.0

import Exposition
import Testing

@Suite struct SamplesTests {
    /// What we write is read back, whatever names people choose.
    @Test func readsWhatIsWritten() {
        var written = Exposition(labels: ["node": "gw1"])
        written.add("a_total", .counter, "Things.", 3, ["image": "rbd/\"x\"\\\ny"])
        written.add("a_total", .counter, "Things.", 0.25, ["image": "b}, c=\"d"])
        written.add("b", .gauge, "Other.", -1)
        let samples = Samples(written.text)
        #expect(samples.all.count == 3)
        #expect(samples["a_total"].map(\.labels["image"]) == ["rbd/\"x\"\\\ny", "b}, c=\"d"])
        #expect(samples.value("a_total", ["image": "b}, c=\"d", "node": "gw1"]) == 0.25)
        #expect(samples.value("b") == -1)
        #expect(samples.value("b", ["node": "gw2"]) == nil)
        #expect(samples.value("c") == nil)
    }

    /// Of what is no sample, nothing is taken, and the lines beside it are.
    @Test(arguments: [
        "", "a", "a{", "a{b", "a{b=", "a{b=\"", "a{b=\"\\", "a{b=\"c\"", "a{b=\"c\" 1", "a{b=\"c\"}1", "a{b=\"c\"} x",
        "{} 1",
        "a{=\"c\"} 1", "a 1e", "# TYPE a gauge", "a{b=\"\u{0}\"c} 1", " a 1",
    ])
    func damagedLines(_ line: String) {
        #expect(Samples("x 1\n\(line)\ny 2 1700000000000\n").all.map(\.name) == ["x", "y"])
    }

    @Test func valuesThatAreNoNumbers() throws {
        let samples = Samples("a NaN\nb +Inf\nc -Inf\n")
        #expect(try #require(samples.value("a")).isNaN)
        #expect(samples.value("b") == .infinity)
        #expect(samples.value("c") == -.infinity)
    }
}
