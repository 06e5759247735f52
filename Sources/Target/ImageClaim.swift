// SPDX-License-Identifier: Apache-2.0
import ClusterModel
import RBD
import Rados

/// A group's hold on its images: an image that two groups served would have two sets of nodes that know nothing of each
/// other's writes, events and fencing.
///
/// It is the image's advisory lock (`rbd lock ls`), shared, whose tag names the group: the OSD refuses one with another
/// tag. It stays when whoever took it is gone, and goes with the LUN.
public struct ImageClaim: Sendable {
    private let owner: String
    private var tag: String { Self.prefix + owner }
    private static let prefix = "clio:"
    private static let cookie = "clio"

    /// - Parameter pool: where the group is kept: groups of other pools may have the same name.
    public init(group: String, pool: String) { owner = "\(pool)/\(group)" }

    /// Why the image cannot be the group's, with the remedy; `nil`: it is, or nobody has it.
    func fault(_ info: ImageInfo) -> String? {
        guard info.lockTag != tag else { return nil }
        guard let other = info.lockTag, other.hasPrefix(Self.prefix), let lock = info.lockOwners.first else {
            return ImageCheck.lockFault(info)
        }
        let name = info.spec.description
        return
            "image \(name) belongs to group \(other.dropFirst(Self.prefix.count)), which serves it. Take it out of that "
            + "group (clio lun remove), or, if there is no such group any more: rbd lock rm \(name) \(lock.cookie) \(lock.name)"
    }

    /// Who else has the image open for writing, with the remedy; `nil`: nobody.
    ///
    /// - Parameter members: addresses of the group's own Ceph clients.
    func stranger(_ info: ImageInfo, members: Set<String>) -> String? {
        guard info.lockTag != tag,
            let other = info.watchers.first(where: { !($0.address.map(members.contains) ?? false) })
        else { return nil }
        let place = other.address.map { " at \($0)" } ?? ""
        return
            "image \(info.spec) is open by \(other.name)\(place), which is no gateway of this group: its writes would go "
            + "past all gateways. Unmap or close it there; of a client that has died it is known after 30 s (rbd status "
            + "\(info.spec))"
    }

    /// Takes the image for the group, unless it has it.
    ///
    /// - Throws: `RBDError`, of kind `inUse` if another has taken it meanwhile.
    func take(_ info: ImageInfo, in cluster: Cluster) async throws {
        guard info.lockTag != tag else { return }
        try await images(info.spec, cluster).lockShared(info, cookie: Self.cookie, tag: tag)
    }

    /// Takes images that are new to the group, all or none.
    ///
    /// - Returns: those that it did not have.
    /// - Throws: `InvalidGroup` with what keeps them from being the group's.
    public func take(
        _ names: [ImageName], members: Set<String>, in cluster: Cluster, dryRun: Bool
    ) async throws -> [ImageInfo] {
        var problems: [Problem] = []
        var free: [ImageInfo] = []
        for (_, result) in await ImageCheck.infos(of: names, in: cluster) {
            let info = try result.get()
            if let text = fault(info) ?? stranger(info, members: members) {
                problems.append(Problem(path: "", message: text))
            } else if info.lockTag != tag {
                free.append(info)
            }
        }
        guard problems.isEmpty else { throw InvalidGroup(problems) }
        if dryRun { return [] }
        for (i, info) in free.enumerated() {
            do {
                try await take(info, in: cluster)
            } catch {
                await giveBack(Array(free[..<i]), in: cluster)
                throw error
            }
        }
        return free
    }

    /// Undoes ``take(_:members:in:dryRun:)`` of this client, and nobody else's of the same group.
    public func giveBack(_ taken: [ImageInfo], in cluster: Cluster) async {
        for info in taken { try? await images(info.spec, cluster).unlock(info, cookie: Self.cookie) }
    }

    /// Gives up images that are no longer the group's. One that cannot be reached stays taken: ``fault(_:)`` of another
    /// group's says how to free it.
    public func release(_ names: [ImageName], in cluster: Cluster) async {
        for name in names {
            let spec = ImageSpec(pool: name.pool, namespace: name.namespace, name: name.image)
            try? await release(spec, in: cluster)
        }
    }

    private func release(_ spec: ImageSpec, in cluster: Cluster) async throws {
        let images = try await images(spec, cluster)
        let info = try await images.info(spec.name)
        guard info.lockTag == tag else { return }
        for lock in info.lockOwners { try await images.breakLock(info, of: lock) }
    }

    private func images(_ spec: ImageSpec, _ cluster: Cluster) async throws -> Images {
        Images(in: try await cluster.pool(spec.pool, namespace: spec.namespace))
    }
}
