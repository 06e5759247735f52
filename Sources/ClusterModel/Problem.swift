// SPDX-License-Identifier: Apache-2.0

/// One thing that is wrong with a group file, and where.
public struct Problem: Hashable, Sendable, CustomStringConvertible {
    /// Where in the file, in the notation `luns[2].image`; empty for the file as a whole.
    public let path: String
    /// Line in the file, from 1; `nil` when there is no file (a group read from RADOS) or the place has none.
    public let line: Int?
    /// What is wrong and what to do about it.
    public let message: String

    public init(path: String, line: Int? = nil, message: String) {
        self.path = path
        self.line = line
        self.message = message
    }

    /// Path and message, without the line.
    public var text: String { path.isEmpty ? message : "\(path): \(message)" }

    public var description: String {
        guard let line else { return text }
        return "line \(line): \(text)"
    }
}

/// A group that cannot be used. Holds every problem found, in the order of the file.
public struct InvalidGroup: Error, Equatable, CustomStringConvertible {
    public let problems: [Problem]

    public init(_ problems: [Problem]) { self.problems = problems }

    public var description: String { problems.map(\.description).joined(separator: "\n") }
}

/// The word of `candidates` that `word` most likely stands for: at most two edits away, and fewer than half its letters.
func nearest(to word: String, among candidates: [String]) -> String? {
    let scored = candidates.map { ($0, editDistance(word.lowercased(), $0.lowercased())) }
    guard let best = scored.min(by: { $0.1 < $1.1 }), best.1 <= 2, best.1 * 2 < max(word.count, 2) else { return nil }
    return best.0
}

/// Edits from one word to another: a letter added, left out, replaced, or two neighbours swapped.
func editDistance(_ a: String, _ b: String) -> Int {
    let a = Array(a)
    let b = Array(b)
    if a.isEmpty { return b.count }
    var before: [Int] = []
    var previous = Array(0...b.count)
    for (i, x) in a.enumerated() {
        var current = [i + 1]
        for (j, y) in b.enumerated() {
            var best = min(previous[j] + (x == y ? 0 : 1), previous[j + 1] + 1, current[j] + 1)
            if i > 0, j > 0, x == b[j - 1], a[i - 1] == y { best = min(best, before[j - 1] + 1) }
            current.append(best)
        }
        before = previous
        previous = current
    }
    return previous[b.count]
}
