package hypervisortest

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// journey is a guest on the suite's host that is to move to another one.
type journey struct {
	*suite
	other      *suite
	from, spec hypervisor.Spec // here and there
	console    *console
}

// journey boots a guest with a second disk.
func (t *suite) journey() *journey {
	t.Helper()
	j := &journey{suite: t, other: &suite{T: t.T, Harness: t.Harness}, from: t.bootable()}
	j.other.Driver = t.Other(t.T)
	j.from.Disks = append(j.from.Disks, t.rawDisk(1<<20, 2))
	cd := t.rawDisk(1<<20, 3)
	cd.CDROM = true
	readOnly := t.rawDisk(1<<20, 4)
	readOnly.ReadOnly, readOnly.Bus = true, hypervisor.BusSCSI
	j.from.Disks = append(j.from.Disks, cd, readOnly)
	j.from.Console, j.from.NICs = hypervisor.ConsoleVNC, []hypervisor.NIC{{MAC: newMAC(), Network: t.network().Name}}
	j.console = t.boot(j.from)
	j.spec = j.from
	j.spec.Disks, j.spec.NICs = nil, []hypervisor.NIC{{MAC: j.from.NICs[0].MAC, Network: j.other.network().Name}}
	for i, d := range j.from.Disks {
		d.File = filepath.Join(t.TempDir(), filepath.Base(d.File))
		j.spec.Disks = append(j.spec.Disks, d)
		if i > 0 {
			t.must(os.WriteFile(d.File, make([]byte, 1<<20), 0o600))
		}
	}
	t.Cleanup(func() { j.other.remove(j.spec.UUID) })
	return j
}

// prepare has both drivers make ready.
func (j *journey) prepare() (hypervisor.Departure, hypervisor.Arrival) {
	j.Helper()
	departure, err := j.Driver.Depart(j.Context(), j.from.UUID)
	j.must(err)
	j.Cleanup(func() { _ = departure.Close() })
	if n := len(departure.Offer().DiskSizes); n != len(j.from.Disks)-2 {
		j.Fatalf("the offer has %d disks", n)
	}
	j.must(j.EmptyDisk(j.Context(), j.spec.Disks[0], departure.Offer().DiskSizes[0]))
	arrival, err := j.other.Driver.Arrive(j.Context(), j.spec, departure.Offer())
	j.must(err)
	j.Cleanup(func() { _ = arrival.Close() })
	return departure, arrival
}

// carry connects the two emulators.
func carry(arrival hypervisor.Arrival) func(context.Context, hypervisor.Stream, io.ReadWriteCloser) {
	return func(ctx context.Context, s hypervisor.Stream, conn io.ReadWriteCloser) {
		far, err := arrival.Connect(ctx, s)
		if err != nil {
			return
		}
		defer far.Close() //nolint:errcheck // what it carried has arrived, or the other side says that it has not
		stop := context.AfterFunc(ctx, func() { _ = far.Close() })
		defer stop()
		var back sync.WaitGroup
		back.Go(func() { _, _ = io.Copy(conn, far); _ = conn.Close() })
		_, _ = io.Copy(far, conn)
		if half, ok := far.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		} else {
			_ = far.Close()
		}
		back.Wait()
	}
}

