/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Cluster-aware block devices: what a provider (the driver of a device that
 * several nodes share) and a consumer (a driver that exports it) agree upon.
 *
 * Lifetime rules
 * --------------
 * - A provider registers a gendisk before device_add_disk() and unregisters it
 *   after del_gendisk(), before it frees what @ops and @private point to.
 * - A consumer opens the block device first, attaches second, and enables the
 *   handle once its ops can find it; it detaches after its last request has
 *   completed, and closes last.
 * - Unregistering does not wait for consumers, only for requests in flight.
 *   A consumer that is still attached keeps its handle; each request from then
 *   on completes with -ENODEV, and neither @ops nor @private is touched again.
 *   So neither side needs a reference on the other's module.
 */
#ifndef _LINUX_BLK_CLUSTER_H
#define _LINUX_BLK_CLUSTER_H

#include <linux/bits.h>
#include <linux/errno.h>
#include <linux/list.h>
#include <linux/types.h>
#include <uapi/linux/blk_cluster.h>

struct prs_command;
struct prs_nexus;
struct prs_result;
struct prs_state;
struct bio;
struct bio_vec;
struct block_device;
struct gendisk;
struct pr_ops;
struct request;
struct blk_cluster_consumer;
struct blk_cluster_dev;

/* Commands are admitted under the node's lease only. */
#define BLK_CLUSTER_LEASED	BIT(0)

/*
 * Flags of a consumer's bios: it has seen to reservations, and no bio of the
 * node's own may become part of the same request.
 */
#define BLK_CLUSTER_BIO		(REQ_DRV | REQ_NOMERGE)

/**
 * struct blk_cluster_cmd - a command that was handed to the device
 * @who: the I_T nexus on whose behalf it runs, as in blk_cluster_rights(); NULL
 *	if it is the node's own: such a command is never an orphan
 * @class: what the nexus must have a right to, see prs_class(); 0: nothing
 * @consumer: the consumer that has asked
 * @node: in the list of the CPU that admitted it
 * @cpu: which one that was; -1 if the device has no lease to mind
 * @drain: number of the drain that came before it
 * @since: boottime in ns at which it was admitted
 *
 * Part of the consumer's own data of the command, from blk_cluster_admit() to
 * blk_cluster_settled(). The consumer fills in @who and @class before; no other
 * field is its business.
 *
 * What is admitted is in flight, and nothing else is: whoever has to know that
 * the device is quiet, of a nexus or of all, waits for admitted commands, by
 * blk_cluster_drain().
 */
struct blk_cluster_cmd {
	const void *who;
	u8 class;

	struct blk_cluster_consumer *consumer;
	struct list_head node;
	int cpu;
	u32 drain;
	u64 since;
};

/**
 * struct blk_cluster_caw - one COMPARE AND WRITE
 * @sector: first sector, in units of 512 bytes; relative to the consumer's
 *	block device when submitted, to the whole disk when the provider sees it
 * @nr_bytes: length of each half in bytes, a non-zero multiple of 512
 * @bvecs: 2 * @nr_bytes of data: the first half is compared, the second half
 *	is written if all of the first is equal to what the device holds.
 *	The array and its pages belong to the consumer and stay as they are
 *	until @done is called.
 * @done: called exactly once, possibly before the submission returns, in a
 *	context that must not sleep
 * @result: valid in @done. 0: compared equal and written, on stable storage.
 *	-EILSEQ: did not compare equal, nothing was written. Any other negative
 *	errno: failed, and as with a failed write the data may or may not have
 *	been written; but -EAGAIN: no tag is free, and nothing has been done.
 * @mismatch: valid if @result is -EILSEQ: offset in bytes of the first byte
 *	that differs, 0 to @nr_bytes - 1 (SBC-4, 5.3)
 * @consumer: set by blk_cluster_compare_and_write(), for its own use
 *
 * The comparison and the write are one atomic operation with regard to every
 * reader and writer of the device on every node.
 */
struct blk_cluster_caw {
	sector_t sector;
	unsigned int nr_bytes;
	struct bio_vec *bvecs;
	void (*done)(struct blk_cluster_caw *caw);

	int result;
	u32 mismatch;

	struct blk_cluster_consumer *consumer;
};

