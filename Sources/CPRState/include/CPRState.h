// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#ifndef CPRSTATE_H
#define CPRSTATE_H

#include "../../../kernel/blk-cluster/pr_state.h"

/// An entry of a state; Swift does not see flexible array members.
static inline const struct prs_entry *prs_entry_at(const struct prs_state *state, u32 index)
{
	return &state->entries[index];
}

#endif
