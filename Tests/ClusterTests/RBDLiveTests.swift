// SPDX-License-Identifier: Apache-2.0

import RBD
import Rados
import Testing

@Suite("RBD against a real cluster", .enabled(if: LiveCeph.isGiven, Comment(rawValue: LiveCeph.note)))
struct RBDLiveTests {
    let cluster: Cluster
    let pool: Pool
    let images: Images

    init() async throws {
        cluster = try await LiveCeph.connect()
        pool = try await cluster.pool("rbd")
        images = Images(in: pool)
    }

    private func withImage(
        size: UInt64 = 64 << 20, features: ImageFeatures = [.layering], _ body: (String) async throws -> Void
    ) async throws {
        let name = LiveCeph.unique("clio-test")
        try await images.create(name, size: size, features: features)
        do {
            try await body(name)
        } catch {
            try? await images.remove(name)
            throw error
        }
        try await images.remove(name)
    }

    private func error(_ body: () async throws -> Void) async -> RBDError? {
        do {
            try await body()
            return nil
        } catch { return error as? RBDError }
    }

    @Test func plainImage() async throws {
        try await withImage { name in
            let info = try await images.info(name)
            #expect(info.spec == ImageSpec(pool: "rbd", name: name))
            #expect(!info.id.isEmpty)
            #expect(info.size == 64 << 20)
            #expect(info.features == [.layering])
            #expect(info.features.namesToDisableForSharing == [])
            #expect(info.order == 22 && info.objectSize == 4 << 20)
            #expect(!info.isStriped && info.stripeUnit == 4 << 20 && info.stripeCount == 1)
            #expect(info.dataPoolID == nil && info.dataPool == nil)
            #expect(info.parent == nil)
            #expect(info.lockOwners == [] && !info.lockIsExclusive)
            #expect(info.watchers == [])
            #expect(try await Images.info(info.spec, of: cluster) == info)
            #expect(try await images.list().contains(name))

            try await images.resize(name, to: 32 << 20)
            let resized = try await images.info(name)
            #expect(resized.size == 32 << 20 && resized.id == info.id)
        }
    }

    /// Shared locks of one tag go together, and keep out those of another.
    @Test func sharedLocks() async throws {
        try await withImage { name in
            var info = try await images.info(name)
            try await images.lockShared(id: info.id, cookie: "one", tag: "a")
            try await images.lockShared(id: info.id, cookie: "two", tag: "a")
            #expect(await error { try await images.lockShared(id: info.id, cookie: "one", tag: "b") }?.kind == .inUse)
            #expect(
                await error { try await images.lockShared(id: info.id, cookie: "one", tag: "a") }?.kind
                    == .alreadyExists)
            info = try await images.info(name)
            #expect(
                info.lockTag == "a" && !info.lockIsExclusive && Set(info.lockOwners.map(\.cookie)) == ["one", "two"])
            let locks = try await images.locks(id: info.id)
            #expect(locks.tag == "a" && Set(locks.owners.map(\.name)) == Set(info.lockOwners.map(\.name)))
            #expect(Set(locks.owners.map(\.cookie)) == ["one", "two"])
            try await images.unlock(id: info.id, cookie: "one")
            for owner in try await images.locks(id: info.id).owners {
                try await images.breakLock(id: info.id, of: owner)
            }
            info = try await images.info(name)
            #expect(info.lockTag == nil && info.lockOwners == [])
            let none = try await images.locks(id: info.id)
            #expect(none.owners == [] && none.tag == nil)
        }
    }

    @Test func missing() async throws {
        let image = await error { _ = try await images.info("nothing") }
        #expect(image?.kind == .imageNotFound)
        #expect(image?.description.contains("there is no image rbd/nothing") == true)
        let pool = await error {
            _ = try await Images.info(ImageSpec(pool: "nowhere", name: "lun0"), of: cluster)
        }
        #expect(pool?.kind == .poolNotFound)
        #expect(pool?.description.contains("there is no pool for image nowhere/lun0") == true)
        let namespaced = await error {
            _ = try await Images.info(ImageSpec(pool: "rbd", namespace: "none", name: "lun0"), of: cluster)
        }
        #expect(namespaced?.kind == .imageNotFound)
        #expect(namespaced?.image == "rbd/none/lun0")
        #expect(await error { try await images.remove("nothing") }?.kind == .imageNotFound)
    }

    @Test func lockedImage() async throws {
        try await withImage(features: [.layering, .exclusiveLock, .objectMap, .fastDiff]) { name in
            let info = try await images.info(name)
            #expect(info.features.preventingSharing == [.exclusiveLock, .objectMap, .fastDiff])
            #expect(info.features.namesToDisableForSharing == ["fast-diff", "object-map", "exclusive-lock"])
            try await images.update([.fastDiff, .objectMap, .exclusiveLock], enabled: false, of: name)
            #expect(try await images.info(name).features.preventingSharing.isEmpty)
        }
    }

    @Test func stripedImage() async throws {
        let name = LiveCeph.unique("clio-test")
        try await images.create(
            name, size: 16 << 20, features: [.layering, .striping], order: 20, striping: (unit: 65536, count: 4))
        let info = try await images.info(name)
        #expect(info.order == 20)
        #expect(info.stripeUnit == 65536 && info.stripeCount == 4 && info.isStriped)
        #expect(info.features.contains(.striping))
        try await images.remove(name)
    }

    @Test func cloneKnowsItsParent() async throws {
        try await withImage { name in
            try await images.write([1, 2, 3], at: 0, of: name)
            try await images.createSnapshot("base", of: name, protect: true)
            let parent = try await images.info(name)
            let child = LiveCeph.unique("clio-clone")
            try await images.clone(name, snapshot: "base", to: child)
            let info = try await images.info(child)
            #expect(
                info.parent
                    == ImageParent(
                        image: ImageSpec(pool: "rbd", name: name), id: parent.id, snapshot: "base", overlap: 64 << 20))
            #expect(info.id != parent.id)
            #expect(try await images.read(at: 0, length: 4, of: child) == [1, 2, 3, 0])
            #expect(await error { try await images.removeSnapshot("base", of: name) }?.kind == .inUse)
            #expect(await error { try await images.remove(name) }?.kind == .inUse)
            try await images.flatten(child)
            #expect(try await images.info(child).parent == nil)
            try await images.remove(child)
            try await images.removeSnapshot("base", of: name)
        }
    }

    @Test func existsAlready() async throws {
        try await withImage { name in
            let error = await error { try await images.create(name, size: 1 << 20) }
            #expect(error?.kind == .alreadyExists)
            #expect(error?.image == "rbd/\(name)")
        }
    }

    @Test func dataPool() async throws {
        // Always the same pool: removing one is more than a test should ask of a cluster.
        let other = "clio-test-data"
        _ = try await cluster.monitorCommand("osd pool create", ["pool": .text(other), "pg_num": .number(1)])
        let name = LiveCeph.unique("clio-test")
        let data = try await cluster.pool(other)
        try await images.create(name, size: 8 << 20, dataPool: other)
        let info = try await images.info(name)
        #expect(info.features.contains(.dataPool))
        #expect(info.dataPoolID == data.id)
        #expect(info.dataPool == other)
        try await images.remove(name)
    }
}
