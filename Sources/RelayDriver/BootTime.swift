// SPDX-License-Identifier: Apache-2.0
import Relay

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

extension Relay.Instant {
    /// This machine's CLOCK_BOOTTIME.
    static var now: Self {
        var time = timespec()
        clock_gettime(CLOCK_BOOTTIME, &time)
        return Self(nanoseconds: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
    }

    /// A time of the kernel's. What lies beyond an `Instant` is never.
    init(kernel nanoseconds: UInt64) { self.init(nanoseconds: Int64(clamping: nanoseconds)) }

    /// For the kernel.
    var kernel: UInt64 { UInt64(clamping: nanoseconds) }
}

/// What people's clocks show.
enum WallClock {
    /// Seconds since 1970.
    static var now: Double {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }
}
