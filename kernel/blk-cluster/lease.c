// SPDX-License-Identifier: GPL-2.0
/*
 * The node's lease. While it runs, and only then, commands of leased devices
 * may be handed to them. Other nodes rely on it: one that could not renew its
 * lease for some seconds does nothing any more, whatever it still holds.
 *
 * All times are boottime, which goes on while the machine is suspended.
 */

#include <linux/spinlock.h>
#include <linux/timekeeping.h>
#include <linux/workqueue.h>

#include "internal.h"
#include "trace.h"

/* Longest lease that can be asked for; a mistake if it is longer. */
#define LEASE_MAX	(60 * NSEC_PER_SEC)

static void lease_work_fn(struct work_struct *work);

static DEFINE_SPINLOCK(lease_lock);
static struct blk_cluster_lease_info lease = { .lapsed = true };
static bool lease_closed;	/* the node leaves: no new commands */
static DECLARE_DELAYED_WORK(lease_work, lease_work_fn);

/*
 * Until when commands are admitted: the earlier one of the lease's two bounds,
 * 0 if there is no lease. Written under lease_lock, read without.
 */
static u64 lease_limit;

static void lease_update(void)
{
	lockdep_assert_held(&lease_lock);

	WRITE_ONCE(lease_limit, lease.lapsed || lease_closed ?
		   0 : min(lease.until, lease.hold));
	trace_blk_cluster_lease(&lease);
}

/* Return: whether it has lapsed just now. */
static bool lease_lapse(void)
{
	lockdep_assert_held(&lease_lock);

	if (lease.lapsed)
		return false;
	lease.lapsed = true;
	lease_update();
	return true;
}

/*
 * The commands' own check needs no timer. This one is for the events that wait
 * for other nodes, and for whoever wants to know.
 */
static void lease_work_fn(struct work_struct *work)
{
	u64 now = ktime_get_boottime_ns();
	bool lapsed = false;
	u64 left = 0;

	spin_lock_irq(&lease_lock);
	if (now >= lease.until)
		lapsed = lease_lapse();
	else if (!lease.lapsed)
		left = lease.until - now;
	spin_unlock_irq(&lease_lock);

	if (left)
		schedule_delayed_work(&lease_work, nsecs_to_jiffies(left) + 1);
	if (lapsed)
		blk_cluster_relay_lapsed();
}

/**
 * blk_cluster_lease_check - may a command be handed to a leased device?
 * @now: boottime in ns
 *
 * Context: any.
 * Return: 0; -ESHUTDOWN if there is no lease; -EBUSY if there is one, but
 * commands have to wait because a peer may still have writes in flight.
 */
int blk_cluster_lease_check(u64 now)
{
	unsigned long flags;
	int ret = -EBUSY;

	if (likely(now < READ_ONCE(lease_limit)))
		return 0;

	spin_lock_irqsave(&lease_lock, flags);
	if (lease.lapsed || lease_closed || now >= lease.until)
		ret = -ESHUTDOWN;
	else if (now < lease.hold)
		ret = 0;
	spin_unlock_irqrestore(&lease_lock, flags);
	return ret;
}

/**
 * blk_cluster_lease_arm - begin a new lease
 * @epoch: its number, higher than the last one's
 * @instance: the member instance whose lease it is
 * @until: when it lapses, boottime in ns
 * @hold: from when on commands are answered BUSY, boottime in ns
 *
 * Until the reservations of a device have been read its commands are refused.
 *
 * Context: process context, may sleep; one caller at a time. Waits for no
 * device.
 * Return: 0; -EBUSY if the last lease is not over, by its time or by
 * blk_cluster_lease_end(), or commands handed to leased devices under it are not
 * settled; -ESTALE if @epoch is not higher; -ERANGE
 * if @until has passed or is more than a minute away.
 */
int blk_cluster_lease_arm(u64 epoch, u64 instance, u64 until, u64 hold)
{
	u64 now = ktime_get_boottime_ns();
	bool over;
	int ret = 0;

	/*
	 * In this order: once nothing is admitted nothing is added to what
	 * flies. A node that has left does not wait for the end of the lease of
	 * its last life: with nothing in flight nobody else does either. What
	 * still waits for other nodes has been done here, and goes on.
	 */
	spin_lock_irq(&lease_lock);
	over = lease.lapsed || lease_closed || now >= lease.until;
	spin_unlock_irq(&lease_lock);
	if (!over || blk_cluster_all_in_flight())
		return -EBUSY;

	/*
	 * This node is a member by now: whoever changes reservations from now
	 * on tells it. What changed before is there to be read, by a read that
	 * begins now. Nothing is admitted meanwhile; the lease waits for none.
	 */
	blk_cluster_read_all(true);

	spin_lock_irq(&lease_lock);
	if (epoch <= lease.epoch) {
		ret = -ESTALE;
	} else if (until <= now || until - now > LEASE_MAX) {
		ret = -ERANGE;
	} else {
		lease = (struct blk_cluster_lease_info) {
			.epoch = epoch, .instance = instance,
			.until = until, .hold = hold,
		};
		lease_closed = false;
		lease_update();
	}
	spin_unlock_irq(&lease_lock);

	if (!ret)
		mod_delayed_work(system_wq, &lease_work, 0);
	return ret;
}

/**
 * blk_cluster_lease_renew - move the lease's bounds
 * @epoch: number of the lease
 * @until: new end, boottime in ns; ignored if it is earlier
 * @hold: likewise
 *
 * Context: process context.
 * Return: 0; -ESTALE if this lease is not the one that runs, or has lapsed;
 * -ERANGE if @until is more than a minute away.
 */
int blk_cluster_lease_renew(u64 epoch, u64 until, u64 hold)
{
	u64 now = ktime_get_boottime_ns();
	bool lapsed = false;
	int ret = 0;

	if (until > now && until - now > LEASE_MAX)
		return -ERANGE;

	spin_lock_irq(&lease_lock);
	/* Sticky: what has passed is not brought back by a late renewal. */
	if (now >= lease.until)
		lapsed = lease_lapse();
	if (lease.lapsed || epoch != lease.epoch) {
		ret = -ESTALE;
	} else {
		lease.until = max(lease.until, until);
		lease.hold = max(lease.hold, hold);
		lease_update();
	}
	spin_unlock_irq(&lease_lock);

	if (lapsed)
		blk_cluster_relay_lapsed();
	return ret;
}

/**
 * blk_cluster_lease_end - admit no more commands
 * @lapse: the lease is over at once; else it runs on, for the events that the
 *	node still has to do while it leaves
 *
 * Context: process context, may sleep.
 */
void blk_cluster_lease_end(bool lapse)
{
	bool lapsed = false;

	spin_lock_irq(&lease_lock);
	lease_closed = true;
	lease_update();
	if (lapse)
		lapsed = lease_lapse();
	spin_unlock_irq(&lease_lock);

	if (lapsed)
		blk_cluster_relay_lapsed();
}

/**
 * blk_cluster_lease_get - the lease as it is
 * @info: where to
 *
 * Context: process context.
 */
void blk_cluster_lease_get(struct blk_cluster_lease_info *info)
{
	u64 now = ktime_get_boottime_ns();

	spin_lock_irq(&lease_lock);
	*info = lease;
	info->lapsed = lease.lapsed || now >= lease.until;
	spin_unlock_irq(&lease_lock);
}

/**
 * blk_cluster_lease_exit - the module goes
 *
 * Nobody is told of a lapse any more, nor of one of a lease that is armed late.
 *
 * Context: process context, may sleep.
 */
void blk_cluster_lease_exit(void)
{
	disable_delayed_work_sync(&lease_work);
}
