// SPDX-License-Identifier: GPL-2.0
/*
 * Registry of cluster-aware block devices: brings providers and consumers
 * together, and knows which commands are in flight. include/linux/blk-cluster.h
 * has the rules they live by.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/blkdev.h>
#include <linux/bvec.h>
#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/wait_bit.h>
#include <linux/xarray.h>

#include "internal.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

/* Time after which reservations that could not be read are tried again. */
#define READ_AGAIN		HZ
/* Time between two looks at the lease while commands in flight are waited for. */
#define DRAIN_POLL		(HZ / 10)

static DEFINE_MUTEX(register_mutex);
static DEFINE_XARRAY(devices);	/* by id */
static unsigned long last_id;	/* under register_mutex */
static u32 demanded;		/* highest epoch asked for, under xa_lock */
static atomic_t alive;		/* devices, also those withdrawn but in use */
static struct workqueue_struct *dev_wq;

static void blk_cluster_dev_free(struct kref *kref)
{
	struct blk_cluster_dev *bcd =
		container_of(kref, struct blk_cluster_dev, kref);

	blk_cluster_reservations_free(bcd);
	if (bcd->flags & BLK_CLUSTER_LEASED)
		blk_cluster_own_exit(bcd);
	percpu_ref_exit(&bcd->in_flight);
	free_percpu(bcd->slots);
	kfree(bcd);
	if (atomic_dec_and_test(&alive))
		wake_up_var(&alive);
}

/**
 * blk_cluster_dev_put - drop a reference
 * @bcd: the device
 *
 * Context: process context, may sleep.
 */
void blk_cluster_dev_put(struct blk_cluster_dev *bcd)
{
	kref_put(&bcd->kref, blk_cluster_dev_free);
}

static void blk_cluster_idle(struct percpu_ref *ref)
{
	struct blk_cluster_dev *bcd =
		container_of(ref, struct blk_cluster_dev, in_flight);

	complete(&bcd->idle);
}

/* Have the device's work item run at once. The caller has a reference. */
static void blk_cluster_kick(struct blk_cluster_dev *bcd)
{
	kref_get(&bcd->kref);
	if (mod_delayed_work(dev_wq, &bcd->work, 0))
		blk_cluster_dev_put(bcd);
}

/**
 * blk_cluster_do_job - have a device's work item do something
 * @bcd: the device; the caller has a reference
 * @job: what to do, with its fn set
 *
 * Jobs of a device are done in order, one at a time; those of others do not
 * wait for them.
 *
 * Context: process context.
 */
void blk_cluster_do_job(struct blk_cluster_dev *bcd, struct blk_cluster_job *job)
{
	spin_lock(&bcd->jobs_lock);
	list_add_tail(&job->node, &bcd->jobs);
	spin_unlock(&bcd->jobs_lock);
	blk_cluster_kick(bcd);
}

/**
 * blk_cluster_read_later - have a device's reservations read by its work item
 * @bcd: the device; the caller has a reference
 *
 * What fails is tried again for as long as the device is registered.
 *
 * Context: process context.
 */
void blk_cluster_read_later(struct blk_cluster_dev *bcd)
{
	if (!(bcd->flags & BLK_CLUSTER_LEASED))
		return;
	spin_lock(&bcd->jobs_lock);
	bcd->read_due = true;
	spin_unlock(&bcd->jobs_lock);
	blk_cluster_kick(bcd);
}

/* In the device's work item: the result of a read. */
static int blk_cluster_read_now(struct blk_cluster_dev *bcd)
{
	int ret = blk_cluster_reservations_read(bcd);

	bcd->read_failed = ret;
	return ret;
}

static void blk_cluster_dev_work(struct work_struct *work)
{
	struct blk_cluster_dev *bcd =
		container_of(work, struct blk_cluster_dev, work.work);
	bool read = bcd->read_failed;

	for (;;) {
		struct blk_cluster_job *job = NULL;

		spin_lock(&bcd->jobs_lock);
		read |= bcd->read_due;
		bcd->read_due = false;
		if (!read) {
			job = list_first_entry_or_null(&bcd->jobs,
						       struct blk_cluster_job,
						       node);
			if (job)
				list_del(&job->node);
		}
		spin_unlock(&bcd->jobs_lock);

		if (read)
			blk_cluster_read_now(bcd);
		else if (job)
			job->fn(bcd, job);
		else
			break;
		read = false;
	}

	if (bcd->read_failed && !percpu_ref_is_dying(&bcd->in_flight)) {
		kref_get(&bcd->kref);
		if (!queue_delayed_work(dev_wq, &bcd->work, READ_AGAIN))
			blk_cluster_dev_put(bcd);
	}
	blk_cluster_dev_put(bcd);
}

