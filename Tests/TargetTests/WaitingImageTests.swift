// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import Target

struct WaitingImageTests {
    /// As debugfs has it: the kernel's net/ceph/debugfs.c.
    private let osdc = """
        REQUESTS 4 homeless 1
        98\tosd2\t1.7bf2d9a3\t1.23\t[2]/2\t[2]/2\te41\trbd_data.10b36b8b4567.0000000000000007\t0x400024\t1\twrite
        99\tosd2\t1.7bf2d9a4\t1.24\t[2]/2\t[2]/2\te41\trbd_data.10b36b8b45.0000000000000007\t0x400024\t1\twrite
        100\tosd0\t3.1\t3.1\t[0]/0\t[0]/0\te41\tspace/rbd_data.2.10b36b8b4567.0000000000000001\t0x400024\t1\twrite
        101\tosd-1\t1.2\t1.2\t[]/-1\t[]/-1\te41\tclio.scsi.10b36b8b4567\t0x400024\t0\tcmpext,writefull
        LINGER REQUESTS
        18446462598732840961\tosd1\t1.3\t1.3\t[1]/1\t[1]/1\te41\trbd_header.10b36b8b4567\t0x20\tWC/0
        BACKOFFS
        """

    @Test func requestsAreCountedByOSD() {
        #expect(WaitingImage.requests(of: "10b36b8b4567", in: osdc) == [2: 1, 0: 1, -1: 1])
        #expect(WaitingImage.requests(of: "10b36b8b45", in: osdc) == [2: 1])
        #expect(WaitingImage.requests(of: "10b3", in: osdc) == [:])
        #expect(WaitingImage.requests(of: "10b3", in: "") == [:])
    }
}
