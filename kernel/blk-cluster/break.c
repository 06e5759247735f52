// SPDX-License-Identifier: GPL-2.0
/*
 * One rule at a time that is left undone, to see that tests notice: a parameter
 * of blk_cluster, in kernels that are made for that only.
 */

#include <linux/moduleparam.h>
#include <linux/string.h>
#include <linux/sysfs.h>

#include "internal.h"

unsigned int blk_cluster_broken;

static const char * const rules[] = {
	[BLK_CLUSTER_RULE_NONE] = "none",
	[BLK_CLUSTER_RULE_DRAIN] = "drain",
	[BLK_CLUSTER_RULE_GO_ON] = "go-on",
	[BLK_CLUSTER_RULE_RIGHTS] = "rights",
	[BLK_CLUSTER_RULE_ORPHANS] = "orphans",
	[BLK_CLUSTER_RULE_SETTLE] = "settle",
	[BLK_CLUSTER_RULE_SWAP] = "swap",
	[BLK_CLUSTER_RULE_TELL] = "tell",
	[BLK_CLUSTER_RULE_APPLY] = "apply",
	[BLK_CLUSTER_RULE_EVERYWHERE] = "everywhere",
};

static int break_set(const char *value, const struct kernel_param *kp)
{
	int rule = sysfs_match_string(rules, value);

	if (rule < 0)
		return rule;
	WRITE_ONCE(blk_cluster_broken, rule);
	return 0;
}

static int break_get(char *buffer, const struct kernel_param *kp)
{
	return sysfs_emit(buffer, "%s\n", rules[READ_ONCE(blk_cluster_broken)]);
}

static const struct kernel_param_ops break_ops = {
	.set = break_set,
	.get = break_get,
};

module_param_cb(break, &break_ops, NULL, 0644);
MODULE_PARM_DESC(break, "a rule that is not obeyed, for tests");
