// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <libkmod.h>
#include <stddef.h>

// kmod_set_log_fn wants a function that takes a va_list, which Swift cannot write. libkmod's own messages say less than
// our errors do, so they are dropped.
static inline void clio_kmod_discard(void *data, int priority, const char *file, int line, const char *function,
                                     const char *format, va_list arguments)
{
    (void)data; (void)priority; (void)file; (void)line; (void)function; (void)format; (void)arguments;
}

// Keeps libkmod from writing to standard error.
static inline void clio_kmod_silence(struct kmod_ctx *context)
{
    kmod_set_log_fn(context, clio_kmod_discard, NULL);
}
