# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# How a User Mode Linux kernel is made, for lib.sh. A change in this file makes
# new kernels, so what doesn't change their contents belongs elsewhere.

# The same sources give the same bytes, whoever builds them and when.
export KBUILD_BUILD_TIMESTAMP="Thu Jan  1 00:00:00 UTC 1970"
export KBUILD_BUILD_USER=clio KBUILD_BUILD_HOST=clio KBUILD_BUILD_VERSION=1

um_make() { make -C "$TREE" ARCH=um O="$UM_OUT" CC="$CC" LOCALVERSION= -j"$(nproc)" "$@"; }

# um_build BUILD FLAVOUR FRAGMENT...: in an output folder that stock, clio and
# broken share, because our patches touch modules only
um_build() {
	local build=$1 flavour=$2

	shift 2
	UM_OUT=$build/um
	[[ $flavour != debug ]] || UM_OUT=$build/um-debug
	log=$build/um-$flavour.log
	mkdir -p "$UM_OUT"
	cat "$@" >"$UM_OUT/allconfig"
	um_make KCONFIG_ALLCONFIG="$UM_OUT/allconfig" allnoconfig >"$log" 2>&1 || {
		tail -n 20 "$log" >&2
		die "allnoconfig failed" "The output: $log"
	}
	um_config_check "$flavour"
	logged "$log" "Building the $flavour kernel" um_make linux modules
}

um_config_check() {	# each symbol of the fragments has the value it was given
	local line symbol wrong=()

	while read -r line; do
		symbol=${line%%=*}
		[[ $1 != stock || $symbol != CONFIG_BLK_CLUSTER ]] || continue
		grep -qx -F "$line" "$UM_OUT/.config" || wrong+=("$line ($(grep "^$symbol=" "$UM_OUT/.config" || echo "not set"))")
	done < <(grep '^CONFIG_.*=[^n]' "$UM_OUT/allconfig")
	((${#wrong[@]} == 0)) || die "the configuration did not take:" "${wrong[@]}" \
		"Correct kernel/config/um*.config: a dependency is missing, or the symbol has gone."
}

um_install() {	# um_install FOLDER: all of it or nothing
	local new=$1.new.$$

	rm -rf "$new"
	mkdir -p "$new"
	um_make INSTALL_MOD_PATH="$new" INSTALL_MOD_STRIP=1 modules_install >>"$log" 2>&1 ||
		die "modules_install failed" "The output: $log"
	rm -f "$new"/lib/modules/*/{build,source}
	cp "$UM_OUT/linux" "$new/linux"
	cp "$UM_OUT/.config" "$new/config"
	rm -rf "$1"
	mv -T "$new" "$1"
}
