// SPDX-License-Identifier: Apache-2.0

import CKmod
import SystemPackage

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// Modules of a kernel: which there are, what they are, and loading them. libkmod underneath.
///
/// A value, and safe to share: every call opens libkmod anew (a context is not thread-safe) and reads its indexes, a
/// millisecond or so. Loading blocks for as long as the module's initialisation takes.
public struct KernelModules: Sendable {
    /// The kernel's release, as `uname -r` gives it.
    public let release: String
    /// The directory searched: `/lib/modules/<release>` unless one was given.
    public let directory: FilePath

    /// Where the kernel tells of its modules; another folder for tests that look at ``loaded(_:)``.
    let sysModule: FilePath

    /// Modules of the running kernel, or those in `directory` (which holds `modules.dep.bin` and its like, see depmod(8)).
    public init(directory: FilePath? = nil) {
        self.init(directory: directory, sysModule: "/sys/module")
    }

    init(directory: FilePath?, sysModule: FilePath) {
        release = Self.runningRelease()
        self.directory = directory ?? FilePath("/lib/modules").appending(release)
        self.sysModule = sysModule
    }

    // MARK: What there is

    /// State of a module in the running kernel (`kmod_module_get_initstate`).
    public enum State: String, Sendable, Hashable {
        case builtIn = "built-in"
        case live
        case loading
        case unloading
        case notLoaded = "not loaded"
    }

    /// A module's file, from its `.modinfo` section (`kmod_module_get_info`).
    public struct Info: Sendable, Hashable {
        public let name: String
        /// The file; nil for what is built in.
        public let path: FilePath?
        /// `MODULE_VERSION`, which few modules have.
        public let version: String?
        /// Hash over the module's sources, where the kernel is built with them.
        public let sourceVersion: String?
        /// The kernel it was built for.
        public let versionMagic: String?
        public let license: String?
        /// Names of modules it needs, directly or not, in the order libkmod would load them in reverse.
        public let dependencies: [String]
        /// Names of its parameters.
        public let parameters: Set<String>
    }

    /// A module in the running kernel, from `/sys/module`.
    public struct Loaded: Sendable, Hashable {
        public let name: String
        public let version: String?
        public let sourceVersion: String?
        /// Users, as the kernel counts them; nil for what is built in.
        public let references: Int?
    }

    /// The modules a name or alias (`blk_cluster`, `fs-configfs`, `pci:…`) stands for, by name; empty if there are none.
    public func resolve(_ nameOrAlias: String) throws(KmodError) -> [String] {
        let context = try Context(self, module: nameOrAlias, operation: "look up")
        return try context.lookup(nameOrAlias).map(\.name)
    }

    /// Whether there is a module (a file of this directory, or built in) of that name or alias.
    public func exists(_ nameOrAlias: String) throws(KmodError) -> Bool {
        try !resolve(nameOrAlias).isEmpty
    }

    /// State of a module in the running kernel, whatever the directory is.
    public func state(of module: String) throws(KmodError) -> State {
        let context = try Context(self, module: module, operation: "look up")
        guard let found = try context.lookup(module).first else { return loaded(module) == nil ? .notLoaded : .live }
        return found.state
    }

    /// What the file of a module says. `missing` if there is none.
    public func info(_ nameOrAlias: String) throws(KmodError) -> Info {
        let context = try Context(self, module: nameOrAlias, operation: "read")
        guard let module = try context.lookup(nameOrAlias).first else { throw context.missing() }
        let (fields, parameters) = try module.info()
        return Info(
            name: module.name, path: module.path, version: fields["version"], sourceVersion: fields["srcversion"],
            versionMagic: fields["vermagic"], license: fields["license"], dependencies: module.dependencies,
            parameters: Set(parameters))
    }

    /// Symbols that the file of a module exports (`kmod_module_get_symbols`). `missing` if there is none.
    public func exports(of module: String) throws(KmodError) -> Set<String> {
        let context = try Context(self, module: module, operation: "read")
        guard let found = try context.lookup(module).first else { throw context.missing() }
        return try found.exports()
    }

    /// What the running kernel says of a module; nil if it is not loaded. Built-in ones show only if they have parameters.
    public func loaded(_ module: String) -> Loaded? {
        let name = Self.normalized(module)
        let folder = sysModule.appending(name)
        guard Self.isDirectory(folder) else { return nil }
        return Loaded(
            name: name, version: Self.line(folder.appending("version")),
            sourceVersion: Self.line(folder.appending("srcversion")),
            references: Self.line(folder.appending("refcnt")).flatMap { Int($0) })
    }

    // MARK: Loading

    /// What came of loading.
    public enum Outcome: Sendable, Hashable {
        /// Loaded now.
        case loaded
        /// It was there already; options were not looked at.
        case alreadyLoaded
        /// Part of the kernel itself.
        case builtIn
    }

