package vsphere

import (
	"context"
	"strings"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

// defaultSnapshotName is used where the caller gives none.
const defaultSnapshotName = "hyperplane-export"

// frozen is the snapshot of a view. The mark in its description is what makes it ours; nothing else is ever removed.
type frozen struct {
	vm   types.ManagedObjectReference
	mark string
	task *types.ManagedObjectReference // that makes it, once it was asked for
	ref  *types.ManagedObjectReference // once it is known
}

// create asks for the snapshot and waits for it. After an error the snapshot may exist or come into being; remove takes care of that.
func (c *conn) createSnapshot(ctx context.Context, f *frozen, name string, quiesce bool) error {
	if name == "" {
		name = defaultSnapshotName
	}
	res, err := methods.CreateSnapshot_Task(ctx, c, &types.CreateSnapshot_Task{
		This: f.vm, Name: name, Quiesce: quiesce,
		Description: "Made by Hyperplane for an export, and removed when that ends. " + f.mark,
	})
	if err != nil {
		return err
	}
	f.task = &res.Returnval
	result, err := c.waitTask(ctx, res.Returnval)
	if err != nil {
		return err
	}
	if ref, ok := result.(types.ManagedObjectReference); ok {
		f.ref = &ref
		return nil
	}
	return c.findSnapshot(ctx, f)
}

// findSnapshot sets f.ref to the snapshot of the VM that bears the mark, or to nil if there is none.
func (c *conn) findSnapshot(ctx context.Context, f *frozen) error {
	f.ref = nil
	r, err := c.one(ctx, f.vm, "snapshot")
	if objectGone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if info, ok := r.props["snapshot"].(types.VirtualMachineSnapshotInfo); ok {
		f.ref = markedSnapshot(info.RootSnapshotList, f.mark)
	}
	return nil
}

func markedSnapshot(list []types.VirtualMachineSnapshotTree, mark string) *types.ManagedObjectReference {
	for i := range list {
		if strings.Contains(list[i].Description, mark) {
			return &list[i].Snapshot
		}
		if ref := markedSnapshot(list[i].ChildSnapshotList, mark); ref != nil {
			return ref
		}
	}
	return nil
}

// removeSnapshot removes f's snapshot if it exists, after waiting for the task that may still be making it. Other snapshots stay, children of
// f's included, and the disks are consolidated.
func (c *conn) removeSnapshot(ctx context.Context, f *frozen) error {
	if f.task != nil {
		// A failed task leaves no snapshot; if it cannot be looked at, the search below decides.
		_, _ = c.waitTask(ctx, *f.task)
		f.task = nil
	}
	if err := c.findSnapshot(ctx, f); err != nil || f.ref == nil {
		return err
	}
	res, err := methods.RemoveSnapshot_Task(ctx, c, &types.RemoveSnapshot_Task{
		This: *f.ref, RemoveChildren: false, Consolidate: new(true),
	})
	if err == nil {
		_, err = c.waitTask(ctx, res.Returnval)
	}
	if err != nil && !objectGone(err) {
		return err
	}
	f.ref = nil
	return nil
}
