// SPDX-License-Identifier: Apache-2.0

import CISCSI

/// Why libiscsi could not do a thing; `text` is its own word for it.
public struct ISCSIError: Error, CustomStringConvertible, Sendable {
    public let operation: String
    public let portal: String
    public let text: String

    public var description: String { "\(operation) at portal \(portal): \(text)" }
}

/// One iSCSI session with one connection, through libiscsi: an I_T nexus that a test drives command by command.
///
/// Calls block until the answer is there, so use it on a thread of its own (``blocking(_:)``). Not `Sendable`: a libiscsi
/// context belongs to one thread at a time.
public final class ISCSISession {
    /// The portal, `address:port`.
    public let portal: String
    let context: OpaquePointer
    private var loggedIn = false

    /// A name and password (RFC 7143, 12.1.3).
    public struct CHAP: Sendable, Hashable {
        public let user: String
        public let password: String
        public init(user: String, password: String) {
            self.user = user
            self.password = password
        }
    }

    /// Logs in.
    ///
    /// - Parameters:
    ///   - portal: `address:port` or `[address]:port`.
    ///   - target: the IQN; nil for a discovery session.
    ///   - initiator: the initiator's name. With the ISID it makes the initiator port, and with the target port the I_T nexus.
    ///   - isid: the 24 random bits of an ISID of type 10b (RFC 7143, 11.12.5), its qualifier 0; nil draws them.
    ///   - chap: what the initiator proves itself with; nil: nothing.
    ///   - mutual: what the target has to prove itself with; only together with `chap`.
    ///   - timeout: seconds that a command may take; then it fails.
    /// - Throws: `ISCSIError` if the portal does not answer, or refuses the login.
    public init(
        portal: String, target: String?, initiator: String = "iqn.2026-11.example.clio:initiator", isid: UInt32? = nil,
        chap: CHAP? = nil, mutual: CHAP? = nil, timeout: Int32 = 30
    ) throws(ISCSIError) {
        self.portal = portal
        guard let context = iscsi_create_context(initiator) else {
            throw ISCSIError(operation: "create a context", portal: portal, text: "out of memory")
        }
        self.context = context
        iscsi_set_timeout(context, timeout)
        iscsi_set_noautoreconnect(context, 1)
        iscsi_set_session_type(context, target == nil ? ISCSI_SESSION_DISCOVERY : ISCSI_SESSION_NORMAL)
        if let target { iscsi_set_targetname(context, target) }
        if let isid { iscsi_set_isid_random(context, isid & 0xFF_FFFF, 0) }
        if let chap { iscsi_set_initiator_username_pwd(context, chap.user, chap.password) }
        if let mutual { iscsi_set_target_username_pwd(context, mutual.user, mutual.password) }
        guard iscsi_connect_sync(context, portal) == 0, iscsi_login_sync(context) == 0 else {
            throw failure("log in to \(target ?? "discovery")")
        }
        loggedIn = true
    }

    deinit {
        end()
        iscsi_destroy_context(context)
    }

    /// Logs out, if the session is still there.
    func end() {
        if loggedIn, iscsi_is_logged_in(context) != 0 { iscsi_logout_sync(context) }
        loggedIn = false
    }

    /// Drops the connection without a word: libiscsi may have lost count of what it has sent. (1.19 does if a NOP-In comes
    /// while it answers R2Ts: it gives the NOP-Out a CmdSN of the past, and takes that for an error of its own.)
    func abandon() {
        iscsi_disconnect(context)
        loggedIn = false
    }

    func failure(_ operation: String) -> ISCSIError {
        let text = iscsi_get_error(context).map { String(cString: $0) } ?? "no reason given"
        return ISCSIError(operation: operation, portal: portal, text: text.isEmpty ? "no reason given" : text)
    }

