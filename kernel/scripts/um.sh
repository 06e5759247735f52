#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# um.sh dir|build [clio|stock|debug|broken|smp|rdma|fcoe]: the lab's User Mode Linux kernel.
#
# dir prints where the artifacts of exactly these inputs are, built or not.
# build builds them if they are not there: linux and lib/modules/<release>.

# shellcheck source=SCRIPTDIR/lib.sh
source "$(dirname "$0")/lib.sh"
# shellcheck source=SCRIPTDIR/um-build.sh
source "$KERNEL_DIR/scripts/um-build.sh"

action=${1:-build} FLAVOUR=${2:-${FLAVOUR:-clio}}
case $FLAVOUR in
clio|stock|debug|broken|smp|rdma|fcoe) ;;
*) die "no FLAVOUR=$FLAVOUR" "Give one of: clio stock debug broken smp rdma fcoe" ;;
esac
check_kernel

id=$(source_id)
mapfile -t fragments < <(um_config)
case $FLAVOUR in
debug|broken|smp|rdma|fcoe) fragments+=("$KERNEL_DIR/config/um-$FLAVOUR.config") ;;
esac

hash_files() {	# names relative to the checkout and contents
	(cd "$ROOT" && sha256sum -- "${@#"$ROOT"/}")
}

key() {
	local patch inputs=("${fragments[@]}" "$KERNEL_DIR/scripts/um-build.sh")

	for patch in $(series "$SERIES-um"); do
		inputs+=("$SERIES-um/$patch")
	done
	if [[ $FLAVOUR != stock ]]; then
		for patch in $(series "$SERIES"); do
			inputs+=("$SERIES/$patch")
		done
		for patch in $(own_files); do
			inputs+=("$KERNEL_DIR/$patch")
		done
		inputs+=("$KERNEL_DIR/config/files")
	fi
	printf '%s\n' "$id" "$FLAVOUR" "$(uname -m)"
	command -v "$CC" >/dev/null && "$CC" --version | head -n 1
	ld --version 2>/dev/null | head -n 1
	hash_files "${inputs[@]}"
}

dir=$CACHE/um/$KERNEL-$FLAVOUR-$(key | sha256sum | cut -c1-16)
if [[ $action == dir ]]; then
	printf '%s\n' "$dir"
	exit
fi
if [[ -x $dir/linux ]]; then
	note "$FLAVOUR kernel: $dir"
	exit
fi

need_commands ld:binutils
build=$CACHE/build/$id
lock "$build/lock"
[[ ! -x $dir/linux ]] || exit 0

build_tree "$build" "$id"
which=all
[[ $FLAVOUR != stock ]] || which=stock
tree_commits "$which"
tree_git checkout -q --detach "$commit"
# PCI and SMP change so much that sharing the output folder would build all of it each time.
case $FLAVOUR in
smp|rdma|fcoe) build+=/$FLAVOUR ;;
esac
um_build "$build" "$FLAVOUR" "${fragments[@]}"

rm -rf "$dir".new.*	# what an interrupted run left
um_install "$dir"
note "$FLAVOUR kernel: $dir"
