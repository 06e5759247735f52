// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <sys/timex.h>

// adjtimex(2), which Swift's Glibc does not have: 1 if the kernel takes its clock for synchronised, 0 if not, -1 if it
// does not say.
static inline int clio_clock_synchronised(void)
{
    struct timex state = { .modes = 0 };
    int result = adjtimex(&state);

    if (result < 0)
        return -1;
    return result != TIME_ERROR && !(state.status & STA_UNSYNC);
}
