#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# clean.sh: remove kernel/out and what the cache holds of kernels, except a
# prepared tree with edits that are not in the series.

# shellcheck source=SCRIPTDIR/lib.sh
source "$(dirname "$0")/lib.sh"

rm -rf "$KERNEL_DIR/out" "$CACHE/um" "$CACHE/build" "$CACHE/fetch" "$CACHE/release"
for TREE in "$CACHE"/tree/*/; do
	TREE=${TREE%/}
	[[ -d $TREE ]] || continue
	if [[ -n $(tree_git status --porcelain --untracked-files=no) ||
		$(tree_git rev-parse HEAD) != "$(tree_git rev-parse -q --verify refs/tags/clio-prepared)" ]]; then
		note "Kept, because it has edits that no series has: $TREE"
		continue
	fi
	rm -rf "$TREE" "$TREE.lock"
done
