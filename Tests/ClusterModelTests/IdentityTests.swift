// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import ClusterModel

/// Serials and what LIO makes of them.
@Suite struct SerialTests {
    /// What a host saw of LIO (`iscsi-inq -e 1 -c 0x83`) for serials set by hand.
    @Test(arguments: [
        ("d9575de8-b919-443a-589f-b9f4fc785d4e", "6001405d9575de8b919443a589fb9f4f"),
        ("0123456789abcdef", "60014050123456789abcdef000000000"),
        ("FFFFFFFF", "6001405ffffffff00000000000000000"),
    ])
    func naaIsWhatLIODerives(_ serial: String, _ naa: String) throws {
        #expect(try LUNSerial(serial).naa == naa)
    }

    @Test func naaHas32DigitsForEverySerial() throws {
        for length in LUNSerial.lengths {
            let naa = try LUNSerial(String(repeating: "a", count: length)).naa
            #expect(naa.count == 32)
            #expect(naa.hasPrefix("6001405a"))
        }
    }

    /// The derived serial is an identity on disk: it must never change between versions of Clio.
    @Test func derivedSerialIsStable() {
        let serial = LUNSerial(
            fsid: "8e8c7223-56f0-4061-a806-f5fab29e70c3", poolID: 1, namespace: "", imageID: "101326854e04")
        #expect(serial.text == "d9575de8-b919-443a-589f-b9f4fc785d4e")
    }

    @Test func derivedSerialIsAValidOne() throws {
        let serial = LUNSerial(fsid: "f", poolID: 1, namespace: "ns", imageID: "i")
        #expect(try LUNSerial(serial.text) == serial)
    }

    @Test func derivedSerialsDiffer() {
        var seen: Set<String> = []
        var count = 0
        for pool in Int64(1)...8 {
            for namespace in ["", "a", "b"] {
                for image in 0..<500 {
                    let id = String(0x1013_2685_4e04 + image, radix: 16)
                    seen.insert(LUNSerial(fsid: "8e8c7223", poolID: pool, namespace: namespace, imageID: id).naa)
                    count += 1
                }
            }
        }
        #expect(seen.count == count)
        // Fields do not run into each other.
        #expect(
            LUNSerial(fsid: "a", poolID: 1, namespace: "b", imageID: "c").naa
                != LUNSerial(fsid: "a", poolID: 1, namespace: "", imageID: "bc").naa)
    }
}

@Suite struct NameTests {
    @Test(arguments: [
        "iqn.1993-08.org.debian:01:abc", "iqn.2026-11.example",
        "iqn.2001-04.com.example:storage:diskarrays-sn-a8675309",
        "eui.02004567a425678d", "naa.52004567ba64678d", "naa.62004567ba64678d0123456789abcdef",
    ])
    func goodNames(_ name: String) { #expect(ISCSIName.fault(name) == nil) }

    @Test(arguments: [
        "", "iqn", "iqn.", "iqn.2026-1.example", "iqn.2026-00.example", "iqn.2026-11.example:", "iqn.2026-11..example",
        "iqn.2026-11.-example", "iqn.2026-11", "iqn.2026-11.", "eui.", "eui.02004567a425678g", "naa.5200",
        "Iqn.2026-11.a", "foo",
        "iqn.2026-11.exämple", "iqn.2026-11.exa mple", "iqn.2026-11.a/b",
    ])
    func badNames(_ name: String) { #expect(ISCSIName.fault(name) != nil) }

    @Test(arguments: [
        ("10.77.0.11", "10.77.0.11:3260"), ("10.77.0.11:1", "10.77.0.11:1"), ("[fd00::1]", "[fd00::1]:3260"),
        ("[FD00:0:0:0:0:0:0:1]:65535", "[fd00::1]:65535"), ("[2001:db8:0:1:1:1:1:1]", "[2001:db8:0:1:1:1:1:1]:3260"),
        ("[2001:0:0:1::1]", "[2001:0:0:1::1]:3260"), ("[2001:db8::10.0.0.1]", "[2001:db8::a00:1]:3260"),
        ("[1::]", "[1::]:3260"),
    ])
    func goodPortals(_ text: String, _ canonical: String) throws {
        #expect(try Portal(parsing: text).description == canonical)
        // What is written is read back as the same.
        #expect(try Portal(parsing: canonical) == Portal(parsing: text))
    }

    @Test(arguments: [
        "", ":3260", "10.77.0.11:", "10.77.0.11:0", "10.77.0.11:+1", "10.77.0.11:65536", "10.77.0", "10.77.0.11.1",
        "010.1.1.1",
        "1.2.3.4x", "[fd00::1", "fd00::1", "[fd00:::1]", "[fd00::1]3260", "[12345::]", "[1:2:3:4:5:6:7:8:9]",
        "[1:2:3:4:5:6:7::8]",
        "[::]", "[::1]", "[ff02::1]", "[fe80::1]", "[::ffff:10.0.0.1]", "0.0.0.0", "127.0.0.1", "255.255.255.255",
        "0.1.2.3", "[]",
    ])
    func badPortals(_ text: String) { #expect(throws: Portal.Fault.self) { try Portal(parsing: text) } }

    @Test func images() throws {
        #expect(try ImageName(parsing: "rbd/lun0") == ImageName(pool: "rbd", image: "lun0"))
        #expect(try ImageName(parsing: "rbd/ns/lun0") == ImageName(pool: "rbd", namespace: "ns", image: "lun0"))
        for text in ["", "rbd", "rbd/", "/a", "a/b/c/d", "a/b@c", "a/b c", "a/b\n", "a,x=y/b"] {
            #expect(throws: ImageName.Fault.self) { try ImageName(parsing: text) }
        }
    }

    @Test func didYouMean() {
        #expect(nearest(to: "acces", among: ["access", "nodes"]) == "access")
        #expect(nearest(to: "NODES", among: ["access", "nodes"]) == "nodes")
        #expect(nearest(to: "colour", among: ["access", "nodes"]) == nil)
        #expect(nearest(to: "ab", among: ["cd"]) == nil)
        #expect(editDistance("kitten", "sitting") == 3)
        #expect(editDistance("", "abc") == 3)
        #expect(editDistance("nmae", "name") == 1)
    }
}

@Suite struct TimingTests {
    @Test func defaultsFit() {
        #expect(Timing().faults().isEmpty)
        #expect(Timing().bound == 10)
    }

    @Test func boundFollows() {
        #expect(Timing(lease: 10, dead: 12).bound == 15)
        #expect(Timing(ping: 10, pingTimeout: 10).bound == 23)
        #expect(Timing(ping: 10, pingTimeout: 10).faults().isEmpty)
    }

    /// Whatever is accepted is safe: a fenced node's lease is over when fencing begins, and F covers both ways to die.
    @Test func acceptedFiguresAreSafe() {
        for renew in 1...4 {
            for lease in 2...12 {
                for dead in 3...14 {
                    for bound in 5...20 {
                        let timing = Timing(renew: renew, lease: lease, dead: dead, bound: bound)
                        guard timing.faults().isEmpty else { continue }
                        #expect(timing.lease + timing.renew <= timing.dead)
                        #expect(timing.dead + Timing.margin <= timing.bound)
                        #expect(timing.ping + timing.pingTimeout + Timing.margin <= timing.bound)
                    }
                }
            }
        }
    }

    @Test func hostSettingsNameF() {
        let text = Timing(bound: 17).hostSettings
        #expect(text.contains("replacement_timeout = 17"))
        #expect(text.contains("fast_io_fail_tmo 17"))
    }
}
