// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <errno.h>
#include <linux/keyctl.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

// add_key(2), which the C library does not have, into the process' keyring and out again: 0 if the kernel takes such a
// payload, else a negative errno.
static inline int clio_key_try(const char *type, const char *description, const void *payload, size_t length)
{
    long key = syscall(SYS_add_key, type, description, payload, length, KEY_SPEC_PROCESS_KEYRING);

    if (key < 0)
        return -errno;
    syscall(SYS_keyctl, KEYCTL_UNLINK, key, KEY_SPEC_PROCESS_KEYRING);
    return 0;
}
