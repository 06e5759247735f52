// SPDX-License-Identifier: Apache-2.0

import CRBD
import CRados
import Rados
import SystemPackage

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// The images of a pool and namespace.
///
/// librbd's calls block: each call runs on a thread of its own, never on those of Swift's cooperative pool. They are
/// bounded by the cluster's timeouts, for each round trip.
public struct Images: Sendable {
    public let pool: Pool

    /// The images of this pool and namespace.
    public init(in pool: Pool) { self.pool = pool }

    /// An image's place in this pool.
    public func spec(_ name: String) -> ImageSpec {
        ImageSpec(pool: pool.name, namespace: pool.namespace, name: name)
    }

    /// What a gateway must know of an image anywhere in the cluster.
    ///
    /// - Throws: `poolNotFound`, `imageNotFound`, `notPermitted`, `timedOut`.
    public static func info(_ spec: ImageSpec, of cluster: Cluster) async throws(RBDError) -> ImageInfo {
        let pool: Pool
        do throws(RadosError) {
            pool = try await cluster.pool(spec.pool, namespace: spec.namespace)
        } catch {
            throw RBDError(error, image: spec.description)
        }
        return try await Images(in: pool).info(spec.name)
    }

    /// What a gateway must know of an image. It is opened read-only (`rbd_open_read_only`), which leaves no watch and
    /// takes no lock.
    ///
    /// - Throws: `imageNotFound`, `notPermitted`, `timedOut`.
    public func info(_ name: String) async throws(RBDError) -> ImageInfo {
        try await open(name, readOnly: true) { image throws(RBDError) -> ImageInfo in try image.info() }
    }

    /// The names of the images, in byte order (`rbd_list2`).
    public func list() async throws(RBDError) -> [String] {
        let pool = pool
        return try await Blocking.run(throwing: RBDError.self) { () throws(RBDError) -> [String] in
            var capacity = 64
            while true {
                var count = capacity
                var specs = [rbd_image_spec_t](repeating: rbd_image_spec_t(), count: capacity)
                let result = rbd_list2(pool.handle.raw, &specs, &count)
                if result == -ERANGE, count > capacity {
                    capacity = count
                    continue
                }
                guard result >= 0 else { throw RBDError("rbd_list2", "pool \(pool.name)", result) }
                defer { rbd_image_spec_list_cleanup(&specs, count) }
                return specs.prefix(count).compactMap { $0.name.map { String(cString: $0) } }.sorted()
            }
        }
    }

    // MARK: Making and changing

    /// Creates an image (`rbd_create4`).
    ///
    /// - Parameters:
    ///   - size: in bytes.
    ///   - features: exactly these; `[.layering]` is what several clients can write at once.
    ///   - order: size of an object as a power of two; nil for the cluster's default (22).
    ///   - striping: stripe unit in bytes, and count.
    ///   - dataPool: the name of the pool for the data, where that is to be another one.
    public func create(
        _ name: String, size: UInt64, features: ImageFeatures = [.layering], order: Int? = nil,
        striping: (unit: UInt64, count: UInt64)? = nil, dataPool: String? = nil
    ) async throws(RBDError) {
        let pool = pool
        let image = spec(name).description
        try await Blocking.run(throwing: RBDError.self) { () throws(RBDError) in
            let options = CreationOptions(
                features: features, order: order, striping: striping, dataPool: dataPool)
            let result = rbd_create4(pool.handle.raw, name, size, options.raw)
            guard result == 0 else { throw RBDError("rbd_create4", image, result) }
        }
    }

    /// Removes an image (`rbd_remove`). `inUse` while it has watchers or snapshots.
    public func remove(_ name: String) async throws(RBDError) {
        let pool = pool
        let image = spec(name).description
        try await Blocking.run(throwing: RBDError.self) { () throws(RBDError) in
            let result = rbd_remove(pool.handle.raw, name)
            guard result == 0 else { throw RBDError("rbd_remove", image, result) }
        }
    }

