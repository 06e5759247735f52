// SPDX-License-Identifier: Apache-2.0

import Initiator
import Lab
import Testing

extension GatewayTests {
    /// COMPARE AND WRITE is one atomic operation of the whole cluster (SBC-4, 5.3).
    @Suite struct CompareAndWrite {
        let cluster: LiveCluster

        init() throws { cluster = try LiveCluster.current }

        /// Guards: updates lost between gateways. The same race loses a third of them on the stock kernel (`make demo`).
        @Test(arguments: [1, 16]) func noUpdateIsLostBetweenGateways(blocks: Int) async throws {
            var race = CompareAndWriteRace(target: cluster.target, portals: cluster.portals)
            race.namespace = cluster.description.netns
            race.blocks = blocks
            let outcome = try await race.run()
            #expect(outcome.lost == 0)
            #expect(outcome.successes > 100)
            if blocks == 1 { #expect(outcome.miscompares > 0, "four writers at one block have to collide") }
        }

        @Test(arguments: [0, 1, 7, 255, 510, 511]) func mismatchTellsItsOffset(_ offset: Int) async throws {
            try await cluster.sessions { sessions in
                let old = (0..<512).map { UInt8(truncatingIfNeeded: $0 * 7) }
                try sessions[0].good(.write(40, old))
                var expected = old
                expected[offset] ^= 1
                if offset < 511 { expected[511] ^= 1 }  // only the first difference counts
                let reply = try sessions[1].send(
                    .compareAndWrite(40, expected: expected, new: [UInt8](repeating: 9, count: 512)))
                #expect(reply.isMiscompare)
                #expect(reply.sense?.information == UInt64(offset))
                #expect(try sessions[0].good(.read(40, blocks: 1)) == old, "nothing may have been written")
            }
        }

        @Test func blockNeverWrittenComparesAsZeros() async throws {
            try await cluster.sessions { sessions in
                let zeros = [UInt8](repeating: 0, count: 512)
                let new = [UInt8](repeating: 0x5A, count: 512)
                let lba: UInt64 = 1_500_001
                let other = try sessions[0].send(.compareAndWrite(lba, expected: new, new: zeros))
                #expect(other.isMiscompare)
                #expect(other.sense?.information == 0)
                #expect(try sessions[1].send(.compareAndWrite(lba, expected: zeros, new: new)).isGood)
                #expect(try sessions[0].good(.read(lba, blocks: 1)) == new)
            }
        }

        /// A clone's object that is not there yet compares with the parent's data; the copy-up does not disturb it.
        @Test(arguments: [ExtraImages.clone, .cloneWithSnapshot]) func cloneComparesWithItsParent(
            _ image: ExtraImages
        ) async throws {
            let lun = image.lun
            try await cluster.sessions(lun: lun) { sessions in
                let new = [UInt8](repeating: 0xC1, count: 512)
                var wrong = ExtraImages.parentBlock(5)
                wrong[37] ^= 1
                let reply = try sessions[0].send(.compareAndWrite(5, expected: wrong, new: new), lun: lun)
                #expect(reply.isMiscompare)
                #expect(reply.sense?.information == 37)
                let before = ExtraImages.parentBlock(8192)  // the second object: nothing has been copied up there
                #expect(try sessions[1].send(.compareAndWrite(8192, expected: before, new: new), lun: lun).isGood)
                #expect(try sessions[0].good(.read(8192, blocks: 1), lun: lun) == new)
                let after = ExtraImages.parentBlock(8193)
                #expect(try sessions[0].good(.read(8193, blocks: 1), lun: lun) == after, "copied up whole")
                #expect(try sessions[0].send(.compareAndWrite(8193, expected: after, new: new), lun: lun).isGood)
                // A hole of the parent, and the image beyond the parent's end.
                for lba: UInt64 in [24576, ExtraImages.parentBlocks, ExtraImages.parentBlocks + 7] {
                    let zeros = [UInt8](repeating: 0, count: 512)
                    #expect(try sessions[1].send(.compareAndWrite(lba, expected: new, new: new), lun: lun).isMiscompare)
                    #expect(try sessions[1].send(.compareAndWrite(lba, expected: zeros, new: new), lun: lun).isGood)
                    #expect(try sessions[0].good(.read(lba, blocks: 1), lun: lun) == new)
                }
            }
        }

        /// The clone's own snapshot keeps showing the parent's data after a COMPARE AND WRITE has copied up.
        @Test func copyUpLeavesTheSnapshotAlone() async throws {
            let lun = ExtraImages.cloneWithSnapshot.lun
            let lba: UInt64 = 16384
            try await cluster.sessions(lun: lun) { sessions in
                let reply = try sessions[0].send(
                    .compareAndWrite(
                        lba, expected: ExtraImages.parentBlock(lba), new: [UInt8](repeating: 1, count: 512)), lun: lun)
                #expect(reply.isGood)
            }
            let name = ExtraImages.cloneWithSnapshot.rawValue
            let snapshot = try await cluster.host(
                "sh", "-c",
                "rbd export --no-progress rbd/\(name)@before - | tail -c +\(lba * 512 + 1) | head -c 512 | od -An -v -tx1"
            )
            let bytes = snapshot.split(whereSeparator: \.isWhitespace).compactMap { UInt8($0, radix: 16) }
            #expect(bytes == ExtraImages.parentBlock(lba))
        }

        @Test(arguments: [0, 7, 8, 31, 32, 8191, 100_000] as [UInt64]) func stripedImage(_ lba: UInt64) async throws {
            let lun = ExtraImages.striped.lun
            try await cluster.sessions(lun: lun) { sessions in
                let old = (0..<512).map { UInt8(truncatingIfNeeded: $0 + Int(lba)) }
                let new = [UInt8](repeating: 0x77, count: 512)
                try sessions[0].good(.write(lba, old), lun: lun)
                #expect(try sessions[1].send(.compareAndWrite(lba, expected: new, new: old), lun: lun).isMiscompare)
                #expect(try sessions[1].send(.compareAndWrite(lba, expected: old, new: new), lun: lun).isGood)
                #expect(try sessions[0].good(.read(lba, blocks: 1), lun: lun) == new)
            }
        }

        /// WRPROTECT and a length beyond VPD page B0h are INVALID FIELD IN CDB (SBC-4, 5.3).
        @Test func fieldsThatAreNotAnnounced() async throws {
            try await cluster.sessions { sessions in
                let block = [UInt8](repeating: 0, count: 512)
                let protected = try sessions[0].send(.compareAndWrite(0, expected: block, new: block, flags: 0x20))
                #expect(protected.sense?.additional == 0x2400)
                let long = try sessions[0].send(.compareAndWrite(0, expected: block + block, new: block + block))
                #expect(long.sense?.additional == 0x2400)
            }
        }
    }
}
