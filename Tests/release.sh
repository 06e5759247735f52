#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# release.sh make|run RELEASE [COMMAND...]: what this checkout does on another release of Debian, in a root of that release.
#
# make: a new root, as small as a fresh machine, from where this machine has its own packages from.
# run: a command in it, in the checkout, with Swift on PATH. The root has processes and a /run of its own; what it builds is
#      kept in .build/release-RELEASE, its kernels in a cache of their own, and none of the host's is seen.
set -euo pipefail
checkout=$(cd "$(dirname "$0")/.." && pwd)
action=$1 release=$2
shift 2
out=$checkout/.build/release-$release
root=$out/root
cache=${CLIO_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/clio}/release/$release

die() { printf 'release.sh: %s\n' "$@" >&2; exit 1; }
[[ $EUID == 0 ]] || die "run as root: mounts and a chroot take it"
swift=$(command -v swift) || die "swift is not on PATH"
toolchain=$(dirname "$(dirname "$(readlink -f "$swift")")")
[[ $toolchain != /usr ]] || die "$swift is this release's own; a toolchain in a folder of its own can be handed in"

# The machine's archives of Debian, with that release's suites.
sources() {
	local own=

	own=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
	# shellcheck disable=SC2016 # apt's own
	apt-get indextargets --format '$(BASE_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
		awk -v own="$own" -v release="$release" '
			$2 == own || index($2, own "-") == 1 {
				sub("/dists/.*", "", $1)
				sub(own, release, $2)
				print "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]", $1, $2, $3
			}' | sort -u
}

make() {
	local list=

	list=$(sources)
	[[ -n $list ]] || die "apt on this machine has no archive of Debian's own release"
	mkdir -p "$out"
	rm -rf --one-file-system "$root"
	# make for make, the rest for the toolchain: what its installation page asks for on Debian.
	mmdebstrap --quiet --mode=root --variant=minbase --format=directory \
		--aptopt='Acquire::Check-Valid-Until "false"' --aptopt='APT::Install-Recommends "false"' --dpkgopt=force-unsafe-io \
		--include=make,ca-certificates,git,g++,libcurl4-openssl-dev,libncurses-dev,libsqlite3-dev,libxml2-dev,zlib1g-dev \
		"$release" "$root" - <<<"$list" >"$out/make.log" 2>&1 || { tail -n 40 "$out/make.log" >&2; exit 1; }
	sed -n 's/^PRETTY_NAME=//p' "$root/etc/os-release"
}

# Runs in mount and process namespaces of its own, which end with it.
inside() {
	local cached=$HOME/.cache/org.swift.swiftpm

	# ip(8) makes the root a slave, which has to be a mount for that.
	mount --bind "$root" "$root"
	mount -t proc proc "$root/proc"
	mount --rbind /sys "$root/sys"
	mount --rbind /dev "$root/dev"
	mount -t tmpfs shm "$root/dev/shm"
	mount -t tmpfs run "$root/run"
	mkdir -p "$root/opt/swift" "$root$checkout" "$root/root/.cache/clio" "$cache" "$out/build" "$out/kernel" \
		"$checkout/kernel/out"
	mount --bind -o ro "$toolchain" "$root/opt/swift"
	mount --bind "$checkout" "$root$checkout"
	mount --bind "$out/build" "$root$checkout/.build"
	mount --bind "$out/kernel" "$root$checkout/kernel/out"
	mount --bind "$cache" "$root/root/.cache/clio"
	cat /etc/resolv.conf >"$root/etc/resolv.conf"
	cat /etc/hosts >"$root/etc/hosts"
	# Sources that this package depends on; the machine may reach no other place of them.
	[[ ! -d $cached || -d $root/root/.cache/${cached##*/} ]] || cp -a "$cached" "$root/root/.cache/"
	# shellcheck disable=SC2016 # expanded in there
	exec chroot "$root" env -i HOME=/root LANG=C.UTF-8 TERM="${TERM:-dumb}" \
		PATH=/opt/swift/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
		sh -ec 'cd "$0" && exec "$@"' "$checkout" "$@"
}

case $action in
make) make ;;
run)
	[[ -d $root ]] || die "there is no root of $release: $0 make $release"
	exec unshare --mount --propagation private --pid --fork --kill-child "$0" inside "$release" "$@"
	;;
inside) inside "$@" ;;
*) die "make or run, not $action" ;;
esac