/**
 * struct blk_cluster_ops - what a provider can do for all nodes at once
 * @compare_and_write: start a COMPARE AND WRITE and call
 *	blk_cluster_caw_complete() when it has ended, however it ended. Called
 *	in process context without locks held, by threads that serve hosts: it
 *	must not wait for the device, neither for the I/O nor for a tag.
 *	Optional.
 * @abort: end with -ECANCELED what can do no harm any more, of the requests
 *	whose bios all match: reads, and writes that were never sent. A write
 *	that was sent stays until it is answered. @match is called with locks
 *	held and must not sleep; NULL matches everything. May sleep. Optional.
 * @demand_epoch: from now on demand @epoch of whoever stores the data before a
 *	request is carried out; never lowered. May sleep, but must not wait for
 *	the device: the lease's renewal may wait for it. Optional.
 * @state_read: read the state that all nodes share of the device, up to @len
 *	bytes. Returns how many there are, 0 if there is no state, or a negative
 *	errno. May sleep. Optional; without it the nodes share no reservations.
 * @state_swap: replace all of that state with @new, if it begins with @old; or,
 *	if @old_len is 0, if there is none. Atomic with regard to all nodes.
 *	Returns 0; -EAGAIN if it does not, and was not replaced; or another
 *	negative errno: it is not known whether it was replaced. So a request
 *	that was sent more than once and finds other bytes is no -EAGAIN: these
 *	may be its own. May sleep, and is not ended by a signal. Optional as
 *	@state_read.
 *
 * All are called in process context.
 */
struct blk_cluster_ops {
	void (*compare_and_write)(void *private, struct blk_cluster_caw *caw);
	void (*abort)(void *private, bool (*match)(struct bio *bio, void *arg),
		      void *arg);
	int (*demand_epoch)(void *private, u32 epoch);
	int (*state_read)(void *private, void *buf, size_t len);
	int (*state_swap)(void *private, const void *old, size_t old_len,
			  const void *new, size_t new_len);
};

/**
 * struct blk_cluster_consumer_ops - what a consumer can be asked for
 * @capacity_changed: the device has another size
 * @apply: do an event of another node's; return when it is done, with 0 or a
 *	negative errno. May sleep, for as long as admitted commands take, but
 *	must not wait for anything that waits for an event: nor for the end of
 *	commands about reservations, which may.
 * @go_on: whether a command may still be handed to the device: it has not been
 *	aborted, and its initiator is not gone. Called with IRQs off and a
 *	spinlock held. What it says no to is not admitted; so whoever marks a
 *	command first and drains afterwards has seen the last of it.
 * @is_orphan: whether a command's initiator is gone. Called with IRQs off and
 *	a spinlock held.
 * @identify: which nexus @who is. Called with IRQs off and a spinlock held.
 * @reserved: a new state of reservations is in force, since one with version
 *	@since was: raise unit attentions and abort commands as prs_effects()
 *	says. Returns when that is done, with 0 or a negative errno: it is called
 *	again then. May sleep, as @apply.
 *
 * @go_on, @is_orphan and @identify are called for commands and nexuses that the
 * consumer itself has named, with @who not NULL; a consumer of leased devices
 * has to have them.
 *
 * All others are called in process context, after blk_cluster_enable(), and
 * blk_cluster_detach() waits for those that are under way.
 */
struct blk_cluster_consumer_ops {
	void (*capacity_changed)(void *private);
	int (*apply)(void *private, enum blk_cluster_kind kind,
		     const void *data, size_t len);
	bool (*go_on)(struct blk_cluster_cmd *cmd);
	bool (*is_orphan)(struct blk_cluster_cmd *cmd);
	int (*identify)(const void *who, struct prs_nexus *nexus);
	int (*reserved)(void *private, const struct prs_state *state,
			u64 since);
};

#if IS_ENABLED(CONFIG_BLK_CLUSTER)

struct blk_cluster_dev *blk_cluster_register(struct gendisk *disk,
					     const char *unit,
					     unsigned int flags,
					     const struct blk_cluster_ops *ops,
					     void *private);
void blk_cluster_unregister(struct blk_cluster_dev *bcd);
void blk_cluster_caw_complete(struct blk_cluster_caw *caw, int result);
void blk_cluster_capacity_changed(struct blk_cluster_dev *bcd);
int blk_cluster_own_begin(struct blk_cluster_dev *bcd, struct request *rq,
			  int *token);
void blk_cluster_own_end(struct blk_cluster_dev *bcd, int token);

extern const struct pr_ops blk_cluster_pr_ops;
#define BLK_CLUSTER_PR_OPS	(&blk_cluster_pr_ops)

struct blk_cluster_consumer *
blk_cluster_attach(struct block_device *bdev,
		   const struct blk_cluster_consumer_ops *ops, void *private);
