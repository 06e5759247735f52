// SPDX-License-Identifier: GPL-2.0
/*
 * Reservations of devices that several nodes export. The rules are pr_state.c's;
 * this keeps the state that is in force, changes it for all nodes, and tells
 * each nexus's rights.
 *
 * A state that has been seen stays in memory for as long as someone looks at
 * it: commands under RCU, all others by a reference.
 *
 * What is answered
 * ----------------
 * Whoever answers from a state, by saying that a change is done, that there was
 * nothing to change, or what is reserved, does so when that state is in force
 * on every node, and what it asks for has been done there. So no host is told
 * of a change whose consequences another host does not see. Three steps:
 *   1. have the newest state: by the swap that made it, or by a read;
 *   2. pr_tell(): each nexus of this node has been told of it, and no command
 *      that it ends is in flight. One thread at a time tells; who comes while
 *      another does waits for that, so it is true for whoever returns;
 *   3. pr_announce(): the other nodes have done the same, by an event, unless
 *      that is known already.
 *
 * Why nothing waits for itself, on one node or around several: the step of
 * another node's that an event asks for is a read and step 2. These wait for the
 * provider's I/O and for commands that are admitted, and never for an event.
 * A command that is admitted waits for the provider's I/O only: of one that
 * changes the state, each swap is admitted, by itself, and what follows is not.
 * pr_lock, which is held across reads and swaps, is never held in steps 2 and 3.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/hash.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/rculist.h>
#include <linux/refcount.h>
#include <linux/slab.h>
#include <linux/wait.h>

#include "internal.h"

#define STATE_MAX	(300 << 10)	/* bytes; see prs_encoded_size() */
#define STATE_USUAL	(16 << 10)	/* bytes that are tried first */
#define SWAPS_MAX	100		/* attempts against other nodes */
#define RIGHTS_BITS	6
#define KNOWN_WAIT	(10 * HZ)	/* of the node's own requests */

/* The rights of one nexus, once it has sent a command. */
struct pr_rights {
	struct hlist_node node;
	struct rcu_head rcu;
	const void *who;
	u8 rights;
};

/**
 * struct blk_cluster_pr - a state of reservations
 * @rcu: for its end
 * @refs: the device's, and one of each who tells nexuses of it
 * @exists: it is kept where all nodes find it; @header is valid
 * @header: the first bytes of what is kept there
 * @everyone: nothing is reserved: every nexus has all rights
 * @rights_lock: guards insertion into and removal from @rights
 * @rights: by who; struct pr_rights
 * @state: the state itself
 */
struct blk_cluster_pr {
	struct rcu_head rcu;
	refcount_t refs;
	bool exists;
	u8 header[PRS_HEADER_LEN];
	bool everyone;
	spinlock_t rights_lock;		/* guards @rights */
	struct hlist_head rights[1 << RIGHTS_BITS];
	struct prs_state state;
};

static void pr_free(struct rcu_head *rcu)
{
	struct blk_cluster_pr *pr = container_of(rcu, struct blk_cluster_pr, rcu);
	struct pr_rights *entry;
	struct hlist_node *next;
	int i;

	for (i = 0; i < ARRAY_SIZE(pr->rights); i++) {
		hlist_for_each_entry_safe(entry, next, &pr->rights[i], node)
			kfree(entry);
	}
	kvfree(pr);
}

static void pr_put(struct blk_cluster_pr *pr)
{
	if (pr && refcount_dec_and_test(&pr->refs))
		call_rcu(&pr->rcu, pr_free);
}

static struct blk_cluster_pr *pr_alloc(u32 capacity)
{
	struct blk_cluster_pr *pr;

	pr = kvzalloc(offsetof(struct blk_cluster_pr, state) +
		      prs_size(capacity), GFP_NOIO);
	if (!pr)
		return NULL;
	refcount_set(&pr->refs, 1);
	spin_lock_init(&pr->rights_lock);
	prs_init(&pr->state, capacity);
	return pr;
}

