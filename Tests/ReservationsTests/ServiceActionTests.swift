// SPDX-License-Identifier: Apache-2.0
import Reservations
import Testing

/// A clause of SPC-4 (r17 unless it says otherwise): after `given`, `when` has the outcome `then`; see ``Script``.
struct Rule: CustomTestStringConvertible, Sendable {
    let clause: String
    let given: String
    let when: String
    let then: String

    init(_ clause: String, _ given: String, _ when: String, _ then: String) {
        (self.clause, self.given, self.when, self.then) = (clause, given, when, then)
    }

    var testDescription: String { "\(clause): \(given) → \(when)" }

    func check() throws { #expect(try Script.outcome(of: when, after: given) == then, "\(clause)") }
}

@Suite struct ServiceActionTests {
    static let registerRules: [Rule] = [
        // Table 47, REGISTER
        Rule("5.7.7 unregistered, both keys zero: nothing", "", "a1 register 0 0", "good unchanged"),
        Rule("5.7.7 unregistered, new key", "", "a1 register 0 a", "good | a1=a +1"),
        Rule("5.7.7 unregistered, a key to verify", "", "a1 register 1 a", "conflict unchanged"),
        Rule("5.7.7 another's key is none", "b1 register 0 b;", "a1 register b a", "conflict unchanged"),
        Rule("5.7.7 registered, wrong key", "a1 register 0 a;", "a1 register b c", "conflict unchanged"),
        Rule("5.7.7 registered, zero is a wrong key", "a1 register 0 a;", "a1 register 0 c", "conflict unchanged"),
        Rule("5.7.7 change of key", "a1 register 0 a;", "a1 register a c", "good | a1=c +1"),
        Rule("6.13.2 the same key again counts", "a1 register 0 a;", "a1 register a a", "good | a1=a +1"),
        Rule("5.7.7 unregister", "a1 register 0 a; b1 register 0 b;", "a1 register a 0", "good | b1=b +1"),
        Rule(
            "5.7.7 the same host at another port is another nexus", "a1 register 0 a;", "a2 register 0 b",
            "good | a1=a a2=b +1"),
        Rule("5.7.7 two nexuses may have one key", "a1 register 0 a;", "b1 register 0 a", "good | a1=a b1=a +1"),
        Rule("a node's own nexus has port 0", "", "a0 register 0 a", "good | a0=a +1"),

        // Table 48, REGISTER AND IGNORE EXISTING KEY
        Rule("5.7.7 ignore: unregistered, zero: nothing", "", "a1 ignore 0", "good unchanged"),
        Rule("5.7.7 ignore: unregistered", "", "a1 ignore a", "good | a1=a +1"),
        Rule("5.7.7 ignore: change of key", "a1 register 0 a;", "a1 ignore c", "good | a1=c +1"),
        Rule("5.7.7 ignore: unregister", "a1 register 0 a;", "a1 ignore 0", "good +1"),

        // Keys of holders
        Rule(
            "a new key is the holder's too", "a1 register 0 a; a1 reserve a WE;", "a1 register a c",
            "good | a1=c* WE +1"),
        Rule("so with ignore", "a1 register 0 a; a1 reserve a EA-RO;", "a1 ignore c", "good | a1=c* EA-RO +1"),
        Rule(
            "5.7.9 registering takes no reservation", "a1 register 0 a; a1 reserve a EA;", "b1 register 0 b",
            "good | a1=a* b1=b EA +1"),
        Rule(
            "5.7.10 a new registrant of an all registrants type holds", "a1 register 0 a; a1 reserve a WE-AR;",
            "b1 register 0 b", "good | a1=a* b1=b* WE-AR +1"),

        // Unregistering a holder
        Rule(
            "5.7.11.3 WE: released, nobody is told", "a1 register 0 a; b1 register 0 b; a1 reserve a WE;",
            "a1 register a 0", "good | b1=b +1"),
        Rule(
            "5.7.11.3 EA: the same", "a1 register 0 a; b1 register 0 b; a1 reserve a EA;", "a1 ignore 0",
            "good | b1=b +1"),
        Rule(
            "5.7.11.3 WE-RO: registrants are told", "a1 register 0 a; b1 register 0 b; a1 reserve a WE-RO;",
            "a1 register a 0", "good | b1=b +1 | b1:04"),
        Rule(
            "5.7.11.3 EA-RO: the same", "a1 register 0 a; b1 register 0 b; c2 register 0 c; a1 reserve a EA-RO;",
            "a1 ignore 0", "good | b1=b c2=c +1 | b1:04 c2:04"),
        Rule(
            "5.7.11.3 one that does not hold", "a1 register 0 a; b1 register 0 b; a1 reserve a WE-RO;",
            "b1 register b 0", "good | a1=a* WE-RO +1"),
        Rule(
            "5.7.11.3 AR: stays while one is registered", "a1 register 0 a; b1 register 0 b; a1 reserve a WE-AR;",
            "a1 register a 0", "good | b1=b* WE-AR +1"),
        Rule(
            "5.7.11.3 AR: ends with the last", "a1 register 0 a; a1 reserve a EA-AR;", "a1 register a 0",
            "good +1"),

        // APTPL
        Rule(
            "5.7.5 APTPL of the last REGISTER counts", "a1 register 0 a;", "b1 register 0 b aptpl",
            "good | a1=a b1=b aptpl +1"),
        Rule("5.7.5 and is taken back", "a1 register 0 a aptpl;", "a1 register a a", "good | a1=a +1"),
        Rule("5.7.5 of no other action", "a1 register 0 a;", "a1 reserve a WE aptpl", "good | a1=a* WE"),
    ]

