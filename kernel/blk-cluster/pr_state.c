// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/*
 * Reservations of one logical unit that several nodes export; see pr_state.h.
 */
#ifdef __KERNEL__
#include <linux/crc32c.h>
#include <linux/export.h>
#include <linux/limits.h>
#include <linux/pr_state.h>
#include <linux/string.h>
#include <linux/unaligned.h>
#else
#include "pr_state.h"
#endif

#define OP_RESERVE_6		0x16
#define OP_RELEASE_6		0x17
#define OP_RESERVE_10		0x56
#define OP_RELEASE_10		0x57
#define OP_PERSISTENT_IN	0x5e
#define OP_PERSISTENT_OUT	0x5f

/* Service actions of PERSISTENT RESERVE OUT (6.14.2) */
#define SA_REGISTER		0x00
#define SA_RESERVE		0x01
#define SA_RELEASE		0x02
#define SA_CLEAR		0x03
#define SA_PREEMPT		0x04
#define SA_PREEMPT_AND_ABORT	0x05
#define SA_REGISTER_AND_IGNORE	0x06
#define SA_REGISTER_AND_MOVE	0x07

/* Service actions of PERSISTENT RESERVE IN (6.13.1) */
#define SA_READ_KEYS		0x00
#define SA_READ_RESERVATION	0x01
#define SA_REPORT_CAPABILITIES	0x02
#define SA_READ_FULL_STATUS	0x03

/* Byte 20 of the basic parameter list (6.14.3), byte 17 of REGISTER AND MOVE's */
#define PARAM_SPEC_I_PT		0x08
#define PARAM_ALL_TG_PT		0x04
#define PARAM_UNREG		0x02
#define PARAM_APTPL		0x01
#define PARAMS_BASIC		24

/* TransportIDs (7.5.4) */
#define TID_FORMAT_ISID		0x40	/* iSCSI, with an ISID: the name of a port */
#define TID_NAME		4	/* where an iSCSI name begins */
#define ISCSI_NAME_MAX		223
#define ISID_DIGITS		12
#define ISID_LEN		(5 + ISID_DIGITS)	/* ",i,0x" and the digits */

/* A version is compared with others, so it never wraps. */
#define VERSION_MAX		(U64_MAX - 1)

/* --- Answers --- */

static void good(struct prs_result *result, bool changed)
{
	*result = (struct prs_result){ .status = PRS_GOOD, .changed = changed };
}

static void conflict(struct prs_result *result)
{
	*result = (struct prs_result){ .status = PRS_CONFLICT };
}

static void illegal(struct prs_result *result, u8 asc, u8 ascq)
{
	*result = (struct prs_result){
		.status = PRS_CHECK_CONDITION,
		.sense_key = 0x05,	/* ILLEGAL REQUEST */
		.asc = asc,
		.ascq = ascq,
	};
}

static void invalid_operation(struct prs_result *result)
{
	illegal(result, 0x20, 0x00);
}

static void invalid_cdb(struct prs_result *result)
{
	illegal(result, 0x24, 0x00);
}

static void invalid_params(struct prs_result *result)
{
	illegal(result, 0x26, 0x00);
}

static void invalid_release(struct prs_result *result)
{
	illegal(result, 0x26, 0x04);
}

static void bad_length(struct prs_result *result)
{
	illegal(result, 0x1a, 0x00);
}

static void no_room(struct prs_result *result)
{
	illegal(result, 0x55, 0x04);
}

/* --- TransportIDs and nexuses --- */

static bool is_iscsi(const struct prs_nexus *nexus)
{
	return (nexus->tid[0] & 0x0f) == PRS_PROTO_ISCSI;
}

static bool has_isid(const struct prs_nexus *nexus)
{
	return nexus->tid[0] == (TID_FORMAT_ISID | PRS_PROTO_ISCSI);
}

/* The length that the name in @nexus gives its TransportID */
static void finish_iscsi(struct prs_nexus *nexus, u32 name_len)
{
	u32 len = (name_len + 1 + 3) & ~3u;	/* with its NUL */

	if (len < PRS_TID_MIN - TID_NAME)
		len = PRS_TID_MIN - TID_NAME;
	memset(nexus->tid + TID_NAME + name_len, 0, len - name_len);
	nexus->tid[1] = 0;
	put_unaligned_be16(len, nexus->tid + 2);
	nexus->tid_len = TID_NAME + len;
}

static u8 lower_digit(u8 c)
{
	if (c >= '0' && c <= '9')
		return c;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 'a';
	return c >= 'a' && c <= 'f' ? c : 0;
}

/* 7.5.4.6. @text is @len bytes long and holds a NUL. */
static bool parse_iscsi(u8 format, const u8 *text, u32 len, struct prs_nexus *nexus)
{
	u8 *name = nexus->tid + TID_NAME;
	u32 i, digits, n = 0;

	while (text[n] && text[n] != ',') {
		if (text[n] <= ' ' || n == ISCSI_NAME_MAX)
			return false;
		n++;
	}
	if (!n)
		return false;
	memcpy(name, text, n);
	nexus->tid[0] = format | PRS_PROTO_ISCSI;
	if (!format) {
		if (text[n])
			return false;
		finish_iscsi(nexus, n);
		return true;
	}

	if (len - n < 5 || memcmp(text + n, ",i,0x", 5))
		return false;
	text += n + 5;
	len -= n + 5;
	for (digits = 0; digits < len && text[digits]; digits++)
		if (digits == ISID_DIGITS || !lower_digit(text[digits]))
			return false;
	if (!digits || digits == len)
		return false;
	memcpy(name + n, ",i,0x000000000000", ISID_LEN);
	n += ISID_LEN;
	for (i = 0; i < digits; i++)
		name[n - digits + i] = lower_digit(text[i]);
	finish_iscsi(nexus, n);
	return true;
}

/**
 * prs_tid_parse - read a TransportID (7.5.4)
 * @tid: its first byte
 * @len: bytes there are
 * @nexus: gets tid and tid_len in their only form: reserved bytes zero, no
 *	more padding than needed, an ISID of 12 lower case digits; port is not
 *	touched
 *
 * Return: length of the TransportID as it stands at @tid, or 0 if it is longer
 * than @len, malformed, or of a protocol that is not known.
 */
