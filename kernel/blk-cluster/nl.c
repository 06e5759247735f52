// SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR BSD-3-Clause)
/* Do not edit directly, auto-generated from: */
/*	Documentation/netlink/specs/blk-cluster.yaml */
/* YNL-GEN kernel source */

#include <net/netlink.h>
#include <net/genetlink.h>

#include "nl.h"

#include <uapi/linux/blk_cluster.h>

/* BLK_CLUSTER_CMD_LEASE_ARM - do */
static const struct nla_policy blk_cluster_lease_arm_nl_policy[BLK_CLUSTER_A_LEASE_HOLD + 1] = {
	[BLK_CLUSTER_A_LEASE_EPOCH] = { .type = NLA_U64, },
	[BLK_CLUSTER_A_LEASE_INSTANCE] = { .type = NLA_U64, },
	[BLK_CLUSTER_A_LEASE_UNTIL] = { .type = NLA_U64, },
	[BLK_CLUSTER_A_LEASE_HOLD] = { .type = NLA_U64, },
};

/* BLK_CLUSTER_CMD_LEASE_RENEW - do */
static const struct nla_policy blk_cluster_lease_renew_nl_policy[BLK_CLUSTER_A_LEASE_HOLD + 1] = {
	[BLK_CLUSTER_A_LEASE_EPOCH] = { .type = NLA_U64, },
	[BLK_CLUSTER_A_LEASE_UNTIL] = { .type = NLA_U64, },
	[BLK_CLUSTER_A_LEASE_HOLD] = { .type = NLA_U64, },
};

/* BLK_CLUSTER_CMD_SETTLE - do */
static const struct nla_policy blk_cluster_settle_nl_policy[BLK_CLUSTER_A_TASK_SETTLING + 1] = {
	[BLK_CLUSTER_A_TASK_ID] = { .type = NLA_U64, },
	[BLK_CLUSTER_A_TASK_SETTLING] = NLA_POLICY_MAX(NLA_U32, 2),
};

/* BLK_CLUSTER_CMD_BARRIER - do */
static const struct nla_policy blk_cluster_barrier_nl_policy[BLK_CLUSTER_A_BARRIER_EPOCH + 1] = {
	[BLK_CLUSTER_A_BARRIER_EPOCH] = NLA_POLICY_MIN(NLA_U32, 1),
};

/* BLK_CLUSTER_CMD_EVENT_DONE - do */
static const struct nla_policy blk_cluster_event_done_nl_policy[BLK_CLUSTER_A_EVENT_LATE + 1] = {
	[BLK_CLUSTER_A_EVENT_ID] = { .type = NLA_U64, },
	[BLK_CLUSTER_A_EVENT_OUTCOME] = NLA_POLICY_MAX(NLA_U32, 3),
	[BLK_CLUSTER_A_EVENT_LATE] = { .type = NLA_STRING, .len = BLK_CLUSTER_NAME_MAX, },
};

/* BLK_CLUSTER_CMD_APPLY - do */
static const struct nla_policy blk_cluster_apply_nl_policy[BLK_CLUSTER_A_TASK_PAYLOAD + 1] = {
	[BLK_CLUSTER_A_TASK_ID] = { .type = NLA_U64, },
	[BLK_CLUSTER_A_TASK_ORIGIN] = { .type = NLA_NUL_STRING, .len = BLK_CLUSTER_NAME_MAX, },
	[BLK_CLUSTER_A_TASK_PAYLOAD] = { .type = NLA_BINARY, },
};

/* Ops table for blk_cluster */
static const struct genl_split_ops blk_cluster_nl_ops[] = {
	{
		.cmd	= BLK_CLUSTER_CMD_RELAY_ATTACH,
		.doit	= blk_cluster_nl_relay_attach_doit,
		.flags	= GENL_ADMIN_PERM | GENL_CMD_CAP_DO,
	},
	{
		.cmd	= BLK_CLUSTER_CMD_LEASE_GET,
		.doit	= blk_cluster_nl_lease_get_doit,
		.flags	= GENL_ADMIN_PERM | GENL_CMD_CAP_DO,
	},
	{
		.cmd		= BLK_CLUSTER_CMD_LEASE_ARM,
		.doit		= blk_cluster_nl_lease_arm_doit,
		.policy		= blk_cluster_lease_arm_nl_policy,
		.maxattr	= BLK_CLUSTER_A_LEASE_HOLD,
		.flags		= GENL_ADMIN_PERM | GENL_CMD_CAP_DO,
	},
	{
		.cmd		= BLK_CLUSTER_CMD_LEASE_RENEW,
		.doit		= blk_cluster_nl_lease_renew_doit,
		.policy		= blk_cluster_lease_renew_nl_policy,
		.maxattr	= BLK_CLUSTER_A_LEASE_HOLD,
		.flags		= GENL_ADMIN_PERM | GENL_CMD_CAP_DO,
	},
	{
		.cmd		= BLK_CLUSTER_CMD_SETTLE,
		.doit		= blk_cluster_nl_settle_doit,
		.policy		= blk_cluster_settle_nl_policy,
		.maxattr	= BLK_CLUSTER_A_TASK_SETTLING,
		.flags		= GENL_ADMIN_PERM | GENL_CMD_CAP_DO,
	},
	{
		.cmd		= BLK_CLUSTER_CMD_BARRIER,
		.doit		= blk_cluster_nl_barrier_doit,
		.policy		= blk_cluster_barrier_nl_policy,
		.maxattr	= BLK_CLUSTER_A_BARRIER_EPOCH,
		.flags		= GENL_ADMIN_PERM | GENL_CMD_CAP_DO,
	},
	{
		.cmd		= BLK_CLUSTER_CMD_EVENT_DONE,
		.doit		= blk_cluster_nl_event_done_doit,
		.policy		= blk_cluster_event_done_nl_policy,
		.maxattr	= BLK_CLUSTER_A_EVENT_LATE,
		.flags		= GENL_ADMIN_PERM | GENL_CMD_CAP_DO,
	},
	{
		.cmd		= BLK_CLUSTER_CMD_APPLY,
		.doit		= blk_cluster_nl_apply_doit,
		.policy		= blk_cluster_apply_nl_policy,
		.maxattr	= BLK_CLUSTER_A_TASK_PAYLOAD,
		.flags		= GENL_ADMIN_PERM | GENL_CMD_CAP_DO,
	},
	{
		.cmd	= BLK_CLUSTER_CMD_DEVICE_GET,
		.dumpit	= blk_cluster_nl_device_get_dumpit,
		.flags	= GENL_ADMIN_PERM | GENL_CMD_CAP_DUMP,
	},
};

static const struct genl_multicast_group blk_cluster_nl_mcgrps[] = {
	[BLK_CLUSTER_NLGRP_MONITOR] = { "monitor", },
};

struct genl_family blk_cluster_nl_family __ro_after_init = {
	.name		= BLK_CLUSTER_FAMILY_NAME,
	.version	= BLK_CLUSTER_FAMILY_VERSION,
	.netnsok	= true,
	.parallel_ops	= true,
	.module		= THIS_MODULE,
	.split_ops	= blk_cluster_nl_ops,
	.n_split_ops	= ARRAY_SIZE(blk_cluster_nl_ops),
	.mcgrps		= blk_cluster_nl_mcgrps,
	.n_mcgrps	= ARRAY_SIZE(blk_cluster_nl_mcgrps),
};