    static let manyNexusesRules: [Rule] = [
        // SPEC_I_PT
        Rule("6.14.3 SPEC_I_PT: sender and listed", "", "a1 register 0 a spec bc", "good | a1=a b1=a c1=a +1"),
        Rule(
            "6.14.3 SPEC_I_PT: all protocols", "", "a1 register 0 a spec fsr",
            "good | f1=a r1=a s1=a a1=a +1"),
        Rule(
            "6.14.3 SPEC_I_PT: who is registered keeps its key", "b1 register 0 b;", "a1 register 0 a spec bc",
            "good | a1=a b1=b c1=a +1"),
        Rule("6.14.3 SPEC_I_PT: the sender listed, and twice", "", "a1 register 0 a spec aabb", "good | a1=a b1=a +1"),
        Rule("6.14.3 SPEC_I_PT: no one listed", "", "a1 register 0 a spec", "good | a1=a +1"),
        Rule(
            "table 47 SPEC_I_PT of a registered nexus", "a1 register 0 a;", "a1 register a a spec b",
            "bad parameter unchanged"),
        Rule("table 47 SPEC_I_PT, unregistered, both keys zero", "", "a1 register 0 0 spec b", "good unchanged"),
        Rule("table 47 SPEC_I_PT with a wrong key", "", "a1 register 1 a spec b", "conflict unchanged"),
        Rule("6.14.3 SPEC_I_PT with REGISTER AND IGNORE", "", "a1 ignore a spec b", "bad parameter unchanged"),
        Rule("6.14.3 SPEC_I_PT with RESERVE", "a1 register 0 a;", "a1 reserve a WE spec b", "bad parameter unchanged"),
        Rule("6.14.3 SPEC_I_PT with CLEAR", "a1 register 0 a;", "a1 clear a spec b", "bad parameter unchanged"),

        // ALL_TG_PT
        Rule("6.14.3 ALL_TG_PT", "", "a2 register 0 a all", "good | a1=a a2=a a3=a +1"),
        Rule(
            "6.14.3 ALL_TG_PT and SPEC_I_PT", "", "a1 register 0 a all spec b",
            "good | a1=a b1=a a2=a b2=a a3=a b3=a +1"),
        Rule("6.14.3 ALL_TG_PT, port that is not listed", "", "a9 register 0 a all", "good | a1=a a2=a a3=a a9=a +1"),
        Rule(
            "6.14.3 ALL_TG_PT: one port has the key already", "a3 register 0 a;", "a1 register 0 a all",
            "good | a1=a a2=a a3=a +1"),
        Rule(
            "6.14.3 ALL_TG_PT: one port has another key", "a3 register 0 b;", "a1 register 0 a all",
            "conflict unchanged"),
        Rule(
            "6.14.3 ALL_TG_PT: change everywhere", "a1 register 0 a all;", "a2 register a b all",
            "good | a1=b a2=b a3=b +1"),
        Rule(
            "6.14.3 ALL_TG_PT: change registers what is missing", "a1 register 0 a;", "a1 register a b all",
            "good | a1=b a2=b a3=b +1"),
        Rule(
            "6.14.3 ALL_TG_PT: without it one port changes", "a1 register 0 a all;", "a2 register a b",
            "good | a1=a a2=b a3=a +1"),
        Rule("6.14.3 ALL_TG_PT: unregister one port", "a1 register 0 a all;", "a2 register a 0", "good | a1=a a3=a +1"),
        Rule(
            "6.14.3 ALL_TG_PT: unregister everywhere", "a1 register 0 a all; b1 register 0 b;", "a2 register a 0 all",
            "good | b1=b +1"),
        Rule("6.14.3 ALL_TG_PT with ignore", "a3 register 0 b;", "a1 ignore a all", "good | a1=a a2=a a3=a +1"),
        Rule(
            "6.14.3 ALL_TG_PT with ignore, unregister", "a3 register 0 b; a1 register 0 a;", "a1 ignore 0 all",
            "good +1"),
        Rule(
            "6.14.3 ALL_TG_PT: another port of the host holds",
            "a1 register 0 a all; b1 register 0 b; a1 reserve a WE-RO;", "a2 register a 0 all",
            "good | b1=b +1 | b1:04"),
        Rule(
            "6.14.3 ALL_TG_PT is ignored elsewhere", "a1 register 0 a all;", "a1 reserve a WE all",
            "good | a1=a* a2=a a3=a WE"),

        // iSCSI initiators without an ISID
        Rule(
            "7.5.4.6 without an ISID: all ports of the initiator", "c1 register 0 c spec A;", "a1 reserve c WE",
            "good | A1=c* c1=c WE"),
        Rule("7.5.4.6 its key is changed by any", "c1 register 0 c spec A;", "a1 register c d", "good | A1=d c1=c +1"),
        Rule(
            "7.5.4.6 its unit attentions", "c1 register 0 c spec A; a1 register c d;", "c1 preempt c d",
            "good | c1=c +1 | a1:05"),
        Rule(
            "7.5.4.6 at the same target port only", "c1 register 0 c spec A;", "a2 reserve c WE", "conflict unchanged"),
    ]

