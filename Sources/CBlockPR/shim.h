// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <linux/pr.h>
#include <stdint.h>
#include <sys/ioctl.h>

// Swift sees neither ioctl() nor the numbers that _IOW makes. Each returns 0, a PR_STS_* of linux/pr.h, or -1 with errno.

// PR_STS_RESERVATION_CONFLICT, which the header has since Linux 6.5 only.
enum { CLIO_PR_CONFLICT = 0x18 };

static inline int clio_pr_register(int fd, uint64_t old_key, uint64_t new_key, uint32_t flags)
{
    struct pr_registration registration = {.old_key = old_key, .new_key = new_key, .flags = flags};
    return ioctl(fd, IOC_PR_REGISTER, &registration);
}

static inline int clio_pr_clear(int fd, uint64_t key)
{
    struct pr_clear clear = {.key = key};
    return ioctl(fd, IOC_PR_CLEAR, &clear);
}
