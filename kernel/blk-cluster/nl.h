/* SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR BSD-3-Clause) */
/* Do not edit directly, auto-generated from: */
/*	Documentation/netlink/specs/blk-cluster.yaml */
/* YNL-GEN kernel header */

#ifndef _LINUX_BLK_CLUSTER_GEN_H
#define _LINUX_BLK_CLUSTER_GEN_H

#include <net/netlink.h>
#include <net/genetlink.h>

#include <uapi/linux/blk_cluster.h>

int blk_cluster_nl_relay_attach_doit(struct sk_buff *skb,
				     struct genl_info *info);
int blk_cluster_nl_lease_get_doit(struct sk_buff *skb, struct genl_info *info);
int blk_cluster_nl_lease_arm_doit(struct sk_buff *skb, struct genl_info *info);
int blk_cluster_nl_lease_renew_doit(struct sk_buff *skb,
				    struct genl_info *info);
int blk_cluster_nl_settle_doit(struct sk_buff *skb, struct genl_info *info);
int blk_cluster_nl_barrier_doit(struct sk_buff *skb, struct genl_info *info);
int blk_cluster_nl_event_done_doit(struct sk_buff *skb, struct genl_info *info);
int blk_cluster_nl_apply_doit(struct sk_buff *skb, struct genl_info *info);
int blk_cluster_nl_device_get_dumpit(struct sk_buff *skb,
				     struct netlink_callback *cb);

enum {
	BLK_CLUSTER_NLGRP_MONITOR,
};

extern struct genl_family blk_cluster_nl_family;

#endif /* _LINUX_BLK_CLUSTER_GEN_H */