    /// Loads a module and what it depends on (`kmod_module_probe_insert_module`), as modprobe(8) would: the options and
    /// soft dependencies of modprobe.d hold; a blacklist does not, since the module is asked for by name.
    ///
    /// - Parameters:
    ///   - nameOrAlias: an alias that stands for several modules loads them all.
    ///   - options: parameters, in addition to those of modprobe.d.
    /// - Throws: `missing` if there is no such module; `mismatch` if it was built for another kernel; `notPermitted`.
    @discardableResult
    public func load(_ nameOrAlias: String, options: [String: String] = [:]) throws(KmodError) -> Outcome {
        let context = try Context(self, module: nameOrAlias, operation: "load")
        let modules = try context.lookup(nameOrAlias)
        if modules.isEmpty {
            // The directory may lack what the kernel has: a lab's module directory, a kernel without modules.
            if loaded(nameOrAlias) != nil { return .alreadyLoaded }
            throw context.missing()
        }
        let arguments = options.sorted { $0.key < $1.key }.map { "\($0.key)=\(Self.quoted($0.value))" }
        var outcomes: [Outcome] = []
        for module in modules { outcomes.append(try module.load(arguments.joined(separator: " "))) }
        return outcomes.contains(.loaded) ? .loaded : outcomes.first ?? .alreadyLoaded
    }

    /// Unloads a module (`kmod_module_remove_module`), not what it depended on. No error if it is not loaded.
    ///
    /// - Returns: whether it was loaded.
    /// - Throws: `inUse` while something holds it.
    @discardableResult
    public func unload(_ module: String) throws(KmodError) -> Bool {
        let context = try Context(self, module: module, operation: "unload")
        guard let found = try context.lookup(module).first else { throw context.missing() }
        guard found.state != .notLoaded else { return false }
        try found.remove()
        return true
    }

    // MARK: Small things

    /// The way the kernel spells a module's name.
    static func normalized(_ name: String) -> String {
        String(name.map { $0 == "-" ? "_" : $0 })
    }

    /// A parameter's value as the kernel's parser wants it: with blanks, in double quotes.
    static func quoted(_ value: String) -> String {
        value.contains(where: \.isWhitespace) ? "\"\(value)\"" : value
    }

    private static func runningRelease() -> String {
        var names = utsname()
        guard uname(&names) == 0 else { return "unknown" }
        return withUnsafeBytes(of: &names.release) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }

    private static func isDirectory(_ path: FilePath) -> Bool {
        var status = stat()
        return path.withPlatformString { stat($0, &status) } == 0 && status.st_mode & S_IFMT == S_IFDIR
    }

    /// The first line of a small file, or nil.
    private static func line(_ path: FilePath) -> String? {
        guard let descriptor = try? FileDescriptor.open(path, .readOnly, options: [.closeOnExec]) else { return nil }
        defer { try? descriptor.close() }
        var buffer = [UInt8](repeating: 0, count: 256)
        guard let count = try? buffer.withUnsafeMutableBytes({ try descriptor.read(into: $0) }) else { return nil }
        return String(decoding: buffer[..<count].prefix { $0 != 0x0A }, as: UTF8.self)
    }
}

/// One libkmod context, used by one call and gone with it.
private final class Context {
    let raw: OpaquePointer
    let modules: KernelModules
    let asked: String
    let operation: String

    init(_ modules: KernelModules, module: String, operation: String) throws(KmodError) {
        self.modules = modules
        asked = module
        self.operation = operation
        guard let raw = modules.directory.withPlatformString({ kmod_new($0, nil) }) else {
            throw KmodError(
                .other, module: module, operation: operation, release: modules.release, directory: modules.directory,
                errno: .noMemory)
        }
        self.raw = raw
        clio_kmod_silence(raw)
    }

    deinit { kmod_unref(raw) }

    /// Modules of that name or alias, in the order libkmod gives them.
    func lookup(_ nameOrAlias: String) throws(KmodError) -> [Module] {
        var list: OpaquePointer?
        let result = kmod_module_new_from_lookup(raw, nameOrAlias, &list)
        // libkmod says ENOSYS or ENOENT for a name no index knows, and for a directory without indexes.
        if result == -ENOENT || result == -ENOSYS { return [] }
        guard result >= 0 else { throw error(-result) }
        defer { kmod_module_unref_list(list) }
        var found: [Module] = []
        var entry = list
        while let current = entry {
            if let module = kmod_module_get_module(current) { found.append(Module(self, module)) }
            entry = kmod_list_next(list, current)
        }
        return found
    }

    func missing() -> KmodError {
        let remedy =
            access(modules.directory.string, F_OK) == 0
            ? "install the modules of this kernel that hold it and run depmod, or boot the kernel that has it"
            : "the directory does not exist: install the modules of kernel \(modules.release), or boot the kernel "
                + "whose modules are installed"
        return KmodError(
            .missing, module: asked, operation: operation, release: modules.release, directory: modules.directory,
            errno: .noSuchFileOrDirectory, remedy: remedy)
    }

