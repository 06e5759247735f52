#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# check.sh lint|check: is the series fit to hand on?
#
# lint:  headers of the patches, checkpatch --strict, sparse, shellcheck, and
#        the code generated from the netlink spec is what the spec says.
# check: that, each prefix of the series builds without a warning, and so do
#        the external modules for the distribution's own kernel.
#
# What has been built or checked once with the same contents is not again.

# shellcheck source=SCRIPTDIR/lib.sh
source "$(dirname "$0")/lib.sh"
# shellcheck source=SCRIPTDIR/um-build.sh
source "$KERNEL_DIR/scripts/um-build.sh"

check_kernel
folders=("$SERIES" "$SERIES/modules" "$SERIES-um")
failures=0

fail() {
	note "FAIL  $*"
	((++failures))
}

# --- Text only ---

check_headers() {
	local folder patch name before=$failures work

	work=$(mktemp)
	for folder in "${folders[@]}"; do
		[[ -d $folder ]] || continue
		for patch in "$folder"/*.patch; do
			[[ -f $patch ]] || continue
			name=${patch#"$ROOT"/}
			series "$folder" | grep -qx -F "${patch##*/}" || fail "$name: not in the series"
			git mailinfo "$work" /dev/null <"$patch" | grep -q '^Subject: .' || fail "$name: no subject"
			grep -qE '^Signed-off-by: .+ <.+@.+>$' "$work" || fail "$name: no Signed-off-by"
			grep -qE '^Upstream: (commit [0-9a-f]{12,40}|no, because .+)' "$work" ||
				fail "$name: no \"Upstream: commit <id>\" or \"Upstream: no, because ...\""
			grep -vE '^([A-Z][A-Za-z-]+: .*)?$' "$work" | grep -q . || fail "$name: does not say why"
		done
		for patch in $(series "$folder"); do
			[[ -f $folder/$patch ]] || fail "${folder#"$ROOT"/}/$patch: in the series, but not there"
		done
	done
	rm -f "$work"
	((failures > before)) || note "ok    headers"
}

# message FILE: a patch's own subject and text
message() { git mailinfo /dev/stdout /dev/null <"$1" | sed -e '/^Author: /,/^Date: /{/^Subject: /!d}'; }

# differing FILE FILE: an id of the lines in which two patches' changes differ, "same" if in none
differing() {
	local difference

	difference=$(diff <(changes "$1") <(changes "$2") | grep '^[<>]' || true)
	[[ $difference ]] || { printf 'same\n'; return; }
	sha256sum <<<"$difference" | cut -c1-12
}

changes() { sed -n '/^diff --git /,$p' "$1" | grep '^[-+]' | grep -vE '^(---|\+\+\+) ([ab]/|/dev/null)'; }

# All series have the same patches with the same messages as the first. Where
# changes differ, the series' file differences says why, and of which difference
# it says so: what is mended in one is mended in all.
check_counterparts() {
	local before=$failures folder name patch other id known differences

	for name in $(series_kernels); do
		[[ $name != 6.12 ]] || continue
		differences=$PATCHES/$name/differences
		[[ -f $differences ]] || differences=/dev/null
		for folder in "" /modules; do
			for patch in $(series "$PATCHES/6.12$folder"); do
				other=$(series "$PATCHES/$name$folder" | grep -x "[0-9]*-${patch#*-}" || true)
				known=$(sed -n "s/^\([0-9a-z]*\) ${patch#*-} [^ ].*/\1/p" "$differences")
				id=missing
				if [[ $other ]]; then
					other=$PATCHES/$name$folder/$other patch=$PATCHES/6.12$folder/$patch
					diff -u --label "${patch#"$ROOT"/}" --label "${other#"$ROOT"/}" \
						<(message "$patch") <(message "$other") >&2 || fail "${other#"$ROOT"/}: another message"
					id=$(differing "$patch" "$other")
				fi
				[[ $id == "${known:-same}" ]] ||
					fail "patches/$name$folder: the difference to ${patch##*/} of 6.12 is $id, and" \
						"patches/$name/differences has ${known:-none}: carry a change over, or say why not"
			done
			for patch in $(series "$PATCHES/$name$folder"); do
				series "$PATCHES/6.12$folder" | grep -qx "[0-9]*-${patch#*-}" ||
					grep -q "^extra ${patch#*-} [^ ]" "$differences" ||
					fail "patches/$name$folder/$patch: not in 6.12, and patches/$name/differences has no \"extra\" for it"
			done
		done
	done
	((failures > before)) || note "ok    all series have the same patches"
}

