// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import ClusterModel
import Foundation
import Logging
import Rados
import RelayDriver
import Target

@main
struct Cliod: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cliod", abstract: "Makes this machine a gateway of a group, one with the group's other nodes.",
        discussion: """
            Builds what `clio node up` builds, joins the group, keeps the node's lease, and relays between this node's \
            kernel and the other nodes. Runs in the foreground; one a node.

            SIGTERM ends the daemon only: its lease runs on, and a daemon that is back before it lapses goes unnoticed by \
            hosts. `clio node down` has it leave the group: hosts are told, what runs is finished, everything is taken away.

            EXIT STATUS
              0   the node has left, or the daemon was told to end
              1   something went wrong that may pass
              3   something has to be mended first, and standard error says what: the kernel is not Clio's, there is no such \
            group, or it does not have this node
              64  the command line is wrong
            """,
        version: Release.version)

    @Option(help: ArgumentHelp("The group.", valueName: "name")) var group = "default"
    @Option(help: ArgumentHelp("This machine's name in the group (default: its host name).", valueName: "name"))
    var node: String?
    @Option(help: ArgumentHelp("Ceph's configuration.", valueName: "path")) var cephConf = "/etc/ceph/ceph.conf"
    @Option(
        help: ArgumentHelp(
            "Ceph client to be, without \"client.\" (default: clio if its keyring is beside Ceph's configuration, else admin).",
            valueName: "name"))
    var id: String?
    @Option(
        help: ArgumentHelp(
            "File with the client's key (default: the one Ceph's configuration names).", valueName: "path"))
    var keyring: String?
    @Option(help: ArgumentHelp("Pool that holds the group.", valueName: "name")) var pool = "rbd"
    @Option(
        help: ArgumentHelp(
            "Where Prometheus finds metrics, by HTTP at /metrics; \"none\" for nowhere. Anyone who can connect can read them.",
            valueName: "address:port"))
    var metrics = "127.0.0.1:9847"
    @Option(
        help: ArgumentHelp(
            "How often to compare everything this node has with the group, and put right what was changed by hand; 0: never.",
            valueName: "seconds"))
    var resync = 600
    @Option(help: ArgumentHelp("trace, debug, info, notice, warning, error.", valueName: "level"))
    var logLevel = "info"

    func validate() throws {
        guard Logger.Level(rawValue: logLevel) != nil else {
            throw ValidationError("--log-level \(logLevel): no such level")
        }
        guard (0...86_400).contains(resync) else {
            throw ValidationError("--resync \(resync): write 1 to 86400 seconds, or 0 for never")
        }
        guard metrics == "none" || MetricsServer.Endpoint(metrics) != nil else {
            throw ValidationError("--metrics \(metrics): write an IP address and a port, 127.0.0.1:9847, or none")
        }
    }

    func run() async throws {
        // librados wakes its threads through pipes, also while it shuts down.
        signal(SIGPIPE, SIG_IGN)
        LoggingSystem.bootstrap { StreamLogHandler.standardError(label: $0) }
        var logger = Logger(label: "cliod")
        logger.logLevel = Logger.Level(rawValue: logLevel) ?? .info
        let ceph = CephAccess.options(configuration: cephConf, id: id, keyring: keyring)
        var options = Daemon.Options(group: group, node: node, pool: pool, ceph: ceph)
        options.resync = resync == 0 ? nil : .seconds(resync)
        let service = RelayService(options, metrics: MetricsServer.Endpoint(metrics), logger: logger)
        do {
            try await service.run()
        } catch {
            logger.critical("\(error)")
            throw ExitCode(error is Gateway.Failure ? 3 : 1)
        }
    }
}
