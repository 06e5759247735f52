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

#include "internal.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

static DECLARE_RWSEM(devices_sem);
static DEFINE_HASHTABLE(devices, 6);
static u32 demanded;		/* highest epoch asked for, under devices_sem */

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

static struct blk_cluster_dev *blk_cluster_find(struct gendisk *disk)
{
	struct blk_cluster_dev *bcd;

	lockdep_assert_held(&devices_sem);

	hash_for_each_possible(devices, bcd, node, (unsigned long)disk) {
		if (bcd->disk == disk)
			return bcd;
	}
	return NULL;
}

/**
 * blk_cluster_register - offer a disk to consumers
 * @disk: the disk; not yet added
 * @unit: what every node calls the device; shorter than BLK_CLUSTER_NAME_MAX
 * @flags: BLK_CLUSTER_LEASED or 0
 * @ops: what the provider can do; must stay valid until
 *	blk_cluster_unregister() has returned
 * @private: handed to each of @ops
 *
 * Context: process context, may sleep.
 * Return: the registration, NULL if the kernel is built without
 * CONFIG_BLK_CLUSTER, or ERR_PTR(-ENOMEM), ERR_PTR(-EEXIST), or
 * ERR_PTR(-ENAMETOOLONG).
 */
struct blk_cluster_dev *blk_cluster_register(struct gendisk *disk,
					     const char *unit,
					     unsigned int flags,
					     const struct blk_cluster_ops *ops,
					     void *private)
{
	struct blk_cluster_dev *bcd;
	int cpu, ret;

	bcd = kzalloc(sizeof(*bcd), GFP_KERNEL);
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
	mutex_init(&bcd->pr_lock);

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

	down_write(&devices_sem);
	ret = -EEXIST;
	if (blk_cluster_find(disk))
		goto err_unlock;
	/* A device that comes later minds earlier barriers, too. */
	ret = demanded && ops->demand_epoch ? ops->demand_epoch(private, demanded) : 0;
	if (ret)
		goto err_unlock;
	hash_add(devices, &bcd->node, (unsigned long)disk);
	up_write(&devices_sem);

	/* Until they are known, commands are refused. */
	blk_cluster_reservations_read(bcd);
	return bcd;

err_unlock:
	up_write(&devices_sem);
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

	down_write(&devices_sem);
	hash_del(&bcd->node);
	up_write(&devices_sem);

	percpu_ref_kill(&bcd->in_flight);
	wait_for_completion(&bcd->idle);
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
 * @ops: what the consumer can be asked for; each is optional, as is @ops
 * @private: handed to each of @ops
 *
 * Context: process context, may sleep.
 * Return: a handle; NULL if no provider has registered the disk, which is then
 * an ordinary block device; or ERR_PTR(-ENOMEM).
 */
struct blk_cluster_consumer *
blk_cluster_attach(struct block_device *bdev,
		   const struct blk_cluster_consumer_ops *ops, void *private)
{
	struct blk_cluster_consumer *consumer;
	struct blk_cluster_dev *bcd;

	consumer = kzalloc(sizeof(*consumer), GFP_KERNEL);
	if (!consumer)
		return ERR_PTR(-ENOMEM);

	bcd = blk_cluster_find_disk(bdev->bd_disk);
	if (!bcd) {
		kfree(consumer);
		return NULL;
	}

	consumer->bcd = bcd;
	consumer->bdev = bdev;
	consumer->ops = ops;
	consumer->private = private;

	down_write(&bcd->consumers_sem);
	list_add_tail(&consumer->node, &bcd->consumers);
	up_write(&bcd->consumers_sem);

	/* Another chance */
	blk_cluster_reservations_read(bcd);
	return consumer;
}
EXPORT_SYMBOL_GPL(blk_cluster_attach);

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
	list_del(&consumer->node);
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
 * -EBUSY if the initiator has to try again a little later.
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
	 * Checked under the lock that guards the list: whoever ends the lease
	 * and then looks at the lists finds every command that got through.
	 */
	local_irq_save(flags);
	cmd->cpu = smp_processor_id();
	slot = per_cpu_ptr(consumer->bcd->slots, cmd->cpu);
	spin_lock(&slot->lock);
	cmd->since = ktime_get_boottime_ns();
	ret = blk_cluster_lease_check(cmd->since);
	if (!ret) {
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
	slot->latency[bucket]++;
	slot->took += took;
	spin_unlock_irqrestore(&slot->lock, flags);
}
EXPORT_SYMBOL_GPL(blk_cluster_settled);

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
 * blk_cluster_orphans - how many commands in flight nobody waits for any more
 * @consumer: the consumer's handle
 *
 * Context: process context.
 * Return: their number, by the consumer's own judgement.
 */
unsigned int blk_cluster_orphans(struct blk_cluster_consumer *consumer)
{
	return blk_cluster_count(consumer->bcd, consumer->ops->is_orphan);
}
EXPORT_SYMBOL_GPL(blk_cluster_orphans);

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

/**
 * blk_cluster_find_disk - the registration of a disk
 * @disk: the disk
 *
 * Context: process context, may sleep.
 * Return: a reference, or NULL.
 */
struct blk_cluster_dev *blk_cluster_find_disk(struct gendisk *disk)
{
	struct blk_cluster_dev *bcd;

	down_read(&devices_sem);
	bcd = blk_cluster_find(disk);
	if (bcd)
		kref_get(&bcd->kref);
	up_read(&devices_sem);
	return bcd;
}

/**
 * blk_cluster_find_unit - the leased device that every node calls so
 * @unit: the name
 *
 * Context: process context, may sleep.
 * Return: a reference, or NULL.
 */
struct blk_cluster_dev *blk_cluster_find_unit(const char *unit)
{
	struct blk_cluster_dev *bcd, *found = NULL;
	int bucket;

	down_read(&devices_sem);
	hash_for_each(devices, bucket, bcd, node) {
		if ((bcd->flags & BLK_CLUSTER_LEASED) &&
		    !strcmp(bcd->unit, unit)) {
			kref_get(&bcd->kref);
			found = bcd;
			break;
		}
	}
	up_read(&devices_sem);
	return found;
}

/**
 * blk_cluster_visit_devs - call a function for each device
 * @arg: for @fn
 * @fn: the function; anything but 0 ends it. Must neither register nor
 *	unregister.
 *
 * Context: process context, may sleep.
 * Return: what @fn returned last.
 */
int blk_cluster_visit_devs(void *arg,
			   int (*fn)(struct blk_cluster_dev *bcd, void *arg))
{
	struct blk_cluster_dev *bcd;
	int bucket, ret = 0;

	down_read(&devices_sem);
	hash_for_each(devices, bucket, bcd, node) {
		ret = fn(bcd, arg);
		if (ret)
			break;
	}
	up_read(&devices_sem);
	return ret;
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

	blk_cluster_visit_devs(&count, blk_cluster_add_in_flight);
	return count;
}

static int blk_cluster_add_orphans(struct blk_cluster_dev *bcd, void *arg)
{
	struct blk_cluster_consumer *consumer;

	/* All consumers of a device judge its commands alike. */
	down_read(&bcd->consumers_sem);
	consumer = list_first_entry_or_null(&bcd->consumers,
					    struct blk_cluster_consumer, node);
	if (consumer && consumer->ops && consumer->ops->is_orphan)
		*(unsigned int *)arg += blk_cluster_orphans(consumer);
	up_read(&bcd->consumers_sem);
	return 0;
}

/**
 * blk_cluster_all_orphans - how many commands nobody waits for any more
 *
 * Context: process context, may sleep.
 * Return: their number, of all devices.
 */
unsigned int blk_cluster_all_orphans(void)
{
	unsigned int count = 0;

	blk_cluster_visit_devs(&count, blk_cluster_add_orphans);
	return count;
}

/**
 * blk_cluster_apply - have a device's consumers do an event of another node's
 * @bcd: the device
 * @kind: what to do
 * @data: more about it
 * @len: of @data
 *
 * Context: process context, sleeps for as long as the consumers do.
 * Return: 0, or the first consumer's error.
 */
int blk_cluster_apply(struct blk_cluster_dev *bcd, enum blk_cluster_kind kind,
		      const void *data, size_t len)
{
	struct blk_cluster_consumer *consumer;
	int ret = 0;

	if (kind == BLK_CLUSTER_KIND_RESERVATION)
		return blk_cluster_reservations_read(bcd);

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
	down_write(&devices_sem);
	demanded = max(demanded, epoch);
	epoch = demanded;
	up_write(&devices_sem);

	return blk_cluster_visit_devs(&epoch, blk_cluster_dev_barrier);
}

/**
 * blk_cluster_get_barrier - the highest epoch that was asked for
 *
 * Context: process context, may sleep.
 * Return: it, or 0.
 */
u32 blk_cluster_get_barrier(void)
{
	u32 epoch;

	down_read(&devices_sem);
	epoch = demanded;
	up_read(&devices_sem);
	return epoch;
}

static int __init blk_cluster_init(void)
{
	return blk_cluster_relay_init();
}

static void __exit blk_cluster_exit(void)
{
	blk_cluster_relay_exit();
	blk_cluster_lease_exit();
}

module_init(blk_cluster_init);
module_exit(blk_cluster_exit);

MODULE_DESCRIPTION("Cluster-aware block devices");
MODULE_LICENSE("GPL");
