package vsphere_test

import (
	"bytes"
	"context"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hyperplane-project/hyperplane/providers/driver"
	"github.com/hyperplane-project/hyperplane/providers/vsphere/vcentersim"
)

func urlUser() *url.Userinfo { return url.UserPassword(user, password) }

// govc runs govmomi's client, built from cmd/internal/govc, against a simulator.
func govc(t *testing.T, bin string, sim *vcentersim.Simulator, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Env = append(os.Environ(),
		"GOVC_URL="+sim.URL(), "GOVC_USERNAME="+user, "GOVC_PASSWORD="+password, "GOVC_TLS_CA_CERTS="+caFile(t, sim), "GOVMOMI_HOME="+t.TempDir())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("govc %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func buildGovc(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "govc")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "../../cmd/internal/govc").CombinedOutput(); err != nil {
		t.Fatalf("build govc: %v\n%s", err, out)
	}
	return bin
}

// TestGovcExports lets an independent client export the same VMs: the simulator is then a vCenter to more than our own driver.
func TestGovcExports(t *testing.T) {
	t.Parallel()
	bin := buildGovc(t)
	off, on := noise(1, 3<<20), noise(2, 2<<20)
	sim := startSim(t, vcentersim.Config{VMs: []vcentersim.VM{
		{Name: "off", Disks: []vcentersim.Disk{diskOf(off)}},
		{Name: "on", PoweredOn: true, Disks: []vcentersim.Disk{diskOf(on)}},
	}})

	dir := t.TempDir()
	govc(t, bin, sim, "export.ovf", "-sha", "256", "-vm", "/DC0/vm/off", dir)
	sameDisk(t, filepath.Join(dir, "off"), off)
	if mf, err := os.ReadFile(filepath.Join(dir, "off", "off.mf")); err != nil || !bytes.Contains(mf, []byte("SHA256(off.ovf)= ")) {
		t.Errorf("manifest %q: %v", mf, err)
	}

	govc(t, bin, sim, "snapshot.create", "-vm", "/DC0/vm/on", "-m=false", "mine")
	if err := sim.WriteDisk("on", 0, []byte("after the snapshot"), 0); err != nil {
		t.Fatal(err)
	}
	govc(t, bin, sim, "export.ovf", "-vm", "/DC0/vm/on", "-snapshot", "mine", dir)
	sameDisk(t, filepath.Join(dir, "on"), on)
	govc(t, bin, sim, "snapshot.remove", "-vm", "/DC0/vm/on", "mine")

	// Both clients get the same bytes.
	d := connect(t, settings(t, sim))
	v := openView(t, d, "off", driver.OpenOptions{})
	ours, err := readDisk(t, v, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := os.ReadFile(vmdkIn(t, filepath.Join(dir, "off")))
	if err != nil || !bytes.Equal(ours, theirs) {
		t.Errorf("our stream has %d bytes, govc's file %d (%v)", len(ours), len(theirs), err)
	}
	if err := v.Close(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if left := leftovers(sim); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

func vmdkIn(t *testing.T, dir string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.vmdk"))
	if err != nil || len(names) != 1 {
		t.Fatalf("disks in %s: %q (%v)", dir, names, err)
	}
	return names[0]
}

// sameDisk compares an exported disk with its source, by qemu-img and by ourselves.
func sameDisk(t *testing.T, dir string, want []byte) {
	t.Helper()
	vmdk := vmdkIn(t, dir)
	if !slices.Equal(rawOf(t, vmdk), want) {
		t.Errorf("%s differs from its source", vmdk)
	}
	source := filepath.Join(t.TempDir(), "source.raw")
	writeFile(t, source, want)
	if out, err := exec.CommandContext(t.Context(), "qemu-img", "compare", "-f", "vmdk", "-F", "raw", vmdk, source).CombinedOutput(); err != nil {
		t.Errorf("qemu-img compare: %v: %s", err, out)
	}
}