    static let reserveRules: [Rule] = [
        Rule("5.7.9 unregistered", "", "a1 reserve 0 WE", "conflict unchanged"),
        Rule("5.7.9 wrong key", "a1 register 0 a;", "a1 reserve b WE", "conflict unchanged"),
        Rule("5.7.9 PRGENERATION stays", "a1 register 0 a;", "a1 reserve a WE", "good | a1=a* WE"),
        Rule("5.7.9 holder, the same again", "a1 register 0 a; a1 reserve a WE;", "a1 reserve a WE", "good unchanged"),
        Rule(
            "5.7.9 holder, another type", "a1 register 0 a; a1 reserve a WE;", "a1 reserve a EA",
            "conflict unchanged"),
        Rule(
            "5.7.9 held by another", "a1 register 0 a; b1 register 0 b; a1 reserve a WE-RO;", "b1 reserve b WE-RO",
            "conflict unchanged"),
        Rule(
            "5.7.9 all registrants hold", "a1 register 0 a; b1 register 0 b; a1 reserve a EA-AR;",
            "b1 reserve b EA-AR", "good unchanged"),
        Rule(
            "5.7.9 all registrants, another type", "a1 register 0 a; b1 register 0 b; a1 reserve a EA-AR;",
            "b1 reserve b WE-AR", "conflict unchanged"),
        Rule("6.13.3.4 no such type", "a1 register 0 a;", "a1 reserve a", "bad cdb unchanged"),

        // RELEASE
        Rule("5.7.11.2 unregistered", "a1 register 0 a; a1 reserve a WE;", "b1 release 0 WE", "conflict unchanged"),
        Rule("5.7.11.2 wrong key", "a1 register 0 a; a1 reserve a WE;", "a1 release b WE", "conflict unchanged"),
        Rule("5.7.11.2 nothing to release", "a1 register 0 a;", "a1 release a WE", "good unchanged"),
        Rule(
            "5.7.11.2 not the holder", "a1 register 0 a; b1 register 0 b; a1 reserve a WE;", "b1 release b WE",
            "good unchanged"),
        Rule("5.7.11.2 wrong type", "a1 register 0 a; a1 reserve a WE;", "a1 release a EA", "bad release unchanged"),
        Rule(
            "5.7.11.2 WE: nobody is told", "a1 register 0 a; b1 register 0 b; a1 reserve a WE;", "a1 release a WE",
            "good | a1=a b1=b"),
        Rule(
            "5.7.11.2 EA: the same", "a1 register 0 a; b1 register 0 b; a1 reserve a EA;", "a1 release a EA",
            "good | a1=a b1=b"),
        Rule(
            "5.7.11.2 WE-RO: the other registrants are told",
            "a1 register 0 a; b1 register 0 b; a1 reserve a WE-RO;", "a1 release a WE-RO",
            "good | a1=a b1=b | b1:04"),
        Rule(
            "5.7.11.2 EA-RO: the same", "a1 register 0 a; a2 register 0 a; a1 reserve a EA-RO;",
            "a1 release a EA-RO", "good | a1=a a2=a | a2:04"),
        Rule(
            "5.7.11.2 AR: by any registrant", "a1 register 0 a; b1 register 0 b; a1 reserve a WE-AR;",
            "b1 release b WE-AR", "good | a1=a b1=b | a1:04"),

        // CLEAR
        Rule("5.7.11.6 unregistered", "a1 register 0 a;", "b1 clear a", "conflict unchanged"),
        Rule("5.7.11.6 wrong key", "a1 register 0 a;", "a1 clear b", "conflict unchanged"),
        Rule(
            "5.7.11.6 the others are told", "a1 register 0 a; b1 register 0 b; c2 register 0 c; a1 reserve a WE;",
            "b1 clear b", "good +1 | a1:03 c2:03"),
        Rule("5.7.11.6 without a reservation", "a1 register 0 a; b1 register 0 b;", "b1 clear b", "good +1 | a1:03"),
        Rule("5.7.11.6 alone", "a1 register 0 a aptpl;", "a1 clear a", "good | aptpl +1"),

        // What is no service action
        Rule("6.14.2 REPLACE LOST RESERVATION, none lost", "", "a1 replace 0 a WE", "bad cdb unchanged"),
    ]

