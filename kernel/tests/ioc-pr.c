// SPDX-License-Identifier: GPL-2.0
/*
 * Persistent reservations of a block device by the ioctls of linux/pr.h.
 *
 * usage: ioc-pr DEVICE register OLD NEW | ignore NEW | reserve KEY TYPE |
 *	release KEY TYPE | preempt KEY VICTIM TYPE | preempt-abort KEY VICTIM TYPE |
 *	clear KEY
 *
 * TYPE is a number of enum pr_type. Prints "good", "conflict", another status
 * or the error; exits with 0, 1 or 2.
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
	};
	size_t i;
	int fd, ret;

	if (argc < 4)
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
		printf("good\n");
		return 0;
	case CONFLICT:
		printf("conflict\n");
		return 1;
	default:
		printf("status %#x\n", ret);
		return 2;
	}
}
