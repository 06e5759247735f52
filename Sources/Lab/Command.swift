// SPDX-License-Identifier: Apache-2.0
import Foundation
import Subprocess
import SystemPackage

/// How a command ended and what it wrote.
public struct CommandResult: Sendable, Equatable {
    /// Exit status; 128 + N if signal N ended it.
    public var status: Int32
    /// All of standard output.
    public var output: [UInt8]
    /// All of standard error.
    public var errors: [UInt8]

    public init(status: Int32, output: [UInt8] = [], errors: [UInt8] = []) {
        self.status = status
        self.output = output
        self.errors = errors
    }

    /// Standard output as text, without the newlines at its end.
    public var outputText: String { Self.text(output) }
    /// Standard error as text, without the newlines at its end.
    public var errorText: String { Self.text(errors) }

    private static func text(_ bytes: [UInt8]) -> String {
        var text = String(decoding: bytes, as: UTF8.self)
        while text.last?.isNewline == true { text.removeLast() }
        return text
    }
}

/// Commands of the host, run to their end.
enum Command {
    /// The most a command may print before it is an error, in bytes.
    static let outputLimit = 32 << 20

    /// Runs `arguments` and collects what it prints.
    ///
    /// - Parameters:
    ///   - arguments: Name or path of the executable, then its arguments.
    ///   - input: What the command reads from standard input; nothing by default.
    ///   - environment: Variables to set beside the inherited ones.
    ///   - timeout: How long the command may take; then it is killed.
    /// - Throws: `LabError` if it cannot be started or takes longer. A status other than 0 is a result.
    static func run(
        _ arguments: [String], input: [UInt8]? = nil, environment: [String: String] = [:],
        timeout: Duration = .seconds(60)
    ) async throws -> CommandResult {
        let configuration = configuration(arguments, environment)
        return try await bounded(timeout, arguments) {
            if let input {
                let result = try await Subprocess.run(
                    configuration, input: .array(input), output: .bytes(limit: outputLimit),
                    error: .bytes(limit: outputLimit))
                return CommandResult(
                    status: result.terminationStatus.code, output: result.standardOutput, errors: result.standardError)
            }
            let result = try await Subprocess.run(
                configuration, input: .none, output: .bytes(limit: outputLimit), error: .bytes(limit: outputLimit))
            return CommandResult(
                status: result.terminationStatus.code, output: result.standardOutput, errors: result.standardError)
        }
    }

    /// Runs `arguments` and returns its standard output.
    ///
    /// - Throws: `LabError` as `run`, and with what the command said if its status is not 0.
    @discardableResult
    static func check(
        _ arguments: [String], input: [UInt8]? = nil, environment: [String: String] = [:],
        timeout: Duration = .seconds(60)
    ) async throws -> String {
        let result = try await run(arguments, input: input, environment: environment, timeout: timeout)
        guard result.status == 0 else {
            let said = result.errorText.isEmpty ? result.outputText : result.errorText
            throw LabError(line(arguments), "status \(result.status)\(said.isEmpty ? "" : ": \(said)")")
        }
        return result.outputText
    }

    /// Runs `arguments` with this process's own standard input, output and error.
    ///
    /// - Parameter toErrors: Send standard output to standard error as well, for a command whose output is progress.
    /// - Returns: The exit status; 128 + N if signal N ended it.
    static func attached(
        _ arguments: [String], environment: [String: String] = [:], timeout: Duration? = nil, toErrors: Bool = false
    ) async throws -> Int32 {
        let configuration = configuration(arguments, environment)
        return try await bounded(timeout, arguments) {
            try await Subprocess.run(
                configuration, input: .fileDescriptor(.standardInput, closeAfterSpawningProcess: false),
                output: toErrors ? .currentStandardError : .currentStandardOutput, error: .currentStandardError
            ).terminationStatus.code
        }
    }

    /// `arguments` as a shell would take them, for messages.
    static func line(_ arguments: [String]) -> String {
        arguments.map { argument in
            let plain =
                !argument.isEmpty && argument.allSatisfy { $0.isLetter || $0.isNumber || "-_./:=,@+".contains($0) }
            return plain ? argument : quoted(argument)
        }.joined(separator: " ")
    }

    /// `argument` so that a POSIX shell reads it as one word, whatever it holds.
    static func quoted(_ argument: String) -> String {
        "'" + argument.replacing("'", with: "'\\''") + "'"
    }

    private static func configuration(_ arguments: [String], _ environment: [String: String]) -> Configuration {
        let executable = arguments.first ?? ""
        var values: [Environment.Key: String?] = [:]
        for (key, value) in environment { values[Environment.Key(stringLiteral: key)] = value }
        return Configuration(
            executable: executable.contains("/") ? .path(FilePath(executable)) : .name(executable),
            arguments: Arguments(Array(arguments.dropFirst())),
            environment: .inherit.updating(values))
    }

    private static func bounded<Result: Sendable>(
        _ timeout: Duration?, _ arguments: [String], _ body: @escaping @Sendable () async throws -> Result
    ) async throws -> Result {
        do {
            guard let timeout else { return try await body() }
            return try await withThrowingTaskGroup(of: Result?.self) { group in
                group.addTask { try await body() }
                group.addTask {
                    try await Task.sleep(for: timeout)
                    return nil
                }
                defer { group.cancelAll() }
                guard let first = try await group.next(), let result = first else {
                    throw LabError(line(arguments), "no end after \(timeout)")
                }
                return result
            }
        } catch let error as SubprocessError {
            throw LabError(line(arguments), "\(error)", remedy: "is \(arguments.first ?? "it") installed?")
        }
    }
}

extension TerminationStatus {
    /// Exit status as a shell reports it.
    fileprivate var code: Int32 {
        switch self {
        case .exited(let code): code
        case .signaled(let signal): 128 + signal
        }
    }
}

/// The variable `name` of this process's environment, `nil` if unset or empty.
func environment(_ name: String) -> String? {
    let value = ProcessInfo.processInfo.environment[name]
    return value?.isEmpty == false ? value : nil
}