    static let preemptRules: [Rule] = [
        Rule("5.7.11.4.1 unregistered", "a1 register 0 a;", "b1 preempt 0 a WE", "conflict unchanged"),
        Rule("5.7.11.4.1 wrong key", "a1 register 0 a; b1 register 0 b;", "b1 preempt a a WE", "conflict unchanged"),
        Rule("5.7.11.4.1 nobody has the key", "a1 register 0 a;", "a1 preempt a b WE", "conflict unchanged"),
        Rule(
            "5.7.11.4.1 key zero", "a1 register 0 a; a1 reserve a WE;", "a1 preempt a 0 WE",
            "bad parameter unchanged"),
        Rule(
            "5.7.11.4.1 key zero, no reservation", "a1 register 0 a;", "a1 preempt a 0 WE",
            "bad parameter unchanged"),

        // 5.7.11.4.3: the reservation
        Rule(
            "5.7.11.4.3 the holder's key", "a1 register 0 a; b1 register 0 b; a1 reserve a WE;", "b1 preempt b a WE",
            "good | b1=b* WE +1 | a1:05"),
        Rule(
            "5.7.11.4.3 all that have it", "a1 register 0 a all; b1 register 0 b; a1 reserve a WE;",
            "b1 preempt b a WE", "good | b1=b* WE +1 | a1:05 a2:05 a3:05"),
        Rule(
            "5.7.11.4.3 another type: who stays is told",
            "a1 register 0 a; b1 register 0 b; c1 register 0 c; a1 reserve a WE;", "b1 preempt b a EA-RO",
            "good | b1=b* c1=c EA-RO +1 | a1:05 c1:04"),
        Rule(
            "5.7.11.4.3 the same type: who stays is not told",
            "a1 register 0 a; b1 register 0 b; c1 register 0 c; a1 reserve a WE-RO;", "b1 preempt b a WE-RO",
            "good | b1=b* c1=c WE-RO +1 | a1:05"),
        Rule(
            "5.7.11.4.3 to all registrants", "a1 register 0 a; b1 register 0 b; c1 register 0 c; a1 reserve a WE;",
            "b1 preempt b a WE-AR", "good | b1=b* c1=c* WE-AR +1 | a1:05 c1:04"),
        Rule(
            "5.7.11.4.3 no such type", "a1 register 0 a; b1 register 0 b; a1 reserve a WE;", "b1 preempt b a",
            "bad cdb unchanged"),
        Rule(
            "5.7.11.4.3 the holder itself, the same type", "a1 register 0 a; a1 reserve a WE;", "a1 preempt a a WE",
            "good | a1=a* WE +1"),
        Rule(
            "5.7.11.4.3 the holder itself, another type",
            "a1 register 0 a; b1 register 0 b; a1 reserve a WE;", "a1 preempt a a EA",
            "good | a1=a* b1=b EA +1 | b1:04"),
        Rule(
            "5.7.11.4.3 the holder's key is shared", "a1 register 0 a all; a1 reserve a WE;", "a2 preempt a a WE",
            "good | a2=a* WE +1 | a1:05 a3:05"),

        // 5.7.11.4.3: all registrants
        Rule(
            "5.7.11.4.3 AR, zero", "a1 register 0 a; b1 register 0 b; c1 register 0 c; a1 reserve a WE-AR;",
            "b1 preempt b 0 EA", "good | b1=b* EA +1 | a1:05 c1:05"),
        Rule(
            "5.7.11.4.3 AR, zero, alone", "a1 register 0 a; a1 reserve a WE-AR;", "a1 preempt a 0 WE",
            "good | a1=a* WE +1"),
        Rule(
            "5.7.11.4.4 AR, a key: registrations only", "a1 register 0 a; b1 register 0 b; a1 reserve a WE-AR;",
            "b1 preempt b a EA", "good | b1=b* WE-AR +1 | a1:05"),
        Rule(
            "5.7.11.4.4 AR, the own key", "a1 register 0 a; b1 register 0 b; a1 reserve a WE-AR;",
            "a1 preempt a a EA", "good | b1=b* WE-AR +1"),
        Rule(
            "5.7.11.4.4 AR, the last one's own key", "a1 register 0 a; a1 reserve a WE-AR;", "a1 preempt a a EA",
            "good +1"),

        // 5.7.11.4.4: registrations
        Rule(
            "5.7.11.4.4 no reservation", "a1 register 0 a; b1 register 0 b;", "b1 preempt b a",
            "good | b1=b +1 | a1:05"),
        Rule(
            "5.7.11.4.4 not the holder's key",
            "a1 register 0 a; b1 register 0 b; c1 register 0 c; a1 reserve a WE-RO;", "b1 preempt b c EA",
            "good | a1=a* b1=b WE-RO +1 | c1:05"),
        Rule("5.7.11.4.4 the own key", "a1 register 0 a; b1 register 0 b;", "a1 preempt a a", "good | b1=b +1"),
        Rule(
            "5.7.11.4.4 the own key, shared", "a1 register 0 a all; b1 register 0 b;", "a1 preempt a a",
            "good | b1=b +1 | a2:05 a3:05"),
        Rule(
            "5.7.11.4.4 the holder fences", "a1 register 0 a; b1 register 0 b; a1 reserve a WE-RO;",
            "a1 preempt a b WE-RO", "good | a1=a* WE-RO +1 | b1:05"),

        // PREEMPT AND ABORT
        Rule(
            "5.7.11.5 the holder", "a1 register 0 a all; b1 register 0 b; a1 reserve a WE;", "b1 abort b a WE",
            "good | b1=b* WE +1 | a1:05,abort a2:05,abort a3:05,abort"),
        Rule(
            "5.7.11.5 who stays is not aborted",
            "a1 register 0 a; b1 register 0 b; c1 register 0 c; a1 reserve a WE;", "b1 abort b a EA",
            "good | b1=b* c1=c EA +1 | a1:05,abort c1:04"),
        Rule(
            "5.7.11.5 registrations", "a1 register 0 a; b1 register 0 b;", "b1 abort b a",
            "good | b1=b +1 | a1:05,abort"),
        Rule(
            "5.7.11.5 the holder itself: its other commands", "a1 register 0 a; a1 reserve a WE;",
            "a1 abort a a WE", "good | a1=a* WE +1 | a1:abort"),
        Rule(
            "5.7.11.5 AR, zero", "a1 register 0 a; b1 register 0 b; a1 reserve a WE-AR;", "b1 abort b 0 WE",
            "good | b1=b* WE +1 | a1:05,abort b1:abort"),
        Rule("5.7.11.5 unregistered", "a1 register 0 a;", "b1 abort 0 a WE", "conflict unchanged"),
        Rule("5.7.11.5 nobody has the key", "a1 register 0 a;", "a1 abort a b WE", "conflict unchanged"),
    ]

