// SPDX-License-Identifier: Apache-2.0

/// A point on one node's boot-time clock (CLOCK_BOOTTIME, which goes on while the machine is suspended).
///
/// Instants of two nodes have nothing to do with each other; only what a rule says about clock rates connects them.
public struct Instant: InstantProtocol, Sendable {
    /// Nanoseconds since boot.
    public var nanoseconds: Int64

    public init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }

    /// Later than every deadline.
    public static let never = Instant(nanoseconds: .max)

    public func advanced(by duration: Duration) -> Instant {
        let (sum, overflow) = nanoseconds.addingReportingOverflow(duration.nanoseconds)
        return overflow ? .never : Instant(nanoseconds: sum)
    }

    public func duration(to other: Instant) -> Duration { .nanoseconds(other.nanoseconds - nanoseconds) }

    public static func < (a: Instant, b: Instant) -> Bool { a.nanoseconds < b.nanoseconds }
}

extension Duration {
    /// Whole nanoseconds; a shorter rest is dropped.
    public var nanoseconds: Int64 {
        let (seconds, attoseconds) = components
        return seconds * 1_000_000_000 + attoseconds / 1_000_000_000
    }
}
