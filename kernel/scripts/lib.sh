# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# What the kernel toolkit's scripts share: where things are, which kernel it is,
# and trees of it with one commit a patch. To be sourced.

set -euo pipefail

KERNEL_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)	# kernel/ of this checkout
ROOT=$(dirname "$KERNEL_DIR")
CACHE=${CLIO_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/clio}
KERNEL=${KERNEL:-6.12}
SRC=${SRC:-}
PATCHES=${PATCHES:-$ROOT/patches}
CC=${CC:-gcc}

export LC_ALL=C
# Neither the caller's make flags nor its git shall change what comes out here.
unset MAKEFLAGS MFLAGS MAKELEVEL GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
export GIT_COMMITTER_NAME="Clio kernel toolkit" GIT_COMMITTER_EMAIL=kernel@clio.invalid

note() { printf '%s\n' "$*" >&2; }

# die WHAT REMEDY...
die() {
	local line

	note "kernel: error: $1"
	shift
	for line in "$@"; do
		note "  $line"
	done
	exit 1
}

# need_commands: what a kernel build takes, installed where we may
need_commands() {
	local wanted=(bc:bc bison:bison flex:flex "$CC:gcc" git:git kmod:kmod make:make xz:xz-utils perl:perl)
	local entry missing=()

	for entry in "${wanted[@]}" "$@"; do
		command -v "${entry%%:*}" >/dev/null || PATH=$PATH:/usr/sbin:/sbin command -v "${entry%%:*}" >/dev/null ||
			missing+=("${entry#*:}")
	done
	[[ -e /usr/include/stdio.h ]] || missing+=(libc6-dev)
	((${#missing[@]})) || return 0
	install_packages "${missing[@]}"
}

install_packages() {
	if [[ $EUID != 0 ]] || ! command -v apt-get >/dev/null; then
		die "not installed: $*" "As root: apt-get install $*"
	fi
	note "Installing $*"
	DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@" >&2 ||
		die "apt-get could not install $*" "Run apt-get update, then try again."
}

# The series of $KERNEL: its own, or that of all kernels of its major version.
SERIES=$PATCHES/$KERNEL
[[ -f $SERIES/series || ! -f $PATCHES/${KERNEL%%.*}.x/series ]] || SERIES=$PATCHES/${KERNEL%%.*}.x

check_kernel() {
	[[ $KERNEL != *.x && -f $SERIES/series ]] ||
		die "there are no patches for KERNEL=$KERNEL" \
		    "Give KERNEL=<version> of one of: $(series_kernels)"
}

series_kernels() {
	local series

	for series in "$PATCHES"/*/series; do
		[[ -f $series ]] || continue
		series=${series%/series}
		series=${series##*/}
		[[ $series == *-um ]] || printf '%s ' "$series"
	done
}

series() {	# series FOLDER
	[[ -f $1/series ]] || return 0
	sed -e 's/#.*//' -e 's/[[:space:]]*$//' -e '/^$/d' "$1/series"
}

own_files() {	# our files, as paths below kernel/
	(cd "$KERNEL_DIR" && sed -e '/^#/d' -e '/^$/d' config/files | while read -r pattern _; do
		[[ -d ${pattern%/*} ]] || continue
		# shellcheck disable=SC2086 # a pattern
		find ${pattern%/*} -maxdepth 1 -type f -path "$pattern" ! -name '.*' ! -name '*~'
	done | sort -u)
}

own_target() {	# own_target FILE: its path in the tree
	local pattern target

	while read -r pattern target; do
		[[ -n $pattern && $pattern != '#'* ]] || continue
		# shellcheck disable=SC2053 # a pattern
		if [[ $1 == $pattern ]]; then
			[[ $target != */ ]] || target+=${1##*/}
			printf '%s\n' "$target"
			return
		fi
	done <"$KERNEL_DIR/config/files"
	die "kernel/$1 has no place in a kernel tree" "Name one in kernel/config/files."
}

own_places() {	# the files and folders of the tree that are ours
	sed -e '/^#/d' -e '/^$/d' "$KERNEL_DIR/config/files" | while read -r _ target; do
		printf '%s\n' "${target%/}"
	done
}

# --- The kernel's source ---

package=linux-source-$KERNEL

# The tarball of the distribution's package: installed, or downloaded by fetch.sh.
tarball() {
	local file

	for file in "/usr/src/$package.tar.xz" "$CACHE/fetch/$package.tar.xz"; do
		if [[ -f $file ]]; then
			printf '%s\n' "$file"
			return
		fi
	done
	return 1
}

tree_version() {	# tree_version <Makefile: 6.12.117
	awk -F' *= *' '$1 == "VERSION" {v = $2} $1 == "PATCHLEVEL" {p = $2} $1 == "SUBLEVEL" {s = $2; print v "." p "." s; exit}'
}

tar_member_makefile() {	# the top Makefile within a tarball, whatever its top folder
	tar -xOf "$1" --wildcards --no-wildcards-match-slash --occurrence=1 '*/Makefile' 2>/dev/null || true
}

# source_id: a name for exactly this source, usable as a file name
source_id() {
	local file version

	if [[ -n $SRC ]]; then
		[[ -e $SRC ]] || die "SRC=$SRC is not there" "Give an unpacked kernel tree or a tarball of one."
		if [[ -d $SRC ]]; then
			[[ -f $SRC/Makefile && -f $SRC/Kconfig ]] ||
				die "SRC=$SRC is not a kernel tree: no Makefile and Kconfig in it" \
				    "Give the folder that holds both."
			version=$(tree_version <"$SRC/Makefile")
		else
			version=$(tar_member_makefile "$SRC" | tree_version)
			[[ -n $version ]] || die "SRC=$SRC is not a tarball of a kernel" \
				"Give a tarball with one top folder that holds the kernel's Makefile."
		fi
		[[ $version == "$KERNEL" || $version == "$KERNEL".* ]] ||
			die "SRC=$SRC is Linux ${version:-of an unknown version}, not $KERNEL" \
			    "Give KERNEL= the matching one of: $(series_kernels)"
		if [[ -d $SRC ]]; then
			printf '%s-%s\n' "$version" "$(find "$SRC" -name .git -prune -o -type f -printf '%P %s %T@\n' |
				sort | sha256sum | cut -c1-12)"
		else
			printf '%s-%s\n' "$version" "$(sha256sum "$SRC" | cut -c1-12)"
		fi
		return
	fi
	file=$(tarball) || die "the source of Linux $KERNEL is not on this machine" \
		"Run: make -C kernel fetch KERNEL=$KERNEL" "or give SRC= an unpacked kernel tree or a tarball of one."
	if [[ $file == /usr/src/* ]]; then
		# shellcheck disable=SC2016 # dpkg-query's own
		version=$(dpkg-query -W -f '${Version}' "$package")
	else
		version=$(<"$CACHE/fetch/$package.version")
	fi
	printf '%s\n' "$version"
}

source_unpack() {	# source_unpack FOLDER
	local file

	mkdir -p "$1"
	if [[ -d $SRC ]]; then
		tar -C "$SRC" --exclude=./.git -cf - . | tar -C "$1" -xf -
		[[ ! -e $1/.config && ! -d $1/include/config ]] ||
			die "SRC=$SRC has been built in" "Run make mrproper in it, or give a clean tree."
		return
	fi
	file=${SRC:-$(tarball)}
	tar -C "$1" --strip-components=1 -xf "$file"
}

# --- Trees: a git repository with one commit a patch ---

tree_git() { git -C "$TREE" -c core.compression=0 -c gc.auto=0 -c core.hooksPath=/dev/null "$@"; }

patched_paths() {	# each file that a patch of any series here touches
	sed -n 's,^\(---\|+++\) [ab]/\([^\t]*\).*,\2,p' "$SERIES"/{,modules/}*.patch "$SERIES-um"/*.patch 2>/dev/null |
		sort -u || true
}

# tree_create FOLDER ID: unpack the source of that id and commit it as clio-base
tree_create() {
	local new=$1.new.$$ path paths=()

	note "Unpacking Linux $2"
	rm -rf "$1".new.*	# what an interrupted run left, too; the caller holds a lock
	source_unpack "$new"
	while read -r path; do
		[[ ! -e $new/$path ]] || paths+=("$path")
	done < <({ sed -e '/^#/d' "$KERNEL_DIR/config/paths"; patched_paths; } | sort -u)
	TREE=$new
	tree_git init -q -b clio
	tree_git config status.showUntrackedFiles no
	tree_git config advice.detachedHead false
	tree_git config core.abbrev 12
	tree_git add -f -- "${paths[@]}"
	printf 'Linux %s\n' "$2" | commit_index_file "$new/.git/index" >"$new/.git/refs/heads/clio"
	tree_git tag clio-base
	printf '%s\n' "$2" >"$new/.git/clio-id"
	touch "$new/.git/clio-unpacked"
	rm -rf "$1"
	mv "$new" "$1"
	TREE=$1
}

# The functions below make commits in $TREE's repository without its work tree,
# so that a checkout changes no more files than it must.

with_index() { GIT_INDEX_FILE=$TREE/.git/clio-index tree_git "$@"; }

commit_index_file() {	# commit_index_file INDEX [-p PARENT] <MESSAGE: prints the new commit
	local index=$1 author=${GIT_AUTHOR_NAME:-$GIT_COMMITTER_NAME}

	shift
	GIT_AUTHOR_NAME=$author GIT_AUTHOR_EMAIL=${GIT_AUTHOR_EMAIL:-$GIT_COMMITTER_EMAIL} \
		GIT_AUTHOR_DATE=${GIT_AUTHOR_DATE:-@0 +0000} GIT_COMMITTER_DATE='@0 +0000' \
		tree_git commit-tree "$@" "$(GIT_INDEX_FILE=$index tree_git write-tree)"
}

commit_index() {	# commit_index PARENT <MESSAGE
	git stripspace | commit_index_file "$TREE/.git/clio-index" -p "$1"
}

# commit_patch PARENT FILE: prints the commit
commit_patch() {
	local work author email date subject

	work=$(mktemp -d)
	[[ -f $2 ]] || die "${2#"$ROOT"/} is in the series, but not there" "Add the file or take it out of the series."
	git mailinfo "$work/body" "$work/diff" <"$2" >"$work/info" ||
		die "${2#"$ROOT"/} is not a patch in mail format" "Make it with: make -C kernel refresh"
	info() { sed -n "s/^$1: //p" "$work/info"; }
	author=$(info Author) email=$(info Email) date=$(info Date) subject=$(info Subject)
	[[ -n $author && -n $email && -n $date && -n $subject ]] ||
		die "${2#"$ROOT"/} lacks From, Date or Subject" "Make it with: make -C kernel refresh"
	if ! with_index apply --cached --check "$2" 2>/dev/null; then
		with_index apply --cached --check --verbose "$2" >&2 || true
		rm -rf "$work"
		die "${2#"$ROOT"/} does not apply to Linux $(<"$TREE/.git/clio-id")" \
		    "The hunk is shown above. Rebase it in a prepared tree, then: make -C kernel refresh"
	fi
	with_index apply --cached --whitespace=nowarn "$2"
	{ printf '%s\n\n' "$subject"; cat "$work/body"; } |
		GIT_AUTHOR_NAME=$author GIT_AUTHOR_EMAIL=$email GIT_AUTHOR_DATE=$date commit_index "$1"
	rm -rf "$work"
}

# commit_series PARENT FOLDER: prints each commit, the parent first
commit_series() {
	local commit=$1 patch

	printf '%s\n' "$commit"
	with_index read-tree "$commit"
	for patch in $(series "$2"); do
		commit=$(commit_patch "$commit" "$2/$patch") || exit 1
		printf '%s\n' "$commit"
	done
}

# commit_own PARENT: our files, where they belong; prints the commit
commit_own() {
	local file blob target

	with_index read-tree "$1"
	for file in $(own_files); do
		target=$(own_target "$file")
		blob=$(tree_git hash-object -w "$KERNEL_DIR/$file")
		with_index update-index --add --cacheinfo "100644,$blob,$target"
	done
	printf 'Files of our own\n\nThey live in kernel/, see kernel/config/files.\n' | commit_index "$1"
}

# --- Builds ---

# um_config: the fragments of configuration that all flavours of $KERNEL have
um_config() {
	local fragment

	for fragment in "$KERNEL_DIR/config/um.config" "$KERNEL_DIR/config/um-${SERIES##*/}.config"; do
		[[ ! -f $fragment ]] || printf '%s\n' "$fragment"
	done
}

# lock FILE: one builder at a time; held until the script ends
lock() {
	mkdir -p "$(dirname "$1")"
	exec 9>"$1"
	if ! flock -n 9; then
		note "Waiting for another build in $(dirname "$1")"
		flock 9
	fi
}

# progress LOG <OUTPUT: a line every few seconds; the exit status follows the last line
progress() {
	local count=0 last=$SECONDS start=$SECONDS line

	while IFS= read -r line; do
		[[ $line != $'\001'* ]] || return "${line#?}"
		printf '%s\n' "$line" >&3
		[[ ! $line =~ ^\ \ [A-Z]+\ .*\.k?o$ ]] || ((++count))
		if ((SECONDS - last >= 5)); then
			last=$SECONDS
			printf '  %4d s %5d objects  %s\n' $((SECONDS - start)) "$count" "${line##*[ /]}" >&2
		fi
	done 3>"$1"
	return 1
}

# logged LOG WHAT COMMAND...: output to the log, progress to the person who waits
logged() {
	local log=$1 what=$2 start=$SECONDS

	shift 2
	mkdir -p "$(dirname "$log")"
	note "$what (log: $log)"
	if { "$@" 2>&1 9>&- && printf '\001%s\n' 0 || printf '\001%s\n' $?; } | progress "$log"; then
		note "$what: done in $((SECONDS - start)) s"
		return
	fi
	grep -n -E -m 20 '(error|Error|undefined):? |\*\*\*' "$log" >&2 || true
	note "--- the end of $log:"
	tail -n 25 "$log" >&2
	die "$what: failed after $((SECONDS - start)) s" "The whole output: $log"
}

# tree_commits all|stock|modules: the lab's own patches of User Mode Linux, then
# but for "stock" our files and the series, then for "modules" what only modules
# beside another kernel get. commits[] from the one before the series on, the
# last of them as commit
tree_commits() {
	local list

	list=$(commit_series clio-base "$SERIES-um") || exit 1
	commit=$(tail -n 1 <<<"$list")
	commits=("$commit")
	[[ $1 != stock ]] || return 0
	commit=$(commit_own "$commit")
	list=$(commit_series "$commit" "$SERIES") || exit 1
	if [[ $1 == modules ]]; then
		list+=$'\n'$(commit_series "$(tail -n 1 <<<"$list")" "$SERIES/modules") || exit 1
	fi
	mapfile -t commits <<<"$list"
	commit=${commits[-1]}
}

# build_tree BUILD ID: the tree that all flavours and the checks are built from
build_tree() {
	TREE=$1/linux
	[[ -f $TREE/.git/clio-id ]] || tree_create "$TREE" "$2"
}
