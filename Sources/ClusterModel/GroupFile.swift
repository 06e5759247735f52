// SPDX-License-Identifier: Apache-2.0
import Yams

/// A group file: YAML as people write it. JSON is YAML too.
public enum GroupFile {
    /// Largest file accepted, bytes.
    public static let maximumSize = 4 << 20
    /// Most YAML nodes looked at: a file of nested aliases can be small and yet describe millions.
    static let maximumNodes = 500_000

    /// The group that a file names, whatever else is wrong with it; `nil` if it names none.
    public static func groupName(in text: String) -> String? {
        (try? Yams.compose(yaml: text))?.mapping?["group"]?.string
    }

    /// Reads and checks a group file.
    ///
    /// - Parameter known: a group whose CHAP secrets stand where the file has ``Secret/redacted`` for a host of that group.
    /// - Throws: ``InvalidGroup`` with every problem found. A file that is not YAML at all, or that gives one key twice, has
    ///   just that problem: the parser cannot go on.
    public static func parse(_ text: String, secretsOf known: Group? = nil) throws(InvalidGroup) -> Group {
        guard text.utf8.count <= maximumSize else {
            throw InvalidGroup([Problem(path: "", message: "the file is larger than \(maximumSize >> 20) MiB")])
        }
        let root: Yams.Node?
        do {
            root = try Yams.compose(yaml: text)
        } catch {
            throw InvalidGroup([syntaxProblem(error, text)])
        }
        guard let root else { throw InvalidGroup([Problem(path: "", message: "the file is empty")]) }
        var reader = Reader()
        guard reader.affordable(root) else {
            throw InvalidGroup([Problem(path: "", message: "the file describes more than \(maximumNodes) values")])
        }
        var group = reader.group(root)
        if let known { group.restoreSecrets(from: known) }
        let shape = reader.shortForm
        let semantic = group.problems(targetPath: { shape ? "target" : "targets[\($0)]" })
        let problems = reader.finish(semantic)
        if !problems.isEmpty { throw InvalidGroup(problems) }
        return group
    }

    /// Writes a group as YAML, in the order a person would, so that it can be edited and applied again.
    ///
    /// - Parameter secrets: whether CHAP secrets are written; otherwise they are ``Secret/redacted``.
    public static func format(_ group: Group, secrets: Bool = false) -> String {
        var w = Writer()
        w.line(0, "group: \(quote(group.name))")
        w.line(0, "timing:")
        for (key, path, _) in Timing.ranges { w.line(1, "\(key): \(group.timing[keyPath: path])") }
        if let chap = group.discovery {
            w.line(0, "discovery:")
            for content in credentials(chap, secrets) { w.line(1, content) }
        }
        w.list("nodes", group.nodes) { node in
            ["name: \(quote(node.name))", "portals: \(flow(node.portals))"]
        }
        w.list("targets", group.targets) { target in
            var lines = naming(target.iqn, target.fabric)
            if !target.fabric.isLocal { lines.append("access: \(target.access.rawValue)") }
            if let nodes = target.nodes { lines.append("nodes: \(flow(nodes))") }
            if let portals = target.portals {
                lines.append("portals:")
                for (name, list) in portals.sorted(by: { $0.key < $1.key }) {
                    lines.append("  \(quote(name)): \(flow(list))")
                }
            }
            if let ports = target.ports {
                lines.append("ports:")
                for (name, list) in ports.sorted(by: { $0.key < $1.key }) {
                    lines.append("  \(quote(name)): \(flow(list))")
                }
            }
            if let luns = target.luns { lines.append("luns: [\(luns.map(String.init).joined(separator: ", "))]") }
            if let hosts = target.hosts { lines.append("hosts: \(flow(hosts))") }
            return lines
        }
        w.list("luns", group.luns) { lun in
            var lines = ["lun: \(lun.lun)", "image: \(quote(lun.image))"]
            if let serial = lun.serial { lines.append("serial: \(quote(serial, always: true))") }
            return lines
        }
        w.list("hosts", group.hosts) { host in
            var lines = naming(host.iqn, host.fabric)
            if let chap = host.chap { lines += ["chap:"] + credentials(chap, secrets).map { "  " + $0 } }
            if let luns = host.luns { lines.append("luns: [\(luns.map(String.init).joined(separator: ", "))]") }
            return lines
        }
        return w.text
    }

