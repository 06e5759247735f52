// SPDX-License-Identifier: Apache-2.0

/// What a node would do to get from one version of a group to another, told without the node.
///
/// It supposes that the node is as the earlier version wants it; what was changed there by hand is not seen.
public struct NodeForecast: Hashable, Codable, Sendable {
    public let node: String
    /// In order, for a person.
    public let steps: [String]
    /// Why there are none, unless the node has nothing to do.
    public let note: String?

    /// What cannot be told.
    ///
    /// - Parameter note: why.
    public init(node: String, note: String) {
        self.node = node
        self.note = note
        steps = []
    }

    /// - Parameters:
    ///   - from: what the node serves; `nil`: nothing.
    ///   - to: what it is to serve.
    public init(node: String, from: StoredGroup?, to: StoredGroup) throws(PaperTree.Broken) {
        self.node = node
        guard to.drained?[node] == nil else {
            note = "drained: nothing until clio node resume \(node)"
            steps = []
            return
        }
        note = nil
        let from = from?.drained?[node] == nil ? from : nil
        let before = from.map { Self.images(of: $0, node) } ?? [:]
        let after = Self.images(of: to, node)
        var tree = PaperTree()
        if let from {
            let plan = NodePlan(stored: from, node: node, devices: before, actual: tree.state)
            try tree.run(plan.actions)
        }
        let plan = NodePlan(stored: to, node: node, devices: after, actual: tree.state)
        // A plan that could not be carried out must not be shown as one.
        try tree.run(plan.actions)
        let kept = Set(before.values)
        let wanted = Set(after.values)
        steps =
            wanted.subtracting(kept).sorted().map { "map \($0)" } + plan.actions.map(\.description)
            + kept.subtracting(wanted).sorted().map { "unmap \($0)" }
    }

    /// The images a node maps, by LUN number, in the place of devices.
    private static func images(of stored: StoredGroup, _ node: String) -> [Int: String] {
        let group = stored.config
        let served = group.targets.filter { target in group.nodes(of: target).contains { $0.name == node } }
        let luns = served.flatMap { group.luns(of: $0) }
        return Dictionary(luns.map { ($0.lun, "image \($0.image)") }, uniquingKeysWith: { first, _ in first })
    }
}
