// SPDX-License-Identifier: Apache-2.0

/// Values of LIO's settings that need no mention: those it sets by itself, of several kernels, and those Clio sets.
///
/// An empty list is any value: the device has it, Clio has its own in any case, or the reader looks at it by itself.
enum LIODefaults {
    /// `attributes` of a storage object.
    static let backstore: [String: [String]] = [
        "alua_support": [], "block_size": [], "cmd_time_out": ["30"], "data_pages_per_blk": ["256"], "dev_config": [],
        "dev_size": [], "emulate_3pc": ["1"], "emulate_caw": ["1"], "emulate_dpo": ["0", "1"],
        "emulate_fua_read": ["0", "1"], "emulate_fua_write": ["1"], "emulate_model_alias": [], "emulate_pr": ["1"],
        "emulate_rest_reord": ["0"], "emulate_rsoc": ["1"], "emulate_tas": ["1"], "emulate_tpu": ["0", "1"],
        "emulate_tpws": ["0", "1"], "emulate_ua_intlck_ctrl": ["0"], "emulate_write_cache": ["0"],
        "enforce_pr_isids": ["1"], "force_pr_aptpl": ["0"], "hw_block_size": [], "hw_max_sectors": [],
        "hw_pi_prot_type": [], "hw_queue_depth": [], "is_nonrot": [], "max_data_area_mb": ["8"],
        "max_unmap_block_desc_count": [], "max_unmap_lba_count": [], "max_write_same_len": [],
        "nl_reply_supported": [], "optimal_sectors": [], "pgr_support": [], "pi_prot_format": ["0"],
        "pi_prot_type": ["0"], "pi_prot_verify": ["0"], "qfull_time_out": ["-1"], "queue_depth": [],
        "submit_type": ["0"], "unmap_granularity": [], "unmap_granularity_alignment": [], "unmap_zeroes_data": [],
    ]

    /// `parameters` of a target.
    static let target: [String: [String]] = ["cmd_completion_affinity": ["-1"]]

    /// `attributes` of a portal group, in all fabrics.
    static let portalGroup: [String: [String]] = [
        "authentication": [], "cache_dynamic_acls": [], "default_cmdsn_depth": ["16", "64"], "default_erl": ["0"],
        "demo_mode_discovery": [], "demo_mode_login_only": [], "demo_mode_write_protect": [],
        "fabric_prot_type": ["0"], "generate_node_acls": [], "login_keys_workaround": ["1"], "login_timeout": ["15"],
        "netif_timeout": ["2"], "prod_mode_write_protect": ["0"], "srp_max_rdma_size": ["65536"],
        "srp_max_rsp_size": ["256"], "srp_sq_size": ["4096"], "t10_pi": ["0"], "tpg_enabled_sendtargets": ["1"],
        "use_srq": ["0"],
    ]

    /// `parameters` of a portal group: keys of RFC 7143 13.
    static let negotiation: [String: [String]] = [
        "AuthMethod": [], "DataDigest": ["CRC32C,None"], "DataPDUInOrder": ["Yes"], "DataSequenceInOrder": ["Yes"],
        "DefaultTime2Retain": ["20"], "DefaultTime2Wait": ["2"], "ErrorRecoveryLevel": ["0"],
        "FirstBurstLength": ["65536"], "HeaderDigest": ["CRC32C,None"], "IFMarkInt": ["Reject", "2048~65535"],
        "IFMarker": ["No"], "ImmediateData": ["Yes"], "InitialR2T": ["Yes"], "MaxBurstLength": ["262144"],
        "MaxConnections": ["1"], "MaxOutstandingR2T": ["1"], "MaxRecvDataSegmentLength": ["8192"],
        "MaxXmitDataSegmentLength": ["262144"], "OFMarkInt": ["Reject", "2048~65535"], "OFMarker": ["No"],
        "TargetAlias": ["LIO Target"],
    ]

    /// `attributes` of an ACL.
    static let acl: [String: [String]] = [
        "authentication": [], "dataout_timeout": ["3"], "dataout_timeout_retries": ["5"], "default_erl": ["0"],
        "nopin_response_timeout": ["30"], "nopin_timeout": ["15"], "random_datain_pdu_offsets": ["0"],
        "random_datain_seq_offsets": ["0"], "random_r2t_offsets": ["0"],
    ]
}
