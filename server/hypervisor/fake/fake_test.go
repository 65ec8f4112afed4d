package fake_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/hypervisor/fake"
	"github.com/hyperplane-project/hyperplane/server/hypervisor/hypervisortest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	hypervisortest.Run(t, func(t *testing.T, _ bool) hypervisortest.Harness {
		t.Helper()
		host, driver := fake.New(fake.Options{})
		t.Cleanup(func() { closeDriver(t, driver) })
		return hypervisortest.Harness{
			Driver: driver,
			Reopen: func(t *testing.T) hypervisor.Driver {
				t.Helper()
				d := host.Open()
				t.Cleanup(func() { closeDriver(t, d) })
				return d
			},
			Crash: func(t *testing.T, uuid string) {
				t.Helper()
				if err := host.Crash(uuid); err != nil {
					t.Error(err)
				}
			},
			SetPaused: func(t *testing.T, uuid string, paused bool) {
				t.Helper()
				if err := host.SetPaused(uuid, paused); err != nil {
					t.Error(err)
				}
			},
			Interrupt: func(t *testing.T) func() {
				t.Helper()
				host.Disconnect()
				return host.Reconnect
			},
			Other: func(t *testing.T) hypervisor.Driver {
				t.Helper()
				_, other := fake.New(fake.Options{})
				t.Cleanup(func() { closeDriver(t, other) })
				return other
			},
			EmptyDisk: func(_ context.Context, d hypervisor.Disk, size uint64) error {
				return os.WriteFile(d.File, make([]byte, size), 0o600)
			},
			GuestDisk: func(t *testing.T) hypervisor.Disk {
				t.Helper()
				file := filepath.Join(t.TempDir(), "disk.raw")
				if err := os.WriteFile(file, nil, 0o600); err != nil {
					t.Fatal(err)
				}
				return hypervisor.Disk{File: file}
			},
			GuestMemory: 96 << 20,
			Patience:    10 * time.Second,
		}
	})
}

func closeDriver(t *testing.T, d hypervisor.Driver) {
	t.Helper()
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}
