package snapshot_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/hyperplane-project/hyperplane/converters/all"
	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/snapshot"
	"github.com/hyperplane-project/hyperplane/server/volume"
)

// machine is a VM with a raw root volume and a raw second one.
type machine struct {
	t      *testing.T
	record *hypervisorv1.LocalVmInfo
	*snapshot.Service
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	dir := t.TempDir()
	m := &machine{t: t, record: &hypervisorv1.LocalVmInfo{VmInfo: &hypervisorv1.VmInfo{Uuid: "u", State: hypervisorv1.State_STATE_STOPPED}}}
	for _, name := range []string{"root", "secondary-volume.0"} {
		m.record.VmInfo.Volumes = append(m.record.VmInfo.Volumes, &hypervisorv1.Volume{Size: 1 << 20, VirtualSize: 1 << 20})
		m.record.VolumeLocations = append(m.record.VolumeLocations, &hypervisorv1.LocalVolume{DirectoryToCleanup: dir, Filename: filepath.Join(dir, name)})
	}
	m.fill("before")
	m.Service = &snapshot.Service{Operations: m, Files: &volume.Maker{Formats: all.Formats()}}
	return m
}

func (m *machine) Acquire(context.Context, string) (*hypervisorv1.LocalVmInfo, func(), error) {
	return m.record, func() {}, nil
}

func (m *machine) Change(
	_ context.Context, _ string, change func(*hypervisorv1.LocalVmInfo) error,
) (*hypervisorv1.LocalVmInfo, error) {
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
	for _, name := range []string{"", "a.b", "a:b", "a/b", "a\nb", "\xff", string(make([]byte, 65))} {
		if err := m.take(name, false); !fault.Is(err, fault.InvalidArgument) {
			t.Errorf("name %q: %v", name, err)
		}
	}
	m.record.VmInfo.State = hypervisorv1.State_STATE_RUNNING
	if err := m.take("x", false); !fault.Is(err, fault.FailedPrecondition) {
		t.Errorf("running: %v", err)
	}
	_, err := m.SnapshotVm(t.Context(), &hypervisorv1.SnapshotVmRequest{Vm: "u", Name: "x", ForceIfNotStopped: true})
	if !fault.Is(err, fault.Unimplemented) {
		t.Errorf("running and forced: %v", err)
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
