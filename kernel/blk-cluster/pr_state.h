/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * Reservations of one logical unit that several nodes export: SPC-4 persistent
 * reservations and SPC-2 RESERVE/RELEASE.
 *
 * Pure functions on a state: no locks, no allocation, no clock, no I/O, and
 * the same result on every node. Kernel and user space compile the same file.
 * Clauses are those of SPC-4 r17, as in the target core, unless another
 * standard is named.
 *
 * How it is meant to be used
 * --------------------------
 * The state of a unit is an object that all nodes share and replace by
 * compare-and-swap. A node that has a command to process
 *   1. calls prs_out() with the state it has cached and a second one to fill;
 *   2. if nothing changed, answers with the result;
 *   3. else encodes the new state, and replaces the object if it still has the
 *      header (PRS_HEADER_LEN bytes) of the old; if not, reads it, decodes
 *      it, and begins again;
 *   4. installs the new state, and has every other node read and install it;
 *   5. answers.
 * Installing a state over one with version V means, for each nexus that this
 * node serves: prs_effects(state, nexus, V) says which unit attentions to
 * raise and whether to abort its commands; prs_rights(state, nexus) is what
 * its commands are checked against from then on. A state remembers what it
 * did to a nexus for PRS_MEMORY versions, so it does not matter whether a node
 * sees every version, nor who tells it that there is a new one.
 */
#ifndef _BLK_CLUSTER_PR_STATE_H
#define _BLK_CLUSTER_PR_STATE_H

#ifdef __KERNEL__
#include <linux/stddef.h>
#include <linux/types.h>
#else
#include "pr_state_user.h"
#endif

/* Longest TransportID (7.5.4): an iSCSI name of 223 bytes with its ISID */
#define PRS_TID_MAX		248
/* Shortest and, but for iSCSI, only length of a TransportID */
#define PRS_TID_MIN		24
/* Most registrations a unit can have */
#define PRS_ENTRIES_MAX		1024
/* What happened to a nexus is remembered for so many versions */
#define PRS_MEMORY		1024
/* An encoded state begins with as many bytes that differ whenever it differs */
#define PRS_HEADER_LEN		32
/* Longest parameter list of PERSISTENT RESERVE OUT that prs_out() takes, bytes */
#define PRS_PARAMS_MAX		65536

/* PROTOCOL IDENTIFIER of a TransportID (7.5.1) */
#define PRS_PROTO_FC		0
#define PRS_PROTO_SRP		4
#define PRS_PROTO_ISCSI		5
#define PRS_PROTO_SAS		6

/* TYPE of a persistent reservation (6.13.3.4); 0: there is none */
#define PRS_NONE		0
#define PRS_WRITE_EXCLUSIVE	1
#define PRS_EXCLUSIVE_ACCESS	3
#define PRS_WRITE_EXCLUSIVE_RO	5	/* registrants only */
#define PRS_EXCLUSIVE_ACCESS_RO	6
#define PRS_WRITE_EXCLUSIVE_AR	7	/* all registrants */
#define PRS_EXCLUSIVE_ACCESS_AR	8

/* Status of a command (SAM-5 5.3) */
#define PRS_GOOD		0x00
#define PRS_CHECK_CONDITION	0x02
#define PRS_CONFLICT		0x18

/*
 * Classes of commands, and the rights of a nexus to send them: a command of
 * class c conflicts unless (rights & c) == c. Class 0 never conflicts here.
 */
#define PRS_STATUS		0x01	/* conflicts with SPC-2 reservations only */
#define PRS_READ		0x02	/* allowed by write exclusive types */
#define PRS_WRITE		0x04
#define PRS_ALL_RIGHTS		(PRS_STATUS | PRS_READ | PRS_WRITE)

/* What a new state asks for, by nexus */
#define PRS_UA_PREEMPTED	0x01	/* unit attention 2Ah/03h, RESERVATIONS PREEMPTED */
#define PRS_UA_RELEASED		0x02	/* unit attention 2Ah/04h, RESERVATIONS RELEASED */
#define PRS_UA_REGISTRATION	0x04	/* unit attention 2Ah/05h, REGISTRATIONS PREEMPTED */
#define PRS_ABORT		0x08	/* abort its commands, but for the one that asked for it */

/**
 * struct prs_nexus - an I_T nexus
 * @port: relative target port identifier; 0 for one that uses no target port,
 *	such as a node that maps the device itself
 * @tid_len: bytes of @tid, a multiple of 4, PRS_TID_MIN to PRS_TID_MAX
 * @tid: TransportID of the initiator port (7.5.4), as prs_tid_parse() makes it
 *
 * An iSCSI TransportID without an ISID stands for all initiator ports of that
 * name (7.5.4.6).
 */
struct prs_nexus {
	u16 port;
	u16 tid_len;
	u8 tid[PRS_TID_MAX];
};

