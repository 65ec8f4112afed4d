package vmvolume_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/hypervisor/fake"
)

func same[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// TestRunning changes the volumes of a VM that runs.
func TestRunning(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.run()
	if err := errors.Join(m.add(512, 4096), m.remove(2), m.resize(0, 4<<20), m.resize(1, 4<<20)); err != nil {
		t.Fatal(err)
	}
	want := []string{"root", "secondary-volume.0", "secondary-volume.2"}
	same(t, "volumes", m.names(), want)
	same(t, "disks", m.disks(), want)
	if a, b := m.sizeOf(0), m.sizeOf(1); a != 4<<20 || b != 4<<20 {
		t.Errorf("sizes %d and %d", a, b)
	}
	m.files(3)
	m.want(m.resize(0, 2<<20), fault.FailedPrecondition)
	m.want(m.reorder(1, 0, 2), fault.FailedPrecondition)
	m.want(m.interfaces(0), fault.FailedPrecondition)
}

// TestRunningFailure fails half-way; the VM and its record are as before.
func TestRunningFailure(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.run()
	want := []string{"root", "secondary-volume.0"}
	m.refuse = true
	if err := errors.Join(m.add(512), m.remove(1), m.move(1, 1)); !errors.Is(err, errRefused) {
		t.Error(err)
	}
	m.refuse = false
	if err := m.host.SetKeepsDisks(testUUID, true); err != nil {
		t.Fatal(err)
	}
	m.want(m.remove(1), fault.FailedPrecondition)
	m.host.FailNext(fake.MethodAttachDisk, fault.New(fault.FailedPrecondition, "full"))
	m.want(m.add(512), fault.FailedPrecondition)
	same(t, "volumes", m.names(), want)
	same(t, "disks", m.disks(), want)
	m.files(2)
}

// TestMoveIsFinished has the daemon killed after the machine has changed over.
func TestMoveIsFinished(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.run()
	from, to := m.record.GetVolumeLocations()[1].GetFilename(), filepath.Join(m.more, "secondary-volume.0")
	if err := errors.Join(os.Mkdir(m.more, 0o755), os.WriteFile(to+".moving", []byte(from), 0o600),
		m.driver.MoveDisk(t.Context(), testUUID, from, to, nil), m.Recover(t.Context())); err != nil {
		t.Fatal(err)
	}
	same(t, "place", m.record.GetVolumeLocations()[1].GetFilename(), to)
	m.files(1)
	if _, err := os.Stat(to + ".moving"); !os.IsNotExist(err) {
		t.Errorf("the marker is left: %v", err)
	}
}

func TestInterfaces(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	const ide, nvme = hypervisorv1.VolumeInterface_VOLUME_INTERFACE_IDE, hypervisorv1.VolumeInterface_VOLUME_INTERFACE_NVME
	if err := errors.Join(m.interfaces(0, ide), m.interfaces(ide)); err != nil {
		t.Fatal(err)
	}
	for i, v := range m.record.GetVmInfo().GetVolumes() {
		if v.GetInterface() != ide {
			t.Errorf("volume %d: %v", i, v.GetInterface())
		}
	}
	m.want(m.interfaces(), fault.InvalidArgument)
	m.want(m.interfaces(0, 0, 0), fault.InvalidArgument)
	m.want(m.interfaces(99), fault.InvalidArgument)
	if err := errors.Join(m.interfaces(0, nvme), m.interfaces(nvme)); err != nil {
		t.Fatal(err)
	}
	for i, v := range m.record.GetVmInfo().GetVolumes() {
		if v.GetInterface() != nvme {
			t.Errorf("volume %d: %v", i, v.GetInterface())
		}
	}
	m.run()
	m.want(m.resize(1, 4<<20), fault.FailedPrecondition)
	m.record.VmInfo.State = hypervisorv1.State_STATE_STOPPED
	_, old := fake.New(fake.Options{NoNVMe: "a newer version"})
	t.Cleanup(func() { _ = old.Close() })
	m.Driver = old
	m.want(m.interfaces(0, nvme), fault.Unimplemented)
	if err := m.interfaces(ide, ide); err != nil {
		t.Fatal(err)
	}
	m.want(m.interfaces(hypervisorv1.VolumeInterface_VOLUME_INTERFACE_DFM), fault.Unimplemented)
	m.record.VmInfo.MachineType = hypervisorv1.MachineType_MACHINE_TYPE_Q35
	if err := m.interfaces(0, ide); err != nil {
		t.Errorf("IDE, which is SATA on this board: %v", err)
	}
	m.record.VmInfo.MachineType, m.record.VmInfo.ArchitectureType = hypervisorv1.MachineType_MACHINE_TYPE_VIRT, hypervisorv1.ArchitectureType_ARCHITECTURE_TYPE_ARM64
	m.want(m.interfaces(ide, ide), fault.InvalidArgument)
	if v := m.record.GetVmInfo().GetVolumes()[0].GetInterface(); v != 0 {
		t.Errorf("changed to %v", v)
	}
}

func TestMove(t *testing.T) {
	t.Parallel()
	for name, running := range map[string]bool{"stopped": false, "running": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			content := bytes.Repeat([]byte("content "), 1<<17)
			if err := os.WriteFile(m.record.GetVolumeLocations()[0].GetFilename(), content, 0o600); err != nil {
				t.Fatal(err)
			}
			if running {
				m.run()
			}
			for i := range uint32(2) {
				if err := errors.Join(m.move(i, 1), m.move(i, 1)); err != nil {
					t.Fatal(err)
				}
			}
			got, err := os.ReadFile(filepath.Join(m.more, "root"))
			if err != nil || !bytes.Equal(got, content) {
				t.Errorf("%d bytes: %v", len(got), err)
			}
			if _, err := os.Stat(m.dir); !os.IsNotExist(err) {
				t.Errorf("the old folder is left: %v", err)
			}
			res, err := m.GetVmVolumeStorageConfiguration(t.Context(), &hypervisorv1.GetVmVolumeStorageConfigurationRequest{Vm: "u"})
			if err != nil || !cmp.Equal(res.GetVolumeStorageIndices(), []uint32{1, 1}) {
				t.Errorf("storage: %v, %v", res, err)
			}
			if running {
				same(t, "disks", m.disks(), []string{"root", "secondary-volume.0"})
			}
			m.want(m.move(0, 2), fault.InvalidArgument)
			m.want(m.move(2, 0), fault.InvalidArgument)
			m.record.VmInfo.Volumes[0].Snapshots = map[string]uint64{"monday": 1}
			m.want(m.move(0, 0), fault.FailedPrecondition)
		})
	}
}