u32 prs_tid_parse(const u8 *tid, u32 len, struct prs_nexus *nexus)
{
	u32 begin, size, text;
	u8 format;

	if (len < PRS_TID_MIN)
		return 0;
	format = tid[0] & 0xc0;
	switch (tid[0] & 0x0f) {
	case PRS_PROTO_FC:
		begin = 8;
		size = 8;
		break;
	case PRS_PROTO_SRP:
		begin = 8;
		size = 16;
		break;
	case PRS_PROTO_SAS:
		begin = 4;
		size = 8;
		break;
	case PRS_PROTO_ISCSI:
		text = get_unaligned_be16(tid + 2);
		if (text < PRS_TID_MIN - TID_NAME || text % 4 || format > TID_FORMAT_ISID)
			return 0;
		if (text > len - TID_NAME || !memchr(tid + TID_NAME, 0, text) ||
		    !parse_iscsi(format, tid + TID_NAME, text, nexus))
			return 0;
		return TID_NAME + text;
	default:
		return 0;
	}
	if (format)
		return 0;
	memset(nexus->tid, 0, PRS_TID_MIN);
	nexus->tid[0] = tid[0] & 0x0f;
	memcpy(nexus->tid + begin, tid + begin, size);
	nexus->tid_len = PRS_TID_MIN;
	return PRS_TID_MIN;
}
EXPORT_SYMBOL_GPL(prs_tid_parse);

/* The same for one that has exactly @len bytes */
static bool parse_whole(const u8 *tid, u32 len, struct prs_nexus *nexus)
{
	return len && prs_tid_parse(tid, len, nexus) == len;
}

static void copy_nexus(struct prs_nexus *to, const struct prs_nexus *from)
{
	memset(to, 0, sizeof(*to));
	to->port = from->port;
	to->tid_len = from->tid_len;
	memcpy(to->tid, from->tid, from->tid_len);
}

static int compare_nexus(const struct prs_nexus *a, const struct prs_nexus *b)
{
	if (a->port != b->port)
		return a->port < b->port ? -1 : 1;
	if (a->tid_len != b->tid_len)
		return a->tid_len < b->tid_len ? -1 : 1;
	return memcmp(a->tid, b->tid, a->tid_len);
}

/* All ports of the iSCSI initiator that @nexus, which has an ISID, belongs to */
static void without_isid(const struct prs_nexus *nexus, struct prs_nexus *device)
{
	u32 len = 0;

	while (nexus->tid[TID_NAME + len] != ',')
		len++;
	device->port = nexus->port;
	device->tid[0] = PRS_PROTO_ISCSI;
	memcpy(device->tid + TID_NAME, nexus->tid + TID_NAME, len);
	finish_iscsi(device, len);
}

/* --- Entries of a state --- */