    private static func credentials(_ chap: CHAP, _ secrets: Bool) -> [String] {
        func show(_ secret: Secret) -> String { quote(secrets ? secret.revealed : Secret.redacted, always: true) }
        var lines = ["user: \(quote(chap.user, always: true))", "password: \(show(chap.password))"]
        if let user = chap.mutualUser { lines.append("mutualUser: \(quote(user, always: true))") }
        if let password = chap.mutualPassword { lines.append("mutualPassword: \(show(password))") }
        return lines
    }

    private static func naming(_ name: String, _ fabric: Fabric) -> [String] {
        fabric == .iscsi ? ["iqn: \(quote(name))"] : ["fabric: \(fabric.rawValue)", "name: \(quote(name))"]
    }

    private static func flow(_ items: [String]) -> String {
        "[" + items.map { quote($0, always: $0.contains { "[]{},".contains($0) }) }.joined(separator: ", ") + "]"
    }

    /// A YAML scalar: plain where no YAML reader could mistake it, else double-quoted.
    private static func quote(_ text: String, always: Bool = false) -> String {
        let plain = text.first.map { $0.isASCII && $0.isLetter } ?? false
        let safe = text.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "-./:_".contains($0)) }
        let words = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"]
        if !always, plain, safe, text.last != ":", !words.contains(text.lowercased()) { return text }
        var out = "\""
        for c in text.unicodeScalars {
            switch c {
            case "\"": out += "\\\""
            case "\\": out += "\\\\"
            case _ where c.value < 0x20 || c.value == 0x7f:
                let hex = String(c.value, radix: 16)
                out += "\\x" + String(repeating: "0", count: 2 - hex.count) + hex
            default: out.unicodeScalars.append(c)
            }
        }
        return out + "\""
    }

    private struct Writer {
        var text = ""
        mutating func line(_ depth: Int, _ content: String) {
            text += String(repeating: "  ", count: depth) + content + "\n"
        }
        mutating func list<T>(_ key: String, _ items: [T], _ lines: (T) -> [String]) {
            if items.isEmpty {
                line(0, "\(key): []")
                return
            }
            line(0, "\(key):")
            for item in items {
                for (i, content) in lines(item).enumerated() { line(1, (i == 0 ? "- " : "  ") + content) }
            }
        }
    }

    private static func syntaxProblem(_ error: any Error, _ text: String) -> Problem {
        guard let error = error as? YamlError else { return Problem(path: "", message: "not YAML: \(error)") }
        switch error {
        case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
            .composer(_, let problem, let mark, _):
            return Problem(path: "", line: mark.line, message: "not YAML: \(problem) (column \(mark.column))")
        case .reader(let problem, let offset, _, _):
            let line = offset.map { text.prefix($0).count(where: \.isNewline) + 1 }
            return Problem(path: "", line: line, message: "not YAML: \(problem)")
        case .duplicatedKeysInMapping(let keys, let context):
            let names = keys.map { "\"\($0)\"" }.joined(separator: ", ")
            return Problem(
                path: "", line: context.mark.line > 0 ? context.mark.line : nil,
                message: "key \(names) stands twice in one mapping; which one is meant?")
        default:
            return Problem(path: "", message: "not YAML: \(error)")
        }
    }
}

/// Walks the YAML tree: notes where things are and what has the wrong shape, and builds the group from the rest.
private struct Reader {
    private(set) var problems: [Problem] = []
    /// Line of each path.
    private var lines: [String: Int] = [:]
    /// Paths that have a placeholder for a value, so that rules about the value say nothing.
    private var placeholders: Set<String> = []
    private(set) var shortForm = false

    /// Counts the nodes of the tree, aliases resolved.
    func affordable(_ root: Yams.Node) -> Bool {
        var count = 0
        func visit(_ node: Yams.Node) -> Bool {
            count += 1
            guard count <= GroupFile.maximumNodes else { return false }
            switch node {
            case .mapping(let mapping): return mapping.allSatisfy { visit($0.key) && visit($0.value) }
            case .sequence(let sequence): return sequence.allSatisfy(visit)
            default: return true
            }
        }
        return visit(root)
    }

