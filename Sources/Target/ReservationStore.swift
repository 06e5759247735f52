// SPDX-License-Identifier: Apache-2.0
import ClusterModel
import Rados
import Reservations

/// What RADOS keeps of a logical unit's reservations: an object beside the image, which gateways replace.
public struct ReservationStore: Sendable {
    public let unit: LogicalUnit
    /// What kernels call it; see `rbd_cluster_register()` in patches/6.12.
    public let kernelName: String
    private let pool: Pool
    private let object: String

    public enum Failure: Error, CustomStringConvertible {
        /// The group has no LUN of this number or image.
        case missing(String, group: String)
        /// The object holds something else than a state.
        case unreadable(place: String, why: ReservationState.DecodingError)

        public var description: String {
            switch self {
            case .missing(let name, let group):
                "group \"\(group)\" has no LUN \"\(name)\"; name one by its number or its image, clio get shows them"
            case .unreadable(let place, .newer): "\(place) \(ReservationState.DecodingError.newer)"
            case .unreadable(let place, let why):
                "\(place) \(why), so which hosts have the LUN reserved is not known. If it is certain that none has: "
                    + "rados rm it, after which hosts have to register again"
            }
        }
    }

    /// The store of a LUN of a group.
    ///
    /// - Parameter name: the LUN's number, or its image as the group writes it.
    /// - Throws: ``Failure``, `RadosError`.
    public init(_ name: String, of stored: StoredGroup, in cluster: Cluster) async throws {
        guard let unit = stored.config.luns.first(where: { $0.image == name || String($0.lun) == name }),
            let imageID = unit.imageID, let image = try? ImageName(parsing: unit.image)
        else { throw Failure.missing(name, group: stored.config.name) }
        self.unit = unit
        pool = try await cluster.pool(image.pool, namespace: image.namespace)
        kernelName = "rbd:\(pool.id).\(imageID)"
        object = ReservationState.objectName(imageID: imageID)
    }

    /// The object: `pool/object`.
    public var place: String { pool.describe(object) }

    /// The state; if nothing was ever registered or reserved, the object is not there.
    ///
    /// - Throws: ``Failure``, `RadosError`.
    public func load() async throws -> ReservationState {
        let bytes: [UInt8]
        do {
            bytes = try await pool.readAll(object, limit: ReservationState.maximumEncodedSize).bytes
        } catch  where error.kind == .notFound {
            return ReservationState()
        }
        do {
            return try ReservationState(decoding: bytes)
        } catch {
            throw Failure.unreadable(place: place, why: error)
        }
    }
}
