// SPDX-License-Identifier: GPL-2.0
/*
 * Reservations of devices that several nodes export. The rules are pr_state.c's;
 * this keeps the state that is in force, changes it for all nodes, and tells
 * each nexus's rights.
 *
 * A state that has come into force stays in memory for as long as someone looks
 * at it: commands under RCU, whoever tells nexuses of it by a reference. Nobody
 * waits for commands with the lock held: they may be waiting for it.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/hash.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/rculist.h>
#include <linux/refcount.h>
#include <linux/slab.h>

#include "internal.h"

#define STATE_MAX	(300 << 10)	/* bytes; see prs_encoded_size() */
#define SWAPS_MAX	100		/* attempts against other nodes */
#define RIGHTS_BITS	6

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
	return rcu_dereference_protected(bcd->pr, lockdep_is_held(&bcd->pr_lock));
}

/*
 * Put a state into force, which takes over the reference, and return another
 * one of it.
 */
static struct blk_cluster_pr *pr_install(struct blk_cluster_dev *bcd,
					 struct blk_cluster_pr *pr)
{
	struct blk_cluster_pr *old = pr_current(bcd);

	pr->everyone = !pr->state.type && !pr->state.reserved;
	refcount_inc(&pr->refs);
	rcu_assign_pointer(bcd->pr, pr);
	pr_put(old);
	return pr;
}

/* Whether commands have to be aborted that were sent before. */
static bool pr_aborts(const struct prs_state *state, u64 since)
{
	u32 i;

	for (i = 0; i < state->nr; i++) {
		if (state->entries[i].aborted > since)
			return true;
	}
	return false;
}

/*
 * Have nexuses of this node told what happened to them since version @since.
 * Drops the reference.
 */
static int pr_tell(struct blk_cluster_dev *bcd, struct blk_cluster_pr *pr,
		   u64 since)
{
	struct blk_cluster_consumer *consumer;
	int ret = 0;

	/*
	 * Commands that saw the state before and have to be aborted are known to
	 * the consumers then. All others were sent at the same time as what
	 * changed the state, so they may come before it.
	 */
	if (pr_aborts(&pr->state, since))
		synchronize_rcu();

	down_read(&bcd->consumers_sem);
	list_for_each_entry(consumer, &bcd->consumers, node) {
		if (consumer->ops && consumer->ops->reserved)
			ret = consumer->ops->reserved(consumer->private,
						      &pr->state, since) ?: ret;
	}
	up_read(&bcd->consumers_sem);
	blk_cluster_own_reserved(bcd, &pr->state, since);
	pr_put(pr);
	return ret;
}

/*
 * Read what all nodes share. Returns a state, or NULL if it is the one that is
 * in force, or an error pointer.
 */
static struct blk_cluster_pr *pr_read(struct blk_cluster_dev *bcd)
{
	struct blk_cluster_pr *pr, *current_pr = pr_current(bcd);
	int len, capacity, ret;
	u8 *buf;

	buf = kvmalloc(STATE_MAX, GFP_NOIO);
	if (!buf)
		return ERR_PTR(-ENOMEM);

	pr = ERR_PTR(-ENODEV);
	if (!percpu_ref_tryget_live(&bcd->in_flight))
		goto out;
	len = bcd->ops->state_read(bcd->private, buf, STATE_MAX);
	percpu_ref_put(&bcd->in_flight);
	pr = ERR_PTR(len);
	if (len < 0)
		goto out;

	capacity = len ? prs_decode_capacity(buf, len) : 0;
	if (capacity < 0) {
		ret = capacity;
		goto bad;
	}
	pr = pr_alloc(capacity);
	if (!pr) {
		pr = ERR_PTR(-ENOMEM);
		goto out;
	}
	if (len) {
		ret = prs_decode(buf, len, &pr->state);
		if (ret) {
			kvfree(pr);
			goto bad;
		}
		pr->exists = true;
		memcpy(pr->header, buf, PRS_HEADER_LEN);
	}
	/* Any other one counts, also an older one: that was put there by hand. */
	if (current_pr && pr->exists == current_pr->exists &&
	    !memcmp(pr->header, current_pr->header, PRS_HEADER_LEN)) {
		kvfree(pr);
		pr = NULL;
	}
	goto out;

bad:
	pr_err("%s: the state of reservations is unreadable (%d); commands are refused until it is mended\n",
	       bcd->unit, ret);
	pr = ERR_PTR(-EUCLEAN);
out:
	kvfree(buf);
	return pr;
}

