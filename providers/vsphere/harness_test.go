package vsphere_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/hyperplane-project/hyperplane/converters/raw"
	"github.com/hyperplane-project/hyperplane/providers/driver"
	"github.com/hyperplane-project/hyperplane/providers/drivertest"
	"github.com/hyperplane-project/hyperplane/providers/vsphere"
	"github.com/hyperplane-project/hyperplane/providers/vsphere/vcentersim"
)

const (
	user     = "export@vsphere.local"
	password = "correct horse <&> battery"
)

// noise is disk content: random bytes with zeros in between, the same for the same seed.
func noise(seed uint64, size int) []byte {
	data := make([]byte, size)
	src := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	for off := 0; off < size; off += 1 << 20 {
		_, _ = src.Read(data[off:min(off+600<<10, size)])
	}
	return data
}

func diskOf(data []byte) vcentersim.Disk {
	return vcentersim.Disk{Content: raw.New(bytes.NewReader(data), int64(len(data)))}
}

// startSim starts a vCenter that ends with the test.
func startSim(t *testing.T, cfg vcentersim.Config) *vcentersim.Simulator {
	t.Helper()
	cfg.Username, cfg.Password = user, password
	cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	sim, err := vcentersim.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.WithoutCancel(t.Context())
	t.Cleanup(func() {
		if err := sim.Close(ctx); err != nil {
			t.Errorf("close the simulator: %v", err)
		}
	})
	return sim
}

