package main

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// instance is where a private libvirt keeps its files.
type instance struct {
	dir, cache string
	kvm        bool
}

// enter makes this process's namespaces fit for libvirt: its compiled-in folders are the instance's own, /proc and /sys show the
// new namespaces, and the loopback interface is up.
func (i instance) enter() error {
	// Without this the mounts below would appear in the machine's main namespace too.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	for _, m := range []struct{ source, target string }{
		{filepath.Join(i.dir, "etc"), "/etc/libvirt"},
		{filepath.Join(i.dir, "run"), "/run/libvirt"},
		{filepath.Join(i.dir, "lib"), "/var/lib/libvirt"},
		{filepath.Join(i.dir, "log"), "/var/log/libvirt"},
		{i.cache, "/var/cache/libvirt"},
	} {
		if err := bindDir(m.source, m.target); err != nil {
			return err
		}
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := i.remountSysfs(); err != nil {
		return err
	}
	if err := i.hideKVM(); err != nil {
		return err
	}
	if err := i.addAccounts(); err != nil {
		return err
	}
	return loopbackUp()
}

// bindDir mounts source over target. The target is made if the packages did not; it stays, empty, in the main namespace.
func bindDir(source, target string) error {
	for _, dir := range []string{source, target} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s to %s: %w", source, target, err)
	}
	return nil
}

// remountSysfs makes /sys/class/net show the interfaces of this network namespace. The cgroup trees below /sys are carried over.
func (i instance) remountSysfs() error {
	const cgroups = "/sys/fs/cgroup"
	keep := filepath.Join(i.dir, "cgroup")
	if err := bindDir(cgroups, keep); err != nil {
		return err
	}
	if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
		return fmt.Errorf("mount /sys: %w", err)
	}
	if err := unix.Mount(keep, cgroups, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind cgroups: %w", err)
	}
	if err := unix.Unmount(keep, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount %s: %w", keep, err)
	}
	return os.Remove(keep)
}

// hideKVM puts a file that cannot be written in the place of KVM's device, so that libvirt does not even offer it. With a device
// that opens and is not KVM, libvirt would probe QEMU again at each start, hoping that KVM has come.
func (i instance) hideKVM() error {
	const dev = "/dev/kvm"
	if _, err := os.Stat(dev); i.kvm || os.IsNotExist(err) {
		return nil
	}
	hidden := filepath.Join(i.dir, "no-kvm")
	if err := os.WriteFile(hidden, nil, 0o400); err != nil {
		return err
	}
	for _, flags := range []uintptr{unix.MS_BIND, unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY} {
		if err := unix.Mount(hidden, dev, "", flags, ""); err != nil {
			return fmt.Errorf("hide %s: %w", dev, err)
		}
	}
	return nil
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}
