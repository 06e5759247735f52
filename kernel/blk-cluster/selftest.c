// SPDX-License-Identifier: GPL-2.0
/*
 * A test of the registry, the lease and the reservations by themselves, with a
 * provider and a consumer that are made up, so that each step of theirs can be
 * held. Whoever writes to its parameter runs it. It wants a relay that has no
 * lease, and ends each event at once; no device may be registered.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": selftest: " fmt

#include <linux/blkdev.h>
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/moduleparam.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>
#include <linux/unaligned.h>

#include "internal.h"
#include "trace.h"

#define OBJECT_MAX	(300 << 10)
#define LEASE		(50 * NSEC_PER_SEC)
/* For what has to happen: far more than it ever takes. */
#define PATIENCE	(20 * HZ)
#define LOOK_AGAIN	20	/* ms */

#define OUT_REGISTER		0
#define OUT_RESERVE		1
#define OUT_RELEASE		2
#define OUT_PREEMPT_AND_ABORT	5
#define OUT_IGNORE		6	/* REGISTER AND IGNORE EXISTING KEY */

static int failures;

#define CHECK(condition)						\
do {									\
	if (!(condition)) {						\
		failures++;						\
		pr_err("line %d: %s\n", __LINE__, #condition);		\
	}								\
} while (0)

#define EVENTUALLY(condition)						\
do {									\
	unsigned long end = jiffies + PATIENCE;				\
	bool is_so;							\
									\
	for (;;) {							\
		is_so = (condition);					\
		if (is_so || time_after(jiffies, end))			\
			break;						\
		msleep(LOOK_AGAIN);					\
	}								\
	if (!is_so) {							\
		failures++;						\
		pr_err("line %d: never %s\n", __LINE__, #condition);	\
	}								\
} while (0)

/* --- A device --- */

enum outcome {
	DONE,
	FAILED,		/* nothing was done */
	UNKNOWN,	/* it was done all the same */
};

struct st_unit {
	struct gendisk *disk;
	struct block_device *bdev;
	struct blk_cluster_dev *bcd;
	struct blk_cluster_consumer *consumer;
	u8 *object;
	size_t len;
	bool unreadable;
	int read_error;
	enum outcome swap;
	bool hold_reads, hold_swaps, hold_telling;
	int reads, swaps, held, told;
};

static void hold(struct st_unit *unit, bool *held)
{
	WRITE_ONCE(unit->held, unit->held + 1);
	while (READ_ONCE(*held))
		msleep(LOOK_AGAIN);
}

static int unit_read(void *private, void *buf, size_t len)
{
	struct st_unit *unit = private;

	unit->reads++;
	if (READ_ONCE(unit->hold_reads))
		hold(unit, &unit->hold_reads);
	if (READ_ONCE(unit->read_error))
		return unit->read_error;
	len = min(len, unit->len);
	memcpy(buf, unit->object, len);
	if (READ_ONCE(unit->unreadable))
		memset(buf, 0x55, len);
	return len;
}

static int unit_swap(void *private, const void *old, size_t old_len,
		     const void *new, size_t new_len)
{
	struct st_unit *unit = private;

	unit->swaps++;
	if (READ_ONCE(unit->hold_swaps))
		hold(unit, &unit->hold_swaps);
	if (unit->swap == FAILED)
		return -EIO;
	if (READ_ONCE(unit->unreadable) || (!old_len && unit->len))
		return -EAGAIN;
	if (unit->len < old_len || memcmp(unit->object, old, old_len))
		return -EAGAIN;
	memcpy(unit->object, new, new_len);
	unit->len = new_len;
	return unit->swap == UNKNOWN ? -EIO : 0;
}

static u32 demanded;

static int unit_demand(void *private, u32 epoch)
{
	demanded = epoch;
	return 0;
}

static const struct blk_cluster_ops unit_ops = {
	.state_read = unit_read,
	.state_swap = unit_swap,
	.demand_epoch = unit_demand,
};

/* --- Its consumer, with two hosts --- */

struct host {
	char letter;
	bool gone;
};

static struct host a = { 'a' }, b = { 'b' };

static bool host_go_on(struct blk_cluster_cmd *cmd)
{
	const struct host *host = cmd->who;

	return !READ_ONCE(host->gone);
}

static bool host_is_orphan(struct blk_cluster_cmd *cmd)
{
	return !host_go_on(cmd);
}

static int host_identify(const void *who, struct prs_nexus *nexus)
{
	const struct host *host = who;
	u8 tid[PRS_TID_MIN] = { PRS_PROTO_SAS };

	tid[11] = host->letter;
	nexus->port = 1;
	return prs_tid_parse(tid, sizeof(tid), nexus) ? 0 : -EINVAL;
}

static int host_reserved(void *private, const struct prs_state *state,
			 u64 since)
{
	struct st_unit *unit = private;

	unit->told++;
	if (READ_ONCE(unit->hold_telling))
		hold(unit, &unit->hold_telling);
	return 0;
}

static const struct blk_cluster_consumer_ops host_ops = {
	.go_on = host_go_on,
	.is_orphan = host_is_orphan,
	.identify = host_identify,
	.reserved = host_reserved,
};

static struct blk_cluster_dev *unit_add(struct st_unit *unit,
					const char *name, int minor)
{
	memset(unit, 0, sizeof(*unit));
	unit->object = kvzalloc(OBJECT_MAX, GFP_KERNEL);
	unit->disk = kzalloc_obj(*unit->disk, GFP_KERNEL);
	unit->bdev = kzalloc_obj(*unit->bdev, GFP_KERNEL);
	if (!unit->object || !unit->disk || !unit->bdev)
		return unit->bcd = ERR_PTR(-ENOMEM);
	unit->disk->first_minor = minor;
	snprintf(unit->disk->disk_name, sizeof(unit->disk->disk_name),
		 "selftest%d", minor);
	unit->bdev->bd_disk = unit->disk;
	unit->bcd = blk_cluster_register(unit->disk, name, BLK_CLUSTER_LEASED,
					 &unit_ops, unit);
	return unit->bcd;
}

static int unit_attach(struct st_unit *unit)
{
	unit->consumer = blk_cluster_attach(unit->bdev, &host_ops, unit);
	if (IS_ERR_OR_NULL(unit->consumer))
		return -ENODEV;
	blk_cluster_enable(unit->consumer);
	return 0;
}

static void unit_withdraw(struct st_unit *unit)
{
	if (!IS_ERR_OR_NULL(unit->bcd))
		blk_cluster_unregister(unit->bcd);
	unit->bcd = NULL;
}

static void unit_remove(struct st_unit *unit)
{
	if (!IS_ERR_OR_NULL(unit->consumer))
		blk_cluster_detach(unit->consumer);
	unit_withdraw(unit);
	kfree(unit->bdev);
	kfree(unit->disk);
	kvfree(unit->object);
}

/* --- What hosts do --- */

static int reserve_out(struct st_unit *unit, struct host *host, u8 action,
		       u64 key, u64 action_key, u8 type)
{
	struct blk_cluster_cmd cmd = { .who = host };
	u8 params[24] = {}, cdb[10] = { 0x5f, action, type };
	struct prs_result result = {};
	struct prs_nexus nexus;
	struct prs_command prs = {
		.nexus = &nexus,
		.cdb = cdb,
		.cdb_len = sizeof(cdb),
		.params = params,
		.params_len = sizeof(params),
	};
	int ret;

	put_unaligned_be32(sizeof(params), cdb + 5);
	put_unaligned_be64(key, params);
	put_unaligned_be64(action_key, params + 8);
	ret = host_identify(host, &nexus) ?:
	      blk_cluster_reserve(unit->consumer, &cmd, &prs, &result);
	return ret ?: result.status;
}

/* READ KEYS; returns their number, or a negative errno. */
static int reserve_in(struct st_unit *unit)
{
	static const u8 cdb[10] = { 0x5e, [7] = 1 };
	struct prs_result result = {};
	u8 buf[256] = {};
	u32 got = 0;
	int ret;

	ret = blk_cluster_reservations(unit->consumer, cdb, sizeof(cdb), buf,
				       sizeof(buf), &result, &got);
	if (ret || result.status)
		return ret ?: -EPROTO;
	return get_unaligned_be32(buf + 4) / 8;
}

/* Whether a host's write is admitted; it is settled at once. */
static int write_once(struct st_unit *unit, struct host *host)
{
	struct blk_cluster_cmd cmd = { .who = host, .class = PRS_WRITE };
	int ret = blk_cluster_admit(unit->consumer, &cmd);

	if (!ret)
		blk_cluster_settled(unit->consumer, &cmd);
	return ret;
}

static bool is_a(struct blk_cluster_cmd *cmd, void *arg)
{
	return cmd->who == &a;
}

/* --- Threads --- */

struct job {
	struct task_struct *task;
	struct completion done;
	struct st_unit *unit;
	int (*fn)(struct st_unit *unit);
	int ret;
};

static int job_run(void *arg)
{
	struct job *job = arg;

	job->ret = job->fn(job->unit);
	complete(&job->done);
	return 0;
}

static void job_start(struct job *job, int (*fn)(struct st_unit *unit),
		      struct st_unit *unit)
{
	init_completion(&job->done);
	job->unit = unit;
	job->fn = fn;
	job->ret = -ENOMEM;
	job->task = kthread_create(job_run, job, "blk_cluster_st");
	if (IS_ERR(job->task)) {
		job->task = NULL;
		complete(&job->done);
		return;
	}
	get_task_struct(job->task);
	wake_up_process(job->task);
}

/* Whether it waits in one of the module's own waits, all of which are idle. */
static bool job_waits(struct job *job)
{
	return !completion_done(&job->done) && job->task &&
	       READ_ONCE(job->task->__state) == TASK_IDLE;
}

static int job_end(struct job *job)
{
	int ret = -ETIMEDOUT;

	if (wait_for_completion_timeout(&job->done, PATIENCE))
		ret = job->ret;
	if (job->task)
		put_task_struct(job->task);
	return ret;
}

static int drain_a(struct st_unit *unit)
{
	return blk_cluster_drain(unit->consumer, is_a, NULL);
}

static int drain_all(struct st_unit *unit)
{
	return blk_cluster_drain(unit->consumer, NULL, NULL);
}

static int register_a(struct st_unit *unit)
{
	return reserve_out(unit, &a, OUT_IGNORE, 0, 0xa, 0);
}

static int register_b(struct st_unit *unit)
{
	return reserve_out(unit, &b, OUT_IGNORE, 0, 0xb, 0);
}

/* What is done about an event of another node's that has changed them. */
static int apply(struct st_unit *unit)
{
	return blk_cluster_reservations_read(unit->bcd);
}

static int withdraw(struct st_unit *unit)
{
	unit_withdraw(unit);
	return 0;
}

/* --- The lease --- */

static int arm(void)
{
	u64 until = ktime_get_boottime_ns() + LEASE;
	struct blk_cluster_lease_info lease;

	blk_cluster_lease_get(&lease);
	return blk_cluster_lease_arm(lease.epoch + 1, 1, until, until);
}

static int renew(void)
{
	u64 until = ktime_get_boottime_ns() + LEASE;
	struct blk_cluster_lease_info lease;

	blk_cluster_lease_get(&lease);
	return blk_cluster_lease_renew(lease.epoch, until, until);
}

static int events;

static void count_event(void *data, u64 id, const struct blk_cluster_dev *bcd,
			u32 kind)
{
	events++;
}

/* --- The test --- */

static struct st_unit one, two, more;

static void test_registration(void)
{
	u32 epoch = blk_cluster_get_barrier() + 1;
	char name[BLK_CLUSTER_NAME_MAX + 1];

	blk_cluster_raise_barrier(epoch);
	CHECK(!IS_ERR(unit_add(&one, "unit1", 1)));
	CHECK(demanded == epoch);
	/* One mapping of a unit */
	CHECK(unit_add(&more, "unit1", 3) == ERR_PTR(-EEXIST));
	unit_remove(&more);
	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	CHECK(unit_add(&more, name, 3) == ERR_PTR(-ENAMETOOLONG));
	unit_remove(&more);
	CHECK(!IS_ERR(unit_add(&two, "unit2", 2)));
	CHECK(!unit_attach(&one));
	CHECK(!unit_attach(&two));
	EVENTUALLY(!write_once(&one, &a));
	EVENTUALLY(!write_once(&two, &a));
}

/* Admitted is in flight, and who waits, waits for that. */
static void test_drains(void)
{
	struct blk_cluster_cmd of_a = { .who = &a, .class = PRS_WRITE };
	struct blk_cluster_cmd of_b = { .who = &b, .class = PRS_WRITE };
	struct blk_cluster_cmd later = { .who = &b, .class = PRS_READ };
	struct job first, second;

	CHECK(!blk_cluster_admit(one.consumer, &of_a));
	CHECK(!blk_cluster_admit(one.consumer, &of_b));
	CHECK(blk_cluster_in_flight(one.bcd) == 2);
	job_start(&first, drain_a, &one);
	job_start(&second, drain_all, &one);
	EVENTUALLY(job_waits(&first) && job_waits(&second));
	CHECK(!blk_cluster_admit(one.consumer, &later));
	blk_cluster_settled(one.consumer, &of_a);
	CHECK(!job_end(&first));
	CHECK(!completion_done(&second.done));
	blk_cluster_settled(one.consumer, &of_b);
	CHECK(!job_end(&second));

	/* The relay sees to what is left when the lease lapses. */
	job_start(&first, drain_all, &one);
	EVENTUALLY(job_waits(&first));
	blk_cluster_lease_end(true);
	CHECK(job_end(&first) == -ESTALE);
	CHECK(write_once(&one, &a) == -ESHUTDOWN);
	CHECK(arm() == -EBUSY);
	blk_cluster_settled(one.consumer, &later);
	CHECK(!arm());
	EVENTUALLY(!write_once(&one, &a));

	/* A node that leaves and comes back need not wait for the lease's end. */
	CHECK(arm() == -EBUSY);
	CHECK(!blk_cluster_admit(one.consumer, &of_a));
	blk_cluster_lease_end(false);
	CHECK(write_once(&one, &a) == -ESHUTDOWN);
	CHECK(arm() == -EBUSY);
	blk_cluster_settled(one.consumer, &of_a);
	CHECK(!arm());
	EVENTUALLY(!write_once(&one, &a) && !write_once(&two, &a));
}

/* Nothing is admitted for a host that is gone, changes of reservations neither. */
static void test_orphans(void)
{
	struct blk_cluster_cmd cmd = { .who = &a, .class = PRS_WRITE };
	int swaps = one.swaps;

	CHECK(!blk_cluster_admit(one.consumer, &cmd));
	CHECK(!blk_cluster_all_orphans());
	WRITE_ONCE(a.gone, true);
	CHECK(blk_cluster_all_orphans() == 1);
	CHECK(write_once(&one, &a) == -ECANCELED);
	CHECK(!write_once(&one, &b));
	CHECK(reserve_out(&one, &a, OUT_REGISTER, 0, 0xa, 0) == -ECANCELED);
	CHECK(one.swaps == swaps);
	blk_cluster_settled(one.consumer, &cmd);
	CHECK(!blk_cluster_all_orphans());
	WRITE_ONCE(a.gone, false);
}

static void test_reservations(void)
{
	int before = events, told;

	/* Nothing was ever changed: that is in force everywhere. */
	CHECK(!reserve_in(&one) && events == before);
	CHECK(!reserve_out(&one, &a, OUT_REGISTER, 0, 0xa, 0));
	CHECK(!reserve_out(&one, &b, OUT_REGISTER, 0, 0xb, 0));
	CHECK(events == before + 2);
	CHECK(reserve_in(&one) == 2 && events == before + 2);
	CHECK(!reserve_out(&one, &a, OUT_RESERVE, 0xa, 0, PRS_EXCLUSIVE_ACCESS));
	CHECK(reserve_out(&one, &b, OUT_RESERVE, 0xb, 0,
			  PRS_EXCLUSIVE_ACCESS) == PRS_CONFLICT);
	CHECK(events == before + 3);
	CHECK(!write_once(&one, &a));
	CHECK(write_once(&one, &b) == -EBADE);
	CHECK(!reserve_out(&one, &b, OUT_PREEMPT_AND_ABORT, 0xb, 0xa,
			   PRS_EXCLUSIVE_ACCESS));
	CHECK(write_once(&one, &a) == -EBADE);
	CHECK(!write_once(&one, &b));
	CHECK(!reserve_out(&one, &b, OUT_RELEASE, 0xb, 0, PRS_EXCLUSIVE_ACCESS));

	/*
	 * Another node has changed something, and this one does not know that it
	 * is in force everywhere. Whoever is told of it is told once it is.
	 */
	memcpy(two.object, one.object, one.len);
	two.len = one.len;
	before = events;
	told = two.told;
	CHECK(reserve_in(&two) == 1);
	CHECK(events == before + 1 && two.told == told + 1);
	CHECK(reserve_in(&two) == 1);
	CHECK(!reserve_out(&two, &b, OUT_RELEASE, 0xb, 0, PRS_EXCLUSIVE_ACCESS));
	CHECK(events == before + 1 && two.told == told + 1);
}

/* What may have changed is told everywhere, and answered for if it is known. */
static void test_unknown_swaps(void)
{
	int before = events;

	one.swap = UNKNOWN;
	CHECK(!reserve_out(&one, &a, OUT_IGNORE, 0, 0xa1, 0));
	CHECK(events == before + 1);
	one.swap = FAILED;
	CHECK(reserve_out(&one, &a, OUT_IGNORE, 0, 0xa2, 0) == -EIO);
	CHECK(events == before + 2);
	one.swap = UNKNOWN;
	WRITE_ONCE(one.read_error, -ETIMEDOUT);
	CHECK(reserve_out(&one, &a, OUT_IGNORE, 0, 0xa3, 0) == -EIO);
	CHECK(events == before + 3);
	one.swap = DONE;
	/* A read that has failed is tried again. */
	before = one.told;
	WRITE_ONCE(one.read_error, 0);
	EVENTUALLY(READ_ONCE(one.told) == before + 1);
	CHECK(reserve_in(&one) == 2);
}

/*
 * Nobody has a right by a state that nobody can read. Whoever finds it so has it
 * looked at until it has been mended.
 */
static void test_unreadable(int (*find)(struct st_unit *unit))
{
	WRITE_ONCE(one.unreadable, true);
	CHECK(find(&one) == -EUCLEAN);
	CHECK(write_once(&one, &b) == -EUCLEAN);
	CHECK(register_a(&one) == -EUCLEAN);
	CHECK(reserve_in(&one) == -EUCLEAN);
	CHECK(write_once(&one, &b) == -EUCLEAN);
	WRITE_ONCE(one.unreadable, false);
	EVENTUALLY(!write_once(&one, &b));
}

/*
 * A device that is stuck stops nobody else, nor the lease; and what a read
 * finds that began before the lease does not count.
 */
static void test_stuck_device(void)
{
	u32 epoch = blk_cluster_get_barrier() + 1;
	int held = one.held, reads;
	struct job job;

	WRITE_ONCE(one.hold_reads, true);
	blk_cluster_read_later(one.bcd);
	EVENTUALLY(READ_ONCE(one.held) == held + 1);
	reads = one.reads;
	blk_cluster_lease_end(true);
	CHECK(!arm());
	EVENTUALLY(!write_once(&two, &a));
	CHECK(write_once(&one, &a) == -EAGAIN);
	CHECK(!blk_cluster_all_in_flight());
	blk_cluster_raise_barrier(epoch);
	CHECK(demanded == epoch);
	job_start(&job, register_a, &one);
	CHECK(write_once(&one, &a) == -EAGAIN);
	WRITE_ONCE(one.hold_reads, false);
	CHECK(!job_end(&job));
	EVENTUALLY(!write_once(&one, &a));
	CHECK(one.reads > reads);
}

/* An event is answered when whoever tells of its state has done so. */
static void test_telling(void)
{
	int held = one.held;
	struct job teller, first, second;

	WRITE_ONCE(one.hold_telling, true);
	job_start(&teller, register_b, &one);
	EVENTUALLY(READ_ONCE(one.held) == held + 1);
	job_start(&first, apply, &one);
	job_start(&second, apply, &one);
	EVENTUALLY(job_waits(&first) && job_waits(&second));
	WRITE_ONCE(one.hold_telling, false);
	CHECK(!job_end(&teller));
	CHECK(!job_end(&first));
	CHECK(!job_end(&second));
}

/* A change of reservations is in flight, on its nexus's behalf. */
static void test_swap_in_flight(void)
{
	int held = one.held;
	struct job change, drain;

	WRITE_ONCE(one.hold_swaps, true);
	job_start(&change, register_a, &one);
	EVENTUALLY(READ_ONCE(one.held) == held + 1);
	CHECK(blk_cluster_in_flight(one.bcd) == 1);
	job_start(&drain, drain_all, &one);
	EVENTUALLY(job_waits(&drain));
	WRITE_ONCE(a.gone, true);
	CHECK(blk_cluster_all_orphans() == 1);
	WRITE_ONCE(one.hold_swaps, false);
	CHECK(!job_end(&change));
	CHECK(!job_end(&drain));
	WRITE_ONCE(a.gone, false);
	CHECK(!blk_cluster_all_in_flight());
}

/* Withdrawn while a read is stuck, and while one fails again and again. */
static void test_withdrawal(void)
{
	int held = one.held;
	struct job job;

	WRITE_ONCE(two.read_error, -EIO);
	blk_cluster_read_later(two.bcd);
	WRITE_ONCE(one.hold_reads, true);
	blk_cluster_read_later(one.bcd);
	EVENTUALLY(READ_ONCE(one.held) == held + 1);
	job_start(&job, withdraw, &one);
	EVENTUALLY(percpu_ref_is_dying(&one.consumer->bcd->in_flight));
	CHECK(!completion_done(&job.done));
	WRITE_ONCE(one.hold_reads, false);
	CHECK(!job_end(&job));
	CHECK(reserve_in(&one) == -ENODEV);
	CHECK(register_a(&one) == -ENODEV);
	CHECK(!write_once(&two, &a));
}

static void test_unreadable_states(void)
{
	test_unreadable(reserve_in);
	test_unreadable(register_a);
	test_unreadable(apply);
}

static void (*const tests[])(void) = {
	test_registration,
	test_drains,
	test_orphans,
	test_reservations,
	test_unknown_swaps,
	test_unreadable_states,
	test_stuck_device,
	test_telling,
	test_swap_in_flight,
	test_withdrawal,
};

static int selftest(const char *value, const struct kernel_param *kp)
{
	int ret, i;

	ret = register_trace_blk_cluster_event_raised(count_event, NULL);
	if (ret)
		return ret;
	failures = 0;
	CHECK(!arm());
	/* Each one goes on from where the one before has ended. */
	for (i = 0; i < ARRAY_SIZE(tests) && !failures; i++) {
		CHECK(!renew());
		tests[i]();
	}
	unit_remove(&one);
	unit_remove(&two);
	unregister_trace_blk_cluster_event_raised(count_event, NULL);
	tracepoint_synchronize_unregister();
	blk_cluster_lease_end(true);
	return failures ? -EIO : 0;
}

static const struct kernel_param_ops selftest_ops = { .set = selftest };

module_param_cb(selftest, &selftest_ops, NULL, 0200);
MODULE_PARM_DESC(selftest, "write to it to run the test");