static struct blk_cluster_pr *pr_current(struct blk_cluster_dev *bcd)
{
	return rcu_dereference_protected(bcd->pr,
					 lockdep_is_held(&bcd->pr_lock) ||
					 lockdep_is_held(&bcd->pr_spin));
}

static bool pr_same(const struct blk_cluster_pr *a,
		    const struct blk_cluster_pr *b)
{
	return a->exists == b->exists &&
	       !memcmp(a->header, b->header, PRS_HEADER_LEN);
}

/*
 * To be called before a read or a swap begins; for pr_install(). What begins
 * before the node has armed a lease does not say what is in force under it.
 */
static u64 pr_begin(struct blk_cluster_dev *bcd)
{
	u64 begun;

	spin_lock_irq(&bcd->pr_spin);
	begun = bcd->wanted;
	spin_unlock_irq(&bcd->pr_spin);
	return begun;
}

/* Put a state into force, which takes over the reference. */
static void pr_install(struct blk_cluster_dev *bcd, struct blk_cluster_pr *pr,
		       u64 begun)
{
	struct blk_cluster_pr *old = pr_current(bcd);

	lockdep_assert_held(&bcd->pr_lock);

	pr->everyone = !pr->state.type && !pr->state.reserved;
	/* Any other one counts, also an older one: it was put there by hand. */
	if (old && pr_same(old, pr)) {
		pr_put(pr);
		pr = old;
		old = NULL;
	}
	spin_lock_irq(&bcd->pr_spin);
	if (pr != pr_current(bcd)) {
		bcd->installs++;
		rcu_assign_pointer(bcd->pr, pr);
	}
	if (!bcd->told) {
		/* News to nobody: nexuses begin with it. */
		bcd->told = bcd->installs;
		bcd->told_version = pr->state.version;
		/* Nor to other nodes, if nothing was ever changed. */
		if (!pr->exists)
			atomic64_set(&bcd->everywhere, bcd->installs);
	}
	rcu_assign_pointer(bcd->in_force, bcd->wanted == begun ?
			   pr : ERR_PTR(-EAGAIN));
	spin_unlock_irq(&bcd->pr_spin);
	pr_put(old);
	wake_up(&bcd->wait);
}

/* Commands are refused from now on, for the reason given. */
static void pr_refuse(struct blk_cluster_dev *bcd, int error)
{
	lockdep_assert_held(&bcd->pr_spin);

	RCU_INIT_POINTER(bcd->in_force, ERR_PTR(error));
}

static bool pr_is_known(struct blk_cluster_dev *bcd)
{
	return !IS_ERR(rcu_access_pointer(bcd->in_force));
}

static int pr_tell_consumers(struct blk_cluster_dev *bcd,
			     const struct prs_state *state, u64 since)
{
	struct blk_cluster_consumer *consumer;
	int ret = 0;

	down_read(&bcd->consumers_sem);
	list_for_each_entry(consumer, &bcd->consumers, node) {
		if (consumer->ops && consumer->ops->reserved)
			ret = consumer->ops->reserved(consumer->private, state,
						      since) ?: ret;
	}
	up_read(&bcd->consumers_sem);
	blk_cluster_own_reserved(bcd, state, since);
	return ret;
}

/*
 * When this returns 0, nexuses of this node have been told of all that was
 * installed before the call, whoever has told them. What failed is told again
 * by the next one.
 *
 * Commands that saw the state before have been admitted by it, so they are in
 * flight, and seen by those who are told; see blk_cluster_admit().
 */
static int pr_tell(struct blk_cluster_dev *bcd)
{
	struct blk_cluster_pr *pr;
	u64 installs, told;
	int ret = 0;

	lockdep_assert_not_held(&bcd->pr_lock);

	if (blk_cluster_breaks(BLK_CLUSTER_RULE_TELL))
		return 0;

	wait_event_idle(bcd->wait, !test_and_set_bit_lock(0, &bcd->telling));

	spin_lock_irq(&bcd->pr_spin);
	installs = bcd->installs;
	told = bcd->told;
	pr = pr_current(bcd);
	if (pr)
		refcount_inc(&pr->refs);
	spin_unlock_irq(&bcd->pr_spin);

	if (told != installs) {
		ret = pr_tell_consumers(bcd, &pr->state, bcd->told_version);
		if (!ret) {
			bcd->told = installs;
			bcd->told_version = pr->state.version;
		}
	}
	pr_put(pr);

	clear_bit_unlock(0, &bcd->telling);
	wake_up(&bcd->wait);
	return ret;
}

