#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# deb.sh RELEASE MODULES OUT: Debian packages of what is built in RELEASE (executables) and MODULES (`make -C kernel modules`).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$3"
release=$(realpath "$1") modules=$(realpath "$2") out=$(realpath "$3")
version=$("$release/clio" --version)
kernel=${KERNEL:-6.12}
# Who builds packages for others to use puts an address here that is read.
maintainer=${MAINTAINER:-The Clio developers <clio@example.org>}
stage=$out/clio-$version
rm -rf "$stage"
mkdir -p "$stage/tree/completions" "$stage/tree/man" "$stage/tree/dkms"

cp -R "$here/debian" "$stage/debian"
cp "$release/clio" "$release/cliod" "$stage/tree/"
cp -R "$here/modules-load.d" "$here/modprobe.d" "$here/prometheus" "$here/grafana" "$stage/tree/"
cp -R "$here/../docs" "$stage/tree/docs"
cp "$here/../Sources/clio/cliod@.service" "$stage/debian/clio.cliod@.service"
"$release/clio" --generate-completion-script bash | sed '1{/^#!/d}' >"$stage/tree/completions/clio"
"$release/clio" --generate-completion-script zsh >"$stage/tree/completions/_clio"
"$release/clio" --generate-completion-script fish >"$stage/tree/completions/clio.fish"

# swift-argument-parser's generator makes a page for each command.
mkdir "$stage/raw"
for program in clio cliod; do
	"$release/generate-manual" "$release/$program" --multi-page --section 8 --output-directory "$stage/raw"
done
for raw in "$stage"/raw/*.8; do
	page=$(basename "$raw" .8)
	[[ $page == *.help ]] || awk -v page="${page//./-}" -f "$here/manual.awk" "$raw" >"$stage/tree/man/${page//./-}.8"
done
rm -r "$stage/raw"
(cd "$stage" && ls tree/man/*.8) >"$stage/debian/clio.manpages"

# The modules' sources, and where DKMS finds what it builds.
while read -r path; do
	install -D -m 644 "$modules/$path" "$stage/tree/dkms/$path"
done <"$modules/.sources"
sed -e "s/@VERSION@/$version/" -e "s/@KERNEL@/${kernel//./\\\\.}/" "$here/dkms/dkms.conf" >"$stage/tree/dkms.conf"
n=0
while read -r path; do
	name=$(basename "$path" .ko)
	{
		printf 'BUILT_MODULE_NAME[%d]="%s"\n' "$n" "$name"
		printf 'BUILT_MODULE_LOCATION[%d]="%s"\n' "$n" "$(dirname "$path")"
		printf 'DEST_MODULE_LOCATION[%d]="/updates/dkms"\n' "$n"
	} >>"$stage/tree/dkms.conf"
	n=$((n + 1))
done < <(cd "$modules" && find . -name '*.ko' -printf '%P\n' | sort)
((n > 0)) || { echo "deb.sh: no modules in $modules" >&2; exit 1; }

sed -i -e "s/@VERSION@/$version/g" -e "s/@KERNEL@/$kernel/g" -e "s/@MAINTAINER@/$maintainer/" \
	"$stage"/debian/{control,clio-dkms.install}
date=$(git -C "$here" log -1 --format=%aD 2>/dev/null || date -R)
printf 'clio (%s) unstable; urgency=medium\n\n  * Release %s.\n\n -- %s  %s\n' \
	"$version" "$version" "$maintainer" "$date" >"$stage/debian/changelog"
chmod 755 "$stage/debian/rules"

(cd "$stage" && dpkg-buildpackage --build=binary --no-sign -d >"$out/dpkg-buildpackage.log" 2>&1) ||
	{ tail -n 30 "$out/dpkg-buildpackage.log" >&2; exit 1; }
ls "$out"/clio_"$version"_*.deb "$out"/clio-dkms_"$version"_*.deb
