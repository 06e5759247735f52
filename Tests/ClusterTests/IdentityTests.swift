// SPDX-License-Identifier: Apache-2.0

import Initiator
import Lab
import Testing

extension GatewayTests {
    /// Through whichever port a host looks, it sees one logical unit with the same two ports.
    @Suite struct IdentityThroughEachPort {
        let cluster: LiveCluster

        init() throws { cluster = try LiveCluster.current }

        private func identities() async throws -> [Identity] {
            try await cluster.sessions { try $0.map { try Identity(session: $0) } }
        }

        @Test func oneLogicalUnit() async throws {
            let identities = try await identities()
            #expect(Set(identities.map(\.serial)) == [cluster.description.luns[0].serial])
            let names = Set(identities.map(\.naa))
            #expect(names.count == 1)
            #expect(names.first??.hasPrefix("6") == true, "NAA 6h: IEEE registered extended")
        }

        @Test func eachPortHasARelativePortOfItsOwn() async throws {
            #expect(try await identities().map(\.relativePort) == [1, 2])
        }

        @Test func portGroupsAgreeOnEveryPort() async throws {
            let identities = try await identities()
            for identity in identities {
                #expect(identity.portGroups == identities[0].portGroups)
                #expect(identity.portGroups.allSatisfy { $0.state == 0 }, "every port active/optimized")
                #expect(identity.portGroups.flatMap(\.ports).sorted() == [1, 2])
            }
        }

        @Test func compareAndWriteLengthIsOneBlock() async throws {
            #expect(try await identities().map(\.maximumCompareAndWriteLength) == [1, 1])
        }

        @Test func discoveryOnEachNodeListsEveryPortal() async throws {
            let (portals, target) = (cluster.portals, cluster.target)
            for portal in portals {
                let found = try await blocking(in: cluster.description.netns) {
                    try ISCSISession.discover(portal: portal)
                }
                let listed = Set((found[target] ?? []).map { String($0.prefix { $0 != "," }) })
                #expect(listed == Set(portals), "asked at \(portal)")
            }
        }
    }
}
