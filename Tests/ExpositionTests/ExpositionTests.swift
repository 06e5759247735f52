// SPDX-License-Identifier: Apache-2.0

import Exposition
import Testing

@Suite struct ExpositionTests {
    @Test func families() {
        var exposition = Exposition(labels: ["group": "g"])
        exposition.add("a_total", .counter, "Things.", 3, ["lun": "0"])
        exposition.add("b", .gauge, "Other.", 0.25)
        exposition.add("a_total", .counter, "Things.", 4, ["lun": "1"])
        #expect(
            exposition.text == """
                # HELP a_total Things.
                # TYPE a_total counter
                a_total{group="g",lun="0"} 3
                a_total{group="g",lun="1"} 4
                # HELP b Other.
                # TYPE b gauge
                b{group="g"} 0.25

                """)
        #expect(exposition.names == ["a_total", "b"])
    }

    /// Each bucket counts what is in those before it, too.
    @Test func histogram() {
        var exposition = Exposition()
        exposition.add("a_seconds", "Times.", counts: [2, 0, 1], bounds: [0.5, 1], sum: 3.25, ["lun": "0"])
        #expect(
            exposition.text == """
                # HELP a_seconds Times.
                # TYPE a_seconds histogram
                a_seconds_bucket{lun="0",le="0.5"} 2
                a_seconds_bucket{lun="0",le="1.0"} 2
                a_seconds_bucket{lun="0",le="+Inf"} 3
                a_seconds_sum{lun="0"} 3.25
                a_seconds_count{lun="0"} 3

                """)
        #expect(exposition.names == ["a_seconds"])
    }

    /// Names that people choose may hold anything.
    @Test func escapes() {
        var exposition = Exposition()
        exposition.add("a", .gauge, "One\\two\n\"three\".", 1, ["image": "rbd/\"x\"\\\ny"])
        #expect(
            exposition.text == """
                # HELP a One\\\\two\\n"three".
                # TYPE a gauge
                a{image="rbd/\\"x\\"\\\\\\ny"} 1

                """)
    }

    @Test(
        arguments: [
            (0, "0"), (-2, "-2"), (1.5, "1.5"), (1e16, "1e+16"),
            (8_999_999_999_999_999, "8999999999999999"), (.nan, "NaN"), (.infinity, "+Inf"), (-.infinity, "-Inf"),
        ] as [(Double, String)]) func numbers(value: Double, text: String)
    {
        var exposition = Exposition()
        exposition.add("a", .gauge, "A.", value)
        #expect(exposition.text.hasSuffix("\na \(text)\n"), "\(exposition.text)")
    }

    @Test func nothing() { #expect(Exposition().text.isEmpty) }
}
