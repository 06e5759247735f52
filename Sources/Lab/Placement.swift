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

    /// The OSD with the most data of those that serve none of the objects that all commands depend on.
    public var onlyData: Int? {
        let counts = Dictionary(objects.map { ($0, 1) }, uniquingKeysWith: +)
        return counts.filter { ![group, state, header].contains($0.key) }.max {
            ($0.value, $1.key) < ($1.value, $0.key)
        }?.key
    }
}

extension Lab {
    /// Asks Ceph which OSDs are the primaries of what a LUN consists of.
    ///
    /// - Parameter count: how many data objects to ask for, from the first.
    /// - Throws: `LabError` if there is no such LUN, or Ceph does not answer.
    public func placement(lun: Int = 0, objects count: Int = 32) async throws -> Placement {
        guard let image = plan.luns.first(where: { $0.lun == lun }) else {
            throw LabError("LUN \(lun)", "there is none", remedy: "the lab has \(plan.luns.count), from 0")
        }
        return try await placement(image: image.image, pool: image.pool, objects: count)
    }

    /// Asks Ceph which OSDs are the primaries of what an image consists of.
    ///
    /// - Parameter count: how many data objects to ask for, from the first.
    /// - Throws: `LabError` if there is no such image, or Ceph does not answer.
    public func placement(image: String, pool: String = "rbd", objects count: Int = 32) async throws -> Placement {
        struct Image: Decodable {
            var id: String
            var objectSize: Int
            var prefix: String
            enum CodingKeys: String, CodingKey {
                case id
                case objectSize = "object_size"
                case prefix = "block_name_prefix"
            }
        }
        let name = "\(pool)/\(image)"
        let text = try await hostCheck(["rbd", "info", "--format", "json", name])
        guard let info = try? JSONDecoder().decode(Image.self, from: Data(text.utf8)) else {
            throw LabError("image \(name)", "rbd info says what cannot be read: \(text)")
        }
        let special = [
            "clio.group.default", "rbd_info", ReservationState.objectName(imageID: info.id), "rbd_id.\(image)",
            "rbd_header.\(info.id)",
        ]
        let data = (0..<count).map { number in
            let digits = String(number, radix: 16)
            return "\(info.prefix).\(String(repeating: "0", count: 16 - digits.count))\(digits)"
        }
        let osds = try await primaries(of: special + data, pool: pool)
        return Placement(
            group: osds[0], pool: osds[1], state: osds[2], id: osds[3], header: osds[4],
            objects: Array(osds.dropFirst(5)), objectSize: info.objectSize)
    }

    /// The primary OSD of each of `objects`, whether they exist or not.
    private func primaries(of objects: [String], pool: String) async throws -> [Int] {
        struct Answer: Decodable {
            var primary: Int
            enum CodingKeys: String, CodingKey { case primary = "acting_primary" }
        }
        // One interpreter for all: to start it takes longer than the commands.
        let commands = objects.map { "osd map \(pool) \($0)\n" }.joined() + "quit\n"
        let text = try await hostCheck(["ceph", "-f", "json"], input: Array(commands.utf8))
        let answers = text.split(separator: "\n").compactMap { line in
            line.firstIndex(of: "{").flatMap { try? JSONDecoder().decode(Answer.self, from: Data(line[$0...].utf8)) }
        }
        guard answers.count == objects.count else {
            throw LabError("ceph osd map", "\(answers.count) answers to \(objects.count) questions: \(text)")
        }
        return answers.map(\.primary)
    }
}
