/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the files of blk_cluster.ko share.
 *
 * Locks, outermost first:
 *   relay_lock (relay.c)	relay, events, tasks
 *   devices_sem (registry.c)	the set of devices
 *   consumers_sem (a device's)	its consumers
 *   pr_lock (a device's)	its reservations
 *   a device's slot locks	commands in flight; spinlocks, taken with IRQs off
 *   lease_lock (lease.c)	the lease; spinlock, taken with IRQs off
 */
#ifndef _BLK_CLUSTER_INTERNAL_H
#define _BLK_CLUSTER_INTERNAL_H

#include <linux/blk-cluster.h>
#include <linux/completion.h>
#include <linux/hashtable.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/percpu-refcount.h>
#include <linux/pr_state.h>
#include <linux/rwsem.h>
#include <linux/spinlock.h>
#include <linux/srcu.h>

/**
 * struct blk_cluster_slot - one CPU's commands of a device
 * @lock: guards the others
 * @cmds: commands that were admitted here and are not settled
 * @admitted: how many there ever were
 * @latency: how many were settled, by the time that took; see the netlink spec
 * @took: the sum of those times in ns
 */
struct blk_cluster_slot {
	spinlock_t lock;	/* guards the others */
	struct list_head cmds;
	u64 admitted;
	u64 latency[BLK_CLUSTER_LATENCY_BUCKETS];
	u64 took;
};

/**
 * struct blk_cluster_consumer - a consumer's handle on a disk, or a partition
 * @node: in the device's list
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
 * @node: in the registry's table, under devices_sem
 * @disk: compared, never dereferenced
 * @name: the disk's name
 * @major: its major number
 * @minor: its first minor number
 * @unit: names the device on every node
 * @flags: BLK_CLUSTER_LEASED
 * @ops: what the provider can do; only to be used under @in_flight
 * @private: the provider's; likewise
 * @kref: the provider's, each consumer's, each task's
 * @in_flight: one for each request to the provider; killed and waited for when
 *	it unregisters
 * @idle: @in_flight is dead and zero
 * @consumers_sem: guards @consumers; held for reading while one is called
 * @consumers: those attached
 * @slots: commands in flight
 * @pr_lock: one change of reservations at a time
 * @pr: the reservations in force; NULL: not known. Changed under @pr_lock
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
	struct hlist_node node;
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

	struct blk_cluster_slot __percpu *slots;

	struct mutex pr_lock;		/* guards changes of @pr */
	struct blk_cluster_pr __rcu *pr;

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

/* registry.c */
struct blk_cluster_dev *blk_cluster_find_disk(struct gendisk *disk);
struct blk_cluster_dev *blk_cluster_find_unit(const char *unit);
void blk_cluster_dev_put(struct blk_cluster_dev *bcd);
unsigned int blk_cluster_in_flight(struct blk_cluster_dev *bcd);
unsigned int blk_cluster_all_in_flight(void);
unsigned int blk_cluster_all_orphans(void);
int blk_cluster_apply(struct blk_cluster_dev *bcd, enum blk_cluster_kind kind,
		      const void *data, size_t len);
int blk_cluster_raise_barrier(u32 epoch);
u32 blk_cluster_get_barrier(void);
int blk_cluster_visit_devs(void *arg,
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
int blk_cluster_reservations_read(struct blk_cluster_dev *bcd);
void blk_cluster_reservations_free(struct blk_cluster_dev *bcd);

/* relay.c */
int blk_cluster_relay_init(void);
void blk_cluster_relay_exit(void);
void blk_cluster_relay_lapsed(void);

#endif /* _BLK_CLUSTER_INTERNAL_H */
