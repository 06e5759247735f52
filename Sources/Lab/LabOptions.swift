// SPDX-License-Identifier: Apache-2.0

/// Which of the toolkit's kernels the nodes boot (`make -C kernel um FLAVOUR=…`).
public enum KernelFlavour: String, Codable, Sendable, CaseIterable {
    /// With our patches; the nodes are set up by `clio`.
    case clio
    /// The same kernel without our patches; LIO is set up on each node by itself, as without Clio.
    case stock
    /// `clio` with KASAN, lockdep and sleep-in-atomic checks; about 8 times slower.
    case debug
    /// `clio` that can leave a rule undone, as `debug` can: `clio-lab torture --break`.
    case broken
    /// `broken` on two processors, which kernels of 6.12 cannot have here.
    case smp
    /// `clio` with soft-RoCE and SRP.
    case rdma
    /// `clio` with Fibre Channel over Ethernet.
    case fcoe
}

/// Which version of the kernel nodes boot, such as 7.3 (`make -C kernel um KERNEL=…`).
public struct KernelVersions: Codable, Sendable, Equatable {
    /// That of nodes which are not named; `nil` takes the toolkit's own.
    public var others: String?
    /// Those of nodes by name.
    public var nodes: [String: String]

    public init(others: String? = nil, nodes: [String: String] = [:]) {
        self.others = others
        self.nodes = nodes
    }

    /// Reads `7.3`, `gw1=6.12,gw2=7.3` or `7.3,gw1=6.12`; `nil` if it is none of these.
    public init?(_ text: String) {
        self.init()
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let words = part.split(separator: "=", omittingEmptySubsequences: false).map(String.init)
            guard let version = words.last, Self.isVersion(version) else { return nil }
            switch words.count {
            case 1 where others == nil: others = version
            case 2 where nodes[words[0]] == nil: nodes[words[0]] = version
            default: return nil
            }
        }
    }

    private static func isVersion(_ text: String) -> Bool {
        let numbers = text.split(separator: ".", omittingEmptySubsequences: false)
        return numbers.count == 2 && numbers.allSatisfy { !$0.isEmpty && $0.allSatisfy { "0123456789".contains($0) } }
    }

    subscript(node: String) -> String? { nodes[node] ?? others }
}

/// What is not as most people have it in a lab's Ceph.
public struct CephOptions: Codable, Sendable, Equatable {
    /// Where OSDs have their objects.
    public enum Store: String, Codable, Sendable, CaseIterable {
        /// In their own memory.
        case memstore
        /// In a file of each, as on disks; starts more slowly.
        case bluestore
    }

    public var store = Store.memstore
    /// Whether images have their data in a pool of its own, `data`, which is erasure-coded: two pieces of data and one of parity,
    /// of which two are enough to serve; takes 3 OSDs.
    public var erasure = false
    /// The namespace of the pool `rbd` that images are in; "": the default one.
    public var namespace = ""
    /// Whether only messenger v2 is spoken, and that encrypted.
    public var secure = false
    /// Whether Ceph has IPv6 addresses only. `cut` and `slow` are not for such a lab.
    public var ipv6 = false

    public init() {}
}

/// What a lab consists of.
public struct LabOptions: Codable, Sendable, Equatable {
    /// Name of the lab; labs with different names run side by side, each in its own network namespace.
    /// 1 to 32 letters, digits and `-`.
    public var name: String
    /// Gateway nodes `gw1`…, 1 to 64.
    public var gateways: Int
    /// Initiator nodes `ini1`…, 0 to 64.
    public var initiators: Int
    /// OSDs, 1 to 16.
    public var osds: Int
    /// Copies of each object, on as many OSDs, 1 to `osds`; one of them is enough to serve.
    public var replicas: Int
    /// Images `lun0`… in the pool `rbd` or a namespace of it, each exported by every gateway; 0 to 256.
    public var luns: Int
    /// Size of each image in bytes, a multiple of 1 MiB, at most 1 TiB. Images are thin.
    public var size: Int
    /// The kernel the nodes boot.
    public var kernel: KernelFlavour
    /// Of which version it is; by default the toolkit's, for all nodes.
    public var versions: KernelVersions
    /// Whether `up` also exports the images; without it the gateways boot and wait.
    public var serve: Bool
    /// Whether gateways serve by `cliod`, as one with the others; without it by `clio node up --alone`, each without knowing
    /// of the others. The stock kernel has neither.
    public var daemon: Bool
    /// Memory of a node in MiB; `nil` takes 512, or 1024 with the debug kernel.
    public var nodeMemory: Int?
    public var ceph: CephOptions

