// SPDX-License-Identifier: GPL-2.0
/*
 * The relay: a daemon in user space that renews the node's lease, passes this
 * node's events on to the other nodes, and has theirs done here. There is one
 * at a time. What one leaves unanswered the next one is handed.
 *
 * kernel/spec/blk-cluster.yaml describes the messages.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/netlink.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>
#include <linux/unaligned.h>
#include <linux/workqueue.h>
#include <net/genetlink.h>

#include "internal.h"
#include "nl.h"
#include "trace.h"

/*
 * What the kernels of two nodes tell each other, opaque to relays: a byte of
 * version, one of kind, one of length of the unit's name, one of zero, the
 * name, and more about the event.
 */
#define PAYLOAD_VERSION		1
#define PAYLOAD_HEADER		4

/* Time after which what a relay's full socket did not take is tried again. */
#define RESEND_DELAY		msecs_to_jiffies(50)
/* Time between two looks at what has to be settled. */
#define SETTLE_DELAY		msecs_to_jiffies(10)

/**
 * struct relay_event - an event of this node's that waits for the others
 * @node: in events
 * @id: ascending
 * @kind: what it asks for
 * @bcd: the device; whoever waits has a reference
 * @payload: for the other nodes
 * @len: of @payload
 * @sent: when it was raised, boottime in ns
 * @delivered: the relay's socket has taken it
 * @ret: 0 or a negative errno
 * @done: completed when @ret is valid
 */
struct relay_event {
	struct list_head node;
	u64 id;
	enum blk_cluster_kind kind;
	struct blk_cluster_dev *bcd;
	u8 *payload;
	size_t len;
	u64 sent;
	bool delivered;
	int ret;
	struct completion done;
};

/**
 * struct relay_task - an event of another node's that is being done here
 * @node: in answers, once it is done
 * @job: does it, in the device's work item
 * @portid: the relay that has asked
 * @id: its number for the task
 * @kind: what to do
 * @error: positive errno, or 0
 * @len: of @data
 * @data: more about it
 */
struct relay_task {
	struct list_head node;
	struct blk_cluster_job job;
	u32 portid;
	u64 id;
	enum blk_cluster_kind kind;
	u32 error;
	size_t len;
	u8 data[] __counted_by(len);
};

static void relay_resend_fn(struct work_struct *work);
static void relay_settle_fn(struct work_struct *work);

static DEFINE_MUTEX(relay_mutex);
static unsigned int relay_noio;		/* under relay_mutex: who has it, before */
static u32 relay_portid;		/* 0: none is attached */
static LIST_HEAD(events);		/* not ended, in order of id */
static LIST_HEAD(answers);		/* tasks done that the relay wasn't told */
static u64 last_event;
static bool settling;
static u64 settling_id;
static struct workqueue_struct *relay_wq;
static DECLARE_DELAYED_WORK(resend_work, relay_resend_fn);
static DECLARE_DELAYED_WORK(settle_work, relay_settle_fn);

/*
 * What is done under the lock must not wait for a disk, which may be one that
 * waits for the lease or for an event: no allocation starts I/O.
 */
static void relay_lock(void)
{
	mutex_lock(&relay_mutex);
	relay_noio = memalloc_noio_save();
}

static void relay_unlock(void)
{
	unsigned int flags = relay_noio;

	mutex_unlock(&relay_mutex);
	memalloc_noio_restore(flags);
}

/* Begin a message that nobody asked for. */
static struct sk_buff *relay_begin(u8 cmd, size_t payload, void **hdr)
{
	struct sk_buff *skb = genlmsg_new(payload, GFP_NOIO);

	if (!skb)
		return NULL;
	*hdr = genlmsg_put(skb, 0, 0, &blk_cluster_nl_family, 0, cmd);
	if (!*hdr) {
		nlmsg_free(skb);
		return NULL;
	}
	return skb;
}

/*
 * Return: whether the relay's socket has taken it. If not, resend_work tries
 * again; a relay that reads nothing renews nothing either.
 */
static bool relay_send(struct sk_buff *skb, void *hdr)
{
	genlmsg_end(skb, hdr);
	return !genlmsg_unicast(&init_net, skb, relay_portid);
}