    static let moveRules: [Rule] = [
        Rule("5.7.8 unregistered", "", "a1 move 0 b to b2", "conflict unchanged"),
        Rule("5.7.8 wrong key", "a1 register 0 a; a1 reserve a WE;", "a1 move b b to b2", "conflict unchanged"),
        Rule("5.7.8 no reservation", "a1 register 0 a;", "a1 move a b to b2", "bad cdb unchanged"),
        Rule(
            "5.7.8 not the holder", "a1 register 0 a; b1 register 0 b; a1 reserve a WE;", "b1 move b c to c2",
            "conflict unchanged"),
        Rule(
            "5.7.8 all registrants", "a1 register 0 a; a1 reserve a WE-AR;", "a1 move a b to b2",
            "conflict unchanged"),
        Rule(
            "5.7.8 to one that is not registered", "a1 register 0 a; a1 reserve a WE;", "a1 move a b to b2",
            "good | a1=a b2=b* WE +1"),
        Rule(
            "5.7.8 to one that is", "a1 register 0 a; b2 register 0 c; a1 reserve a EA-RO;", "a1 move a b to b2",
            "good | a1=a b2=b* EA-RO +1"),
        Rule("5.7.8 UNREG", "a1 register 0 a; a1 reserve a WE;", "a1 move a b to b2 unreg", "good | b2=b* WE +1"),
        Rule(
            "5.7.8 APTPL", "a1 register 0 a; a1 reserve a WE;", "a1 move a b to b2 aptpl",
            "good | a1=a b2=b* WE aptpl +1"),
        Rule(
            "5.7.8 the same initiator at another port", "a1 register 0 a; a1 reserve a WE;", "a1 move a a to a2",
            "good | a1=a a2=a* WE +1"),
        Rule("5.7.8 to itself", "a1 register 0 a; a1 reserve a WE;", "a1 move a b to a1", "bad parameter unchanged"),
        Rule("5.7.8 key zero", "a1 register 0 a; a1 reserve a WE;", "a1 move a 0 to b2", "bad parameter unchanged"),
        Rule(
            "5.7.8 no such port", "a1 register 0 a; a1 reserve a WE;", "a1 move a b to b7",
            "bad parameter unchanged"),
        Rule(
            "5.7.8 to all ports of an iSCSI initiator", "a1 register 0 a; a1 reserve a WE;", "a1 move a b to B2",
            "bad parameter unchanged"),
        Rule(
            "5.7.8 to another protocol", "a1 register 0 a; a1 reserve a WE;", "a1 move a b to f2",
            "good | a1=a f2=b* WE +1"),
    ]

