// SPDX-License-Identifier: Apache-2.0
import Reservations
import Testing

/// What a node derives that sees only some versions of a state.
@Suite struct EffectsTests {
    @Test func aNodeThatMissedVersions() throws {
        var state = ReservationState()
        try Script.run("a1 register 0 a; b1 register 0 b; c1 register 0 c; a1 reserve a WE-RO;", on: &state)
        let seen = state.version
        try Script.run("b1 abort b c; a1 release a WE-RO; b1 clear b;", on: &state)
        #expect(Script.effects(state, since: seen) == "a1:03 b1:04 c1:05,abort")
        #expect(Script.effects(state, since: seen + 1) == "a1:03 b1:04")
        #expect(Script.effects(state, since: seen + 2) == "a1:03")
        #expect(Script.effects(state, since: seen + 3) == "")
    }

    @Test func whoRegistersAgainIsStillTold() throws {
        var state = ReservationState()
        try Script.run("a1 register 0 a; b1 register 0 b;", on: &state)
        let seen = state.version
        try Script.run("b1 abort b a; a1 register 0 d;", on: &state)
        #expect(Script.describe(state) == "a1=d b1=b")
        #expect(Script.effects(state, since: seen) == "a1:05,abort")
        #expect(Script.effects(state, since: seen + 1) == "")
    }

    @Test func theLastCauseCounts() throws {
        var state = ReservationState()
        try Script.run("a1 register 0 a; b1 register 0 b;", on: &state)
        let seen = state.version
        try Script.run("b1 abort b a; a1 register 0 a; b1 clear b;", on: &state)
        #expect(Script.effects(state, since: seen) == "a1:03,abort")
    }

    @Test func whatIsLongAgoIsForgotten() throws {
        var state = ReservationState()
        try Script.run("a1 register 0 a; b1 register 0 b; b1 preempt b a;", on: &state)
        let version = state.version
        #expect(state.remembered == [try Script.nexus("a1")])
        while state.version < version + 1023 { try Script.run("b1 register b b;", on: &state) }
        #expect(Script.effects(state, since: version - 1) == "a1:05")
        try Script.run("b1 register b b;", on: &state)
        #expect(state.remembered.isEmpty)
        #expect(Script.effects(state, since: 0) == "")
    }

    @Test func withoutISIDAndWith() throws {
        var state = ReservationState()
        // a1 is registered by itself and, with another key, as one of all ports of its initiator.
        try Script.run("a1 register 0 1; c1 register 0 c spec A; b1 register 0 b;", on: &state)
        #expect(Script.describe(state) == "A1=c a1=1 b1=b c1=c")
        let seen = state.version
        try Script.run("b1 preempt b 1;", on: &state)
        #expect(Script.effects(state, since: seen) == "a1:05")
        // Now the other one counts.
        try Script.run("a1 reserve c WE;", on: &state)
        #expect(Script.describe(state) == "A1=c* b1=b c1=c WE")
        try Script.run("b1 abort b c WE;", on: &state)
        #expect(Script.effects(state, since: seen + 1) == "a1:05,abort c1:05,abort")
    }
}