static void relay_monitor(struct sk_buff *skb, void *hdr)
{
	genlmsg_end(skb, hdr);
	/* Nobody may be listening, and that is fine. */
	genlmsg_multicast_netns(&blk_cluster_nl_family, &init_net, skb, 0,
				BLK_CLUSTER_NLGRP_MONITOR, GFP_NOIO);
}

static int relay_put_event(struct sk_buff *skb, const struct relay_event *event)
{
	return nla_put_u64_64bit(skb, BLK_CLUSTER_A_EVENT_ID, event->id,
				 BLK_CLUSTER_A_EVENT_PAD) ?:
	       nla_put_u32(skb, BLK_CLUSTER_A_EVENT_KIND, event->kind) ?:
	       nla_put_string(skb, BLK_CLUSTER_A_EVENT_UNIT, event->bcd->unit) ?:
	       nla_put_u64_64bit(skb, BLK_CLUSTER_A_EVENT_SENT, event->sent,
				 BLK_CLUSTER_A_EVENT_PAD);
}

static bool relay_deliver(struct relay_event *event)
{
	struct sk_buff *skb;
	void *hdr;

	skb = relay_begin(BLK_CLUSTER_CMD_EVENT, NLMSG_GOODSIZE, &hdr);
	if (!skb)
		return false;
	if (relay_put_event(skb, event) ||
	    nla_put(skb, BLK_CLUSTER_A_EVENT_PAYLOAD, event->len,
		    event->payload)) {
		nlmsg_free(skb);
		return false;
	}
	return relay_send(skb, hdr);
}

static bool relay_send_id(u8 cmd, u64 id, const u32 *error)
{
	struct sk_buff *skb;
	void *hdr;

	skb = relay_begin(cmd, NLMSG_DEFAULT_SIZE, &hdr);
	if (!skb)
		return false;
	if (nla_put_u64_64bit(skb, BLK_CLUSTER_A_TASK_ID, id,
			      BLK_CLUSTER_A_TASK_PAD) ||
	    (error && nla_put_u32(skb, BLK_CLUSTER_A_TASK_ERROR, *error))) {
		nlmsg_free(skb);
		return false;
	}
	return relay_send(skb, hdr);
}

/* Give the relay what it does not have yet. */
static void relay_flush(void)
{
	struct relay_event *event;
	struct relay_task *task, *next;
	bool full = false;

	lockdep_assert_held(&relay_mutex);

	list_for_each_entry_safe(task, next, &answers, node) {
		/* A relay that has gone takes its questions with it. */
		if (task->portid == relay_portid &&
		    !relay_send_id(BLK_CLUSTER_CMD_APPLIED, task->id,
				   &task->error)) {
			full = true;
			break;
		}
		list_del(&task->node);
		kfree(task);
	}

	if (!relay_portid)
		return;

	list_for_each_entry(event, &events, node) {
		if (full)
			break;
		if (event->delivered)
			continue;
		event->delivered = relay_deliver(event);
		full = !event->delivered;
	}

	if (full)
		queue_delayed_work(relay_wq, &resend_work, RESEND_DELAY);
}

static void relay_resend_fn(struct work_struct *work)
{
	relay_lock();
	relay_flush();
	relay_unlock();
}

static void relay_settle_fn(struct work_struct *work)
{
	relay_lock();
	if (!settling || !relay_portid) {
		/* A later relay asks anew. */
		settling = false;
	} else if ((blk_cluster_all_in_flight() &&
		    !blk_cluster_breaks(BLK_CLUSTER_RULE_SETTLE)) ||
		   !relay_send_id(BLK_CLUSTER_CMD_SETTLED, settling_id, NULL)) {
		queue_delayed_work(relay_wq, &settle_work, SETTLE_DELAY);
	} else {
		settling = false;
	}
	relay_unlock();
}

/* @info: the relay's message, whose BLK_CLUSTER_A_EVENT_LATE are passed on. */
static void relay_end_event(struct relay_event *event, u32 outcome, int ret,
			    struct genl_info *info)
{
	struct sk_buff *skb;
	struct nlattr *nla;
	void *hdr;
	int rem;

