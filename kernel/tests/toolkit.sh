#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# The toolkit itself, on a copy of the checkout and a source tree of a few
# files: its errors, the round trip of the series, the names of artifacts.
# Nothing is compiled; `make check` and `make um` do that with the real thing.

set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
export CLIO_CACHE=$WORK/cache
export GIT_AUTHOR_NAME=Test GIT_AUTHOR_EMAIL=test@example.invalid
export GIT_COMMITTER_NAME=Test GIT_COMMITTER_EMAIL=test@example.invalid
unset KERNEL SRC FLAVOUR TREE FORCE KDIR OUT MAKEFLAGS MFLAGS MAKELEVEL
failures=0

# --- A checkout with a series of its own, and the tree it is for ---

COPY=$WORK/checkout
SOURCE=$WORK/linux
mkdir -p "$COPY/kernel" "$COPY/patches" "$SOURCE"/{drivers/block,arch/um/drivers,include/linux,net/ceph}
cp -r "$HERE"/{Makefile,scripts,config} "$COPY/kernel/"
mkdir "$COPY/kernel/blk-cluster"
printf '/* one */\n' >"$COPY/kernel/blk-cluster/registry.c"
printf '/* header */\n' >"$COPY/kernel/blk-cluster/blk-cluster.h"
printf 'VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 99\n' >"$SOURCE/Makefile"
printf 'mainmenu "Test"\n' >"$SOURCE/Kconfig"
seq 100 >"$SOURCE/drivers/block/rbd.c"
seq 100 >"$SOURCE/net/ceph/osd_client.c"
seq 100 >"$SOURCE/arch/um/drivers/vector_kern.c"
seq 100 >"$SOURCE/elsewhere.c"
find "$SOURCE" -exec touch -d '2020-01-01' {} +

mkdir -p "$COPY/patches/6.12"
: >"$COPY/patches/6.12/series"

toolkit() { make -s -C "$COPY/kernel" "$@"; }

# --- Assertions ---

ok() { printf 'ok    %s\n' "$1"; }

not_ok() {
	printf 'FAIL  %s\n' "$1"
	sed 's/^/      /' "$WORK/output"
	((++failures))
}

# works NAME COMMAND...
works() {
	local name=$1

	shift
	if "$@" >"$WORK/output" 2>&1; then ok "$name"; else not_ok "$name"; fi
}

# fails NAME TEXT... -- COMMAND...: with all of the texts in its output
fails() {
	local name=$1 text texts=() missing=

	shift
	while [[ $1 != -- ]]; do
		texts+=("$1")
		shift
	done
	shift
	if "$@" >"$WORK/output" 2>&1; then
		not_ok "$name: no error"
		return
	fi
	for text in "${texts[@]}"; do
		grep -qF -- "$text" "$WORK/output" || missing+=" \"$text\""
	done
	if [[ $missing ]]; then not_ok "$name: does not say$missing"; else ok "$name"; fi
}

same() { diff -r "$1" "$2"; }

# --- Errors ---

fails "a kernel there are no patches for" "no patches for KERNEL=5.4" "6.12" \
	-- toolkit fetch KERNEL=5.4
fails "SRC that is not there" "SRC=$WORK/nowhere is not there" \
	-- toolkit fetch SRC="$WORK/nowhere"
fails "SRC that is not a kernel" "is not a kernel tree" \
	-- toolkit fetch SRC="$COPY"
printf 'not a tarball\n' >"$WORK/file.tar.xz"
fails "SRC that is not a tarball" "is not a tarball of a kernel" \
	-- toolkit fetch SRC="$WORK/file.tar.xz"
cp -r "$SOURCE" "$WORK/other"
sed -i 's/PATCHLEVEL = 12/PATCHLEVEL = 1/' "$WORK/other/Makefile"
fails "SRC of another version" "is Linux 6.1.99, not 6.12" "KERNEL=" \
	-- toolkit fetch SRC="$WORK/other"
fails "a flavour that is not known" "no FLAVOUR=fancy" "clio stock debug broken" \
	-- toolkit um-dir FLAVOUR=fancy SRC="$SOURCE"
fails "modules without KDIR" "KDIR is not given" \
	-- toolkit modules SRC="$SOURCE"
fails "modules for no kernel's headers" "does not hold a kernel's headers" \
	-- toolkit modules SRC="$SOURCE" KDIR="$WORK/other"
fails "refresh before prepare" "no prepared tree" "make -C kernel prepare" \
	-- toolkit refresh SRC="$SOURCE"