/*
 * When this returns 0, the state that was the @number-th one installed here is
 * in force on every node, or a newer one, and this node is one of them.
 * @unknown: there may be one that this node has not seen
 */
static int pr_announce(struct blk_cluster_consumer *consumer, u64 number,
		       bool unknown)
{
	struct blk_cluster_dev *bcd = consumer->bcd;
	s64 everywhere;
	int ret;

	/* Here first; a node that is out of the cluster answers nobody. */
	ret = pr_tell(bcd);
	if (ret)
		return ret;
	everywhere = atomic64_read(&bcd->everywhere);
	if (everywhere >= (s64)number && !unknown)
		return blk_cluster_check(consumer);

	ret = blk_cluster_event(consumer, BLK_CLUSTER_KIND_RESERVATION, NULL, 0);
	if (ret)
		return ret;
	while (everywhere < (s64)number &&
	       !atomic64_try_cmpxchg(&bcd->everywhere, &everywhere, number))
		;
	return 0;
}

/* The state as bytes, in *buf, which the caller frees. Returns how many, or an errno. */
static int pr_read_bytes(struct blk_cluster_dev *bcd, size_t size, u8 **buf)
{
	int len = 0;

	*buf = kvmalloc(size, GFP_NOIO);
	if (!*buf)
		return -ENOMEM;
	if (!percpu_ref_tryget_live(&bcd->in_flight))
		return -ENODEV;
	if (bcd->ops->state_read)
		len = bcd->ops->state_read(bcd->private, *buf, size);
	percpu_ref_put(&bcd->in_flight);
	return len;
}

/* Read what all nodes share. Returns a state or an error pointer. */
static struct blk_cluster_pr *pr_read(struct blk_cluster_dev *bcd)
{
	struct blk_cluster_pr *pr;
	int len, ret;
	u8 *buf;

	/* All devices may be read at once. */
	len = pr_read_bytes(bcd, STATE_USUAL, &buf);
	if (len == STATE_USUAL) {
		kvfree(buf);
		len = pr_read_bytes(bcd, STATE_MAX, &buf);
	}
	pr = ERR_PTR(len);
	if (len < 0)
		goto out;

	ret = len ? prs_decode_capacity(buf, len) : 0;
	pr = ERR_PTR(-EUCLEAN);
	if (ret < 0)
		goto out;
	pr = pr_alloc(ret);
	if (!pr) {
		pr = ERR_PTR(-ENOMEM);
		goto out;
	}
	if (len) {
		if (prs_decode(buf, len, &pr->state)) {
			kvfree(pr);
			pr = ERR_PTR(-EUCLEAN);
			goto out;
		}
		pr->exists = true;
		memcpy(pr->header, buf, PRS_HEADER_LEN);
	}
out:
	kvfree(buf);
	return pr;
}

/* Put into force what all nodes share. */
static int pr_refresh(struct blk_cluster_dev *bcd)
{
	u64 begun = pr_begin(bcd);
	struct blk_cluster_pr *pr;
	int ret;

	lockdep_assert_held(&bcd->pr_lock);

	pr = pr_read(bcd);
	ret = PTR_ERR_OR_ZERO(pr);
	if (ret == -EUCLEAN) {
		/* Nobody knows what it says, so nobody has a right by it. */
		spin_lock_irq(&bcd->pr_spin);
		pr_refuse(bcd, ret);
		spin_unlock_irq(&bcd->pr_spin);
		wake_up(&bcd->wait);
	}
	if (!ret)
		pr_install(bcd, pr, begun);

	/* It is tried again and again. */
	if (ret && ret != bcd->read_error && ret != -ENODEV) {
		if (ret == -EUCLEAN) {
			pr_err("%s: its state of reservations is unreadable; commands are refused until it is mended\n",
			       bcd->unit);
			/* Whoever has found it may not ask again. */
			blk_cluster_read_later(bcd);
		} else {
			pr_warn("%s: cannot read its reservations (%d)\n",
				bcd->unit, ret);
		}
	}
	bcd->read_error = ret;
	return ret;
}