/* Called with xa_lock held. */
static struct blk_cluster_dev *
blk_cluster_find(bool (*match)(struct blk_cluster_dev *bcd, const void *key),
		 const void *key)
{
	struct blk_cluster_dev *bcd;
	unsigned long id;

	lockdep_assert_held(&devices.xa_lock);

	xa_for_each(&devices, id, bcd) {
		if (match(bcd, key))
			return bcd;
	}
	return NULL;
}

static bool blk_cluster_is_disk(struct blk_cluster_dev *bcd, const void *disk)
{
	return bcd->disk == disk;
}

static bool blk_cluster_is_unit(struct blk_cluster_dev *bcd, const void *unit)
{
	return (bcd->flags & BLK_CLUSTER_LEASED) && !strcmp(bcd->unit, unit);
}

/*
 * What a node does about a unit it does to one device: a second mapping under
 * the lease would have neither resets nor reservations.
 */
static int blk_cluster_insert(struct blk_cluster_dev *bcd)
{
	struct blk_cluster_dev *other;
	int ret;

	mutex_lock(&register_mutex);
	xa_lock(&devices);
	other = blk_cluster_find(blk_cluster_is_disk, bcd->disk);
	if (!other && (bcd->flags & BLK_CLUSTER_LEASED))
		other = blk_cluster_find(blk_cluster_is_unit, bcd->unit);
	xa_unlock(&devices);

	ret = -EEXIST;
	if (!other) {
		bcd->id = ++last_id;
		ret = xa_insert(&devices, bcd->id, bcd, GFP_KERNEL);
	}
	mutex_unlock(&register_mutex);
	return ret;
}

static int blk_cluster_dev_barrier(struct blk_cluster_dev *bcd, void *arg)
{
	int ret = 0;

	/* One that is being withdrawn sends nothing any more. */
	if (!percpu_ref_tryget_live(&bcd->in_flight))
		return 0;
	if (bcd->ops->demand_epoch)
		ret = bcd->ops->demand_epoch(bcd->private, *(u32 *)arg);
	percpu_ref_put(&bcd->in_flight);
	return ret;
}

/**
 * blk_cluster_register - offer a disk to consumers
 * @disk: the disk; not yet added
 * @unit: what every node calls the device; shorter than BLK_CLUSTER_NAME_MAX.
 *	There is one leased device of that name
 * @flags: BLK_CLUSTER_LEASED or 0
 * @ops: what the provider can do; must stay valid until
 *	blk_cluster_unregister() has returned
 * @private: handed to each of @ops
 *
 * The reservations of a leased device are read afterwards, by its work item;
 * until they are known its commands are refused.
 *
 * Context: process context, may sleep.
 * Return: the registration, NULL if the kernel is built without
 * CONFIG_BLK_CLUSTER, or ERR_PTR(-ENOMEM), ERR_PTR(-EEXIST),
 * ERR_PTR(-ENAMETOOLONG), or what the provider's demand_epoch returned.
 */