	lockdep_assert_held(&relay_mutex);

	skb = relay_begin(BLK_CLUSTER_CMD_EVENT_ENDED, NLMSG_GOODSIZE, &hdr);
	if (skb) {
		int err = relay_put_event(skb, event) ?:
			  nla_put_u32(skb, BLK_CLUSTER_A_EVENT_OUTCOME, outcome);

		if (info)
			nlmsg_for_each_attr(nla, info->nlhdr, GENL_HDRLEN, rem) {
				if (nla_type(nla) == BLK_CLUSTER_A_EVENT_LATE)
					err = err ?: nla_put(skb, BLK_CLUSTER_A_EVENT_LATE,
							     nla_len(nla), nla_data(nla));
			}
		if (err)
			nlmsg_free(skb);
		else
			relay_monitor(skb, hdr);
	}

	trace_blk_cluster_event_ended(event->id, outcome,
				      ktime_get_boottime_ns() - event->sent);
	list_del(&event->node);
	event->ret = ret;
	complete(&event->done);
}

/**
 * blk_cluster_event - have every other node do something, and wait for it
 * @consumer: the consumer's handle
 * @kind: what to do
 * @data: more about it, for the consumers on the other nodes
 * @len: of @data
 *
 * This node's own part has to be done before. Each node that is a member has
 * done its part when this returns 0, or has left, or has been fenced and its
 * writes cannot land any more.
 *
 * Context: process context. Sleeps until then, or until this node's lease has
 * lapsed. No lock may be held that the consumers' apply takes.
 * Return: 0, at once if the device needs no lease; -EREMOTEIO if some node could
 * not do it; -ETIMEDOUT; -ESTALE if this node is or gets out of the cluster;
 * -EMSGSIZE if @len is too large; -ENOMEM.
 */
int blk_cluster_event(struct blk_cluster_consumer *consumer,
		      enum blk_cluster_kind kind, const void *data, size_t len)
{
	struct blk_cluster_dev *bcd = consumer->bcd;
	struct blk_cluster_lease_info lease;
	struct relay_event event = { .kind = kind, .bcd = bcd };
	size_t unit_len = strlen(bcd->unit);
	struct sk_buff *skb;
	void *hdr;

	might_sleep();

	if (!blk_cluster_is_leased(consumer) ||
	    blk_cluster_breaks(BLK_CLUSTER_RULE_EVERYWHERE))
		return 0;

	event.len = PAYLOAD_HEADER + unit_len + len;
	if (event.len > BLK_CLUSTER_PAYLOAD_MAX)
		return -EMSGSIZE;
	event.payload = kzalloc(event.len, GFP_NOIO);
	if (!event.payload)
		return -ENOMEM;
	event.payload[0] = PAYLOAD_VERSION;
	event.payload[1] = kind;
	event.payload[2] = unit_len;
	memcpy(event.payload + PAYLOAD_HEADER, bcd->unit, unit_len);
	memcpy(event.payload + PAYLOAD_HEADER + unit_len, data, len);
	init_completion(&event.done);
	event.sent = ktime_get_boottime_ns();

	relay_lock();
	/* Under the lock: a lapse ends the events that it finds. */
	blk_cluster_lease_get(&lease);
	if (lease.lapsed) {
		relay_unlock();
		kfree(event.payload);
		return -ESTALE;
	}
	event.id = ++last_event;
	list_add_tail(&event.node, &events);
	trace_blk_cluster_event_raised(event.id, bcd, kind);
	skb = relay_begin(BLK_CLUSTER_CMD_EVENT_RAISED, NLMSG_DEFAULT_SIZE,
			  &hdr);
	if (skb) {
		if (relay_put_event(skb, &event))
			nlmsg_free(skb);
		else
			relay_monitor(skb, hdr);
	}
	relay_flush();
	relay_unlock();

	wait_for_completion_state(&event.done, TASK_IDLE);

	/* Whoever completed it still holds the lock. */
	relay_lock();
	relay_unlock();

