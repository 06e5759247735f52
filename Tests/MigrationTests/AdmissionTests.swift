// SPDX-License-Identifier: Apache-2.0
import ClusterModel
import Testing

@testable import Migration

/// An import lets in nobody who could not log in before, and says whom it leaves out.
@Suite struct AdmissionTests {
    static let chap = #""chap_userid": "u", "chap_password": "u-password-123""#
    static let mapped = #""mapped_luns": [{"index": 0, "tpg_lun": 0}]"#
    static let target = "iqn.2003-01.org.example:t"
    static let host = "iqn.1994-05.example.host:"

    /// A node's saveconfig.json with portal groups of one target.
    private func saved(
        _ tpgs: String..., fabric: String = "iscsi", wwn: String = target, modules: String = "[]",
        storage: String = ""
    ) -> String {
        let list = tpgs.map { #"{"luns": [{"index": 0, "storage_object": "/backstores/block/a"}], \#($0)}"# }
        return #"""
            {"fabric_modules": \#(modules),
             "storage_objects": [
                {"plugin": "block", "name": "a", "dev": "/dev/rbd/p/a", "wwn": "0123456789abcdef"\#(storage)}],
             "targets": [
                {"fabric": "\#(fabric)", "wwn": "\#(wwn)", "tpgs": [\#(list.joined(separator: ","))]}]}
            """#
    }

    private func tpg(asks: Int = 0, open: Int = 0, address: String = "10.0.0.1", acls: String = "") -> String {
        #""attributes": {"authentication": \#(asks), "generate_node_acls": \#(open), "demo_mode_write_protect": 0},"#
            + #""portals": [{"ip_address": "\#(address)", "port": 3260}], "node_acls": [\#(acls)]"#
    }

    private func acl(_ name: String, _ more: String = "") -> String {
        #"{"node_wwn": "\#(Self.host)\#(name)", \#(Self.mapped)\#(more.isEmpty ? "" : ", " + more)}"#
    }

    private func targetcli(_ files: String...) throws -> Imported {
        try Importer.targetcli(files.enumerated().map { ("gw\($0 + 1)", $1) }, group: "g")
    }

    @Test(arguments: [false, true]) func anOpenPlaceDoesNotOpenAListedTarget(_ openFirst: Bool) throws {
        let listed = tpg(asks: 1, acls: acl("a", Self.chap))
        let open = tpg(open: 1, address: "10.0.0.2")
        let files = openFirst ? [saved(open), saved(listed)] : [saved(listed), saved(open)]
        let inFiles = try targetcli(files[0], files[1])
        let inGroups = try targetcli(openFirst ? saved(open, listed) : saved(listed, open))
        for imported in [inFiles, inGroups] {
            #expect(imported.group.targets.map(\.access) == [.hosts])
            #expect(imported.group.hosts.map(\.chap?.user) == ["u"])
            #expect(
                imported.notes.contains {
                    $0.hasPrefix("target \(Self.target): admits any host in one place and lists hosts in another")
                })
        }
    }

    @Test func hostsWithoutCredentialsAreLeftOut() throws {
        let imported = try targetcli(saved(tpg(asks: 1, acls: [acl("a", Self.chap), acl("b")].joined(separator: ","))))
        #expect(imported.group.hosts.map(\.iqn) == [Self.host + "a"])
        #expect(imported.notes.contains { $0.hasPrefix("host \(Self.host)b is left out at target \(Self.target)") })
        #expect(imported.remaining.isEmpty)
    }

    /// LIO's default is to ask, and the portal group's own credentials are for hosts without an ACL.
    @Test func credentialsOfThePortalGroupAreNoHosts() throws {
        let imported = try targetcli(
            saved(#""portals": [{"ip_address": "10.0.0.1"}], \#(Self.chap), "node_acls": [\#(acl("a"))]"#))
        #expect(imported.group.hosts.isEmpty)
        #expect(imported.remaining.map(\.path) == ["targets[0].access"])
    }

    @Test func anACLHasTheLastWord() throws {
        let free = acl("free", #""attributes": {"authentication": 0}"#)
        let asked = acl("asked", #""attributes": {"authentication": 1}, \#(Self.chap)"#)
        let refused = acl("refused", #""attributes": {"authentication": 1}"#)
        let inherits = acl("inherits", #""attributes": {"authentication": -1}"#)
        let acls = [free, asked, refused, inherits].joined(separator: ",")
        func names(_ imported: Imported) -> [Substring] {
            imported.group.hosts.map { $0.iqn.dropFirst(Self.host.count) }
        }
        let asking = try targetcli(saved(tpg(asks: 1, acls: acls)))
        #expect(names(asking) == ["free", "asked"])
        let notAsking = try targetcli(saved(tpg(asks: 0, acls: acls)))
        #expect(names(notAsking) == ["free", "asked", "inherits"])
        #expect(notAsking.group.hosts.map { $0.chap != nil } == [false, true, false])
        #expect(!notAsking.notes.contains { $0.contains("was not asked for") })
    }

    /// A host that an ACL shows nothing must not come in as any other.
    @Test func anACLWithoutLUNsKeepsTheTargetClosed() throws {
        let imported = try targetcli(saved(tpg(open: 1, acls: #"{"node_wwn": "\#(Self.host)x", "mapped_luns": []}"#)))
        #expect(imported.group.targets.map(\.access) == [.hosts])
        #expect(imported.remaining.map(\.path) == ["targets[0].access"])
    }

    /// No list would mean all hosts of the group.
    @Test func aTargetWithoutHostsGetsNoneOfAnother() throws {
        let closed = saved(tpg(address: "10.0.0.2"), wwn: "iqn.2003-01.org.example:closed")
        let imported = try targetcli(saved(tpg(acls: acl("a"))), closed)
        #expect(imported.group.targets.map(\.hosts) == [nil, []])
        #expect(imported.remaining.map(\.path) == ["targets[1].hosts"])
        #expect(imported.notes.contains { $0.contains("example:closed: no host could log in") })
    }

    @Test func lrbdAsksEachHost() throws {
        let text = """
            {"targets": [{"target": "\(Self.target)", "host": "igw1", "portal": "lan"}],
             "portals": [{"name": "lan", "addresses": ["10.0.0.1"]}],
             "auth": [{"target": "\(Self.target)", "authentication": "KIND", "acls": [
                {"initiator": "\(Self.host)a", "userid": "u", "password": "u-password-123"}]}],
             "pools": [{"pool": "p", "gateways": [{"target": "\(Self.target)", "tpg": [
                {"image": "i", "initiator": "\(Self.host)a", "uuid": "0123456789abcdef"},
                {"image": "i", "initiator": "\(Self.host)b"}]}]}]}
            """
        let acls = try Importer.lrbd(text.replacing("KIND", with: "acls"), group: "g")
        #expect(acls.group.hosts.map(\.iqn) == [Self.host + "a"])
        #expect(acls.notes.contains { $0.hasPrefix("host \(Self.host)b is left out at target \(Self.target)") })
        let identified = try Importer.lrbd(text.replacing("KIND", with: "identified"), group: "g")
        #expect(identified.group.hosts.map(\.chap) == [nil, nil])
        #expect(identified.notes == ["auth[0].acls is not carried over"])
        let unsaid = try Importer.lrbd(text.replacing("\"auth\"", with: "\"other\""), group: "g")
        #expect(unsaid.notes.contains { $0.contains("has no entry under \"auth\"") })
        #expect(unsaid.notes.contains("other is not carried over"))
    }

    @Test(arguments: [true, false]) func cephISCSIKeepsHosts(_ listed: Bool) throws {
        let text = """
            {"version": 11, "disks": {"p/a": {"pool": "p", "image": "a", "wwn": "0123456789abcdef"}},
             "targets": {"\(Self.target)": {"acl_enabled": \(listed), "disks": {"p/a": {"lun_id": 0}},
                "controls": {"max_burst_length": 65536},
                "portals": {"gw1": {"portal_ip_addresses": ["10.0.0.1"]}},
                "clients": {
                    "\(Self.host)a": {"auth": {"username": "u", "password": "u-password-123"},
                        "luns": {"p/a": {"lun_id": 0}}},
                    "\(Self.host)b": {"auth": {"username": "", "password": ""}, "luns": {"p/a": {"lun_id": 0}}}}}}}
            """
        let imported = try Importer.cephISCSI(text, group: "g")
        #expect(imported.group.targets.map(\.access) == [.hosts])
        #expect(imported.group.hosts.map(\.iqn) == [Self.host + "a"])
        #expect(imported.group.hosts.map(\.chap?.user) == ["u"])
        #expect(imported.notes.contains { $0.hasPrefix("host \(Self.host)b is left out at target \(Self.target)") })
        #expect(imported.notes.contains { $0.hasSuffix("only those listed will be admitted") } == !listed)
        #expect(
            imported.notes.contains(
                "target \(Self.target): settings of LIO are not carried over: max_burst_length"))
    }

    // MARK: Discovery

    @Test func discoveryOfTargetcli() throws {
        func modules(_ user: String, _ more: String = "") -> String {
            #"[{"name": "iscsi", "discovery_userid": "\#(user)", "discovery_password": "d-password-123"\#(more)}]"#
        }
        let hosts = tpg(acls: acl("a"))
        let one = saved(hosts, modules: modules("d", #", "discovery_enable_auth": true"#))
        let other = saved(hosts, modules: modules("e"))
        let both = try targetcli(one, other)
        #expect(both.group.discovery?.user == "d")
        #expect(both.notes.contains { $0.hasPrefix("node gw2: has other CHAP credentials for discovery") })
        let off = try targetcli(saved(hosts, modules: modules("d", #", "discovery_enable_auth": false"#)))
        #expect(off.group.discovery == nil)
        #expect(off.notes.contains { $0.contains("for discovery and does not ask for them") })
        let none = try targetcli(saved(hosts, modules: #"[{"name": "iscsi", "discovery_enable_auth": true}]"#))
        #expect(none.remaining.map(\.path) == ["discovery.user", "discovery.password"])
    }

    @Test func discoveryOfCephISCSI() throws {
        func imported(_ auth: String) throws -> Imported {
            try Importer.cephISCSI(
                try sample("ceph-iscsi.json").replacing(
                    #"""
                      "discovery_auth": {
                        "mutual_password": "", "mutual_password_encryption_enabled": false, "mutual_username": "",
                        "password": "", "password_encryption_enabled": false, "username": ""
                      },
                    """#, with: #"  "discovery_auth": {\#(auth)},"#), group: "g")
        }
        let plain = try imported(
            #""username": "d", "password": "d-password-123", "mutual_username": "e", "mutual_password": "e-password-123""#
        )
        #expect(
            plain.group.discovery
                == CHAP(
                    user: "d", password: Secret("d-password-123"), mutualUser: "e",
                    mutualPassword: Secret("e-password-123")))
        let encrypted = try imported(
            #""username": "d", "password": "gAAAAABk", "password_encryption_enabled": true"#)
        #expect(encrypted.remaining.map(\.path) == ["discovery.password", "hosts[1].chap.password"])
        #expect(encrypted.notes.contains { $0.hasPrefix("discovery: its CHAP password is encrypted") })
        let old = try imported(#""chap": "d/d-password-123", "chap_mutual": """#)
        #expect(old.group.discovery == CHAP(user: "d", password: Secret("d-password-123")))
        let oldEncrypted = try imported(#""chap": "d/d-password-of-a-key", "chap_mutual": """#)
        #expect(oldEncrypted.remaining.map(\.path) == ["discovery.password", "hosts[1].chap.password"])
    }

    // MARK: Fabrics

    @Test func otherFabrics() throws {
        let port = "ib.fe80000000000000e41d2d0300abcdef"
        let initiator = "ib.0000000000000000e41d2d0300fedcba"
        let srp = try targetcli(
            saved(#""node_acls": [{"node_wwn": "\#(initiator)", \#(Self.mapped)}]"#, fabric: "srpt", wwn: port))
        #expect(srp.remaining.isEmpty)
        #expect(srp.notes.isEmpty)
        #expect(srp.group.targets == [ClusterTarget(name: port, fabric: .srp, ports: ["gw1": [port]])])
        #expect(srp.group.hosts == [Host(name: initiator, fabric: .srp)])
        let adapter = "naa.21000024ff314c48"
        for (closed, access) in [(1, Access.hosts), (0, .open)] {
            let fc = try targetcli(
                saved(
                    #""attributes": {"demo_mode_login_only": \#(closed), "demo_mode_write_protect": 0}"#,
                    fabric: "qla2xxx", wwn: adapter))
            #expect(
                fc.group.targets == [
                    ClusterTarget(name: adapter, fabric: .fc, ports: ["gw1": [adapter]], access: access)
                ])
        }
        let vhost = try targetcli(
            saved(#""node_acls": [{"node_wwn": "naa.1"}]"#, fabric: "vhost", wwn: "naa.5001405000000011"))
        #expect(vhost.remaining.isEmpty)
        #expect(vhost.group.targets.map(\.access) == [.open])
        #expect(vhost.notes == ["node gw1: targets[0].tpgs[0].node_acls is not carried over"])
        let fcoe = try targetcli(saved("", fabric: "tcm_fc", wwn: adapter).replacing(", }", with: "}"))
        #expect(
            fcoe.notes == [
                "node gw1: target \(adapter) is left out: its fabric is tcm_fc, a group can have iscsi, loopback, vhost, "
                    + "srpt, qla2xxx"
            ])
    }

    // MARK: What is not carried over

    @Test func settingsOtherThanLIOsAreNoted() throws {
        let storage = #"""
            , "write_back": true, "size": 1024,
            "attributes": {"emulate_tpu": 0, "emulate_model_alias": 1, "queue_depth": 256, "emulate_write_cache": 1},
            "alua_tpgs": [{"name": "default_tg_pt_gp", "preferred": 1}, {"name": "ao", "tg_pt_gp_id": 1}]
            """#
        let imported = try targetcli(
            saved(
                #"""
                "attributes": {"authentication": 0, "login_timeout": 15, "prod_mode_write_protect": 1},
                "parameters": {"AuthMethod": "CHAP,None", "InitialR2T": "No", "MaxBurstLength": "262144"},
                "portals": [{"ip_address": "10.0.0.1", "port": 3260, "iser": false, "offload": true}],
                "node_acls": [\#(acl("a", #""attributes": {"nopin_timeout": 15, "dataout_timeout": 20}, "tag": "lab""#))]
                """#, storage: storage))
        #expect(
            imported.notes == [
                "node gw1: settings of hosts other than LIO's are not carried over: dataout_timeout=20 (\(Self.host)a)",
                "node gw1: settings of portal groups other than LIO's are not carried over: InitialR2T=No "
                    + "(\(Self.target) tpg1); prod_mode_write_protect=1 (\(Self.target) tpg1)",
                "node gw1: settings of storage objects other than LIO's are not carried over: emulate_write_cache=1 (a); "
                    + "target port group ao (a)",
                "node gw1: storage_objects[0].write_back is not carried over",
                "node gw1: targets[0].tpgs[0].portals[0].offload is not carried over",
                "node gw1: targets[0].tpgs[0].node_acls[0].tag is not carried over",
            ])
    }

    /// What targetcli saves of Linux 6.12 when nobody has set anything.
    @Test func defaultsAreNotNoted() throws {
        let storage = #"""
            , "readonly": false, "write_back": false,
            "alua_tpgs": [{"name": "default_tg_pt_gp", "tg_pt_gp_id": 0, "alua_access_type": 3, "nonop_delay_msecs": 100}],
            "attributes": {"alua_support": 1, "block_size": 512, "emulate_3pc": 1, "emulate_caw": 1, "emulate_dpo": 1,
                "emulate_fua_read": 1, "emulate_fua_write": 1, "emulate_model_alias": 1, "emulate_pr": 1,
                "emulate_rest_reord": 0, "emulate_rsoc": 1, "emulate_tas": 1, "emulate_tpu": 0, "emulate_tpws": 0,
                "emulate_ua_intlck_ctrl": 0, "emulate_write_cache": 0, "enforce_pr_isids": 1, "force_pr_aptpl": 0,
                "is_nonrot": 1, "max_unmap_block_desc_count": 1, "max_unmap_lba_count": 8192, "queue_depth": 128,
                "max_write_same_len": 65535, "optimal_sectors": 8192, "pgr_support": 1, "pi_prot_format": 0,
                "pi_prot_type": 0, "pi_prot_verify": 0, "submit_type": 0, "unmap_granularity": 128,
                "unmap_granularity_alignment": 0, "unmap_zeroes_data": 0}
            """#
        let attributes = #"""
            "attributes": {"authentication": -1, "dataout_timeout": 3, "dataout_timeout_retries": 5, "default_erl": 0,
                "nopin_response_timeout": 30, "nopin_timeout": 15, "random_datain_pdu_offsets": 0,
                "random_datain_seq_offsets": 0, "random_r2t_offsets": 0}
            """#
        let imported = try targetcli(
            saved(
                #"""
                "tag": 1, "enable": true,
                "attributes": {"authentication": 0, "cache_dynamic_acls": 0, "default_cmdsn_depth": 64, "default_erl": 0,
                    "demo_mode_discovery": 1, "demo_mode_write_protect": 1, "fabric_prot_type": 0,
                    "generate_node_acls": 0, "login_keys_workaround": 1, "login_timeout": 15,
                    "prod_mode_write_protect": 0, "t10_pi": 0, "tpg_enabled_sendtargets": 1},
                "parameters": {"AuthMethod": "CHAP,None", "DataDigest": "CRC32C,None", "DataPDUInOrder": "Yes",
                    "DataSequenceInOrder": "Yes", "DefaultTime2Retain": "20", "DefaultTime2Wait": "2",
                    "ErrorRecoveryLevel": "0", "FirstBurstLength": "65536", "HeaderDigest": "CRC32C,None",
                    "IFMarkInt": "Reject", "IFMarker": "No", "ImmediateData": "Yes", "InitialR2T": "Yes",
                    "MaxBurstLength": "262144", "MaxConnections": "1", "MaxOutstandingR2T": "1",
                    "MaxRecvDataSegmentLength": "8192", "MaxXmitDataSegmentLength": "262144", "OFMarkInt": "Reject",
                    "OFMarker": "No", "TargetAlias": "LIO Target"},
                "portals": [{"ip_address": "10.0.0.1", "port": 3260, "iser": false, "offload": false}],
                "node_acls": [\#(acl("a", attributes))]
                """#, storage: storage))
        #expect(imported.remaining.isEmpty)
        #expect(imported.notes.isEmpty)
    }

    /// What means nothing to a group makes no notes, and like leftovers one.
    @Test func leftoversOfLRBD() throws {
        let text = """
            {"targets": [{"target": "\(Self.target)", "host": "igw1", "portal": "lan", "tpg_login_timeout": "10"}],
             "portals": [{"name": "lan", "addresses": ["10.0.0.1"]}],
             "auth": [{"target": "\(Self.target)", "authentication": "none", "tpg": {}, "acls": []}],
             "pools": [{"pool": "p", "gateways": [{"target": "\(Self.target)", "tpg": [
                {"image": "i", "portal": "lan", "uuid": "0123456789abcdef", "rbd_name": "simple", "retries": 3},
                {"image": "j", "portal": "lan", "uuid": "123456789abcdef0"}]}]}]}
            """
        let imported = try Importer.lrbd(text, group: "g")
        #expect(
            imported.notes == [
                "targets[0].tpg_login_timeout is not carried over",
                "pools[0].gateways[0].tpg[0].portal is not carried over, nor 1 more like it",
            ])
    }
}
