package vcentersim

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// beforeCall is called by the simulator before each call of the API. Methods that the stock simulator lacks are added by putting a wrapper
// of the object into the session's own registry, which has precedence: the shared registry must keep the simulator's own types, which its code
// asserts.
func (s *Simulator) beforeCall(ctx *simulator.Context, call *simulator.Method) (mo.Reference, types.BaseMethodFault) {
	s.countCall(call.Name)
	if f := s.takeFailure(call.Name); f != nil {
		return nil, f
	}
	if ctx.Session == nil {
		return nil, nil
	}
	session := ctx.Session.Registry
	stock := ctx.Map.Get(call.This)
	if stock == nil || session.Get(call.This) != nil {
		return nil, nil
	}
	var wrapper mo.Reference
	switch stock := stock.(type) {
	case *simulator.VirtualMachine:
		wrapper = &vmObject{stock, s}
	case *simulator.VirtualMachineSnapshot:
		wrapper = &snapshotObject{stock, s}
	case *simulator.OvfManager:
		wrapper = &ovfObject{stock, s}
	default:
		return nil, nil
	}
	s.mu.Lock()
	s.sessions[session] = true
	s.mu.Unlock()
	// Putting an entity touches its fields, so it needs the object's lock.
	ctx.Map.WithLock(ctx, stock, func() { session.Put(wrapper) })
	return nil, nil
}

// vmObject adds the export of a powered-off VM.
type vmObject struct {
	*simulator.VirtualMachine
	sim *Simulator
}

// ExportVm refuses what vCenter refuses: a VM that is not off, and one that another lease or task holds.
func (v *vmObject) ExportVm(ctx *simulator.Context, _ *types.ExportVm) soap.HasFault {
	body := new(methods.ExportVmBody)
	if v.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOff {
		body.Fault_ = simulator.Fault("The operation cannot be performed in the current power state", &types.InvalidPowerState{
			RequestedState: types.VirtualMachinePowerStatePoweredOff, ExistingState: v.Runtime.PowerState,
		})
		return body
	}
	m, generations := v.sim.freeze(v.Self)
	switch {
	case m == nil:
		body.Fault_ = simulator.Fault("", &types.NotSupported{})
	case v.sim.leased(v.Self):
		body.Fault_ = simulator.Fault("Another task is already in progress", &types.TaskInProgress{Task: v.Self})
	default:
		body.Res = &types.ExportVmResponse{Returnval: v.sim.openLease(ctx, m, v.Self, generations)}
	}
	return body
}

// PowerOnVMTask refuses to start a VM that a lease of the VM itself reads.
func (v *vmObject) PowerOnVMTask(ctx *simulator.Context, req *types.PowerOnVM_Task) soap.HasFault {
	if v.sim.leased(v.Self) {
		return &methods.PowerOnVM_TaskBody{Fault_: simulator.Fault("The method is disabled by an export", &types.MethodDisabled{Source: "nfc"})}
	}
	return v.VirtualMachine.PowerOnVMTask(ctx, req)
}

// snapshotObject adds the export of what a snapshot holds.
type snapshotObject struct {
	*simulator.VirtualMachineSnapshot
	sim *Simulator
}

// ExportSnapshot replaces the simulator's, which serves descriptors instead of disks.
func (o *snapshotObject) ExportSnapshot(ctx *simulator.Context, _ *types.ExportSnapshot) soap.HasFault {
	body := new(methods.ExportSnapshotBody)
	o.sim.mu.Lock()
	held := o.sim.snapshots[o.Self]
	o.sim.mu.Unlock()
	if held == nil {
		body.Fault_ = simulator.Fault("", &types.ManagedObjectNotFound{Obj: o.Self})
		return body
	}
	body.Res = &types.ExportSnapshotResponse{Returnval: o.sim.openLease(ctx, held.machine, o.Self, held.generations)}
	return body
}

// freeze ends the present generation of a VM's disks.
func (s *Simulator) freeze(vm types.ManagedObjectReference) (*machine, map[*disk]int) {
	s.mu.Lock()
	m := s.machines[vm]
	s.mu.Unlock()
	if m == nil {
		return nil, nil
	}
	generations := make(map[*disk]int, len(m.disks))
	for _, d := range m.disks {
		generations[d] = d.content.freeze()
	}
	return m, generations
}

// watcher sees objects come and go, in the moment and under the lock in which the simulator makes and removes them.
type watcher struct{ sim *Simulator }

// Reference implements simulator.RegisterObject.
func (w *watcher) Reference() types.ManagedObjectReference {
	return types.ManagedObjectReference{Type: "Watcher", Value: "vcentersim"}
}

// PutObject freezes the content that a new snapshot holds.
func (w *watcher) PutObject(_ *simulator.Context, obj mo.Reference) {
	snap, ok := obj.(*simulator.VirtualMachineSnapshot)
	if !ok {
		return
	}
	if m, generations := w.sim.freeze(snap.Vm); m != nil {
		w.sim.mu.Lock()
		w.sim.snapshots[snap.Self] = &snapshot{machine: m, generations: generations}
		w.sim.mu.Unlock()
	}
}

// UpdateObject implements simulator.RegisterObject.
func (w *watcher) UpdateObject(*simulator.Context, mo.Reference, []types.PropertyChange) {}

// RemoveObject forgets a snapshot, and takes its wrappers out of the sessions, which would keep it alive.
func (w *watcher) RemoveObject(ctx *simulator.Context, ref types.ManagedObjectReference) {
	if ref.Type != "VirtualMachineSnapshot" && ref.Type != "VirtualMachine" {
		return
	}
	w.sim.mu.Lock()
	delete(w.sim.snapshots, ref)
	sessions := make([]*simulator.Registry, 0, len(w.sim.sessions))
	for r := range w.sim.sessions {
		sessions = append(sessions, r)
	}
	w.sim.mu.Unlock()
	for _, r := range sessions {
		if r.Get(ref) != nil {
			r.Remove(ctx, ref)
		}
	}
}
