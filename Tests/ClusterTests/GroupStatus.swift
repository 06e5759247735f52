// SPDX-License-Identifier: Apache-2.0

import Foundation
import Lab

/// What `clio status --json` says, as far as tests ask.
struct GroupStatus: Decodable {
    struct Member: Decodable {
        struct Report: Decodable {
            struct Problem: Decodable {
                let text: String
                let since: Double
            }
            let phase: String
            let instance: String
            let epoch: Int
            let version: Int
            let problems: [Problem]
        }
        let node: String
        let state: String
        let beat: Int?
        let report: Report?
    }
    let version: Int
    let members: [Member]
}

extension Lab {
    func groupStatus(from node: String = "gw1") async throws -> GroupStatus {
        let text = try await check(node, [try executable("clio"), "status", "--json"])
        return try JSONDecoder().decode(GroupStatus.self, from: Data(text.utf8))
    }
}

extension LiveCluster {
    func status(from node: String = "gw1") async throws -> GroupStatus { try await lab.groupStatus(from: node) }
}
