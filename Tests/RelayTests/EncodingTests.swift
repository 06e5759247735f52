// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import Relay

private let member = Member(node: "gw-a", instance: 0x1234_5678_9abc_def0)

private let messages: [Message] = [
    .event(origin: member, id: 7, floor: 5, payload: [1, 2, 3]),
    .event(origin: Member(node: "", instance: 0), id: .max, floor: 0, payload: []),
    .event(origin: member, id: 1, floor: 1, payload: [UInt8](repeating: 0xff, count: Message.maximumPayload)),
    .barrier(origin: member, epoch: 4711),
    .look(origin: member),
]

private let acknowledgements: [Acknowledgement] = [
    Acknowledgement(member: member, subject: .event(origin: Member(node: "gw-ü", instance: 1), id: 9)),
    Acknowledgement(member: member, subject: .barrier(epoch: .max), code: 5),
]

private let records: [Record] = [
    Record(instance: 1, clients: []),
    Record(instance: .max, clients: ["10.0.0.1:0/123", "[fe80::1]:6789/42"], state: .leaving, fencedBefore: 3),
    Record(instance: 2, clients: ["a"], state: .fenced(.marked, by: "gw-b")),
    Record(instance: 2, clients: ["a"], state: .fenced(.blocklisted(epoch: 17), by: "gw-b")),
    Record(instance: 2, clients: ["a"], state: .fenced(.settled(epoch: 17), by: ""), fencedBefore: 12),
]

/// What is on the wire and in omap: read by nodes of other versions, and written by whoever can reach the pool.
@Suite struct EncodingTests {
    @Test func messageReturns() {
        for original in messages {
            let bytes = original.encoded
            #expect(Message(decoding: bytes) == original)
            #expect(Message(decoding: bytes + [0]) == nil)
            for count in 0..<bytes.count { #expect(Message(decoding: Array(bytes.prefix(count))) == nil) }
        }
    }

    @Test func acknowledgementReturns() {
        for original in acknowledgements {
            let bytes = original.encoded
            #expect(Acknowledgement(decoding: bytes) == original)
            #expect(Acknowledgement(decoding: bytes + [0]) == nil)
            for count in 0..<bytes.count { #expect(Acknowledgement(decoding: Array(bytes.prefix(count))) == nil) }
        }
    }

    @Test func recordReturns() {
        for original in records {
            let bytes = original.encoded
            #expect(Record(decoding: bytes) == original)
            #expect(Record(decoding: bytes + [0]) == nil)
            for count in 0..<bytes.count { #expect(Record(decoding: Array(bytes.prefix(count))) == nil) }
        }
    }

    /// What commands a terminal is no name and no address.
    @Test func controlCharactersAreRefused() {
        #expect(Record(decoding: Record(instance: 1, clients: ["\u{1b}[2J"]).encoded) == nil)
        #expect(Record(decoding: Record(instance: 1, clients: [], state: .fenced(.marked, by: "b\n")).encoded) == nil)
        #expect(Message(decoding: Message.look(origin: Member(node: "\u{9b}", instance: 1)).encoded) == nil)
    }

    @Test func otherVersionIsRefused() {
        for bytes in messages.map(\.encoded) { #expect(Message(decoding: [2] + bytes.dropFirst()) == nil) }
        for bytes in records.map(\.encoded) { #expect(Record(decoding: [0] + bytes.dropFirst()) == nil) }
    }

    @Test func tooMuchPayloadIsRefused() {
        let payload = [UInt8](repeating: 0, count: Message.maximumPayload + 1)
        let bytes = Message.event(origin: member, id: 1, floor: 1, payload: payload).encoded
        #expect(Message(decoding: bytes) == nil)
    }

    /// Random bytes, and valid ones with a few changed, are refused or mean something; what they mean returns.
    @Test func randomBytesNeverTrap() {
        var random = SystemRandomNumberGenerator()
        let valid = messages.map(\.encoded) + acknowledgements.map(\.encoded) + records.map(\.encoded)
        for round in 0..<20_000 {
            var bytes: [UInt8]
            if round.isMultiple(of: 2) {
                bytes = (0..<Int.random(in: 0...64, using: &random)).map { _ in
                    UInt8.random(in: 0...255, using: &random)
                }
                if !bytes.isEmpty { bytes[0] = 1 }
            } else {
                bytes = valid[Int.random(in: 0..<valid.count, using: &random)]
                for _ in 0..<Int.random(in: 1...3, using: &random) {
                    bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
                }
            }
            if let message = Message(decoding: bytes) { #expect(message.encoded == bytes) }
            if let answer = Acknowledgement(decoding: bytes) { #expect(answer.encoded == bytes) }
            if let record = Record(decoding: bytes) { #expect(record.encoded == bytes) }
        }
    }
}