func migrationMovesAGuest(t *suite) {
	j, ctx := t.journey(), t.Context()
	j.console.say("echo before=$((1+1)) > /tmp/kept; echo written")
	departure, arrival := j.prepare()
	result, err := departure.Perform(ctx, arrival.Answer(), carry(arrival), func(hypervisor.MigrationProgress) {})
	t.must(err)
	t.expectState(j.from.UUID, hypervisor.Paused)
	_, err = arrival.Finish(ctx, result)
	t.must(err)
	t.must(departure.Finish(ctx, true))
	t.expectState(j.from.UUID, hypervisor.Off)
	j.other.expectState(j.spec.UUID, hypervisor.Running)
	j.other.expectSecond(j.spec.Disks[1].File)
	there := j.other.openConsole(j.spec.UUID)
	there.say("echo there")
	there.await("ECHO:there")
	display, err := j.other.Driver.OpenDisplay(ctx, j.spec.UUID)
	t.must(err)
	t.must(display.Close())
	m, err := j.other.Driver.Get(ctx, j.spec.UUID)
	t.must(err)
	for i, d := range j.spec.Disks {
		if m.Spec.Disks[i].File != d.File {
			t.Errorf("disk %d is %s", i, m.Spec.Disks[i].File)
		}
	}
	if m.Spec.NICs[0].Network != j.spec.NICs[0].Network {
		t.Errorf("network card: %+v", m.Spec.NICs)
	}
	t.must(t.Driver.Undefine(ctx, j.from.UUID))
	t.must(j.other.Driver.Kill(ctx, j.spec.UUID))
	t.must(j.other.Driver.Start(ctx, j.spec.UUID))
}

// migrationFails ends a migration at each of its steps: the guest goes on where it was.
func migrationFails(t *suite) {
	j, ctx := t.journey(), t.Context()
	goesOn := func(what string) {
		t.Helper()
		t.expectState(j.from.UUID, hypervisor.Running)
		j.console.say("echo " + what)
		j.console.await("ECHO:" + what)
		t.must(j.other.Driver.Undefine(t.Context(), j.spec.UUID))
		_, err := j.other.Driver.Get(t.Context(), j.spec.UUID)
		t.expectCode(what, err, fault.NotFound)
		_ = os.Remove(j.spec.Disks[0].File)
	}
	departure, arrival := j.prepare()
	t.must(errors.Join(arrival.Close(), departure.Close()))
	goesOn("closed")

	departure, arrival = j.prepare()
	broken := func(_ context.Context, _ hypervisor.Stream, conn io.ReadWriteCloser) { _ = conn.Close() }
	_, err := departure.Perform(ctx, arrival.Answer(), broken, func(hypervisor.MigrationProgress) {})
	if err == nil {
		t.Error("a migration whose streams break succeeds")
	}
	t.must(errors.Join(departure.Finish(ctx, false), arrival.Close()))
	goesOn("broken")

	departure, arrival = j.prepare()
	cancelled, cancel := context.WithCancel(ctx)
	hangs := func(ctx context.Context, _ hypervisor.Stream, _ io.ReadWriteCloser) { cancel(); <-ctx.Done() }
	_, err = departure.Perform(cancelled, arrival.Answer(), hangs, func(hypervisor.MigrationProgress) {})
	t.expectCode("cancelled", err, fault.Canceled)
	t.must(errors.Join(departure.Finish(ctx, false), arrival.Close()))
	goesOn("cancelled")

	departure, arrival = j.prepare()
	_, err = departure.Perform(ctx, arrival.Answer(), carry(arrival), func(hypervisor.MigrationProgress) {})
	t.must(err)
	t.must(arrival.Close())
	t.must(departure.Finish(ctx, false))
	goesOn("taken back")

	departure, arrival = j.prepare()
	_, err = departure.Perform(ctx, arrival.Answer(), carry(arrival), func(hypervisor.MigrationProgress) {})
	t.must(err)
	t.must(errors.Join(arrival.Close(), departure.Close()))
	t.expectState(j.from.UUID, hypervisor.Paused)
	t.must(t.Driver.Continue(ctx, j.from.UUID))
	goesOn("continued")
	t.must(t.Driver.Continue(ctx, j.from.UUID))
}

func migrationRefuses(t *suite) {
	spec, ctx := blank(), t.Context()
	t.define(spec)
	_, err := t.Driver.Depart(ctx, spec.UUID)
	t.expectCode("off", err, fault.FailedPrecondition)
	t.expectCode("continue", t.Driver.Continue(ctx, spec.UUID), fault.FailedPrecondition)
	_, err = t.Driver.Depart(ctx, "nobody")
	t.expectCode("unknown", err, fault.NotFound)
	_, err = t.Driver.Arrive(ctx, spec, hypervisor.Offer{Description: []byte("?")})
	t.expectCode("no description", err, fault.InvalidArgument)
}