void blk_cluster_enable(struct blk_cluster_consumer *consumer);
void blk_cluster_detach(struct blk_cluster_consumer *consumer);
void blk_cluster_compare_and_write(struct blk_cluster_consumer *consumer,
				   struct blk_cluster_caw *caw);
bool blk_cluster_is_leased(struct blk_cluster_consumer *consumer);
int blk_cluster_check(struct blk_cluster_consumer *consumer);
int blk_cluster_admit(struct blk_cluster_consumer *consumer,
		      struct blk_cluster_cmd *cmd);
void blk_cluster_settled(struct blk_cluster_consumer *consumer,
			 struct blk_cluster_cmd *cmd);
int blk_cluster_drain(struct blk_cluster_consumer *consumer,
		      bool (*match)(struct blk_cluster_cmd *cmd, void *arg),
		      void *arg);
void blk_cluster_abort(struct blk_cluster_consumer *consumer,
		       bool (*match)(struct bio *bio, void *arg), void *arg);
int blk_cluster_event(struct blk_cluster_consumer *consumer,
		      enum blk_cluster_kind kind, const void *data, size_t len);

int blk_cluster_reserve(struct blk_cluster_consumer *consumer,
			struct blk_cluster_cmd *cmd,
			const struct prs_command *prs,
			struct prs_result *result);
int blk_cluster_reservations(struct blk_cluster_consumer *consumer,
			     const u8 *cdb, u32 cdb_len, u8 *buf, u32 len,
			     struct prs_result *result, u32 *got);
int blk_cluster_reservations_reset(struct blk_cluster_consumer *consumer);
int blk_cluster_nexus_loss(struct blk_cluster_consumer *consumer,
			   const struct prs_nexus *nexus);
bool blk_cluster_is_reserver(struct blk_cluster_consumer *consumer,
			     const struct prs_nexus *nexus);
int blk_cluster_rights(struct blk_cluster_consumer *consumer, const void *who);
void blk_cluster_rights_forget(struct blk_cluster_consumer *consumer,
			       const void *who);

#else /* !CONFIG_BLK_CLUSTER */

static inline struct blk_cluster_dev *
blk_cluster_register(struct gendisk *disk, const char *unit, unsigned int flags,
		     const struct blk_cluster_ops *ops, void *private)
{
	return NULL;
}

static inline void blk_cluster_unregister(struct blk_cluster_dev *bcd)
{
}

static inline void blk_cluster_caw_complete(struct blk_cluster_caw *caw,
					    int result)
{
}

static inline void blk_cluster_capacity_changed(struct blk_cluster_dev *bcd)
{
}

static inline int blk_cluster_own_begin(struct blk_cluster_dev *bcd,
					struct request *rq, int *token)
{
	return 0;
}

static inline void blk_cluster_own_end(struct blk_cluster_dev *bcd, int token)
{
}

#define BLK_CLUSTER_PR_OPS	NULL

static inline struct blk_cluster_consumer *
blk_cluster_attach(struct block_device *bdev,
		   const struct blk_cluster_consumer_ops *ops, void *private)
{
	return NULL;
}

static inline void blk_cluster_enable(struct blk_cluster_consumer *consumer)
{
}

static inline void blk_cluster_detach(struct blk_cluster_consumer *consumer)
{
}

static inline void
blk_cluster_compare_and_write(struct blk_cluster_consumer *consumer,
			      struct blk_cluster_caw *caw)
{
	caw->result = -EOPNOTSUPP;
	caw->done(caw);
}

static inline bool blk_cluster_is_leased(struct blk_cluster_consumer *consumer)
{
	return false;
}

static inline int blk_cluster_check(struct blk_cluster_consumer *consumer)
{
	return 0;
}

static inline int blk_cluster_admit(struct blk_cluster_consumer *consumer,
				    struct blk_cluster_cmd *cmd)
{
	return 0;
}

static inline void blk_cluster_settled(struct blk_cluster_consumer *consumer,
				       struct blk_cluster_cmd *cmd)
{
}

static inline int
blk_cluster_drain(struct blk_cluster_consumer *consumer,
		  bool (*match)(struct blk_cluster_cmd *cmd, void *arg),
		  void *arg)
{
	return 0;
}

static inline void
blk_cluster_abort(struct blk_cluster_consumer *consumer,
		  bool (*match)(struct bio *bio, void *arg), void *arg)
{
}

static inline int blk_cluster_event(struct blk_cluster_consumer *consumer,
				    enum blk_cluster_kind kind,
				    const void *data, size_t len)
{
	return 0;
}

#endif /* CONFIG_BLK_CLUSTER */

#endif /* _LINUX_BLK_CLUSTER_H */
