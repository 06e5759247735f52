// SPDX-License-Identifier: Apache-2.0
import Foundation
import Testing

@testable import ClusterModel

/// Group files that are wrong, in `Broken/`. Each has beside it `<name>.expected`: the problems, one a line, all of them.
@Suite struct BrokenFileTests {
    static let folder = Bundle.module.resourceURL?.appendingPathComponent("Broken")

    static let names: [String] = {
        guard let folder, let all = try? FileManager.default.contentsOfDirectory(atPath: folder.path) else { return [] }
        return all.filter { $0.hasSuffix(".yaml") }.map { String($0.dropLast(5)) }.sorted()
    }()

    @Test func thereAreEnough() {
        #expect(Self.names.count >= 25)
    }

    @Test(arguments: names) func everyProblemIsReported(_ name: String) throws {
        let folder = try #require(Self.folder)
        let text = try String(contentsOf: folder.appendingPathComponent("\(name).yaml"), encoding: .utf8)
        let expected = try String(contentsOf: folder.appendingPathComponent("\(name).expected"), encoding: .utf8)
        let error = try #require(throws: InvalidGroup.self) { _ = try GroupFile.parse(text) }
        #expect(error.description + "\n" == expected)
    }
}
