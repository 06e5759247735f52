// SPDX-License-Identifier: Apache-2.0
import ClusterModel
import ConfigFS
import Foundation
import SystemPackage
import Testing

@testable import Target

/// A folder that goes away with the test.
final class Scratch: Sendable {
    let path: FilePath

    init() throws {
        let url = FileManager.default.temporaryDirectory.appendingPathComponent("clio-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
        path = FilePath(url.path)
    }

    deinit { try? FileManager.default.removeItem(atPath: path.string) }

    func put(_ text: String, _ name: String) throws {
        let url = URL(fileURLWithPath: path.appending(name).string)
        try FileManager.default.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
        try Data(text.utf8).write(to: url)
    }
}

/// How failures spread, on plain folders: no kernel is involved, and none is claimed.
@Suite struct PlanRunnerTests {
    private func action(
        _ operation: ClusterModel.Operation, _ object: [String], requires: [[String]] = [], whole: Bool = false
    ) -> Action {
        Action(
            operation: operation, object: object, requires: requires, removesWhole: whole, description: operation.path)
    }

    @Test func aFailureStopsWhatDependsOnItAndNothingElse() throws {
        let scratch = try Scratch()
        let runner = PlanRunner(tree: ConfigTree(root: scratch.path))
        let report = runner.run([
            action(.makeDirectory("good"), ["backstore good"]),
            action(.makeDirectory("missing/bad"), ["backstore bad"]),
            action(.write("missing/bad/attrib", value: "1"), ["backstore bad"]),
            action(.makeDirectory("target"), ["target t"]),
            action(.makeDirectory("target/lun_0"), ["target t", "LUN 0"], requires: [["backstore good"]]),
            action(.makeDirectory("target/lun_1"), ["target t", "LUN 1"], requires: [["backstore bad"]]),
            action(.makeDirectory("target/lun_2"), ["target t", "LUN 2"]),
        ])
        #expect(report.done.map(\.description) == ["good", "target", "target/lun_0", "target/lun_2"])
        #expect(report.failures.map(\.action.description) == ["missing/bad"])
        #expect(report.skipped.map(\.description) == ["missing/bad/attrib", "target/lun_1"])
        let message = try #require(report.failures.first?.message)
        #expect(message.hasPrefix("backstore bad: "))
        #expect(message.contains(scratch.path.appending("missing/bad").string))
        #expect(!report.succeeded)
    }

    @Test func anObjectIsNotRemovedWhenItsPartsAreStillThere() throws {
        let scratch = try Scratch()
        try scratch.put("x", "port/lun/stays/file")
        let runner = PlanRunner(tree: ConfigTree(root: scratch.path))
        let report = runner.run([
            action(.removeDirectory("port/lun/gone"), ["port", "LUN 1"], whole: true),
            action(.removeDirectory("port"), ["port"], whole: true),
            action(.makeDirectory("other"), ["other"]),
        ])
        #expect(report.failures.count == 1)
        #expect(report.skipped.map(\.description) == ["port"])
        #expect(report.done.map(\.description) == ["other"])
    }

    /// What keeps one port of vhost-scsi is a machine; what keeps anything else is for a person to see.
    @Test func onlyAPortOfVhostMayStay() {
        let name = "target/vhost/naa.5001405000000001"
        #expect(PlanRunner.isAttached(.removeDirectory("\(name)/tpgt_1"), .resourceBusy))
        #expect(!PlanRunner.isAttached(.removeDirectory("\(name)/tpgt_1"), .notPermitted))
        #expect(!PlanRunner.isAttached(.removeDirectory(name), .resourceBusy))
        #expect(!PlanRunner.isAttached(.removeDirectory("\(name)/tpgt_1/lun/lun_0"), .resourceBusy))
        #expect(!PlanRunner.isAttached(.makeDirectory("\(name)/tpgt_1"), .resourceBusy))
        #expect(!PlanRunner.isAttached(.removeDirectory("target/loopback/naa.5001405000000001/tpgt_1"), .resourceBusy))
    }

    @Test func aSecretIsNotInTheError() throws {
        let scratch = try Scratch()
        let runner = PlanRunner(tree: ConfigTree(root: scratch.path))
        let report = runner.run([action(.writeSecret("none/password", Secret("very-secret-indeed")), ["host h"])])
        let message = try #require(report.failures.first?.message)
        #expect(!message.contains("very-secret-indeed"))
        #expect(message.contains("none/password"))
    }

    @Test func numbersAsLIOPrintsThem() {
        #expect(LIOReader.number("0x1") == 1)
        #expect(LIOReader.number("0xffff") == 65535)
        #expect(LIOReader.number("0") == 0)
        #expect(LIOReader.number("12") == 12)
        #expect(LIOReader.number("") == 0)
    }
}