struct blk_cluster_dev *blk_cluster_register(struct gendisk *disk,
					     const char *unit,
					     unsigned int flags,
					     const struct blk_cluster_ops *ops,
					     void *private)
{
	struct blk_cluster_dev *bcd;
	int cpu, ret;
	u32 epoch;

	bcd = kzalloc_obj(*bcd, GFP_KERNEL);
	if (!bcd)
		return ERR_PTR(-ENOMEM);

	bcd->disk = disk;
	bcd->major = disk->major;
	bcd->minor = disk->first_minor;
	bcd->flags = flags;
	bcd->ops = ops;
	bcd->private = private;
	kref_init(&bcd->kref);
	init_completion(&bcd->idle);
	init_rwsem(&bcd->consumers_sem);
	INIT_LIST_HEAD(&bcd->consumers);
	init_waitqueue_head(&bcd->wait);
	INIT_DELAYED_WORK(&bcd->work, blk_cluster_dev_work);
	spin_lock_init(&bcd->jobs_lock);
	INIT_LIST_HEAD(&bcd->jobs);
	blk_cluster_reservations_init(bcd);

	ret = -ENAMETOOLONG;
	if (strscpy(bcd->name, disk->disk_name, sizeof(bcd->name)) < 0 ||
	    strscpy(bcd->unit, unit, sizeof(bcd->unit)) < 0)
		goto err_free;

	ret = -ENOMEM;
	bcd->slots = alloc_percpu(struct blk_cluster_slot);
	if (!bcd->slots)
		goto err_free;
	for_each_possible_cpu(cpu) {
		struct blk_cluster_slot *slot = per_cpu_ptr(bcd->slots, cpu);

		spin_lock_init(&slot->lock);
		INIT_LIST_HEAD(&slot->cmds);
	}

	ret = percpu_ref_init(&bcd->in_flight, blk_cluster_idle, 0, GFP_KERNEL);
	if (ret)
		goto err_free_slots;
	if (flags & BLK_CLUSTER_LEASED) {
		ret = blk_cluster_own_init(bcd);
		if (ret)
			goto err_exit_ref;
	}

	ret = blk_cluster_insert(bcd);
	if (ret)
		goto err_exit_own;
	atomic_inc(&alive);

	/*
	 * A device that comes later minds earlier barriers, too. Whoever raises
	 * one after this look finds the device.
	 */
	epoch = blk_cluster_get_barrier();
	ret = epoch ? blk_cluster_dev_barrier(bcd, &epoch) : 0;
	if (ret) {
		blk_cluster_unregister(bcd);
		return ERR_PTR(ret);
	}
	blk_cluster_read_later(bcd);
	return bcd;

err_exit_own:
	if (flags & BLK_CLUSTER_LEASED)
		blk_cluster_own_exit(bcd);
err_exit_ref:
	percpu_ref_exit(&bcd->in_flight);
err_free_slots:
	free_percpu(bcd->slots);
err_free:
	kfree(bcd);
	return ERR_PTR(ret);
}
EXPORT_SYMBOL_GPL(blk_cluster_register);

/**
 * blk_cluster_unregister - withdraw a disk
 * @bcd: what blk_cluster_register() returned; NULL is ignored
 *
 * Waits until every request in flight has completed, so the provider must
 * still be able to complete them. Requests submitted later get -ENODEV.
 *
 * Context: process context, may sleep.
 */
void blk_cluster_unregister(struct blk_cluster_dev *bcd)
{
	if (!bcd)
		return;

	xa_erase(&devices, bcd->id);
	percpu_ref_kill(&bcd->in_flight);
	wake_up(&bcd->wait);
	wait_for_completion(&bcd->idle);
	/* A read that is to be tried again is not worth waiting for. */
	blk_cluster_kick(bcd);
	blk_cluster_dev_put(bcd);
}
EXPORT_SYMBOL_GPL(blk_cluster_unregister);

/**
 * blk_cluster_capacity_changed - a disk has another size
 * @bcd: the registration; NULL is ignored
 *
 * Tells each consumer. The size itself is the block device's, as ever.
 *
 * Context: process context, may sleep.
 */
void blk_cluster_capacity_changed(struct blk_cluster_dev *bcd)
{
	struct blk_cluster_consumer *consumer;

	if (!bcd)
		return;

	down_read(&bcd->consumers_sem);
	list_for_each_entry(consumer, &bcd->consumers, node) {
		if (consumer->ops && consumer->ops->capacity_changed)
			consumer->ops->capacity_changed(consumer->private);
	}
	up_read(&bcd->consumers_sem);
}
EXPORT_SYMBOL_GPL(blk_cluster_capacity_changed);

/**
 * blk_cluster_attach - become a consumer of a block device
 * @bdev: a disk or a partition, opened by the caller, who keeps it open until
 *	after blk_cluster_detach()
 * @ops: what the consumer can be asked for; each is optional, as is @ops, but
 *	for what &struct blk_cluster_consumer_ops says of leased devices
 * @private: handed to each of @ops
 *
 * Nothing is asked of the consumer before it has called blk_cluster_enable().
 *
 * Context: process context, may sleep.
 * Return: a handle; NULL if no provider has registered the disk, which is then
 * an ordinary block device; ERR_PTR(-EINVAL) if @ops lacks what consumers of
 * leased devices have to have; or ERR_PTR(-ENOMEM).
 */
