package virtualisation

import (
	"bytes"
	"context"
	"image/png"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/durationpb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/hypervisor/fake"
	"github.com/hyperplane-project/hyperplane/server/store/bolt"
)

// none is a control plane without VMs.
type none struct{}

func (none) Get(ref string) (*hypervisorv1.LocalVmInfo, error) {
	return nil, fault.New(fault.NotFound, "vm %q: no such VM", ref)
}
func (none) List() []*hypervisorv1.VmInfo { return nil }

// bench is a service on a fake host whose clock stands still.
type bench struct {
	*testing.T
	*Service
	driver *fake.Driver
	clock  *fake.ManualClock
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{T: t, clock: fake.NewManualClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))}
	_, b.driver = fake.New(fake.Options{Clock: b.clock})
	t.Cleanup(func() { _ = b.driver.Close() })
	st, err := bolt.Open(filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	b.Service = New(Deps{
		Store: st, Driver: b.driver, VMs: none{}, Bridges: func() []string { return []string{"ours0"} }, ImageDir: t.TempDir(), Reserved: []string{"/var/lib/ours"},
		Now: b.clock.Now, Sleep: func(_ context.Context, d time.Duration) error { b.clock.Advance(d); return nil },
	})
	return b
}

// start makes a running domain with two processors and a card, and returns its UUID.
func (b *bench) start() string {
	b.Helper()
	id := uuid.NewString()
	spec := hypervisor.Spec{
		UUID: id, Name: id, CPUs: 2, MemoryBytes: 64 << 20, NICs: []hypervisor.NIC{{MAC: "52:54:00:00:00:01", Bridge: "br0"}},
	}
	if err := b.driver.Define(b.Context(), spec); err != nil {
		b.Fatal(err)
	}
	if err := b.driver.StartDomain(b.Context(), id); err != nil {
		b.Fatal(err)
	}
	return id
}

func (b *bench) stats(id string, wait time.Duration) *hypervisorv1.DomainStats {
	b.Helper()
	res, err := b.GetDomainStats(b.Context(), &hypervisorv1.GetDomainStatsRequest{Domain: id, Wait: durationpb.New(wait)})
	if err != nil {
		b.Fatal(err)
	}
	return res.GetStats()
}

func (b *bench) refused(what string, err error, code fault.Code, says string) {
	b.Helper()
	if !fault.Is(err, code) || !strings.Contains(err.Error(), says) {
		b.Errorf("%s: %v, want code %d and %q", what, err, code, says)
	}
}

