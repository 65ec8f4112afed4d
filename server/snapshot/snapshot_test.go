package snapshot_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/hyperplane-project/hyperplane/converters/all"
	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/hypervisor/fake"
	"github.com/hyperplane-project/hyperplane/server/snapshot"
	"github.com/hyperplane-project/hyperplane/server/volume"
)

// machine is a VM with a raw root volume and a raw second one.
type machine struct {
	t      *testing.T
	record *hypervisorv1.LocalVmInfo
	refuse bool // changes of the record fail
	copies *files
	host   *fake.Host
	driver *fake.Driver
	calls  []string
	*snapshot.Service
}

var errRefused = errors.New("the record cannot be changed")

func newMachine(t *testing.T) *machine {
	t.Helper()
	dir := t.TempDir()
	m := &machine{t: t, record: &hypervisorv1.LocalVmInfo{VmInfo: &hypervisorv1.VmInfo{Uuid: testUUID, State: hypervisorv1.State_STATE_STOPPED}}}
	for _, name := range []string{"root", "secondary-volume.0"} {
		m.record.VmInfo.Volumes = append(m.record.VmInfo.Volumes, &hypervisorv1.Volume{Size: 1 << 20, VirtualSize: 1 << 20})
		m.record.VolumeLocations = append(m.record.VolumeLocations, &hypervisorv1.LocalVolume{DirectoryToCleanup: dir, Filename: filepath.Join(dir, name)})
	}
	m.fill("before")
	m.copies = &files{Maker: &volume.Maker{Formats: all.Formats()}}
	m.host, m.driver = fake.New(fake.Options{})
	t.Cleanup(func() { _ = m.driver.Close() })
	m.Service = &snapshot.Service{VMs: m, Operations: m, Files: m.copies, Driver: m.driver}
	return m
}

const testUUID = "d6d5b0a0-0000-4000-8000-000000000001"

// files tells of copies before they are made.
type files struct {
	*volume.Maker
	before func(from, to string)
}

func (f *files) Duplicate(ctx context.Context, from, to string) (uint64, error) {
	if f.before != nil {
		f.before(from, to)
	}
	return f.Maker.Duplicate(ctx, from, to)
}

// run starts the VM.
func (m *machine) run() {
	m.t.Helper()
	spec := hypervisor.Spec{UUID: testUUID, Name: "vm", CPUs: 1, MemoryBytes: 64 << 20}
	for _, p := range m.record.GetVolumeLocations() {
		spec.Disks = append(spec.Disks, hypervisor.Disk{File: p.GetFilename()})
	}
	must(m.t, m.driver.Define(m.t.Context(), spec), m.driver.Start(m.t.Context(), testUUID))
	m.enter(hypervisorv1.State_STATE_RUNNING)
}

func (m *machine) enter(s hypervisorv1.State) {
	m.record = proto.CloneOf(m.record)
	m.record.VmInfo.State = s
}

func (m *machine) List() []*hypervisorv1.VmInfo { return []*hypervisorv1.VmInfo{m.record.GetVmInfo()} }

func (m *machine) Directory(string) (string, error) {
	return m.record.GetVolumeLocations()[0].GetDirectoryToCleanup(), nil
}

func (m *machine) Halt(ctx context.Context, uuid string) error {
	m.calls = append(m.calls, "halt")
	m.enter(hypervisorv1.State_STATE_STOPPED)
	return m.driver.Kill(ctx, uuid)
}