struct blk_cluster_consumer *
blk_cluster_attach(struct block_device *bdev,
		   const struct blk_cluster_consumer_ops *ops, void *private)
{
	struct blk_cluster_consumer *consumer;
	struct blk_cluster_dev *bcd;

	consumer = kzalloc_obj(*consumer, GFP_KERNEL);
	if (!consumer)
		return ERR_PTR(-ENOMEM);

	bcd = blk_cluster_find_disk(bdev->bd_disk);
	if (!bcd) {
		kfree(consumer);
		return NULL;
	}
	if ((bcd->flags & BLK_CLUSTER_LEASED) &&
	    !(ops && ops->go_on && ops->is_orphan && ops->identify)) {
		blk_cluster_dev_put(bcd);
		kfree(consumer);
		return ERR_PTR(-EINVAL);
	}

	INIT_LIST_HEAD(&consumer->node);
	consumer->bcd = bcd;
	consumer->bdev = bdev;
	consumer->ops = ops;
	consumer->private = private;

	blk_cluster_read_later(bcd);
	return consumer;
}
EXPORT_SYMBOL_GPL(blk_cluster_attach);

/**
 * blk_cluster_enable - from now on a consumer's ops may be called
 * @consumer: what blk_cluster_attach() returned; NULL is ignored
 *
 * To be called once, when the consumer has put the handle where its ops look
 * for it, and before its first command. What happened to the device before was
 * news to no nexus of this consumer's.
 *
 * Context: process context, may sleep.
 */
void blk_cluster_enable(struct blk_cluster_consumer *consumer)
{
	struct blk_cluster_dev *bcd;

	if (!consumer)
		return;

	bcd = consumer->bcd;
	down_write(&bcd->consumers_sem);
	list_add_tail(&consumer->node, &bcd->consumers);
	WRITE_ONCE(bcd->nr_consumers, bcd->nr_consumers + 1);
	up_write(&bcd->consumers_sem);
}
EXPORT_SYMBOL_GPL(blk_cluster_enable);

/**
 * blk_cluster_detach - stop being a consumer
 * @consumer: what blk_cluster_attach() returned; NULL is ignored. None of its
 *	requests may be in flight.
 *
 * Waits for calls of its ops that are under way.
 *
 * Context: process context, may sleep.
 */
void blk_cluster_detach(struct blk_cluster_consumer *consumer)
{
	struct blk_cluster_dev *bcd;

	if (!consumer)
		return;

	bcd = consumer->bcd;
	down_write(&bcd->consumers_sem);
	if (!list_empty(&consumer->node)) {
		list_del(&consumer->node);
		WRITE_ONCE(bcd->nr_consumers, bcd->nr_consumers - 1);
	}
	up_write(&bcd->consumers_sem);

	blk_cluster_dev_put(bcd);
	kfree(consumer);
}
EXPORT_SYMBOL_GPL(blk_cluster_detach);

/**
 * blk_cluster_compare_and_write - start a COMPARE AND WRITE
 * @consumer: the consumer's handle
 * @caw: the request; see &struct blk_cluster_caw for who owns what
 *
 * How it ended is told by @caw->done, always: -ENODEV if the provider has
 * gone, -EOPNOTSUPP if it has no atomic COMPARE AND WRITE, -EINVAL if the range
 * is not inside the block device.
 *
 * Context: process context, may sleep.
 */
void blk_cluster_compare_and_write(struct blk_cluster_consumer *consumer,
				   struct blk_cluster_caw *caw)
{
	struct blk_cluster_dev *bcd = consumer->bcd;
	sector_t capacity = bdev_nr_sectors(consumer->bdev);
	sector_t nr_sectors = caw->nr_bytes >> SECTOR_SHIFT;

	might_sleep();

	caw->consumer = consumer;
	caw->mismatch = 0;

	if (!percpu_ref_tryget_live(&bcd->in_flight)) {
		caw->result = -ENODEV;
		caw->done(caw);
		return;
	}

	if (!bcd->ops->compare_and_write) {
		blk_cluster_caw_complete(caw, -EOPNOTSUPP);
		return;
	}

	if (!nr_sectors || caw->nr_bytes & (SECTOR_SIZE - 1) ||
	    nr_sectors > capacity || caw->sector > capacity - nr_sectors) {
		blk_cluster_caw_complete(caw, -EINVAL);
		return;
	}

	caw->sector += get_start_sect(consumer->bdev);
	bcd->ops->compare_and_write(bcd->private, caw);
}
EXPORT_SYMBOL_GPL(blk_cluster_compare_and_write);

/**
 * blk_cluster_caw_complete - a provider has ended a COMPARE AND WRITE
 * @caw: the request; must not be touched afterwards
 * @result: as in &blk_cluster_caw.result; with -EILSEQ, @caw->mismatch is set
 *
 * Context: any that @caw->done may be called in.
 */