/**
 * blk_cluster_reservations_read - put into force what all nodes share
 * @bcd: the device
 *
 * Context: process context. Sleeps for as long as the consumers have to, who
 * tell their nexuses.
 * Return: 0: nexuses of this node have been told, and what they were told of
 * has come to an end here; -EUCLEAN if the state is unreadable; or another
 * negative errno.
 */
int blk_cluster_reservations_read(struct blk_cluster_dev *bcd)
{
	int ret;

	if (!(bcd->flags & BLK_CLUSTER_LEASED))
		return 0;

	mutex_lock(&bcd->pr_lock);
	ret = pr_refresh(bcd);
	mutex_unlock(&bcd->pr_lock);
	return ret ?: pr_tell(bcd);
}

/**
 * blk_cluster_reservations_init - a device's reservations are not known yet
 * @bcd: the device, which nobody else knows yet
 */
void blk_cluster_reservations_init(struct blk_cluster_dev *bcd)
{
	mutex_init(&bcd->pr_lock);
	spin_lock_init(&bcd->pr_spin);
	RCU_INIT_POINTER(bcd->in_force, ERR_PTR(-EAGAIN));
}

/**
 * blk_cluster_reservations_forget - a device's reservations are not known
 * @bcd: the device
 *
 * Its commands are refused until a read that begins after this has ended.
 *
 * Context: process context.
 */
void blk_cluster_reservations_forget(struct blk_cluster_dev *bcd)
{
	spin_lock_irq(&bcd->pr_spin);
	bcd->wanted++;
	pr_refuse(bcd, -EAGAIN);
	spin_unlock_irq(&bcd->pr_spin);
}

static bool pr_is_settled(struct blk_cluster_dev *bcd)
{
	return rcu_access_pointer(bcd->in_force) != ERR_PTR(-EAGAIN) ||
	       percpu_ref_is_dying(&bcd->in_flight);
}

/**
 * blk_cluster_reservations_wait - wait until a device's reservations are known
 * @bcd: the device
 *
 * Context: process context, sleeps for some seconds at most.
 * Return: whether they are, or are unreadable, or nobody will read them.
 */
bool blk_cluster_reservations_wait(struct blk_cluster_dev *bcd)
{
	return wait_event_idle_timeout(bcd->wait, pr_is_settled(bcd),
				       KNOWN_WAIT);
}

/**
 * blk_cluster_reservations_free - forget a device's reservations
 * @bcd: the device, of which this is the end
 */
void blk_cluster_reservations_free(struct blk_cluster_dev *bcd)
{
	pr_put(rcu_dereference_protected(bcd->pr, true));
}

/* What to do to a state: prs_out() and its like. Returns whether it changed. */
typedef bool (*pr_change_fn)(const struct prs_state *old, struct prs_state *new,
			     const void *arg, struct prs_result *result);

/*
 * Keep a changed state where all nodes find it, and put it into force. Returns
 * 0; -EAGAIN if another node was faster, or may have been; or another negative
 * errno, and in @unknown whether it may have been replaced all the same.
 */
