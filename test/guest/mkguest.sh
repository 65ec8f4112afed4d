#!/bin/bash
# mkguest.sh OUTDIR - makes a tiny Linux guest for tests, in a few seconds, without mounting anything and without root.
#
#   OUTDIR/vmlinuz, OUTDIR/initrd.gz   boot directly with -kernel and -initrd
#   OUTDIR/guest.raw                   a disk that boots with BIOS and UEFI: EFI system partition and an ext4 root
#   OUTDIR/guest.qcow2                 the same, compressed
#
# MARKER      word that the guest says on its serial port (default: hyperplane)
# CACHE       where the downloaded kernel is kept (default: OUTDIR/kernel)
#
# The kernel is Debian's for virtual machines; its package is downloaded, not installed. scripts/install-deps.sh installs the tools.
set -euo pipefail
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"

out=$(realpath -m -- "${1:?usage: mkguest.sh OUTDIR}")
marker=${MARKER:-hyperplane}
here=$(dirname -- "$(realpath -- "$0")")
mkdir -p -- "$out"
cache=$(realpath -m -- "${CACHE:-$out/kernel}")
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT

# Drivers the guest needs to find its disk, its network cards and the power button. Those built into the kernel are no modules.
modules='virtio_pci virtio_blk virtio_net virtio_scsi virtio_balloon virtio-rng ata_piix ahci nvme sd_mod isofs e1000 e1000e button evdev ext4'

# On a busy host an emulated timer is late; the kernel must not take it for broken.
kernel_options='console=ttyS0 quiet loglevel=1 panic=1 no_timer_check'

esp_mib=48
root_mib=24
esp_start=2048 # sector
root_start=$((esp_start + esp_mib * 2048))

# fetch_kernel fills the cache with boot/vmlinuz-VERSION and lib/modules/VERSION.
fetch_kernel() {
	[ -e "$cache/boot" ] && return
	local package new=$cache.$$
	package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image-/ {print $2; exit}')
	: "${package:?the package lists have no linux-image-cloud-amd64; run apt-get update}"
	(cd "$work" && apt-get --quiet=2 -o APT::Sandbox::User=root download "$package")
	dpkg-deb --extract "$work/$package"_*.deb "$new"
	# Debian 12 has /lib in the package, later releases /usr/lib.
	[ -d "$new/lib/modules" ] || ln -s usr/lib "$new/lib"
	depmod --basedir "$new" "$(ls "$new/lib/modules")"
	# Another run may have been faster.
	mv -T "$new" "$cache" 2>/dev/null || rm -rf -- "$new"
	[ -e "$cache/boot" ]
}

# add_programs DIR puts the programs that initrd and root have in common into DIR.
add_programs() {
	mkdir -p "$1"/{bin,sbin,etc,proc,sys,dev,run,tmp,mnt}
	cp /bin/busybox "$1/bin/busybox"
	install -m 755 "$here/rootfs/guest-init" "$here/rootfs/udhcpc-script" "$1/sbin/"
	printf '%s\n' "$marker" >"$1/etc/hyperplane-marker"
}

make_initrd() {
	local dir=$work/initrd version module
	version=$(ls "$cache/lib/modules")
	add_programs "$dir"
	install -m 755 "$here/rootfs/initrd-init" "$dir/init"
	mkdir -p "$dir/lib/modules"
	for module in $modules; do
		modprobe --dirname "$cache" --set-version "$version" --show-depends "$module" 2>/dev/null || true
	done | awk '$1 == "insmod" && !seen[$2]++ {print $2}' >"$work/modules"
	xargs -a "$work/modules" cp -t "$dir/lib/modules"
	sed 's,.*/,,' "$work/modules" >"$dir/lib/modules/order"
	(cd "$dir" && find . | cpio --create --format=newc --owner=0:0 --quiet) | gzip -1 >"$out/initrd.gz"
	cp "$cache"/boot/vmlinuz-* "$out/vmlinuz"
}

make_root() {
	local dir=$work/root program
	add_programs "$dir"
	for program in $(/bin/busybox --list); do
		[ "$program" = busybox ] || ln -s busybox "$dir/bin/$program"
	done
	truncate -s "${root_mib}M" "$work/root.ext4"
	mke2fs -q -F -t ext4 -O ^has_journal -E root_owner=0:0 -L hyperplane-root -d "$dir" "$work/root.ext4"
}

# make_disk joins the two boot loaders and the root file system: syslinux for BIOS, systemd-boot for UEFI.
make_disk() {
	local raw=$work/guest.raw esp=$work/esp.fat append="$kernel_options root=LABEL=hyperplane-root"
	truncate -s $((1 + esp_mib + root_mib + 1))M "$raw"
	# Not -q: sgdisk then writes nothing and reports success.
	sgdisk --clear --new=1:$esp_start:+${esp_mib}M --typecode=1:ef00 --attributes=1:set:2 \
		--new=2:$root_start:+${root_mib}M --typecode=2:8300 "$raw" >/dev/null

	truncate -s "${esp_mib}M" "$esp"
	mkfs.vfat -F 32 -s 1 -n ESP "$esp" >/dev/null
	printf 'DEFAULT guest\nLABEL guest\n  KERNEL /vmlinuz\n  INITRD /initrd.gz\n  APPEND %s\n' "$append" >"$work/syslinux.cfg"
	printf 'default guest\ntimeout 0\n' >"$work/loader.conf"
	printf 'title guest\nlinux /vmlinuz\ninitrd /initrd.gz\noptions %s\n' "$append" >"$work/guest.conf"
	mmd -i "$esp" ::/EFI ::/EFI/BOOT ::/loader ::/loader/entries
	mcopy -i "$esp" "$out/vmlinuz" "$out/initrd.gz" "$work/syslinux.cfg" ::/
	mcopy -i "$esp" /usr/lib/systemd/boot/efi/systemd-bootx64.efi ::/EFI/BOOT/BOOTX64.EFI
	mcopy -i "$esp" "$work/loader.conf" ::/loader/
	mcopy -i "$esp" "$work/guest.conf" ::/loader/entries/

	dd if="$esp" of="$raw" bs=512 seek=$esp_start conv=notrunc,sparse status=none
	dd if="$work/root.ext4" of="$raw" bs=512 seek=$root_start conv=notrunc,sparse status=none
	syslinux --install --offset $((esp_start * 512)) "$raw"
	dd if=/usr/lib/syslinux/mbr/gptmbr.bin of="$raw" bs=440 count=1 conv=notrunc status=none
	qemu-img convert -c -O qcow2 "$raw" "$work/guest.qcow2"
	mv "$raw" "$work/guest.qcow2" "$out/"
}

fetch_kernel
make_initrd
make_root
make_disk