    func error(_ code: Int32, module: String? = nil) -> KmodError {
        let kind: KmodError.Kind
        var remedy: String?
        switch code {
        case ENOENT where operation == "load":
            kind = .other
            remedy = "it needs symbols that no loaded module has; the kernel log (dmesg) names them"
        case EINVAL where operation == "load":
            kind = .other
            remedy = "it refused a parameter or found its device wrong; the kernel log (dmesg) says which"
        case ENOEXEC:
            kind = .mismatch
            remedy = "rebuild it for this kernel; the kernel log (dmesg) says what differs"
        case EPERM, EACCES:
            kind = .notPermitted
            remedy =
                geteuid() == 0
                ? "module loading may be switched off (sysctl kernel.modules_disabled) or need a signature"
                : "this needs root"
        case EBUSY, EAGAIN, EWOULDBLOCK:
            kind = .inUse
            remedy = "remove what uses it first: lsmod shows its users"
        default:
            kind = .other
        }
        return KmodError(
            kind, module: module ?? asked, operation: operation, release: modules.release,
            directory: modules.directory, errno: Errno(rawValue: code), remedy: remedy)
    }
}

/// One module of a context.
private final class Module {
    let context: Context
    let raw: OpaquePointer

    /// Takes over a reference.
    init(_ context: Context, _ raw: OpaquePointer) {
        self.context = context
        self.raw = raw
    }

    deinit { kmod_module_unref(raw) }

    var name: String { kmod_module_get_name(raw).map { String(cString: $0) } ?? "" }

    var path: FilePath? { kmod_module_get_path(raw).map { FilePath(String(cString: $0)) } }

    var state: KernelModules.State {
        switch kmod_module_get_initstate(raw) {
        case Int32(KMOD_MODULE_BUILTIN.rawValue): .builtIn
        case Int32(KMOD_MODULE_LIVE.rawValue): .live
        case Int32(KMOD_MODULE_COMING.rawValue): .loading
        case Int32(KMOD_MODULE_GOING.rawValue): .unloading
        default: .notLoaded
        }
    }

    var dependencies: [String] {
        guard let list = kmod_module_get_dependencies(raw) else { return [] }
        defer { kmod_module_unref_list(list) }
        var names: [String] = []
        var entry: OpaquePointer? = list
        while let current = entry {
            if let module = kmod_module_get_module(current) {
                if let name = kmod_module_get_name(module) { names.append(String(cString: name)) }
                kmod_module_unref(module)
            }
            entry = kmod_list_next(list, current)
        }
        return names
    }

    /// Fields by name, and the names of the parameters, of which there is a field each.
    func info() throws(KmodError) -> ([String: String], parameters: [String]) {
        var list: OpaquePointer?
        let result = kmod_module_get_info(raw, &list)
        guard result >= 0 else { throw context.error(-result, module: name) }
        defer { kmod_module_info_free_list(list) }
        var fields: [String: String] = [:]
        var parameters: [String] = []
        var entry = list
        while let current = entry {
            if let key = kmod_module_info_get_key(current), let value = kmod_module_info_get_value(current) {
                let (key, value) = (String(cString: key), String(cString: value))
                if key == "parmtype" { parameters.append(String(value.prefix { $0 != ":" })) }
                fields[key] = value
            }
            entry = kmod_list_next(list, current)
        }
        return (fields, parameters)
    }

    func exports() throws(KmodError) -> Set<String> {
        var list: OpaquePointer?
        let result = kmod_module_get_symbols(raw, &list)
        if result == -ENODATA { return [] }
        guard result >= 0 else { throw context.error(-result, module: name) }
        defer { kmod_module_symbols_free_list(list) }
        var symbols: Set<String> = []
        var entry = list
        while let current = entry {
            if let symbol = kmod_module_symbol_get_symbol(current) { symbols.insert(String(cString: symbol)) }
            entry = kmod_list_next(list, current)
        }
        return symbols
    }

    func load(_ options: String) throws(KmodError) -> KernelModules.Outcome {
        switch state {
        case .builtIn: return .builtIn
        case .live: return .alreadyLoaded
        default: break
        }
        let result = kmod_module_probe_insert_module(raw, KMOD_PROBE_FAIL_ON_LOADED.rawValue, options, nil, nil, nil)
        if result == -EEXIST { return .alreadyLoaded }
        if result == -ENOENT, let path, access(path.string, F_OK) != 0 { throw context.missing() }
        guard result == 0 else { throw context.error(result < 0 ? -result : EIO, module: name) }
        return .loaded
    }

    func remove() throws(KmodError) {
        let result = kmod_module_remove_module(raw, UInt32(KMOD_REMOVE_NOLOG.rawValue))
        guard result == 0 else { throw context.error(-result, module: name) }
    }
}
