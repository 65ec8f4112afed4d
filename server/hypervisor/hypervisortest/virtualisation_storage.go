package hypervisortest

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"

	"github.com/google/uuid"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// pool makes a pool that no other test has, and removes it when the test ends.
func (t *suite) pool() hypervisor.StoragePool {
	t.Helper()
	name := fmt.Sprintf(`pool "<%s>" & 'x'`, uuid.NewString()[:8])
	t.must(t.Driver.CreatePool(t.Context(), hypervisor.StoragePoolSpec{Name: name, Path: filepath.Join(t.TempDir(), "pool")}))
	t.cleanup(func(ctx context.Context) error { return t.Driver.DeletePool(ctx, name) })
	p, err := t.Driver.GetPool(t.Context(), name)
	t.must(err)
	return p
}

func poolLives(t *suite) {
	ctx, p := t.Context(), t.pool()
	if p.State != hypervisor.PoolRunning || p.Type != "dir" || p.Capacity == 0 || p.Autostart || !p.Persistent || p.UUID == "" {
		t.Errorf("pool: %+v", p)
	}
	t.expectCode("the same name", t.Driver.CreatePool(ctx, hypervisor.StoragePoolSpec{Name: p.Name, Path: t.TempDir()}), fault.AlreadyExists)
	t.expectCode("the same directory", t.Driver.CreatePool(ctx, hypervisor.StoragePoolSpec{Name: p.Name + "2", Path: p.Path}), fault.AlreadyExists)
	all, err := t.Driver.ListPools(ctx)
	t.must(err)
	if !slices.ContainsFunc(all, func(o hypervisor.StoragePool) bool { return o.Name == p.Name && o.Path == p.Path }) {
		t.Errorf("not listed: %+v", all)
	}
	for range 2 {
		t.must(t.Driver.StopPool(ctx, p.Name))
	}
	_, err = t.Driver.ListVolumes(ctx, p.Name)
	t.expectCode("volumes of an inactive pool", err, fault.FailedPrecondition)
	t.expectCode("refresh", t.Driver.RefreshPool(ctx, p.Name), fault.FailedPrecondition)
	for range 2 {
		t.must(t.Driver.StartPool(ctx, p.Name))
	}
	t.must(t.Driver.RefreshPool(ctx, p.Name))
	t.must(t.Driver.DeletePool(ctx, p.Name))
	_, err = t.Driver.GetPool(ctx, p.Name)
	t.expectCode("get", err, fault.NotFound)
	t.expectCode("delete", t.Driver.DeletePool(ctx, p.Name), fault.NotFound)
}

func volumeLives(t *suite) {
	ctx, p, other := t.Context(), t.pool(), t.pool()
	spec := hypervisor.StorageVolumeSpec{Pool: p.Name, Name: `v "<&'`, Format: hypervisor.DiskQCOW2, Capacity: 4 << 20, Preallocate: true}
	t.must(t.Driver.CreateVolume(ctx, spec))
	t.expectCode("the same name", t.Driver.CreateVolume(ctx, spec), fault.AlreadyExists)
	v, err := t.Driver.GetVolume(ctx, p.Name, spec.Name)
	t.must(err)
	if v.Pool != p.Name || v.Capacity != 4<<20 || v.Format != "qcow2" || v.Path != filepath.Join(p.Path, spec.Name) || v.Type != "file" {
		t.Errorf("volume: %+v", v)
	}
	t.must(t.Driver.ResizeVolume(ctx, p.Name, spec.Name, 8<<20, false))
	t.expectCode("shrink", t.Driver.ResizeVolume(ctx, p.Name, spec.Name, 1<<20, false), fault.InvalidArgument)
	t.must(t.Driver.CloneVolume(ctx, p.Name, spec.Name, other.Name, "twin"))
	twin, err := t.Driver.GetVolume(ctx, other.Name, "twin")
	t.must(err)
	if twin.Capacity != 8<<20 || twin.Format != "qcow2" {
		t.Errorf("twin: %+v", twin)
	}
	t.must(t.Driver.DeleteVolume(ctx, p.Name, spec.Name))
	all, err := t.Driver.ListVolumes(ctx, p.Name)
	t.must(err)
	if len(all) != 0 {
		t.Errorf("left: %+v", all)
	}
	_, err = t.Driver.GetVolume(ctx, p.Name, spec.Name)
	t.expectCode("get", err, fault.NotFound)
	t.expectCode("delete", t.Driver.DeleteVolume(ctx, p.Name, spec.Name), fault.NotFound)
	t.expectCode("clone", t.Driver.CloneVolume(ctx, p.Name, spec.Name, p.Name, "x"), fault.NotFound)
	t.expectCode("no pool", t.Driver.CreateVolume(ctx, hypervisor.StorageVolumeSpec{Pool: "nowhere", Name: "v", Capacity: 512}), fault.NotFound)
}