    /// Changes an image's size in bytes (`rbd_resize`). Shrinking loses what lies beyond.
    public func resize(_ name: String, to size: UInt64) async throws(RBDError) {
        try await open(name) { image throws(RBDError) in
            try image.check("rbd_resize", rbd_resize(image.raw, size))
        }
    }

    /// Makes a snapshot (`rbd_snap_create`); `protect` allows clones of the old format too.
    public func createSnapshot(_ snapshot: String, of name: String, protect: Bool = false) async throws(RBDError) {
        try await open(name) { image throws(RBDError) in
            try image.check("rbd_snap_create", rbd_snap_create(image.raw, snapshot), snapshot: snapshot)
            if protect {
                try image.check("rbd_snap_protect", rbd_snap_protect(image.raw, snapshot), snapshot: snapshot)
            }
        }
    }

    /// Removes a snapshot (`rbd_snap_remove`), unprotecting it first. `inUse` while it has clones.
    public func removeSnapshot(_ snapshot: String, of name: String) async throws(RBDError) {
        try await open(name) { image throws(RBDError) in
            let unprotected = rbd_snap_unprotect(image.raw, snapshot)
            if unprotected != -EINVAL {
                try image.check("rbd_snap_unprotect", unprotected, snapshot: snapshot)
            }
            try image.check("rbd_snap_remove", rbd_snap_remove(image.raw, snapshot), snapshot: snapshot)
        }
    }

    /// Clones a snapshot of an image of this pool into this pool or another (`rbd_clone3`).
    public func clone(
        _ name: String, snapshot: String, to clone: String, in other: Images? = nil,
        features: ImageFeatures = [.layering], order: Int? = nil
    ) async throws(RBDError) {
        let parent = pool
        let child = other?.pool ?? pool
        let image = "\(spec(name))@\(snapshot)"
        try await Blocking.run(throwing: RBDError.self) { () throws(RBDError) in
            let options = CreationOptions(features: features, order: order, striping: nil, dataPool: nil)
            let result = rbd_clone3(
                parent.handle.raw, name, snapshot, child.handle.raw, clone, options.raw)
            guard result == 0 else { throw RBDError("rbd_clone3", image, result) }
        }
    }

    /// Makes a clone independent of its parent (`rbd_flatten`).
    public func flatten(_ name: String) async throws(RBDError) {
        try await open(name) { image throws(RBDError) in
            try image.check("rbd_flatten", rbd_flatten(image.raw))
        }
    }

    /// Switches features on or off (`rbd_update_features`).
    public func update(_ features: ImageFeatures, enabled: Bool, of name: String) async throws(RBDError) {
        try await open(name) { image throws(RBDError) in
            try image.check(
                "rbd_update_features", rbd_update_features(image.raw, features.rawValue, enabled ? 1 : 0))
        }
    }

    /// Takes the advisory lock (`rbd lock`) of the image with this id shared, until somebody removes it. As `rbd_lock_shared`
    /// does, but by `rados_lock_shared`: no client has to open the image for writing, and its name does not matter.
    ///
    /// - Throws: `inUse` while there is one with another tag, or an exclusive one; `alreadyExists` if this client has it.
    public func lockShared(id: String, cookie: String, tag: String) async throws(RBDError) {
        try await onLock(of: id, "rados_lock_shared") {
            rados_lock_shared($0, $1, Self.lockName, cookie, tag, "", nil, 0)
        }
    }

    /// Removes an advisory lock that this client has taken (`rados_unlock`).
    public func unlock(id: String, cookie: String) async throws(RBDError) {
        try await onLock(of: id, "rados_unlock") { rados_unlock($0, $1, Self.lockName, cookie) }
    }