    public init(
        name: String = LabOptions.defaultName, gateways: Int = 2, initiators: Int = 1, osds: Int = 1,
        replicas: Int = 1, luns: Int = 1, size: Int = 1 << 30, kernel: KernelFlavour = .clio, serve: Bool = true,
        daemon: Bool? = nil,
        nodeMemory: Int? = nil, versions: KernelVersions = KernelVersions(), ceph: CephOptions = CephOptions()
    ) {
        self.name = name
        self.gateways = gateways
        self.initiators = initiators
        self.osds = osds
        self.replicas = replicas
        self.luns = luns
        self.size = size
        self.kernel = kernel
        self.serve = serve
        self.daemon = daemon ?? (kernel != .stock)
        self.nodeMemory = nodeMemory
        self.versions = versions
        self.ceph = ceph
    }

    /// `$CLIO_LAB_NAME`, or `clio-lab`.
    public static var defaultName: String {
        environment("CLIO_LAB_NAME") ?? "clio-lab"
    }

    /// Memory of a node in MiB, by the kernel it boots.
    var memory: Int { nodeMemory ?? (kernel == .debug ? 1024 : 512) }

    /// - Throws: `LabError` naming the option that is out of its range.
    public func validate() throws(LabError) {
        try Self.check(name: name)
        let ranges: [(String, Int, ClosedRange<Int>)] = [
            ("--nodes", gateways, 1...64), ("--initiators", initiators, 0...64), ("--osds", osds, 1...16),
            ("--luns", luns, 0...256), ("node memory", memory, 128...65536),
        ]
        for (option, value, range) in ranges where !range.contains(value) {
            throw LabError("\(option) \(value)", "must be \(range.lowerBound) to \(range.upperBound)")
        }
        guard (1...osds).contains(replicas) else {
            throw LabError(
                "--replicas \(replicas)", "must be 1 to the number of OSDs, \(osds)",
                remedy: "--osds \(max(1, replicas))")
        }
        if ceph.erasure, osds < 3 {
            throw LabError("--erasure", "needs three OSDs, not \(osds)", remedy: "--osds 3")
        }
        if kernel == .stock, !ceph.namespace.isEmpty || ceph.secure || ceph.ipv6 {
            throw LabError("--stock", "is set up by a script that knows of no --namespace, --secure or --ipv6")
        }
        guard size > 0, size % (1 << 20) == 0, size <= 1 << 40 else {
            throw LabError("--size \(size)", "must be a multiple of 1 MiB, at most 1 TiB")
        }
        let names = (0..<gateways).map { "gw\($0 + 1)" } + (0..<initiators).map { "ini\($0 + 1)" }
        for name in versions.nodes.keys.sorted() where !names.contains(name) {
            throw LabError(
                "--kernel \(name)=", "is no node of this lab", remedy: "one of: \(names.joined(separator: " "))")
        }
    }

    /// - Throws: `LabError` if `name` cannot be that of a lab.
    static func check(name: String) throws(LabError) {
        let valid = name.utf8.allSatisfy { byte in
            byte == UInt8(ascii: "-") || (byte < 0x80 && (Character(UnicodeScalar(byte)).isLetter || isDigit(byte)))
        }
        guard valid, (1...32).contains(name.utf8.count), !name.hasPrefix("-") else {
            throw LabError("lab name \"\(name)\"", "must be 1 to 32 letters, digits and \"-\", not starting with \"-\"")
        }
    }

    /// Bytes of a size such as `512M`, `1G`, `1GiB`, `1.5G`, or plain bytes; `nil` if it is not one.
    public static func bytes(_ text: String) -> Int? {
        let number = text.prefix { $0.isNumber || $0 == "." }
        let suffix = text.dropFirst(number.count).uppercased()
        let shifts = ["": 0, "B": 0, "K": 10, "M": 20, "G": 30, "T": 40]
        let unit = suffix.hasSuffix("IB") ? String(suffix.dropLast(2)) : suffix
        guard let value = Double(number), let shift = shifts[unit], value >= 0 else { return nil }
        let bytes = value * Double(1 << shift)
        return bytes <= Double(1 << 50) ? Int(bytes) : nil
    }
}

private func isDigit(_ byte: UInt8) -> Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) }