static int pr_swap(struct blk_cluster_consumer *consumer,
		   struct blk_cluster_cmd *cmd, const struct prs_state *state,
		   bool *unknown)
{
	struct blk_cluster_dev *bcd = consumer->bcd;
	struct blk_cluster_pr *new, *old = pr_current(bcd);
	size_t size = prs_encoded_size(state);
	u64 begun = pr_begin(bcd);
	u8 *buf;
	int ret;

	lockdep_assert_held(&bcd->pr_lock);

	if (!bcd->ops->state_swap)
		return -EOPNOTSUPP;
	new = pr_alloc(state->nr);
	buf = kvmalloc(size, GFP_NOIO);
	ret = -ENOMEM;
	if (!new || !buf)
		goto out;
	prs_copy(&new->state, state);
	prs_encode(state, buf, size);
	memcpy(new->header, buf, PRS_HEADER_LEN);
	new->exists = true;

	/* While it may take effect it is in flight, on its nexus's behalf. */
	if (blk_cluster_breaks(BLK_CLUSTER_RULE_SWAP)) {
		cmd->cpu = -1;
		ret = 0;
	} else {
		ret = blk_cluster_admit(consumer, cmd);
	}
	if (ret)
		goto out;
	ret = -ENODEV;
	if (percpu_ref_tryget_live(&bcd->in_flight)) {
		ret = bcd->ops->state_swap(bcd->private, old->header,
					   old->exists ? PRS_HEADER_LEN : 0,
					   buf, size);
		percpu_ref_put(&bcd->in_flight);
		*unknown = ret && ret != -EAGAIN;
	}
	blk_cluster_settled(consumer, cmd);

	if (!ret) {
		pr_install(bcd, new, begun);
		new = NULL;
	} else if (*unknown && !pr_refresh(bcd) && pr_same(pr_current(bcd), new)) {
		/*
		 * The header has the version and a checksum of everything, so
		 * these bytes are ours, or another node has made the very same
		 * of the same state: this change is done.
		 */
		*unknown = false;
		ret = 0;
	}
out:
	kvfree(buf);
	kvfree(new);
	return ret;
}

static int pr_change(struct blk_cluster_consumer *consumer,
		     struct blk_cluster_cmd *cmd, pr_change_fn change,
		     const void *arg, struct prs_result *result)
{
	struct blk_cluster_dev *bcd = consumer->bcd;
	bool fresh = false, unknown = false;
	struct prs_state *room;
	int ret = 0, err = 0, tries;
	u64 before, number;

	room = kvmalloc(prs_size(PRS_ENTRIES_MAX), GFP_NOIO);
	if (!room)
		return -ENOMEM;
	prs_init(room, PRS_ENTRIES_MAX);

	mutex_lock(&bcd->pr_lock);
	before = bcd->installs;
	if (!pr_is_known(bcd)) {
		ret = pr_refresh(bcd);
		fresh = true;
	}
	for (tries = 0; !ret; tries++) {
		if (change(&pr_current(bcd)->state, room, arg, result)) {
			ret = pr_swap(consumer, cmd, room, &unknown);
			if (ret != -EAGAIN || tries == SWAPS_MAX)
				break;
		} else if (fresh) {
			break;
		}
		/*
		 * Another node was faster, or may have been: what changes
		 * nothing is answered from what all nodes share, as well.
		 */
		ret = pr_refresh(bcd);
		fresh = true;
	}
	number = bcd->installs;
	mutex_unlock(&bcd->pr_lock);
	kvfree(room);

	/* What may have changed is told all the same, but not answered from. */
	if (unknown)
		blk_cluster_read_later(bcd);
	if (!ret || unknown)
		err = pr_announce(consumer, number, unknown);
	else if (number != before)
		err = pr_tell(bcd);
	return ret ?: err;
}

static bool pr_change_out(const struct prs_state *old, struct prs_state *new,
			  const void *arg, struct prs_result *result)
{
	prs_out(old, arg, new, result);
	return result->changed;
}

/**
 * blk_cluster_reserve - PERSISTENT RESERVE OUT, RESERVE or RELEASE
 * @consumer: the consumer's handle, of a leased device
 * @cmd: to be admitted whenever the state may be replaced: its nexus in who,
 *	class 0. It is settled when this returns, and before nexuses are told and
 *	other nodes are waited for
 * @prs: the command
 * @result: how to answer, if this returns 0
 *
 * The state that is answered from is in force on every node when this returns,
 * and has been told there, also if this command did not change it.
 *
 * Context: process context. Sleeps until every node has done its part.
 * Return: 0; -ECANCELED if the command is not to go on, and nothing changed; or
 * another negative errno, of blk_cluster_admit() or blk_cluster_event() among
 * others, with which it is not known whether anything changed.
 */