    /// Removes an advisory lock that `owner` has taken, by `rados_break_lock`: `rbd_break_lock` has the owner blocklisted, too.
    public func breakLock(id: String, of owner: ImageClient) async throws(RBDError) {
        try await onLock(of: id, "rados_break_lock") {
            rados_break_lock($0, $1, Self.lockName, owner.name, owner.cookie)
        }
    }

    /// Who holds the advisory lock of the image with this id, and what shared ones have in common (`rados_list_lockers`).
    public func locks(id: String) async throws(RBDError) -> (owners: [ImageClient], tag: String?) {
        let pool = pool
        return try await Blocking.run(throwing: RBDError.self) {
            () throws(RBDError) -> (owners: [ImageClient], tag: String?) in
            let found = try Lockers("rados_list_lockers", "image \(id) in \(pool.name)") { list in
                rados_list_lockers(
                    pool.handle.raw, Self.header(id), Self.lockName, &list.exclusive, &list.tag, &list.tagLength,
                    &list.clients, &list.clientsLength, &list.cookies, &list.cookiesLength, &list.addresses,
                    &list.addressesLength)
            }
            return (found.owners, found.heldTag)
        }
    }

    /// What `rbd_types.h` calls RBD_LOCK_NAME.
    private static let lockName = "rbd_lock"

    private static func header(_ id: String) -> String { "rbd_header.\(id)" }

    private func onLock(
        of id: String, _ operation: String, _ body: @escaping @Sendable (rados_ioctx_t, String) -> Int32
    ) async throws(RBDError) {
        let pool = pool
        try await Blocking.run(throwing: RBDError.self) { () throws(RBDError) in
            let result = body(pool.handle.raw, Self.header(id))
            guard result == 0 else { throw RBDError(operation, "\(pool.name), id \(id)", result) }
        }
    }

    /// Writes bytes into an image (`rbd_write`).
    public func write(_ bytes: [UInt8], at offset: UInt64, of name: String) async throws(RBDError) {
        try await open(name) { image throws(RBDError) -> Void in
            let count: Int = bytes.withUnsafeBytes {
                rbd_write(image.raw, offset, $0.count, $0.bindMemory(to: CChar.self).baseAddress)
            }
            guard count == bytes.count else {
                throw RBDError("rbd_write", image.name, count < 0 ? Int32(clamping: count) : -EIO)
            }
        }
    }

    /// Reads bytes of an image (`rbd_read`); fewer at its end.
    public func read(at offset: UInt64, length: Int, of name: String) async throws(RBDError) -> [UInt8] {
        try await open(name, readOnly: true) { image throws(RBDError) -> [UInt8] in
            var bytes = [UInt8](repeating: 0, count: length)
            let count: Int = bytes.withUnsafeMutableBytes {
                rbd_read(image.raw, offset, $0.count, $0.bindMemory(to: CChar.self).baseAddress)
            }
            guard count >= 0 else { throw RBDError("rbd_read", image.name, Int32(clamping: count)) }
            return Array(bytes.prefix(count))
        }
    }

    /// Runs `body` with the image open, on a thread of its own.
    private func open<Value: Sendable>(
        _ name: String, readOnly: Bool = false,
        _ body: @escaping @Sendable (OpenImage) throws(RBDError) -> Value
    ) async throws(RBDError) -> Value {
        let images = self
        return try await Blocking.run(throwing: RBDError.self) { () throws(RBDError) -> Value in
            let image = try OpenImage(images, name, readOnly: readOnly)
            let value: Value
            do throws(RBDError) {
                value = try body(image)
            } catch {
                _ = rbd_close(image.raw)
                throw error
            }
            try image.check("rbd_close", rbd_close(image.raw))
            return value
        }
    }
}

/// Options of `rbd_create4` and `rbd_clone3`.
private struct CreationOptions: ~Copyable {
    private(set) var raw: rbd_image_options_t?