func TestRates(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	id := b.start()
	if s := b.stats(id, 0); s.GetCpu().GetInterval() != nil || s.GetCpu().GetUsagePercent() != 0 {
		t.Errorf("rates of one sample: %v", s)
	}
	b.clock.Advance(10 * time.Second)
	s := b.stats(id, 0)
	nic := s.GetInterfaces().GetEach()[0]
	if s.GetCpu().GetUsagePercent() != 25 || s.GetCpu().GetEach()[1].GetUsagePercent() != 25 || s.GetCpu().GetInterval().AsDuration() != 10*time.Second ||
		nic.GetRxBytesPerSecond() != 1<<10 || nic.GetTxPacketsPerSecond() != 1 {
		t.Errorf("rates: %v", s)
	}
	// A sample taken a moment ago is not what the next one is compared with.
	b.clock.Advance(minInterval / 2)
	b.stats(id, 0)
	b.clock.Advance(minInterval / 2)
	if got := b.stats(id, 0).GetCpu().GetInterval().AsDuration(); got != minInterval {
		t.Errorf("interval: %v", got)
	}
	// A new run begins anew, but a caller can wait for rates.
	if err := b.driver.Kill(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := b.driver.StartDomain(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	b.clock.Advance(3 * time.Second)
	if s := b.stats(id, 0); s.GetCpu().GetInterval() != nil {
		t.Errorf("rates across two runs: %v", s)
	}
	other := b.start()
	if s := b.stats(other, 2*time.Second); s.GetCpu().GetUsagePercent() != 25 || s.GetCpu().GetInterval().AsDuration() != 2*time.Second {
		t.Errorf("after waiting: %v", s)
	}
}

func TestSamplesAreForgotten(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	first, second := b.start(), b.start()
	list := func() {
		t.Helper()
		if _, err := b.ListDomainStats(t.Context(), &hypervisorv1.ListDomainStatsRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	list()
	if got := len(b.sampler.last); got != 2*len(timed()) {
		t.Errorf("%d samples of two domains", got)
	}
	if err := b.driver.Kill(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	list()
	if got := len(b.sampler.last); got != len(timed()) {
		t.Errorf("%d samples of one domain", got)
	}
	b.clock.Advance(maxAge + time.Second)
	b.stats(b.start(), 0)
	if _, there := b.sampler.last[sampleKey{second, hypervisor.StatsCPU}]; there {
		t.Error("an old sample is kept")
	}
}

func TestHostRate(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	res, err := b.GetHostStats(t.Context(), &hypervisorv1.GetHostStatsRequest{Wait: durationpb.New(time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	if s := res.GetStats(); s.GetUsagePercent() != 50 || s.GetInterval().AsDuration() != time.Second {
		t.Errorf("stats: %v", s)
	}
}

func TestPoolPaths(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	dir := t.TempDir()
	for name, text := range map[string]string{"full/file": "x", "file": "x"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(dir, "full"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for path, says := range map[string]string{
		"relative": "absolute", dir + "/../x": "absolute", filepath.Join(dir, "full"): "not empty", filepath.Join(dir, "file"): "no directory",
		filepath.Join(dir, "link"): "no directory", filepath.Join(dir, "link", "x"): "symbolic link", filepath.Join(dir, "no", "x"): "above",
		"/var/lib/ours/x": "own", "/var/lib": "own", "/a\x00b": "control",
	} {
		_, err := b.CreateStoragePool(t.Context(), &hypervisorv1.CreateStoragePoolRequest{Name: "p", Path: path})
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", path, err, says)
		}
	}
}

func TestImageFiles(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, filepath.Join(b.ImageDir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.ImageDir, "good"), []byte("good"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{secret, "../" + filepath.Base(secret), "link", ".", "missing", "/etc/passwd"} {
		if f, _, err := b.openImage(name); err == nil {
			t.Errorf("%s was opened", name)
			_ = f.Close()
		}
	}
	for _, name := range []string{"good", filepath.Join(b.ImageDir, "good")} {
		f, size, err := b.openImage(name)
		if err != nil || size != 4 {
			t.Errorf("%s: %d %v", name, size, err)
			continue
		}
		_ = f.Close()
	}
}

func TestUploadLeavesNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx := t.Context()
	if _, err := b.CreateStoragePool(ctx, &hypervisorv1.CreateStoragePoolRequest{Name: "p", Path: filepath.Join(t.TempDir(), "p")}); err != nil {
		t.Fatal(err)
	}
	target := &hypervisorv1.UploadStorageVolumeTarget{Pool: "p", Volume: "v", Create: true, SizeBytes: 512}
	_, err := b.upload(ctx, target, strings.NewReader(strings.Repeat("x", 513)))
	b.refused("too much", err, fault.OutOfRange, "512")
	target.Format = "qcow2"
	_, err = b.upload(ctx, target, strings.NewReader("no qcow2"))
	b.refused("another format", err, fault.InvalidArgument, "format")
	if _, err := b.driver.GetVolume(ctx, "p", "v"); !fault.Is(err, fault.NotFound) {
		t.Errorf("the volume is there: %v", err)
	}
}

func TestNetworksOfSubnets(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx := t.Context()
	_, err := b.CreateVirtualNetwork(ctx, &hypervisorv1.CreateVirtualNetworkRequest{Name: "hyperplane-x", Subnet: "192.0.2.0/24"})
	b.refused("the name", err, fault.FailedPrecondition, "UpdateSubnets")
	_, err = b.CreateVirtualNetwork(ctx, &hypervisorv1.CreateVirtualNetworkRequest{Name: "x", Bridge: "ours0", Subnet: "192.0.2.0/24"})
	b.refused("the bridge", err, fault.AlreadyExists, "ours0")
	// A network that somebody made for a bridge which a subnet uses.
	spec := hypervisor.VirtualNetworkSpec{Name: "theirs", Bridge: "ours0", Gateway: netip.MustParsePrefix("192.0.2.1/24")}
	if err := b.driver.CreateNetwork(ctx, spec); err != nil {
		t.Fatal(err)
	}
	_, err = b.DeleteVirtualNetwork(ctx, &hypervisorv1.DeleteVirtualNetworkRequest{Network: "theirs"})
	b.refused("delete", err, fault.FailedPrecondition, "UpdateSubnets")
}

func TestKeys(t *testing.T) {
	t.Parallel()
	got, err := parseKeys([]string{"ctrl-alt-del", "KEY_A", "key_f1", "1", "30", "SysRq"})
	want := []uint32{29, 56, 111, 30, 59, 2, 30, 99}
	if err != nil || len(got) != len(want) {
		t.Fatalf("%v %v", got, err)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("key %d: %d, not %d", i, got[i], want[i])
		}
	}
	for _, bad := range [][]string{nil, {""}, {"a-"}, {"KEY_"}, {"nothing"}, {"0x1e"}, {"100000"}, {strings.Repeat("a-", 16) + "a"}} {
		if _, err := parseKeys(bad); !fault.Is(err, fault.InvalidArgument) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestPPM(t *testing.T) {
	t.Parallel()
	raw, size, err := toPNG([]byte("P6\n# QEMU\n2 1\n255\n\x01\x02\x03\xff\x00\x10"))
	if err != nil || size.X != 2 || size.Y != 1 {
		t.Fatalf("%v %v", size, err)
	}
	img, err := png.Decode(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if r, g, b, _ := img.At(1, 0).RGBA(); r>>8 != 0xff || g != 0 || b>>8 != 0x10 {
		t.Errorf("pixel: %x %x %x", r, g, b)
	}
}

func FuzzPPM(f *testing.F) {
	for _, seed := range []string{"P6\n2 1\n255\n123456", "P6 1 1 255 123", "P6\n#c\n1 1\n255\n", "P5\n1 1\n255\n1", "P6\n99999 99999\n255\n", "P6\n-1 1\n255\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		img, err := readPPM(raw)
		if err == nil && img.Bounds().Dx()*img.Bounds().Dy()*3 > len(raw) {
			t.Errorf("%v pixels of %d bytes", img.Bounds(), len(raw))
		}
	})
}
