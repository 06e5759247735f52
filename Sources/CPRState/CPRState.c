// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
// The kernel's own file, so that there is one implementation only.
#include "../../kernel/blk-cluster/pr_state.c"