	if (kind != BLK_CLUSTER_KIND_RESERVATION)
		atomic64_inc(&bcd->resets);
	kfree(event.payload);
	return event.ret;
}
EXPORT_SYMBOL_GPL(blk_cluster_event);

/**
 * blk_cluster_relay_lapsed - the lease has lapsed
 *
 * What waits for other nodes ends now: this node does not belong to them any
 * more, and nothing may be reported as done everywhere.
 *
 * Context: process context, may sleep.
 */
void blk_cluster_relay_lapsed(void)
{
	struct blk_cluster_lease_info lease;
	struct relay_event *event, *next;
	struct sk_buff *skb;
	void *hdr;

	blk_cluster_lease_get(&lease);

	relay_lock();
	list_for_each_entry_safe(event, next, &events, node)
		relay_end_event(event, BLK_CLUSTER_OUTCOME_FENCED, -ESTALE,
				NULL);

	skb = relay_begin(BLK_CLUSTER_CMD_LEASE_LAPSED, NLMSG_DEFAULT_SIZE,
			  &hdr);
	if (skb) {
		if (nla_put_u64_64bit(skb, BLK_CLUSTER_A_LEASE_EPOCH,
				      lease.epoch, BLK_CLUSTER_A_LEASE_PAD))
			nlmsg_free(skb);
		else
			relay_monitor(skb, hdr);
	}
	relay_unlock();
}

static int relay_reply_lease(struct genl_info *info)
{
	struct blk_cluster_lease_info lease;
	struct sk_buff *skb;
	void *hdr;

	skb = genlmsg_new(NLMSG_DEFAULT_SIZE, GFP_NOIO);
	if (!skb)
		return -ENOMEM;
	hdr = genlmsg_put_reply(skb, info, &blk_cluster_nl_family, 0,
				info->genlhdr->cmd);
	if (!hdr)
		goto err_free;

	blk_cluster_lease_get(&lease);
	if (nla_put_u64_64bit(skb, BLK_CLUSTER_A_LEASE_EPOCH, lease.epoch,
			      BLK_CLUSTER_A_LEASE_PAD) ||
	    nla_put_u64_64bit(skb, BLK_CLUSTER_A_LEASE_INSTANCE, lease.instance,
			      BLK_CLUSTER_A_LEASE_PAD) ||
	    nla_put_u64_64bit(skb, BLK_CLUSTER_A_LEASE_UNTIL, lease.until,
			      BLK_CLUSTER_A_LEASE_PAD) ||
	    nla_put_u64_64bit(skb, BLK_CLUSTER_A_LEASE_HOLD, lease.hold,
			      BLK_CLUSTER_A_LEASE_PAD) ||
	    (lease.lapsed && nla_put_flag(skb, BLK_CLUSTER_A_LEASE_LAPSED)) ||
	    nla_put_u32(skb, BLK_CLUSTER_A_LEASE_IN_FLIGHT,
			blk_cluster_all_in_flight()) ||
	    nla_put_u32(skb, BLK_CLUSTER_A_LEASE_ORPHANS,
			blk_cluster_all_orphans()) ||
	    nla_put_u32(skb, BLK_CLUSTER_A_LEASE_BARRIER,
			blk_cluster_get_barrier()))
		goto err_free;

	genlmsg_end(skb, hdr);
	return genlmsg_reply(skb, info);

err_free:
	nlmsg_free(skb);
	return -EMSGSIZE;
}

/* What only the relay may say. Return: 0 with the lock held, or an errno. */
static int relay_enter(struct genl_info *info)
{
	relay_lock();
	if (relay_portid == info->snd_portid &&
	    net_eq(genl_info_net(info), &init_net))
		return 0;
	relay_unlock();
	NL_SET_ERR_MSG(info->extack,
		       "this socket is not the relay: send relay-attach first");
	return -EPERM;
}

int blk_cluster_nl_relay_attach_doit(struct sk_buff *skb,
				     struct genl_info *info)
{
	struct relay_event *event;
	int ret;

	if (!net_eq(genl_info_net(info), &init_net)) {
		NL_SET_ERR_MSG(info->extack,
			       "the relay has to be in the initial network namespace");
		return -EOPNOTSUPP;
	}

