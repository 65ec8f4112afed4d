#!/bin/bash
# install-deps.sh - installs the Debian packages that tests, the demo and a virtualisation host need, if they are missing.
#
# It says what it installs and does nothing when all is there. Run it as root. "--check" only says what is missing (status 1).
set -euo pipefail
export LC_ALL=C

# What a host that runs machines needs.
host='libvirt-daemon libvirt-daemon-driver-qemu qemu-system-x86 qemu-utils dnsmasq-base iptables iproute2 ovmf ipxe-qemu'
# What scripts/, the test guest and the tests need besides.
tests='libvirt-clients 7zip python3-libvhdi python3-libvmdk python3-libqcow xfsprogs cpio gdisk mtools dosfstools e2fsprogs syslinux syslinux-common systemd-boot-efi busybox-static kmod
	util-linux procps curl'

missing=()
for package in $host $tests; do
	status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
	[ "$status" = installed ] || missing+=("$package")
done

if [ ${#missing[@]} -eq 0 ]; then
	echo 'install-deps: every package is installed'
	exit 0
fi
echo "install-deps: missing: ${missing[*]}"
if [ "${1:-}" = --check ]; then
	exit 1
fi

export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install --yes --no-install-recommends "${missing[@]}"
