// SPDX-License-Identifier: Apache-2.0

import Foundation
import Lab

/// Images beside the lab's own, for what only they can show, each a LUN of every gateway.
enum ExtraImages: String, CaseIterable, Sendable {
    case clone
    case cloneWithSnapshot = "clone-with-snapshot"
    case striped

    /// LUN numbers follow the lab's own.
    var lun: Int { 1 + (Self.allCases.firstIndex(of: self) ?? 0) }

    /// Logical blocks of the parent: two and a half objects of 4 MiB with data, then a hole, ending within an object.
    static let parentBlocks: UInt64 = 4 * 8192 + 100
    private static let dataBlocks: UInt64 = 20480

    /// What the parent holds at a block.
    static func parentBlock(_ lba: UInt64) -> [UInt8] {
        guard lba < dataBlocks else { return [UInt8](repeating: 0, count: 512) }
        return (0..<512).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ Int(lba) &* 17 &+ 1) }
    }

    /// Makes the images and exports them through every gateway, beside what is exported already.
    static func export(on cluster: LiveCluster) async throws {
        let data = NSTemporaryDirectory() + "clio-test-parent-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: data) }
        try Data((0..<dataBlocks).flatMap(parentBlock)).write(to: URL(fileURLWithPath: data))
        try await cluster.host("rbd", "import", "--no-progress", "--image-feature", "layering", data, "rbd/parent")
        try await cluster.host(
            "rbd", "resize", "--no-progress", "--size", "\(parentBlocks * 512)B", "rbd/parent")
        try await cluster.host("rbd", "snap", "create", "--no-progress", "rbd/parent@golden")
        try await cluster.host("rbd", "snap", "protect", "rbd/parent@golden")
        for image in [Self.clone, .cloneWithSnapshot] {
            try await cluster.host(
                "rbd", "clone", "--image-feature", "layering", "rbd/parent@golden", "rbd/\(image.rawValue)")
            try await cluster.host("rbd", "resize", "--no-progress", "--size", "64M", "rbd/\(image.rawValue)")
        }
        try await cluster.host("rbd", "snap", "create", "--no-progress", "rbd/clone-with-snapshot@before")
        try await cluster.host(
            "rbd", "create", "--size", "64M", "--image-feature", "layering", "--image-feature", "striping",
            "--stripe-unit", "4096", "--stripe-count", "4", "rbd/striped")
        try await cluster.export()
    }
}

extension LiveCluster {
    /// The lab's group with the extra images, and `luns` as further LUNs.
    func groupText(_ luns: [(lun: Int, image: String)] = [], access: String = "open") -> String {
        let own = description.luns.map {
            "  - {lun: \($0.lun), image: \($0.pool)/\($0.image), serial: \"\($0.serial)\"}"
        }
        let extra = ExtraImages.allCases.map { ($0.lun, "rbd/\($0.rawValue)") } + luns
        let nodes = gateways.map { "  - {name: \($0.name), portals: [\"\($0.portal ?? "")\"]}" }
        return """
            group: default
            target: {iqn: "\(target)", access: \(access)}
            nodes:
            \(nodes.joined(separator: "\n"))
            luns:
            \((own + extra.map { "  - {lun: \($0.0), image: \($0.1)}" }).joined(separator: "\n"))
            """
    }

    /// Applies ``groupText(_:access:)``, and lets both gateways follow.
    ///
    /// - Parameter bringUp: whether to run `clio node up`, so that they have followed; without it they do when they do.
    func export(_ luns: [(lun: Int, image: String)] = [], bringUp: Bool = true) async throws {
        let clio = try lab.executable("clio")
        try await lab.hostCheck(
            [clio, "apply", "-f", "-", "--ceph-conf", description.cephConf, "--keyring", description.keyring],
            input: Array(groupText(luns).utf8))
        guard bringUp else { return }
        for gateway in gateways { try await exec(gateway.name, clio, "node", "up") }
    }
}
