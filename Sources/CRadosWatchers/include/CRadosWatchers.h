// SPDX-License-Identifier: Apache-2.0
//
// Who watches an object. librados tells that through its C++ interface only (librados::IoCtx::list_watchers), so this is the
// one call of it in C.
#pragma once

#include <rados/librados.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct clio_rados_watcher {
    char address[256];
    int64_t instance;
    uint64_t cookie;
    uint32_t expiry_seconds;
};

// Lists the watchers of an object, in memory the caller releases with free(3). Blocks for as long as an operation on an OSD
// may take. Returns 0 or a negative errno.
int clio_rados_list_watchers(rados_ioctx_t pool, const char *object, struct clio_rados_watcher **watchers, size_t *count);

#ifdef __cplusplus
}
#endif
