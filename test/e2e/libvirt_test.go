package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hyperplane-project/hyperplane/test/guest"
	"github.com/hyperplane-project/hyperplane/test/privatelibvirt"
)

// startOnLibvirt starts a daemon on a libvirtd of its own.
func startOnLibvirt(t *testing.T, env []string) (*daemon, *privatelibvirt.Instance) {
	t.Helper()
	lv := privatelibvirt.New(t, privatelibvirt.Options{})
	run, err := os.MkdirTemp("", "hp-vms-") //nolint:usetesting // sockets lie below it, whose paths must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(run) })
	config := filepath.Join(t.TempDir(), "config.yaml")
	write(t, config, "hypervisor: {run_dir: "+run+", accel: tcg}\n")
	return startDaemon(t, env, "--config", config, "--libvirt-socket", lv.Socket), lv
}

// vm is a VM as hyperctl -o json shows it.
type vm struct {
	UUID    string `json:"uuid"`
	State   string `json:"state"`
	Address struct {
		IP string `json:"ip_address"`
	} `json:"address"`
}

func (d *daemon) vm(name string) vm {
	d.t.Helper()
	return parse[vm](d.t, d.must("vm", "get", name, "-o", "json"))
}

// becomes waits until the test's one guest is in a state.
func (d *daemon) becomes(state string) vm {
	d.t.Helper()
	return eventually(d.t, func() (vm, bool) {
		v := d.vm("guest-1")
		return v, v.State == state
	})
}

// TestGuestOnLibvirt takes a real guest through its life: created from an image that is uploaded, seen from inside and outside, across
// restarts of the daemon and of libvirtd, killed behind our back, resized, destroyed.
func TestGuestOnLibvirt(t *testing.T) {
	t.Parallel()
	image := guest.Cache(t).QCOW2
	d, lv := startOnLibvirt(t, nil)
	d.must("vm", "create", "guest-1", "--memory", "160M", "--cpus", "1", "--image", image, "--progress", "none")
	v := d.vm("guest-1")
	if v.State != "STATE_RUNNING" {
		t.Fatalf("vm: %+v", v)
	}
	out := d.must("console", "guest-1", "--until", v.Address.IP)
	if !strings.Contains(out, "GUEST IP") {
		t.Errorf("the guest did not say its address %s: %s", v.Address.IP, out)
	}

	d.Kill()
	d.start()
	if v := d.becomes("STATE_RUNNING"); v.UUID == "" {
		t.Errorf("after the daemon was killed: %+v", v)
	}
	if err := lv.RestartLibvirtd(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.becomes("STATE_RUNNING")

	d.must("vm", "stop", "guest-1")
	d.becomes("STATE_STOPPED")
	d.must("vm", "resize", "guest-1", "--memory", "192M", "--cpus", "2")
	d.must("vm", "start", "guest-1")
	if out := d.must("console", "guest-1", "--until", "cpus=2"); !strings.Contains(out, "cpus=2") {
		t.Errorf("the guest does not see two processors: %s", out)
	}

	pid, err := privatelibvirt.GuestPID(v.UUID)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	d.becomes("STATE_CRASHED")
	d.must("vm", "start", "guest-1")

	// The host loses its power: guest, libvirtd and daemon are gone, and only what was written is there when it comes back.
	if pid, err = privatelibvirt.GuestPID(v.UUID); err != nil {
		t.Fatal(err)
	}
	d.Kill()
	if err := lv.StopLibvirtd(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := lv.StartLibvirtd(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.start()
	eventually(t, func() (vm, bool) {
		v := d.vm("guest-1")
		return v, v.State == "STATE_STOPPED" || v.State == "STATE_CRASHED"
	})
	d.must("vm", "start", "guest-1")
	d.must("vm", "destroy", "guest-1")
	if out := d.must("vm", "list"); strings.Contains(out, "guest-1") {
		t.Errorf("after destroy: %s", out)
	}
	if left := entries(t, filepath.Join(d.dir, "state", "volumes")); len(left) != 1 { // the staging folder
		t.Errorf("files left: %v", left)
	}
	if _, err := privatelibvirt.GuestPID(v.UUID); err == nil {
		t.Error("the guest's process is still there")
	}
}

// TestKillWhileAVMIsMade kills the daemon in the middle of a creation: started again, it has removed what was half made.
func TestKillWhileAVMIsMade(t *testing.T) {
	t.Parallel()
	d, _ := startOnLibvirt(t, []string{"LOG_LEVEL=warn"})
	done := make(chan struct{})
	big := filepath.Join(t.TempDir(), "big.raw")
	makeDisk(t, big, 256<<20, 1)
	go func() {
		defer close(done)
		_, _ = d.ctl("vm", "create", "half-1", "--memory", "64M", "--image", big, "--progress", "none") // ends with the daemon
	}()
	eventually(t, func() (string, bool) {
		out := d.must("vm", "list")
		return out, strings.Contains(out, "half-1")
	})
	d.Kill()
	<-done
	d.start()
	eventually(t, func() (string, bool) {
		out := d.must("vm", "list")
		return out, !strings.Contains(out, "half-1")
	})
	if left := entries(t, filepath.Join(d.dir, "state", "volumes")); len(left) != 1 {
		t.Errorf("files left: %v", left)
	}
}
