package vmvolume_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/hyperplane-project/hyperplane/converters/all"
	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/hypervisor/fake"
	"github.com/hyperplane-project/hyperplane/server/vm"
	"github.com/hyperplane-project/hyperplane/server/vmvolume"
	"github.com/hyperplane-project/hyperplane/server/volume"
)

// machine is a VM with a raw and a qcow2 volume.
type machine struct {
	t         *testing.T
	dir, more string // the VM's folders in both volume directories
	record    *hypervisorv1.LocalVmInfo
	refuse    bool // changes of the record fail
	host      *fake.Host
	driver    *fake.Driver
	*vmvolume.Service
}

const testUUID = "d6d5b0a0-0000-4000-8000-000000000001"

var errRefused = errors.New("the record cannot be changed")

func newMachine(t *testing.T) *machine {
	t.Helper()
	first, second := t.TempDir(), t.TempDir()
	m := &machine{
		t: t, dir: filepath.Join(first, testUUID), more: filepath.Join(second, testUUID),
		record: &hypervisorv1.LocalVmInfo{VmInfo: &hypervisorv1.VmInfo{Uuid: testUUID, State: hypervisorv1.State_STATE_STOPPED}},
	}
	if err := os.Mkdir(m.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	maker := &volume.Maker{Formats: all.Formats()}
	m.host, m.driver = fake.New(fake.Options{})
	t.Cleanup(func() { _ = m.driver.Close() })
	m.Service = &vmvolume.Service{Operations: m, VMs: m, Files: maker, Driver: m.driver, Directories: []string{first, second}}
	for name, format := range map[string]hypervisorv1.VolumeFormat{
		"root": hypervisorv1.VolumeFormat_VOLUME_FORMAT_UNSPECIFIED, "secondary-volume.0": hypervisorv1.VolumeFormat_VOLUME_FORMAT_QCOW2,
	} {
		file := filepath.Join(m.dir, name)
		if _, err := maker.Empty(t.Context(), vm.VolumeSpec{File: file, Format: format, Size: 1 << 20}); err != nil {
			t.Fatal(err)
		}
	}
	m.record.VmInfo.Volumes = []*hypervisorv1.Volume{
		{Size: 1 << 20, VirtualSize: 1 << 20}, {Size: 1 << 20, VirtualSize: 1 << 20, Format: hypervisorv1.VolumeFormat_VOLUME_FORMAT_QCOW2},
	}
	m.record.VolumeLocations = []*hypervisorv1.LocalVolume{{Filename: filepath.Join(m.dir, "root")}, {Filename: filepath.Join(m.dir, "secondary-volume.0")}}
	return m
}

func (m *machine) Acquire(context.Context, string) (*hypervisorv1.LocalVmInfo, func(), error) {
	return m.record, func() {}, nil
}

func (m *machine) Change(
	_ context.Context, _ string, change func(*hypervisorv1.LocalVmInfo) error,
) (*hypervisorv1.LocalVmInfo, error) {
	if m.refuse {
		return nil, errRefused
	}
	r := proto.CloneOf(m.record)
	if err := change(r); err != nil {
		return nil, err
	}
	m.record = r
	return r, nil
}

func (m *machine) Finish(ctx context.Context, op func(context.Context) error) error { return op(ctx) }

func (m *machine) Directory(string) (string, error) { return m.dir, nil }

func (m *machine) Get(string) (*hypervisorv1.LocalVmInfo, error) { return m.record, nil }

func (m *machine) List() []*hypervisorv1.VmInfo { return []*hypervisorv1.VmInfo{m.record.GetVmInfo()} }

// run starts the VM.
func (m *machine) run() {
	m.t.Helper()
	spec := hypervisor.Spec{UUID: testUUID, Name: "vm", CPUs: 1, MemoryBytes: 64 << 20}
	for i, p := range m.record.GetVolumeLocations() {
		d := hypervisor.Disk{File: p.GetFilename()}
		if m.record.GetVmInfo().GetVolumes()[i].GetFormat() == hypervisorv1.VolumeFormat_VOLUME_FORMAT_QCOW2 {
			d.Format = hypervisor.DiskQCOW2
		}
		if m.record.GetVmInfo().GetVolumes()[i].GetInterface() == hypervisorv1.VolumeInterface_VOLUME_INTERFACE_NVME {
			d.Bus = hypervisor.BusNVMe
		}
		spec.Disks = append(spec.Disks, d)
	}
	if err := errors.Join(m.driver.Define(m.t.Context(), spec), m.driver.Start(m.t.Context(), testUUID)); err != nil {
		m.t.Fatal(err)
	}
	m.record = proto.CloneOf(m.record)
	m.record.VmInfo.State = hypervisorv1.State_STATE_RUNNING
}

// disks returns the names of the files that the running VM uses.
func (m *machine) disks() (names []string) {
	m.t.Helper()
	found, err := m.driver.Get(m.t.Context(), testUUID)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, d := range found.Spec.Disks {
		names = append(names, filepath.Base(d.File))
	}
	return names
}

func (m *machine) sizeOf(i int) uint64 {
	m.t.Helper()
	size, err := (&volume.Maker{Formats: all.Formats()}).Size(m.t.Context(), m.record.GetVolumeLocations()[i].GetFilename(), m.record.GetVmInfo().GetVolumes()[i].GetFormat())
	if err != nil {
		m.t.Error(err)
	}
	return size
}

func (m *machine) interfaces(all ...hypervisorv1.VolumeInterface) error {
	_, err := m.ChangeVmVolumeInterfaces(m.t.Context(), &hypervisorv1.ChangeVmVolumeInterfacesRequest{Vm: "u", Interfaces: all})
	return err
}

func (m *machine) move(i, to uint32) error {
	_, err := m.ChangeVmVolumeStorageIndex(m.t.Context(), &hypervisorv1.ChangeVmVolumeStorageIndexRequest{Vm: "u", VolumeIndex: i, StorageIndex: to})
	return err
}

// names returns the names of the volumes' files in their order.
func (m *machine) names() (names []string) {
	for _, p := range m.record.GetVolumeLocations() {
		names = append(names, filepath.Base(p.GetFilename()))
	}
	return names
}

func (m *machine) add(sizes ...uint64) error {
	_, err := m.AddVmVolumes(m.t.Context(), &hypervisorv1.AddVmVolumesRequest{Vm: "u", VolumeSizes: sizes})
	return err
}

func (m *machine) remove(i uint32) error {
	_, err := m.DeleteVmVolume(m.t.Context(), &hypervisorv1.DeleteVmVolumeRequest{Vm: "u", VolumeIndex: i})
	return err
}

func (m *machine) resize(i uint32, size uint64) error {
	_, err := m.ChangeVmVolumeSize(m.t.Context(), &hypervisorv1.ChangeVmVolumeSizeRequest{Vm: "u", VolumeIndex: i, VolumeSize: size})
	return err
}

func (m *machine) reorder(order ...uint32) error {
	_, err := m.ReorderVmVolumes(m.t.Context(), &hypervisorv1.ReorderVmVolumesRequest{Vm: "u", VolumeIndices: order})
	return err
}

func (m *machine) want(err error, code fault.Code) {
	m.t.Helper()
	if !fault.Is(err, code) {
		m.t.Errorf("%v, want code %d", err, code)
	}
}

func (m *machine) files(want int) {
	m.t.Helper()
	entries, err := os.ReadDir(m.dir)
	if err != nil || len(entries) != want {
		m.t.Errorf("the VM has the files %v, want %d: %v", entries, want, err)
	}
}

func TestAddDeleteReorder(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	if err := errors.Join(m.add(512, 1<<30), m.reorder(0, 3, 1, 2), m.remove(2), m.add(4096)); err != nil {
		t.Fatal(err)
	}
	want := []string{"root", "secondary-volume.2", "secondary-volume.1", "secondary-volume.0"}
	if diff := cmp.Diff(want, m.names()); diff != "" {
		t.Errorf("volumes (-want +got):\n%s", diff)
	}
	if size := m.record.GetVmInfo().GetVolumes()[3].GetVirtualSize(); size != 4096 {
		t.Errorf("the last volume has %d bytes", size)
	}
	if err := m.reorder(2, 1, 3); err != nil { // the root volume stays in front
		t.Error(err)
	}
	m.files(4)
	for _, order := range [][]uint32{{0, 1}, {0, 1, 2, 2}, {0, 1, 2, 4}, {0, 1, 2, 3, 3}} {
		m.want(m.reorder(order...), fault.InvalidArgument)
	}
	m.want(m.remove(0), fault.InvalidArgument)
	m.want(m.remove(4), fault.InvalidArgument)
	m.want(m.add(), fault.InvalidArgument)
	m.want(m.add(100), fault.InvalidArgument)
	m.want(m.add(make([]uint64, 70)...), fault.InvalidArgument)
}

func TestResize(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	for i := range uint32(2) {
		if err := m.resize(i, 5<<20); err != nil {
			t.Fatal(err)
		}
		if size := m.sizeOf(int(i)); size != 5<<20 || m.record.GetVmInfo().GetVolumes()[i].GetVirtualSize() != 5<<20 {
			t.Errorf("volume %d has %d bytes", i, size)
		}
	}
	m.want(m.resize(0, 1<<20), fault.Unimplemented)
	m.want(m.resize(0, 1<<20+1), fault.InvalidArgument)
	m.want(m.resize(2, 1<<20), fault.InvalidArgument)
}

// TestFailureLeavesNothing fails to keep the change; the files that were made for it go.
func TestFailureLeavesNothing(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.refuse = true
	if err := m.add(512, 512); !errors.Is(err, errRefused) {
		t.Error(err)
	}
	if err := m.remove(1); !errors.Is(err, errRefused) {
		t.Error(err)
	}
	m.files(2)
	m.refuse = false
	m.record.VmInfo.State = hypervisorv1.State_STATE_MIGRATING
	for _, err := range []error{m.add(512), m.remove(1), m.resize(0, 2<<20), m.reorder(1, 0), m.interfaces(0), m.move(0, 1)} {
		m.want(err, fault.FailedPrecondition)
	}
}

func TestStorageConfiguration(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	res, err := m.GetVmVolumeStorageConfiguration(t.Context(), &hypervisorv1.GetVmVolumeStorageConfigurationRequest{Vm: "u"})
	if err != nil {
		t.Fatal(err)
	}
	if len(res.GetStorageInfos()) != 2 || res.GetStorageInfos()[0].GetSizeBytes() == 0 || !cmp.Equal(res.GetVolumeStorageIndices(), []uint32{0, 0}) {
		t.Errorf("storage is %v", res)
	}
}