void blk_cluster_caw_complete(struct blk_cluster_caw *caw, int result)
{
	struct blk_cluster_dev *bcd = caw->consumer->bcd;

	atomic64_inc(&bcd->compared);
	if (result == -EILSEQ)
		atomic64_inc(&bcd->miscompared);

	/*
	 * The consumer may detach from within @done's aftermath; the provider's
	 * own reference keeps @bcd until in_flight is zero.
	 */
	caw->result = result;
	caw->done(caw);
	percpu_ref_put(&bcd->in_flight);
}
EXPORT_SYMBOL_GPL(blk_cluster_caw_complete);

/**
 * blk_cluster_is_leased - whether a device is the cluster's
 * @consumer: the consumer's handle; NULL is not
 *
 * Context: any.
 * Return: true if commands need the node's lease, and events go to every node.
 */
bool blk_cluster_is_leased(struct blk_cluster_consumer *consumer)
{
	return consumer && (consumer->bcd->flags & BLK_CLUSTER_LEASED);
}
EXPORT_SYMBOL_GPL(blk_cluster_is_leased);

static int blk_cluster_refuse(struct blk_cluster_dev *bcd, int ret)
{
	if (ret == -ESHUTDOWN)
		atomic64_inc(&bcd->refused);
	else if (ret == -EBUSY)
		atomic64_inc(&bcd->held);
	if (ret)
		trace_blk_cluster_refused(bcd, ret);
	return ret;
}

/**
 * blk_cluster_check - may a command be answered from what this node knows?
 * @consumer: the consumer's handle; NULL may
 *
 * For commands that the device itself does not see.
 *
 * Context: any.
 * Return: 0, -ESHUTDOWN or -EBUSY, as blk_cluster_admit().
 */
int blk_cluster_check(struct blk_cluster_consumer *consumer)
{
	if (!blk_cluster_is_leased(consumer))
		return 0;
	return blk_cluster_refuse(consumer->bcd,
				  blk_cluster_lease_check(ktime_get_boottime_ns()));
}
EXPORT_SYMBOL_GPL(blk_cluster_check);

/* What blk_cluster_admit() returns. Called with a slot's lock held. */
static int blk_cluster_may(struct blk_cluster_consumer *consumer,
			   struct blk_cluster_cmd *cmd)
{
	int rights, ret = blk_cluster_lease_check(cmd->since);

	if (ret || !cmd->who)
		return ret;
	if (!consumer->ops->go_on(cmd) &&
	    !blk_cluster_breaks(BLK_CLUSTER_RULE_GO_ON))
		return -ECANCELED;
	if (!cmd->class)
		return 0;
	rights = blk_cluster_rights(consumer, cmd->who);
	if (rights < 0)
		return rights;
	return (rights & cmd->class) == cmd->class ? 0 : -EBADE;
}

/**
 * blk_cluster_admit - ask for leave to hand a command to the device
 * @consumer: the consumer's handle; NULL is an ordinary device's
 * @cmd: the command; the consumer's until this returns 0
 *
 * If the answer is 0, blk_cluster_settled() has to be called once when the
 * device has done with the command.
 *
 * Context: any.
 * Return: 0; -ESHUTDOWN if the lease has lapsed: the command is to be refused;
 * -EBUSY or -EAGAIN if the initiator has to try again a little later, as a peer
 * may still have writes in flight, or as the device's reservations are not
 * known yet; -ECANCELED if the command is not to go on; -EBADE if it conflicts
 * with a reservation; -EUCLEAN if the reservations are unreadable; or what the
 * consumer's identify returned.
 */
int blk_cluster_admit(struct blk_cluster_consumer *consumer,
		      struct blk_cluster_cmd *cmd)
{
	struct blk_cluster_slot *slot;
	unsigned long flags;
	int ret;

	cmd->cpu = -1;
	if (!blk_cluster_is_leased(consumer))
		return 0;

	/*
	 * All is checked under the lock that guards the list. So whoever ends
	 * the lease, marks a command, or puts other reservations into force,
	 * and then looks at the lists, which takes each of these locks, finds
	 * every command that got through by what was before: either it is in
	 * the list already, or its checks come later and see what is now.
	 */
	cmd->consumer = consumer;
	local_irq_save(flags);
	cmd->cpu = smp_processor_id();
	slot = per_cpu_ptr(consumer->bcd->slots, cmd->cpu);
	spin_lock(&slot->lock);
	cmd->since = ktime_get_boottime_ns();
	ret = blk_cluster_may(consumer, cmd);
	if (!ret) {
		cmd->drain = slot->drain;
		list_add_tail(&cmd->node, &slot->cmds);
		slot->admitted++;
	}
	spin_unlock(&slot->lock);
	local_irq_restore(flags);

