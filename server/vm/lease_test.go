package vm_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// TestLeaseThatNobodySees refuses to wait for a lease where the daemon does not see leases, before it does anything to the VM. Clients of old wait for a minute
// unless they are told not to.
func TestLeaseThatNobodySees(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	stopped, running := f.vm(false, nil), f.vm(true, nil)
	_, err := f.StartVm(f.as(true), &hypervisorv1.StartVmRequest{Vm: stopped, DhcpTimeout: durationpb.New(time.Minute)})
	f.expect("start", err, fault.Unimplemented)
	_, err = f.Resume(t.Context(), stopped, time.Minute)
	f.expect("resume", err, fault.Unimplemented)
	_, err = f.RebootVm(f.as(true), &hypervisorv1.RebootVmRequest{Vm: running, DhcpTimeout: durationpb.New(time.Minute)})
	f.expect("reboot", err, fault.Unimplemented)
	for uuid, want := range map[string]hypervisorv1.State{stopped: hypervisorv1.State_STATE_STOPPED, running: hypervisorv1.State_STATE_RUNNING} {
		if state := f.info(uuid).GetState(); state != want {
			t.Errorf("it is %v, not %v", state, want)
		}
	}
	_, err = f.StartVm(f.as(true), &hypervisorv1.StartVmRequest{Vm: stopped})
	f.must(err)
}