func (m *machine) Resume(ctx context.Context, uuid string, _ time.Duration) (bool, error) {
	m.calls = append(m.calls, "resume")
	m.enter(hypervisorv1.State_STATE_RUNNING)
	return false, m.driver.Start(ctx, uuid)
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

// fill writes the text all over the volumes.
func (m *machine) fill(text string) {
	m.t.Helper()
	for _, p := range m.record.GetVolumeLocations() {
		content := bytes.Repeat([]byte(text+" "), 1<<20)[:1<<20]
		if err := os.WriteFile(p.GetFilename(), content, 0o600); err != nil {
			m.t.Fatal(err)
		}
	}
}

// holds checks with what the volumes' content begins.
func (m *machine) holds(texts ...string) {
	m.t.Helper()
	for i, want := range texts {
		b, err := os.ReadFile(m.record.GetVolumeLocations()[i].GetFilename())
		if err != nil || len(b) != 1<<20 || !bytes.HasPrefix(b, []byte(want)) {
			m.t.Errorf("volume %d of %d bytes begins with %q, want %q: %v", i, len(b), b[:min(len(b), 10)], want, err)
		}
	}
}

// files checks how many files lie in the VM's folder.
func (m *machine) files(want int) {
	m.t.Helper()
	entries, err := os.ReadDir(m.record.GetVolumeLocations()[0].GetDirectoryToCleanup())
	if err != nil || len(entries) != want {
		m.t.Errorf("the VM has the files %v, want %d: %v", entries, want, err)
	}
}

func (m *machine) take(name string, rootOnly bool) error {
	_, err := m.SnapshotVm(m.t.Context(), &hypervisorv1.SnapshotVmRequest{Vm: "u", Name: name, RootOnly: rootOnly})
	return err
}

// force takes a snapshot of a VM that is not stopped.
func (m *machine) force(name string) error {
	_, err := m.SnapshotVm(m.t.Context(), &hypervisorv1.SnapshotVmRequest{Vm: "u", Name: name, ForceIfNotStopped: true})
	return err
}

func (m *machine) forceRestore(name string) error {
	_, err := m.RestoreVmFromSnapshot(m.t.Context(), &hypervisorv1.RestoreVmFromSnapshotRequest{Vm: "u", Name: name, ForceIfNotStopped: true})
	return err
}

func (m *machine) restore(name string, retain bool) error {
	_, err := m.RestoreVmFromSnapshot(m.t.Context(), &hypervisorv1.RestoreVmFromSnapshotRequest{Vm: "u", Name: name, Retain: retain})
	return err
}

func (m *machine) discard(name string) error {
	_, err := m.DiscardVmSnapshot(m.t.Context(), &hypervisorv1.DiscardVmSnapshotRequest{Vm: "u", Name: name})
	return err
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestTakeRestoreDiscard(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	must(t, m.take("monday", false))
	m.files(4)
	for i, v := range m.record.GetVmInfo().GetVolumes() {
		if v.GetSnapshots()["monday"] != 1<<20 {
			t.Errorf("volume %d lists the snapshots %v", i, v.GetSnapshots())
		}
	}
	m.fill("after")
	must(t, m.restore("monday", true))
	m.holds("before", "before")
	m.fill("after")
	must(t, m.restore("monday", false))
	m.holds("before", "before")
	m.files(2)
	if err := m.restore("monday", false); !fault.Is(err, fault.NotFound) {
		t.Errorf("restored once more: %v", err)
	}
	must(t, m.take("tuesday", false), m.discard("tuesday"))
	m.files(2)
	if err := m.discard("tuesday"); !fault.Is(err, fault.NotFound) {
		t.Errorf("discarded twice: %v", err)
	}
}

// TestRootOnly replaces a snapshot of both volumes by one of the root volume.
func TestRootOnly(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	must(t, m.take("x", false))
	m.fill("later")
	must(t, m.take("x", true))
	m.files(3)
	m.fill("last")
	must(t, m.restore("x", true))
	m.holds("later", "last")
}

func TestRefused(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	for _, name := range []string{"a.b", "a:b", "a/b", "a\nb", "\xff", string(make([]byte, 65))} {
		if err := m.take(name, false); !fault.Is(err, fault.InvalidArgument) {
			t.Errorf("name %q: %v", name, err)
		}
	}
	m.record.VmInfo.State = hypervisorv1.State_STATE_RUNNING
	if err := m.take("x", false); !fault.Is(err, fault.FailedPrecondition) {
		t.Errorf("running: %v", err)
	}
	m.enter(hypervisorv1.State_STATE_MIGRATING)
	if err := m.force("x"); !fault.Is(err, fault.FailedPrecondition) {
		t.Errorf("migrating and forced: %v", err)
	}
	m.files(2)
}

// TestFailureLeavesNothing fails at the second volume.
func TestFailureLeavesNothing(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	must(t, os.Remove(m.record.GetVolumeLocations()[1].GetFilename()))
	if err := m.take("x", false); !fault.Is(err, fault.NotFound) {
		t.Errorf("with a volume missing: %v", err)
	}
	m.files(1)
	if s := m.record.GetVmInfo().GetVolumes()[0].GetSnapshots(); len(s) != 0 {
		t.Errorf("the snapshots %v are listed", s)
	}
}
