// SPDX-License-Identifier: GPL-2.0
/*
 * Persistent reservations of a block device by the ioctls of linux/pr.h.
 *
 * usage: ioc-pr DEVICE register OLD NEW | ignore NEW | reserve KEY TYPE |
 *	release KEY TYPE | preempt KEY VICTIM TYPE | preempt-abort KEY VICTIM TYPE |
 *	clear KEY | keys ROOM | reservation
 *
 * TYPE is a number of enum pr_type. Prints "good", "conflict", another status
 * or the error; exits with 0, 1 or 2. Behind "good", keys prints the number of
 * keys and at most ROOM of them, and reservation prints its key and TYPE.
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/pr.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

/* enum pr_status, which the header has since Linux 6.5 only */
#define GOOD		0
#define CONFLICT	0x18

/* Not in older headers: commits 22a1ffea5f80 and 3e2cb9ee76c2 */
struct read_keys {
	uint32_t generation;
	uint32_t num_keys;
	uint64_t keys_ptr;
};

struct read_reservation {
	uint64_t key;
	uint32_t generation;
	uint32_t type;
};

#define READ_KEYS		_IOWR('p', 206, struct read_keys)
#define READ_RESERVATION	_IOR('p', 207, struct read_reservation)

#define ROOM_MAX	64

static int usage(void)
{
	fprintf(stderr, "usage: ioc-pr DEVICE ACTION KEY...; see the source\n");
	return 3;
}

static uint64_t arg(int argc, char **argv, int index)
{
	return index < argc ? strtoull(argv[index], NULL, 0) : 0;
}

int main(int argc, char **argv)
{
	const uint64_t a = arg(argc, argv, 3), b = arg(argc, argv, 4);
	const uint64_t c = arg(argc, argv, 5);
	struct pr_registration registration = { .old_key = a, .new_key = b };
	struct pr_registration ignore = {
		.new_key = a, .flags = PR_FL_IGNORE_KEY,
	};
	struct pr_reservation reservation = { .key = a, .type = b };
	struct pr_preempt preempt = { .old_key = a, .new_key = b, .type = c };
	struct pr_clear clear = { .key = a };
	uint64_t list[ROOM_MAX] = { 0 };
	struct read_keys keys = {
		.num_keys = a < ROOM_MAX ? a : ROOM_MAX,
		.keys_ptr = (uintptr_t)list,
	};
	const uint32_t room = keys.num_keys;
	struct read_reservation held = { 0 };
	const struct {
		const char *name;
		unsigned long request;
		void *data;
	} actions[] = {
		{ "register", IOC_PR_REGISTER, &registration },
		{ "ignore", IOC_PR_REGISTER, &ignore },
		{ "reserve", IOC_PR_RESERVE, &reservation },
		{ "release", IOC_PR_RELEASE, &reservation },
		{ "preempt", IOC_PR_PREEMPT, &preempt },
		{ "preempt-abort", IOC_PR_PREEMPT_ABORT, &preempt },
		{ "clear", IOC_PR_CLEAR, &clear },
		{ "keys", READ_KEYS, &keys },
		{ "reservation", READ_RESERVATION, &held },
	};
	size_t i;
	int fd, ret;

	if (argc < 3)
		return usage();
	for (i = 0; i < sizeof(actions) / sizeof(actions[0]); i++) {
		if (!strcmp(argv[2], actions[i].name))
			break;
	}
	if (i == sizeof(actions) / sizeof(actions[0]))
		return usage();

	fd = open(argv[1], O_RDWR);
	ret = fd < 0 ? -1 : ioctl(fd, actions[i].request, actions[i].data);
	if (ret < 0) {
		printf("%s\n", strerror(errno));
		return 2;
	}
	switch (ret) {
	case GOOD:
		printf("good");
		if (actions[i].data == &keys) {
			printf(" %u", keys.num_keys);
			for (i = 0; i < keys.num_keys && i < room; i++)
				printf(" %#llx", (unsigned long long)list[i]);
		} else if (actions[i].data == &held) {
			printf(" %#llx %u", (unsigned long long)held.key, held.type);
		}
		printf("\n");
		return 0;
	case CONFLICT:
		printf("conflict\n");
		return 1;
	default:
		printf("status %#x\n", ret);
		return 2;
	}
}
