// SPDX-License-Identifier: GPL-2.0
/*
 * The node's own use of a device, through no target port: reads and writes of
 * /dev/rbdN itself, and persistent reservations by the IOC_PR_* ioctls. They
 * live by the same reservations as the commands of hosts; the node is a nexus
 * as theirs are.
 */

#include <linux/blk-mq.h>
#include <linux/ctype.h>
#include <linux/pr.h>
#include <linux/pr_state.h>
#include <linux/unaligned.h>
#include <linux/utsname.h>

#include "internal.h"

/* Whom LIO names initiators and targets by that have got no other name */
#define OWN_AUTHORITY		"iqn.2003-01.org.linux-iscsi:"
#define OWN_ISID		",i,0x000000000000"

#define PR_IN			0x5e
#define PR_IN_HEADER_LEN	8
#define PR_IN_RESERVATION_LEN	16
#define PR_OUT			0x5f
#define PR_OUT_PARAMS_LEN	24
#define PR_OUT_APTPL		0x01

enum pr_in_action {
	PR_IN_READ_KEYS = 0,
	PR_IN_READ_RESERVATION = 1,
};

enum pr_out_action {
	PR_OUT_REGISTER = 0,
	PR_OUT_RESERVE = 1,
	PR_OUT_RELEASE = 2,
	PR_OUT_CLEAR = 3,
	PR_OUT_PREEMPT = 4,
	PR_OUT_PREEMPT_AND_ABORT = 5,
	PR_OUT_REGISTER_AND_IGNORE = 6,
};

/*
 * Port 0, and an iSCSI TransportID (SPC-4 7.5.4.6) with the node's name, which
 * is the same after a restart: registrations are.
 */
static int own_name(struct prs_nexus *nexus)
{
	u8 tid[4 + sizeof(OWN_AUTHORITY) + __NEW_UTS_LEN + sizeof(OWN_ISID) + 3];
	size_t len = 4;
	const char *c;

	memset(tid, 0, sizeof(tid));
	len += scnprintf(tid + len, sizeof(tid) - len, OWN_AUTHORITY);
	/* What an iSCSI name may consist of (RFC 7143 4.2.7.1) */
	for (c = init_utsname()->nodename; *c; c++)
		tid[len++] = isalnum(*c) || *c == '.' ? tolower(*c) : '-';
	len += scnprintf(tid + len, sizeof(tid) - len, OWN_ISID) + 1;
	len = round_up(len, 4);
	tid[0] = PRS_PROTO_ISCSI | 0x40;
	put_unaligned_be16(len - 4, tid + 2);
	return prs_tid_parse(tid, len, nexus) ? 0 : -EINVAL;
}

static int own_identify(const void *who, struct prs_nexus *nexus)
{
	const struct blk_cluster_dev *bcd = who;

	*nexus = bcd->own_nexus;
	return 0;
}

/* Its commands are admitted as nobody's; there is nothing else to ask it. */
static const struct blk_cluster_consumer_ops own_ops = {
	.identify = own_identify,
};

/**
 * blk_cluster_own_init - the node is going to use a leased device
 * @bcd: the device, which nobody else knows yet
 *
 * Context: process context, may sleep.
 * Return: 0 or a negative errno.
 */
int blk_cluster_own_init(struct blk_cluster_dev *bcd)
{
	int ret;

	bcd->own.bcd = bcd;
	bcd->own.ops = &own_ops;
	ret = own_name(&bcd->own_nexus);
	return ret ?: init_srcu_struct(&bcd->own_requests);
}

/**
 * blk_cluster_own_exit - undo blk_cluster_own_init()
 * @bcd: the device, of which this is the end
 *
 * Context: process context, may sleep.
 */
void blk_cluster_own_exit(struct blk_cluster_dev *bcd)
{
	cleanup_srcu_struct(&bcd->own_requests);
}

/**
 * blk_cluster_own_begin - may a request be carried out?
 * @bcd: the device; NULL is an ordinary one
 * @rq: the request. Those of consumers, BLK_CLUSTER_BIO, always may: the nexus
 *	that they came by has been seen to.
 * @token: for blk_cluster_own_end(), which has to be called once the request
 *	has been answered by whoever stores the data, if this returns 0
 *
 * Context: process context. Sleeps until the reservations have been read, which
 * is so once they have been since the device was registered, or the node's lease
 * was armed; but not for ever.
 * Return: 0; -EBADE if it conflicts with a reservation; -EIO if reservations
 * are not known.
 */
