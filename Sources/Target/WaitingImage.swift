// SPDX-License-Identifier: Apache-2.0
import ClusterModel
import SystemPackage

/// A mapped image, and the OSDs that its requests wait for.
public struct WaitingImage: Sendable, Hashable {
    /// `pool/image`, or the disk's name if it is not mapped any more.
    public var name: String
    /// Numbers of requests in flight by OSD; empty if the kernel does not tell.
    public var requests: [Int: Int]

    /// Counts an image's requests by OSD.
    ///
    /// - Parameter text: debugfs' `ceph/<client>/osdc`. Of the section `REQUESTS` each line has the request's number, the OSD
    ///   (`osd-1` if there is none) and, further on, the object (net/ceph/debugfs.c).
    static func requests(of imageID: String, in text: String) -> [Int: Int] {
        var found: [Int: Int] = [:]
        var isRequests = false
        for line in text.split(separator: "\n") {
            let fields = line.split(whereSeparator: \.isWhitespace)
            guard fields.count > 2, fields[0].allSatisfy(\.isNumber) else {
                isRequests = line.hasPrefix("REQUESTS ")
                continue
            }
            guard isRequests, fields[1].hasPrefix("osd"), let osd = Int(fields[1].dropFirst(3)) else { continue }
            // rbd_data.<id>.<number>, with the pool's number before the id for a data pool; clio.scsi.<id>.
            let isOf = fields.dropFirst(2).contains { ".\($0).".contains(".\(imageID).") }
            if isOf { found[osd, default: 0] += 1 }
        }
        return found
    }
}

extension Gateway {
    /// The image that a disk is, such as `rbd0`, and what it waits for.
    public func waitingImage(_ disk: String) -> WaitingImage {
        guard let mapping = rbd.mapping(at: "/dev/\(disk)") else { return WaitingImage(name: disk, requests: [:]) }
        let name = ImageName(pool: mapping.pool, namespace: mapping.namespace, image: mapping.image)
        let clients = FilePath("/sys/kernel/debug/ceph")
        var requests: [Int: Int] = [:]
        for client in SystemFiles.list(clients) {
            guard let text = SystemFiles.text(clients.appending(client).appending("osdc")) else { continue }
            requests.merge(WaitingImage.requests(of: mapping.imageID, in: text), uniquingKeysWith: +)
        }
        return WaitingImage(name: name.description, requests: requests)
    }
}
