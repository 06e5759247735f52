// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import ClusterModel

@main
struct Clio: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "clio",
        abstract: "Several Linux nodes export the same RBD images and behave as one SCSI logical unit.",
        discussion: """
            A group is a set of nodes and what they export. Its description is a YAML file; `clio apply` puts it into
            RADOS, and `clio node up` on each node builds what it says.

            EXIT STATUS
              0   done, or nothing to do
              1   something did not work; standard error says what, why and what to do
              2   the group file is wrong, or does not fit what is there; nothing was changed
              3   Ceph cannot be reached, or refuses the client
              4   someone else changed the group meanwhile; nothing was changed. Look at the difference
                  (clio apply --dry-run) and apply again
              64  the command line is wrong
            """,
        version: Release.version,
        subcommands: [
            GroupCommand.self, Apply.self, Get.self, EditCommand.self, PlanCommand.self, HistoryCommand.self,
            RollbackCommand.self, TargetCommand.self, LUNCommand.self, HostCommand.self, PortalCommand.self,
            NodeCommand.self, StatusCommand.self, TopCommand.self, EventsCommand.self, TimingCommand.self,
            ReservationCommand.self, ImportCommand.self, ExportCommand.self, ReportCommand.self,
        ])
}

/// Exit codes; see the discussion above.
enum Exit {
    static let failed = ExitCode(1)
    static let badGroup = ExitCode(2)
    static let noCeph = ExitCode(3)
    static let changed = ExitCode(4)
}
