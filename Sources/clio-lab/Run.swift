// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation
import Lab

struct Run: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Bring a cluster up, run a command of the host in its namespace, and end the cluster.",
        usage: "clio-lab run [<options>] -- <command> ...",
        discussion: """
            The command finds CEPH_CONF, CLIO_LAB_NAME, and CLIO_TEST_LAB and CLIO_TEST_CEPH_CONF of the live tests in its
            environment. The status is the command's; if that is 0, it is 1 when a console shows a kernel problem.
            """)

    @OptionGroup var common: Common
    @OptionGroup var cluster: ClusterOptions
    @Argument(parsing: .captureForPassthrough, help: "The command.") var command: [String] = []

    func run() async throws {
        let words = command.first == "--" ? Array(command.dropFirst()) : command
        guard !words.isEmpty else { throw ValidationError("which command? clio-lab run -- <command> ...") }
        // A ^C is the command's; the cluster goes down after it.
        signal(SIGINT) { _ in }
        let lab = try await Lab.up(cluster.options(common.name), logger: Progress.logger())
        var status: Int32 = 1
        var problems: [ConsoleProblem] = []
        do {
            status = try await lab.hostAttached(words)
            problems = lab.consoleProblems()
        } catch {
            try? await lab.down()
            throw error
        }
        try await lab.down()
        for problem in problems { FileHandle.standardError.write(Data("\(problem)\n".utf8)) }
        throw ExitCode(status == 0 && !problems.isEmpty ? 1 : status)
    }
}