    /// All problems with their lines, in the order of the file.
    func finish(_ semantic: [Problem]) -> [Problem] {
        let kept = semantic.filter { problem in
            !placeholders.contains {
                problem.path == $0 || problem.path.hasPrefix("\($0).") || problem.path.hasPrefix("\($0)[")
            }
        }
        let located = (problems + kept).map { problem in
            problem.line == nil
                ? Problem(path: problem.path, line: line(of: problem.path), message: problem.message) : problem
        }
        let order = located.enumerated().sorted {
            ($0.element.line ?? 0, $0.offset) < ($1.element.line ?? 0, $1.offset)
        }
        return order.map(\.element)
    }

    /// The line of a path, or of the nearest thing around it.
    private func line(of path: String) -> Int? {
        var path = path[...]
        while true {
            if let line = lines[String(path)] { return line }
            guard let cut = path.lastIndex(where: { $0 == "." || $0 == "[" }) else { return lines[""] }
            path = path[..<cut]
        }
    }

    private mutating func problem(_ path: String, _ message: String, at node: Yams.Node? = nil) {
        problems.append(Problem(path: path, line: node?.mark?.line, message: message))
        placeholders.insert(path)
    }

    // MARK: Shapes

    /// The values of a mapping by key; complains about keys that are not known.
    private mutating func mapping(_ node: Yams.Node, _ path: String, keys: [String]) -> [String: Yams.Node]? {
        lines[path] = node.mark?.line
        guard case .mapping(let mapping) = node else {
            problem(path, "must be a mapping of \(keys.joined(separator: ", ")), not \(kind(node))", at: node)
            return nil
        }
        var values: [String: Yams.Node] = [:]
        for (key, value) in mapping {
            let name = key.scalar?.string ?? "?"
            let at = path.isEmpty ? name : "\(path).\(name)"
            guard keys.contains(name) else {
                let meant = nearest(to: name, among: keys)
                let hint = meant.map { "did you mean \"\($0)\"?" } ?? "known here: \(keys.joined(separator: ", "))"
                problem(at, "unknown key; \(hint)", at: key)
                // Most likely the value is there, under the wrong name: say nothing of its absence.
                if let meant, mapping[meant] == nil { placeholders.insert(path.isEmpty ? meant : "\(path).\(meant)") }
                continue
            }
            lines[at] = key.mark?.line
            values[name] = value
        }
        return values
    }

    private func kind(_ node: Yams.Node) -> String {
        switch node {
        case .mapping: "a mapping"
        case .sequence: "a list"
        case .alias: "an alias"
        case .scalar: isNull(node) ? "empty" : "a plain value"
        }
    }

    private func isNull(_ node: Yams.Node) -> Bool {
        guard case .scalar(let scalar) = node, scalar.style == .plain || scalar.style == .any else { return false }
        return ["", "~", "null", "Null", "NULL"].contains(scalar.string)
    }

    private mutating func list(_ node: Yams.Node?, _ path: String) -> [Yams.Node]? {
        guard let node else { return nil }
        guard case .sequence(let items) = node else {
            problem(path, "must be a list, not \(kind(node))", at: node)
            return nil
        }
        for (i, item) in items.enumerated() { lines["\(path)[\(i)]"] = item.mark?.line }
        return Array(items)
    }

    /// The text of a scalar as written: a secret that looks like a number stays what it is.
    private mutating func string(_ node: Yams.Node, _ path: String) -> String? {
        guard case .scalar(let scalar) = node else {
            problem(path, "must be text, not \(kind(node))", at: node)
            return nil
        }
        guard !isNull(node) else {
            problem(path, "is empty", at: node)
            return nil
        }
        return scalar.string
    }

    private mutating func integer(_ node: Yams.Node, _ path: String) -> Int? {
        guard case .scalar(let scalar) = node else {
            problem(path, "must be a whole number, not \(kind(node))", at: node)
            return nil
        }
        let digits = scalar.string.hasPrefix("-") ? scalar.string.dropFirst() : scalar.string[...]
        guard scalar.style == .plain || scalar.style == .any, !digits.isEmpty,
            digits.allSatisfy({ ("0"..."9").contains($0) }), digits.count == 1 || digits.first != "0",
            let value = Int(scalar.string)
        else {
            problem(path, "must be a whole number, not \"\(scalar.string)\"", at: node)
            return nil
        }
        return value
    }

