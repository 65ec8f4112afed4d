package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Debian's libvirt does not start without this account, even when qemu.conf names another. Only libvirt-daemon-system makes it,
// which a private instance does not need otherwise. The number is Debian's for it.
const (
	qemuUser  = "libvirt-qemu:x:64055:64055:QEMU:/var/lib/libvirt:/usr/sbin/nologin\n"
	qemuGroup = "libvirt-qemu:x:64055:\n"
)

// addAccounts makes the account known in this mount namespace where the host lacks it.
func (i instance) addAccounts() error {
	if err := i.addLine("/etc/passwd", qemuUser); err != nil {
		return err
	}
	return i.addLine("/etc/group", qemuGroup)
}

// addLine puts a copy of the file that has the line over the file, unless an entry of that name is there.
func (i instance) addLine(file, line string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	name, _, _ := strings.Cut(line, ":")
	if strings.Contains("\n"+string(text), "\n"+name+":") {
		return nil
	}
	longer := filepath.Join(i.dir, filepath.Base(file))
	if err := os.WriteFile(longer, append(text, line...), 0o644); err != nil { //nolint:gosec // as readable as the file it stands for
		return err
	}
	if err := unix.Mount(longer, file, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s: %w", file, err)
	}
	return nil
}