	return blk_cluster_refuse(consumer->bcd, ret);
}
EXPORT_SYMBOL_GPL(blk_cluster_admit);

/**
 * blk_cluster_settled - the device has done with a command
 * @consumer: the consumer's handle
 * @cmd: what blk_cluster_admit() has admitted
 *
 * Context: any.
 */
void blk_cluster_settled(struct blk_cluster_consumer *consumer,
			 struct blk_cluster_cmd *cmd)
{
	struct blk_cluster_slot *slot;
	unsigned int bucket;
	unsigned long flags;
	u64 took;

	if (cmd->cpu < 0)
		return;

	took = ktime_get_boottime_ns() - cmd->since;
	bucket = min((fls64(took >> 16) + 1) / 2, BLK_CLUSTER_LATENCY_BUCKETS - 1);
	slot = per_cpu_ptr(consumer->bcd->slots, cmd->cpu);
	spin_lock_irqsave(&slot->lock, flags);
	list_del(&cmd->node);
	/* Changes of reservations and whole copies are no measure of the device. */
	if (cmd->class) {
		slot->latency[bucket]++;
		slot->took += took;
	}
	/*
	 * Somebody may wait for it. With the lock held: who finds the list
	 * without it may end the device next.
	 */
	if (unlikely(cmd->drain != slot->drain))
		wake_up(&consumer->bcd->wait);
	spin_unlock_irqrestore(&slot->lock, flags);
}
EXPORT_SYMBOL_GPL(blk_cluster_settled);

struct blk_cluster_drain {
	struct blk_cluster_consumer *consumer;
	u32 number;
	bool (*match)(struct blk_cluster_cmd *cmd, void *arg);
	void *arg;
};

static bool blk_cluster_drains(const struct blk_cluster_drain *drain,
			       struct blk_cluster_cmd *cmd)
{
	/* Numbers wrap. */
	if ((s32)(cmd->drain - drain->number) >= 0)
		return false;
	if (!drain->match)
		return true;
	return cmd->consumer == drain->consumer && drain->match(cmd, drain->arg);
}

/*
 * Whether nothing is left to wait for. What is admitted once this has been at
 * its slot has the drain's number, or a later one's.
 */
static bool blk_cluster_drained(const struct blk_cluster_drain *drain)
{
	struct blk_cluster_dev *bcd = drain->consumer->bcd;
	struct blk_cluster_cmd *cmd;
	bool drained = true;
	int cpu;

	for_each_possible_cpu(cpu) {
		struct blk_cluster_slot *slot = per_cpu_ptr(bcd->slots, cpu);

		spin_lock_irq(&slot->lock);
		if ((s32)(drain->number - slot->drain) > 0)
			slot->drain = drain->number;
		list_for_each_entry(cmd, &slot->cmds, node) {
			if (blk_cluster_drains(drain, cmd)) {
				drained = false;
				break;
			}
		}
		spin_unlock_irq(&slot->lock);
	}
	return drained;
}

/**
 * blk_cluster_drain - wait for commands in flight
 * @consumer: the consumer's handle; NULL is an ordinary device's
 * @match: which ones of this consumer's; called with IRQs off and a spinlock
 *	held. NULL matches all of the device, also other consumers' and the
 *	node's own
 * @arg: for @match
 *
 * Only waits for what was admitted before the call.
 *
 * Context: process context, sleeps for as long as the commands take.
 * Return: 0; or -ESTALE if the node's lease has lapsed and they are still in
 * flight: the relay sees to them then.
 */
int blk_cluster_drain(struct blk_cluster_consumer *consumer,
		      bool (*match)(struct blk_cluster_cmd *cmd, void *arg),
		      void *arg)
{
	struct blk_cluster_drain drain = {
		.consumer = consumer, .match = match, .arg = arg,
	};
	struct blk_cluster_lease_info lease;
	struct blk_cluster_dev *bcd;

	might_sleep();

	if (!blk_cluster_is_leased(consumer) ||
	    blk_cluster_breaks(BLK_CLUSTER_RULE_DRAIN))
		return 0;

	bcd = consumer->bcd;
	drain.number = atomic_inc_return(&bcd->drain);
	do {
		if (wait_event_idle_timeout(bcd->wait,
					    blk_cluster_drained(&drain),
					    DRAIN_POLL))
			return 0;
		blk_cluster_lease_get(&lease);
	} while (!lease.lapsed);
	return -ESTALE;
}
EXPORT_SYMBOL_GPL(blk_cluster_drain);