    private mutating func required(_ values: [String: Yams.Node], _ key: String, _ path: String) -> Yams.Node? {
        if let node = values[key] { return node }
        if placeholders.contains("\(path).\(key)") { return nil }
        problem("\(path).\(key)", "is missing")
        return nil
    }

    private mutating func text(_ values: [String: Yams.Node], _ key: String, _ path: String) -> String {
        guard let node = required(values, key, path) else { return "" }
        return string(node, "\(path).\(key)") ?? ""
    }

    private mutating func optionalText(_ values: [String: Yams.Node], _ key: String, _ path: String) -> String? {
        guard let node = values[key] else { return nil }
        return string(node, "\(path).\(key)")
    }

    private mutating func strings(_ node: Yams.Node?, _ path: String) -> [String]? {
        list(node, path)?.enumerated().map { string($1, "\(path)[\($0)]") ?? "" }
    }

    private mutating func integers(_ node: Yams.Node?, _ path: String) -> [Int]? {
        list(node, path)?.enumerated().map { integer($1, "\(path)[\($0)]") ?? -1 }
    }

    // MARK: The group

    mutating func group(_ root: Yams.Node) -> Group {
        var group = Group(name: "default")
        let keys = ["group", "timing", "discovery", "target", "targets", "access", "nodes", "luns", "hosts"]
        guard let values = mapping(root, "", keys: keys) else {
            placeholders.formUnion(keys)
            return group
        }
        if let node = values["group"] { group.name = string(node, "group") ?? "default" }
        if let node = values["timing"] { group.timing = timing(node) }
        if let node = values["discovery"] { group.discovery = chap(node, "discovery") }
        let access = values["access"].map { self.access($0, "access") } ?? nil

        for (i, node) in (list(values["nodes"], "nodes") ?? []).enumerated() {
            let path = "nodes[\(i)]"
            var result = Node(name: "", portals: [])
            if let fields = mapping(node, path, keys: ["name", "portals"]) {
                result.name = text(fields, "name", path)
                if let portals = fields["portals"] { result.portals = strings(portals, "\(path).portals") ?? [] }
            }
            group.nodes.append(result)
        }

        for (i, node) in (list(values["luns"], "luns") ?? []).enumerated() {
            let path = "luns[\(i)]"
            var result = LogicalUnit(lun: -1 - i, image: "")
            if let fields = mapping(node, path, keys: ["lun", "image", "serial"]) {
                if let number = required(fields, "lun", path) {
                    result.lun = integer(number, "\(path).lun") ?? -1 - i
                }
                result.image = text(fields, "image", path)
                result.serial = optionalText(fields, "serial", path)
            }
            group.luns.append(result)
        }

        for (i, node) in (list(values["hosts"], "hosts") ?? []).enumerated() {
            let path = "hosts[\(i)]"
            var result = Host(iqn: "")
            if let fields = mapping(node, path, keys: ["iqn", "fabric", "name", "chap", "luns"]) {
                result.fabric = fabric(fields, path)
                result.iqn = name(fields, result.fabric, path)
                if let chap = fields["chap"] { result.chap = self.chap(chap, "\(path).chap") }
                result.luns = integers(fields["luns"], "\(path).luns")
            }
            group.hosts.append(result)
        }

        targets(values, access, &group)
        return group
    }

    private mutating func targets(_ values: [String: Yams.Node], _ access: Access?, _ group: inout Group) {
        switch (values["target"], values["targets"]) {
        case (let one?, nil):
            shortForm = true
            group.targets = [target(one, "target", access)]
        case (nil, let many?):
            for (i, node) in (list(many, "targets") ?? []).enumerated() {
                group.targets.append(target(node, "targets[\(i)]", access))
            }
        case (let one?, .some):
            problem("target", "give either target or targets, not both", at: one)
            placeholders.insert("targets")
        case (nil, nil):
            break
        }
    }

