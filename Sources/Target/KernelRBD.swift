// SPDX-License-Identifier: Apache-2.0
import ClusterModel
import Synchronization
import SystemPackage

/// Images mapped as block devices by the kernel's rbd driver (`/sys/bus/rbd`, see Documentation/ABI/testing/sysfs-bus-rbd).
public struct KernelRBD: Sendable {
    /// A mapping.
    public struct Mapping: Hashable, Sendable, Codable {
        /// Number of the device: `/dev/rbd<id>`.
        public let id: Int
        public let pool: String
        public let namespace: String
        public let image: String
        public let imageID: String
        /// The cluster's id.
        public let fsid: String
        /// Name of the snapshot that is mapped; nil for the image itself.
        public let snapshot: String?
        public let readOnly: Bool
        /// Bytes.
        public let size: UInt64
        /// Address of the kernel's Ceph client, as the blocklist wants it: `10.77.0.11:0/123`.
        public let clientAddress: String

        public var device: String { "/dev/rbd\(id)" }
    }

    /// What went wrong with a mapping.
    public struct Failure: Error, CustomStringConvertible {
        public let description: String
    }

    /// How the kernel reaches the cluster.
    public struct Credentials: Sendable {
        /// Monitors: `ip:port`, comma-separated.
        public let monitors: String
        public let messenger: Messenger
        /// Client name without `client.`.
        public let name: String
        /// The cephx key; nil where the cluster has authentication switched off.
        public let key: Secret?
    }

    /// What the kernel's client speaks with Ceph's daemons: its option `ms_mode`.
    public enum Messenger: String, Sendable {
        case v1 = "legacy"
        /// Encrypted where a daemon insists.
        case v2 = "prefer-crc"
        case encrypted = "secure"
    }

    let bus: FilePath
    let blocks: FilePath
    private let known = KnownMappings()

    public init(bus: FilePath = "/sys/bus/rbd", blocks: FilePath = "/sys/block") {
        self.bus = bus
        self.blocks = blocks
    }

    /// All mappings, by number.
    ///
    /// - Parameter images: ids of images, of whatever pool; `nil`: all. Of others no more than the id is read, and that once.
    public func mappings(of images: Set<String>? = nil) -> [Mapping] {
        let root = bus.appending("devices")
        let found = known.images(of: SystemFiles.entries(root)) {
            SystemFiles.text(root.appending($0).appending("image_id"))
        }
        return found.compactMap { entry, imageID in
            images?.contains(imageID) != false ? mapping(named: entry.name, imageID: imageID) : nil
        }.sorted { $0.id < $1.id }
    }

    /// The mapping of a device, `/dev/rbd<number>`, if there is one.
    public func mapping(at device: String) -> Mapping? {
        guard device.hasPrefix("/dev/rbd"), let id = Int(device.dropFirst("/dev/rbd".count)) else { return nil }
        let imageID = SystemFiles.text(bus.appending("devices").appending(String(id)).appending("image_id"))
        return imageID.flatMap { mapping(named: String(id), imageID: $0) }
    }

    private func mapping(named name: String, imageID: String) -> Mapping? {
        let at = bus.appending("devices").appending(name)
        guard let id = Int(name), let image = SystemFiles.text(at.appending("name")),
            let pool = SystemFiles.text(at.appending("pool"))
        else { return nil }
        let snapshot = SystemFiles.text(at.appending("current_snap")) ?? "-"
        return Mapping(
            id: id, pool: pool, namespace: SystemFiles.text(at.appending("pool_ns")) ?? "", image: image,
            imageID: imageID, fsid: SystemFiles.text(at.appending("cluster_fsid")) ?? "",
            snapshot: snapshot == "-" ? nil : snapshot,
            readOnly: SystemFiles.text(blocks.appending("rbd\(id)").appending("ro")) == "1",
            size: SystemFiles.text(at.appending("size")).flatMap(UInt64.init) ?? 0,
            clientAddress: SystemFiles.text(at.appending("client_addr")) ?? "")
    }

    /// The writable mapping of an image itself, if there is one; none of an image whose id is not known.
    public func mapping(of image: ImageName, imageID: String?, fsid: String, among all: [Mapping]) -> Mapping? {
        all.first {
            $0.fsid.lowercased() == fsid.lowercased() && $0.pool == image.pool && $0.namespace == image.namespace
                && $0.imageID == imageID && $0.snapshot == nil && !$0.readOnly
        }
    }

