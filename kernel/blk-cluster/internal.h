/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the files of blk_cluster.ko share.
 *
 * Locks, outermost first:
 *   telling (a device's)	whoever tells nexuses of its reservations; a bit,
 *				taken with none of the others held
 *   consumers_sem (a device's)	its consumers; held for reading while one is called
 *   relay_mutex (relay.c)	relay, events, tasks
 *   register_mutex (registry.c) one registration at a time
 *   pr_lock (a device's)	changes of its reservations; held across the
 *				provider's I/O
 *   xa_lock of devices (registry.c)	the set of devices, the epoch demanded
 *   jobs_lock (a device's)	what its work item has to do
 *   a device's slot locks	commands in flight; spinlocks, taken with IRQs off
 *   lease_lock (lease.c)	the lease; spinlock, taken with IRQs off
 *   pr_spin (a device's)	its state of reservations; likewise
 *   rights_lock (a state's)	rights of nexuses; likewise
 *
 * Nothing waits for a device, be it for I/O or for commands in flight, with
 * relay_mutex, register_mutex or xa_lock held: the lease's renewal needs them.
 * Nothing waits for another node with any of them held. What waits for a device
 * because the relay has asked runs in that device's own work item.
 */
#ifndef _BLK_CLUSTER_INTERNAL_H
#define _BLK_CLUSTER_INTERNAL_H

#include <linux/blk-cluster.h>
#include <linux/completion.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/percpu-refcount.h>
#include <linux/pr_state.h>
#include <linux/rwsem.h>
#include <linux/spinlock.h>
#include <linux/srcu.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "compat-kzalloc-obj.h"

/**
 * struct blk_cluster_slot - one CPU's commands of a device
 * @lock: guards the others
 * @cmds: commands that were admitted here and are not settled
 * @drain: number of the last drain that has looked here
 * @admitted: how many there ever were
 * @latency: how many with a class were settled, by the time that took; see the
 *	netlink spec
 * @took: the sum of those times in ns
 */
struct blk_cluster_slot {
	spinlock_t lock;	/* guards the others */
	struct list_head cmds;
	u32 drain;
	u64 admitted;
	u64 latency[BLK_CLUSTER_LATENCY_BUCKETS];
	u64 took;
};

/**
 * struct blk_cluster_job - something that a device's work item has to do
 * @node: in the device's list
 * @fn: does it; may sleep for as long as commands in flight take, and may free
 *	the job
 */
struct blk_cluster_job {
	struct list_head node;
	void (*fn)(struct blk_cluster_dev *bcd, struct blk_cluster_job *job);
};

/**
 * struct blk_cluster_consumer - a consumer's handle on a disk, or a partition
 * @node: in the device's list, or empty
 * @bcd: the device
 * @bdev: what it has opened
 * @ops: what it can do
 * @private: its own
 */
struct blk_cluster_consumer {
	struct list_head node;
	struct blk_cluster_dev *bcd;
	struct block_device *bdev;
	const struct blk_cluster_consumer_ops *ops;
	void *private;
};

/**
 * struct blk_cluster_dev - a registered disk
 * @slots: commands in flight
 * @in_force: the reservations that commands are checked against: @pr; or
 *	ERR_PTR(-EAGAIN) if they are not known, or ERR_PTR(-EUCLEAN) if they are
 *	unreadable. Changed under @pr_spin
 * @id: in the registry; ascending, never used again
 * @disk: compared, never dereferenced
 * @name: the disk's name
 * @major: its major number
 * @minor: its first minor number
 * @unit: names the device on every node
 * @flags: BLK_CLUSTER_LEASED
 * @ops: what the provider can do; only to be used under @in_flight
 * @private: the provider's; likewise
 * @kref: the provider's, each consumer's, @work's while it is queued, and that
 *	of each who has found the device
 * @in_flight: one for each request to the provider; killed and waited for when
 *	it unregisters
 * @idle: @in_flight is dead and zero
 * @consumers_sem: guards @consumers; held for reading while one is called
 * @consumers: those enabled
 * @nr_consumers: how many they are
 * @drain: number of the last drain
 * @wait: who waits for commands to be settled, for @telling, for @in_force
 * @work: does what waits for this device, one thing after the other
 * @jobs_lock: guards the next two
 * @jobs: for @work; struct blk_cluster_job
 * @read_due: for @work: the reservations have to be read
 * @read_failed: @work's own: they could not be
 * @pr_lock: one change of reservations at a time
 * @pr_spin: guards the next three, and the first one's @told
 * @pr: the newest reservations this node has seen, or NULL. Changed under
 *	@pr_lock, too
 * @installs: how many there were
 * @wanted: a read that was begun when it was another number does not put
 *	anything into force
 * @read_error: what the last read came to, under @pr_lock
 * @telling: somebody tells nexuses of reservations. It guards the next two
 * @told: up to which of @installs they have been told
 * @told_version: the version of that state
 * @everywhere: up to which of @installs every node is known to have them in
 *	force
 * @own: the node as a consumer, which is not among @consumers
 * @own_nexus: what reservations call it; never changes
 * @own_requests: its requests in flight, each a reader
 * @refused: commands refused because the lease has lapsed
 * @held: commands answered BUSY
 * @compared: COMPARE AND WRITE commands
 * @miscompared: of those, the ones that did not compare equal
 * @resets: events done, of this node and of others
 * @pr_in: PERSISTENT RESERVE IN commands
 * @pr_out: PERSISTENT RESERVE OUT, RESERVE and RELEASE commands
 */
struct blk_cluster_dev {
	struct blk_cluster_slot __percpu *slots;
	struct blk_cluster_pr __rcu *in_force;

	unsigned long id;
	struct gendisk *disk;
	char name[BLK_CLUSTER_NAME_MAX];
	u32 major;
	u32 minor;
	char unit[BLK_CLUSTER_NAME_MAX];
	unsigned int flags;
	const struct blk_cluster_ops *ops;
	void *private;

	struct kref kref;
	struct percpu_ref in_flight;
	struct completion idle;

	struct rw_semaphore consumers_sem;
	struct list_head consumers;
	unsigned int nr_consumers;

	atomic_t drain;
	wait_queue_head_t wait;

	struct delayed_work work;
	spinlock_t jobs_lock;		/* guards @jobs, @read_due */
	struct list_head jobs;
	bool read_due;
	bool read_failed;

	struct mutex pr_lock;		/* one change at a time */
	spinlock_t pr_spin;		/* guards @pr, @installs, @wanted */
	struct blk_cluster_pr __rcu *pr;
	u64 installs;
	u64 wanted;
	int read_error;

	unsigned long telling;
	u64 told;
	u64 told_version;
	atomic64_t everywhere;

	struct blk_cluster_consumer own;
	struct prs_nexus own_nexus;
	struct srcu_struct own_requests;

	atomic64_t refused;
	atomic64_t held;
	atomic64_t compared;
	atomic64_t miscompared;
	atomic64_t resets;
	atomic64_t pr_in;
	atomic64_t pr_out;
};

/**
 * struct blk_cluster_lease_info - the lease at one moment
 * @epoch: number of the lease
 * @instance: the member instance that armed it
 * @until: boottime in ns at which it lapses
 * @hold: boottime in ns from which commands are answered BUSY
 * @lapsed: it is over
 */
struct blk_cluster_lease_info {
	u64 epoch;
	u64 instance;
	u64 until;
	u64 hold;
	bool lapsed;
};

/**
 * enum blk_cluster_rule - what can be left undone, see break.c
 * @BLK_CLUSTER_RULE_NONE: nothing
 * @BLK_CLUSTER_RULE_DRAIN: who has to wait for commands in flight does
 * @BLK_CLUSTER_RULE_GO_ON: what has been aborted or orphaned is not admitted
 * @BLK_CLUSTER_RULE_RIGHTS: nor what its nexus has no right to
 * @BLK_CLUSTER_RULE_ORPHANS: the relay is told of commands without initiator
 * @BLK_CLUSTER_RULE_SETTLE: the relay is told to have settled once all is
 * @BLK_CLUSTER_RULE_SWAP: a change of reservations is admitted
 * @BLK_CLUSTER_RULE_TELL: nexuses of this node are told of reservations, and
 *	commands that these end are over, before anybody is answered
 * @BLK_CLUSTER_RULE_APPLY: another node that has changed reservations is
 *	answered once they are in force here
 * @BLK_CLUSTER_RULE_EVERYWHERE: resets and reservations are the other nodes', too
 */
enum blk_cluster_rule {
	BLK_CLUSTER_RULE_NONE,
	BLK_CLUSTER_RULE_DRAIN,
	BLK_CLUSTER_RULE_GO_ON,
	BLK_CLUSTER_RULE_RIGHTS,
	BLK_CLUSTER_RULE_ORPHANS,
	BLK_CLUSTER_RULE_SETTLE,
	BLK_CLUSTER_RULE_SWAP,
	BLK_CLUSTER_RULE_TELL,
	BLK_CLUSTER_RULE_APPLY,
	BLK_CLUSTER_RULE_EVERYWHERE,
};

/* break.c: the one that is left undone; only there with CONFIG_BLK_CLUSTER_BREAK */
extern unsigned int blk_cluster_broken;

static inline bool blk_cluster_breaks(enum blk_cluster_rule rule)
{
	return IS_ENABLED(CONFIG_BLK_CLUSTER_BREAK) &&
	       READ_ONCE(blk_cluster_broken) == rule;
}

/* registry.c */
struct blk_cluster_dev *blk_cluster_find_disk(struct gendisk *disk);
struct blk_cluster_dev *blk_cluster_find_unit(const char *unit);
void blk_cluster_dev_put(struct blk_cluster_dev *bcd);
void blk_cluster_do_job(struct blk_cluster_dev *bcd,
			struct blk_cluster_job *job);
void blk_cluster_read_later(struct blk_cluster_dev *bcd);
unsigned int blk_cluster_in_flight(struct blk_cluster_dev *bcd);
unsigned int blk_cluster_all_in_flight(void);
unsigned int blk_cluster_all_orphans(void);
int blk_cluster_apply(struct blk_cluster_dev *bcd, enum blk_cluster_kind kind,
		      const void *data, size_t len);
int blk_cluster_raise_barrier(u32 epoch);
u32 blk_cluster_get_barrier(void);
void blk_cluster_read_all(bool forget);
int blk_cluster_visit_devs(unsigned long from, void *arg,
			   int (*fn)(struct blk_cluster_dev *bcd, void *arg));

/* lease.c */
int blk_cluster_lease_check(u64 now);
int blk_cluster_lease_arm(u64 epoch, u64 instance, u64 until, u64 hold);
int blk_cluster_lease_renew(u64 epoch, u64 until, u64 hold);
void blk_cluster_lease_end(bool lapse);
void blk_cluster_lease_get(struct blk_cluster_lease_info *info);
void blk_cluster_lease_exit(void);

/* own.c */
int blk_cluster_own_init(struct blk_cluster_dev *bcd);
void blk_cluster_own_exit(struct blk_cluster_dev *bcd);
void blk_cluster_own_reserved(struct blk_cluster_dev *bcd,
			      const struct prs_state *state, u64 since);

/* reservation.c */
void blk_cluster_reservations_init(struct blk_cluster_dev *bcd);
int blk_cluster_reservations_read(struct blk_cluster_dev *bcd);
bool blk_cluster_reservations_wait(struct blk_cluster_dev *bcd);
void blk_cluster_reservations_forget(struct blk_cluster_dev *bcd);
void blk_cluster_reservations_free(struct blk_cluster_dev *bcd);

/* relay.c */
int blk_cluster_relay_init(void);
void blk_cluster_relay_close(void);
void blk_cluster_relay_exit(void);
void blk_cluster_relay_lapsed(void);

#endif /* _BLK_CLUSTER_INTERNAL_H */