	relay_lock();
	ret = -EBUSY;
	if (relay_portid && relay_portid != info->snd_portid) {
		NL_SET_ERR_MSG(info->extack, "another relay is attached");
		goto out;
	}
	ret = relay_reply_lease(info);
	if (ret)
		goto out;
	relay_portid = info->snd_portid;
	list_for_each_entry(event, &events, node)
		event->delivered = false;
	relay_flush();
out:
	relay_unlock();
	return ret;
}

int blk_cluster_nl_lease_get_doit(struct sk_buff *skb, struct genl_info *info)
{
	return relay_reply_lease(info);
}

int blk_cluster_nl_lease_arm_doit(struct sk_buff *skb, struct genl_info *info)
{
	int ret;

	if (GENL_REQ_ATTR_CHECK(info, BLK_CLUSTER_A_LEASE_EPOCH) ||
	    GENL_REQ_ATTR_CHECK(info, BLK_CLUSTER_A_LEASE_INSTANCE) ||
	    GENL_REQ_ATTR_CHECK(info, BLK_CLUSTER_A_LEASE_UNTIL) ||
	    GENL_REQ_ATTR_CHECK(info, BLK_CLUSTER_A_LEASE_HOLD))
		return -EINVAL;

	ret = relay_enter(info);
	if (ret)
		return ret;
	ret = blk_cluster_lease_arm(nla_get_u64(info->attrs[BLK_CLUSTER_A_LEASE_EPOCH]),
				    nla_get_u64(info->attrs[BLK_CLUSTER_A_LEASE_INSTANCE]),
				    nla_get_u64(info->attrs[BLK_CLUSTER_A_LEASE_UNTIL]),
				    nla_get_u64(info->attrs[BLK_CLUSTER_A_LEASE_HOLD]));
	relay_unlock();
	return ret;
}

int blk_cluster_nl_lease_renew_doit(struct sk_buff *skb, struct genl_info *info)
{
	int ret;

	if (GENL_REQ_ATTR_CHECK(info, BLK_CLUSTER_A_LEASE_EPOCH) ||
	    GENL_REQ_ATTR_CHECK(info, BLK_CLUSTER_A_LEASE_UNTIL) ||
	    GENL_REQ_ATTR_CHECK(info, BLK_CLUSTER_A_LEASE_HOLD))
		return -EINVAL;

	ret = relay_enter(info);
	if (ret)
		return ret;
	/* A lapse that this finds takes the lock itself. */
	relay_unlock();
	ret = blk_cluster_lease_renew(nla_get_u64(info->attrs[BLK_CLUSTER_A_LEASE_EPOCH]),
				      nla_get_u64(info->attrs[BLK_CLUSTER_A_LEASE_UNTIL]),
				      nla_get_u64(info->attrs[BLK_CLUSTER_A_LEASE_HOLD]));
	return ret ?: relay_reply_lease(info);
}

int blk_cluster_nl_settle_doit(struct sk_buff *skb, struct genl_info *info)
{
	u32 why;
	int ret;

	if (GENL_REQ_ATTR_CHECK(info, BLK_CLUSTER_A_TASK_ID) ||
	    GENL_REQ_ATTR_CHECK(info, BLK_CLUSTER_A_TASK_SETTLING))
		return -EINVAL;
	why = nla_get_u32(info->attrs[BLK_CLUSTER_A_TASK_SETTLING]);

	ret = relay_enter(info);
	if (ret)
		return ret;
	settling = true;
	settling_id = nla_get_u64(info->attrs[BLK_CLUSTER_A_TASK_ID]);
	relay_unlock();

	blk_cluster_lease_end(why != BLK_CLUSTER_SETTLING_LEAVING);
	mod_delayed_work(relay_wq, &settle_work, 0);
	return 0;
}

int blk_cluster_nl_barrier_doit(struct sk_buff *skb, struct genl_info *info)
{
	int ret;

	if (GENL_REQ_ATTR_CHECK(info, BLK_CLUSTER_A_BARRIER_EPOCH))
		return -EINVAL;

	ret = relay_enter(info);
	if (ret)
		return ret;
	relay_unlock();
	ret = blk_cluster_raise_barrier(nla_get_u32(info->attrs[BLK_CLUSTER_A_BARRIER_EPOCH]));
	/* The node that was fenced may not have told what it had changed. */
	blk_cluster_read_all(false);
	return ret;
}