check_shell() {
	if ! command -v shellcheck >/dev/null && [[ $EUID == 0 ]]; then
		install_packages shellcheck
	fi
	if ! command -v shellcheck >/dev/null; then
		fail "shellcheck is not installed (as root: apt-get install shellcheck)"
	elif shellcheck -x "$KERNEL_DIR"/scripts/*.sh "$KERNEL_DIR"/tests/*.sh >&2; then
		note "ok    shellcheck"
	else
		fail "shellcheck"
	fi
}

check_checkpatch() {
	local before=$failures file folder work

	work=$(mktemp)
	checkpatch() {	# checkpatch FILE OPTION...
		local file=$1

		shift
		perl "$TREE/scripts/checkpatch.pl" --root="$TREE" --strict --quiet --no-summary --show-types "$@" "$file" \
			>"$work" 2>"$work.err" && return
		cat "$work" >&2
		[[ -s $work ]] || cat "$work.err" >&2
		fail "checkpatch --strict ${file#"$ROOT"/}"
	}
	while read -r file; do
		case $file in
		# Tracepoints look as everywhere in the kernel; --strict takes them for calls.
		*/trace.h) checkpatch "$KERNEL_DIR/$file" -f --ignore OPEN_ENDED_LINE,PARENTHESIS_ALIGNMENT ;;
		*.[ch]) checkpatch "$KERNEL_DIR/$file" -f ;;
		esac
	done < <(own_files)
	for folder in "${folders[@]}"; do
		for file in "$folder"/*.patch; do
			# New files have an owner in this project's own records, not in MAINTAINERS; names are upstream's.
			[[ ! -f $file ]] || checkpatch "$file" --ignore FILE_PATH_CHANGES,CAMELCASE
		done
	done
	rm -f "$work" "$work.err"
	((failures > before)) || note "ok    checkpatch --strict"
}

# --- What takes the tree ---

# What mends the kernel for all is to be sent upstream one by one.
check_alone() {
	local patch before=$failures index

	index=$(mktemp -u)
	for patch in "$SERIES"/*.patch; do
		grep -q '^Upstream: .*fit to be sent by itself' "$patch" || continue
		GIT_INDEX_FILE=$index tree_git read-tree clio-base
		GIT_INDEX_FILE=$index tree_git apply --cached "$patch" >&2 ||
			fail "${patch#"$ROOT"/}: is to be fit by itself, and does not apply alone"
	done
	rm -f "$index"
	((failures > before)) || note "ok    what is fit to be sent by itself applies alone"
}

checked() { [[ -e $build/checked/$1 ]]; }
mark() { mkdir -p "$build/checked" && touch "$build/checked/$1"; }

# state COMMIT TAG: a name for this content built with this compiler in this way
state() {
	{
		tree_git rev-parse "$1^{tree}"
		"$CC" --version | head -n 1
		um_config | xargs -d '\n' cat "$KERNEL_DIR/scripts/um-build.sh"
		printf '%s\n' "$2"
	} | sha256sum | cut -c1-32
}

configure() {	# configure LINE...: the output folder that flavours share
	UM_OUT=$build/um
	mkdir -p "$UM_OUT"
	{ um_config | xargs -d '\n' cat; printf '%s\n' "$@"; } >"$UM_OUT/allconfig"
	um_make KCONFIG_ALLCONFIG="$UM_OUT/allconfig" allnoconfig >"$log" 2>&1 ||
		{ tail -n 20 "$log" >&2; die "allnoconfig failed" "The whole output: $log"; }
}

check_sparse() {
	local key file objects=()

	key=$(state "$commit" "sparse $(sparse --version)")
	if ! checked "$key"; then
		while read -r file; do
			[[ $file != *.c ]] || objects+=("${file%.c}.o")
		# The lab's own patches are of files that sparse has much to say of.
		done < <(tree_git diff --name-only --diff-filter=d clio-base "$commit" -- . ':(exclude)arch/um')
		tree_git checkout -q --detach "$commit"
		log=$build/sparse.log
		configure CONFIG_BLK_CLUSTER_BREAK=y CONFIG_BLK_CLUSTER_SELFTEST=y
		logged "$log" "Running sparse on ${#objects[@]} files" um_make C=2 CHECK=sparse "${objects[@]}"
		if grep -E ': (warning|error): ' "$log" >&2; then
			fail "sparse"
			return
		fi
		mark "$key"
	fi
	note "ok    sparse"
}

check_spec() {
	local before=$failures spec=spec/blk-cluster.yaml file mode work python=python3 generator=tools/net/ynl/pyynl/ynl_gen_c.py

	if ! "$python" -c 'import jsonschema, yaml' 2>/dev/null; then
		python=/usr/bin/python3
		"$python" -c 'import jsonschema, yaml' 2>/dev/null || install_packages python3-yaml python3-jsonschema
	fi
	work=$(mktemp -d)
	tree_git checkout -q --detach "$commit"
	# Where it was until commit ab88c2b3739a ("tools: ynl: move python code to separate sub-directory")
	[[ -e $TREE/$generator ]] || generator=tools/net/ynl/ynl-gen-c.py
	while read -r mode file; do
		# The file's name is in what is generated.
		if ! (cd "$TREE" && "$python" -B "$generator" --mode "${mode%-*}" "--${mode#*-}" \
			--spec "$(own_target "$spec")" -o "$work/${file##*/}") >&2; then
			fail "kernel/$spec"
		# A comment that not every kernel's generator writes is no difference.
		elif ! diff -u -I '^/\* To regenerate run: ' --label "kernel/$file" --label "generated from kernel/$spec" \
			"$KERNEL_DIR/$file" "$work/${file##*/}" >&2; then
			fail "kernel/$file (in a prepared tree: tools/net/ynl/ynl-regen.sh)"
		fi
	done <<-END
		uapi-header	blk-cluster/uapi/linux/blk_cluster.h
		kernel-header	blk-cluster/nl.h
		kernel-source	blk-cluster/nl.c
	END
	rm -rf "$work"
	((failures > before)) || note "ok    generated from the netlink spec"
}

