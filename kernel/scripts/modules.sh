#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# modules.sh build|check|headers: the series as external modules for a stock kernel.
#
# build: for the kernel whose headers are at KDIR=, into OUT= (kernel/out/<release>).
# check: for a kernel of the distribution, installing its headers if that is possible.
# headers: print where those headers are, installing them likewise.
#
# OUT is a folder of sources that needs nothing else than KDIR: its Makefile
# knows modules and modules_install. The checksums of all symbols that the rebuilt modules export
# are compared with the stock kernel's, so that the modules that are not
# rebuilt (tcm_loop, vhost_scsi, ceph and the like) still load.

# shellcheck source=SCRIPTDIR/lib.sh
source "$(dirname "$0")/lib.sh"

check_kernel
KDIR=${KDIR:-}
action=${1:-build}

# The newest of the distribution's headers for $KERNEL that are installed.
installed_headers() {
	local dir newest=

	while read -r dir; do
		[[ ! -f $dir/Module.symvers ]] || newest=$dir
	done < <(compgen -G "/usr/src/linux-headers-$KERNEL.*" | sort -V)
	[[ -z $newest ]] || printf '%s\n' "$newest"
}

find_headers() {	# packages of the distribution, oldest first
	apt-cache search --names-only "^linux-headers-$KERNEL\\.[0-9]+.*-$(dpkg --print-architecture)\$" |
		awk '{print $1}' | { grep -vE -e '-(rt|cloud)-' || true; } | sort -V
}

install_headers() {	# those of the source's own version if there are any
	local packages

	packages=$(find_headers)
	if [[ -z $packages && $EUID == 0 ]]; then
		apt-get update -q >&2
		packages=$(find_headers)
	fi
	if [[ -z $packages && $action == check && $KERNEL != 6.12 ]]; then
		note "skip  external modules: this release has no headers of Linux $KERNEL; one that has checks them, or KDIR= does"
		exit
	fi
	[[ -n $packages ]] || die "apt finds no headers of Linux $KERNEL" \
		"Check the archive in /etc/apt/sources.list*, or give KDIR= the headers of a kernel."
	packages=$(grep -F -- "-${id%%-*}" <<<"$packages" | tail -n 1 || tail -n 1 <<<"$packages")
	if [[ $EUID != 0 ]]; then
		note "skip  external modules: as root, apt-get install $packages would let them build"
		exit "$skipped"
	fi
	install_packages "$packages"
}

id=$(source_id)
skipped=0
case $action in
headers) skipped=1 ;;&
build)
	[[ -n $KDIR ]] || die "KDIR is not given" \
		"Give the kernel's headers: make -C kernel modules KDIR=/lib/modules/<release>/build"
	;;
check | headers)
	KDIR=${KDIR:-$(installed_headers)}
	if [[ -z $KDIR ]] && ! command -v apt-get >/dev/null; then
		note "skip  external modules: no headers of Linux $KERNEL here, and no apt to install them with"
		exit "$skipped"
	fi
	if [[ -z $KDIR ]]; then
		install_headers
		KDIR=$(installed_headers)
	fi
	;;
esac
[[ -f $KDIR/Makefile && -f $KDIR/Module.symvers ]] ||
	die "KDIR=$KDIR does not hold a kernel's headers: no Makefile or Module.symvers" \
	    "Install them (as root: apt-get install linux-headers-<release>) and give /lib/modules/<release>/build."
KDIR=$(cd "$KDIR" && pwd)
if [[ ${1:-build} == headers ]]; then
	printf '%s\n' "$KDIR"
	exit
fi
release=$(<"$KDIR/include/config/kernel.release") || die "KDIR=$KDIR is not configured" "Give a built kernel or its headers."
[[ $release == "$KERNEL".* ]] ||
	die "KDIR=$KDIR is Linux $release, the series is for $KERNEL" "Give KERNEL= one of: $(series_kernels)"
[[ $release == "${id%%-*}"[-+]* || $release == "${id%%-*}" ]] ||
	note "Note: the sources are Linux $id, the headers Linux $release: checksums tell if that matters"
need_commands cmp:diffutils

OUT=${OUT:-$KERNEL_DIR/out/$release}
mkdir -p "$OUT"

# --- The sources, from the prepared commits ---

build=$CACHE/build/$id
lock "$build/lock"
build_tree "$build" "$id"
tree_commits modules
paths=() wanted=() left=()
while read -r path symbols; do
	[[ -n $path && $path != '#'* ]] || continue
	if [[ $path == '!'* ]]; then
		left+=(":(exclude)${path#!}")
		continue
	fi
	paths+=("$path")
	for symbol in $symbols; do
		wanted+=("CONFIG_$symbol")
	done