int blk_cluster_nl_event_done_doit(struct sk_buff *skb, struct genl_info *info)
{
	static const int errors[] = {
		[BLK_CLUSTER_OUTCOME_DONE] = 0,
		[BLK_CLUSTER_OUTCOME_REFUSED] = -EREMOTEIO,
		[BLK_CLUSTER_OUTCOME_LATE] = -ETIMEDOUT,
		[BLK_CLUSTER_OUTCOME_FENCED] = -ESTALE,
	};
	struct relay_event *event;
	u32 outcome;
	u64 id;
	int ret;

	if (GENL_REQ_ATTR_CHECK(info, BLK_CLUSTER_A_EVENT_ID) ||
	    GENL_REQ_ATTR_CHECK(info, BLK_CLUSTER_A_EVENT_OUTCOME))
		return -EINVAL;
	id = nla_get_u64(info->attrs[BLK_CLUSTER_A_EVENT_ID]);
	outcome = nla_get_u32(info->attrs[BLK_CLUSTER_A_EVENT_OUTCOME]);

	ret = relay_enter(info);
	if (ret)
		return ret;
	ret = -ENOENT;
	list_for_each_entry(event, &events, node) {
		if (event->id == id) {
			relay_end_event(event, outcome, errors[outcome], info);
			ret = 0;
			break;
		}
	}
	relay_unlock();
	return ret;
}

static void relay_answer(struct relay_task *task, int ret)
{
	task->error = -ret;
	trace_blk_cluster_applied(task->id, task->kind, ret);

	relay_lock();
	list_add_tail(&task->node, &answers);
	relay_flush();
	relay_unlock();
}

static void relay_task_fn(struct blk_cluster_dev *bcd,
			  struct blk_cluster_job *job)
{
	struct relay_task *task = container_of(job, struct relay_task, job);

	relay_answer(task, blk_cluster_apply(bcd, task->kind, task->data,
					     task->len));
}

int blk_cluster_nl_apply_doit(struct sk_buff *skb, struct genl_info *info)
{
	char unit[BLK_CLUSTER_NAME_MAX];
	struct blk_cluster_dev *bcd;
	struct relay_task *task;
	const u8 *payload;
	size_t len, rest;
	int ret;

	if (GENL_REQ_ATTR_CHECK(info, BLK_CLUSTER_A_TASK_ID) ||
	    GENL_REQ_ATTR_CHECK(info, BLK_CLUSTER_A_TASK_PAYLOAD))
		return -EINVAL;

	/* From another node, by way of user space: trust nothing. */
	payload = nla_data(info->attrs[BLK_CLUSTER_A_TASK_PAYLOAD]);
	len = nla_len(info->attrs[BLK_CLUSTER_A_TASK_PAYLOAD]);
	if (len < PAYLOAD_HEADER || len > BLK_CLUSTER_PAYLOAD_MAX ||
	    payload[0] != PAYLOAD_VERSION || payload[3] ||
	    payload[1] > BLK_CLUSTER_KIND_RESERVATION ||
	    payload[2] >= sizeof(unit) || PAYLOAD_HEADER + payload[2] > len) {
		NL_SET_ERR_MSG_ATTR(info->extack,
				    info->attrs[BLK_CLUSTER_A_TASK_PAYLOAD],
				    "not an event that this kernel understands");
		return -EBADMSG;
	}
	memcpy(unit, payload + PAYLOAD_HEADER, payload[2]);
	unit[payload[2]] = '\0';
	rest = len - PAYLOAD_HEADER - payload[2];

	task = kzalloc(struct_size(task, data, rest), GFP_NOIO);
	if (!task)
		return -ENOMEM;
	task->len = rest;
	memcpy(task->data, payload + len - rest, rest);
	task->kind = payload[1];
	task->id = nla_get_u64(info->attrs[BLK_CLUSTER_A_TASK_ID]);
	task->portid = info->snd_portid;
	task->job.fn = relay_task_fn;

	ret = relay_enter(info);
	if (ret) {
		kfree(task);
		return ret;
	}
	relay_unlock();

	bcd = blk_cluster_find_unit(unit);
	if (bcd) {
		blk_cluster_do_job(bcd, &task->job);
		blk_cluster_dev_put(bcd);
	} else {
		/* A node without the unit has nothing to do about it. */
		relay_answer(task, 0);
	}
	return 0;
}

