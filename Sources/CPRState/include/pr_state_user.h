/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * What pr_state.c has in a kernel, for user space.
 */
#ifndef _BLK_CLUSTER_PR_STATE_USER_H
#define _BLK_CLUSTER_PR_STATE_USER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

#define U64_MAX UINT64_MAX
#define EXPORT_SYMBOL_GPL(symbol) _Static_assert(1, "a declaration to stand before its semicolon")

static inline uint64_t get_be(const uint8_t *p, int bytes)
{
	uint64_t value = 0;

	while (bytes--)
		value = value << 8 | *p++;
	return value;
}

static inline void put_be(uint64_t value, uint8_t *p, int bytes)
{
	for (; bytes--; value >>= 8)
		p[bytes] = value;
}

static inline uint64_t get_le(const uint8_t *p, int bytes)
{
	uint64_t value = 0;

	while (bytes--)
		value = value << 8 | p[bytes];
	return value;
}

static inline void put_le(uint64_t value, uint8_t *p, int bytes)
{
	for (; bytes--; value >>= 8)
		*p++ = value;
}

#define get_unaligned_be16(p)		((uint16_t)get_be(p, 2))
#define get_unaligned_be32(p)		((uint32_t)get_be(p, 4))
#define get_unaligned_be64(p)		get_be(p, 8)
#define put_unaligned_be16(value, p)	put_be(value, p, 2)
#define put_unaligned_be32(value, p)	put_be(value, p, 4)
#define put_unaligned_be64(value, p)	put_be(value, p, 8)
#define get_unaligned_le16(p)		((uint16_t)get_le(p, 2))
#define get_unaligned_le32(p)		((uint32_t)get_le(p, 4))
#define get_unaligned_le64(p)		get_le(p, 8)
#define put_unaligned_le16(value, p)	put_le(value, p, 2)
#define put_unaligned_le32(value, p)	put_le(value, p, 4)
#define put_unaligned_le64(value, p)	put_le(value, p, 8)

/* CRC-32C, neither inverted before nor after, as the kernel's */
static inline uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
	const uint8_t *p = data;

	while (len--) {
		crc ^= *p++;
		for (int bit = 0; bit < 8; bit++)
			crc = crc & 1 ? crc >> 1 ^ 0x82f63b78 : crc >> 1;
	}
	return crc;
}

#endif /* _BLK_CLUSTER_PR_STATE_USER_H */
