package host_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/keylock"
	"github.com/hyperplane-project/hyperplane/internal/procexec"
	"github.com/hyperplane-project/hyperplane/server/feed"
	"github.com/hyperplane-project/hyperplane/server/host"
	"github.com/hyperplane-project/hyperplane/server/hypervisor/fake"
	"github.com/hyperplane-project/hyperplane/server/store/bolt"
)

// world is a host with VMs by UUID, and the collaborators of its service.
type world struct {
	mu       sync.Mutex
	vms      map[string]hypervisorv1.State
	stubborn bool // VMs do not stop
	gone     string
	locks    keylock.Map[string]
	ran      []procexec.Command
	running  func() // while a program runs
	fail     error  // of programs, and of the meter
}

func (w *world) List() []*hypervisorv1.VmInfo {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []*hypervisorv1.VmInfo
	for uuid, state := range w.vms {
		all = append(all, &hypervisorv1.VmInfo{Uuid: uuid, State: state, Address: &hypervisorv1.Address{IpAddress: "ip-" + uuid}})
	}
	return all
}

func (w *world) Acquire(ctx context.Context, ref string) (*hypervisorv1.LocalVmInfo, func(), error) {
	unlock, err := w.locks.Lock(ctx, ref)
	if err != nil {
		return nil, nil, err
	}
	for _, info := range w.List() {
		if info.GetUuid() == ref && ref != w.gone {
			return &hypervisorv1.LocalVmInfo{VmInfo: info}, unlock, nil
		}
	}
	unlock()
	return nil, nil, fault.New(fault.NotFound, "vm %q: no such VM", ref)
}

func (w *world) StopVm(ctx context.Context, req *hypervisorv1.StopVmRequest) (*hypervisorv1.StopVmResponse, error) {
	_, release, err := w.Acquire(ctx, req.GetVm())
	if err != nil {
		return nil, err
	}
	defer release()
	if w.stubborn {
		return nil, fault.New(fault.Internal, "does not stop")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.vms[req.GetVm()] = hypervisorv1.State_STATE_STOPPED
	return &hypervisorv1.StopVmResponse{}, nil
}

func (w *world) Run(_ context.Context, c procexec.Command) (procexec.Result, error) {
	w.ran = append(w.ran, c)
	if w.running != nil {
		w.running()
	}
	return procexec.Result{}, w.fail
}

func (w *world) Capacity(context.Context) (*hypervisorv1.GetCapacityResponse, error) {
	return &hypervisorv1.GetCapacityResponse{MemoryInMib: 4096, AvailableMemoryInMib: 1024, NumCpus: 4}, w.fail
}

func newService(t *testing.T) (*host.Service, *world) {
	t.Helper()
	st, err := bolt.Open(filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	sw, err := host.OpenSwitch(t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}
	clock := fake.NewManualClock(day())
	w := &world{vms: map[string]hypervisorv1.State{
		"a": hypervisorv1.State_STATE_RUNNING, "b": hypervisorv1.State_STATE_STOPPED, "c": hypervisorv1.State_STATE_CRASHED,
	}}
	driver := fake.NewHost(fake.Options{Clock: clock}).Open()
	t.Cleanup(func() { _ = driver.Close() })
	return &host.Service{
		Log: slog.New(slog.DiscardHandler), Driver: driver, Meter: w, Feed: feed.New(clock.Now), VolumeDirectories: []string{t.TempDir()},
		Switch: sw, Owners: new(host.Owners), VMs: w, Operations: w, Programs: w, PowerOffCommand: []string{"poweroff", "--now"},
	}, w
}

func TestCapacityAndDirectories(t *testing.T) {
	t.Parallel()
	s, w := newService(t)
	dir := s.VolumeDirectories[0]
	s.VolumeDirectories = append(s.VolumeDirectories, filepath.Dir(dir))
	once, err := s.GetCapacity(t.Context(), nil)
	if err != nil || once.GetMemoryInMib() != 4096 || once.GetNumCpus() != 4 || once.GetTotalVolumeBytes() == 0 {
		t.Fatal(once, err)
	}
	s.VolumeDirectories = []string{dir}
	if alone, err := s.GetCapacity(t.Context(), nil); err != nil || !proto.Equal(alone, once) {
		t.Errorf("one file system counts as %v, once as %v, %v", once, alone, err)
	}
	s.VolumeDirectories = []string{"/a", "/b", "/c"}
	var got []string
	for token := ""; ; {
		res, err := s.ListVolumeDirectories(t.Context(), &hypervisorv1.ListVolumeDirectoriesRequest{PageSize: 2, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, res.GetDirectories()...)
		if token = res.GetNextPageToken(); token == "" {
			break
		}
	}
	if !slices.Equal(got, s.VolumeDirectories) {
		t.Errorf("directories: %v", got)
	}
	if _, err := s.GetCapacity(t.Context(), nil); !fault.Is(err, fault.NotFound) {
		t.Errorf("missing directories: %v", err)
	}
	w.fail = errors.New("no meter")
	if _, err := s.GetCapacity(t.Context(), nil); !errors.Is(err, w.fail) {
		t.Error(err)
	}
}
