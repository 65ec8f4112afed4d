package libvirt_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hyperplane-project/hyperplane/internal/procexec"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/hypervisor/hypervisortest"
	"github.com/hyperplane-project/hyperplane/server/hypervisor/libvirt"
	"github.com/hyperplane-project/hyperplane/test/guest"
	"github.com/hyperplane-project/hyperplane/test/privatelibvirt"
)

// shared is the private libvirt of all tests that do not break it. It is started when the first of them asks.
var shared = struct {
	sync.Mutex
	inst   *privatelibvirt.Instance
	driver *libvirt.Driver
	runDir string
}{}

func TestMain(m *testing.M) {
	status := m.Run()
	if err := stopShared(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

func stopShared() error {
	if shared.inst == nil {
		return nil
	}
	return errors.Join(shared.driver.Close(), shared.inst.Stop(), os.RemoveAll(shared.runDir))
}

// sharedLibvirt returns the shared libvirt with a driver that is opened on it.
func sharedLibvirt(t *testing.T) (*privatelibvirt.Instance, *libvirt.Driver, string) {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.inst == nil {
		inst, err := privatelibvirt.Start(t.Context(), privatelibvirt.Options{})
		if err != nil {
			t.Fatalf("%v (scripts/install-deps.sh installs what it needs)", err)
		}
		shared.inst = inst
		shared.runDir, err = os.MkdirTemp("", "hp-") //nolint:usetesting // outlives the test that comes first
		if err != nil {
			t.Fatal(err)
		}
		shared.driver = openDriver(t, inst, shared.runDir, os.Stderr)
	}
	return shared.inst, shared.driver, shared.runDir
}

// runDir makes a directory with a path that is short enough for sockets.
func runDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hp-") //nolint:usetesting // t.TempDir's paths are too long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func openDriver(t *testing.T, inst *privatelibvirt.Instance, run string, log io.Writer) *libvirt.Driver {
	t.Helper()
	d, err := libvirt.Open(t.Context(), libvirt.Options{
		Socket: inst.Socket, RunDir: run, Accel: libvirt.AccelTCG,
		Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// open opens a driver that lives until the test ends.
func open(t *testing.T, inst *privatelibvirt.Instance, run string) *libvirt.Driver {
	t.Helper()
	d := openDriver(t, inst, run, t.Output())
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// newHarness makes a harness on the shared libvirt, or on one of its own.
func newHarness(t *testing.T, exclusive bool) hypervisortest.Harness {
	t.Helper()
	var inst *privatelibvirt.Instance
	var driver *libvirt.Driver
	var run string
	if exclusive {
		inst, run = privatelibvirt.New(t, privatelibvirt.Options{}), runDir(t)
		driver = open(t, inst, run)
	} else {
		inst, driver, run = sharedLibvirt(t)
	}
	return hypervisortest.Harness{
		Driver: driver,
		Reopen: func(t *testing.T) hypervisor.Driver {
			t.Helper()
			return open(t, inst, run)
		},
		Crash: func(t *testing.T, uuid string) {
			t.Helper()
			signal(t, uuid, syscall.SIGKILL)
		},
		SetPaused: func(t *testing.T, uuid string, paused bool) {
			t.Helper()
			virsh(t, inst, map[bool]string{true: "suspend", false: "resume"}[paused], uuid)
		},
		Interrupt: func(t *testing.T) func() {
			t.Helper()
			if err := inst.StopLibvirtd(t.Context()); err != nil {
				t.Fatal(err)
			}
			return func() {
				if err := inst.StartLibvirtd(t.Context()); err != nil {
					t.Error(err)
				}
			}
		},
		Other: func(t *testing.T) hypervisor.Driver {
			t.Helper()
			return open(t, privatelibvirt.New(t, privatelibvirt.Options{}), runDir(t))
		},
		EmptyDisk: emptyDisk,
		GuestDisk: func(t *testing.T) hypervisor.Disk {
			t.Helper()
			return hypervisor.Disk{File: guest.Image(t), Format: hypervisor.DiskQCOW2}
		},
		GuestMemory: 128 << 20,
		Patience:    2 * time.Minute,
	}
}

// emptyDisk makes a file for a disk.
func emptyDisk(ctx context.Context, d hypervisor.Disk, size uint64) error {
	_, err := procexec.Runner{}.Run(ctx, procexec.Command{
		Program: "qemu-img", Args: []string{"create", "-q", "-f", d.Format.String()}, Operands: []string{d.File, strconv.FormatUint(size, 10)},
	})
	return err
}

// signal sends a signal to the process of a machine.
func signal(t *testing.T, uuid string, sig syscall.Signal) {
	t.Helper()
	pid, err := privatelibvirt.GuestPID(uuid)
	if err == nil {
		err = syscall.Kill(pid, sig)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	hypervisortest.Run(t, newHarness)
}