    /// SPC-2 RESERVE and RELEASE, and how they go with persistent reservations.
    static let spc2Rules: [Rule] = [
        Rule("SPC-2 7.21 RESERVE", "", "a1 RESERVE", "good | reserved by a1"),
        Rule("SPC-2 7.21 again", "a1 RESERVE;", "a1 RESERVE", "good unchanged"),
        Rule("SPC-2 7.21 another", "a1 RESERVE;", "b1 RESERVE", "conflict unchanged"),
        Rule("SPC-2 7.21 the same host at another port", "a1 RESERVE;", "a2 RESERVE", "conflict unchanged"),
        Rule("SPC-2 7.16 RELEASE", "a1 RESERVE;", "a1 RELEASE", "good"),
        Rule("SPC-2 7.16 another's stays", "a1 RESERVE;", "b1 RELEASE", "good unchanged"),
        Rule("SPC-2 7.16 nothing to release", "", "a1 RELEASE", "good unchanged"),
        Rule(
            "SPC-2 5.5.1 PERSISTENT RESERVE OUT of the reserver", "a1 RESERVE;", "a1 register 0 a",
            "conflict unchanged"),
        Rule("SPC-2 5.5.1 and of another", "a1 RESERVE;", "b1 ignore b", "conflict unchanged"),
        Rule("SPC-2 5.5.1 RESERVE while one is registered", "a1 register 0 a;", "a1 RESERVE", "conflict unchanged"),
        Rule("SPC-2 5.5.1 RESERVE of another then", "a1 register 0 a;", "b1 RESERVE", "conflict unchanged"),
        Rule("SPC-2 5.5.1 RELEASE while one is registered", "a1 register 0 a;", "b1 RELEASE", "conflict unchanged"),
        Rule("5.7.3 CRH: the holder", "a1 register 0 a; a1 reserve a WE;", "a1 RESERVE", "good unchanged"),
        Rule("5.7.3 CRH: the holder's RELEASE", "a1 register 0 a; a1 reserve a EA;", "a1 RELEASE", "good unchanged"),
        Rule(
            "5.7.3 CRH: a registrant, registrants only", "a1 register 0 a; b1 register 0 b; a1 reserve a WE-RO;",
            "b1 RESERVE", "good unchanged"),
        Rule(
            "5.7.3 CRH: a registrant, all registrants", "a1 register 0 a; b1 register 0 b; a1 reserve a EA-AR;",
            "b1 RELEASE", "good unchanged"),
        Rule(
            "5.7.3 CRH: not with WE", "a1 register 0 a; b1 register 0 b; a1 reserve a WE;", "b1 RESERVE",
            "conflict unchanged"),
        Rule(
            "5.7.3 CRH: not one that is not registered", "a1 register 0 a; a1 reserve a EA-RO;", "b1 RESERVE",
            "conflict unchanged"),

        // What ends one
        Rule("SAM-5 6.3.3 reset", "a1 RESERVE;", "reset", "good"),
        Rule("SAM-5 6.3.3 nothing is reserved", "", "reset", "good unchanged"),
        Rule("SAM-5 6.3.3 persistent ones stay", "a1 register 0 a; a1 reserve a WE;", "reset", "good unchanged"),
        Rule("SAM-5 6.3.4 nexus loss", "a1 RESERVE;", "lose a1", "good"),
        Rule("SAM-5 6.3.4 another's", "a1 RESERVE;", "lose a2", "good unchanged"),
        Rule("SAM-5 6.3.4 another's at the port", "a1 RESERVE;", "lose b1", "good unchanged"),
        Rule("a whole port is lost", "a1 RESERVE;", "lose 1", "good"),
        Rule("another port is lost", "a1 RESERVE;", "lose 2", "good unchanged"),
        Rule("persistent ones survive nexus loss", "a1 register 0 a; a1 reserve a WE;", "lose a1", "good unchanged"),
    ]

    @Test(arguments: registerRules) func register(_ rule: Rule) throws { try rule.check() }
    @Test(arguments: manyNexusesRules) func manyNexuses(_ rule: Rule) throws { try rule.check() }
    @Test(arguments: reserveRules) func reserve(_ rule: Rule) throws { try rule.check() }
    @Test(arguments: preemptRules) func preempt(_ rule: Rule) throws { try rule.check() }
    @Test(arguments: moveRules) func move(_ rule: Rule) throws { try rule.check() }
    @Test(arguments: spc2Rules) func spc2(_ rule: Rule) throws { try rule.check() }
}