# check_build COMMIT NAME CONFIG-LINE...
check_build() {
	local id=$1 name=$2 key log=$build/prefix.log

	shift 2
	key=$(state "$id" "build $*")
	if ! checked "$key"; then
		tree_git checkout -q --detach "$id"
		configure "$@"
		# Modules are linked against it; no patch changes it.
		[[ -e $UM_OUT/vmlinux.o ]] || logged "$build/vmlinux.log" "Building the kernel that modules are for" um_make linux
		logged "$log" "Building $name" um_make modules
		if grep -E 'warning: ' "$log" >&2; then
			fail "$name: warnings, see above"
			return
		fi
		mark "$key"
	fi
	note "ok    builds: $name"
}

check_prefixes() {
	local i

	# First, so that the output folder is left as the clio flavour needs it.
	check_build "$commit" "all of it with BLK_CLUSTER=n" CONFIG_BLK_CLUSTER=n
	for i in "${!commits[@]}"; do
		check_build "${commits[i]}" "prefix $i of $((${#commits[@]} - 1)), $(tree_git log -1 --format=%s "${commits[i]}")"
	done
}

mode=${1:-check}
check_headers
check_counterparts
check_shell
need_commands sparse:sparse ld:binutils

id=$(source_id)
build=$CACHE/build/$id
lock "$build/lock"
build_tree "$build" "$id"
tree_commits all
note "ok    the series applies to Linux $id"
check_alone
check_checkpatch
check_spec
check_sparse
if [[ $mode == check ]]; then
	check_prefixes
	exec 9>&-
	OUT='' "$KERNEL_DIR/scripts/modules.sh" check || fail "external modules"
fi
((failures == 0)) || die "$failures of the checks failed" "See FAIL above."
note "All checks passed"
