// SPDX-License-Identifier: Apache-2.0
import Foundation

/// The terminal of standard input and output, as a program has it that fills the screen.
struct Terminal {
    /// What happened while waiting.
    enum Input: Equatable {
        case key(Character)
        case nothing
        /// A signal wants the program to end.
        case end
    }

    private let before: termios

    /// Set by SIGTERM and SIGHUP. Safe to share: a whole that a signal handler only ever sets.
    private nonisolated(unsafe) static var isToEnd: sig_atomic_t = 0

    static var isThere: Bool { isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1 }

    /// Takes the screen; keys come one by one and are not echoed.
    init() {
        var settings = termios()
        tcgetattr(STDIN_FILENO, &settings)
        before = settings
        settings.c_lflag &= ~tcflag_t(ICANON | ECHO | ISIG)
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &settings)
        for signal in [SIGTERM, SIGHUP] { Glibc.signal(signal) { _ in Terminal.isToEnd = 1 } }
        // Nothing to do but to wake up: the size is asked for each time.
        Glibc.signal(SIGWINCH) { _ in }
        Self.put("\u{1b}[?1049h\u{1b}[?25l")
    }

    /// Gives the screen back as it was.
    func restore() {
        Self.put("\u{1b}[?25h\u{1b}[?1049l")
        var settings = before
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &settings)
    }

    /// Columns and lines.
    var size: (width: Int, height: Int) {
        var size = winsize()
        guard ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0, size.ws_row > 0 else {
            return (80, 24)
        }
        return (Int(size.ws_col), Int(size.ws_row))
    }

    func show(_ lines: [String]) {
        // Each line to its end, then the rest of the screen: no flicker.
        Self.put("\u{1b}[H" + lines.joined(separator: "\u{1b}[K\r\n") + "\u{1b}[K\u{1b}[J")
    }

    /// Waits for a key, at most so long. Blocks.
    func input(within limit: Duration) -> Input {
        if Self.isToEnd != 0 { return .end }
        var waiting = pollfd(fd: STDIN_FILENO, events: Int16(POLLIN), revents: 0)
        let (seconds, attoseconds) = limit.components
        let milliseconds = max(0, seconds * 1000 + attoseconds / 1_000_000_000_000_000)
        let ready = poll(&waiting, 1, Int32(clamping: milliseconds))
        if Self.isToEnd != 0 { return .end }
        guard ready > 0 else { return .nothing }
        var byte: UInt8 = 0
        guard read(STDIN_FILENO, &byte, 1) == 1 else { return .end }
        return .key(Character(Unicode.Scalar(byte)))
    }

    private static func put(_ text: String) {
        print(text, terminator: "")
        fflush(nil)
    }
}