// TestMoveIsTakenBack fails to keep the change of a stopped VM, and finds what a killed daemon has left.
func TestMoveIsTakenBack(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.refuse = true
	if err := m.move(0, 1); !errors.Is(err, errRefused) {
		t.Error(err)
	}
	m.refuse = false
	expectEmpty := func() {
		t.Helper()
		if entries, err := os.ReadDir(m.more); !os.IsNotExist(err) {
			t.Errorf("left: %v, %v", entries, err)
		}
		m.files(2)
	}
	expectEmpty()
	if err := errors.Join(os.Mkdir(m.more, 0o755), os.WriteFile(filepath.Join(m.more, "root"), []byte("half"), 0o600),
		os.WriteFile(filepath.Join(m.more, "root.moving"), []byte(m.record.GetVolumeLocations()[0].GetFilename()), 0o600), m.Recover(t.Context())); err != nil {
		t.Fatal(err)
	}
	expectEmpty()
}

// filesystems shrinks to 2 MiB at the least.
type filesystems struct{ grown []uint64 }

func (f *filesystems) GrowFilesystem(_ context.Context, d hypervisor.Disk) error {
	info, err := os.Stat(d.File)
	if err == nil {
		f.grown = append(f.grown, uint64(info.Size()))
	}
	return err
}

func (f *filesystems) ShrinkFilesystem(_ context.Context, _ hypervisor.Disk, size uint64) error {
	if size < 2<<20 {
		return fault.New(fault.FailedPrecondition, "too small for what is in it")
	}
	return nil
}

func TestFilesystemsFollow(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	fs := &filesystems{}
	m.Filesystems = fs
	if err := errors.Join(m.resize(0, 8<<20), m.resize(0, 3<<20)); err != nil {
		t.Fatal(err)
	}
	same(t, "grown to", fs.grown, []uint64{8 << 20})
	if size := m.sizeOf(0); size != 3<<20 || m.record.GetVmInfo().GetVolumes()[0].GetVirtualSize() != 3<<20 {
		t.Errorf("%d bytes", size)
	}
	m.want(m.resize(0, 1<<20), fault.FailedPrecondition)
	m.want(m.resize(1, 512), fault.FailedPrecondition) // qcow2
	m.refuse = true
	if err := m.resize(0, 2<<20); !errors.Is(err, errRefused) {
		t.Error(err)
	}
	if size := m.sizeOf(0); size != 3<<20 {
		t.Errorf("%d bytes after a failure", size)
	}
}