int blk_cluster_own_begin(struct blk_cluster_dev *bcd, struct request *rq,
			  int *token)
{
	int class, rights;
	bool known;

	*token = -1;
	if (!bcd || !(bcd->flags & BLK_CLUSTER_LEASED) ||
	    rq->cmd_flags & REQ_DRV || blk_rq_is_passthrough(rq))
		return 0;

	class = op_is_write(req_op(rq)) ? PRS_WRITE : PRS_READ;
	do {
		/* Before the next, for which those wait who make them known. */
		known = blk_cluster_reservations_wait(bcd);
		/* First, so that whoever changes the state waits for what saw the old. */
		*token = srcu_down_read(&bcd->own_requests);
		__release(&bcd->own_requests);	/* by whoever ends the request */
		rights = blk_cluster_rights(&bcd->own, bcd);
		if (rights >= 0 && rights & class)
			return 0;
		blk_cluster_own_end(bcd, *token);
		*token = -1;
	} while (rights == -EAGAIN && known &&
		 !percpu_ref_is_dying(&bcd->in_flight));
	return rights < 0 ? -EIO : -EBADE;
}
EXPORT_SYMBOL_GPL(blk_cluster_own_begin);

/**
 * blk_cluster_own_end - a request has been answered
 * @bcd: the device
 * @token: of blk_cluster_own_begin()
 *
 * Context: any but NMI.
 */
void blk_cluster_own_end(struct blk_cluster_dev *bcd, int token)
{
	if (token < 0)
		return;
	__acquire(&bcd->own_requests);	/* by whoever began it */
	srcu_up_read(&bcd->own_requests, token);
}
EXPORT_SYMBOL_GPL(blk_cluster_own_end);

static bool own_match(struct bio *bio, void *arg)
{
	return !(bio->bi_opf & REQ_DRV);
}

/**
 * blk_cluster_own_reserved - a new state of reservations is in force
 * @bcd: the device
 * @state: the state
 * @since: version of the one before
 *
 * If PREEMPT AND ABORT has named the node, no request of its own that was begun
 * before is in flight when this returns.
 *
 * Context: process context, sleeps for as long as that takes.
 */
void blk_cluster_own_reserved(struct blk_cluster_dev *bcd,
			      const struct prs_state *state, u64 since)
{
	if (!(prs_effects(state, &bcd->own_nexus, since) & PRS_ABORT))
		return;
	blk_cluster_abort(&bcd->own, own_match, NULL);
	synchronize_srcu(&bcd->own_requests);
}

/* TYPE of each enum pr_type */
static const u8 own_types[] = {
	[0] = PRS_NONE,
	[PR_WRITE_EXCLUSIVE] = PRS_WRITE_EXCLUSIVE,
	[PR_EXCLUSIVE_ACCESS] = PRS_EXCLUSIVE_ACCESS,
	[PR_WRITE_EXCLUSIVE_REG_ONLY] = PRS_WRITE_EXCLUSIVE_RO,
	[PR_EXCLUSIVE_ACCESS_REG_ONLY] = PRS_EXCLUSIVE_ACCESS_RO,
	[PR_WRITE_EXCLUSIVE_ALL_REGS] = PRS_WRITE_EXCLUSIVE_AR,
	[PR_EXCLUSIVE_ACCESS_ALL_REGS] = PRS_EXCLUSIVE_ACCESS_AR,
};

static int own_pr_status(const struct prs_result *result)
{
	switch (result->status) {
	case PRS_GOOD:
		return PR_STS_SUCCESS;
	case PRS_CONFLICT:
		return PR_STS_RESERVATION_CONFLICT;
	default:
		return -EINVAL;
	}
}

static int own_pr_out(struct block_device *bdev, enum pr_out_action action,
		      enum pr_type type, u64 key, u64 action_key, u8 flags)
{
	u8 params[PR_OUT_PARAMS_LEN] = {};
	u8 cdb[10] = { PR_OUT, action };
	struct prs_command prs = {
		.cdb = cdb,
		.cdb_len = sizeof(cdb),
		.params = params,
		.params_len = sizeof(params),
	};
	struct prs_result result = {};
	struct blk_cluster_cmd cmd = {};
	struct blk_cluster_dev *bcd;
	int ret;

	if (type >= ARRAY_SIZE(own_types))
		return -EINVAL;
	cdb[2] = own_types[type];
	put_unaligned_be32(sizeof(params), cdb + 5);
	put_unaligned_be64(key, params);
	put_unaligned_be64(action_key, params + 8);
	params[20] = flags;

	bcd = blk_cluster_find_disk(bdev->bd_disk);
	if (!bcd)
		return -ENODEV;
	ret = -EOPNOTSUPP;
	if (bcd->flags & BLK_CLUSTER_LEASED) {
		prs.nexus = &bcd->own_nexus;
		ret = blk_cluster_reserve(&bcd->own, &cmd, &prs, &result);
	}
	blk_cluster_dev_put(bcd);
	return ret ?: own_pr_status(&result);
}

