// SPDX-License-Identifier: Apache-2.0

/// An image's place: `pool/image` or `pool/namespace/image`.
public struct ImageSpec: Sendable, Hashable, CustomStringConvertible {
    public var pool: String
    /// "" is the pool's default namespace.
    public var namespace: String
    public var name: String

    public init(pool: String, namespace: String = "", name: String) {
        self.pool = pool
        self.namespace = namespace
        self.name = name
    }

    /// Reads `pool/image` or `pool/namespace/image`; nil for anything else, snapshots (`@`) included.
    public init?(_ text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        guard parts.count == 2 || parts.count == 3, !text.contains("@"), !parts.contains("") else { return nil }
        self.init(pool: parts[0], namespace: parts.count == 3 ? parts[1] : "", name: parts[parts.count - 1])
    }

    public var description: String {
        namespace.isEmpty ? "\(pool)/\(name)" : "\(pool)/\(namespace)/\(name)"
    }
}

/// Features of an image (`RBD_FEATURE_…` of rbd/features.h).
public struct ImageFeatures: OptionSet, Sendable, Hashable, CustomStringConvertible {
    public let rawValue: UInt64

    public init(rawValue: UInt64) { self.rawValue = rawValue }

    public static let layering = ImageFeatures(rawValue: 1 << 0)
    public static let striping = ImageFeatures(rawValue: 1 << 1)
    public static let exclusiveLock = ImageFeatures(rawValue: 1 << 2)
    public static let objectMap = ImageFeatures(rawValue: 1 << 3)
    public static let fastDiff = ImageFeatures(rawValue: 1 << 4)
    public static let deepFlatten = ImageFeatures(rawValue: 1 << 5)
    public static let journaling = ImageFeatures(rawValue: 1 << 6)
    public static let dataPool = ImageFeatures(rawValue: 1 << 7)
    public static let operations = ImageFeatures(rawValue: 1 << 8)
    public static let migrating = ImageFeatures(rawValue: 1 << 9)
    public static let nonPrimary = ImageFeatures(rawValue: 1 << 10)
    public static let dirtyCache = ImageFeatures(rawValue: 1 << 11)

    /// Names as `rbd` writes them, in the order of their bits.
    static let known: [(ImageFeatures, String)] = [
        (.layering, "layering"), (.striping, "striping"), (.exclusiveLock, "exclusive-lock"),
        (.objectMap, "object-map"), (.fastDiff, "fast-diff"), (.deepFlatten, "deep-flatten"),
        (.journaling, "journaling"), (.dataPool, "data-pool"), (.operations, "operations"),
        (.migrating, "migrating"), (.nonPrimary, "non-primary"), (.dirtyCache, "dirty-cache"),
    ]

    /// The features' names as `rbd` writes them, in the order of their bits; `bit 20` for one without a name.
    public var names: [String] {
        var names = Self.known.filter { contains($0.0) }.map(\.1)
        let rest = rawValue & ~Self.known.reduce(0) { $0 | $1.0.rawValue }
        for bit in 0..<64 where rest & (1 << UInt64(bit)) != 0 { names.append("bit \(bit)") }
        return names
    }

    public var description: String { names.joined(separator: ", ") }

    /// What lets one client at a time write: two gateways would bounce the lock (`RBD_FEATURES_SINGLE_CLIENT`).
    public static let singleClient: ImageFeatures = [.exclusiveLock, .objectMap, .fastDiff, .journaling, .dirtyCache]

    /// What can be taken off an image with `rbd feature disable`, in the order it has to be done: each of these needs
    /// the ones after it.
    static let removable: [ImageFeatures] = [.journaling, .fastDiff, .objectMap, .exclusiveLock]

    /// Those of ``singleClient`` that the image has.
    public var preventingSharing: ImageFeatures { intersection(.singleClient) }

    /// The features to name to `rbd feature disable` so that several clients can write, in an order it accepts.
    public var namesToDisableForSharing: [String] {
        Self.removable.filter { !intersection($0).isEmpty }.flatMap(\.names)
    }
}

/// The image, and the snapshot of it, that a clone was made from.
public struct ImageParent: Sendable, Hashable {
    public var image: ImageSpec
    /// The parent image's id.
    public var id: String
    public var snapshot: String
    /// Bytes from the start that the clone still shares with it (`rbd_get_overlap`).
    public var overlap: UInt64
    /// Whether the parent image lies in the trash.
    public var trashed: Bool

    public init(image: ImageSpec, id: String, snapshot: String, overlap: UInt64, trashed: Bool = false) {
        self.image = image
        self.id = id
        self.snapshot = snapshot
        self.overlap = overlap
        self.trashed = trashed
    }
}

/// One who has the image open for writing, or holds a lock on it.
public struct ImageClient: Sendable, Hashable {
    /// `client.4711`
    public var name: String
    /// `10.77.0.11:0/1234567890`, as the blocklist wants it; nil where Ceph does not say.
    public var address: String?
    /// Number or text that tells several watches or locks of one client apart.
    public var cookie: String

    public init(name: String, address: String?, cookie: String) {
        self.name = name
        self.address = address
        self.cookie = cookie
    }
}

/// What a gateway must know of an image.
public struct ImageInfo: Sendable, Hashable {
    public var spec: ImageSpec
    /// The image's id, which stays when it is renamed (`rbd_get_id`).
    public var id: String
    /// In bytes.
    public var size: UInt64
    public var features: ImageFeatures
    /// Size of an object as a power of two, 12…26 (4 MiB is 22).
    public var order: Int
    /// Bytes written to one object before the next one's turn; the object's size unless the image is striped.
    public var stripeUnit: UInt64
    /// Objects a stripe goes over; 1 unless the image is striped.
    public var stripeCount: UInt64
    /// The pool that holds the data where that is another one (feature `data-pool`): its number.
    public var dataPoolID: Int64?
    /// Its name; nil if the pool is gone or its name may not be read.
    public var dataPool: String?
    /// What it was cloned from.
    public var parent: ImageParent?
    /// Holders of an advisory or exclusive lock.
    public var lockOwners: [ImageClient]
    /// Whether the lock keeps all others out; false without one.
    public var lockIsExclusive: Bool
    /// What a shared lock's holders have in common; nil without one, or if it was taken without.
    public var lockTag: String?
    /// Clients that have the image open for writing, krbd mappings included.
    public var watchers: [ImageClient]

    /// Size of an object in bytes.
    public var objectSize: UInt64 { 1 << UInt64(order) }

    /// Whether data is spread other than object after object.
    public var isStriped: Bool { stripeCount > 1 || stripeUnit != objectSize }

    public init(
        spec: ImageSpec, id: String, size: UInt64, features: ImageFeatures, order: Int = 22,
        stripeUnit: UInt64 = 1 << 22, stripeCount: UInt64 = 1, dataPoolID: Int64? = nil, dataPool: String? = nil,
        parent: ImageParent? = nil, lockOwners: [ImageClient] = [], lockIsExclusive: Bool = false,
        lockTag: String? = nil, watchers: [ImageClient] = []
    ) {
        self.spec = spec
        self.id = id
        self.size = size
        self.features = features
        self.order = order
        self.stripeUnit = stripeUnit
        self.stripeCount = stripeCount
        self.dataPoolID = dataPoolID
        self.dataPool = dataPool
        self.parent = parent
        self.lockOwners = lockOwners
        self.lockIsExclusive = lockIsExclusive
        self.lockTag = lockTag
        self.watchers = watchers
    }
}