func volumeContent(t *suite) {
	ctx, p := t.Context(), t.pool()
	t.must(t.Driver.CreateVolume(ctx, hypervisor.StorageVolumeSpec{Pool: p.Name, Name: "v", Capacity: 5 << 20}))
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // more than one packet of libvirt
	n, err := t.Driver.UploadVolume(ctx, p.Name, "v", bytes.NewReader(content))
	t.must(err)
	if n != uint64(len(content)) {
		t.Errorf("%d bytes uploaded, not %d", n, len(content))
	}
	var back bytes.Buffer
	t.must(t.Driver.DownloadVolume(ctx, p.Name, "v", &back, 0, 0))
	if back.Len() != 5<<20 || !bytes.Equal(back.Bytes()[:len(content)], content) {
		t.Errorf("%d bytes downloaded, or others", back.Len())
	}
	back.Reset()
	t.must(t.Driver.DownloadVolume(ctx, p.Name, "v", &back, 10, 6))
	expectSame(t, "range", back.String(), "abcdef")
	_, err = t.Driver.UploadVolume(ctx, p.Name, "v", bytes.NewReader(make([]byte, 5<<20+1)))
	t.expectCode("too much", err, fault.OutOfRange)
	broken := fault.New(fault.DataLoss, "the reader broke")
	_, err = t.Driver.UploadVolume(ctx, p.Name, "v", failing{broken})
	t.expectCode("broken reader", err, fault.DataLoss)
	t.expectCode("broken writer", t.Driver.DownloadVolume(ctx, p.Name, "v", failing{broken}, 0, 0), fault.DataLoss)
	t.must(t.Driver.WipeVolume(ctx, p.Name, "v", "zero"))
	back.Reset()
	t.must(t.Driver.DownloadVolume(ctx, p.Name, "v", &back, 0, 16))
	expectSame(t, "after the wipe", back.Bytes(), make([]byte, 16))
	t.expectCode("wipe", t.Driver.WipeVolume(ctx, p.Name, "v", ""), fault.InvalidArgument)
}

// failing fails to be read and written.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error)  { return 0, f.err }
func (f failing) Write([]byte) (int, error) { return 0, f.err }

func virtualNetworkLives(t *suite) {
	ctx, id := t.Context(), uuid.New()
	addr := func(last byte) netip.Addr { return netip.AddrFrom4([4]byte{10, id[0], id[1], last}) }
	spec := hypervisor.VirtualNetworkSpec{
		Name: "net-" + id.String()[:8], Bridge: "hp" + id.String()[:8], Forward: hypervisor.ForwardIsolated, Gateway: netip.PrefixFrom(addr(1), 24),
		DHCP: hypervisor.AddressRange{Start: addr(10), End: addr(20)}, Autostart: true,
	}
	t.cleanup(func(ctx context.Context) error { return t.Driver.DeleteNetwork(ctx, spec.Name) })
	t.must(t.Driver.CreateNetwork(ctx, spec))
	n, err := t.Driver.GetNetwork(ctx, spec.Name)
	t.must(err)
	if n.UUID == "" || n.Bridge != spec.Bridge || !n.Active || !n.Persistent || !n.Autostart || n.Forward != spec.Forward || len(n.Addresses) != 1 ||
		n.Addresses[0] != spec.Gateway || len(n.Ranges) != 1 || n.Ranges[0] != spec.DHCP {
		t.Errorf("network: %+v", n)
	}
	t.expectCode("the same name", t.Driver.CreateNetwork(ctx, spec), fault.AlreadyExists)
	other := spec
	other.Name += "-other"
	t.expectCode("the same bridge", t.Driver.CreateNetwork(ctx, other), fault.AlreadyExists)
	other.Bridge, other.DHCP.End = "", netip.MustParseAddr("192.0.2.1")
	t.expectCode("a range outside", t.Driver.CreateNetwork(ctx, other), fault.InvalidArgument)

	machine := blank()
	machine.NICs = []hypervisor.NIC{{MAC: newMAC(), Network: spec.Name}}
	t.start(machine)
	t.expectCode("stop while in use", t.Driver.StopNetwork(ctx, spec.Name), fault.FailedPrecondition)
	t.expectCode("delete while in use", t.Driver.DeleteNetwork(ctx, spec.Name), fault.FailedPrecondition)
	t.must(t.Driver.Kill(ctx, machine.UUID))
	t.must(t.Driver.StopNetwork(ctx, spec.Name))
	all, err := t.Driver.ListNetworks(ctx)
	t.must(err)
	if !slices.ContainsFunc(all, func(o hypervisor.VirtualNetwork) bool { return o.Name == spec.Name && !o.Active }) {
		t.Errorf("networks: %+v", all)
	}
	for range 2 {
		t.must(t.Driver.StartNetwork(ctx, spec.Name))
	}
	t.must(t.Driver.DeleteNetwork(ctx, spec.Name))
	t.expectCode("delete", t.Driver.DeleteNetwork(ctx, spec.Name), fault.NotFound)
	t.expectCode("start", t.Driver.StartNetwork(ctx, spec.Name), fault.NotFound)
}