/* The devices that a dump has got to. */
struct relay_dump {
	struct sk_buff *skb;
	struct netlink_callback *cb;
};

static int relay_put_latency(struct sk_buff *skb, struct blk_cluster_dev *bcd)
{
	u64 sums[BLK_CLUSTER_LATENCY_BUCKETS] = {};
	u64 took = 0;
	int cpu, i;

	for_each_possible_cpu(cpu) {
		struct blk_cluster_slot *slot = per_cpu_ptr(bcd->slots, cpu);

		/* All of one moment, so that the sum goes with the counts. */
		spin_lock_irq(&slot->lock);
		for (i = 0; i < BLK_CLUSTER_LATENCY_BUCKETS; i++)
			sums[i] += slot->latency[i];
		took += slot->took;
		spin_unlock_irq(&slot->lock);
	}

	for (i = 0; i < BLK_CLUSTER_LATENCY_BUCKETS; i++) {
		if (nla_put_u64_64bit(skb, BLK_CLUSTER_A_DEVICE_LATENCY, sums[i],
				      BLK_CLUSTER_A_DEVICE_PAD))
			return -EMSGSIZE;
	}
	return nla_put_u64_64bit(skb, BLK_CLUSTER_A_DEVICE_TOOK, took,
				 BLK_CLUSTER_A_DEVICE_PAD);
}

static int relay_dump_device(struct blk_cluster_dev *bcd, void *arg)
{
	struct relay_dump *dump = arg;
	struct sk_buff *skb = dump->skb;
	u64 admitted = 0;
	void *hdr;
	int cpu;

	for_each_possible_cpu(cpu)
		admitted += READ_ONCE(per_cpu_ptr(bcd->slots, cpu)->admitted);

	hdr = genlmsg_put(skb, NETLINK_CB(dump->cb->skb).portid,
			  dump->cb->nlh->nlmsg_seq, &blk_cluster_nl_family,
			  NLM_F_MULTI, BLK_CLUSTER_CMD_DEVICE_GET);
	if (!hdr)
		return -EMSGSIZE;

	if (nla_put_string(skb, BLK_CLUSTER_A_DEVICE_DISK, bcd->name) ||
	    nla_put_u32(skb, BLK_CLUSTER_A_DEVICE_MAJOR, bcd->major) ||
	    nla_put_u32(skb, BLK_CLUSTER_A_DEVICE_MINOR, bcd->minor) ||
	    nla_put_string(skb, BLK_CLUSTER_A_DEVICE_UNIT, bcd->unit) ||
	    ((bcd->flags & BLK_CLUSTER_LEASED) &&
	     nla_put_flag(skb, BLK_CLUSTER_A_DEVICE_LEASED)) ||
	    nla_put_u32(skb, BLK_CLUSTER_A_DEVICE_CONSUMERS,
			READ_ONCE(bcd->nr_consumers)) ||
	    nla_put_u32(skb, BLK_CLUSTER_A_DEVICE_IN_FLIGHT,
			blk_cluster_in_flight(bcd)) ||
	    nla_put_u64_64bit(skb, BLK_CLUSTER_A_DEVICE_ADMITTED, admitted,
			      BLK_CLUSTER_A_DEVICE_PAD) ||
	    nla_put_u64_64bit(skb, BLK_CLUSTER_A_DEVICE_REFUSED,
			      atomic64_read(&bcd->refused),
			      BLK_CLUSTER_A_DEVICE_PAD) ||
	    nla_put_u64_64bit(skb, BLK_CLUSTER_A_DEVICE_HELD,
			      atomic64_read(&bcd->held),
			      BLK_CLUSTER_A_DEVICE_PAD) ||
	    nla_put_u64_64bit(skb, BLK_CLUSTER_A_DEVICE_COMPARED,
			      atomic64_read(&bcd->compared),
			      BLK_CLUSTER_A_DEVICE_PAD) ||
	    nla_put_u64_64bit(skb, BLK_CLUSTER_A_DEVICE_MISCOMPARED,
			      atomic64_read(&bcd->miscompared),
			      BLK_CLUSTER_A_DEVICE_PAD) ||
	    nla_put_u64_64bit(skb, BLK_CLUSTER_A_DEVICE_RESETS,
			      atomic64_read(&bcd->resets),
			      BLK_CLUSTER_A_DEVICE_PAD) ||
	    relay_put_latency(skb, bcd) ||
	    nla_put_u64_64bit(skb, BLK_CLUSTER_A_DEVICE_PR_IN,
			      atomic64_read(&bcd->pr_in),
			      BLK_CLUSTER_A_DEVICE_PAD) ||
	    nla_put_u64_64bit(skb, BLK_CLUSTER_A_DEVICE_PR_OUT,
			      atomic64_read(&bcd->pr_out),
			      BLK_CLUSTER_A_DEVICE_PAD)) {
		genlmsg_cancel(skb, hdr);
		return -EMSGSIZE;
	}
	genlmsg_end(skb, hdr);
	dump->cb->args[0] = bcd->id + 1;
	return 0;
}

