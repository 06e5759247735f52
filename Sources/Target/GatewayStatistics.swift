// SPDX-License-Identifier: Apache-2.0
import ClusterModel
import ConfigFS
import SystemPackage

/// What a block device has done since it was made: `/sys/block/<disk>/stat` (Documentation/block/stat.rst).
public struct DiskStatistics: Sendable, Hashable {
    /// Requests of one kind.
    public struct Requests: Sendable, Hashable {
        public var count: UInt64
        public var bytes: UInt64
        /// Sum of the times that they took, seconds.
        public var seconds: Double
    }

    public var reads: Requests
    public var writes: Requests
    public var discards: Requests

    /// - Parameter text: the file; `nil` if it is not one. Kernels before 4.18 know no discards.
    public init?(parsing text: String) {
        let fields = text.split(whereSeparator: \.isWhitespace).map { UInt64($0) }
        guard fields.count >= 11, !fields.contains(nil) else { return nil }
        func requests(_ first: Int) -> Requests {
            func field(_ index: Int) -> UInt64 { index < fields.count ? fields[index] ?? 0 : 0 }
            // Sectors are of 512 bytes here, whatever the device's are; times are in milliseconds.
            return Requests(
                count: field(first), bytes: field(first + 2) &* 512, seconds: Double(field(first + 3)) / 1000)
        }
        reads = requests(0)
        writes = requests(4)
        discards = requests(11)
    }
}

/// A LUN as this machine has it.
public struct LUNStatistics: Sendable, Hashable {
    public var lun: Int
    /// `pool/image`; empty if the group no longer has the LUN.
    public var image: String
    /// Name of the block device: `rbd0`.
    public var disk: String
    /// Bytes.
    public var size: UInt64
    /// Commands of all hosts, whatever they ask.
    public var commands: UInt64
    public var requests: DiskStatistics?
}

/// Logins to a target at this machine.
public struct LoginStatistics: Sendable, Hashable {
    public var iqn: String
    public var accepted: UInt64
    /// By why.
    public var refused: [String: UInt64]
}

extension Gateway {
    /// What the group's LUNs and targets have done on this machine. Reads only.
    ///
    /// - Parameter stored: the group; names the LUNs' images.
    public func statistics(of stored: StoredGroup) -> (luns: [LUNStatistics], logins: [LoginStatistics]) {
        let reader = LIOReader(tree: tree)
        func number(_ path: String) -> UInt64 {
            (try? reader.value(path)).flatMap { $0 }.flatMap { UInt64($0) } ?? 0
        }
        let images = Dictionary(stored.config.luns.map { ($0.lun, $0.image) }, uniquingKeysWith: { first, _ in first })
        var luns: [LUNStatistics] = []
        for hba in (try? reader.folders("target/core")) ?? [] where hba.hasPrefix("iblock_") {
            for name in (try? reader.folders("target/core/\(hba)")) ?? [] {
                guard let lun = NodePlan.lun(ofBackstore: name, group: stored.config.name) else { continue }
                let path = "target/core/\(hba)/\(name)"
                let device = (try? reader.value("\(path)/udev_path")).flatMap { $0 } ?? ""
                let disk = device.split(separator: "/").last.map(String.init) ?? ""
                guard disk.hasPrefix("rbd") else { continue }
                let block = rbd.blocks.appending(disk)
                luns.append(
                    LUNStatistics(
                        lun: lun, image: images[lun] ?? "", disk: disk,
                        size: (SystemFiles.text(block.appending("size")).flatMap { UInt64($0) } ?? 0) &* 512,
                        commands: number("\(path)/statistics/scsi_lu/num_cmds"),
                        requests: SystemFiles.text(block.appending("stat")).flatMap { DiskStatistics(parsing: $0) }))
            }
        }
        let logins = stored.config.targets.map(\.iqn).compactMap { iqn -> LoginStatistics? in
            let path = "target/iscsi/\(iqn)/fabric_statistics/iscsi_login_stats"
            guard (try? tree.exists(FilePath(path))) == true else { return nil }
            let reasons = [
                "other": "other_fails", "authentication": "authenticate_fails",
                "authorization": "authorize_fails", "negotiation": "negotiate_fails",
            ]
            return LoginStatistics(
                iqn: iqn, accepted: number("\(path)/accepts"), refused: reasons.mapValues { number("\(path)/\($0)") })
        }
        return (luns.sorted { $0.lun < $1.lun }, logins)
    }
}