/* Flags of struct prs_entry */
#define PRS_HOLDER		0x01	/* holds the reservation, which is not of an AR type */
#define PRS_CLEARED		0x02	/* @lost was by CLEAR, not by preemption */

/**
 * struct prs_entry - a registration, or what is left to be told of one
 * @nexus: whose it is
 * @key: reservation key; 0 if it is not registered any more
 * @lost: version in which another nexus removed the registration, or 0
 * @released: version in which another nexus released the reservation, or 0
 * @aborted: version in which PREEMPT AND ABORT aborted its commands, or 0
 * @flags: PRS_HOLDER, PRS_CLEARED
 */
struct prs_entry {
	struct prs_nexus nexus;
	u64 key;
	u64 lost;
	u64 released;
	u64 aborted;
	u8 flags;
};

/**
 * struct prs_state - all reservations of a logical unit
 * @version: grows by one with each change; 0: nothing has ever been changed
 * @generation: PRGENERATION
 * @capacity: entries that fit into @entries; set by prs_init()
 * @nr: entries there are, in ascending order of their nexuses
 * @type: of the persistent reservation; PRS_NONE if there is none
 * @aptpl: the last valid APTPL bit
 * @reserved: there is an SPC-2 reservation, of @reserver; excludes registrations
 * @reserver: valid if @reserved
 * @entries: registrations, and remembered nexuses
 */
struct prs_state {
	u64 version;
	u32 generation;
	u16 capacity;
	u16 nr;
	u8 type;
	bool aptpl;
	bool reserved;
	struct prs_nexus reserver;
	struct prs_entry entries[];
};

/**
 * struct prs_command - PERSISTENT RESERVE OUT, RESERVE or RELEASE
 * @nexus: where it came from
 * @cdb: the command, of @cdb_len bytes
 * @cdb_len: 6 or 10
 * @params: parameter list, as much as was transferred; NULL if @params_len is 0
 * @params_len: bytes of it, up to PRS_PARAMS_MAX
 * @ports: relative target port identifiers of the unit's target ports on all
 *	nodes, those of @nexus's protocol; for ALL_TG_PT and REGISTER AND MOVE.
 *	The port of @nexus need not be among them
 * @nr_ports: how many there are
 */
struct prs_command {
	const struct prs_nexus *nexus;
	const u8 *cdb;
	u32 cdb_len;
	const u8 *params;
	u32 params_len;
	const u16 *ports;
	u32 nr_ports;
};

/**
 * struct prs_result - how to answer
 * @status: PRS_GOOD, PRS_CONFLICT or PRS_CHECK_CONDITION
 * @sense_key: with PRS_CHECK_CONDITION
 * @asc: with PRS_CHECK_CONDITION
 * @ascq: with PRS_CHECK_CONDITION
 * @changed: there is a new state
 */
struct prs_result {
	u8 status;
	u8 sense_key;
	u8 asc;
	u8 ascq;
	bool changed;
};

/* Why prs_decode() refuses; all negative */
#define PRS_E_TRUNCATED		(-1)	/* shorter than it says */
#define PRS_E_MAGIC		(-2)	/* not a state */
#define PRS_E_FORMAT		(-3)	/* of a newer format */
#define PRS_E_CRC		(-4)	/* damaged */
#define PRS_E_MALFORMED		(-5)	/* contradicts itself */
#define PRS_E_CAPACITY		(-6)	/* the state to fill is too small */

size_t prs_size(u32 capacity);
void prs_init(struct prs_state *state, u32 capacity);
void prs_copy(struct prs_state *to, const struct prs_state *from);

void prs_out(const struct prs_state *old, const struct prs_command *cmd,
	     struct prs_state *new, struct prs_result *result);
bool prs_reset(const struct prs_state *old, struct prs_state *new);
bool prs_nexus_loss(const struct prs_state *old, const struct prs_nexus *nexus,
		    struct prs_state *new);
u32 prs_in(const struct prs_state *state, const u8 *cdb, u32 cdb_len,
	   u8 *buf, u32 len, struct prs_result *result);

u8 prs_class(const u8 *cdb, u32 cdb_len);
u8 prs_rights(const struct prs_state *state, const struct prs_nexus *nexus);
u8 prs_effects(const struct prs_state *state, const struct prs_nexus *nexus, u64 since);

u32 prs_tid_parse(const u8 *tid, u32 len, struct prs_nexus *nexus);

size_t prs_encoded_size(const struct prs_state *state);
size_t prs_encode(const struct prs_state *state, u8 *buf, size_t len);
int prs_decode_capacity(const u8 *buf, size_t len);
int prs_decode(const u8 *buf, size_t len, struct prs_state *state);

#endif /* _BLK_CLUSTER_PR_STATE_H */
