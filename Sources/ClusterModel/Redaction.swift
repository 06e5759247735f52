// SPDX-License-Identifier: Apache-2.0

/// Takes secrets out of text that somebody else shall read.
public struct Redaction: Sendable {
    private let secrets: [String]

    /// - Parameters:
    ///   - groups: those whose CHAP secrets are taken out.
    ///   - keys: those of Ceph clients. What looks like a key goes in any case.
    public init(groups: [Group] = [], keys: [Secret] = []) {
        let passwords = groups.flatMap { group in
            ([group.discovery] + group.hosts.map(\.chap)).compactMap(\.self)
                .flatMap { [$0.password, $0.mutualPassword].compactMap(\.self) }
        }
        // The longest first: one may be a part of another.
        secrets = Set((passwords + keys).map(\.revealed)).subtracting(["", Secret.redacted])
            .sorted { ($0.utf8.count, $0) > ($1.utf8.count, $1) }
    }

    /// The text with asterisks where a secret was.
    public func callAsFunction(_ text: String) -> String {
        secrets.reduce(text) { $0.replacing($1, with: Secret.redacted) }
            // A CryptoKey of Ceph in base64: type 1, time, length 16, and 16 bytes.
            .replacing(/AQ[0-9A-Za-z+\/]{36}==/, with: Secret.redacted)
    }
}