    init(features: ImageFeatures, order: Int?, striping: (unit: UInt64, count: UInt64)?, dataPool: String?) {
        rbd_image_options_create(&raw)
        // The options only refuse what is none of theirs; a wrong value is refused when the image is made.
        set(RBD_IMAGE_OPTION_FEATURES, features.rawValue)
        if let order { set(RBD_IMAGE_OPTION_ORDER, UInt64(order)) }
        if let striping {
            set(RBD_IMAGE_OPTION_STRIPE_UNIT, striping.unit)
            set(RBD_IMAGE_OPTION_STRIPE_COUNT, striping.count)
        }
        if let dataPool { rbd_image_options_set_string(raw, Int32(RBD_IMAGE_OPTION_DATA_POOL), dataPool) }
    }

    private func set(_ option: Int, _ value: UInt64) {
        rbd_image_options_set_uint64(raw, Int32(option), value)
    }

    deinit { rbd_image_options_destroy(raw) }
}

/// What `rbd_list_lockers` and `rados_list_lockers` fill in, which are alike.
private struct Lockers {
    var exclusive: Int32 = 0
    var tag: [CChar] = []
    var clients: [CChar] = []
    var cookies: [CChar] = []
    var addresses: [CChar] = []
    var (tagLength, clientsLength, cookiesLength, addressesLength) = (0, 0, 0, 0)
    private(set) var owners: [ImageClient] = []

    var isExclusive: Bool { !owners.isEmpty && exclusive != 0 }
    /// `nil` if nobody holds the lock, or without a tag.
    var heldTag: String? { owners.isEmpty || tag.first == 0 ? nil : text(tag) }

    /// - Parameter list: the call; `-ERANGE` has it done again with more room.
    init(_ operation: String, _ image: String, _ list: (inout Lockers) -> Int) throws(RBDError) {
        var capacity = 4096
        while true {
            tag = [CChar](repeating: 0, count: capacity)
            (clients, cookies, addresses) = (tag, tag, tag)
            (tagLength, clientsLength, cookiesLength, addressesLength) = (capacity, capacity, capacity, capacity)
            let count = list(&self)
            if count == -Int(ERANGE), capacity < 1 << 20 {
                capacity *= 4
                continue
            }
            guard count >= 0 else { throw RBDError(operation, image, Int32(clamping: count)) }
            owners = zip(strings(clients, count), zip(strings(cookies, count), strings(addresses, count))).map {
                ImageClient(name: $0, address: $1.1.isEmpty ? nil : $1.1, cookie: $1.0)
            }
            return
        }
    }
}

/// An image that is open, for the time of one call on one thread.
private struct OpenImage {
    let images: Images
    let spec: ImageSpec
    let raw: rbd_image_t

    var name: String { spec.description }

    init(_ images: Images, _ name: String, readOnly: Bool) throws(RBDError) {
        self.images = images
        spec = images.spec(name)
        var image: rbd_image_t?
        let result =
            readOnly
            ? rbd_open_read_only(images.pool.handle.raw, name, &image, nil)
            : rbd_open(images.pool.handle.raw, name, &image, nil)
        guard result == 0, let image else {
            throw RBDError(readOnly ? "rbd_open_read_only" : "rbd_open", spec.description, result)
        }
        raw = image
    }

    func check(_ operation: String, _ result: Int32, snapshot: String? = nil) throws(RBDError) {
        guard result >= 0 else { throw RBDError(operation, snapshot.map { "\(name)@\($0)" } ?? name, result) }
    }

