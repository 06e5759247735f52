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

    /// Why the image cannot be the group's, with the remedy; `nil`: it is, or may become so.
    ///
    /// - Parameter members: addresses of the group's own Ceph clients; whoever else has the image open for writing keeps it from
    ///   becoming the group's.
    func fault(_ info: ImageInfo, members: Set<String>) -> String? {
        if info.lockTag == tag { return nil }
        if let other = info.lockTag, other.hasPrefix(Self.prefix) {
            let name = info.spec.description
            let locks = info.lockOwners.map { "rbd lock rm \(name) \($0.cookie) \($0.name)" }
            return
                "image \(name) belongs to group \(other.dropFirst(Self.prefix.count)): take it out of that group (clio lun "
                + "remove), or, if that has no such LUN: \(locks.joined(separator: "; "))"
        }
        return ImageCheck.lockFault(info) ?? stranger(info, members)
    }

    private func stranger(_ info: ImageInfo, _ members: Set<String>) -> String? {
        guard let other = info.watchers.first(where: { !($0.address.map(members.contains) ?? false) }) else {
            return nil
        }
        let place = other.address.map { " at \($0)" } ?? ""
        return
            "image \(info.spec) is open by \(other.name)\(place), which is no gateway of this group: its writes would go "
            + "past all gateways. Unmap or close it there; of a client that has died it is known after 30 s (rbd status "
            + "\(info.spec))"
    }

    /// What keeps an image from being the group's.
    struct Refused: Error, CustomStringConvertible { let description: String }

    /// Makes the image the group's, unless it is.
    ///
    /// - Returns: whether it was not.
    /// - Throws: ``Refused``, `RBDError`.
    func take(_ info: ImageInfo, members: Set<String>, in cluster: Cluster) async throws -> Bool {
        if let text = fault(info, members: members) { throw Refused(description: text) }
        if info.lockTag == tag { return false }
        let images = Images(in: try await cluster.pool(info.spec.pool, namespace: info.spec.namespace))
        do {
            try await images.lockShared(id: info.id, cookie: Self.cookie, tag: tag)
        } catch {
            // Somebody was faster; of the same group, all is well.
            guard error.kind == .inUse else { throw error }
            let text = fault(try await images.info(info.spec.name), members: members)
            if let text { throw Refused(description: text) }
        }
        return true
    }

    /// Makes images the group's that are new to it, all or none.
    ///
    /// - Returns: those that were not, for ``giveBack(_:in:)``.
    /// - Throws: `InvalidGroup` with what keeps them from being the group's; `RBDError`.
    public func take(
        _ names: [ImageName], members: Set<String>, in cluster: Cluster, dryRun: Bool
    ) async throws -> [ImageInfo] {
        var problems: [Problem] = []
        var free: [ImageInfo] = []
        for found in await ImageCheck.find(names, in: cluster) {
            let info = try found.result.get()
            if let text = fault(info, members: members) { problems.append(Problem(path: "", message: text)) }
            free.append(info)
        }
        guard problems.isEmpty else { throw InvalidGroup(problems) }
        if dryRun { return [] }
        var taken: [ImageInfo] = []
        do {
            for info in free where try await take(info, members: members, in: cluster) { taken.append(info) }
        } catch {
            await giveBack(taken, in: cluster)
            throw (error as? Refused).map { InvalidGroup([Problem(path: "", message: $0.description)]) } ?? error
        }
        return taken
    }

    /// Undoes ``take(_:members:in:dryRun:)`` of this client, and nobody else's of the same group.
    public func giveBack(_ taken: [ImageInfo], in cluster: Cluster) async {
        for info in taken {
            let images = try? await cluster.pool(info.spec.pool, namespace: info.spec.namespace)
            try? await images.map(Images.init)?.unlock(id: info.id, cookie: Self.cookie)
        }
    }

    /// Gives up the images of LUNs that the group no longer has, whatever they are called now.
    ///
    /// - Returns: why some of them still count as the group's.
    public func release(_ luns: [LogicalUnit], in cluster: Cluster) async -> [String] {
        var problems: [String] = []
        for lun in luns {
            guard let name = try? ImageName(parsing: lun.image), let id = lun.imageID else { continue }
            do {
                let images = Images(in: try await cluster.pool(name.pool, namespace: name.namespace))
                let lock = try await images.locks(id: id)
                guard lock.tag == tag else { continue }
                for owner in lock.owners { try await images.breakLock(id: id, of: owner) }
            } catch let error as RBDError where error.kind == .imageNotFound {
                // It went, and its lock with it.
            } catch {
                problems.append("image \(name) still counts as this group's (rbd lock ls \(name)): \(error)")
            }
        }
        return problems
    }
}