/**
 * blk_cluster_reservations_read - put into force what all nodes share
 * @bcd: the device
 *
 * Context: process context. Sleeps for as long as the consumers have to, who
 * tell their nexuses.
 * Return: 0; -EUCLEAN if the state is unreadable; or another negative errno.
 */
int blk_cluster_reservations_read(struct blk_cluster_dev *bcd)
{
	struct blk_cluster_pr *pr, *old;
	u64 since;

	if (!(bcd->flags & BLK_CLUSTER_LEASED) || !bcd->ops->state_read)
		return 0;

	mutex_lock(&bcd->pr_lock);
	pr = pr_read(bcd);
	if (IS_ERR_OR_NULL(pr)) {
		mutex_unlock(&bcd->pr_lock);
		if (pr)
			pr_warn("%s: cannot read its reservations (%ld)\n",
				bcd->unit, PTR_ERR(pr));
		return PTR_ERR_OR_ZERO(pr);
	}
	/* The first one is news to nobody: its nexuses begin with it. */
	old = pr_current(bcd);
	since = old ? old->state.version : pr->state.version;
	pr = pr_install(bcd, pr);
	mutex_unlock(&bcd->pr_lock);

	return pr_tell(bcd, pr, since);
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

/* Keep a changed state where all nodes find it. */
static int pr_swap(struct blk_cluster_dev *bcd, const struct blk_cluster_pr *old,
		   struct blk_cluster_pr *new)
{
	size_t size = prs_encoded_size(&new->state);
	u8 *buf;
	int ret;

	buf = kvmalloc(size, GFP_NOIO);
	if (!buf)
		return -ENOMEM;
	prs_encode(&new->state, buf, size);
	memcpy(new->header, buf, PRS_HEADER_LEN);
	new->exists = true;

	ret = -ENODEV;
	if (percpu_ref_tryget_live(&bcd->in_flight)) {
		ret = bcd->ops->state_swap(bcd->private, old->header,
					   old->exists ? PRS_HEADER_LEN : 0,
					   buf, size);
		percpu_ref_put(&bcd->in_flight);
	}
	kvfree(buf);
	return ret;
}

static int pr_change(struct blk_cluster_consumer *consumer, pr_change_fn change,
		     const void *arg, struct prs_result *result)
{
	struct blk_cluster_dev *bcd = consumer->bcd;
	struct blk_cluster_pr *old, *new;
	struct prs_state *room;
	bool fresh = false;
	u64 since = 0;
	int ret, tries;

	room = kvmalloc(prs_size(PRS_ENTRIES_MAX), GFP_NOIO);
	if (!room)
		return -ENOMEM;
	prs_init(room, PRS_ENTRIES_MAX);

	mutex_lock(&bcd->pr_lock);
	old = pr_current(bcd);
	ret = -ESTALE;
	if (!old)
		goto out;
	since = old->state.version;
	for (tries = 0;; tries++) {
		old = pr_current(bcd);
		ret = blk_cluster_check(consumer);
		if (ret)
			goto out;
		if (change(&old->state, room, arg, result)) {
			new = pr_alloc(room->nr);
			ret = -ENOMEM;
			if (!new)
				goto out;
			prs_copy(&new->state, room);
			ret = pr_swap(bcd, old, new);
			if (!ret)
				break;
			kvfree(new);
			if (ret != -EAGAIN || tries == SWAPS_MAX)
				goto out;
		} else if (fresh) {
			goto out;
		}

		/*
		 * Another node was faster, or may have been: what changes
		 * nothing is answered from what all nodes share, as well.
		 */
		new = pr_read(bcd);
		ret = PTR_ERR_OR_ZERO(new);
		if (ret)
			goto out;
		fresh = true;
		if (new)
			pr_put(pr_install(bcd, new));
	}
	new = pr_install(bcd, new);
	mutex_unlock(&bcd->pr_lock);
	kvfree(room);

	/* Here first; a node that is out of the cluster answers nobody. */
	ret = pr_tell(bcd, new, since);
	return ret ?: blk_cluster_event(consumer, BLK_CLUSTER_KIND_RESERVATION,
					NULL, 0);

out:
	/* What other nodes did in the meantime has to be told all the same. */
	old = pr_current(bcd);
	if (!old || old->state.version == since) {
		mutex_unlock(&bcd->pr_lock);
	} else {
		refcount_inc(&old->refs);
		mutex_unlock(&bcd->pr_lock);
		ret = pr_tell(bcd, old, since) ?: ret;
	}
	kvfree(room);
	return ret;
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
 * @cmd: the command
 * @result: how to answer, if this returns 0
 *
 * What changes is in force on every node when this returns, and has been told
 * there.
 *
 * Context: process context. Sleeps until every node has done its part.
 * Return: 0, or a negative errno, with which it is not known whether anything
 * changed.
 */
int blk_cluster_reserve(struct blk_cluster_consumer *consumer,
			const struct prs_command *cmd,
			struct prs_result *result)
{
	atomic64_inc(&consumer->bcd->pr_out);
	return pr_change(consumer, pr_change_out, cmd, result);
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
	return pr_change(consumer, pr_change_reset, NULL, NULL);
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
	return pr_change(consumer, pr_change_loss, nexus, NULL);
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
 * The answer is from what all nodes share, which may be newer than what is in
 * force here: another node's change is seen by all nexuses or by none.
 *
 * Context: process context, sleeps until the state has been read.
 * Return: 0; -ESTALE if no state is in force; or another negative errno.
 */
int blk_cluster_reservations(struct blk_cluster_consumer *consumer,
			     const u8 *cdb, u32 cdb_len, u8 *buf, u32 len,
			     struct prs_result *result, u32 *got)
{
	struct blk_cluster_dev *bcd = consumer->bcd;
	struct blk_cluster_pr *pr, *read;
	int ret;

	atomic64_inc(&bcd->pr_in);
	mutex_lock(&bcd->pr_lock);
	pr = pr_current(bcd);
	read = pr ? pr_read(bcd) : ERR_PTR(-ESTALE);
	ret = PTR_ERR_OR_ZERO(read);
	if (!ret)
		*got = prs_in(read ? &read->state : &pr->state, cdb, cdb_len,
			      buf, len, result);
	if (!IS_ERR(read))
		kvfree(read);
	mutex_unlock(&bcd->pr_lock);
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
 * @who: stands for the nexus, until blk_cluster_rights_forget()
 * @identify: says which one it is; only called if its rights are not known yet
 *
 * Context: any.
 * Return: its rights, see prs_class(); -ESTALE if the state is not known; or
 * what @identify returned if that is negative.
 */
int blk_cluster_rights(struct blk_cluster_consumer *consumer, const void *who,
		       int (*identify)(const void *who,
				       struct prs_nexus *nexus))
{
	struct pr_rights *entry;
	struct blk_cluster_pr *pr;
	struct prs_nexus nexus;
	unsigned long flags;
	int ret;

	rcu_read_lock();
	pr = rcu_dereference(consumer->bcd->pr);
	ret = -ESTALE;
	if (!pr)
		goto out;
	ret = PRS_ALL_RIGHTS;
	if (pr->everyone)
		goto out;
	entry = pr_find_rights(pr, who);
	if (entry) {
		ret = entry->rights;
		goto out;
	}

	ret = identify(who, &nexus);
	if (ret < 0)
		goto out;
	ret = prs_rights(&pr->state, &nexus);
	entry = kzalloc(sizeof(*entry), GFP_ATOMIC);
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
