// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/*
 * Fuzzes kernel/blk-cluster/pr_state.c (libFuzzer, with address and undefined behaviour sanitizers).
 *
 * The first byte of an input says what the rest is: bytes to decode as they are, bytes to decode after their header and
 * checksum were made to fit, or commands for a new state. What was decoded gets commands too.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "CPRState.h"

#define CHECK(condition) do { \
	if (!(condition)) { \
		fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
		abort(); \
	} \
} while (0)

struct input {
	const u8 *at;
	size_t left;
};

static u8 byte(struct input *in)
{
	if (!in->left)
		return 0;
	in->left--;
	return *in->at++;
}

/* As many bytes as there are, at most n; a copy of exactly that size, so that reading beyond it is found */
static u8 *bytes(struct input *in, u32 *n)
{
	u8 *copy;

	if (*n > in->left)
		*n = in->left;
	copy = malloc(*n ? *n : 1);
	CHECK(copy);
	memcpy(copy, in->at, *n);
	in->at += *n;
	in->left -= *n;
	return copy;
}

static struct prs_state *state_new(u32 capacity)
{
	struct prs_state *state = malloc(prs_size(capacity));

	CHECK(state);
	prs_init(state, capacity);
	return state;
}

/* One of a few, so that they meet again */
static struct prs_nexus nexus(u8 choice)
{
	static const char *const names[] = {
		"iqn.a,i,0x000000000001", "iqn.a,i,0x000000000002", "iqn.b,i,0x000000000001",
	};
	struct prs_nexus nexus = {};
	u8 tid[44] = {};

	switch (choice & 7) {
	case 0:
	case 1:
	case 2:
		tid[0] = 0x45;
		strcpy((char *)tid + 4, names[choice & 7]);
		tid[3] = 40;
		break;
	case 3:
		tid[0] = 0x05;
		strcpy((char *)tid + 4, "iqn.a");
		tid[3] = 40;
		break;
	default:
		tid[0] = (choice & 7) == 4 ? PRS_PROTO_FC : (choice & 7) == 5 ? PRS_PROTO_SRP : PRS_PROTO_SAS;
		tid[9] = choice & 7;
	}
	CHECK(prs_tid_parse(tid, sizeof(tid), &nexus));
	nexus.port = choice >> 3 & 3;
	return nexus;
}

static u32 count(const struct prs_state *state, bool registered, u8 flags)
{
	u32 i, n = 0;

	for (i = 0; i < state->nr; i++)
		n += (!registered || state->entries[i].key) && (state->entries[i].flags & flags) == flags;
	return n;
}

/* What holds of every state */
static void check_state(const struct prs_state *state)
{
	size_t size = prs_encoded_size(state);
	u8 *one = malloc(size), *two = malloc(size);
	struct prs_state *copy;
	u8 choice;
	int capacity;

	CHECK(one && two);
	CHECK(prs_encode(state, one, size) == size);
	capacity = prs_decode_capacity(one, size);
	CHECK(capacity == state->nr);
	copy = state_new(capacity);
	CHECK(prs_decode(one, size, copy) == 0);
	CHECK(prs_encoded_size(copy) == size);
	CHECK(prs_encode(copy, two, size) == size);
	CHECK(!memcmp(one, two, size));
	CHECK(count(state, false, PRS_HOLDER) <= 1);
	CHECK(count(state, false, PRS_HOLDER) == 0 || state->type);
	CHECK(!state->reserved || !count(state, true, 0));
	for (choice = 0; choice < 32; choice++) {
		struct prs_nexus who = nexus(choice);
		u8 rights = prs_rights(state, &who);

		CHECK(prs_rights(copy, &who) == rights);
		CHECK(!prs_effects(state, &who, state->version));
		CHECK(prs_effects(copy, &who, 0) == prs_effects(state, &who, 0));
		CHECK(state->type || state->reserved || rights == PRS_ALL_RIGHTS);
	}
	free(one);
	free(two);
	free(copy);
}

static void read_state(const struct prs_state *state, struct input *in)
{
	u8 cdb[10] = { 0x5e, byte(in), [7] = byte(in), [8] = byte(in) };
	u32 len = byte(in) * 16, n;
	struct prs_result result;
	u8 *buf = malloc(len ? len : 1);

	CHECK(buf);
	n = prs_in(state, cdb, sizeof(cdb), buf, len, &result);
	CHECK(n <= len && n <= (u32)(cdb[7] << 8 | cdb[8]));
	CHECK(!result.changed && (result.status == PRS_GOOD || !n));
	free(buf);
}

/* A parameter list that is well-formed up to where the input says otherwise */
static u32 parameters(struct input *in, u8 action, u8 *list)
{
	u32 at = 24, ids = byte(in) & 3;
	u8 flags = byte(in) & 0x0f;

	memset(list, 0, 24);
	list[7] = byte(in) & 3;
	list[15] = byte(in) & 3;
	if (action == 7) {
		list[17] = flags & 3;
		list[19] = byte(in) & 3;
		ids = 1;
	} else {
		list[20] = flags;
		if (!(flags & 0x08))
			return at;
		at = 28;
	}
	while (ids--) {
		struct prs_nexus who = nexus(byte(in));

		memcpy(list + at, who.tid, who.tid_len);
		at += who.tid_len;
	}
	if (action == 7)
		list[23] = at - 24;
	else
		list[27] = at - 28;
	return at;
}