    /// Maps an image, read-write, without any lock.
    ///
    /// `osd_request_timeout` stays unset on purpose: a write the driver gives up on may still land.
    ///
    /// - Parameter leased: commands are admitted under the node's lease only, and none until there is one.
    public func map(
        _ image: ImageName, imageID: String, fsid: String, _ credentials: Credentials, leased: Bool = false
    ) throws(Failure) -> Mapping {
        var options = ["name=\(credentials.name)"]
        if let key = credentials.key { options.append("secret=\(key.revealed)") }
        options.append("ms_mode=\(credentials.messenger.rawValue)")
        if leased { options.append("lease") }
        if !image.namespace.isEmpty { options.append("_pool_ns=\(image.namespace)") }
        let line = "\(credentials.monitors) \(options.joined(separator: ",")) \(image.pool) \(image.image) -"
        do {
            try SystemFiles.write(line, to: control("add"))
        } catch {
            throw Failure(
                description: "cannot map \(image): \(error) (errno \(error.rawValue)); \(Self.meaning(of: error))")
        }
        let found = mapping(of: image, imageID: imageID, fsid: fsid, among: mappings(of: [imageID]))
        guard let mapping = found else {
            throw Failure(
                description:
                    "mapped \(image), but \(bus)/devices does not show it; it may have been replaced meanwhile: "
                    + "run the command again")
        }
        return mapping
    }

    /// Takes a mapping away.
    public func unmap(_ mapping: Mapping) throws(Failure) {
        do {
            try SystemFiles.write(String(mapping.id), to: control("remove"))
        } catch .noSuchFileOrDirectory {
            return
        } catch {
            var text = "cannot unmap \(mapping.device) (\(mapping.pool)/\(mapping.image)): \(error)"
            if error == .resourceBusy {
                let holders = holders(of: mapping)
                text +=
                    holders.isEmpty
                    ? "; something on this node has it open: fuser -v \(mapping.device) says what"
                    : "; held by \(holders.joined(separator: ", "))"
            }
            throw Failure(description: text)
        }
    }

    /// Who uses a device, as far as the kernel tells: devices stacked on it, and mounts.
    func holders(of mapping: Mapping) -> [String] {
        let stacked = SystemFiles.list(blocks.appending("rbd\(mapping.id)").appending("holders"))
        let mounts = (SystemFiles.text("/proc/self/mounts") ?? "").split(separator: "\n").compactMap {
            line -> String? in
            let fields = line.split(separator: " ")
            guard fields.count > 1, fields[0] == mapping.device else { return nil }
            return "the file system at \(fields[1])"
        }
        return stacked + mounts
    }

    /// With `single_major` (the driver's default) the control files have other names.
    private func control(_ verb: String) -> FilePath {
        let single = bus.appending("\(verb)_single_major")
        return SystemFiles.exists(single) ? single : bus.appending(verb)
    }

    private static func meaning(of error: Errno) -> String {
        switch error {
        case .noSuchFileOrDirectory:
            "the pool, namespace or image is gone, or the kernel lacks what cephx needs (modules cbc, aes); dmesg says which"
        case .permissionDenied, .notPermitted: "the client's key is wrong, or it lacks the caps 'profile rbd'"
        case .timedOut: "the kernel's Ceph client got no answer from a monitor within a minute"
        case .noSuchAddressOrDevice: "the image has features this kernel's rbd driver lacks; dmesg names them"
        case .invalidArgument: "the kernel did not take the options; dmesg says which"
        default: "dmesg says more"
        }
    }
}

/// Which image each mapping is of, as far as that was read before: a mapping keeps its image as long as it lives.
private final class KnownMappings: Sendable {
    private let known = Mutex<[SystemFiles.Entry: String]>([:])

    /// - Parameters:
    ///   - mappings: all there are.
    ///   - read: the id of the image that the one of this name is of; `nil` if it is not there any more.
    func images(
        of mappings: [SystemFiles.Entry], read: (String) -> String?
    ) -> [SystemFiles.Entry: String] {
        known.withLock { known in
            var now: [SystemFiles.Entry: String] = [:]
            for mapping in mappings { now[mapping] = known[mapping] ?? read(mapping.name) }
            known = now
            return now
        }
    }
}
