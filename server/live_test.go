package server_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/hypervisor/fake"
)

const (
	modeLive       = hypervisorv1.MigrationMode_MIGRATION_MODE_LIVE
	modeLiveOrCopy = hypervisorv1.MigrationMode_MIGRATION_MODE_LIVE_OR_COPY
)

// peerPowers are what the destination's certificate needs for a live migration.
func peerPowers() []string {
	return []string{"Hypervisor.PrepareVmForMigration", "PeerService.SendVm", "PeerService.Tunnel"}
}

// move moves a VM in a mode. at is called with each progress text; the call ends with ctx.
func (p *pair) move(ctx context.Context, vm *hypervisorv1.VmInfo, token []byte, mode hypervisorv1.MigrationMode, commit bool, at func(string)) error {
	p.t.Helper()
	stream, err := hypervisorv1.NewVmTransferServiceClient(p.there.DialSocket()).MigrateVm(ctx)
	if err != nil {
		p.t.Fatal(err)
	}
	start := &hypervisorv1.MigrateVmStart{Vm: vm.GetUuid(), AccessToken: token, SourceHypervisor: p.here.Addr, Mode: mode}
	if err := stream.Send(&hypervisorv1.MigrateVmRequest{Part: &hypervisorv1.MigrateVmRequest_Start{Start: start}}); err != nil {
		p.t.Fatal(err)
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		if m.GetRequestCommit() {
			at("commit?")
			if err := stream.Send(&hypervisorv1.MigrateVmRequest{Part: &hypervisorv1.MigrateVmRequest_Commit{Commit: commit}}); err != nil && !errors.Is(err, io.EOF) {
				p.t.Fatal(err)
			}
			continue
		}
		if m.GetFinal() {
			return nil
		}
		at(m.GetProgressMessage())
	}
}

// onlyHere checks that the VM is in service here and nothing of it there.
func (p *pair) onlyHere(vm *hypervisorv1.VmInfo) {
	p.t.Helper()
	if st, info, err := state(p.t.Context(), p.here, vm.GetUuid()); err != nil || st != hypervisorv1.State_STATE_RUNNING || info.GetUncommitted() || info.GetStateReason() != "" {
		p.t.Errorf("the source: %v %v", info, err)
	}
	if _, err := os.Stat(filepath.Dir(file(p.there, vm, "root"))); !errors.Is(err, os.ErrNotExist) {
		p.t.Errorf("the destination has files: %v", err)
	}
	if _, _, err := state(p.t.Context(), p.there, vm.GetUuid()); status.Code(err) != codes.NotFound {
		p.t.Errorf("the destination: %v", err)
	}
	machines, err := p.there.Host.Open().List(p.t.Context())
	if err != nil || len(machines) != 0 {
		p.t.Errorf("the destination has machines: %v %v", machines, err)
	}
}

// onlyThere checks that the VM is in service there and nothing of it here.
func (p *pair) onlyThere(vm *hypervisorv1.VmInfo, want map[string][]byte) {
	p.t.Helper()
	st, moved, err := state(p.t.Context(), p.there, vm.GetAddress().GetIpAddress())
	if err != nil || st != hypervisorv1.State_STATE_RUNNING || moved.GetUuid() != vm.GetUuid() || moved.GetUncommitted() || moved.GetStateReason() != "" ||
		moved.GetAddress().GetMacAddress() != vm.GetAddress().GetMacAddress() || len(moved.GetVolumes()) != 2 {
		p.t.Errorf("moved: %v %v", moved, err)
	}
	p.same(vm, want)
	if _, _, err := state(p.t.Context(), p.here, vm.GetUuid()); status.Code(err) != codes.NotFound {
		p.t.Errorf("the source: %v", err)
	}
	if _, err := os.Stat(filepath.Dir(file(p.here, vm, "root"))); !errors.Is(err, os.ErrNotExist) {
		p.t.Errorf("the source has files: %v", err)
	}
}

func TestLiveMigration(t *testing.T) {
	t.Parallel()
	p := newPair(t, peerPowers()...)
	vm, token := p.vm(true)
	want := p.files(vm)
	var steps []string
	if err := p.move(t.Context(), vm, token, modeLive, true, func(text string) { steps = append(steps, text) }); err != nil {
		t.Fatal(err, steps)
	}
	if all := strings.Join(steps, "\n"); !strings.Contains(all, "commit?\nmoving the VM while it runs\n") || strings.Contains(all, "copy") {
		t.Errorf("steps: %q", steps)
	}
	p.onlyThere(vm, want)
	if _, err := os.Stat(file(p.there, vm, "seed.iso")); err != nil {
		t.Errorf("the seed disk: %v", err)
	}
	p.there.Restart()
	if st, _, err := state(t.Context(), p.there, vm.GetUuid()); err != nil || st != hypervisorv1.State_STATE_RUNNING {
		t.Errorf("after a restart: %v %v", st, err)
	}
}

