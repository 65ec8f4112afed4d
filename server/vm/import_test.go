package vm_test

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	convertersall "github.com/hyperplane-project/hyperplane/converters/all"
	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/principal"
	"github.com/hyperplane-project/hyperplane/server/feed"
	"github.com/hyperplane-project/hyperplane/server/hypervisor/fake"
	"github.com/hyperplane-project/hyperplane/server/network"
	"github.com/hyperplane-project/hyperplane/server/store"
	"github.com/hyperplane-project/hyperplane/server/store/bolt"
	"github.com/hyperplane-project/hyperplane/server/vm"
	"github.com/hyperplane-project/hyperplane/server/volume"
)

// TestImportAfterAKillHalfWay imports a VM of which an earlier daemon has left a half: that half must not be taken for the VM.
func TestImportAfterAKillHalfWay(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	st, err := bolt.Open(filepath.Join(dir, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	_, driver := fake.New(fake.Options{})
	t.Cleanup(func() { _ = driver.Close() })
	f := feed.New(time.Now)
	registry, err := vm.NewRegistry(t.Context(), st, f)
	if err != nil {
		t.Fatal(err)
	}
	subnets := []network.Subnet{{
		ID: "a", Bridge: "br0", Gateway: netip.MustParsePrefix("10.7.0.1/24"), First: netip.MustParseAddr("10.7.0.2"), Last: netip.MustParseAddr("10.7.0.9"),
	}}
	addresses, err := network.New(driver, f, subnets)
	if err != nil {
		t.Fatal(err)
	}
	s := vm.New(vm.Deps{
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Driver: driver, Registry: registry, Network: addresses, Now: time.Now, NewUUID: uuid.NewString,
		Volumes: &volume.Maker{Dir: filepath.Join(dir, "volumes"), Formats: convertersall.Formats()},
	})
	t.Cleanup(s.Close)

	id := uuid.NewString()
	half := &hypervisorv1.LocalVmInfo{VmInfo: &hypervisorv1.VmInfo{Uuid: id, State: hypervisorv1.State_STATE_STARTING}}
	if err := registry.Add(t.Context(), half); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Update(t.Context(), func(w store.Writer) error { return w.Put("vm-creations/"+id, nil) }); err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(dir, "disk.raw")
	if err := os.WriteFile(disk, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	spec := &hypervisorv1.CreateVmSpec{VmInfo: &hypervisorv1.VmInfo{Hostname: "web", MemoryInMib: 64, MilliCpus: 500, Volumes: []*hypervisorv1.Volume{{}}}, DoNotStart: true}
	for range 2 { // the second call finds what the first one made
		info, err := s.Import(t.Context(), id, spec, []string{disk}, principal.Caller{Power: true})
		if err != nil || info.GetUuid() != id || info.GetState() != hypervisorv1.State_STATE_STOPPED || len(info.GetVolumes()) != 1 {
			t.Fatalf("import: %v, %v", info, err)
		}
	}
}