    /// Sends one command and waits for its status.
    ///
    /// The first command after a login often ends in a unit attention (POWER ON, RESET OCCURRED): see ``ready(lun:)``.
    public func send(_ command: SCSICommand, lun: Int = 0) throws(ISCSIError) -> SCSIReply {
        var output = command.output
        guard let task = Self.task(command) else { throw failure(command.name) }
        defer { scsi_free_scsi_task(task) }
        let sent = output.withUnsafeMutableBytes { bytes in
            guard !bytes.isEmpty else { return iscsi_scsi_command_sync(context, Int32(lun), task, nil) }
            var data = iscsi_data(size: bytes.count, data: bytes.bindMemory(to: UInt8.self).baseAddress)
            return iscsi_scsi_command_sync(context, Int32(lun), task, &data)
        }
        guard sent != nil, let reply = Self.reply(task) else { throw failure(command.name) }
        return reply
    }

    /// A task of libiscsi's for a command; nil if there is no memory. The caller frees it.
    static func task(_ command: SCSICommand) -> UnsafeMutablePointer<scsi_task>? {
        var cdb = command.cdb
        let direction: scsi_xfer_dir =
            !command.output.isEmpty ? SCSI_XFER_WRITE : command.inputLength > 0 ? SCSI_XFER_READ : SCSI_XFER_NONE
        let length = command.output.isEmpty ? command.inputLength : command.output.count
        return scsi_create_task(Int32(cdb.count), &cdb, Int32(direction.rawValue), Int32(length))
    }

    /// What a task that has ended says; nil if it ended without the device's answer.
    static func reply(_ task: UnsafeMutablePointer<scsi_task>) -> SCSIReply? {
        guard (0...0xFF).contains(task.pointee.status) else { return nil }
        let received = Array(UnsafeBufferPointer(start: task.pointee.datain.data, count: Int(task.pointee.datain.size)))
        let residual =
            switch task.pointee.residual_status {
            case SCSI_RESIDUAL_UNDERFLOW: Int(task.pointee.residual)
            case SCSI_RESIDUAL_OVERFLOW: -Int(task.pointee.residual)
            default: 0
            }
        guard task.pointee.status != 0 else {
            return SCSIReply(status: 0, data: received, sense: nil, residual: residual)
        }
        // RFC 7143, 11.4.7: two bytes of length stand before the sense data.
        return SCSIReply(
            status: Int(task.pointee.status), data: [], sense: Sense(Array(received.dropFirst(2))), residual: residual)
    }

    /// Sends a command whose status has to be GOOD, and returns its data.
    @discardableResult
    public func good(_ command: SCSICommand, lun: Int = 0) throws(ISCSIError) -> [UInt8] {
        try send(command, lun: lun).requireGood(command, lun: lun, portal: portal)
    }

    /// Takes the unit attentions that wait for this I_T nexus, at most eight of them.
    public func ready(lun: Int = 0) throws(ISCSIError) {
        for _ in 0..<8 where try send(.testUnitReady, lun: lun).isGood { return }
        try good(.testUnitReady, lun: lun)
    }

    /// LOGICAL UNIT RESET (SAM-5, 7.7). libiscsi ends this session's outstanding commands.
    public func resetLogicalUnit(_ lun: Int = 0) throws(ISCSIError) {
        guard iscsi_task_mgmt_lun_reset_sync(context, UInt32(lun)) == 0 else { throw failure("LOGICAL UNIT RESET") }
    }

    /// SendTargets=All (RFC 7143, 4.3): the portals of each target, as `address:port,tag`.
    public static func discover(portal: String) throws(ISCSIError) -> [String: [String]] {
        let session = try ISCSISession(portal: portal, target: nil)
        guard let first = iscsi_discovery_sync(session.context) else { throw session.failure("SendTargets") }
        defer { iscsi_free_discovery_data(session.context, first) }
        var found: [String: [String]] = [:]
        var address: UnsafeMutablePointer<iscsi_discovery_address>? = first
        while let entry = address {
            var next = entry.pointee.portals
            var portals: [String] = []
            while let portal = next {
                if let text = portal.pointee.portal { portals.append(String(cString: text)) }
                next = portal.pointee.next
            }
            if let name = entry.pointee.target_name { found[String(cString: name), default: []] += portals.sorted() }
            address = entry.pointee.next
        }
        return found
    }
}
