package hypervisortest

import (
	"os"
	"path/filepath"
	"sync"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

func startAndKill(t *suite) {
	spec, ctx := blank(), t.Context()
	t.define(spec)
	t.must(t.Driver.Kill(ctx, spec.UUID)) // a machine that is off is no error
	before, err := t.Driver.Get(ctx, spec.UUID)
	t.must(err)
	for range 2 {
		t.must(t.Driver.Start(ctx, spec.UUID))
		running, err := t.Driver.Get(ctx, spec.UUID)
		t.must(err)
		if running.State != hypervisor.Running || running.Since.Before(before.Since) {
			t.Fatalf("after start: %s since %v", running.State, running.Since)
		}
		t.expectCode("second start", t.Driver.Start(ctx, spec.UUID), fault.FailedPrecondition)
		t.must(t.Driver.Kill(ctx, spec.UUID))
		t.expectState(spec.UUID, hypervisor.Off)
	}
	t.expectDefined(spec)
}

func stoppedMachineRefuses(t *suite) {
	spec, ctx := blank(), t.Context()
	spec.Console = hypervisor.ConsoleVNC
	t.define(spec)
	t.expectCode("shutdown", t.Driver.Shutdown(ctx, spec.UUID), fault.FailedPrecondition)
	t.expectCode("reboot", t.Driver.Reboot(ctx, spec.UUID), fault.FailedPrecondition)
	t.expectCode("reset", t.Driver.Reset(ctx, spec.UUID), fault.FailedPrecondition)
	_, err := t.Driver.OpenSerial(ctx, spec.UUID, false)
	t.expectCode("serial", err, fault.FailedPrecondition)
	_, err = t.Driver.OpenDisplay(ctx, spec.UUID)
	t.expectCode("display", err, fault.FailedPrecondition)
	t.expectState(spec.UUID, hypervisor.Off)
}

func startNeedsTheDisks(t *suite) {
	spec := blank()
	spec.Disks = []hypervisor.Disk{{File: filepath.Join(t.TempDir(), "disk.raw")}}
	t.define(spec)
	t.expectCode("start", t.Driver.Start(t.Context(), spec.UUID), fault.FailedPrecondition)
	t.expectState(spec.UUID, hypervisor.Off)
	t.must(os.WriteFile(spec.Disks[0].File, make([]byte, 1<<20), 0o600))
	t.must(t.Driver.Start(t.Context(), spec.UUID))
	t.expectState(spec.UUID, hypervisor.Running)
}

func startKeepsCPULimit(t *suite) {
	spec := blank()
	spec.CPUs, spec.CPUMillis = 2, 500 // less than its processors could use
	t.start(spec)
	t.must(t.Driver.Kill(t.Context(), spec.UUID))
	t.expectDefined(spec)
}

func shutdownThatIsIgnored(t *suite) {
	spec, ctx := blank(), t.Context()
	t.start(spec)
	for range 2 {
		t.must(t.Driver.Shutdown(ctx, spec.UUID))
		t.awaitState(spec.UUID, hypervisor.Stopping)
	}
	t.expectCode("start", t.Driver.Start(ctx, spec.UUID), fault.FailedPrecondition)
	t.expectCode("define", t.Driver.Define(ctx, spec), fault.FailedPrecondition)
	t.expectCode("undefine", t.Driver.Undefine(ctx, spec.UUID), fault.FailedPrecondition)
	t.must(t.Driver.Reset(ctx, spec.UUID))
	t.awaitState(spec.UUID, hypervisor.Running)
	t.must(t.Driver.Shutdown(ctx, spec.UUID))
	t.must(t.Driver.Kill(ctx, spec.UUID))
	t.awaitState(spec.UUID, hypervisor.Off)
	t.must(t.Driver.Start(ctx, spec.UUID))
	t.expectState(spec.UUID, hypervisor.Running) // the old wish is forgotten
}

func shutdownThatIsObeyed(t *suite) {
	spec := t.bootable()
	c := t.boot(spec)
	t.must(t.Driver.Shutdown(t.Context(), spec.UUID))
	t.awaitState(spec.UUID, hypervisor.Off)
	c.awaitEnd()
}

func guestPowersItselfOff(t *suite) {
	spec := t.bootable()
	c := t.boot(spec)
	c.say("poweroff")
	t.awaitState(spec.UUID, hypervisor.Off)
	t.expectDefined(spec)
}

func rebootAndReset(t *suite) {
	spec, ctx := t.bootable(), t.Context()
	c := t.boot(spec)
	t.must(t.Driver.Reboot(ctx, spec.UUID))
	c.await("GUEST READY") // the serial port lives through it
	t.awaitState(spec.UUID, hypervisor.Running)
	t.must(t.Driver.Reset(ctx, spec.UUID))
	c.await("GUEST READY")
	t.expectState(spec.UUID, hypervisor.Running)
}

func crashIsSeen(t *suite) {
	spec, ctx := blank(), t.Context()
	t.start(spec)
	t.Crash(t.T, spec.UUID)
	t.awaitState(spec.UUID, hypervisor.Crashed)
	t.must(t.Driver.Kill(ctx, spec.UUID)) // nothing is left to kill
	t.expectCode("shutdown", t.Driver.Shutdown(ctx, spec.UUID), fault.FailedPrecondition)
	t.must(t.Driver.Define(ctx, spec))
	t.must(t.Driver.Start(ctx, spec.UUID))
	t.expectState(spec.UUID, hypervisor.Running)
	t.Crash(t.T, spec.UUID)
	t.awaitState(spec.UUID, hypervisor.Crashed)
	t.must(t.Driver.Undefine(ctx, spec.UUID))
}

func concurrentMachines(t *suite) {
	ctx := t.Context()
	specs := make([]hypervisor.Spec, 4)
	for i := range specs {
		specs[i] = blank()
		t.Cleanup(func() { t.remove(specs[i].UUID) })
	}
	var wg sync.WaitGroup
	for _, spec := range specs {
		wg.Go(func() {
			for _, step := range []func() error{
				func() error { return t.Driver.Define(ctx, spec) },
				func() error { return t.Driver.Start(ctx, spec.UUID) },
				func() error { _, err := t.Driver.List(ctx); return err },
				func() error { return t.Driver.Kill(ctx, spec.UUID) },
				func() error { return t.Driver.Undefine(ctx, spec.UUID) },
			} {
				if err := step(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
