package fake_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/hypervisor/fake"
)

func spec(name string) hypervisor.Spec {
	return hypervisor.Spec{UUID: uuid.NewString(), Name: name, CPUs: 1, MemoryBytes: 1 << 30, Disks: []hypervisor.Disk{{File: "/disks/" + name}}}
}

// exists is a file system that has everything.
func exists(string) bool { return true }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func started(t *testing.T, d *fake.Driver) hypervisor.Spec {
	t.Helper()
	s := spec("web")
	must(t, d.Define(t.Context(), s))
	must(t, d.Start(t.Context(), s.UUID))
	return s
}

func expectState(t *testing.T, d *fake.Driver, id string, want hypervisor.State) {
	t.Helper()
	m, err := d.Get(t.Context(), id)
	must(t, err)
	if m.State != want {
		t.Fatalf("the machine is %s, not %s", m.State, want)
	}
}

func TestFailNext(t *testing.T) {
	t.Parallel()
	host, d := fake.New(fake.Options{FileExists: exists})
	s := spec("web")
	must(t, d.Define(t.Context(), s))
	host.FailNext(fake.MethodStart, fault.New(fault.Internal, "first"))
	host.FailNext(fake.MethodStart, fault.New(fault.ResourceExhausted, "second"))
	for _, want := range []fault.Code{fault.Internal, fault.ResourceExhausted, fault.OK} {
		if err := d.Start(t.Context(), s.UUID); fault.CodeOf(err) != want {
			t.Errorf("got %v, want code %d", err, want)
		}
	}
}

func TestHold(t *testing.T) {
	t.Parallel()
	host, d := fake.New(fake.Options{FileExists: exists})
	s := spec("web")
	must(t, d.Define(t.Context(), s))
	release := host.Hold(fake.MethodStart)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Start(ctx, s.UUID) }()
	cancel()
	if err := <-done; !fault.Is(err, fault.Canceled) {
		t.Fatalf("a held call that was cancelled: %v", err)
	}
	go func() { done <- d.Start(t.Context(), s.UUID) }()
	release()
	release()
	must(t, <-done)
	expectState(t, d, s.UUID, hypervisor.Running)
}

func TestShutdownTakesTime(t *testing.T) {
	t.Parallel()
	clock := fake.NewManualClock(time.Unix(1000, 0))
	host, d := fake.New(fake.Options{FileExists: exists, Clock: clock, ShutdownDelay: time.Minute})
	s := started(t, d)
	must(t, d.Shutdown(t.Context(), s.UUID))
	clock.Advance(59 * time.Second)
	expectState(t, d, s.UUID, hypervisor.Stopping)
	clock.Advance(time.Second)
	expectState(t, d, s.UUID, hypervisor.Off)
	if m, err := d.Get(t.Context(), s.UUID); err != nil || !m.Since.Equal(time.Unix(1060, 0)) {
		t.Errorf("off since %v, %v", m.Since, err)
	}

	// A power-off that is under way does not hit the next run.
	must(t, d.Start(t.Context(), s.UUID))
	must(t, d.Shutdown(t.Context(), s.UUID))
	must(t, d.Kill(t.Context(), s.UUID))
	must(t, d.Start(t.Context(), s.UUID))
	clock.Advance(time.Hour)
	expectState(t, d, s.UUID, hypervisor.Running)

	must(t, host.SetACPI(s.UUID, fake.ACPIIgnore))
	must(t, d.Shutdown(t.Context(), s.UUID))
	must(t, d.Reboot(t.Context(), s.UUID))
	clock.Advance(time.Hour)
	expectState(t, d, s.UUID, hypervisor.Stopping)
}

