// SPDX-License-Identifier: Apache-2.0
import ClusterModel
import ConfigFS
import SystemPackage

/// What became of a plan.
public struct RunReport: Sendable {
    /// A step that failed.
    public struct Failure: Sendable {
        public let action: Action
        /// What and why, with path and remedy.
        public let message: String
    }

    /// Steps that were carried out.
    public internal(set) var done: [Action] = []
    public internal(set) var failures: [Failure] = []
    /// Steps left out because something they need failed.
    public internal(set) var skipped: [Action] = []
    /// Ports that a virtual machine is attached to, which LIO does not let go. They show nothing any more.
    public internal(set) var attached: [Action] = []

    public var succeeded: Bool { failures.isEmpty && skipped.isEmpty }
}

/// Carries out a plan on configfs, object by object: when a step fails, what depends on it is skipped and the rest goes on.
public struct PlanRunner: Sendable {
    let tree: ConfigTree

    public init(tree: ConfigTree) { self.tree = tree }

    /// Runs the steps in order.
    ///
    /// - Parameter progress: called before each step that is carried out.
    public func run(_ actions: [Action], progress: (Action) -> Void = { _ in }) -> RunReport {
        var report = RunReport()
        var failed: [[String]] = []
        for action in actions {
            let blocked = failed.contains { object in
                action.object.starts(with: object) || (action.removesWhole && object.starts(with: action.object))
                    || action.requires.contains { $0.starts(with: object) }
            }
            if blocked {
                report.skipped.append(action)
                continue
            }
            let stays = report.attached.contains { $0.object.starts(with: action.object) }
            if stays, action.removesWhole { continue }
            progress(action)
            do {
                try perform(action.operation)
                report.done.append(action)
            } catch  where Self.isAttached(action.operation, error.errno) {
                // Its LUNs are gone, or this step would have been skipped.
                report.attached.append(action)
            } catch {
                failed.append(action.object)
                report.failures.append(.init(action: action, message: explain(action, error)))
            }
        }
        return report
    }

    /// Whether a step failed because a virtual machine is attached to a port.
    static func isAttached(_ operation: Operation, _ errno: Errno) -> Bool {
        guard case .removeDirectory(let path) = operation, errno == .resourceBusy else { return false }
        // target/vhost/<name>/tpgt_1
        let parts = path.split(separator: "/")
        return parts.count == 4 && parts.starts(with: ["target", Substring(Fabric.vhost.folder)])
    }

    private func perform(_ operation: Operation) throws(ConfigFSError) {
        switch operation {
        case .makeDirectory(let path): try tree.makeDirectory(FilePath(path))
        case .removeDirectory(let path): try tree.removeDirectory(FilePath(path))
        case .write(let path, let value): try tree.write(value, to: FilePath(path))
        case .writeSecret(let path, let secret): try tree.write(secret.revealed, to: FilePath(path), secret: true)
        case .link(let path, let destination): try tree.link(FilePath(path), to: FilePath(destination))
        case .unlink(let path): try tree.unlink(FilePath(path))
        }
    }

    /// The error with the object's name, and with what LIO means by an errno that says little.
    private func explain(_ action: Action, _ error: ConfigFSError) -> String {
        var text = "\(action.object.joined(separator: ", ")): \(error)"
        if let remedy = Self.remedy(action, error) { text += "; \(remedy)" }
        return text
    }

    private static func remedy(_ action: Action, _ error: ConfigFSError) -> String? {
        let path = action.operation.path
        switch (action.operation, error.errno) {
        case (.makeDirectory, .invalidArgument) where path.contains("/np/"):
            let family = path.contains("/np/[") ? "; does this kernel have IPv6?" : ""
            return
                "LIO cannot listen there; another service or another port of the target may have the address (ss -ltn)"
                + family
        case (.write(_, let value), .invalidArgument)
        where path.hasSuffix("/enable") && path.contains("/tpgt_") && value == "1":
            return "most likely another target on this node has the same relative target port; "
                + "see rtpi of the other target port groups under /sys/kernel/config/target, and dmesg"
        case (.write, _) where path.hasSuffix("/enable") && path.contains("/core/"):
            return "LIO cannot open the device: is it in use by something else (lsblk, fuser), or mapped read-only?"
        case (.makeDirectory, .fileExists): return "something else made it meanwhile; run the command again"
        default: return nil
        }
    }
}
