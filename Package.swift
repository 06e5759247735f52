// swift-tools-version: 6.1
// SPDX-License-Identifier: Apache-2.0
import PackageDescription

let strict: [SwiftSetting] = [.swiftLanguageMode(.v6), .enableUpcomingFeature("ExistentialAny")]

/// A Swift module of ours: Swift 6 mode, existentials spelled out.
func module(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: strict)
}

/// A module whose tests run simulations by the hundred: optimised in debug builds, too.
func optimisedModule(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .target(
        name: name, dependencies: dependencies,
        swiftSettings: strict + [.unsafeFlags(["-O"], .when(configuration: .debug))])
}

/// A command: thin, everything it does lives in a module.
func command(_ name: String, _ dependencies: [Target.Dependency], resources: [Resource]? = nil) -> Target {
    .executableTarget(name: name, dependencies: dependencies, resources: resources, swiftSettings: strict)
}

/// Tests of a module. `ClusterTests` are live; the others need no cluster.
func tests(_ name: String, _ dependencies: [Target.Dependency], resources: [Resource]? = nil) -> Target {
    .testTarget(name: name, dependencies: dependencies, resources: resources, swiftSettings: strict)
}

let argumentParser = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let serviceLifecycle = Target.Dependency.product(name: "ServiceLifecycle", package: "swift-service-lifecycle")
let subprocess = Target.Dependency.product(name: "Subprocess", package: "swift-subprocess")
let systemPackage = Target.Dependency.product(name: "SystemPackage", package: "swift-system")
let textTable = Target.Dependency.product(name: "TextTable", package: "TextTable")
let yams = Target.Dependency.product(name: "Yams", package: "Yams")

let package = Package(
    name: "clio",
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-system", from: "1.8.1"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
        .package(url: "https://github.com/ordo-one/TextTable", from: "0.0.2"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.9.0"),
        .package(url: "https://github.com/swiftlang/swift-subprocess", from: "1.0.2"),
    ],
    targets: [
        // C libraries, each a module map and a thin shim.
        .systemLibrary(name: "CRados", providers: [.apt(["librados-dev"])]),
        .systemLibrary(name: "CRBD", providers: [.apt(["librbd-dev"])]),
        .systemLibrary(name: "CKmod", pkgConfig: "libkmod", providers: [.apt(["libkmod-dev"])]),
        .systemLibrary(
            name: "CNetlink", pkgConfig: "libnl-genl-3.0", providers: [.apt(["libnl-3-dev", "libnl-genl-3-dev"])]),
        .systemLibrary(name: "CBlockPR"),
        .systemLibrary(name: "CTimex"),
        .systemLibrary(name: "CKeyring"),
        .systemLibrary(name: "CISCSI", pkgConfig: "libiscsi", providers: [.apt(["libiscsi-dev"])]),

        // What librados offers to C++ only, in C (libradospp-dev).
        .target(name: "CRadosWatchers", linkerSettings: [.linkedLibrary("rados")]),

        // The kernel's reservation engine.
        .target(name: "CPRState"),

        // One safe wrapper a library or kernel interface.
        module("Rados", ["CRados", "CRadosWatchers", systemPackage]),
        module("RBD", ["CRBD", "CRados", "Rados", systemPackage]),
        module("Kmod", ["CKmod", systemPackage]),
        module("Netlink", ["CNetlink", systemPackage]),
        module("ConfigFS", [systemPackage]),
        module("Initiator", ["CISCSI"]),
        module("Reservations", ["CPRState"]),

        // Pure: the group's config, validation, diff.
        module("ClusterModel", [yams]),

        // Pure: configurations of other systems, to and fro.
        module("Migration", ["ClusterModel"]),

        // Pure: membership, lease, events, fencing.
        optimisedModule("Relay", ["ClusterModel"]),

        // The relay of a whole cluster in virtual time, with faults.
        optimisedModule("RelaySimulation", ["Relay", "ClusterModel"]),

        // The model realised in LIO's configfs.
        module(
            "Target",
            [
                "CBlockPR", "CKeyring", "CTimex", "ClusterModel", "ConfigFS", "Kmod", "RBD", "Rados", "Reservations",
                logging, systemPackage,
            ]),

        // Pure: Prometheus' text format.
        module("Exposition"),

        // Pure: what `clio top` makes of measurements.
        module("TopView", ["Exposition"]),

        // The relay's machine driven by kernel, RADOS and gateway.
        module(
            "RelayDriver",
            [
                "ClusterModel", "Exposition", "Netlink", "Rados", "Relay", "Target", logging, serviceLifecycle,
                systemPackage,
            ]),

        // Ceph and nodes on one machine.
        module("Lab", ["Initiator", "Reservations", subprocess, systemPackage, logging]),

        command(
            "clio",
            [
                "Target", "ClusterModel", "Exposition", "Migration", "Netlink", "Rados", "RBD", "RelayDriver",
                "Reservations", "TopView", argumentParser, systemPackage, textTable,
            ],
            resources: [.embedInCode("cliod@.service")]),
        command("cliod", ["ClusterModel", "RelayDriver", "Rados", "Target", argumentParser, logging, systemPackage]),
        command("clio-sim", ["Relay", "RelaySimulation", argumentParser]),
        command(
            "clio-lab", ["Lab", "RBD", "Rados", "Reservations", argumentParser, logging, systemPackage, textTable]),

        tests("RadosTests", ["Rados", systemPackage]),
        tests("RBDTests", ["RBD", systemPackage]),
        tests("KmodTests", ["Kmod", systemPackage]),
        tests("NetlinkTests", ["Netlink", systemPackage]),
        tests("ConfigFSTests", ["ConfigFS", systemPackage]),
        tests("ClusterModelTests", ["ClusterModel"], resources: [.copy("Broken")]),
        tests("MigrationTests", ["Migration", "ClusterModel"], resources: [.copy("Samples")]),
        tests("RelayTests", ["Relay", "RelaySimulation", "ClusterModel"]),
        tests(
            "RelayDriverTests",
            ["RelayDriver", "Exposition", "Netlink", "Relay", "ClusterModel", "Target", systemPackage]),
        tests("ExpositionTests", ["Exposition"]),
        tests("TopViewTests", ["TopView", "Exposition"]),
        tests("TargetTests", ["Target", "ClusterModel", "ConfigFS", "RBD", "Rados", systemPackage]),
        tests("InitiatorTests", ["Initiator"]),
        tests("ReservationsTests", ["Reservations"]),
        tests("LabTests", ["Lab"]),
        tests(
            "ClusterTests",
            [
                "Lab", "Initiator", "Rados", "RBD", "Kmod", "ConfigFS", "Target", "ClusterModel", "Relay",
                "RelayDriver", "Netlink", "Reservations", logging, systemPackage,
            ]),
    ]
)
