// SPDX-License-Identifier: Apache-2.0
import ClusterModel
import RBD
import Rados

/// Whether an image can be exported by several gateways at once.
public enum ImageCheck {
    /// Smallest image that makes sense as a disk: 1 MiB, in bytes.
    public static let smallest: UInt64 = 1 << 20

    /// What keeps an image from being shared, each with its remedy. Empty: nothing.
    public static func faults(_ info: ImageInfo) -> [String] {
        var out: [String] = []
        let name = info.spec.description
        if !info.features.preventingSharing.isEmpty {
            let names = info.features.preventingSharing.names.joined(separator: ", ")
            let removable = info.features.namesToDisableForSharing
            out.append(
                "image \(name) has \(names): only one gateway at a time could write it. "
                    + (removable.isEmpty
                        ? "Close its cache first: stop what has it open"
                        : "Fix: rbd feature disable \(name) \(removable.joined(separator: " "))"))
        }
        if info.features.contains(.migrating) {
            out.append("image \(name) is being migrated. Wait, or: rbd migration commit \(name)")
        }
        if info.features.contains(.nonPrimary) {
            out.append(
                "image \(name) is a mirror of another cluster's and read-only. Fix: rbd mirror image promote \(name)")
        }
        if info.size < smallest {
            out.append(
                "image \(name) is too small: \(info.size) bytes, at least 1 MiB is needed. Fix: rbd resize --size 1G \(name)"
            )
        } else if info.size % 512 != 0 {
            let up = (info.size / (1 << 20) + 1)
            out.append(
                "image \(name) has \(info.size) bytes, which is no whole number of 512-byte blocks. "
                    + "Fix: rbd resize --size \(up)M \(name)")
        }
        return out
    }

    /// What someone else's lock on the image says, or nil. Nobody looks at locks of an image without `exclusive-lock`, but
    /// who took one believes to be alone.
    public static func lockFault(_ info: ImageInfo) -> String? {
        guard !info.lockOwners.isEmpty, !info.features.contains(.exclusiveLock) else { return nil }
        let name = info.spec.description
        let owners = info.lockOwners.map { "\($0.name)\($0.address.map { " at \($0)" } ?? "") (lock \"\($0.cookie)\")" }
        let first = info.lockOwners.first
        return "image \(name) is locked by \(owners.joined(separator: ", ")), which believes to be alone with it. "
            + "Stop it, or remove the lock: rbd lock rm \(name) \(quoted(first?.cookie ?? "ID")) \(first?.name ?? "LOCKER")"
    }

    /// That this client may not write to the pool that has the image's data, if that is another one (`rbd create --data-pool`);
    /// nil if it may. The kernel would map the image, and then each command fail.
    static func dataPoolFault(_ info: ImageInfo, in cluster: Cluster) async throws(RadosError) -> String? {
        guard let data = info.dataPool else { return nil }
        do {
            // Allowed, it finds no such object.
            var nothing = WriteOperation()
            nothing.assertExists()
            nothing.remove()
            _ = try await cluster.pool(data, namespace: info.spec.namespace).execute(nothing, on: "clio.probe")
        } catch {
            switch error.kind {
            case .notFound: return nil
            case .notPermitted: break
            default: throw error
            }
        }
        return "image \(info.spec) has its data in pool \(data), which client.\(cluster.options.id) may not write to. "
            + "Fix, as an administrator: clio group init --image-pool \(data); gateways that run have it after clio node down "
            + "and up"
    }

    private static func quoted(_ text: String) -> String {
        text.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "-_.".contains($0)) } ? text : "'\(text)'"
    }

    /// Looks up the images of a group.
    ///
    /// - Parameter allowingMissing: whether an image, or its pool, that is not there is no problem.
    /// - Returns: what each image is, by its name in the group; and what keeps LUNs from being used, with their paths.
    /// - Throws: an error that concerns the cluster as a whole: it does not answer, or refuses the client.
    public static func look(
        at group: Group, in cluster: Cluster, allowingMissing: Bool = false
    ) async throws -> (images: [String: ImageInfo], poolIDs: [String: Int64], problems: [Problem]) {
        var images: [String: ImageInfo] = [:]
        var pools: [String: Int64] = [:]
        var problems: [Problem] = []
        let names = group.luns.map { try? ImageName(parsing: $0.image) }
        for found in await find(names, in: cluster) {
            let name = found.name
            let path = "luns[\(found.index)].image"
            do {
                let info = try found.result.get()
                if pools[name.pool] == nil { pools[name.pool] = try await cluster.pool(name.pool).id }
                images[group.luns[found.index].image] = info
                let split = try await dataPoolFault(info, in: cluster)
                problems += (faults(info) + (split.map { [$0] } ?? [])).map { Problem(path: path, message: $0) }
            } catch let error as RBDError {
                guard let text = missing(name, error) else { throw error }
                if allowingMissing { continue }
                problems.append(Problem(path: path, message: text))
            }
        }
        return (images, pools, problems)
    }

    /// How many images are looked at side by side: each takes a dozen round trips.
    private static let atOnce = 16

    /// One of several images, and what is known of it.
    struct Found: Sendable {
        let index: Int
        let name: ImageName
        let result: Result<ImageInfo, RBDError>

        init(_ index: Int, _ name: ImageName, in cluster: Cluster) async {
            self.index = index
            self.name = name
            do throws(RBDError) {
                result = .success(try await ImageCheck.info(of: name, in: cluster))
            } catch {
                result = .failure(error)
            }
        }

        /// Whether the cluster as a whole is at fault.
        var isFatal: Bool { if case .failure(let error) = result { missing(name, error) == nil } else { false } }
    }

    /// What is known of each, in their order, up to the first that has another error than ``missing(_:_:)``'s.
    static func find(_ names: [ImageName?], in cluster: Cluster) async -> [Found] {
        await withTaskGroup(of: Found.self) { tasks in
            var found: [Found] = []
            var (running, isFatal) = (0, false)
            for (index, name) in names.enumerated() {
                guard let name, !isFatal else { continue }
                if running == atOnce, let next = await tasks.next() {
                    running -= 1
                    isFatal = next.isFatal
                    found.append(next)
                }
                running += 1
                tasks.addTask { await Found(index, name, in: cluster) }
            }
            for await next in tasks { found.append(next) }
            return found.sorted { $0.index < $1.index }
        }
    }

    /// Of these images, those that are there and can be shared.
    static func identities(of images: [String], in cluster: Cluster) async throws -> [String: ImageIdentity] {
        var out: [String: ImageIdentity] = [:]
        for image in images {
            guard let name = try? ImageName(parsing: image), let info = try? await info(of: name, in: cluster),
                faults(info).isEmpty
            else { continue }
            out[image] = ImageIdentity(poolID: try await cluster.pool(name.pool).id, imageID: info.id)
        }
        return out
    }

    /// What is known of one image.
    public static func info(of name: ImageName, in cluster: Cluster) async throws(RBDError) -> ImageInfo {
        try await Images.info(ImageSpec(pool: name.pool, namespace: name.namespace, name: name.image), of: cluster)
    }

    /// The words for an image or pool that is not there; nil for other errors.
    static func missing(_ name: ImageName, _ error: RBDError) -> String? {
        switch error.kind {
        case .poolNotFound: "pool \(name.pool) does not exist. Fix: ceph osd pool create \(name.pool), or name another"
        case .imageNotFound:
            "image \(name) does not exist. Fix: rbd create --size 10G --image-shared \(name), or name another"
        default: nil
        }
    }
}