static bool blk_cluster_is_orphan(struct blk_cluster_cmd *cmd)
{
	return cmd->who && cmd->consumer->ops->is_orphan(cmd) &&
	       !blk_cluster_breaks(BLK_CLUSTER_RULE_ORPHANS);
}

static unsigned int blk_cluster_count(struct blk_cluster_dev *bcd,
				      bool (*match)(struct blk_cluster_cmd *))
{
	struct blk_cluster_cmd *cmd;
	unsigned int count = 0;
	int cpu;

	for_each_possible_cpu(cpu) {
		struct blk_cluster_slot *slot = per_cpu_ptr(bcd->slots, cpu);

		spin_lock_irq(&slot->lock);
		list_for_each_entry(cmd, &slot->cmds, node) {
			if (!match || match(cmd))
				count++;
		}
		spin_unlock_irq(&slot->lock);
	}
	return count;
}

/**
 * blk_cluster_abort - end requests that can do no harm any more
 * @consumer: the consumer's handle
 * @match: which ones, see &blk_cluster_ops.abort
 * @arg: for @match
 *
 * Context: process context, may sleep.
 */
void blk_cluster_abort(struct blk_cluster_consumer *consumer,
		       bool (*match)(struct bio *bio, void *arg), void *arg)
{
	struct blk_cluster_dev *bcd = consumer->bcd;

	if (!percpu_ref_tryget_live(&bcd->in_flight))
		return;
	if (bcd->ops->abort)
		bcd->ops->abort(bcd->private, match, arg);
	percpu_ref_put(&bcd->in_flight);
}
EXPORT_SYMBOL_GPL(blk_cluster_abort);

static struct blk_cluster_dev *
blk_cluster_get(bool (*match)(struct blk_cluster_dev *bcd, const void *key),
		const void *key)
{
	struct blk_cluster_dev *bcd;

	xa_lock(&devices);
	bcd = blk_cluster_find(match, key);
	if (bcd)
		kref_get(&bcd->kref);
	xa_unlock(&devices);
	return bcd;
}

/**
 * blk_cluster_find_disk - the registration of a disk
 * @disk: the disk
 *
 * Context: process context.
 * Return: a reference, or NULL.
 */
struct blk_cluster_dev *blk_cluster_find_disk(struct gendisk *disk)
{
	return blk_cluster_get(blk_cluster_is_disk, disk);
}

/**
 * blk_cluster_find_unit - the leased device that every node calls so
 * @unit: the name
 *
 * Context: process context.
 * Return: a reference, or NULL.
 */
struct blk_cluster_dev *blk_cluster_find_unit(const char *unit)
{
	return blk_cluster_get(blk_cluster_is_unit, unit);
}

/**
 * blk_cluster_visit_devs - call a function for each device
 * @from: lowest id; 0 for all
 * @arg: for @fn
 * @fn: the function; anything but 0 ends it. Called without locks
 *
 * In order of their ids. All that were registered when it begins and still are
 * when it ends are visited.
 *
 * Context: process context, may sleep.
 * Return: what @fn returned last.
 */
int blk_cluster_visit_devs(unsigned long from, void *arg,
			   int (*fn)(struct blk_cluster_dev *bcd, void *arg))
{
	struct blk_cluster_dev *bcd;
	int ret = 0;

	for (; !ret; from++) {
		xa_lock(&devices);
		bcd = xa_find(&devices, &from, ULONG_MAX, XA_PRESENT);
		if (bcd)
			kref_get(&bcd->kref);
		xa_unlock(&devices);
		if (!bcd)
			break;
		ret = fn(bcd, arg);
		blk_cluster_dev_put(bcd);
	}
	return ret;
}

static int blk_cluster_dev_read(struct blk_cluster_dev *bcd, void *arg)
{
	if (*(bool *)arg)
		blk_cluster_reservations_forget(bcd);
	blk_cluster_read_later(bcd);
	return 0;
}

/**
 * blk_cluster_read_all - have the reservations of all devices read
 * @forget: until then they are not known; what a read finds that is under way
 *	does not count
 *
 * Context: process context.
 */
void blk_cluster_read_all(bool forget)
{
	blk_cluster_visit_devs(0, &forget, blk_cluster_dev_read);
}

/**
 * blk_cluster_in_flight - how many commands of a device are not settled
 * @bcd: the device
 *
 * Context: process context.
 * Return: their number; 0 for a device without lease.
 */
unsigned int blk_cluster_in_flight(struct blk_cluster_dev *bcd)
{
	return blk_cluster_count(bcd, NULL);
}

