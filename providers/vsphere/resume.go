package vsphere

import (
	"context"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/providers/driver"
)

// adopt takes over the snapshot that a token names, if it is still there. What the token names and this view cannot use is removed.
func (v *view) adopt(ctx context.Context, old token) error {
	if old.Power != powerOn {
		return nil
	}
	if old.Server != v.token.Server {
		return fault.New(fault.InvalidArgument, "resume token of vm %q is from another server; its snapshot must be removed there", old.VM)
	}
	left := &frozen{vm: types.ManagedObjectReference{Type: vmType, Value: old.VM}, mark: old.Mark}
	if err := v.p.findSnapshot(ctx, left); err != nil {
		return v.classify(err, "look for the snapshot of the run before")
	}
	switch {
	case left.ref == nil:
		v.note("the snapshot of the run before is gone: starting from the beginning")
		return nil
	case left.vm != v.m.ref:
		v.note("the run before was of another vm: its snapshot is removed")
		return v.classify(v.p.removeSnapshot(ctx, left), "remove the snapshot of the run before")
	}
	v.snap = left
	v.token.Power, v.token.Mark, v.token.Snapshot = powerOn, old.Mark, left.ref.Value
	v.note("vm %s: continuing with the snapshot of the run before", v.m.vm.Path)
	return v.describeSnapshot(ctx)
}

// continueOff decides, with the lease that keeps the VM from being started already taken, whether the powered-off VM is what it was when old was made.
func (v *view) continueOff(ctx context.Context, old token) error {
	same, why, err := v.unchanged(ctx, old)
	if err != nil {
		return err
	}
	if !same {
		v.note("vm %s: %s since the run before: starting from the beginning", v.m.vm.Path, why)
		return nil
	}
	v.resumed = true
	v.token.Since = old.Since
	v.note("vm %s is off and unchanged: continuing", v.m.vm.Path)
	return nil
}

// unchanged reports whether the VM is still off, configured as it was, and was not on in between. Its content can be the same only then.
func (v *view) unchanged(ctx context.Context, was token) (same bool, why string, err error) {
	now, err := v.p.machine(ctx, v.m.ref, v.m.vm.Path)
	if err != nil {
		return false, "", err
	}
	switch {
	case now.vm.Power != driver.PowerOff:
		return false, "it was started", nil
	case now.vm.ChangeVersion != was.ChangeVersion:
		return false, "its configuration was changed", nil
	}
	started, err := v.startedSince(ctx, was.Since)
	if err != nil {
		v.note("vm %s: its events cannot be read (%v)", v.m.vm.Path, err)
		return false, "it may have been started", nil
	}
	if started {
		return false, "it was started and stopped", nil
	}
	return true, "", nil
}

// startedSince looks for power-on events of the VM.
func (v *view) startedSince(ctx context.Context, since time.Time) (bool, error) {
	res, err := methods.QueryEvents(ctx, v.p, &types.QueryEvents{
		This: *v.p.content.EventManager,
		Filter: types.EventFilterSpec{
			Entity:      &types.EventFilterSpecByEntity{Entity: v.m.ref, Recursion: types.EventFilterSpecRecursionOptionSelf},
			Time:        &types.EventFilterSpecByTime{BeginTime: &since},
			EventTypeId: []string{"VmStartingEvent", "VmPoweredOnEvent", "DrsVmPoweredOnEvent", "VmResumingEvent"},
		},
	})
	if err != nil {
		return false, err
	}
	return len(res.Returnval) > 0, nil
}