    private mutating func target(_ node: Yams.Node, _ path: String, _ access: Access?) -> ClusterTarget {
        var result = ClusterTarget(iqn: "", access: access ?? .hosts)
        let keys = ["iqn", "fabric", "name", "access", "nodes", "portals", "ports", "luns", "hosts"]
        guard let fields = mapping(node, path, keys: keys) else { return result }
        result.fabric = fabric(fields, path)
        result.iqn = name(fields, result.fabric, path)
        // The default of the group is for those that log in.
        if result.fabric.isLocal { result.access = .open }
        if let node = fields["access"] { result.access = self.access(node, "\(path).access") ?? .open }
        result.nodes = strings(fields["nodes"], "\(path).nodes")
        result.luns = integers(fields["luns"], "\(path).luns")
        result.hosts = strings(fields["hosts"], "\(path).hosts")
        result.portals = byNode(fields, "portals", path)
        result.ports = byNode(fields, "ports", path)
        return result
    }

    /// Lists of texts by node.
    private mutating func byNode(_ fields: [String: Yams.Node], _ key: String, _ path: String) -> [String: [String]]? {
        guard let node = fields[key] else { return nil }
        let path = "\(path).\(key)"
        guard case .mapping(let mapping) = node else {
            problem(path, "must be a mapping of node names to lists of \(key), not \(kind(node))", at: node)
            return nil
        }
        var lists: [String: [String]] = [:]
        for (key, value) in mapping {
            let name = key.scalar?.string ?? "?"
            lines["\(path).\(name)"] = key.mark?.line
            lists[name] = strings(value, "\(path).\(name)") ?? []
        }
        return lists
    }

    private mutating func fabric(_ fields: [String: Yams.Node], _ path: String) -> Fabric {
        guard let node = fields["fabric"], let text = string(node, "\(path).fabric") else { return .iscsi }
        if let fabric = Fabric(rawValue: text) { return fabric }
        let known = Fabric.allCases.map(\.rawValue)
        let hint = nearest(to: text, among: known).map { "; did you mean \"\($0)\"?" } ?? ""
        problem("\(path).fabric", "is one of \(known.joined(separator: ", ")), not \"\(text)\"\(hint)", at: node)
        // Nothing can be said about the names.
        placeholders.insert(path)
        return .iscsi
    }

    /// What names a target or host: `iqn` in iSCSI, else `name`.
    private mutating func name(_ fields: [String: Yams.Node], _ fabric: Fabric, _ path: String) -> String {
        if placeholders.contains(path) { return "" }
        let (key, other) = fabric == .iscsi ? ("iqn", "name") : ("name", "iqn")
        if let node = fields[other] {
            problem("\(path).\(other)", "stands with another fabric; with \(fabric.rawValue) it is \(key)", at: node)
            if fields[key] == nil { placeholders.insert("\(path).\(key)") }
        }
        return text(fields, key, path)
    }

    private mutating func access(_ node: Yams.Node, _ path: String) -> Access? {
        guard let text = string(node, path) else { return nil }
        if let access = Access(rawValue: text) { return access }
        problem(path, "is \"open\" (any host) or \"hosts\" (only those listed), not \"\(text)\"", at: node)
        return nil
    }

    private mutating func timing(_ node: Yams.Node) -> Timing {
        guard !isNull(node), let fields = mapping(node, "timing", keys: Timing.ranges.map(\.key)) else {
            return Timing()
        }
        var numbers: [String: Int] = [:]
        var failed = false
        for (key, value) in fields.sorted(by: { $0.key < $1.key }) {
            if let number = integer(value, "timing.\(key)") { numbers[key] = number } else { failed = true }
        }
        // With one figure unknown, nothing can be said about how they fit.
        if failed { return Timing() }
        return Timing(
            renew: numbers["renew"] ?? 1, lease: numbers["lease"] ?? 5, dead: numbers["dead"] ?? 7,
            bound: numbers["bound"],
            ping: numbers["ping"] ?? 3, pingTimeout: numbers["pingTimeout"] ?? 3)
    }

    private mutating func chap(_ node: Yams.Node, _ path: String) -> CHAP? {
        guard let fields = mapping(node, path, keys: ["user", "password", "mutualUser", "mutualPassword"]) else {
            return nil
        }
        return CHAP(
            user: text(fields, "user", path), password: Secret(text(fields, "password", path)),
            mutualUser: optionalText(fields, "mutualUser", path),
            mutualPassword: optionalText(fields, "mutualPassword", path).map(Secret.init))
    }
}