func caFile(t *testing.T, sim *vcentersim.Simulator) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(name, sim.Certificate(), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func settings(t *testing.T, sim *vcentersim.Simulator) driver.Settings {
	t.Helper()
	return driver.Settings{URL: sim.URL(), Username: user, Password: password, CAFile: caFile(t, sim)}
}

func logger(t *testing.T) *slog.Logger {
	t.Helper()
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// connect logs in with times that suit tests.
func connect(t *testing.T, s driver.Settings, opts ...vsphere.Option) driver.Driver {
	t.Helper()
	quick := []vsphere.Option{vsphere.WithProgressInterval(100 * time.Millisecond), vsphere.WithPollInterval(50 * time.Millisecond)}
	d, err := vsphere.Open(t.Context(), s, logger(t), append(quick, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.WithoutCancel(t.Context())
	t.Cleanup(func() {
		if err := d.Close(ctx); err != nil {
			t.Errorf("close the driver: %v", err)
		}
	})
	return d
}

// openView opens a view that ends with the test, as failed unless the test closes it.
func openView(t *testing.T, d driver.Driver, ref string, opts driver.OpenOptions) driver.View {
	t.Helper()
	if opts.Note == nil {
		opts.Note = t.Logf
	}
	v, err := d.Open(t.Context(), ref, opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.WithoutCancel(t.Context())
	t.Cleanup(func() {
		if err := v.Close(ctx, false); err != nil {
			t.Errorf("close the view: %v", err)
		}
	})
	return v
}

// readDisk reads a disk's stream to its end.
func readDisk(t *testing.T, v driver.View, disk int) ([]byte, error) {
	t.Helper()
	c, err := v.OpenDisk(t.Context(), v.VM().Disks[disk].ID)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Stream.Close() }()
	return io.ReadAll(c.Stream)
}

// decode has qemu-img read a VMDK stream, which must come to its end.
func decode(t *testing.T, c driver.Content) ([]byte, error) {
	t.Helper()
	vmdk, err := io.ReadAll(c.Stream)
	if err != nil {
		return nil, err
	}
	return decodeVMDK(t, vmdk), nil
}

func decodeVMDK(t *testing.T, vmdk []byte) []byte {
	t.Helper()
	in := filepath.Join(t.TempDir(), "disk.vmdk")
	if err := os.WriteFile(in, vmdk, 0o600); err != nil {
		t.Fatal(err)
	}
	return rawOf(t, in)
}

func rawOf(t *testing.T, vmdk string) []byte {
	t.Helper()
	out := vmdk + ".raw"
	if text, err := exec.CommandContext(t.Context(), "qemu-img", "convert", "-f", "vmdk", "-O", "raw", vmdk, out).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img (package qemu-utils): %v: %s", err, text)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// leftovers tells of leases that are open and of snapshots.
func leftovers(sim *vcentersim.Simulator) []string {
	var out []string
	rec := sim.Record()
	for _, l := range rec.Leases {
		if l.State == vcentersim.LeaseOpen {
			out = append(out, fmt.Sprintf("lease of %s (%s)", l.VM, l.Of))
		}
	}
	for _, s := range rec.Snapshots {
		out = append(out, fmt.Sprintf("snapshot %q of %s", s.Name, s.VM))
	}
	return out
}

func newHarness(t *testing.T, cfg vcentersim.Config) *drivertest.Harness {
	t.Helper()
	off := drivertest.Machine{Path: "/DC0/vm/shop/db-off", Name: "db-off", Disks: [][]byte{noise(1, 5<<20+512), noise(2, 2<<20)}}
	on := drivertest.Machine{Path: "/DC0/vm/web-on", Name: "web-on", Disks: [][]byte{noise(3, 3<<20)}}
	small := func() []vcentersim.Disk { return []vcentersim.Disk{diskOf(noise(4, 1<<20))} }
	shared := small()
	shared[0].Sharing = "sharingMultiWriter"
	cfg.LeaseTimeout = 2 * time.Second
	cfg.LeaseDelay = 100 * time.Millisecond
	cfg.VMs = []vcentersim.VM{
		{Name: off.Name, Folder: "shop", Disks: []vcentersim.Disk{diskOf(off.Disks[0]), diskOf(off.Disks[1])}, NICs: []vcentersim.NIC{{}}},
		{Name: on.Name, Disks: []vcentersim.Disk{diskOf(on.Disks[0])}, PoweredOn: true},
		{Name: "twin", Folder: "shop", Disks: small()},
		{Name: "twin", Folder: "lab", Disks: small()},
		{Name: "cluster-1", Disks: shared},
	}
	sim := startSim(t, cfg)
	set := settings(t, sim)
	return &drivertest.Harness{
		Driver: connect(t, set),
		Reconnect: func(ctx context.Context) (driver.Driver, error) {
			return vsphere.Open(ctx, set, logger(t), vsphere.WithProgressInterval(100*time.Millisecond), vsphere.WithPollInterval(50*time.Millisecond))
		},
		Off: off, On: on, Ambiguous: "twin", Similar: "db-of", Blocked: "/DC0/vm/cluster-1",
		Decode:     decode,
		Leftovers:  func() []string { return leftovers(sim) },
		Power:      sim.SetPower,
		GuestWrite: sim.WriteDisk,
		WrongPassword: func(ctx context.Context, wrong string) error {
			bad := set
			bad.Password = driver.Secret(wrong)
			_, err := vsphere.Open(ctx, bad, logger(t))
			return err
		},
		ViewLife: cfg.LeaseTimeout,
		Cut: func(name string, disk int, percent float64) error {
			return sim.Inject(vcentersim.Fault{Kind: vcentersim.FaultCut, VM: name, Disk: disk, AtPercent: percent})
		},
		Expire: func(name string, disk int, percent float64) error {
			return sim.Inject(vcentersim.Fault{Kind: vcentersim.FaultExpire, VM: name, Disk: disk, AtPercent: percent})
		},
		Slow: func(name string, disk int, rate int64) error {
			return sim.Inject(vcentersim.Fault{Kind: vcentersim.FaultSlow, VM: name, Disk: disk, BytesPerSecond: rate, Reads: -1})
		},
		FalsifyDigest: func(name string, disk int) error {
			return sim.Inject(vcentersim.Fault{Kind: vcentersim.FaultDigest, VM: name, Disk: disk})
		},
	}
}