int blk_cluster_reserve(struct blk_cluster_consumer *consumer,
			struct blk_cluster_cmd *cmd,
			const struct prs_command *prs,
			struct prs_result *result)
{
	atomic64_inc(&consumer->bcd->pr_out);
	return pr_change(consumer, cmd, pr_change_out, prs, result);
}
EXPORT_SYMBOL_GPL(blk_cluster_reserve);

static bool pr_change_reset(const struct prs_state *old, struct prs_state *new,
			    const void *arg, struct prs_result *result)
{
	return prs_reset(old, new);
}

/**
 * blk_cluster_reservations_reset - the unit is reset: end SPC-2 reservations
 * @consumer: the consumer's handle, of a leased device
 *
 * Context: process context. Sleeps until every node has done its part.
 * Return: 0 or a negative errno.
 */
int blk_cluster_reservations_reset(struct blk_cluster_consumer *consumer)
{
	struct blk_cluster_cmd cmd = {};

	return pr_change(consumer, &cmd, pr_change_reset, NULL, NULL);
}
EXPORT_SYMBOL_GPL(blk_cluster_reservations_reset);

static bool pr_change_loss(const struct prs_state *old, struct prs_state *new,
			   const void *arg, struct prs_result *result)
{
	return prs_nexus_loss(old, arg, new);
}

/**
 * blk_cluster_nexus_loss - a nexus is lost, and its SPC-2 reservation with it
 * @consumer: the consumer's handle, of a leased device
 * @nexus: which one
 *
 * Context: process context. Sleeps until every node has done its part.
 * Return: 0 or a negative errno.
 */
int blk_cluster_nexus_loss(struct blk_cluster_consumer *consumer,
			   const struct prs_nexus *nexus)
{
	struct blk_cluster_cmd cmd = {};

	return pr_change(consumer, &cmd, pr_change_loss, nexus, NULL);
}
EXPORT_SYMBOL_GPL(blk_cluster_nexus_loss);

/**
 * blk_cluster_is_reserver - whether a nexus has the SPC-2 reservation
 * @consumer: the consumer's handle, of a leased device
 * @nexus: the nexus
 *
 * Context: any.
 * Return: true if it has, as far as this node knows.
 */
bool blk_cluster_is_reserver(struct blk_cluster_consumer *consumer,
			     const struct prs_nexus *nexus)
{
	struct blk_cluster_pr *pr;
	bool ret;

	rcu_read_lock();
	pr = rcu_dereference(consumer->bcd->pr);
	ret = pr && pr->state.reserved &&
	      prs_rights(&pr->state, nexus) == PRS_ALL_RIGHTS;
	rcu_read_unlock();
	return ret;
}
EXPORT_SYMBOL_GPL(blk_cluster_is_reserver);

/**
 * blk_cluster_reservations - PERSISTENT RESERVE IN
 * @consumer: the consumer's handle, of a leased device
 * @cdb: the command
 * @cdb_len: its length
 * @buf: gets the data
 * @len: bytes of @buf
 * @result: how to answer, if this returns 0
 * @got: bytes put into @buf, if this returns 0
 *
 * The answer is from what all nodes share, and in force on each of them when
 * this returns: usually that is known, else by an event.
 *
 * Context: process context. Sleeps until the state has been read, and if need be
 * until every node has done its part.
 * Return: 0, or a negative errno, of blk_cluster_event() among others.
 */
int blk_cluster_reservations(struct blk_cluster_consumer *consumer,
			     const u8 *cdb, u32 cdb_len, u8 *buf, u32 len,
			     struct prs_result *result, u32 *got)
{
	struct blk_cluster_dev *bcd = consumer->bcd;
	struct blk_cluster_pr *pr;
	u64 number;
	int ret;

