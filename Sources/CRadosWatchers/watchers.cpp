// SPDX-License-Identifier: Apache-2.0
#include "CRadosWatchers.h"

#include <rados/librados.hpp>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <list>
#include <new>
#include <string>

extern "C" int clio_rados_list_watchers(rados_ioctx_t pool, const char *object, clio_rados_watcher **watchers,
                                        size_t *count)
try {
    *watchers = nullptr;
    *count = 0;

    librados::IoCtx context;
    librados::IoCtx::from_rados_ioctx_t(pool, context);
    std::list<obj_watch_t> found;
    const int result = context.list_watchers(std::string(object), &found);
    if (result < 0 || found.empty())
        return result;

    auto *list = static_cast<clio_rados_watcher *>(std::calloc(found.size(), sizeof(clio_rados_watcher)));
    if (list == nullptr)
        return -ENOMEM;
    size_t index = 0;
    for (const obj_watch_t &watch : found) {
        clio_rados_watcher &entry = list[index++];
        std::strncpy(entry.address, watch.addr, sizeof(entry.address) - 1);
        entry.instance = watch.watcher_id;
        entry.cookie = watch.cookie;
        entry.expiry_seconds = watch.timeout_seconds;
    }
    *watchers = list;
    *count = found.size();
    return 0;
} catch (const std::bad_alloc &) {
    return -ENOMEM;
} catch (...) {
    return -EIO;
}
