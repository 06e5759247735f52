#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# test-deb.sh OUT KDIR: what deb.sh left in OUT passes lintian, its units are sound, and DKMS builds its modules for the
# kernel whose headers are in KDIR and installs them over that kernel's own, in trees of its own (it makes its signing key in
# /var/lib/dkms if there is none).
set -euo pipefail
out=$(realpath "$1") kdir=$(realpath "$2")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "lintian"
lintian --allow-root --fail-on error "$out"/clio*.changes

echo "contents"
for deb in "$out"/clio_*.deb "$out"/clio-dkms_*.deb; do
	dpkg-deb -x "$deb" "$work/root"
done
"$work/root/usr/bin/clio" --version
unit=$(find "$work/root" -name 'cliod@.service')
completions=(/usr/share/bash-completion/completions/clio /usr/share/zsh/vendor-completions/_clio
	/usr/share/fish/vendor_completions.d/clio.fish)
for path in /usr/bin/cliod /usr/lib/modprobe.d/clio.conf /usr/lib/modules-load.d/clio.conf "${completions[@]}"; do
	[[ -s $work/root$path ]] || { echo "test-deb.sh: package clio has no $path" >&2; exit 1; }
done

echo "completions"
# shellcheck disable=SC2016 # expanded where it is sourced
bash --norc -euc 'source "$1"; complete -p clio' bash "$work/root${completions[0]}" >/dev/null

echo "systemd-analyze verify"
# The program is in the package, not yet on this machine.
cp "$unit" "$work/cliod@lab.service"
sed -i "s|/usr/bin/cliod|$work/root/usr/bin/cliod|" "$work/cliod@lab.service"
systemd-analyze verify --man=no --recursive-errors=no "$work/cliod@lab.service"

echo "systemd-analyze security"
# 0 to 100. What is left is what cliod cannot do without, and says in the unit.
systemd-analyze security --offline=yes --threshold=45 --no-pager "$work/cliod@lab.service" | tail -n 1

echo "man pages"
pages=$work/root/usr/share/man/man8
for page in clio cliod clio-apply clio-node-bootstrap; do
	[[ -f $pages/$page.8.gz ]] || { echo "test-deb.sh: package clio has no manual page $page(8)" >&2; exit 1; }
done
for page in "$pages"/*.8.gz; do
	wrong=$(LC_ALL=C.UTF-8 MANROFFSEQ='' MANWIDTH=100 man --warnings -E UTF-8 -l -Tutf8 -Z "$page" 2>&1 >/dev/null)
	[[ -z $wrong ]] || { echo "test-deb.sh: ${page##*/}: $wrong" >&2; exit 1; }
done

echo "DKMS for $(basename "$kdir")"
source=("$work"/root/usr/src/clio-*)
version=${source[0]##*/clio-}
release=$(make -s -C "$kdir" kernelrelease)
mkdir -p "$work/dkms" "$work/modules"
dkms=(dkms --dkmstree "$work/dkms" --sourcetree "$work/root/usr/src" --installtree "$work/modules"
	-k "$release" --kernelsourcedir "$kdir" -j 2)
"${dkms[@]}" add "clio/$version"
"${dkms[@]}" build "clio/$version" || { cat "$work/dkms/clio/$version/build/make.log" >&2; exit 1; }
built=$(find "$work/dkms/clio/$version/$release" -name '*.ko*' -printf '%f\n' | sort)
# The series does not touch it, and Debian has none.
grep -q '^tcm_remote\.ko' <<<"$built" || { echo "test-deb.sh: DKMS does not build tcm_remote" >&2; exit 1; }
# The kernel's own modules are there, too: DKMS does not replace those that it takes for the same.
mkdir -p "$work/modules/$release/kernel"
for module in $built; do
	stock=$(find "/lib/modules/$release/kernel" -name "${module%%.*}.ko*")
	[[ -z $stock ]] || cp "$stock" "$work/modules/$release/kernel/"
done
"${dkms[@]}" install "clio/$version"
diff <(find "$work/modules/$release/updates/dkms" -name '*.ko*' -printf '%f\n' | sort) - <<<"$built" ||
	{ echo "test-deb.sh: DKMS does not install all modules" >&2; exit 1; }
for module in $built; do
	echo "$module $(modinfo -F version "$work/modules/$release/updates/dkms/$module")"
done