export SRC=$SOURCE
works "SRC as a tree" toolkit fetch
works "SRC relative to the caller" env -C "$WORK" PWD="$WORK" make -s -C "$COPY/kernel" fetch SRC=linux
tar -C "$WORK" -cJf "$WORK/linux.tar.xz" linux
works "SRC as a tarball" toolkit fetch SRC="$WORK/linux.tar.xz"

# --- prepare, edit, refresh ---

works "prepare with an empty series" toolkit prepare
TREE=$(toolkit prepare 2>/dev/null)
works "our files are in the tree" cmp "$COPY/kernel/blk-cluster/blk-cluster.h" "$TREE/include/linux/blk-cluster.h"

commit() {	# commit SUBJECT
	git -C "$TREE" commit -q -a -m "$1

Because of the test.

Upstream: no, because it is a test
Signed-off-by: Test <test@example.invalid>"
}

sed -i 's/^50$/fifty/' "$TREE/drivers/block/rbd.c"
fails "prepare over edits" "has changes that the series does not have" "drivers/block/rbd.c" "FORCE=1" \
	-- toolkit prepare
fails "refresh with uncommitted edits" "not committed" "drivers/block/rbd.c" \
	-- toolkit refresh
commit "rbd: change the fiftieth"
fails "prepare over commits" "rbd: change the fiftieth" \
	-- toolkit prepare
sed -i 's/^60$/sixty/' "$TREE/net/ceph/osd_client.c"
printf '/* two */\n' >"$TREE/drivers/block/blk-cluster/registry.c"
commit "libceph: change the sixtieth, and a file of ours"
sed -i 's/^70$/seventy/' "$TREE/arch/um/drivers/vector_kern.c"
commit "um: change the seventieth"
printf '/* new */\n' >"$TREE/drivers/block/blk-cluster/new.c"
fails "refresh with a new file that git does not know" "git does not know" "new.c" \
	-- toolkit refresh
git -C "$TREE" add drivers/block/blk-cluster/new.c
printf 'edited\n' >>"$TREE/elsewhere.c"
fails "refresh with an edit outside of what git tracks" "elsewhere.c" "config/paths" \
	-- toolkit refresh
seq 100 >"$TREE/elsewhere.c"
touch -d '2020-01-01' "$TREE/elsewhere.c"
works "refresh" toolkit refresh
works "the series" diff - "$COPY/patches/6.12/series" <<'END'
0001-rbd-change-the-fiftieth.patch
0002-libceph-change-the-sixtieth-and-a-file-of-ours.patch
END
works "the series of the lab's kernel" grep -q um-change-the-seventieth "$COPY/patches/6.12-um/series"
works "an edit of a file of ours comes back" grep -q two "$COPY/kernel/blk-cluster/registry.c"
works "a new file of ours comes back" grep -q new "$COPY/kernel/blk-cluster/new.c"
fails "no patch holds our files" -- grep -r blk-cluster "$COPY/patches"

cp -r "$COPY" "$WORK/before"
works "refresh again" toolkit refresh
works "refresh of an unchanged tree changes nothing" same "$WORK/before" "$COPY"
rm -rf "$TREE"
works "prepare from nothing" toolkit prepare
works "refresh after it" toolkit refresh
works "the round trip changes nothing" same "$WORK/before" "$COPY"
git -C "$TREE" rm -q -f drivers/block/blk-cluster/new.c
works "refresh after a file of ours was removed" toolkit refresh
fails "it is gone" -- test -e "$COPY/kernel/blk-cluster/new.c"

# --- A patch that does not apply ---

first=$COPY/patches/6.12/0001-rbd-change-the-fiftieth.patch
cp "$first" "$WORK/first"
sed -i 's/^ 49$/ forty-nine/' "$first"
fails "a patch that does not apply" "0001-rbd-change-the-fiftieth.patch does not apply" "forty-nine" \
	"drivers/block/rbd.c:47" -- toolkit prepare
cp "$WORK/first" "$first"
printf '0009-missing.patch\n' >>"$COPY/patches/6.12/series"
fails "a patch that is not there" "0009-missing.patch is in the series, but not there" -- toolkit prepare
sed -i '$d' "$COPY/patches/6.12/series"
printf 'not a patch\n' >"$first"
fails "a patch without a header" "0001-rbd-change-the-fiftieth.patch lacks From, Date or Subject" -- toolkit prepare
cp "$WORK/first" "$first"
works "prepare once more" toolkit prepare

# --- Another kernel ---

newer() {	# newer NAME LINE: a kernel of 7.1 whose drivers/block/rbd.c has another such line
	cp -r "$SOURCE" "$WORK/$1"
	sed -i 's/VERSION = 6/VERSION = 7/; s/PATCHLEVEL = 12/PATCHLEVEL = 1/' "$WORK/$1/Makefile"
	sed -i "s/^$2\$/other/" "$WORK/$1/drivers/block/rbd.c"
}