func TestACPIWithoutADisk(t *testing.T) {
	t.Parallel()
	host, d := fake.New(fake.Options{})
	s := spec("blank")
	s.Disks = nil
	must(t, d.Define(t.Context(), s))
	must(t, d.Start(t.Context(), s.UUID))
	must(t, d.Shutdown(t.Context(), s.UUID))
	expectState(t, d, s.UUID, hypervisor.Stopping)
	must(t, host.SetACPI(s.UUID, fake.ACPIObey))
	must(t, d.Shutdown(t.Context(), s.UUID))
	expectState(t, d, s.UUID, hypervisor.Off)
}

func TestPaused(t *testing.T) {
	t.Parallel()
	host, d := fake.New(fake.Options{FileExists: exists})
	s := started(t, d)
	must(t, host.SetPaused(s.UUID, true))
	expectState(t, d, s.UUID, hypervisor.Paused)
	if err := d.Shutdown(t.Context(), s.UUID); !fault.Is(err, fault.FailedPrecondition) {
		t.Errorf("shutdown while paused: %v", err)
	}
	if err := host.SetPaused(s.UUID, true); !fault.Is(err, fault.FailedPrecondition) {
		t.Errorf("paused twice: %v", err)
	}
	must(t, host.SetPaused(s.UUID, false))
	must(t, host.PowerOff(s.UUID))
	expectState(t, d, s.UUID, hypervisor.Off)
}

func TestSerialGuest(t *testing.T) {
	t.Parallel()
	host, d := fake.New(fake.Options{FileExists: exists})
	s := started(t, d)
	conn, err := d.OpenSerial(t.Context(), s.UUID, false)
	must(t, err)
	must(t, host.Print(s.UUID, "kernel: hello\r\n"))
	_, err = io.WriteString(conn, "echo one\ntwo\r\n")
	must(t, err)
	must(t, d.Kill(t.Context(), s.UUID))
	text, err := io.ReadAll(conn)
	must(t, err)
	for _, want := range []string{"GUEST BOOT marker=fake firmware=bios cpus=1 ", "GUEST READY", "kernel: hello", "ECHO:one\r\n", "ECHO:two\r\n"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the port said %q, without %q", text, want)
		}
	}
	if err := host.Print(s.UUID, "x"); !fault.Is(err, fault.FailedPrecondition) {
		t.Errorf("a stopped guest speaks: %v", err)
	}
	if err := host.Crash("nobody"); !fault.Is(err, fault.NotFound) {
		t.Errorf("an unknown machine crashes: %v", err)
	}
}

func TestFreeMemory(t *testing.T) {
	t.Parallel()
	_, d := fake.New(fake.Options{FileExists: exists, MemoryBytes: 3 << 30})
	started(t, d)
	if h, err := d.Host(t.Context()); err != nil || h.FreeBytes != 2<<30 {
		t.Errorf("free %d, %v", h.FreeBytes, err)
	}
}

func TestDisconnected(t *testing.T) {
	t.Parallel()
	host, d := fake.New(fake.Options{FileExists: exists})
	s := started(t, d)
	events, err := d.Watch(t.Context())
	must(t, err)
	<-events
	host.Disconnect()
	must(t, host.PowerOff(s.UUID))
	host.Reconnect()
	if ev := <-events; ev.State != hypervisor.Off {
		t.Fatalf("got %v", ev)
	}
	must(t, d.Close())
	for ev := range events {
		t.Errorf("event after close: %v", ev)
	}
}

func TestTenThousandMachines(t *testing.T) {
	t.Parallel()
	_, d := fake.New(fake.Options{FileExists: exists})
	const count = 10_000
	for i := range count {
		s := spec(fmt.Sprintf("vm-%05d", i))
		must(t, d.Define(t.Context(), s))
		must(t, d.Start(t.Context(), s.UUID))
	}
	all, err := d.List(t.Context())
	must(t, err)
	if len(all) != count || all[0].Name != "vm-00000" || all[count-1].Name != "vm-09999" {
		t.Fatalf("%d machines", len(all))
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events, err := d.Watch(ctx)
	must(t, err)
	for range count {
		<-events
	}
}
