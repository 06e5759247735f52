// SPDX-License-Identifier: Apache-2.0
import Foundation
import Reservations

/// Which OSD serves which object of a LUN's image.
public struct Placement: Sendable, Equatable {
    /// The group's object, with member records and beats.
    public var group: Int
    /// The pool's settings of images, which librbd reads whenever it opens one.
    public var pool: Int
    /// The object with the image's reservation state.
    public var state: Int
    /// The object that gives the image's id by its name.
    public var id: Int
    /// The image's header.
    public var header: Int
    /// The first data objects.
    public var objects: [Int]
    /// All OSDs of each of these, in the order of the pieces if they are erasure-coded.
    public var acting: [[Int]] = []
    /// Bytes of a data object.
    public var objectSize: Int

    /// The first block of the first data object that an OSD serves.
    ///
    /// - Parameter skipped: how many data objects of that OSD to pass over.
    public func block(on osd: Int, skipping skipped: Int = 0, blockSize: Int = 512) -> UInt64? {
        let numbers = objects.indices.filter { objects[$0] == osd }
        guard numbers.indices.contains(skipped) else { return nil }
        return UInt64(numbers[skipped] * objectSize / blockSize)
    }

    /// The OSD with the least data, but two objects at least, of those that serve none of the objects that all commands depend
    /// on. So it is one that other images' reservations are rarely at.
    public var onlyData: Int? {
        let counts = Dictionary(objects.map { ($0, 1) }, uniquingKeysWith: +)
        return counts.filter { $0.value > 1 && ![group, state, header].contains($0.key) }.min {
            ($0.value, $0.key) < ($1.value, $1.key)
        }?.key
    }
}

extension Lab {
    /// Asks Ceph which OSDs are the primaries of what a LUN consists of.
    ///
    /// - Parameter count: how many data objects to ask for, from the first; all, by default.
    /// - Throws: `LabError` if there is no such LUN, or Ceph does not answer.
    public func placement(lun: Int = 0, objects count: Int? = nil) async throws -> Placement {
        guard let image = plan.luns.first(where: { $0.lun == lun }) else {
            throw LabError("LUN \(lun)", "there is none", remedy: "the lab has \(plan.luns.count), from 0")
        }
        return try await placement(
            image: image.image, pool: image.pool, namespace: image.namespace, objects: count)
    }

    /// Asks Ceph which OSDs are the primaries of what an image consists of.
    ///
    /// - Parameter count: how many data objects to ask for, from the first; all, by default.
    /// - Throws: `LabError` if there is no such image, or Ceph does not answer.
    public func placement(
        image: String, pool: String = "rbd", namespace: String = "", objects count: Int? = nil
    ) async throws -> Placement {
        struct Image: Decodable {
            var id: String
            var objects: Int
            var dataPool: String?
            var objectSize: Int
            var prefix: String
            enum CodingKeys: String, CodingKey {
                case id
                case objects
                case objectSize = "object_size"
                case prefix = "block_name_prefix"
                case dataPool = "data_pool"
            }
        }
        let name = LabDescription.LUN.path(pool: pool, namespace: namespace, image: image)
        let text = try await hostCheck(["rbd", "info", "--format", "json", name])
        guard let info = try? JSONDecoder().decode(Image.self, from: Data(text.utf8)) else {
            throw LabError("image \(name)", "rbd info says what cannot be read: \(text)")
        }
        let data = (0..<(count ?? info.objects)).map { number in
            let digits = String(number, radix: 16)
            return "\(info.prefix).\(String(repeating: "0", count: 16 - digits.count))\(digits)"
        }
        let objects =
            ["clio.group.default", "rbd_info"].map { (pool, $0, "") }
            + [
                ReservationState.objectName(imageID: info.id), "rbd_id.\(image)", "rbd_header.\(info.id)",
            ].map { (pool, $0, namespace) }
            + data.map { (info.dataPool ?? pool, $0, namespace) }
        let places = try await places(of: objects)
        let primaries = places.map(\.primary)
        return Placement(
            group: primaries[0], pool: primaries[1], state: primaries[2], id: primaries[3], header: primaries[4],
            objects: Array(primaries.dropFirst(5)), acting: places.dropFirst(5).map(\.acting),
            objectSize: info.objectSize)
    }

    /// The OSDs of each of `objects`, whether they exist or not.
    private func places(
        of objects: [(pool: String, name: String, namespace: String)]
    ) async throws -> [(primary: Int, acting: [Int])] {
        let input = objects.map { "\($0.pool) \($0.name) \($0.namespace)" }
        let text = try await hostCheck(
            ["/usr/bin/python3", "-c", Self.askForPlaces], input: Array(input.joined(separator: "\n").utf8))
        let answers = text.split(separator: "\n").map { $0.split(separator: " ").compactMap { Int($0) } }
        guard answers.count == objects.count, !answers.contains([]) else {
            throw LabError("ceph osd map", "\(answers.count) answers to \(objects.count) questions: \(text)")
        }
        return answers.map { ($0[0], Array($0.dropFirst())) }
    }

    /// What the `ceph` command does for `osd map`, with the module it uses, without the 50 ms of processor time that it needs
    /// to parse each.
    private static let askForPlaces = """
        import json, os, rados, sys
        with rados.Rados(conffile=os.environ["CEPH_CONF"]) as cluster:
            for line in sys.stdin.read().split("\\n"):
                pool, name, namespace = line.split(" ")
                command = {"prefix": "osd map", "pool": pool, "object": name, "nspace": namespace, "format": "json"}
                status, answer, reason = cluster.mon_command(json.dumps(command), b"")
                if status != 0:
                    sys.exit(f"{name}: {reason}")
                place = json.loads(answer)
                print(place["acting_primary"], *place["acting"])
        """
}