says() {	# says TEXT COMMAND...: and succeeds
	local text=$1

	shift
	"$@" >"$WORK/said" 2>&1 && cat "$WORK/said" && grep -qF -- "$text" "$WORK/said"
}

works "port to the kernel of the series" says "2 applied, 0 with fuzz, 0 rejected" toolkit port
newer same 1
works "port to another kernel" says "2 applied, 0 with fuzz, 0 rejected" toolkit port KERNEL=7.1 SRC="$WORK/same"
newer fuzzy 47
fails "port with fuzz" "fuzz      0001-rbd-change-the-fiftieth.patch" "with fuzz 1" \
	"1 applied, 1 with fuzz, 0 rejected" -- toolkit port KERNEL=7.1 SRC="$WORK/fuzzy"
newer changed 50
fails "port with a patch that is rejected" "rejected  0001-rbd-change-the-fiftieth.patch" "drivers/block/rbd.c: Hunk #1 FAILED" \
	"| -50" "| +fifty" "applied   0002-" "1 applied, 0 with fuzz, 1 rejected" -- toolkit port KERNEL=7.1 SRC="$WORK/changed"
sed 's/^-50$/-fifty/; s/^+fifty$/+5O/; s/the fiftieth/it again/' "$first" >"$COPY/patches/6.12/0003-again.patch"
printf '0003-again.patch\n' >>"$COPY/patches/6.12/series"
fails "port with one that is rejected for another's sake" "rejected  0003-again.patch" \
	"after 0001-rbd-change-the-fiftieth.patch was rejected there" -- toolkit port KERNEL=7.1 SRC="$WORK/changed"
sed -i '$d' "$COPY/patches/6.12/series"
rm "$COPY/patches/6.12/0003-again.patch"
newer backported 50
sed -i 's/^other$/fifty/' "$WORK/backported/drivers/block/rbd.c"
works "port to a kernel that has a patch already" says "there     0001-" toolkit port KERNEL=7.1 SRC="$WORK/backported"
fails "port of a series that is not there" "no series FROM=5.4" "6.12" -- toolkit port FROM=5.4
fails "port without a series for that kernel" "no patches for KERNEL=7.1" -- toolkit fetch KERNEL=7.1 SRC="$WORK/same"
cp -r "$COPY/patches/6.12" "$COPY/patches/7.x"
works "a series for all of 7.x" toolkit fetch KERNEL=7.1 SRC="$WORK/same"
fails "7.x itself is no kernel" "no patches for KERNEL=7.x" "KERNEL=<version>" -- toolkit fetch KERNEL=7.x
rm -r "$COPY/patches/7.x"

# --- um-dir ---

clio=$(toolkit um-dir FLAVOUR=clio) stock=$(toolkit um-dir FLAVOUR=stock) debug=$(toolkit um-dir FLAVOUR=debug)

# names NAME CLIO STOCK: whether (=) or not (!) their folders are what they were
names() {
	local now

	now="$([[ $(toolkit um-dir FLAVOUR=clio) == "$clio" ]] && echo '=' || echo '!')"
	now+="$([[ $(toolkit um-dir FLAVOUR=stock) == "$stock" ]] && echo '=' || echo '!')"
	printf 'clio and stock: %s\n' "$now" >"$WORK/output"
	if [[ $now == "$2$3" ]]; then ok "$1"; else not_ok "$1"; fi
}

names "um-dir is stable" = =
works "each flavour has its own" test "$clio" != "$stock" -a "$clio" != "$debug" -a "$stock" != "$debug"
printf '\n' >>"$first"
names "a patch changes clio's" ! =
cp "$WORK/first" "$first"
printf '\n' >>"$COPY/kernel/blk-cluster/registry.c"
names "a file of ours changes clio's" ! =
cp "$WORK/before/kernel/blk-cluster/registry.c" "$COPY/kernel/blk-cluster/registry.c"
printf '# CONFIG_X is not set\n' >>"$COPY/kernel/config/um.config"
names "the configuration changes both" ! !
cp "$WORK/before/kernel/config/um.config" "$COPY/kernel/config/um.config"
printf 'more\n' >>"$SOURCE/elsewhere.c"
names "the source changes both" ! !
seq 100 >"$SOURCE/elsewhere.c"
touch -d '2020-01-01' "$SOURCE/elsewhere.c"
names "and back" = =

((failures == 0)) || { printf '%d of the tests failed\n' "$failures"; exit 1; }
