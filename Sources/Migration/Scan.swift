// SPDX-License-Identifier: Apache-2.0
import ClusterModel

/// A value of a file, and where it stands.
struct Place {
    let path: String
    let tree: JSONTree

    /// The members of an object; `nil`: it is none.
    var members: [(key: String, place: Place)]? {
        guard case .object(let members) = tree.value else { return nil }
        return members.map { ($0.key, Place(path: Scan.join(path, $0.key), tree: $0.value)) }
    }

    /// The items of a list; `nil`: it is none.
    var items: [Place]? {
        guard case .array(let items) = tree.value else { return nil }
        return items.enumerated().map { Place(path: "\(path)[\($0)]", tree: $1) }
    }
}

/// Walks a file of another system: takes what has the right shape, notes what has not, and knows what nobody asked for.
struct Scan {
    private(set) var problems: [Problem] = []
    /// Paths of what was looked at.
    private var read: Set<String> = []
    /// Paths of what counts as looked at with all beneath it.
    private var passed: Set<String> = []

    mutating func problem(_ place: Place, _ message: String) {
        // Some values are looked at twice.
        let problem = Problem(path: place.path, line: place.tree.line, message: message)
        if !problems.contains(problem) { problems.append(problem) }
    }

    /// The members of an object, in the order of the file.
    mutating func members(_ place: Place?) -> [(key: String, place: Place)] {
        guard let place else { return [] }
        read.insert(place.path)
        if let members = place.members { return members }
        problem(place, "must be an object, not \(place.tree.kind)")
        return []
    }

    /// The members of an object by key, without those that are null.
    mutating func object(_ place: Place?) -> [String: Place] {
        var out: [String: Place] = [:]
        for (key, member) in members(place) {
            if case .null = member.tree.value { continue }
            out[key] = member
        }
        return out
    }

    mutating func list(_ place: Place?) -> [Place] {
        guard let place else { return [] }
        read.insert(place.path)
        if let items = place.items { return items }
        problem(place, "must be a list, not \(place.tree.kind)")
        return []
    }

    /// Text; `nil` if it is not there, or empty, which these systems write for "none".
    mutating func text(_ place: Place?) -> String? {
        guard let place else { return nil }
        read.insert(place.path)
        guard case .string(let text) = place.tree.value else {
            problem(place, "must be text, not \(place.tree.kind)")
            return nil
        }
        return text.isEmpty ? nil : text
    }

    /// A whole number from 0, as a number or as text.
    mutating func number(_ place: Place?) -> Int? {
        guard let place else { return nil }
        read.insert(place.path)
        let digits: String
        switch place.tree.value {
        case .number(let text), .string(let text): digits = text
        default:
            problem(place, "must be a whole number, not \(place.tree.kind)")
            return nil
        }
        guard !digits.isEmpty, digits.allSatisfy({ ("0"..."9").contains($0) }), let value = Int(digits) else {
            problem(place, "must be a whole number from 0, not \"\(digits)\"")
            return nil
        }
        return value
    }

    /// Yes or no, as `true`, 1, "1", "enable", "yes" and their opposites.
    mutating func flag(_ place: Place?) -> Bool? {
        guard let place else { return nil }
        read.insert(place.path)
        let word: String
        switch place.tree.value {
        case .bool(let value): return value
        case .number(let text), .string(let text): word = text.lowercased()
        default:
            problem(place, "must be true or false, not \(place.tree.kind)")
            return nil
        }
        if ["1", "true", "yes", "enable", "enabled"].contains(word) { return true }
        if ["", "0", "false", "no", "disable", "disabled"].contains(word) { return false }
        problem(place, "must be true or false, not \"\(word)\"")
        return nil
    }

    /// A setting as the kernel takes it: text or number as written, true and false as 1 and 0.
    mutating func setting(_ place: Place?) -> String? {
        guard let place else { return nil }
        read.insert(place.path)
        switch place.tree.value {
        case .number(let text), .string(let text): return text
        case .bool(let value): return value ? "1" : "0"
        case .null: return nil
        case .array, .object:
            problem(place, "must be text or a number, not \(place.tree.kind)")
            return nil
        }
    }

    /// A member that has to be there.
    mutating func required(_ fields: [String: Place], _ key: String, in place: Place) -> Place? {
        if let found = fields[key] { return found }
        problem(Place(path: Self.join(place.path, key), tree: place.tree), "is missing")
        return nil
    }

    /// Text that has to be there and not empty.
    mutating func requiredText(_ fields: [String: Place], _ key: String, in place: Place) -> String? {
        guard let found = required(fields, key, in: place) else { return nil }
        if case .string("") = found.tree.value {
            problem(found, "is empty")
            return nil
        }
        return text(found)
    }

    /// Counts a value as looked at, with all beneath it: it is spoken of as a whole.
    mutating func pass(over place: Place?) { if let place { passed.insert(place.path) } }

    /// What says something and was not looked at. One line stands for all that differ only in the object they belong to.
    ///
    /// - Parameter harmless: keys without meaning for a group.
    func leftovers(in root: Place, harmless: Set<String>) -> [String] {
        var found: [(pattern: String, path: String, more: Int)] = []
        func visit(_ place: Place, _ pattern: String) {
            if passed.contains(place.path) || place.tree.isNothing { return }
            guard read.contains(place.path) else {
                if let i = found.firstIndex(where: { $0.pattern == pattern }) {
                    found[i].more += 1
                } else {
                    found.append((pattern, place.path, 0))
                }
                return
            }
            for (key, member) in place.members ?? [] where !harmless.contains(key) {
                visit(member, pattern + (Self.isPlain(key) ? ".\(key)" : "[]"))
            }
            for item in place.items ?? [] { visit(item, pattern + "[]") }
        }
        visit(root, "")
        return found.map { "\($0.path) is not carried over" + ($0.more > 0 ? ", nor \($0.more) more like it" : "") }
    }

    /// Dotted path; keys that a dot or bracket would make ambiguous stand in brackets.
    static func join(_ path: String, _ key: String) -> String {
        if !isPlain(key) { return "\(path)[\"\(key)\"]" }
        return path.isEmpty ? key : "\(path).\(key)"
    }

    private static func isPlain(_ key: String) -> Bool {
        key.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "_" || $0 == "-") }
    }
}
