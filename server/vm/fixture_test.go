package vm_test

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	convertersall "github.com/hyperplane-project/hyperplane/converters/all"
	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
	"github.com/hyperplane-project/hyperplane/server/feed"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/hypervisor/fake"
	"github.com/hyperplane-project/hyperplane/server/network"
	"github.com/hyperplane-project/hyperplane/server/store"
	"github.com/hyperplane-project/hyperplane/server/store/bolt"
	"github.com/hyperplane-project/hyperplane/server/vm"
	"github.com/hyperplane-project/hyperplane/server/volume"
)

// fixture is a service on a fake host with two subnets: a has the addresses 10.7.1.2 to .9, b only 10.7.2.2 and .3.
type fixture struct {
	*vm.Service
	t        *testing.T
	dir      string
	host     *fake.Host
	driver   *fake.Driver
	clock    *fake.ManualClock
	registry *vm.Registry
	network  *network.Service
	store    *fragileStore
}

// fragileStore fails to write while broken is set.
type fragileStore struct {
	store.Store
	broken atomic.Bool
}

func (s *fragileStore) Update(ctx context.Context, fn func(store.Writer) error) (uint64, error) {
	if s.broken.Load() {
		return 0, fault.New(fault.ResourceExhausted, "no space left")
	}
	return s.Store.Update(ctx, fn)
}

func newFixture(t *testing.T, change func(*vm.Deps)) *fixture {
	t.Helper()
	dir := t.TempDir()
	st, err := bolt.Open(filepath.Join(dir, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	f := &fixture{t: t, dir: dir, store: &fragileStore{Store: st}, clock: fake.NewManualClock(time.Unix(1_700_000_000, 0))}
	f.host, f.driver = fake.New(fake.Options{})
	t.Cleanup(func() { _ = f.driver.Close() })
	updates := feed.New(f.clock.Now)
	if f.registry, err = vm.NewRegistry(t.Context(), f.store, updates); err != nil {
		t.Fatal(err)
	}
	f.network, err = network.New(f.driver, updates, []network.Subnet{
		{ID: "a", Bridge: "br-a", Gateway: netip.MustParsePrefix("10.7.1.1/24"), First: netip.MustParseAddr("10.7.1.2"), Last: netip.MustParseAddr("10.7.1.9")},
		{ID: "b", Bridge: "br-b", Gateway: netip.MustParsePrefix("10.7.2.1/24"), First: netip.MustParseAddr("10.7.2.2"), Last: netip.MustParseAddr("10.7.2.3")},
	})
	if err != nil {
		t.Fatal(err)
	}
	deps := vm.Deps{
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Driver: f.driver, Registry: f.registry, Network: f.network,
		Volumes: &volume.Maker{Dir: filepath.Join(dir, "volumes"), Formats: convertersall.Formats()},
		Now:     f.clock.Now, NewUUID: uuid.NewString, AfterFunc: f.clock.AfterFunc,
	}
	if change != nil {
		change(&deps)
	}
	f.Service = vm.New(deps)
	t.Cleanup(f.Close)
	return f
}

// as is a context of alice's call, with or without method power.
func (f *fixture) as(power bool) context.Context {
	return principal.WithCaller(f.t.Context(), principal.Caller{Principal: principal.Principal{Name: "alice"}, Power: power})
}

// vm makes a VM of alice's in subnet a, with 64 MiB and one processor unless change says otherwise, and returns its UUID.
func (f *fixture) vm(start bool, change func(*hypervisorv1.VmInfo)) string {
	f.t.Helper()
	file := filepath.Join(f.dir, uuid.NewString())
	f.must(os.WriteFile(file, make([]byte, 4096), 0o600))
	info := &hypervisorv1.VmInfo{MemoryInMib: 64, MilliCpus: 500, SubnetId: "a", Volumes: []*hypervisorv1.Volume{{}}}
	if change != nil {
		change(info)
	}
	spec := &hypervisorv1.CreateVmSpec{VmInfo: info, DoNotStart: !start}
	made, err := f.Import(f.t.Context(), uuid.NewString(), spec, []string{file}, principal.Caller{Principal: principal.Principal{Name: "alice"}, Power: true})
	f.must(err)
	return made.GetUuid()
}

func (f *fixture) info(ref string) *hypervisorv1.VmInfo {
	f.t.Helper()
	info, err := f.registry.Info(ref)
	f.must(err)
	return info
}

func (f *fixture) machine(uuid string) hypervisor.Spec {
	f.t.Helper()
	m, err := f.driver.Get(f.t.Context(), uuid)
	f.must(err)
	return m.Spec
}

func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) expect(what string, err error, code fault.Code) {
	f.t.Helper()
	if !fault.Is(err, code) {
		f.t.Errorf("%s: code %d, not %d: %v", what, fault.CodeOf(err), code, err)
	}
}
