// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import ClusterModel
import Rados
import RelayDriver
import Target

/// Options of every command that changes one thing of a group.
struct ChangeOptions: ParsableArguments {
    @Flag(help: "Only show what would change.")
    var dryRun = false

    @Flag(help: "Accept an image that is not there yet: nodes serve it as soon as it is.")
    var allowMissingImages = false

    @OptionGroup var ceph: CephOptions
    @OptionGroup var group: GroupOption

    /// Changes the group. If somebody else changes it meanwhile, the change is made to what they left.
    ///
    /// - Parameters:
    ///   - command: for the history; without secrets.
    ///   - edit: the change; may run more than once.
    /// - Returns: the connection that it was made through, for what is to be said of it.
    @discardableResult func change(
        _ command: String, _ edit: (inout ClusterModel.Group, StoredGroup) throws -> Void
    ) async throws -> Cluster? {
        var connection: Cluster?
        try await reporting {
            let cluster = try await ceph.connect()
            connection = cluster
            let store = try await ceph.store(group.group, in: cluster)
            for attempt in 1... {
                let snapshot = try await store.load()
                let now = snapshot.stored
                var wanted = try now.config.edited { try edit(&$0, now) }.group
                wanted = try await complete(wanted, after: now, in: cluster)
                let change = GroupChange(store: store, snapshot: snapshot, dryRun: dryRun)
                do {
                    _ = try await change.commit(wanted, command: command)
                    return
                } catch GroupStore.Failure.changed where attempt < 5 {
                    continue
                }
            }
        }
        return connection
    }

    /// Gives new LUNs identities. Images that the group has already are not looked at again: one more LUN costs the same
    /// however many there are.
    private func complete(
        _ wanted: ClusterModel.Group, after now: StoredGroup, in cluster: Cluster
    ) async throws -> ClusterModel.Group {
        var new = wanted
        let waiting = Set(now.config.luns.filter { $0.imageID == nil })
        new.luns.removeAll { $0.imageID != nil || waiting.contains($0) }
        let identities = try await identities(of: new, in: cluster, allowingMissing: allowMissingImages)
        return try wanted.completed(fsid: cluster.fsid, images: identities, previous: now.config)
    }
}

/// What a group's images are.
///
/// - Throws: ``InvalidGroup`` with what keeps them from being used.
func identities(
    of group: ClusterModel.Group, in cluster: Cluster, allowingMissing: Bool
) async throws -> [String: ImageIdentity] {
    let (images, pools, problems) = try await ImageCheck.look(at: group, in: cluster, allowingMissing: allowingMissing)
    if !problems.isEmpty {
        throw InvalidGroup(problems.map { Problem(path: "", message: group.naming($0.text)) })
    }
    var out: [String: ImageIdentity] = [:]
    for (name, info) in images {
        guard let image = try? ImageName(parsing: name), let pool = pools[image.pool] else { continue }
        out[name] = ImageIdentity(poolID: pool, imageID: info.id)
    }
    return out
}

/// Why a change is refused that leaves out a node which may serve: its sessions would be cut off, and hosts not told.
private struct LiveNode: Error, CustomStringConvertible {
    let name: String
    let answers: Bool

    var description: String {
        answers
            ? "node \(name) serves hosts, which would be cut off: take it out in order with clio node drain \(name) and "
                + "clio node remove \(name)"
            : "node \(name) does not answer, and may still write: wait until clio status says that it was fenced, then take "
                + "it out with clio node remove \(name)"
    }
}

/// The last step of a change: shows it and replaces what was read.
struct GroupChange {
    let store: GroupStore
    let snapshot: GroupStore.Snapshot
    let dryRun: Bool

    /// - Parameters:
    ///   - group: complete.
    ///   - command: for the history.
    /// - Returns: what is in force now; `nil` if nothing was changed.
    func commit(_ group: ClusterModel.Group, command: String) async throws -> StoredGroup? {
        let now = snapshot.stored
        guard let next = try now.applying(group) else {
            print("nothing to change: group \"\(store.group)\" is at version \(now.version)")
            return nil
        }
        try await requireOut(of: next.config)
        let changes = now.changes(to: next)
        let (claim, cluster) = (store.claim, store.pool.cluster)
        let gained = gained(next)
        let members = gained.isEmpty ? [] : try await MemberStatus.clients(of: now, in: store.pool)
        let taken = try await claim.take(gained, members: members, in: cluster, dryRun: dryRun)
        if dryRun {
            for line in changes { print(line) }
            print("dry run: group \"\(store.group)\" stays at version \(now.version)")
            return nil
        }
        do {
            try await store.replace(snapshot, with: next, command: command)
        } catch let error as GroupStore.Failure {
            // It was not done. After another error it may have been.
            await claim.giveBack(taken, in: cluster)
            throw error
        }
        for problem in await claim.release(lost(next), in: cluster) { complain("clio: \(problem)") }
        for line in changes { print(line) }
        print("group \"\(store.group)\" is now at version \(next.version)")
        return next
    }

    /// Images that are new to the group, those that were created anew among them.
    private func gained(_ next: StoredGroup) -> [ImageName] {
        let known = Dictionary(snapshot.stored.config.luns.map { ($0.image, $0.imageID) }, uniquingKeysWith: { $1 })
        return next.config.luns.filter { $0.imageID != nil && known[$0.image] != $0.imageID }
            .compactMap { try? ImageName(parsing: $0.image) }
    }

    /// LUNs whose images the group no longer serves.
    private func lost(_ next: StoredGroup) -> [LogicalUnit] {
        let kept = Set(next.config.luns.map(\.imageID))
        return snapshot.stored.config.luns.filter { !kept.contains($0.imageID) }
    }

    private func requireOut(of next: ClusterModel.Group) async throws {
        let gone = Set(snapshot.stored.config.nodes.map(\.name)).subtracting(next.nodes.map(\.name))
        if gone.isEmpty { return }
        let members = try await MemberStatus.all(of: snapshot.stored, in: store.pool)
        if let live = members.first(where: { gone.contains($0.node) && $0.isLive }) {
            throw LiveNode(name: live.node, answers: live.report != nil)
        }
    }
}