static int blk_cluster_add_in_flight(struct blk_cluster_dev *bcd, void *arg)
{
	*(unsigned int *)arg += blk_cluster_in_flight(bcd);
	return 0;
}

/**
 * blk_cluster_all_in_flight - how many commands of any device are not settled
 *
 * Context: process context, may sleep.
 * Return: their number.
 */
unsigned int blk_cluster_all_in_flight(void)
{
	unsigned int count = 0;

	blk_cluster_visit_devs(0, &count, blk_cluster_add_in_flight);
	return count;
}

static int blk_cluster_add_orphans(struct blk_cluster_dev *bcd, void *arg)
{
	*(unsigned int *)arg += blk_cluster_count(bcd, blk_cluster_is_orphan);
	return 0;
}

/**
 * blk_cluster_all_orphans - how many commands nobody waits for any more
 *
 * Context: process context, may sleep.
 * Return: their number, of all devices, by the consumers' own judgement.
 */
unsigned int blk_cluster_all_orphans(void)
{
	unsigned int count = 0;

	blk_cluster_visit_devs(0, &count, blk_cluster_add_orphans);
	return count;
}

/**
 * blk_cluster_apply - have a device's consumers do an event of another node's
 * @bcd: the device
 * @kind: what to do
 * @data: more about it
 * @len: of @data
 *
 * Context: the device's work item; sleeps for as long as the consumers do, and
 * they for as long as commands in flight, but never for another node's part in
 * an event: two nodes would wait for each other.
 * Return: 0, or the first consumer's error.
 */
int blk_cluster_apply(struct blk_cluster_dev *bcd, enum blk_cluster_kind kind,
		      const void *data, size_t len)
{
	struct blk_cluster_consumer *consumer;
	int ret = 0;

	if (kind == BLK_CLUSTER_KIND_RESERVATION) {
		if (!blk_cluster_breaks(BLK_CLUSTER_RULE_APPLY))
			return blk_cluster_read_now(bcd);
		blk_cluster_read_later(bcd);
		return 0;
	}

	down_read(&bcd->consumers_sem);
	list_for_each_entry(consumer, &bcd->consumers, node) {
		int err = -EOPNOTSUPP;

		if (consumer->ops && consumer->ops->apply)
			err = consumer->ops->apply(consumer->private, kind,
						   data, len);
		ret = ret ?: err;
	}
	up_read(&bcd->consumers_sem);

	atomic64_inc(&bcd->resets);
	return ret;
}

/**
 * blk_cluster_raise_barrier - demand an epoch of whoever stores the data
 * @epoch: the epoch; nothing happens if it is not higher than before
 *
 * Devices that are registered later demand it, too.
 *
 * Context: process context, may sleep.
 * Return: 0, or the first error of a provider.
 */
int blk_cluster_raise_barrier(u32 epoch)
{
	xa_lock(&devices);
	demanded = max(demanded, epoch);
	epoch = demanded;
	xa_unlock(&devices);

	return blk_cluster_visit_devs(0, &epoch, blk_cluster_dev_barrier);
}

/**
 * blk_cluster_get_barrier - the highest epoch that was asked for
 *
 * Context: process context.
 * Return: it, or 0.
 */
u32 blk_cluster_get_barrier(void)
{
	u32 epoch;

	xa_lock(&devices);
	epoch = demanded;
	xa_unlock(&devices);
	return epoch;
}

static int __init blk_cluster_init(void)
{
	int ret;

	/* As many at once as can be: a device that is stuck stops no other. */
	dev_wq = alloc_workqueue("blk_cluster_dev", WQ_UNBOUND | WQ_MEM_RECLAIM,
				 WQ_UNBOUND_MAX_ACTIVE);
	if (!dev_wq)
		return -ENOMEM;
	ret = blk_cluster_relay_init();
	if (ret)
		destroy_workqueue(dev_wq);
	return ret;
}

/* Providers and consumers hold the module: all devices have been withdrawn. */
static void __exit blk_cluster_exit(void)
{
	blk_cluster_lease_exit();
	blk_cluster_relay_close();
	wait_var_event(&alive, !atomic_read(&alive));
	destroy_workqueue(dev_wq);
	blk_cluster_relay_exit();
	/* States of reservations are freed by a function of the module's. */
	rcu_barrier();
}

module_init(blk_cluster_init);
module_exit(blk_cluster_exit);

MODULE_DESCRIPTION("Cluster-aware block devices");
MODULE_LICENSE("GPL");