static void commands(struct prs_state *first, struct input *in)
{
	static const u16 ports[] = { 1, 2, 3 };
	static struct prs_state *room;	/* large, so made once only */
	struct prs_state *old = first, *new;
	u32 i;

	if (!room)
		room = state_new(PRS_ENTRIES_MAX);

	for (i = 0; i < 64 && in->left; i++) {
		struct prs_nexus who = nexus(byte(in));
		u8 how = byte(in), list[512];
		struct prs_result result = {};
		struct prs_command command = { .nexus = &who, .ports = ports, .nr_ports = how >> 6 };
		u8 *cdb = NULL, *params = NULL;
		bool changed;

		switch (how & 7) {
		case 0:		/* anything at all */
			command.cdb_len = byte(in) & 15;
			cdb = bytes(in, &command.cdb_len);
			command.params_len = byte(in);
			params = bytes(in, &command.params_len);
			command.cdb = cdb;
			command.params = params;
			prs_out(old, &command, room, &result);
			changed = result.changed;
			if (command.cdb_len >= 6)
				prs_class(cdb, command.cdb_len);
			break;
		case 1:
			changed = prs_reset(old, room);
			break;
		case 2:
			if (how & 8)
				who.tid_len = 0;
			changed = prs_nexus_loss(old, &who, room);
			break;
		case 3:		/* RESERVE, RELEASE */
			command.cdb_len = how & 8 ? 10 : 6;
			cdb = calloc(1, command.cdb_len);
			CHECK(cdb);
			cdb[0] = (how & 8 ? 0x56 : 0x16) + (how >> 4 & 1);
			command.cdb = cdb;
			prs_out(old, &command, room, &result);
			changed = result.changed;
			break;
		default:	/* PERSISTENT RESERVE OUT */
			command.cdb_len = 10;
			cdb = calloc(1, command.cdb_len);
			CHECK(cdb);
			cdb[0] = 0x5f;
			cdb[1] = byte(in) & 7;
			cdb[2] = byte(in) & 0x0f;
			command.params_len = parameters(in, cdb[1], list);
			params = malloc(command.params_len);
			CHECK(params);
			memcpy(params, list, command.params_len);
			cdb[7] = command.params_len >> 8;
			cdb[8] = command.params_len;
			command.cdb = cdb;
			command.params = params;
			prs_out(old, &command, room, &result);
			changed = result.changed;
		}
		free(cdb);
		free(params);
		CHECK(!changed || result.status == PRS_GOOD);
		if (changed) {
			CHECK(room->version == old->version + 1);
			CHECK(room->generation - old->generation <= 1);
			check_state(room);
			new = state_new(room->nr);
			prs_copy(new, room);
			free(old);
			old = new;
		}
		if (how & 0x20)
			read_state(old, in);
	}
	free(old);
}

static u32 crc(const u8 *data, size_t len)
{
	u32 crc = ~0u;

	while (len--) {
		crc ^= *data++;
		for (int bit = 0; bit < 8; bit++)
			crc = crc & 1 ? crc >> 1 ^ 0x82f63b78 : crc >> 1;
	}
	return ~crc;
}

static void put32(u8 *p, u32 value)
{
	p[0] = value;
	p[1] = value >> 8;
	p[2] = value >> 16;
	p[3] = value >> 24;
}

/* Makes bytes such that only what they say decides */
static void seal(u8 *buf, u32 len)
{
	if (len < PRS_HEADER_LEN)
		return;
	memcpy(buf, "CLPS\1\0\0\0", 8);
	put32(buf + 16, len);
	put32(buf + 20, 0);
	put32(buf + 20, crc(buf, len));
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct input in = { .at = data, .left = size };
	u8 mode = byte(&in);
	struct prs_state *state;
	u32 len = in.left;
	int capacity;
	u8 *buf;

	if (mode < 128) {
		commands(state_new(0), &in);
		return 0;
	}
	/* The second byte leaves some for commands */
	len -= byte(&in);
	if (len > in.left)
		len = in.left;
	buf = bytes(&in, &len);
	if (mode & 1)
		seal(buf, len);
	capacity = prs_decode_capacity(buf, len);
	if (capacity >= 0) {
		state = state_new(capacity);
		if (!prs_decode(buf, len, state)) {
			u8 *again = malloc(len);

			CHECK(again && prs_encode(state, again, len) == len);
			CHECK(!memcmp(buf, again, len));
			free(again);
			check_state(state);
			commands(state, &in);
		} else {
			CHECK(!state->nr && !state->version);
			free(state);
		}
	}
	free(buf);
	return 0;
}
