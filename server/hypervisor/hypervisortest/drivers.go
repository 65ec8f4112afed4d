package hypervisortest

import (
	"context"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

func cancelledCalls(t *suite) {
	spec := blank()
	t.define(spec)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	changed := spec
	changed.CPUs = 2
	d := t.Driver
	for name, call := range map[string]func() error{
		"host":           func() error { _, err := d.Host(ctx); return err },
		"define":         func() error { return d.Define(ctx, changed) },
		"undefine":       func() error { return d.Undefine(ctx, spec.UUID) },
		"start":          func() error { return d.Start(ctx, spec.UUID) },
		"shutdown":       func() error { return d.Shutdown(ctx, spec.UUID) },
		"kill":           func() error { return d.Kill(ctx, spec.UUID) },
		"reboot":         func() error { return d.Reboot(ctx, spec.UUID) },
		"reset":          func() error { return d.Reset(ctx, spec.UUID) },
		"get":            func() error { _, err := d.Get(ctx, spec.UUID); return err },
		"list":           func() error { _, err := d.List(ctx); return err },
		"serial":         func() error { _, err := d.OpenSerial(ctx, spec.UUID, false); return err },
		"display":        func() error { _, err := d.OpenDisplay(ctx, spec.UUID); return err },
		"attach disk":    func() error { return d.AttachDisk(ctx, spec.UUID, hypervisor.Disk{File: "/nowhere"}) },
		"detach disk":    func() error { return d.DetachDisk(ctx, spec.UUID, "/nowhere") },
		"resize disk":    func() error { return d.ResizeDisk(ctx, spec.UUID, "/nowhere", 512) },
		"move disk":      func() error { return d.MoveDisk(ctx, spec.UUID, "/nowhere", "/elsewhere", nil) },
		"abandon move":   func() error { return d.AbandonMove(ctx, spec.UUID, "/nowhere") },
		"redirect disks": func() error { return d.RedirectDisks(ctx, spec.UUID, map[string]string{"/nowhere": "/elsewhere"}) },
		"merge disks":    func() error { return d.MergeDisks(ctx, spec.UUID, map[string]string{"/nowhere": "/elsewhere"}) },
		"monitor":        func() error { _, err := d.MonitorCommand(ctx, spec.UUID, []byte("{}")); return err },
		"remove network": func() error { return d.RemoveNetwork(ctx, "nowhere") },
		"set leases":     func() error { return d.SetLeases(ctx, "nowhere", nil) },
	} {
		t.expectCode(name, call(), fault.Canceled)
	}
	t.expectDefined(spec)
	t.expectState(spec.UUID, hypervisor.Off)
}

// cancelledStart ends a start's context at some moment: either it was in time, or the machine is not left running.
func cancelledStart(t *suite) {
	spec := blank()
	t.define(spec)
	ctx, cancel := context.WithCancel(t.Context())
	begun := make(chan struct{})
	go func() {
		<-begun
		cancel()
	}()
	close(begun)
	want := hypervisor.Running
	if err := t.Driver.Start(ctx, spec.UUID); err != nil {
		t.expectCode("start", err, fault.Canceled)
		want = hypervisor.Off
	}
	t.expectState(spec.UUID, want)
	if want == hypervisor.Off {
		t.must(t.Driver.Start(t.Context(), spec.UUID))
	}
}

func anotherDriverSeesMachines(t *suite) {
	off, running := blank(), blank()
	t.define(off)
	t.start(running)

	other := &suite{T: t.T, Harness: t.Harness}
	other.Driver = t.Reopen(t.T)
	other.expectDefined(off)
	other.awaitState(off.UUID, hypervisor.Off)
	other.awaitState(running.UUID, hypervisor.Running)
	events := other.watch()
	t.must(t.Driver.Kill(t.Context(), running.UUID))
	other.until(events, running.UUID, func(ev hypervisor.Event) bool { return !ev.State.Alive() })

	// What the other one starts lives on when it is closed.
	t.must(other.Driver.Start(t.Context(), off.UUID))
	t.must(other.Driver.Close())
	t.awaitState(off.UUID, hypervisor.Running)
}

func closedDriver(t *suite) {
	spec := blank()
	t.start(spec)
	d := t.Reopen(t.T)
	events, err := d.Watch(t.Context())
	t.must(err)
	conn, err := d.OpenSerial(t.Context(), spec.UUID, false)
	t.must(err)
	port := t.newConsole(conn)
	t.must(d.Close())
	for range events {
	}
	port.awaitEnd()
	_, err = d.Get(t.Context(), spec.UUID)
	t.expectCode("get", err, fault.Unavailable)
	_, err = d.Watch(t.Context())
	t.expectCode("watch", err, fault.Unavailable)
	t.must(d.Close())
	t.expectState(spec.UUID, hypervisor.Running)
	t.openConsole(spec.UUID)
}
