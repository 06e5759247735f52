// SPDX-License-Identifier: Apache-2.0

import ClusterModel
import Foundation
import Testing

/// The group file that README points to is one that `clio apply` takes.
@Suite struct ExampleFileTests {
    @Test func exampleIsValid() throws {
        let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appending(path: "../../docs/group.yaml")
        let group = try GroupFile.parse(String(contentsOf: file, encoding: .utf8))
        #expect(group.nodes.count == 2)
        #expect(group.luns.count == 1)
    }
}
