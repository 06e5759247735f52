#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# port.sh: which patches of a series another kernel takes, and what becomes of
# the rest. FROM= names the series, if not the nearest. Changes nothing.
#
# Of a patch that is rejected, the hunks that fit are applied, so that later
# ones are judged as well as can be. Of a later rejection in the same file,
# it says so: that one may be due to the first.

# shellcheck source=SCRIPTDIR/lib.sh
source "$(dirname "$0")/lib.sh"

need_commands patch:patch
"$KERNEL_DIR/scripts/fetch.sh" any

nearest() {	# the kernel's own series, else the newest that is older, else the oldest
	local kernel best=

	if [[ -f $SERIES/series ]]; then
		printf '%s\n' "${SERIES##*/}"
		return
	fi
	for kernel in $(series_kernels | tr ' ' '\n' | sort -V); do
		[[ -z $best || $(printf '%s\n' "$kernel" "$KERNEL" | sort -V | head -n 1) == "$kernel" ]] || continue
		best=$kernel
	done
	printf '%s\n' "$best"
}

from=${FROM:-$(nearest)}
[[ -f $PATCHES/$from/series ]] || die "there is no series FROM=$from" "Give one of: $(series_kernels)"
SERIES=$PATCHES/$from
id=$(source_id)
mapfile -t patches < <(series "$SERIES")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export GIT_CEILING_DIRECTORIES=$work
mkdir "$work/linux"

# Only the files that the series touches, as far as this kernel has them.
sed -n 's,^--- a/\([^\t]*\).*,\1,p' "${patches[@]/#/$SERIES/}" | sort -u >"$work/paths"
if [[ -d $SRC ]]; then
	while read -r path; do
		[[ ! -f $SRC/$path ]] || install -D -m 644 "$SRC/$path" "$work/linux/$path"
	done <"$work/paths"
else
	# Members that are not there make tar fail when it has unpacked all others.
	sed 's,^,*/,' "$work/paths" | tar -C "$work/linux" --strip-components=1 --wildcards --no-wildcards-match-slash \
		-xf "${SRC:-$(tarball)}" -T - 2>"$work/tar" || true
fi
cd "$work/linux"
note "Linux $id takes of patches/$from:"

declare -A rejected=()	# file -> the first patch that was rejected there
applied=0 fuzz=0 failed=0

# what_failed OUTPUT-OF-PATCH: "<file>: <what patch says of a hunk>"
what_failed() {
	awk '/^patching file / { file = $3 }
		/^(\|)?--- a\// { missing = substr($2, 3) }
		/^Hunk .* FAILED|with fuzz/ { print file ": " $0 }
		/^No file to patch/ { print missing ": no such file here" }' "$1"
}

for patch in "${patches[@]}"; do
	file=$SERIES/$patch
	if git apply --whitespace=nowarn "$file" 2>/dev/null; then
		printf 'applied   %s\n' "$patch"
		((++applied))
		continue
	elif git apply --check -R "$file" 2>/dev/null; then
		printf 'there     %s\n          this kernel has all of it already\n' "$patch"
		((++applied))
		continue
	fi
	rm -f "$work/rejects"
	if patch -p1 -f -F2 --no-backup-if-mismatch --reject-format=unified -r "$work/rejects" <"$file" >"$work/output" 2>&1; then
		printf 'fuzz      %s\n' "$patch"
		((++fuzz))
		what_failed "$work/output" | sed 's/^/          /'
		continue
	fi
	printf 'rejected  %s\n' "$patch"
	((++failed))
	what_failed "$work/output" | sed 's/^/          /'
	while read -r path; do
		[[ ! ${rejected[$path]:-} ]] ||
			printf '          %s: after %s was rejected there\n' "$path" "${rejected[$path]}"
		: "${rejected[$path]:=$patch}"
	done < <(what_failed "$work/output" | sed -n 's/: \(Hunk .* FAILED\|no such file\).*//p' | sort -u)
	[[ ! -f $work/rejects ]] || sed 's/^/          | /' "$work/rejects"
done

printf '%d applied, %d with fuzz, %d rejected\n' "$applied" "$fuzz" "$failed"
((failed == 0 && fuzz == 0))
