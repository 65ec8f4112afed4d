package vcentersim

import (
	"context"

	"github.com/vmware/govmomi/object"
)

// CreateSnapshot makes a snapshot of a VM, as an administrator would, and waits for it.
func (s *Simulator) CreateSnapshot(ctx context.Context, vm, name string) error {
	return s.change(ctx, vm, func(v *object.VirtualMachine) (*object.Task, error) {
		return v.CreateSnapshot(ctx, name, "", false, false)
	})
}

// RemoveSnapshots removes all snapshots of a VM and waits for it.
func (s *Simulator) RemoveSnapshots(ctx context.Context, vm string) error {
	return s.change(ctx, vm, func(v *object.VirtualMachine) (*object.Task, error) {
		return v.RemoveAllSnapshot(ctx, nil)
	})
}

// SetPower starts or stops a VM and waits until it is done.
func (s *Simulator) SetPower(ctx context.Context, vm string, on bool) error {
	return s.change(ctx, vm, func(v *object.VirtualMachine) (*object.Task, error) {
		if on {
			return v.PowerOn(ctx)
		}
		return v.PowerOff(ctx)
	})
}

func (s *Simulator) change(ctx context.Context, vm string, start func(*object.VirtualMachine) (*object.Task, error)) error {
	m, err := s.machineNamed(vm)
	if err != nil {
		return err
	}
	task, err := start(object.NewVirtualMachine(s.admin.Client, m.ref))
	if err != nil {
		return err
	}
	return task.Wait(ctx)
}
