#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# machine.sh DEBS OUT: a machine that boots Debian, with the packages in DEBS installed as README says: OUT/disk.img,
# OUT/vmlinuz, OUT/initrd, and OUT/key, with which root logs in. Debian comes from where this machine has its own from.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
debs=$(realpath "$1")
mkdir -p "$2"
out=$(realpath "$2")
kernel=${KERNEL:-6.12}
codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
architecture=$(dpkg --print-architecture)

# What README has an operator type on a new gateway.
install=$(sed -n 's/^gw1# \(apt install \)/\1/p' "$here/../README.md")
[[ -n $install ]] || { echo "machine.sh: README.md says nowhere how packages are installed" >&2; exit 1; }

release=$(apt-cache search --names-only "^linux-image-$kernel\\.[0-9]+.*-$architecture\$" | awk '{print $1}' |
	grep -vE -e '-(rt|cloud)-' | sort -V | tail -n 1)
release=${release#linux-image-}
[[ -n $release ]] || { echo "machine.sh: apt finds no linux-image-$kernel.*; apt-get update may help" >&2; exit 1; }

work=$(mktemp -d "$out/new.XXXXXX")
trap 'rm -rf "$work"' EXIT
export DEBIAN_FRONTEND=noninteractive
rm -f "$out/key" "$out/key.pub"
ssh-keygen -q -t ed25519 -N '' -C 'clio test machine' -f "$out/key"

mkdir -p "$work/files/root/.ssh" "$work/files/etc/systemd/network" "$work/files/etc/initramfs-tools/conf.d"
chmod 755 "$work" "$work/files"
chmod 700 "$work/files/root" "$work/files/root/.ssh"
cp "$out/key.pub" "$work/files/root/.ssh/authorized_keys"
cp "$debs"/clio_*.deb "$debs"/clio-dkms_*.deb "$work/files/root/"
echo debian >"$work/files/etc/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 debian\n' >"$work/files/etc/hosts"
echo '/dev/vda / ext4 errors=remount-ro 0 1' >"$work/files/etc/fstab"
printf '[Match]\nType=ether\n\n[Network]\nAddress=%s\n' "${ADDRESS:-10.77.0.50/24}" \
	>"$work/files/etc/systemd/network/lab.network"
# Emulated, it would take long to unpack more.
echo 'MODULES=list' >"$work/files/etc/initramfs-tools/conf.d/machine"
printf 'virtio_pci\nvirtio_blk\next4\n' >"$work/files/etc/initramfs-tools/modules"

sources=()
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
	[[ ! -s $file ]] || sources+=("$file")
done
echo "Debian $codename with linux-image-$release"
# shellcheck disable=SC2016 # expanded where mmdebstrap runs them
mmdebstrap --quiet --mode=root --variant=minbase --format=directory \
	--aptopt='Acquire::Check-Valid-Until "false"' --aptopt='APT::Install-Recommends "false"' \
	--include="systemd-sysv,dbus,kmod,udev,iproute2,iptables,openssh-server,python3,initramfs-tools" \
	--essential-hook="sync-in $work/files /" \
	--customize-hook="chroot \"\$1\" apt-get install -q -y linux-image-$release linux-headers-$release" \
	--customize-hook="chroot \"\$1\" sh -ec 'cd /root && $install -y'" \
	--customize-hook='chroot "$1" systemctl enable systemd-networkd ssh' \
	"$codename" "$work/root" "${sources[@]}" >"$out/build.log" 2>&1 ||
	{ tail -n 40 "$out/build.log" >&2; exit 1; }
find "$work/root/lib/modules/$release/updates/dkms" -name '*.ko*' -printf 'installed %f\n' | sort

cp "$work/root/boot/vmlinuz-$release" "$out/vmlinuz"
cp "$work/root/boot/initrd.img-$release" "$out/initrd"
rm -f "$out/disk.img"
truncate -s 4G "$out/disk.img"
mkfs.ext4 -q -F -d "$work/root" "$out/disk.img"
echo "$release" >"$out/release"
