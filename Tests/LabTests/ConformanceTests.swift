// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import Lab

/// What `iscsi-test-cu --verbose` prints, as it was seen.
@Suite struct ConformanceTests {
    @Test func outcomes() {
        let output = """
                 CUnit - A unit testing framework for C - Version 2.1-3

            Suite: CompareAndWrite
              Test: Simple ...    [FAILED] COMPAREANDWRITE failed with wrong sense.

            FAILED
                1. test_compareandwrite_simple.c:71  - CU_ASSERT_EQUAL(_r,0)
                2. test_compareandwrite_simple.c:123  - CU_ASSERT_EQUAL(_r,0)
              Test: DpoFua ...passed
              Test: InvalidDataOutSize ...    [SKIPPED] Logical unit is fully provisioned. Skipping test
            passed
            Suite: ModeSense6
              Test: Control-SWP ...    SWP is not changeable
            passed
            Suite: Reserve6
              Test: TargetWarmReset ...    [FAILED] RESERVE6 command: failed with sense.
            passed    [FAILED] PRIN command: failed with sense.
              Test: LUNReset ...passed    [FAILED] PRIN command: failed with sense.

            Suite: Sanitize
              Test: Reset ...

            """
        #expect(
            ConformanceResult.parse(output) == [
                ConformanceResult(
                    "CompareAndWrite.Simple", .failed, reason: "COMPAREANDWRITE failed with wrong sense."),
                ConformanceResult("CompareAndWrite.DpoFua", .passed),
                ConformanceResult(
                    "CompareAndWrite.InvalidDataOutSize", .skipped,
                    reason: "Logical unit is fully provisioned. Skipping test"),
                ConformanceResult("ModeSense6.Control-SWP", .passed),
                ConformanceResult("Reserve6.TargetWarmReset", .passed), ConformanceResult("Reserve6.LUNReset", .passed),
                ConformanceResult("Sanitize.Reset", .unfinished),
            ])
    }

    @Test func nothing() {
        #expect(ConformanceResult.parse("").isEmpty)
        #expect(ConformanceResult.parse("iscsi-test-cu: failed to log in").isEmpty)
    }
}
