package e2e

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hyperplane-project/hyperplane/test/guest"
)

// TestGuestSeesItsDisks works on the volumes of a guest that runs, with the shipped programs, and looks from inside: what is added and grown, what a snapshot
// brings back, what a move to another storage device keeps. The creation waits for the guest's lease, and its user data come on a seed disk.
func TestGuestSeesItsDisks(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	more := filepath.Join(t.TempDir(), "more")
	d := startInNetwork(t, "more_volume_dirs: ["+more+"]")
	userData := filepath.Join(t.TempDir(), "user-data")
	write(t, userData, "#!/bin/sh\necho of-the-user\n")
	out := d.must("vm", "create", "disks-1", "--memory", "160M", "--cpus", "1", "--image", guest.Cache(t).QCOW2, "--format", "qcow2", "--progress", "none",
		"--user-data", userData, "--disk", "16M", "--dhcp-timeout", "2m")
	if strings.Contains(out, "has not taken its address") {
		t.Errorf("the guest has not taken its address: %s", out)
	}
	v := d.vm("disks-1")
	port := d.serial(ctx, v.UUID)
	port.shell("mount -t iso9660 /dev/sda /mnt && grep of-the-user /mnt/user-data; umount /mnt", "echo of-the-user")
	port.shell("sh -c 'echo S-'$(cat /sys/block/vdb/size)", "S-32768")

	d.must("vm", "volume", "add", "disks-1", "8M")
	port.shell("sh -c 'echo S-'$(cat /sys/block/vdc/size)", "S-16384")
	d.must("vm", "volume", "resize", "disks-1", "2", "24M")
	port.shell("sh -c 'echo S-'$(cat /sys/block/vdc/size)", "S-49152")

	// What is written after the snapshot is gone after the restoration; what was written before is there, also after the move.
	port.shell("printf before >/before && sync && sh -c 'echo W-'$(cat /before)", "W-before")
	d.must("vm", "snapshot", "create", "disks-1", "one", "--live")
	port.shell("printf after >/after && sync && sh -c 'echo W-'$(cat /after)", "W-after")
	d.must("vm", "snapshot", "restore", "disks-1", "one", "--force")
	port = d.serial(ctx, v.UUID)
	port.await("GUEST READY")
	port.shell("sh -c 'echo R-'$(cat /before)-$(ls /after 2>/dev/null)-", "R-before--")

	d.must("vm", "volume", "move", "disks-1", "0", "1")
	if left := entries(t, filepath.Join(more, v.UUID)); len(left) != 1 {
		t.Errorf("on the second device: %v", left)
	}
	port.shell("sync && echo 3 >/proc/sys/vm/drop_caches && sh -c 'echo M-'$(cat /before)", "M-before")
	d.must("vm", "volume", "remove", "disks-1", "2")
	port.shell("sh -c 'echo G-'$(ls /sys/block | grep -c vdc)", "G-0")
	d.must("vm", "destroy", "disks-1")
	if left := entries(t, more); len(left) > 0 {
		t.Errorf("left on the second device: %v", left)
	}
}