/* Where the entry of this nexus is, or would have to be inserted */
static u32 position(const struct prs_state *state, const struct prs_nexus *nexus, bool *found)
{
	u32 low = 0, high = state->nr;

	*found = false;
	while (low < high) {
		u32 middle = low + (high - low) / 2;
		int order = compare_nexus(&state->entries[middle].nexus, nexus);

		if (!order) {
			*found = true;
			return middle;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int find_exact(const struct prs_state *state, const struct prs_nexus *nexus)
{
	bool found;
	u32 i = position(state, nexus, &found);

	return found ? (int)i : -1;
}

static int find_device(const struct prs_state *state, const struct prs_nexus *nexus)
{
	struct prs_nexus device;

	if (!has_isid(nexus))
		return -1;
	without_isid(nexus, &device);
	return find_exact(state, &device);
}

/* The registration of this nexus: its own, or that of its iSCSI initiator; -1 if there is none */
static int find(const struct prs_state *state, const struct prs_nexus *nexus)
{
	int i = find_exact(state, nexus);

	if (i >= 0 && state->entries[i].key)
		return i;
	i = find_device(state, nexus);
	return i >= 0 && state->entries[i].key ? i : -1;
}

static u32 registrations(const struct prs_state *state)
{
	u32 i, n = 0;

	for (i = 0; i < state->nr; i++)
		n += !!state->entries[i].key;
	return n;
}

static u64 last_event(const struct prs_entry *entry)
{
	u64 last = entry->lost;

	if (entry->released > last)
		last = entry->released;
	return entry->aborted > last ? entry->aborted : last;
}

static void remove_entry(struct prs_state *state, u32 i)
{
	struct prs_entry *entry = &state->entries[i];

	state->nr--;
	memmove(entry, entry + 1, (state->nr - i) * sizeof(*entry));
}

/* Forgets whose registration was removed longest ago, to make room */
static bool forget_one(struct prs_state *state)
{
	u64 first = U64_MAX;
	u32 i, oldest = state->nr;

	for (i = 0; i < state->nr; i++) {
		if (!state->entries[i].key && last_event(&state->entries[i]) < first) {
			first = last_event(&state->entries[i]);
			oldest = i;
		}
	}
	if (oldest == state->nr)
		return false;
	remove_entry(state, oldest);
	return true;
}

/* Registers a nexus or changes its key; the caller has checked that there is room */
static void set_key(struct prs_state *state, const struct prs_nexus *nexus, u64 key)
{
	struct prs_entry *entry;
	bool found;
	u32 i;
	int at = find(state, nexus);

	if (at < 0)
		at = find_exact(state, nexus);
	if (at >= 0) {
		state->entries[at].key = key;
		return;
	}
	if (state->nr == state->capacity && !forget_one(state))
		return;
	i = position(state, nexus, &found);
	entry = &state->entries[i];
	memmove(entry + 1, entry, (state->nr - i) * sizeof(*entry));
	state->nr++;
	memset(entry, 0, sizeof(*entry));
	copy_nexus(&entry->nexus, nexus);
	entry->key = key;
}

/* --- The persistent reservation --- */

static bool valid_type(u8 type)
{
	switch (type) {
	case PRS_WRITE_EXCLUSIVE:
	case PRS_EXCLUSIVE_ACCESS:
	case PRS_WRITE_EXCLUSIVE_RO:
	case PRS_EXCLUSIVE_ACCESS_RO:
	case PRS_WRITE_EXCLUSIVE_AR:
	case PRS_EXCLUSIVE_ACCESS_AR:
		return true;
	default:
		return false;
	}
}

static bool all_registrants(u8 type)
{
	return type == PRS_WRITE_EXCLUSIVE_AR || type == PRS_EXCLUSIVE_ACCESS_AR;
}

/* Of a type that gives rights to each nexus that is registered */
static bool for_registrants(u8 type)
{
	return type == PRS_WRITE_EXCLUSIVE_RO || type == PRS_EXCLUSIVE_ACCESS_RO ||
	       all_registrants(type);
}

static bool write_exclusive(u8 type)
{
	return type == PRS_WRITE_EXCLUSIVE || type == PRS_WRITE_EXCLUSIVE_RO ||
	       type == PRS_WRITE_EXCLUSIVE_AR;
}

/* 5.7.10: whether the registration at @i, which may be -1, holds the reservation */
static bool holds(const struct prs_state *state, int i)
{
	if (i < 0 || !state->type)
		return false;
	return all_registrants(state->type) || (state->entries[i].flags & PRS_HOLDER);
}

static void drop_reservation(struct prs_state *state)
{
	u32 i;

	state->type = PRS_NONE;
	for (i = 0; i < state->nr; i++)
		state->entries[i].flags &= ~PRS_HOLDER;
}

static void set_reservation(struct prs_state *state, u8 type, u32 holder)
{
	drop_reservation(state);
	state->type = type;
	if (!all_registrants(type))
		state->entries[holder].flags |= PRS_HOLDER;
}

/* RESERVATIONS RELEASED for every nexus that is registered, but for that at @actor */
static void tell_released(struct prs_state *state, int actor)
{
	u32 i;

	for (i = 0; i < state->nr; i++)
		if (state->entries[i].key && (int)i != actor)
			state->entries[i].released = state->version;
}

/* Another nexus takes the registration away */
static void take_key(struct prs_state *state, struct prs_entry *entry, bool clear)
{
	entry->key = 0;
	entry->lost = state->version;
	entry->flags &= ~PRS_CLEARED;
	if (clear)
		entry->flags |= PRS_CLEARED;
}

/* --- States --- */

/**
 * prs_size - memory for a state
 * @capacity: entries it shall hold
 *
 * Return: bytes.
 */
size_t prs_size(u32 capacity)
{
	return sizeof(struct prs_state) + capacity * sizeof(struct prs_entry);
}

/**
 * prs_init - make a state that nothing has ever happened to
 * @state: memory of prs_size(@capacity) bytes, aligned for u64
 * @capacity: entries it shall hold, up to PRS_ENTRIES_MAX
 */
void prs_init(struct prs_state *state, u32 capacity)
{
	memset(state, 0, prs_size(capacity));
	state->capacity = capacity;
}

/**
 * prs_copy - copy a state
 * @to: a state whose capacity is @from->nr or more
 * @from: what to copy
 */
void prs_copy(struct prs_state *to, const struct prs_state *from)
{
	u16 capacity = to->capacity;

	memcpy(to, from, prs_size(from->nr));
	to->capacity = capacity;
}

/* That there is no version after it; unlike the next, it can be read. */
static bool is_last(const struct prs_state *state)
{
	return state->version >= VERSION_MAX;
}

static void begin(struct prs_state *new, const struct prs_state *old)
{
	prs_copy(new, old);
	new->version = old->version + 1;
}

/* Forgets what was long enough ago */
static void end(struct prs_state *new)
{
	u64 horizon = new->version > PRS_MEMORY ? new->version - PRS_MEMORY : 0;
	u32 i, n = 0;

	for (i = 0; i < new->nr; i++) {
		struct prs_entry *entry = &new->entries[i];

		if (entry->lost <= horizon) {
			entry->lost = 0;
			entry->flags &= ~PRS_CLEARED;
		}
		if (entry->released <= horizon)
			entry->released = 0;
		if (entry->aborted <= horizon)
			entry->aborted = 0;
		if (!entry->key && !last_event(entry))
			continue;
		if (n != i)
			new->entries[n] = *entry;
		n++;
	}
	new->nr = n;
}

static void changed(struct prs_state *new, struct prs_result *result)
{
	end(new);
	good(result, true);
}

/* --- PERSISTENT RESERVE OUT --- */

struct out {
	const struct prs_state *old;
	const struct prs_command *cmd;
	struct prs_state *new;
	struct prs_result *result;
	u64 key;		/* RESERVATION KEY */
	u64 action_key;		/* SERVICE ACTION RESERVATION KEY */
	u32 len;		/* of the parameter list */
	int actor;		/* registration of the nexus, in the old state; or -1 */
	u8 action;
	u8 scope;
	u8 type;
};

/* 6.14.1: those that need a registration and its key; answers if it has not */
static bool registered(const struct out *out)
{
	if (out->actor >= 0 && out->old->entries[out->actor].key == out->key)
		return true;
	conflict(out->result);
	return false;
}

/* LU_SCOPE and a type there is */
static bool valid_reservation(const struct out *out)
{
	if (!out->scope && valid_type(out->type))
		return true;
	invalid_cdb(out->result);
	return false;
}

/* The next target port that a registration is for; false if there is none */
static bool next_port(const struct out *out, bool all, u32 *i, u16 *port)
{
	const struct prs_command *cmd = out->cmd;

	if (!*i) {
		*port = cmd->nexus->port;
	} else {
		/* The command's own comes first, and once */
		while (all && *i <= cmd->nr_ports && cmd->ports[*i - 1] == cmd->nexus->port)
			++*i;
		if (!all || *i > cmd->nr_ports)
			return false;
		*port = cmd->ports[*i - 1];
	}
	++*i;
	return true;
}

/* Counts the registrations that a TransportID needs, or makes them */
static u32 register_initiator(const struct out *out, struct prs_state *new, struct prs_nexus *nexus,
			      bool all)
{
	u32 i = 0, n = 0;

	while (next_port(out, all, &i, &nexus->port)) {
		if (find(new ? new : out->old, nexus) >= 0)
			continue;
		n++;
		if (new)
			set_key(new, nexus, out->action_key);
	}
	return n;
}

/* The TransportIDs of SPEC_I_PT: checks them and counts registrations, or makes them */
static bool register_list(const struct out *out, struct prs_state *new, bool all, u32 *count)
{
	const u8 *params = out->cmd->params;
	struct prs_nexus nexus;
	u32 at = PARAMS_BASIC + 4, end, len;

	if (out->len < at) {
		bad_length(out->result);
		return false;
	}
	end = get_unaligned_be32(params + PARAMS_BASIC);
	if (end > out->len - at) {
		bad_length(out->result);
		return false;
	}
	end += at;
	for (; at < end; at += len) {
		len = prs_tid_parse(params + at, end - at, &nexus);
		if (!len) {
			invalid_params(out->result);
			return false;
		}
		*count += register_initiator(out, new, &nexus, all);
	}
	return true;
}

/* 5.7.7: REGISTER and REGISTER AND IGNORE EXISTING KEY */
static void do_register(const struct out *out)
{
	const struct prs_state *old = out->old;
	struct prs_state *new = out->new;
	struct prs_nexus nexus;
	u8 flags = out->cmd->params[20];
	bool ignore = out->action == SA_REGISTER_AND_IGNORE;
	bool all = flags & PARAM_ALL_TG_PT;
	bool list = flags & PARAM_SPEC_I_PT;
	bool released = false, touched = false;
	u32 i, wanted = 0;
	int at;

	if (!ignore && out->key != (out->actor < 0 ? 0 : old->entries[out->actor].key)) {
		conflict(out->result);
		return;
	}
	if (list && out->actor >= 0) {
		/* Only for a nexus that is not registered yet */
		invalid_params(out->result);
		return;
	}
	if (out->actor < 0 && !out->action_key) {
		good(out->result, false);
		return;
	}

	/* All target ports or none: see whether it can be done at each. */
	copy_nexus(&nexus, out->cmd->nexus);
	i = 0;
	while (next_port(out, all, &i, &nexus.port)) {
		at = find(old, &nexus);
		if (at < 0) {
			wanted++;
		} else if (!ignore && old->entries[at].key != out->key &&
			   old->entries[at].key != out->action_key) {
			conflict(out->result);
			return;
		}
	}
	if (list && !register_list(out, NULL, all, &wanted))
		return;
	if (out->action_key && registrations(old) + wanted > new->capacity) {
		no_room(out->result);
		return;
	}

	begin(new, old);
	i = 0;
	while (next_port(out, all, &i, &nexus.port)) {
		if (out->action_key) {
			set_key(new, &nexus, out->action_key);
			touched = true;
			continue;
		}
		at = find(new, &nexus);
		if (at < 0)
			continue;
		touched = true;
		/* 5.13.11.2: a holder that unregisters releases */
		new->entries[at].key = 0;
		if (new->entries[at].flags & PRS_HOLDER)
			released = true;
	}
	if (!touched) {
		good(out->result, false);
		return;
	}
	if (list)
		register_list(out, new, all, &wanted);
	if (released) {
		if (for_registrants(new->type))
			tell_released(new, -1);
		drop_reservation(new);
	} else if (all_registrants(new->type) && !registrations(new)) {
		drop_reservation(new);
	}
	new->aptpl = flags & PARAM_APTPL;
	new->generation++;
	changed(new, out->result);
}

/* 5.7.9 */
static void do_reserve(const struct out *out)
{
	const struct prs_state *old = out->old;

	if (!registered(out) || !valid_reservation(out))
		return;
	if (old->type) {
		if (holds(old, out->actor) && old->type == out->type)
			good(out->result, false);
		else
			conflict(out->result);
		return;
	}
	begin(out->new, old);
	set_reservation(out->new, out->type, out->actor);
	changed(out->new, out->result);
}

/* 5.7.11.2 */
static void do_release(const struct out *out)
{
	const struct prs_state *old = out->old;
	struct prs_state *new = out->new;

	if (!registered(out))
		return;
	if (!holds(old, out->actor)) {
		good(out->result, false);
		return;
	}
	if (out->scope || out->type != old->type) {
		invalid_release(out->result);
		return;
	}
	begin(new, old);
	if (for_registrants(old->type))
		tell_released(new, out->actor);
	drop_reservation(new);
	changed(new, out->result);
}

/* 5.7.11.6 */
static void do_clear(const struct out *out)
{
	struct prs_state *new = out->new;
	u32 i;

	if (!registered(out))
		return;
	begin(new, out->old);
	drop_reservation(new);
	for (i = 0; i < new->nr; i++) {
		struct prs_entry *entry = &new->entries[i];

		if ((int)i == out->actor)
			entry->key = 0;
		else if (entry->key)
			take_key(new, entry, true);
	}
	new->generation++;
	changed(new, out->result);
}

/* 5.7.11.4.1 to 5.7.11.4.4: PREEMPT and PREEMPT AND ABORT */
static void do_preempt(const struct out *out)
{
	const struct prs_state *old = out->old;
	struct prs_state *new = out->new;
	bool all = all_registrants(old->type);
	bool abort = out->action == SA_PREEMPT_AND_ABORT;
	bool takes = all && !out->action_key, matches = takes;
	u32 i;

	if (!registered(out))
		return;
	if (!out->action_key && !all) {
		invalid_params(out->result);
		return;
	}
	for (i = 0; i < old->nr && out->action_key; i++) {
		if (old->entries[i].key != out->action_key)
			continue;
		matches = true;
		if (!all && holds(old, i))
			takes = true;
	}
	if (!matches) {
		conflict(out->result);
		return;
	}
	if (takes && !valid_reservation(out))
		return;

	begin(new, old);
	for (i = 0; i < new->nr; i++) {
		struct prs_entry *entry = &new->entries[i];
		bool self = (int)i == out->actor;

		if (!entry->key)
			continue;
		/* Zero stands for all registrants */
		if (out->action_key && entry->key != out->action_key)
			continue;
		if (abort)
			entry->aborted = new->version;
		if (!self)
			take_key(new, entry, false);
		else if (!takes)
			entry->key = 0;
	}
	if (takes) {
		if (out->type != old->type)
			tell_released(new, out->actor);
		set_reservation(new, out->type, out->actor);
	} else if (all && !registrations(new)) {
		drop_reservation(new);
	}
	new->generation++;
	changed(new, out->result);
}

static bool known_port(const struct prs_command *cmd, u16 port)
{
	u32 i;

	if (port == cmd->nexus->port)
		return true;
	for (i = 0; i < cmd->nr_ports; i++)
		if (cmd->ports[i] == port)
			return true;
	return false;
}

/* 5.7.8 */
static void do_move(const struct out *out)
{
	const struct prs_state *old = out->old;
	const u8 *params = out->cmd->params;
	struct prs_state *new = out->new;
	struct prs_nexus nexus, actor;
	u32 len;
	int to;

	if (!registered(out))
		return;
	if (!old->type) {
		invalid_cdb(out->result);
		return;
	}
	if (all_registrants(old->type) || !holds(old, out->actor)) {
		conflict(out->result);
		return;
	}
	len = get_unaligned_be32(params + 20);
	if (len > out->len - PARAMS_BASIC) {
		bad_length(out->result);
		return;
	}
	nexus.port = get_unaligned_be16(params + 18);
	if (!out->action_key || !nexus.port || !known_port(out->cmd, nexus.port) ||
	    !parse_whole(params + PARAMS_BASIC, len, &nexus)) {
		invalid_params(out->result);
		return;
	}
	/* To one nexus, not to all of an iSCSI initiator, and not to itself */
	to = find(old, &nexus);
	if ((is_iscsi(&nexus) && !has_isid(&nexus)) || to == out->actor ||
	    !compare_nexus(&nexus, out->cmd->nexus)) {
		invalid_params(out->result);
		return;
	}
	if (to < 0 && registrations(old) >= new->capacity) {
		no_room(out->result);
		return;
	}

	begin(new, old);
	copy_nexus(&actor, &old->entries[out->actor].nexus);
	set_key(new, &nexus, out->action_key);
	set_reservation(new, old->type, find(new, &nexus));
	if (params[17] & PARAM_UNREG)
		new->entries[find_exact(new, &actor)].key = 0;
	new->aptpl = params[17] & PARAM_APTPL;
	new->generation++;
	changed(new, out->result);
}

static void persistent_out(struct out *out)
{
	const struct prs_command *cmd = out->cmd;

	/* SPC-2 5.5.1 */
	if (out->old->reserved) {
		conflict(out->result);
		return;
	}
	if (cmd->cdb_len < 10) {
		invalid_cdb(out->result);
		return;
	}
	out->action = cmd->cdb[1] & 0x1f;
	out->scope = cmd->cdb[2] >> 4;
	out->type = cmd->cdb[2] & 0x0f;
	if (out->action > SA_REGISTER_AND_MOVE) {
		/* No reservation gets lost here, so there is none to replace (6.14.2) */
		invalid_cdb(out->result);
		return;
	}
	out->len = get_unaligned_be32(cmd->cdb + 5);
	if (out->len < PARAMS_BASIC || out->len > cmd->params_len || out->len > PRS_PARAMS_MAX) {
		bad_length(out->result);
		return;
	}
	if (out->action != SA_REGISTER_AND_MOVE) {
		bool list = cmd->params[20] & PARAM_SPEC_I_PT;

		if (list && out->action != SA_REGISTER) {
			invalid_params(out->result);
			return;
		}
		if (!list && out->len != PARAMS_BASIC) {
			bad_length(out->result);
			return;
		}
	}
	out->key = get_unaligned_be64(cmd->params);
	out->action_key = get_unaligned_be64(cmd->params + 8);

	switch (out->action) {
	case SA_REGISTER:
	case SA_REGISTER_AND_IGNORE:
		do_register(out);
		break;
	case SA_RESERVE:
		do_reserve(out);
		break;
	case SA_RELEASE:
		do_release(out);
		break;
	case SA_CLEAR:
		do_clear(out);
		break;
	case SA_PREEMPT:
	case SA_PREEMPT_AND_ABORT:
		do_preempt(out);
		break;
	case SA_REGISTER_AND_MOVE:
		do_move(out);
		break;
	}
}

/* --- SPC-2 RESERVE and RELEASE (SPC-2 7.21 to 7.24) --- */

static void reserve_release(const struct out *out, bool reserve)
{
	const struct prs_command *cmd = out->cmd;
	const struct prs_state *old = out->old;
	struct prs_state *new = out->new;
	u8 third_party_or_extent = cmd->cdb_len < 10 ? 0x11 : 0x13;
	bool own;

	if (cmd->cdb[1] & third_party_or_extent) {
		invalid_cdb(out->result);
		return;
	}
	/* 5.7.3: compatible with those who hold a persistent reservation */
	if (holds(old, out->actor) || (out->actor >= 0 && for_registrants(old->type))) {
		good(out->result, false);
		return;
	}
	if (registrations(old)) {
		conflict(out->result);
		return;
	}
	own = old->reserved && !compare_nexus(&old->reserver, cmd->nexus);
	if (reserve ? old->reserved : !own) {
		if (reserve && !own)
			conflict(out->result);
		else
			good(out->result, false);
		return;
	}
	begin(new, old);
	new->reserved = reserve;
	if (reserve)
		copy_nexus(&new->reserver, cmd->nexus);
	else
		memset(&new->reserver, 0, sizeof(new->reserver));
	changed(new, out->result);
}

/**
 * prs_out - process PERSISTENT RESERVE OUT, RESERVE(6/10) or RELEASE(6/10)
 * @old: the state before
 * @cmd: the command
 * @new: with a capacity of PRS_ENTRIES_MAX, so that all nodes refuse alike; is
 *	the state afterwards if @result->changed, and otherwise undefined
 * @result: how to answer once the new state, if there is one, is in force
 */
void prs_out(const struct prs_state *old, const struct prs_command *cmd,
	     struct prs_state *new, struct prs_result *result)
{
	struct out out = {
		.old = old,
		.cmd = cmd,
		.new = new,
		.result = result,
		.actor = find(old, cmd->nexus),
	};

	if (cmd->cdb_len < 6) {
		invalid_operation(result);
		return;
	}
	if (is_last(old)) {
		no_room(result);
		return;
	}
	switch (cmd->cdb[0]) {
	case OP_PERSISTENT_OUT:
		persistent_out(&out);
		break;
	case OP_RESERVE_6:
	case OP_RESERVE_10:
		reserve_release(&out, true);
		break;
	case OP_RELEASE_6:
	case OP_RELEASE_10:
		reserve_release(&out, false);
		break;
	default:
		invalid_operation(result);
	}
}

static bool drop_reserver(const struct prs_state *old, struct prs_state *new)
{
	begin(new, old);
	new->reserved = false;
	memset(&new->reserver, 0, sizeof(new->reserver));
	end(new);
	return true;
}

/**
 * prs_reset - the unit is reset: SPC-2 reservations end, persistent ones stay
 * @old: the state before
 * @new: the state afterwards if it changes; as for prs_out()
 *
 * Return: whether it changes.
 */
bool prs_reset(const struct prs_state *old, struct prs_state *new)
{
	return old->reserved && !is_last(old) && drop_reserver(old, new);
}

/**
 * prs_nexus_loss - a nexus is lost, and with it its SPC-2 reservation
 * @old: the state before
 * @nexus: which one; if its tid_len is 0, all of its port
 * @new: the state afterwards if it changes; as for prs_out()
 *
 * Return: whether it changes.
 */
bool prs_nexus_loss(const struct prs_state *old, const struct prs_nexus *nexus,
		    struct prs_state *new)
{
	if (!old->reserved || old->reserver.port != nexus->port || is_last(old))
		return false;
	if (nexus->tid_len && compare_nexus(&old->reserver, nexus))
		return false;
	return drop_reserver(old, new);
}

/* --- PERSISTENT RESERVE IN --- */

/* What is read, cut off at the allocation length */
struct in {
	u8 *buf;
	u32 len;	/* room */
	u32 at;		/* bytes so far, as if there were room for all */
};

static void put(struct in *in, const u8 *data, u32 n)
{
	if (in->at < in->len) {
		u32 room = in->len - in->at;

		memcpy(in->buf + in->at, data, n < room ? n : room);
	}
	in->at += n;
}

static void put_header(struct in *in, const struct prs_state *state, u32 length)
{
	u8 header[8];

	put_unaligned_be32(state->generation, header);
	put_unaligned_be32(length, header + 4);
	put(in, header, sizeof(header));
}

/* 6.13.2 */
static void read_keys(const struct prs_state *state, struct in *in)
{
	u8 key[8];
	u32 i;

	put_header(in, state, 8 * registrations(state));
	for (i = 0; i < state->nr; i++) {
		if (!state->entries[i].key)
			continue;
		put_unaligned_be64(state->entries[i].key, key);
		put(in, key, sizeof(key));
	}
}

/* 6.13.3 */
static void read_reservation(const struct prs_state *state, struct in *in)
{
	u8 reservation[16] = {};
	u32 i;

	put_header(in, state, state->type ? sizeof(reservation) : 0);
	if (!state->type)
		return;
	/* Zero if all registrants hold it */
	for (i = 0; i < state->nr; i++)
		if (state->entries[i].flags & PRS_HOLDER)
			put_unaligned_be64(state->entries[i].key, reservation);
	reservation[13] = state->type;
	put(in, reservation, sizeof(reservation));
}

/* 6.13.4 */
static void report_capabilities(const struct prs_state *state, struct in *in)
{
	u8 data[8] = {
		0, sizeof(data),
		0x10 |		/* CRH: see reserve_release() */
		0x08 |		/* SIP_C: SPEC_I_PT */
		0x04 |		/* ATP_C: ALL_TG_PT */
		0x01,		/* PTPL_C */
		0x80 |		/* TMV: the type mask is valid */
		0x30,		/* ALLOW COMMANDS 011b: see prs_class() */
		0xea, 0x01,	/* the type mask: all six */
	};

	if (state->aptpl)
		data[3] |= 0x01;	/* PTPL_A */
	put(in, data, sizeof(data));
}

/* 6.13.5. Each nexus has a descriptor of its own, so ALL_TG_PT is never set. */
static void read_full_status(const struct prs_state *state, struct in *in)
{
	u32 i, length = 0;

	for (i = 0; i < state->nr; i++)
		if (state->entries[i].key)
			length += 24 + state->entries[i].nexus.tid_len;
	put_header(in, state, length);
	for (i = 0; i < state->nr; i++) {
		const struct prs_entry *entry = &state->entries[i];
		u8 status[24] = {};

		if (!entry->key)
			continue;
		put_unaligned_be64(entry->key, status);
		if (holds(state, i)) {
			status[12] = 0x01;	/* R_HOLDER */
			status[13] = state->type;
		}
		put_unaligned_be16(entry->nexus.port, status + 18);
		put_unaligned_be32(entry->nexus.tid_len, status + 20);
		put(in, status, sizeof(status));
		put(in, entry->nexus.tid, entry->nexus.tid_len);
	}
}

/**
 * prs_in - process PERSISTENT RESERVE IN
 * @state: the state
 * @cdb: the command, of @cdb_len bytes
 * @cdb_len: 10
 * @buf: gets the data
 * @len: bytes of @buf; the ALLOCATION LENGTH may be less or more
 * @result: how to answer; never says that anything changed
 *
 * Return: bytes put into @buf, the lesser of what there is to say, the
 * ALLOCATION LENGTH and @len.
 */
u32 prs_in(const struct prs_state *state, const u8 *cdb, u32 cdb_len,
	   u8 *buf, u32 len, struct prs_result *result)
{
	struct in in = { .buf = buf };

	if (cdb_len < 10 || cdb[0] != OP_PERSISTENT_IN) {
		invalid_operation(result);
		return 0;
	}
	/* SPC-2 5.5.1 */
	if (state->reserved) {
		conflict(result);
		return 0;
	}
	in.len = get_unaligned_be16(cdb + 7);
	if (in.len > len)
		in.len = len;
	switch (cdb[1] & 0x1f) {
	case SA_READ_KEYS:
		read_keys(state, &in);
		break;
	case SA_READ_RESERVATION:
		read_reservation(state, &in);
		break;
	case SA_REPORT_CAPABILITIES:
		report_capabilities(state, &in);
		break;
	case SA_READ_FULL_STATUS:
		read_full_status(state, &in);
		break;
	default:
		invalid_cdb(result);
		return 0;
	}
	good(result, false);
	return in.at < in.len ? in.at : in.len;
}

/* --- What is checked and done for each nexus --- */

/* SERVICE ACTION IN(16), MAINTENANCE IN and the like */
static u8 action_class(const u8 *cdb)
{
	u8 action = cdb[1] & 0x1f;

	switch (cdb[0]) {
	case 0x9e:		/* SERVICE ACTION IN(16) */
		switch (action) {
		case 0x10:	/* READ CAPACITY(16) */
			return 0;
		case 0x12:	/* GET LBA STATUS */
			return PRS_READ;
		case 0x13:	/* REPORT REFERRALS */
			return PRS_STATUS;
		default:
			return PRS_WRITE;
		}
	case 0xa3:		/* MAINTENANCE IN */
		switch (action) {
		case 0x0c:	/* REPORT SUPPORTED OPERATION CODES */
		case 0x0d:	/* REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS */
		case 0x10:	/* MANAGEMENT PROTOCOL IN */
			return PRS_READ;
		case 0x05:	/* REPORT IDENTIFYING INFORMATION */
		case 0x0a:	/* REPORT TARGET PORT GROUPS */
		case 0x0b:	/* REPORT ALIASES */
		case 0x0e:	/* REPORT PRIORITY */
		case 0x0f:	/* REPORT TIMESTAMP */
			return PRS_STATUS;
		default:
			return PRS_WRITE;
		}
	default:		/* SERVICE ACTION IN(12) */
		return action == 0x01 ? PRS_STATUS : PRS_WRITE;	/* READ MEDIA SERIAL NUMBER */
	}
}

/**
 * prs_class - which rights a command needs
 * @cdb: the command
 * @cdb_len: bytes of it, 6 or more
 *
 * SPC-4 table 45, SBC-3 table 13, SPC-2 table 9. What is not in them is as
 * WRITE. PERSISTENT RESERVE IN and OUT, RESERVE and RELEASE are class 0: their
 * own rules decide, see prs_in() and prs_out().
 *
 * Return: PRS_STATUS, PRS_READ, PRS_WRITE or 0.
 */
u8 prs_class(const u8 *cdb, u32 cdb_len)
{
	switch (cdb[0]) {
	case 0x03:	/* REQUEST SENSE */
	case 0x12:	/* INQUIRY */
	case 0x25:	/* READ CAPACITY(10) */
	case 0x4d:	/* LOG SENSE */
	case 0xa0:	/* REPORT LUNS */
	case OP_RESERVE_6:
	case OP_RELEASE_6:
	case OP_RESERVE_10:
	case OP_RELEASE_10:
	case OP_PERSISTENT_IN:
	case OP_PERSISTENT_OUT:
		return 0;
	case 0x1b:	/* START STOP UNIT: START without POWER CONDITION */
		return (cdb[4] & 0xf1) == 0x01 ? 0 : PRS_WRITE;
	case 0x1e:	/* PREVENT ALLOW MEDIUM REMOVAL: allow */
		return cdb[4] & 0x03 ? PRS_WRITE : 0;
	case 0x00:	/* TEST UNIT READY */
	case 0x86:	/* ACCESS CONTROL IN */
	case 0x87:	/* ACCESS CONTROL OUT */
		return PRS_STATUS;
	case 0x9e:
	case 0xa3:
	case 0xab:
		return action_class(cdb);
	case 0x08:	/* READ(6) */
	case 0x28:	/* READ(10) */
	case 0xa8:	/* READ(12) */
	case 0x88:	/* READ(16) */
	case 0x2f:	/* VERIFY(10) */
	case 0xaf:	/* VERIFY(12) */
	case 0x8f:	/* VERIFY(16) */
	case 0x34:	/* PRE-FETCH(10) */
	case 0x90:	/* PRE-FETCH(16) */
	case 0x37:	/* READ DEFECT DATA(10) */
	case 0xb7:	/* READ DEFECT DATA(12) */
	case 0x1a:	/* MODE SENSE(6) */
	case 0x5a:	/* MODE SENSE(10) */
	case 0x1c:	/* RECEIVE DIAGNOSTIC RESULTS */
	case 0x3c:	/* READ BUFFER */
	case 0x84:	/* RECEIVE COPY RESULTS */
	case 0x8c:	/* READ ATTRIBUTE */
	case 0xa2:	/* SECURITY PROTOCOL IN */
		return PRS_READ;
	case 0x7f:	/* READ(32), VERIFY(32) */
		if (cdb_len >= 10 && !cdb[8] && (cdb[9] == 0x09 || cdb[9] == 0x0a))
			return PRS_READ;
		return PRS_WRITE;
	default:
		return PRS_WRITE;
	}
}
EXPORT_SYMBOL_GPL(prs_class);

/**
 * prs_rights - which commands a nexus may send
 * @state: the state in force
 * @nexus: whose rights
 *
 * Return: PRS_STATUS, PRS_READ and PRS_WRITE, each if commands of that class
 * are allowed; see prs_class().
 */
u8 prs_rights(const struct prs_state *state, const struct prs_nexus *nexus)
{
	int i;

	if (state->reserved)
		return compare_nexus(&state->reserver, nexus) ? 0 : PRS_ALL_RIGHTS;
	if (!state->type)
		return PRS_ALL_RIGHTS;
	i = find(state, nexus);
	if (holds(state, i) || (i >= 0 && for_registrants(state->type)))
		return PRS_ALL_RIGHTS;
	return write_exclusive(state->type) ? PRS_STATUS | PRS_READ : PRS_STATUS;
}

static u8 entry_effects(const struct prs_state *state, int i, u64 since)
{
	const struct prs_entry *entry;
	u8 effects = 0;

	if (i < 0)
		return 0;
	entry = &state->entries[i];
	if (entry->lost > since)
		effects |= entry->flags & PRS_CLEARED ? PRS_UA_PREEMPTED : PRS_UA_REGISTRATION;
	if (entry->released > since)
		effects |= PRS_UA_RELEASED;
	if (entry->aborted > since)
		effects |= PRS_ABORT;
	return effects;
}

/**
 * prs_effects - what became of a nexus
 * @state: the state that comes into force
 * @nexus: which one
 * @since: version of the state that was in force before
 *
 * Return: PRS_UA_PREEMPTED, PRS_UA_RELEASED, PRS_UA_REGISTRATION and
 * PRS_ABORT, each if there is cause.
 */
u8 prs_effects(const struct prs_state *state, const struct prs_nexus *nexus, u64 since)
{
	return entry_effects(state, find_exact(state, nexus), since) |
	       entry_effects(state, find_device(state, nexus), since);
}
EXPORT_SYMBOL_GPL(prs_effects);

/* --- The state as bytes --- */

/*
 * Format 1, little-endian:
 *	 0  u32  magic
 *	 4  u16  format
 *	 6  u16  0
 *	 8  u64  version
 *	16  u32  length of all in bytes
 *	20  u32  CRC-32C of all, with zero in this field
 *	24  u32  PRGENERATION
 *	28  u8   type
 *	29  u8   flags: APTPL, SPC-2 reservation
 *	30  u16  number of entries
 *	32  the nexus that has the SPC-2 reservation, if there is one
 *	    entries, in ascending order
 * A nexus:
 *	 0  u16  port
 *	 2  u8   length of the TransportID
 *	 3  u8   flags of an entry, otherwise 0
 *	 4  TransportID
 * An entry: a nexus and
 *	    u64  key, if ENTRY_KEY
 *	    u64  lost, released, aborted: each if its flag is set
 */
#define MAGIC		0x53504c43	/* "CLPS" */
#define FORMAT		1
#define NEXUS_LEN	4
#define FLAG_APTPL	0x01
#define FLAG_RESERVED	0x02
#define ENTRY_LOST	0x04		/* PRS_HOLDER and PRS_CLEARED are as in memory */
#define ENTRY_RELEASED	0x08
#define ENTRY_ABORTED	0x10
#define ENTRY_KEY	0x20
#define ENTRY_FLAGS	0x3f

static u32 checksum(const u8 *buf, size_t len)
{
	static const u8 zero[4];
	u32 crc = crc32c(~0u, buf, 20);

	crc = crc32c(crc, zero, sizeof(zero));
	return ~crc32c(crc, buf + 24, len - 24);
}

static u8 entry_flags(const struct prs_entry *entry)
{
	u8 flags = entry->flags;

	if (entry->key)
		flags |= ENTRY_KEY;
	if (entry->lost)
		flags |= ENTRY_LOST;
	if (entry->released)
		flags |= ENTRY_RELEASED;
	if (entry->aborted)
		flags |= ENTRY_ABORTED;
	return flags;
}

static size_t numbers_len(u8 flags)
{
	return 8 * (!!(flags & ENTRY_KEY) + !!(flags & ENTRY_LOST) + !!(flags & ENTRY_RELEASED) +
		    !!(flags & ENTRY_ABORTED));
}

/**
 * prs_encoded_size - bytes that prs_encode() makes
 * @state: the state
 *
 * Return: bytes; 300 KiB are enough for every state.
 */
size_t prs_encoded_size(const struct prs_state *state)
{
	size_t size = PRS_HEADER_LEN;
	u32 i;

	if (state->reserved)
		size += NEXUS_LEN + state->reserver.tid_len;
	for (i = 0; i < state->nr; i++)
		size += NEXUS_LEN + state->entries[i].nexus.tid_len +
			numbers_len(entry_flags(&state->entries[i]));
	return size;
}

static u8 *encode_nexus(u8 *p, const struct prs_nexus *nexus, u8 flags)
{
	put_unaligned_le16(nexus->port, p);
	p[2] = nexus->tid_len;
	p[3] = flags;
	memcpy(p + NEXUS_LEN, nexus->tid, nexus->tid_len);
	return p + NEXUS_LEN + nexus->tid_len;
}

static u8 *encode_number(u8 *p, u64 number)
{
	if (!number)
		return p;
	put_unaligned_le64(number, p);
	return p + 8;
}

/**
 * prs_encode - a state as bytes, the same on every machine
 * @state: the state
 * @buf: gets them
 * @len: room in @buf
 *
 * Return: bytes written, or 0 if @len is less than prs_encoded_size().
 */
size_t prs_encode(const struct prs_state *state, u8 *buf, size_t len)
{
	size_t size = prs_encoded_size(state);
	u8 *p = buf + PRS_HEADER_LEN;
	u32 i;

	if (len < size)
		return 0;
	put_unaligned_le32(MAGIC, buf);
	put_unaligned_le16(FORMAT, buf + 4);
	put_unaligned_le16(0, buf + 6);
	put_unaligned_le64(state->version, buf + 8);
	put_unaligned_le32(size, buf + 16);
	put_unaligned_le32(state->generation, buf + 24);
	buf[28] = state->type;
	buf[29] = (state->aptpl ? FLAG_APTPL : 0) | (state->reserved ? FLAG_RESERVED : 0);
	put_unaligned_le16(state->nr, buf + 30);
	if (state->reserved)
		p = encode_nexus(p, &state->reserver, 0);
	for (i = 0; i < state->nr; i++) {
		const struct prs_entry *entry = &state->entries[i];

		p = encode_nexus(p, &entry->nexus, entry_flags(entry));
		p = encode_number(p, entry->key);
		p = encode_number(p, entry->lost);
		p = encode_number(p, entry->released);
		p = encode_number(p, entry->aborted);
	}
	put_unaligned_le32(checksum(buf, size), buf + 20);
	return size;
}

static int check_header(const u8 *buf, size_t len)
{
	if (len < 6)
		return PRS_E_TRUNCATED;
	if (get_unaligned_le32(buf) != MAGIC)
		return PRS_E_MAGIC;
	if (get_unaligned_le16(buf + 4) != FORMAT)
		return PRS_E_FORMAT;
	if (len < PRS_HEADER_LEN || len < get_unaligned_le32(buf + 16))
		return PRS_E_TRUNCATED;
	if (len > get_unaligned_le32(buf + 16) || get_unaligned_le16(buf + 30) > PRS_ENTRIES_MAX)
		return PRS_E_MALFORMED;
	return 0;
}

/**
 * prs_decode_capacity - how large a state must be to hold encoded bytes
 * @buf: what prs_encode() made
 * @len: bytes of it
 *
 * Return: entries, up to PRS_ENTRIES_MAX, or a negative PRS_E_…
 */
int prs_decode_capacity(const u8 *buf, size_t len)
{
	int error = check_header(buf, len);

	return error ? error : get_unaligned_le16(buf + 30);
}

struct input {
	const u8 *at;
	const u8 *end;
};

static bool decode_nexus(struct input *in, struct prs_nexus *nexus, u8 *flags)
{
	u32 len;

	if (in->end - in->at < NEXUS_LEN)
		return false;
	nexus->port = get_unaligned_le16(in->at);
	len = in->at[2];
	*flags = in->at[3];
	in->at += NEXUS_LEN;
	if ((size_t)(in->end - in->at) < len)
		return false;
	/* In its only form */
	if (!parse_whole(in->at, len, nexus) || nexus->tid_len != len ||
	    memcmp(nexus->tid, in->at, len))
		return false;
	in->at += len;
	return true;
}

static bool decode_number(struct input *in, bool present, u64 *number)
{
	if (!present)
		return true;
	if (in->end - in->at < 8)
		return false;
	*number = get_unaligned_le64(in->at);
	in->at += 8;
	return *number;
}

static bool decode_entry(struct input *in, u64 version, struct prs_entry *entry)
{
	u8 flags;

	if (!decode_nexus(in, &entry->nexus, &flags) || flags & ~ENTRY_FLAGS)
		return false;
	if (!decode_number(in, flags & ENTRY_KEY, &entry->key) ||
	    !decode_number(in, flags & ENTRY_LOST, &entry->lost) ||
	    !decode_number(in, flags & ENTRY_RELEASED, &entry->released) ||
	    !decode_number(in, flags & ENTRY_ABORTED, &entry->aborted))
		return false;
	entry->flags = flags & (PRS_HOLDER | PRS_CLEARED);
	if (last_event(entry) > version || (!entry->key && !last_event(entry)))
		return false;
	if ((flags & PRS_CLEARED) && !entry->lost)
		return false;
	return entry->key || !(flags & PRS_HOLDER);
}

/* What no sequence of commands makes */
static bool contradicts(const struct prs_state *state)
{
	u32 i, holders = 0, n = registrations(state);

	for (i = 0; i < state->nr; i++)
		holders += !!(state->entries[i].flags & PRS_HOLDER);
	if (state->reserved && n)
		return true;
	if (!state->type)
		return holders;
	if (!valid_type(state->type))
		return true;
	return all_registrants(state->type) ? holders || !n : holders != 1;
}

/**
 * prs_decode - a state from its bytes
 * @buf: what prs_encode() made
 * @len: bytes of it
 * @state: filled; its capacity must be prs_decode_capacity() or more
 *
 * Accepts nothing that prs_encode() would write in other bytes, and no state
 * that contradicts itself.
 *
 * Return: 0, or a negative PRS_E_… and @state is as prs_init() leaves it.
 */
int prs_decode(const u8 *buf, size_t len, struct prs_state *state)
{
	u32 capacity = state->capacity;
	struct input in = { .at = buf + PRS_HEADER_LEN, .end = buf + len };
	int error = check_header(buf, len);
	u8 flags;
	u32 i, nr;

	prs_init(state, capacity);
	if (error)
		return error;
	if (get_unaligned_le32(buf + 20) != checksum(buf, len))
		return PRS_E_CRC;
	nr = get_unaligned_le16(buf + 30);
	if (nr > capacity)
		return PRS_E_CAPACITY;
	state->version = get_unaligned_le64(buf + 8);
	state->generation = get_unaligned_le32(buf + 24);
	state->type = buf[28];
	state->aptpl = buf[29] & FLAG_APTPL;
	state->reserved = buf[29] & FLAG_RESERVED;
	if (state->version > VERSION_MAX)
		goto malformed;
	if (get_unaligned_le16(buf + 6) || buf[29] & ~(FLAG_APTPL | FLAG_RESERVED))
		goto malformed;
	if (state->reserved && (!decode_nexus(&in, &state->reserver, &flags) || flags))
		goto malformed;
	for (i = 0; i < nr; i++) {
		state->nr = i + 1;
		if (!decode_entry(&in, state->version, &state->entries[i]))
			goto malformed;
		if (i && compare_nexus(&state->entries[i - 1].nexus, &state->entries[i].nexus) >= 0)
			goto malformed;
	}
	if (in.at != in.end || contradicts(state))
		goto malformed;
	return 0;

malformed:
	prs_init(state, capacity);
	return PRS_E_MALFORMED;
}