	atomic64_inc(&bcd->pr_in);
	mutex_lock(&bcd->pr_lock);
	ret = pr_refresh(bcd);
	if (ret) {
		mutex_unlock(&bcd->pr_lock);
		return ret;
	}
	pr = pr_current(bcd);
	refcount_inc(&pr->refs);
	number = bcd->installs;
	mutex_unlock(&bcd->pr_lock);

	ret = pr_announce(consumer, number, false);
	if (!ret)
		*got = prs_in(&pr->state, cdb, cdb_len, buf, len, result);
	pr_put(pr);
	return ret;
}
EXPORT_SYMBOL_GPL(blk_cluster_reservations);

static struct pr_rights *pr_find_rights(struct blk_cluster_pr *pr,
					const void *who)
{
	struct pr_rights *entry;

	hlist_for_each_entry_rcu(entry, &pr->rights[hash_ptr(who, RIGHTS_BITS)],
				 node) {
		if (entry->who == who)
			return entry;
	}
	return NULL;
}

/**
 * blk_cluster_rights - which commands a nexus may send
 * @consumer: the consumer's handle, of a leased device
 * @who: stands for the nexus, until blk_cluster_rights_forget(); not NULL. The
 *	consumer is asked which one it is if its rights are not known yet
 *
 * A command whose rights are to hold until it has been settled is admitted with
 * its class instead, see blk_cluster_admit().
 *
 * Context: any.
 * Return: its rights, see prs_class(); -EAGAIN if the reservations are not known
 * yet; -EUCLEAN if they are unreadable; or what the consumer's identify returned
 * if that is negative.
 */
int blk_cluster_rights(struct blk_cluster_consumer *consumer, const void *who)
{
	struct pr_rights *entry;
	struct blk_cluster_pr *pr;
	struct prs_nexus nexus;
	unsigned long flags;
	int ret;

	rcu_read_lock();
	pr = rcu_dereference(consumer->bcd->in_force);
	ret = PTR_ERR(pr);
	if (IS_ERR(pr))
		goto out;
	ret = PRS_ALL_RIGHTS;
	if (pr->everyone || blk_cluster_breaks(BLK_CLUSTER_RULE_RIGHTS))
		goto out;
	entry = pr_find_rights(pr, who);
	if (entry) {
		ret = entry->rights;
		goto out;
	}

	ret = consumer->ops->identify(who, &nexus);
	if (ret < 0)
		goto out;
	ret = prs_rights(&pr->state, &nexus);
	entry = kzalloc_obj(*entry, GFP_ATOMIC);
	if (!entry)
		goto out;
	entry->who = who;
	entry->rights = ret;
	spin_lock_irqsave(&pr->rights_lock, flags);
	if (pr_find_rights(pr, who))
		kfree(entry);
	else
		hlist_add_head_rcu(&entry->node,
				   &pr->rights[hash_ptr(who, RIGHTS_BITS)]);
	spin_unlock_irqrestore(&pr->rights_lock, flags);
out:
	rcu_read_unlock();
	return ret;
}
EXPORT_SYMBOL_GPL(blk_cluster_rights);

/**
 * blk_cluster_rights_forget - a nexus is gone
 * @consumer: the consumer's handle, of a leased device
 * @who: stood for it, and sends no command any more
 *
 * Context: any.
 */
void blk_cluster_rights_forget(struct blk_cluster_consumer *consumer,
			       const void *who)
{
	struct pr_rights *entry;
	struct blk_cluster_pr *pr;
	unsigned long flags;

	rcu_read_lock();
	pr = rcu_dereference(consumer->bcd->pr);
	if (pr) {
		spin_lock_irqsave(&pr->rights_lock, flags);
		entry = pr_find_rights(pr, who);
		if (entry) {
			hlist_del_rcu(&entry->node);
			kfree_rcu(entry, rcu);
		}
		spin_unlock_irqrestore(&pr->rights_lock, flags);
	}
	rcu_read_unlock();
}
EXPORT_SYMBOL_GPL(blk_cluster_rights_forget);