done <"$KERNEL_DIR/config/modules"
mapfile -t touched < <(tree_git diff --name-only --diff-filter=d clio-base "$commit" -- . ':(exclude)arch' "${left[@]}")
for path in "${touched[@]}"; do
	[[ $path != include/* ]] || paths+=("$path")
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tree_git archive --format=tar "$commit" -- "${paths[@]}" "${left[@]}" | tar -x -m -C "$work"
# DKMS replaces one of the kernel's own modules only by one of another version.
find "$work" -name '*.c' -exec grep -l '^MODULE_LICENSE(' {} + | while read -r path; do
	sed -i '/^MODULE_VERSION(/d' "$path"
	printf 'MODULE_VERSION("%s-clio");\n' "${id%%-*}" >>"$path"
done
lock "$OUT/.lock"
cat >"$work/Kbuild" <<'END'
# SPDX-License-Identifier: GPL-2.0
# The series' headers go before the kernel's.
LINUXINCLUDE := -I$(KBUILD_EXTMOD)/include $(LINUXINCLUDE)
# The kernel was configured without it.
KBUILD_CPPFLAGS += -DCONFIG_BLK_CLUSTER_MODULE=1
obj-m += net/ceph/ drivers/block/ drivers/target/
END
{
	cat <<'END'
# SPDX-License-Identifier: GPL-2.0
# make KDIR=/lib/modules/<release>/build [modules|modules_install|clean]
KDIR ?= /lib/modules/$(shell uname -r)/build
# Of what the folders' own Makefiles know, only these modules.
END
	printf 'SETTINGS := CONFIG_MODULE_SIG_ALL=\n'	# there is no key to sign with
	printf 'SETTINGS += %s=m\n' "${wanted[@]}"
	# shellcheck disable=SC2016 # make's own
	find "$work" -name Makefile -exec sed -n 's/^obj-\$(\(CONFIG_[A-Z0-9_]*\)).*/\1/p' {} + | sort -u |
		while read -r symbol; do
			[[ " ${wanted[*]} " == *" $symbol "* ]] || printf 'SETTINGS += %s=\n' "$symbol"
		done
	cat <<'END'
.PHONY: modules modules_install clean
modules modules_install clean:
	$(MAKE) -C $(KDIR) M=$(CURDIR) $(SETTINGS) $@
END
} >"$work/Makefile.new"
mv "$work/Makefile.new" "$work/Makefile"

# Only what changed, so that make sees it.
(cd "$work" && find . -type f -printf '%P\n' | sort) >"$work/.sources"
if [[ -f $OUT/.sources ]]; then
	comm -13 "$work/.sources" "$OUT/.sources" | while read -r path; do
		rm -f "${OUT:?}/$path"
	done
fi
while read -r path; do
	cmp -s "$work/$path" "$OUT/$path" || install -D -m 644 "$work/$path" "$OUT/$path"
done <"$work/.sources"
cp "$work/.sources" "$OUT/.sources"

# --- Build and compare ---

logged "$OUT/build.log" "Building modules for Linux $release" make -C "$OUT" KDIR="$KDIR" -j"$(nproc)" modules
if grep -E 'warning: ' "$OUT/build.log" >&2; then
	die "the modules build with warnings" "The whole output: $OUT/build.log"
fi

for path in "${touched[@]}"; do
	[[ $path != *.c || -f $OUT/${path%.c}.o ]] ||
		die "the series touches $path, but no rebuilt module holds it" \
		    "Add it and the CONFIG symbol of its module to kernel/config/modules."
done

# Symbols that the rebuilt modules export or that they used to: CRC, name, module
changed=$(awk -F'\t' '
	NR == FNR { crc[$2] = $1; from[$2] = $3; sub(".*/", "", $3); rebuilt[$3] = 1; next }
	{ module = $3; sub(".*/", "", module) }
	!(module in rebuilt) { next }
	!($2 in crc) { print "  " $2 " of " module " is gone"; next }
	crc[$2] != $1 { print "  " $2 " of " module ": " $1 " there, " crc[$2] " here" }
' "$OUT/Module.symvers" "$KDIR/Module.symvers")
if [[ -n $changed ]]; then
	head -n 20 <<<"$changed" >&2
	die "$(wc -l <<<"$changed") symbols differ from those of Linux $release" \
	    "Modules that use them would no longer load. Keep the types they mention as they are (a new" \
	    "field can hide behind #ifndef __GENKSYMS__ if every module that knows its size is rebuilt:" \
	    "that goes to ${SERIES#"$ROOT"/}/modules)."
fi
note "ok    $(awk -F'\t' 'NR == FNR { stock[$2] = 1; next } $2 in stock' "$KDIR/Module.symvers" "$OUT/Module.symvers" |
	wc -l) exported symbols have the checksums of Linux $release"
note "ok    external modules for Linux $release, in $OUT:"
(cd "$OUT" && find . -name '*.ko' -printf '  %P\n' | sort) >&2
note "To install them: make -C $OUT KDIR=$KDIR modules_install (as root), then depmod $release"
