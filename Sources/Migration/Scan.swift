// SPDX-License-Identifier: Apache-2.0
import ClusterModel

/// A value of a file, and where it stands.
struct Place {
    let path: String
    let tree: JSONTree
}

/// Walks a file of another system: takes what has the right shape, and notes what has not.
struct Scan {
    private(set) var problems: [Problem] = []

    mutating func problem(_ place: Place, _ message: String) {
        // Some values are looked at twice.
        let problem = Problem(path: place.path, line: place.tree.line, message: message)
        if !problems.contains(problem) { problems.append(problem) }
    }

    /// The members of an object, in the order of the file.
    mutating func members(_ place: Place?) -> [(key: String, place: Place)] {
        guard let place else { return [] }
        guard case .object(let members) = place.tree.value else {
            problem(place, "must be an object, not \(place.tree.kind)")
            return []
        }
        return members.map { ($0.key, Place(path: Self.join(place.path, $0.key), tree: $0.value)) }
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
        guard case .array(let items) = place.tree.value else {
            problem(place, "must be a list, not \(place.tree.kind)")
            return []
        }
        return items.enumerated().map { Place(path: "\(place.path)[\($0)]", tree: $1) }
    }

    /// Text; `nil` if it is not there, or empty, which these systems write for "none".
    mutating func text(_ place: Place?) -> String? {
        guard let place else { return nil }
        guard case .string(let text) = place.tree.value else {
            problem(place, "must be text, not \(place.tree.kind)")
            return nil
        }
        return text.isEmpty ? nil : text
    }

    /// A whole number from 0, as a number or as text.
    mutating func number(_ place: Place?) -> Int? {
        guard let place else { return nil }
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

    /// Dotted path; keys that a dot or bracket would make ambiguous stand in brackets.
    static func join(_ path: String, _ key: String) -> String {
        let plain = key.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "_" || $0 == "-") }
        if !plain { return "\(path)[\"\(key)\"]" }
        return path.isEmpty ? key : "\(path).\(key)"
    }
}
