package e2e

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
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

// TestGuestOnNVMe creates a VM whose volumes are NVMe disks, which it boots from, and later changes the interface of one.
func TestGuestOnNVMe(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	d := startInNetwork(t)
	cc := d.dial()
	image, err := os.ReadFile(guest.Cache(t).QCOW2)
	if err != nil {
		t.Fatal(err)
	}
	const nvme, virtio = hypervisorv1.VolumeInterface_VOLUME_INTERFACE_NVME, hypervisorv1.VolumeInterface_VOLUME_INTERFACE_UNSPECIFIED
	v := createVM(ctx, t, cc, image, &hypervisorv1.CreateVmSpec{
		VmInfo: &hypervisorv1.VmInfo{
			Hostname: "nvme-1", MemoryInMib: 160, MilliCpus: 1000,
			Volumes: []*hypervisorv1.Volume{{Format: hypervisorv1.VolumeFormat_VOLUME_FORMAT_QCOW2, Interface: nvme}},
		},
		ImageDataSize: uint64(len(image)), SecondaryVolumes: []*hypervisorv1.Volume{{Size: 16 << 20, Interface: nvme}},
	})
	port := d.serial(ctx, v.GetUuid())
	port.await("GUEST READY")
	port.shell("sh -c 'echo S-'$(cat /sys/block/nvme1n1/size)-$(ls /dev/vd* 2>/dev/null)-", "S-32768--")
	port.shell("printf before >/before && printf written >/dev/nvme1n1 && sync && sh -c 'echo W-'$(cat /before)", "W-before")
	d.must("vm", "snapshot", "create", "nvme-1", "one", "--live")
	port.shell("printf after >/after && sync && sh -c 'echo W-'$(cat /after)", "W-after")
	if out, err := d.ctl("vm", "volume", "resize", "nvme-1", "1", "24M"); err == nil || !strings.Contains(err.Error(), "stop the machine first") {
		t.Errorf("grown while it runs: %v %s", err, out)
	}

	d.must("vm", "stop", "nvme-1")
	d.must("vm", "snapshot", "restore", "nvme-1", "one")
	d.must("vm", "volume", "resize", "nvme-1", "1", "24M")
	_, err = hypervisorv1.NewVolumeServiceClient(cc).ChangeVmVolumeInterfaces(ctx, &hypervisorv1.ChangeVmVolumeInterfacesRequest{
		Vm: v.GetUuid(), Interfaces: []hypervisorv1.VolumeInterface{nvme, virtio},
	})
	if err != nil {
		t.Fatal(err)
	}
	d.must("vm", "start", "nvme-1")
	port = d.serial(ctx, v.GetUuid())
	port.await("GUEST READY")
	port.shell("sh -c 'echo R-'$(cat /before)-$(ls /after 2>/dev/null)-$(cat /sys/block/vda/size)-$(head -c 7 /dev/vda)-$(ls -d /dev/nvme?n?)", "R-before--49152-written-/dev/nvme0n1")
	d.must("vm", "destroy", "nvme-1")
}

// createVM creates a VM from an image that follows its spec.
func createVM(ctx context.Context, t *testing.T, cc *grpc.ClientConn, image []byte, spec *hypervisorv1.CreateVmSpec) *hypervisorv1.VmInfo {
	t.Helper()
	stream, err := hypervisorv1.NewVmServiceClient(cc).CreateVm(ctx)
	if err != nil {
		t.Fatal(err)
	}
	messages := []*hypervisorv1.CreateVmRequest{{Part: &hypervisorv1.CreateVmRequest_Spec{Spec: spec}}}
	for piece := range slices.Chunk(image, 1<<20) {
		messages = append(messages, &hypervisorv1.CreateVmRequest{Part: &hypervisorv1.CreateVmRequest_ImageData{ImageData: piece}})
	}
	for _, m := range messages {
		if err := stream.Send(m); err != nil {
			break // Recv says why
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if m.GetFinal() {
			return m.GetVmInfo()
		}
	}
}
