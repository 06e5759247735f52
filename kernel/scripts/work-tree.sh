#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# work-tree.sh prepare|refresh: a kernel tree to edit, one commit a patch, and
# back into the series. TREE= says where; FORCE=1 gives up edits not refreshed.

# shellcheck source=SCRIPTDIR/lib.sh
source "$(dirname "$0")/lib.sh"

check_kernel
need_commands cmp:diffutils
# One tree for each checkout of the project, unless told otherwise.
TREE=${TREE:-$CACHE/tree/$KERNEL-$(sha256sum <<<"$ROOT" | cut -c1-8)}
mapfile -t places < <(own_places)

exists() { [[ -f $TREE/.git/clio-id ]]; }

unsaved() {	# what in the tree is not in the series, if anything
	[[ $(tree_git rev-parse HEAD) == "$(tree_git rev-parse -q --verify refs/tags/clio-prepared)" ]] ||
		tree_git log --format='  commit %h %s' clio-prepared..HEAD
	tree_git status --porcelain --untracked-files=no
	new_own_files
}

new_own_files() { tree_git ls-files --others --exclude-standard -- "${places[@]}"; }

# Edits that git cannot see: files outside of what it tracks.
untracked_edits() {
	(cd "$TREE" && comm -23 \
		<(find . -name .git -prune -o -newer .git/clio-unpacked -type f -printf '%P\n' | sort) \
		<(tree_git ls-files | sort)) |
		{ tree_git check-ignore --no-index -v -n --stdin || true; } | sed -n 's/^::\t//p'
}

reset_tree() {
	tree_commits all
	tree_git checkout -q -f -B clio "$commit"
	tree_git tag -f clio-prepared "$commit" >/dev/null
}

prepare() {
	local id left

	id=$(source_id)
	lock "$TREE.lock"
	if exists && [[ ! ${FORCE:-} ]]; then
		left=$(unsaved)
		[[ -z $left ]] || die "$TREE has changes that the series does not have:" "$left" \
			"Keep them with: make -C kernel refresh" "or give them up with: make -C kernel prepare FORCE=1"
	fi
	if ! exists || [[ $(<"$TREE/.git/clio-id") != "$id" ]]; then
		[[ ! -e $TREE ]] || exists || die "$TREE is there and not ours" "Give another TREE= or remove it."
		mkdir -p "$(dirname "$TREE")"
		tree_create "$TREE" "$id"
	fi
	reset_tree
	note "Linux $id with $(series "$SERIES" | wc -l) patches:"
	printf '%s\n' "$TREE"
}

own_source() {	# own_source PATH-IN-TREE: our file, below kernel/
	local pattern target

	while read -r pattern target; do
		[[ -n $pattern && $pattern != '#'* ]] || continue
		if [[ $target == "$1" ]]; then
			printf '%s\n' "$pattern"
			return
		elif [[ $target == */ && $target == "${1%/*}/" ]]; then
			printf '%s\n' "${pattern%/*}/${1##*/}"
			return
		fi
	done <"$KERNEL_DIR/config/files"
	die "$1 in the tree has no place in kernel/" "Name one in kernel/config/files."
}

write_own() {
	local path file kept=()

	while read -r path; do
		[[ -f $TREE/$path ]] || continue
		file=$(own_source "$path")
		kept+=("$file")
		cmp -s "$TREE/$path" "$KERNEL_DIR/$file" && continue
		note "kernel/$file"
		install -D -m 644 "$TREE/$path" "$KERNEL_DIR/$file"
	done < <(tree_git ls-files -- "${places[@]}")
	while read -r file; do
		[[ " ${kept[*]} " != *" $file "* ]] || continue
		note "kernel/$file: removed"
		rm "$KERNEL_DIR/$file"
	done < <(own_files)
}

# write_series FOLDER COMMIT...: its patches and series file, touched only where
# they change
write_series() {
	local folder=$1 new number=0 id file name

	shift
	[[ -d $folder ]] || (($#)) || return 0
	mkdir -p "$folder"
	new=$(mktemp -d)
	sed -n '/^#/p' "$folder/series" >"$new/series" 2>/dev/null || true
	for id in "$@"; do
		((++number))
		tree_git format-patch -q -1 --start-number "$number" -N --zero-commit --no-signature \
			--abbrev=12 --stat=80 -o "$new" "$id" -- . "${places[@]/#/:(exclude)}"
		file=$(compgen -G "$new/$(printf %04d "$number")-*.patch")
		printf '%s\n' "${file##*/}" >>"$new/series"
	done
	for file in "$folder"/*.patch; do
		[[ ! -e $file || -e $new/${file##*/} ]] || { note "${file#"$ROOT"/}: removed"; rm "$file"; }
	done
	for file in "$new"/*; do
		name=$folder/${file##*/}
		cmp -s "$file" "$name" && continue
		note "${name#"$ROOT"/}"
		install -m 644 "$file" "$name"
	done
	rm -rf "$new"
}

refresh() {
	local left id paths main=() um=()

	exists || die "there is no prepared tree at $TREE" "Run: make -C kernel prepare"
	lock "$TREE.lock"
	left=$(tree_git status --porcelain --untracked-files=no -- . "${places[@]/#/:(exclude)}")
	[[ -z $left ]] || die "not committed in $TREE:" "$left" \
		"Commit it there: one patch is one commit (git commit --fixup and git rebase -i --autosquash help)."
	left=$(new_own_files)
	[[ -z $left ]] || die "new files in $TREE, but git does not know them:" "$left" "git add them there."
	left=$(untracked_edits)
	[[ -z $left ]] || die "edited in $TREE, but outside of what git tracks there:" "$left" \
		"Add the folder to kernel/config/paths, make -C kernel prepare TREE=another, and edit it there."
	[[ -z $(tree_git rev-list --merges clio-base..HEAD) ]] ||
		die "there are merges in $TREE" "A series is linear: rebase instead."
	for id in $(tree_git rev-list --reverse clio-base..HEAD); do
		paths=$(tree_git diff-tree --no-commit-id --name-only -r "$id" -- . "${places[@]/#/:(exclude)}")
		if [[ -z $paths ]]; then
			continue
		elif ! grep -qv '^arch/um/' <<<"$paths"; then
			um+=("$id")
		else
			main+=("$id")
		fi
	done
	write_own
	write_series "$SERIES" "${main[@]}"
	write_series "$SERIES-um" "${um[@]}"
	reset_tree
	note "The series is what $TREE holds: ${#main[@]} patches, and ${#um[@]} for the lab's kernel"
}

case ${1:-} in
prepare|refresh) "$1" ;;
*) die "work-tree.sh: no action ${1:-}" "prepare or refresh" ;;
esac