int blk_cluster_nl_device_get_dumpit(struct sk_buff *skb,
				     struct netlink_callback *cb)
{
	struct relay_dump dump = { .skb = skb, .cb = cb };

	blk_cluster_visit_devs(cb->args[0], &dump, relay_dump_device);
	return skb->len;
}

/* A socket was closed: if it was the relay's, the next one may come. */
static int relay_netlink_event(struct notifier_block *nb, unsigned long event,
			       void *data)
{
	struct netlink_notify *notify = data;

	if (event != NETLINK_URELEASE || notify->protocol != NETLINK_GENERIC ||
	    !net_eq(notify->net, &init_net))
		return NOTIFY_DONE;

	relay_lock();
	if (relay_portid && relay_portid == notify->portid) {
		relay_portid = 0;
		settling = false;
		relay_flush();
	}
	relay_unlock();
	return NOTIFY_DONE;
}

static struct notifier_block relay_notifier = {
	.notifier_call = relay_netlink_event,
};

/**
 * blk_cluster_relay_init - be there for a relay
 *
 * Context: process context, may sleep.
 * Return: 0 or a negative errno.
 */
int blk_cluster_relay_init(void)
{
	int ret;

	/* Nothing here waits for a device. */
	relay_wq = alloc_workqueue("blk_cluster", WQ_UNBOUND | WQ_MEM_RECLAIM,
				   0);
	if (!relay_wq)
		return -ENOMEM;

	ret = netlink_register_notifier(&relay_notifier);
	if (ret)
		goto err_destroy;
	ret = genl_register_family(&blk_cluster_nl_family);
	if (ret)
		goto err_unregister;
	return 0;

err_unregister:
	netlink_unregister_notifier(&relay_notifier);
err_destroy:
	destroy_workqueue(relay_wq);
	return ret;
}

/**
 * blk_cluster_relay_close - the module goes: nobody asks for anything any more
 *
 * Providers and consumers hold the module: no events are waited for. Tasks may
 * still be under way.
 *
 * Context: process context, may sleep.
 */
void blk_cluster_relay_close(void)
{
	genl_unregister_family(&blk_cluster_nl_family);
	netlink_unregister_notifier(&relay_notifier);
	relay_lock();
	relay_portid = 0;
	relay_unlock();
}

/**
 * blk_cluster_relay_exit - the module goes, and all devices have
 *
 * Context: process context, may sleep.
 */
void blk_cluster_relay_exit(void)
{
	cancel_delayed_work_sync(&settle_work);
	/* With no relay this throws away what it would have been told. */
	relay_lock();
	relay_flush();
	relay_unlock();
	cancel_delayed_work_sync(&resend_work);
	destroy_workqueue(relay_wq);
}
