// SPDX-License-Identifier: Apache-2.0
import Logging
import ServiceLifecycle
import Synchronization

/// The daemon as a process: relay, orders, systemd, and one orderly end.
public struct RelayService: Sendable {
    private let options: Daemon.Options
    private let metrics: MetricsServer.Endpoint?
    private let logger: Logger

    /// - Parameter metrics: where measurements are served; `nil`: nowhere.
    public init(_ options: Daemon.Options, metrics: MetricsServer.Endpoint?, logger: Logger) {
        self.options = options
        self.metrics = metrics
        self.logger = logger
    }

    /// Runs until the node has left, or SIGTERM or SIGINT comes, which leaves the lease to the next cliod.
    public func run() async throws {
        let manager = ServiceManager()
        let daemon = Daemon(options, logger: logger) { announcement in
            switch announcement {
            case .serving, .drained: manager.ready()
            case .status(let text): manager.status(text)
            }
        }
        let control: ControlServer
        do {
            control = try ControlServer(group: options.group) { await Self.answer($0, daemon) }
        } catch {
            throw Daemon.Failure(
                description: "cannot listen at \(Control.path(options.group)): \(error) (errno \(error.rawValue))")
        }
        let exporter = serveMetrics(of: daemon)
        defer { exporter?.finish() }
        var services: [ServiceGroupConfiguration.ServiceConfiguration] = [
            .init(
                service: Relaying(daemon: daemon, manager: manager),
                successTerminationBehavior: .gracefullyShutdownGroup,
                failureTerminationBehavior: .cancelGroup)
        ]
        if let period = manager.watchdog {
            services.append(.init(service: Watchdog(daemon: daemon, manager: manager, period: period)))
        }
        var quiet = logger
        quiet.logLevel = max(logger.logLevel, .warning)
        let group = ServiceGroup(
            configuration: ServiceGroupConfiguration(
                services: services, gracefulShutdownSignals: [.sigterm, .sigint], logger: quiet))
        do {
            try await group.run()
        } catch {
            await control.finish()
            throw error
        }
        await control.finish()
    }

    /// Not to be measured is no reason not to serve.
    private func serveMetrics(of daemon: Daemon) -> MetricsServer? {
        guard let metrics else { return nil }
        do {
            return try MetricsServer(metrics) { await daemon.metrics() }
        } catch {
            logger.error(
                "no metrics are served: cannot listen at \(metrics): \(error) (--metrics chooses another place)")
            return nil
        }
    }

    private static func answer(_ order: Control.Order, _ daemon: Daemon) async -> Control.Answer {
        switch order {
        case .report: return Control.Answer(report: await daemon.report())
        case .reload:
            do {
                return Control.Answer(try await daemon.reload())
            } catch {
                return Control.Answer(problem: "\(error)")
            }
        case .leave:
            var answer = Control.Answer()
            answer.problems = await daemon.leave()
            return answer
        }
    }
}

private struct Relaying: Service {
    let daemon: Daemon
    let manager: ServiceManager

    func run() async throws {
        try await withGracefulShutdownHandler {
            _ = try await daemon.run()
        } onGracefulShutdown: {
            manager.stopping()
            Task { await daemon.detach() }
        }
    }
}

/// Signs of life for systemd, as long as the relay gives some.
private struct Watchdog: Service {
    let daemon: Daemon
    let manager: ServiceManager
    let period: Duration

    func run() async throws {
        await cancelWhenGracefulShutdown {
            while !Task.isCancelled {
                if await daemon.isAlive() { manager.alive() }
                if await daemon.isBuilding { manager.extendStart() }
                try? await Task.sleep(for: period / 2)
            }
        }
    }
}
