// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import Lab

struct TortureCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "torture",
        abstract: "Hosts do at random all that hosts may do, while at random something of the cluster fails.",
        discussion: """
            Brings up three gateways and four OSDs. In each round hosts write, zero, unmap, copy, compare and write, abort, \
            reset, reserve, fence each other, drop their sessions and come back, as the seed decides, while a gateway, a link \
            between a gateway and an OSD, an OSD, or a cliod fails, stands still or is slow; or a host's commands are stuck at \
            an OSD while they come to be over, in each way there is within 20 rounds. Status 1, and the story of the \
            round, if old data stands over new, something lands of a host that has been fenced, a count is lost, an answer \
            is not one that the rules of reservations give, a command has no answer, something is left in flight, a console \
            shows a kernel problem, or at the end a gateway does not leave or keeps a module.
            """)

    @OptionGroup var common: Common
    @OptionGroup var ceph: CephArguments
    @Flag(help: "The stock kernel, LIO set up on each gateway by itself: shows what can go wrong.") var stock = false
    @Flag(help: "KASAN, lockdep and sleep-in-atomic checks; about 8 times slower.") var debugKernel = false
    @Flag(help: "Two processors a gateway; takes --kernel 7.3 or newer.") var smp = false
    @Option(help: "Kernel of another version: 7.3, or gw1=7.3 for one gateway.", transform: KernelVersions.parse)
    var kernel = KernelVersions()
    @Option(help: "Rounds.") var rounds = 10
    @Option(help: "The first of them: with --rounds 1, one again.") var from = 1
    @Option(help: "Hosts that write stamps, besides those that count and fence.") var hosts = 4
    @Option(help: "Decides faults and what hosts do; printed. Replays a run as far as a live system can.")
    var seed = UInt64.random(in: 0...999_999)
    @Option(
        name: .customLong("break"),
        help: """
            A rule that the gateways' kernels are not to obey, to see that this is noticed: drain, go-on, rights, orphans, \
            settle, swap, tell, apply or everywhere; kernel/blk-cluster/internal.h says what each is.
            """)
    var broken: String?
    @Option(help: "File for the story of all rounds.") var trace = "torture.trace"

    func validate() throws {
        guard rounds > 0, from > 0, (1...16).contains(hosts) else {
            throw ValidationError("--rounds and --from must be more than 0, --hosts 1 to 16")
        }
        if stock && (debugKernel || smp || broken != nil) || debugKernel && smp {
            throw ValidationError("--stock excludes --debug-kernel, --smp and --break; --debug-kernel excludes --smp")
        }
    }

    func run() async throws {
        print("seed \(seed)")
        let ours: KernelFlavour = smp ? .smp : broken == nil ? .clio : .broken
        var options = Torture.options(name: common.name, kernel: stock ? .stock : debugKernel ? .debug : ours)
        options.versions = kernel
        options.ceph = ceph.options
        guard FileManager.default.createFile(atPath: trace, contents: nil) else {
            throw ValidationError("\(trace) cannot be written; give --trace another file")
        }
        let story = FileHandle(forWritingAtPath: trace)
        let failed = try await withLab(options) { lab in
            let torture = try await Torture(lab, seed: seed, hosts: hosts, broken: broken, story: story)
            for number in from..<from + rounds {
                let round = try await torture.round(number)
                let undecided = round.isDecided ? "" : ", reservations not decided"
                let faults = round.plan.steps.map { "\($0.fault) (\($0.begin) to \($0.end))" }
                let all = faults + [round.plan.stuck?.description].compactMap(\.self)
                let what = all.isEmpty ? "no fault" : all.joined(separator: ", ")
                print("round \(number): \(round.trace.count) events; \(what)\(undecided)")
                guard round.findings.isEmpty else {
                    report(round, number)
                    return true
                }
            }
            try await torture.end()
            return false
        }
        if failed { throw ExitCode(1) }
    }

    private func report(_ round: TortureRound, _ number: Int) {
        print("seed \(seed), round \(number):")
        for finding in round.findings { print(finding) }
        print("what happened: \(trace)")
        print("again: clio-lab torture --seed \(seed) --from \(number) --rounds 1")
    }
}
