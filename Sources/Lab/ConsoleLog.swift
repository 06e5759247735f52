// SPDX-License-Identifier: Apache-2.0

/// A line of a node's console that no healthy kernel prints.
public struct ConsoleProblem: Sendable, Equatable, Codable, CustomStringConvertible {
    /// The node.
    public var node: String
    /// Number of the line in the console's file, from 1.
    public var line: Int
    /// The line itself, without what ends it.
    public var text: String

    public init(node: String, line: Int, text: String) {
        self.node = node
        self.line = line
        self.text = text
    }

    public var description: String { "\(node), console line \(line): \(text)" }
}

/// Finds kernel splats in a console's text.
public enum ConsoleLog {
    /// What a kernel says when something is wrong with it; each is searched for as is.
    static let signs = [
        "BUG:", "kernel BUG at", "WARNING:", "Oops", "KASAN:", "UBSAN:", "KFENCE:", "KCSAN:",
        "Kernel panic", "general protection", "Unable to handle", "unable to handle", "Segfault with no mm",
        "Kernel mode fault", "Kernel tried to", "child stopped with signal", "fatal_sigsegv",
        "possible circular locking", "possible recursive locking", "possible irq lock inversion",
        "possible deadlock", "inconsistent lock state", "bad unlock balance", "held lock freed",
        "lock held when returning", "INFO: trying to register non-static key", "suspicious RCU usage",
        "-safe ->", "DEBUG_LOCKS_WARN_ON", "Invalid wait context",
        "scheduling while atomic", "sleeping function called from invalid context",
        "blocked for more than", "self-detected stall", "detected stalls on", "soft lockup", "hard LOCKUP",
        "refcount_t:", "list_add corruption", "list_del corruption", "double free", "use-after-free",
        "unreferenced object", "memory leaks", "Objects remaining", "still has pending",
        "page allocation failure", "Out of memory:", "Bad page state", "stack overflow", "ODEBUG:",
        // A connection to Ceph that has lost its place in the stream.
        "error, garbage tag", "read_partial_message bad",
        "module verification failed", "Unknown symbol", "disagrees about version of symbol",
    ]

    /// The problems in `console`.
    ///
    /// One splat is many lines; each line that holds a sign counts.
    ///
    /// - Parameters:
    ///   - console: The bytes of the console's file, which need not be valid UTF-8.
    ///   - node: Name for the result.
    public static func problems(_ console: some Sequence<UInt8>, node: String) -> [ConsoleProblem] {
        lines(console).enumerated().compactMap { index, text in
            guard signs.contains(where: text.contains) else { return nil }
            return ConsoleProblem(node: node, line: index + 1, text: text)
        }
    }

    /// A console's lines, without what ends them.
    static func lines(_ console: some Sequence<UInt8>) -> [String] {
        Array(console).split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).map { bytes in
            String(decoding: bytes, as: UTF8.self).filter { $0 != "\r" && $0 != "\r\n" }
        }
    }
}
