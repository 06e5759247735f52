// SPDX-License-Identifier: Apache-2.0
import ClusterModel
import Testing

@Suite struct RedactionTests {
    private var group: ClusterModel.Group {
        var group = ClusterModel.Group(name: "lab")
        group.discovery = CHAP(user: "finder", password: Secret("discover-me-12"))
        group.hosts = [
            Host(
                iqn: "iqn.2026-01.example:h",
                chap: CHAP(
                    user: "h", password: Secret("a-secret-of-12"), mutualUser: "t",
                    mutualPassword: Secret("a-secret-of-12-and-more"))),
            Host(iqn: "iqn.2026-01.example:open"),
        ]
        return group
    }

    /// A key that does not look like one as well.
    @Test func everySecretGoes() {
        let redaction = Redaction(groups: [group], keys: [Secret("short+key/of==")])
        #expect(
            redaction("discover-me-12, a-secret-of-12-and-more a-secret-of-12; user h; secret=short+key/of==,x")
                == "********, ******** ********; user h; secret=********,x")
    }

    /// Keys of clients that nobody named go, too; other base64 stays.
    @Test func whatLooksLikeAKeyGoes() {
        let key = "AQCL4wRrAAAAABAA53x7KzvDTPoFjvYEYfJirw=="
        #expect(Redaction()("key = \(key)\n\(key.dropLast())x") == "key = ********\n\(key.dropLast())x")
    }

    /// A group as `clio get` prints it has only asterisks, which are no secret.
    @Test func asterisksStay() {
        var shown = group
        shown.redact()
        #expect(Redaction(groups: [shown])("a ******** b") == "a ******** b")
    }
}
