// SPDX-License-Identifier: Apache-2.0

import Lab
import Testing

/// Brings a lab of a test's own up for `body`, and ends it whatever happens. A splat on a console fails the test; when the test
/// fails, it shows what the nodes had to say last.
///
/// - Parameter isKnown: whether a problem on a console is nobody's fault.
func withLab(
    _ options: LabOptions, isKnown: (ConsoleProblem, Lab) -> Bool = { _, _ in false },
    _ body: (Lab) async throws -> Void
) async throws {
    // Always the same name, so that a run that died leaves nothing for long.
    try await Lab.down(options.name)
    let lab = try await Lab.up(options)
    var failure: (any Error)?
    do {
        try await body(lab)
    } catch {
        failure = error
        let last = "tail -n 30 \(Lab.daemonLog) 2>/dev/null; dmesg | tail -n 25"
        for node in lab.gateways + lab.initiators {
            print("--- \(node)\n\((try? await lab.exec(node, ["sh", "-c", last]).outputText) ?? "no answer")")
        }
    }
    for problem in lab.consoleProblems() where !isKnown(problem, lab) { Issue.record("\(problem)") }
    try await lab.down()
    if let failure { throw failure }
}

/// Waits until something is so.
func until(
    _ limit: Duration, _ what: String, sourceLocation: SourceLocation = #_sourceLocation,
    _ isSo: () async throws -> Bool
) async throws {
    let end = ContinuousClock.now + limit
    while try await !isSo() {
        guard ContinuousClock.now < end else {
            Issue.record("not so within \(limit): \(what)", sourceLocation: sourceLocation)
            return
        }
        try await Task.sleep(for: .milliseconds(100))
    }
}
