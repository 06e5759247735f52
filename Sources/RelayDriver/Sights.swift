// SPDX-License-Identifier: Apache-2.0
import Relay

/// What this node has seen of the group's records, and since when. Records themselves name no times.
struct Sights: Sendable {
    private var all: [String: (state: Record.State?, since: Double)] = [:]
    private var version: UInt64?

    /// - Parameters:
    ///   - nodes: the group's; whoever else has a record counts, too.
    ///   - now: seconds since 1970.
    mutating func note(_ snapshot: Snapshot, of nodes: [String], now: Double) {
        guard snapshot.version != version else { return }
        version = snapshot.version
        var fresh: [String: (state: Record.State?, since: Double)] = [:]
        for node in Set(nodes).union(snapshot.members.keys) {
            let state = snapshot.members[node]?.state
            if let old = all[node], old.state == state { fresh[node] = old } else { fresh[node] = (state, now) }
        }
        all = fresh
    }

    var inWords: [String: NodeReport.Sight] {
        var out: [String: NodeReport.Sight] = [:]
        for (node, sight) in all {
            out[node] = NodeReport.Sight(state: MemberStatus.word(for: sight.state, of: node), since: sight.since)
        }
        return out
    }
}
