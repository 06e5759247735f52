#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# fetch.sh [any]: see to it that the source of Linux $KERNEL is on this machine,
# if there is a series for it or any kernel will do.
#
# Takes the distribution's linux-source package from wherever apt finds it, or
# from the backports or another release next to the archive this machine uses.
# Installs nothing, so it takes no privileges: the tarball goes to the cache.

# shellcheck source=SCRIPTDIR/lib.sh
source "$(dirname "$0")/lib.sh"

[[ ${1:-} == any ]] || check_kernel
if [[ -n $SRC ]]; then
	id=$(source_id)
	note "Linux $id: $SRC"
	exit
fi
if file=$(tarball); then
	note "Linux $(source_id): $file"
	exit
fi
command -v apt-get >/dev/null || die "no apt on this machine to fetch $package with" \
	"Give SRC= an unpacked kernel tree or a tarball of one."

fetch=$CACHE/fetch
lock "$fetch/lock"
if file=$(tarball); then
	exit
fi
work=$(mktemp -d "$fetch/new.XXXXXX")
trap 'rm -rf "$work"' EXIT

# download OPTION...: the package as apt sees it with these options
download() {
	local version

	# What is installed is not what can be downloaded.
	set -- "$@" -o Dir::State::status=/dev/null
	version=$(apt-cache "$@" show --no-all-versions "$package" 2>/dev/null | sed -n 's/^Version: //p')
	[[ -n $version ]] || return 1
	note "Downloading $package $version"
	(cd "$work" && apt-get "$@" -o "APT::Sandbox::User=$(id -un)" -q download "$package" >&2) || return 1
	dpkg-deb --fsys-tarfile "$work/$package"_*.deb |
		tar -xO --wildcards "./usr/src/$package.tar.*" >"$work/$package.tar.xz"
	[[ -s $work/$package.tar.xz ]] || die "$package $version does not hold a tarball" \
		"Install the package and give SRC= its tarball."
	printf '%s\n' "$version" >"$fetch/$package.version"
	mv "$work/$package.tar.xz" "$fetch/$package.tar.xz"
}

# Lists of our own: the machine's may be old or missing, and are not ours to change.
mkdir -p "$work/sources" "$work/lists/partial" "$work/archives/partial"
parts=$(apt-config shell dir Dir::Etc::sourceparts/d)
eval "$parts"	# sets dir
cp -r "${dir:-/etc/apt/sources.list.d}"/. "$work/sources/" 2>/dev/null || true
[[ ! -f /etc/apt/sources.list ]] || cp /etc/apt/sources.list "$work/sources/machine.list"
own=(-o "Dir::Etc::SourceList=/dev/null" -o "Dir::Etc::SourceParts=$work/sources"
	-o "Dir::State::Lists=$work/lists" -o "Dir::Cache::Archives=$work/archives"
	-o "Dir::Cache::pkgcache=" -o "Dir::Cache::srcpkgcache=" -o "APT::Sandbox::User=$(id -un)")

# add_suite SUITE: beside each archive of the machine that has this release, for this download only
add_suite() {
	local codename bases base

	codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
	[[ -n $codename ]] || return 1
	# shellcheck disable=SC2016 # apt's own
	bases=$(apt-get "${own[@]}" indextargets --format '$(BASE_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
		awk -v c="$codename" '$2 == c && $3 == "main" {sub("/dists/.*", ""); print $1}' | sort -u)
	[[ -n $bases ]] || return 1
	: >"$work/sources/clio-added.sources"
	for base in $bases; do
		note "Adding ${1/#own/$codename} of the same archive, for this download only"
		printf '%s\n' "Types: deb" "URIs: $base" "Suites: ${1/#own/$codename}" "Components: main" \
			"Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg" "" >>"$work/sources/clio-added.sources"
	done
}

# This release's backports, then what other releases have: 7.x is in the
# backports of Debian 13, 6.1 in Debian 12.
found() {
	local suite

	download && return
	apt-get "${own[@]}" -q update >&2 && download "${own[@]}" && return
	for suite in own-backports trixie-backports bookworm; do
		add_suite "$suite" && apt-get "${own[@]}" -q update >&2 && download "${own[@]}" && return
	done
	return 1
}

if found; then
	note "Linux $(source_id): $(tarball)"
	exit
fi
die "apt finds no $package, not even in the backports and in the releases beside this one" \
	"Check the archive in /etc/apt/sources.list*, or give SRC= an unpacked kernel tree or a tarball of one."
