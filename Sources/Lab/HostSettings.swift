// SPDX-License-Identifier: Apache-2.0

/// Settings of a Linux host that go with a cluster of gateways.
enum HostSettings {
    /// `iscsid.conf`: a silent path is found out after 10 s, and nothing is sent elsewhere earlier than 10 s after its
    /// last sign of life (the bound F of the design).
    static let iscsid = """
        node.startup = manual
        node.leading_login = No
        node.session.timeo.replacement_timeout = 10
        node.conn[0].timeo.login_timeout = 10
        node.conn[0].timeo.logout_timeout = 10
        node.conn[0].timeo.noop_out_interval = 5
        node.conn[0].timeo.noop_out_timeout = 5
        node.session.err_timeo.abort_timeout = 15
        node.session.err_timeo.lu_reset_timeout = 30
        node.session.err_timeo.tgt_reset_timeout = 30
        node.session.initial_login_retry_max = 4
        node.session.cmds_max = 128
        node.session.queue_depth = 64
        node.session.iscsi.InitialR2T = No
        node.session.iscsi.ImmediateData = Yes
        node.session.iscsi.FastAbort = Yes
        node.session.scan = auto
        discovery.sendtargets.iscsi.MaxRecvDataSegmentLength = 32768

        """

    /// `multipath.conf`: all active/optimized ports in one group.
    static let multipath = """
        defaults {
            user_friendly_names no
            reservation_key file
            find_multipaths no
            polling_interval 2
            max_polling_interval 5
        }
        devices {
            device {
                vendor "LIO-ORG"
                product ".*"
                path_grouping_policy group_by_prio
                prio alua
                hardware_handler "1 alua"
                path_checker tur
                path_selector "round-robin 0"
                failback immediate
                no_path_retry 12
            }
        }

        """
}
