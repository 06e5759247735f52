// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import Lab

struct Bench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "What acting as one costs: the stock kernel beside ours, in one run.",
        discussion: """
            Ratios are what counts: the figures themselves are those of this machine, whatever else it does. The stock kernel \
            resets one gateway's commands only; Clio's answer means that every gateway has done it.
            """)

    @OptionGroup var common: Common
    @Option(help: "Commands of each kind that are timed one by one; 0 leaves them out.") var count = 30
    @Option(
        help: """
            How many LUNs a gateway has in the end where their number matters; 0 leaves that out. Of 1000, targetcli takes \
            some ten minutes.
            """) var luns = 1000

    func validate() throws {
        guard (0...1000).contains(count) else { throw ValidationError("--count must be 0 to 1000") }
        guard luns == 0 || (30...4000).contains(luns) else { throw ValidationError("--luns must be 0, or 30 to 4000") }
    }

    func run() async throws {
        if count > 0 { try await benchCommands() }
        if luns > 0 { try await benchLUNs() }
    }

    private func benchCommands() async throws {
        let options = LabOptions(
            name: "\(common.name)-stock", gateways: 2, initiators: 0, kernel: .stock)
        try await withLab(options) { stock in
            let options = LabOptions(name: common.name, gateways: 2, initiators: 0)
            try await withLab(options) { clio in try await benchCommands(stock, clio) }
        }
    }

    private func benchCommands(_ stockLab: Lab, _ lab: Lab) async throws {
        let times = try await CommandTimes.measure([stockLab, lab], rounds: count * 10)
        let stock = try await measure(stockLab, times[0])
        let clio = try await measure(lab, times[1])
        let many = try await lab.reservationTimes(.many, count: count)
        let block = try await RadosTimes.measure(lab, count: count * 20, size: 512)
        let rados = try await RadosTimes.measure(lab, count: count, size: 4096)
        print("Commands through one of two gateways, time of one, mean of the fastest twentieth")
        printTable(
            ["", "stock kernel", "Clio", "ratio"],
            [
                row("READ of 4 KiB, one at a time", stock.commands.read.one, clio.commands.read.one),
                row("READ of 4 KiB, 32 outstanding", stock.commands.read.many, clio.commands.read.many),
                row("WRITE of 4 KiB, one at a time", stock.commands.write.one, clio.commands.write.one),
                row("WRITE of 4 KiB, 32 outstanding", stock.commands.write.many, clio.commands.write.many),
                row(
                    "COMPARE AND WRITE, 16 blocks at once (stock: one node's)", stock.commands.compareAndWrite.many,
                    clio.commands.compareAndWrite.many),
            ])
        print("\nCOMPARE AND WRITE of one block, one at a time, beside a RADOS write of 512 bytes")
        printTable(
            ["", "RADOS write", "Clio", "ratio"],
            [row("", .seconds(block.fastestWrite), clio.commands.compareAndWrite.one)])
        print("\nLOGICAL UNIT RESET through one of two gateways, median of \(count)")
        printTable(
            ["", "stock kernel", "Clio", "ratio"],
            [
                row("idle", stock.resets.idle, clio.resets.idle),
                row("reads and writes through both", stock.resets.loaded, clio.resets.loaded),
            ])
        print("\nREAD of 512 bytes, 16 outstanding: what the check of reservations costs")
        printTable(
            ["", "stock kernel", "Clio", "ratio"],
            [
                row("nothing reserved", stock.free.read, clio.free.read),
                row("reserved, one registration", stock.reserved.read, clio.reserved.read),
                row("reserved, 512 registrations (stock: one)", stock.reserved.read, many.read),
            ])
        let bound = Duration.seconds(rados.write + rados.notify)
        print(
            """

            PERSISTENT RESERVE OUT (REGISTER), median of \(count), beside a RADOS write (\(milliseconds(.seconds(rados.write)))) \
            and a notify round trip (\(milliseconds(.seconds(rados.notify))))
            """)
        printTable(
            ["", "write and notify", "Clio", "ratio"],
            [
                row("one registration", bound, clio.reserved.register),
                row("512 registrations", bound, many.register),
            ])
    }

    private func benchLUNs() async throws {
        var options = LabOptions(
            name: common.name, gateways: 1, initiators: 0, luns: 7, size: 16 << 20, kernel: .clio, nodeMemory: 3072)
        let clio = try await withLab(options) { lab in
            try await MakeImages.make(lab, count: luns)
            return try await lab.lunTimes(count: luns)
        }
        print("Clio's \(luns)th LUN takes \(String(format: "%.2f", clio.last / clio.tenth)) of the time of its 10th")
        options.kernel = .stock
        options.daemon = false
        options.serve = false
        let restored = try await withLab(options) { lab in
            try await MakeImages.make(lab, count: luns)
            return try await lab.restoreTimes(count: luns)
        }
        print(
            "\nLUNs of one gateway: until a host is served the new one, beside targetcli, which restores all to have one more"
        )
        printTable(
            ["", "targetcli restoreconfig", "Clio", "ratio"],
            [
                row("the 10th LUN", restored.ten, clio.tenth),
                row("the \(luns)th", restored.all, clio.last),
                row("all \(luns), from none (Clio: and maps the images)", restored.all, clio.all),
            ])
    }

    private func measure(_ lab: Lab, _ commands: CommandTimes) async throws -> Measured {
        Measured(
            commands: commands,
            resets: try await lab.resetTimes(count: count),
            free: try await lab.reservationTimes(.none, count: count),
            reserved: try await lab.reservationTimes(.one, count: count))
    }

    private struct Measured {
        var commands: CommandTimes
        var resets: ResetTimes
        /// Nothing is reserved.
        var free: ReservationTimes
        /// The nexus that measures holds a reservation.
        var reserved: ReservationTimes
    }

    private func milliseconds(_ time: Duration) -> String { String(format: "%.2f ms", 1000 * (time / .seconds(1))) }

    private func row(_ title: String, _ stock: Duration, _ clio: Duration) -> [String] {
        return [title, milliseconds(stock), milliseconds(clio), String(format: "%.2f", clio / stock)]
    }
}