    func info() throws(RBDError) -> ImageInfo {
        var status = rbd_image_info_t()
        try check("rbd_stat", rbd_stat(raw, &status, MemoryLayout<rbd_image_info_t>.size))
        var id = [CChar](repeating: 0, count: 256)
        try check("rbd_get_id", rbd_get_id(raw, &id, id.count))
        var features: UInt64 = 0
        try check("rbd_get_features", rbd_get_features(raw, &features))
        var stripeUnit: UInt64 = 0
        try check("rbd_get_stripe_unit", rbd_get_stripe_unit(raw, &stripeUnit))
        var stripeCount: UInt64 = 0
        try check("rbd_get_stripe_count", rbd_get_stripe_count(raw, &stripeCount))
        let set = ImageFeatures(rawValue: features)
        var info = ImageInfo(
            spec: spec, id: text(id), size: status.size, features: set, order: Int(status.order),
            stripeUnit: stripeUnit, stripeCount: stripeCount)
        if set.contains(.dataPool) {
            let pool = rbd_get_data_pool_id(raw)
            info.dataPoolID = pool
            info.dataPool = poolName(pool)
        }
        info.parent = try parent()
        let lock = try lockers()
        (info.lockOwners, info.lockIsExclusive, info.lockTag) = (lock.owners, lock.isExclusive, lock.heldTag)
        info.watchers = try watchers()
        return info
    }

    private func poolName(_ id: Int64) -> String? {
        var buffer = [CChar](repeating: 0, count: 256)
        let cluster = rados_ioctx_get_cluster(images.pool.handle.raw)
        return rados_pool_reverse_lookup(cluster, id, &buffer, buffer.count) > 0 ? text(buffer) : nil
    }

    private func parent() throws(RBDError) -> ImageParent? {
        var image = rbd_linked_image_spec_t()
        var snapshot = rbd_snap_spec_t()
        let result = rbd_get_parent(raw, &image, &snapshot)
        if result == -ENOENT { return nil }
        try check("rbd_get_parent", result)
        defer {
            rbd_linked_image_spec_cleanup(&image)
            rbd_snap_spec_cleanup(&snapshot)
        }
        var overlap: UInt64 = 0
        try check("rbd_get_overlap", rbd_get_overlap(raw, &overlap))
        return ImageParent(
            image: ImageSpec(
                pool: text(image.pool_name), namespace: text(image.pool_namespace), name: text(image.image_name)),
            id: text(image.image_id), snapshot: text(snapshot.name), overlap: overlap, trashed: image.trash)
    }

    /// Lock holders (`rbd_list_lockers`), which knows addresses; managed locks show here too.
    private func lockers() throws(RBDError) -> Lockers {
        try Lockers("rbd_list_lockers", name) { list in
            rbd_list_lockers(
                raw, &list.exclusive, &list.tag, &list.tagLength, &list.clients, &list.clientsLength, &list.cookies,
                &list.cookiesLength, &list.addresses, &list.addressesLength)
        }
    }

    private func watchers() throws(RBDError) -> [ImageClient] {
        var capacity = 16
        while true {
            var count = capacity
            var list = [rbd_image_watcher_t](repeating: rbd_image_watcher_t(), count: capacity)
            let result = rbd_watchers_list(raw, &list, &count)
            if result == -ERANGE, count > capacity {
                capacity = count
                continue
            }
            try check("rbd_watchers_list", result)
            defer { rbd_watchers_list_cleanup(&list, count) }
            return list.prefix(count).map {
                ImageClient(name: "client.\($0.id)", address: text($0.addr), cookie: String($0.cookie))
            }
        }
    }
}

/// Text librbd wrote into a buffer.
private func text(_ buffer: [CChar]) -> String {
    String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
}

private func text(_ pointer: UnsafeMutablePointer<CChar>?) -> String {
    pointer.map { String(cString: $0) } ?? ""
}

/// The first `count` of the strings that stand one after the other in a buffer, each ended by a NUL.
func strings(_ buffer: [CChar], _ count: Int) -> [String] {
    var found: [String] = []
    var rest = buffer[...]
    while found.count < count, let end = rest.firstIndex(of: 0) {
        found.append(String(decoding: rest[..<end].map(UInt8.init(bitPattern:)), as: UTF8.self))
        rest = rest[(end + 1)...]
    }
    return found
}