// TestLiveMigrationFails has each step fail: the VM goes on here, and there is nothing there.
func TestLiveMigrationFails(t *testing.T) {
	t.Parallel()
	luck := errors.New("no such luck")
	there := func(m fake.Method) func(p *pair) { return func(p *pair) { p.there.Host.FailNext(m, luck) } }
	here := func(m fake.Method) func(p *pair) { return func(p *pair) { p.here.Host.FailNext(m, luck) } }
	for name, c := range map[string]struct {
		powers []string
		fail   func(p *pair)
		commit bool
		want   string
	}{
		"the source does not begin":        {nil, here(fake.MethodDepart), true, "no such luck"},
		"the destination does not prepare": {nil, there(fake.MethodArrive), true, "no such luck"},
		"abandoned":                        {nil, func(*pair) {}, false, "VM migration abandoned"},
		"the source does not perform":      {nil, here(fake.MethodPerform), true, "no such luck"},
		"a stream breaks":                  {nil, there(fake.MethodConnect), true, "broke"},
		"it does not run there":            {nil, there(fake.MethodFinish), true, "no such luck"},
		"no power":                         {[]string{"Hypervisor.PrepareVmForMigration"}, func(*pair) {}, true, "access to method denied"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			powers := c.powers
			if powers == nil {
				powers = peerPowers()
			}
			p := newPair(t, powers...)
			vm, token := p.vm(true)
			c.fail(p)
			err := p.move(t.Context(), vm, token, modeLive, c.commit, func(string) {})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, without %q", err, c.want)
			}
			p.onlyHere(vm)
			if err := p.move(t.Context(), vm, token, modeLive, true, func(string) {}); len(c.powers) == 0 && err != nil {
				t.Errorf("once more: %v", err)
			}
		})
	}
}

// TestLiveMigrationIsAborted has the client go away while the VM is on its way.
func TestLiveMigrationIsAborted(t *testing.T) {
	t.Parallel()
	p := newPair(t, peerPowers()...)
	vm, token := p.vm(true)
	release := p.there.Host.Hold(fake.MethodConnect)
	ctx, cancel := context.WithCancel(t.Context())
	err := p.move(ctx, vm, token, modeLive, true, func(text string) {
		if strings.HasPrefix(text, "volumes:") {
			cancel()
		}
	})
	if status.Code(err) != codes.Canceled {
		t.Errorf("aborted: %v", err)
	}
	release()
	until(t, func() bool {
		_, _, err := state(t.Context(), p.there, vm.GetUuid())
		return status.Code(err) == codes.NotFound
	})
	p.onlyHere(vm)
}

// TestLiveMigrationWithoutAKnownEnd loses the VM's fate at the destination: it must not run twice, and either host can be told what to do.
func TestLiveMigrationWithoutAKnownEnd(t *testing.T) {
	t.Parallel()
	p := newPair(t, peerPowers()...)
	vm, token := p.vm(true)
	p.there.Host.FailNext(fake.MethodFinish, hypervisor.ErrOutcomeUnknown)
	if err := p.move(t.Context(), vm, token, modeLive, true, func(string) {}); err == nil || !strings.Contains(err.Error(), "it is not known") {
		t.Errorf("move: %v", err)
	}
	var info *hypervisorv1.VmInfo
	until(t, func() bool {
		_, info, _ = state(t.Context(), p.here, vm.GetUuid())
		return strings.Contains(info.GetStateReason(), "stands still")
	})
	p.here.Restart()
	if _, again, err := state(t.Context(), p.here, vm.GetUuid()); err != nil || again.GetState() != hypervisorv1.State_STATE_MIGRATING || again.GetStateReason() != info.GetStateReason() {
		t.Errorf("the source after a restart: %v %v", again, err)
	}
	p.there.Restart()
	if st, _, err := state(t.Context(), p.there, vm.GetUuid()); err != nil || st != hypervisorv1.State_STATE_MIGRATING {
		t.Errorf("the destination after a restart: %v %v", st, err)
	}
	if _, err := vmsOf(p.there).DestroyVm(t.Context(), &hypervisorv1.DestroyVmRequest{Vm: vm.GetUuid()}); err != nil {
		t.Fatal(err)
	}
	_, err := hypervisorv1.NewVmTransferServiceClient(p.here.DialSocket()).PrepareVmForMigration(t.Context(), &hypervisorv1.PrepareVmForMigrationRequest{Vm: vm.GetUuid()})
	if err != nil {
		t.Fatal(err)
	}
	p.onlyHere(vm)
}

func TestLiveOrCopySaysWhy(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		powers  []string
		running bool
		fail    func(p *pair)
		why     string
	}{
		"it does not run":     {peerPowers(), false, func(*pair) {}, "it does not run"},
		"no power":            {[]string{"Hypervisor.PrepareVmForMigration"}, true, func(*pair) {}, "access to method denied"},
		"the driver refuses":  {peerPowers(), true, func(p *pair) { p.here.Host.FailNext(fake.MethodDepart, errors.New("not this one")) }, "not this one"},
		"the host refuses it": {peerPowers(), true, func(p *pair) { p.there.Host.FailNext(fake.MethodArrive, errors.New("not here")) }, "not here"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, c.powers...)
			vm, token := p.vm(c.running)
			want := p.files(vm)
			c.fail(p)
			var steps []string
			if err := p.move(t.Context(), vm, token, modeLiveOrCopy, true, func(text string) { steps = append(steps, text) }); err != nil {
				t.Fatal(err, steps)
			}
			if all := strings.Join(steps, "\n"); !strings.Contains(all, c.why) || !strings.Contains(all, "it is copied, because") {
				t.Errorf("steps: %q", steps)
			}
			p.onlyThere(vm, want)
		})
	}
}

func TestLiveModeIsChecked(t *testing.T) {
	t.Parallel()
	p := newPair(t, peerPowers()...)
	vm, token := p.vm(false)
	for mode, want := range map[hypervisorv1.MigrationMode]codes.Code{modeLive: codes.FailedPrecondition, 77: codes.InvalidArgument} {
		if err := p.move(t.Context(), vm, token, mode, true, func(string) {}); status.Code(err) != want {
			t.Errorf("mode %v: %v", mode, err)
		}
	}
}

// until waits for something that happens after an answer.
func until(t *testing.T, done func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(20 * time.Second); !done(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it does not happen")
		}
	}
}