/* @buf is longer than any answer, and zeroes. */
static int own_pr_in(struct block_device *bdev, enum pr_in_action action,
		     u8 *buf, u16 len)
{
	u8 cdb[10] = { PR_IN, action };
	struct prs_result result = {};
	struct blk_cluster_dev *bcd;
	int ret = -EOPNOTSUPP;
	u32 got;

	put_unaligned_be16(len, cdb + 7);
	bcd = blk_cluster_find_disk(bdev->bd_disk);
	if (!bcd)
		return -ENODEV;
	if (bcd->flags & BLK_CLUSTER_LEASED)
		ret = blk_cluster_reservations(&bcd->own, cdb, sizeof(cdb), buf,
					       len, &result, &got);
	blk_cluster_dev_put(bcd);
	return ret ?: own_pr_status(&result);
}

static int own_register(struct block_device *bdev, u64 old_key, u64 new_key,
			u32 flags)
{
	enum pr_out_action action = flags & PR_FL_IGNORE_KEY ?
		PR_OUT_REGISTER_AND_IGNORE : PR_OUT_REGISTER;

	if (flags & ~PR_FL_IGNORE_KEY)
		return -EOPNOTSUPP;
	return own_pr_out(bdev, action, 0, old_key, new_key, PR_OUT_APTPL);
}

static int own_reserve(struct block_device *bdev, u64 key, enum pr_type type,
		       u32 flags)
{
	if (flags)
		return -EOPNOTSUPP;
	return own_pr_out(bdev, PR_OUT_RESERVE, type, key, 0, 0);
}

static int own_release(struct block_device *bdev, u64 key, enum pr_type type)
{
	return own_pr_out(bdev, PR_OUT_RELEASE, type, key, 0, 0);
}

static int own_preempt(struct block_device *bdev, u64 old_key, u64 new_key,
		       enum pr_type type, bool abort)
{
	return own_pr_out(bdev,
			  abort ? PR_OUT_PREEMPT_AND_ABORT : PR_OUT_PREEMPT,
			  type, old_key, new_key, 0);
}

static int own_clear(struct block_device *bdev, u64 key)
{
	return own_pr_out(bdev, PR_OUT_CLEAR, 0, key, 0, 0);
}

static int own_read_keys(struct block_device *bdev, struct pr_keys *info)
{
	const u16 len = PR_IN_HEADER_LEN + PRS_ENTRIES_MAX * sizeof(__be64);
	u32 i, nr;
	int ret;
	u8 *buf;

	buf = kvzalloc(len, GFP_KERNEL);
	if (!buf)
		return -ENOMEM;
	ret = own_pr_in(bdev, PR_IN_READ_KEYS, buf, len);
	if (!ret) {
		nr = get_unaligned_be32(buf + 4) / sizeof(__be64);
		for (i = 0; i < min(nr, info->num_keys); i++)
			info->keys[i] = get_unaligned_be64(buf + PR_IN_HEADER_LEN +
							   i * sizeof(__be64));
		info->generation = get_unaligned_be32(buf);
		info->num_keys = nr;
	}
	kvfree(buf);
	return ret;
}

static int own_read_reservation(struct block_device *bdev,
				struct pr_held_reservation *held)
{
	u8 buf[PR_IN_HEADER_LEN + PR_IN_RESERVATION_LEN] = {};
	int ret;

	ret = own_pr_in(bdev, PR_IN_READ_RESERVATION, buf, sizeof(buf));
	if (ret)
		return ret;
	held->generation = get_unaligned_be32(buf);
	/* All zeroes if there is none */
	held->key = get_unaligned_be64(buf + 8);
	for (held->type = ARRAY_SIZE(own_types) - 1; held->type; held->type--) {
		if (own_types[held->type] == (buf[21] & 0x0f))
			break;
	}
	return 0;
}

/*
 * Persistent reservations of a device that is registered.
 *
 * Each of them sleeps until every node has done its part, and returns an
 * enum pr_status; -EOPNOTSUPP if the device is not leased: others would not be
 * told; or what blk_cluster_reserve() returned.
 */
const struct pr_ops blk_cluster_pr_ops = {
	.pr_register = own_register,
	.pr_reserve = own_reserve,
	.pr_release = own_release,
	.pr_preempt = own_preempt,
	.pr_clear = own_clear,
	.pr_read_keys = own_read_keys,
	.pr_read_reservation = own_read_reservation,
};
EXPORT_SYMBOL_GPL(blk_cluster_pr_ops);
