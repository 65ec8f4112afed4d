package fake

import (
	"context"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

func notBuilt(what string) error { return fault.New(fault.Unimplemented, "%s is not available on this host", what) }

// AttachDisk implements hypervisor.LiveDisks.
func (d *Driver) AttachDisk(context.Context, string, hypervisor.Disk) error { return notBuilt("attaching disks") }

// DetachDisk implements hypervisor.LiveDisks.
func (d *Driver) DetachDisk(context.Context, string, string) error { return notBuilt("detaching disks") }

// ResizeDisk implements hypervisor.LiveDisks.
func (d *Driver) ResizeDisk(context.Context, string, string, uint64) error { return notBuilt("live resizing") }

// MoveDisk implements hypervisor.LiveDisks.
func (d *Driver) MoveDisk(context.Context, string, string, string, func(done, total uint64)) error {
	return notBuilt("moving disks")
}

// RedirectDisks implements hypervisor.LiveDisks.
func (d *Driver) RedirectDisks(context.Context, string, map[string]string) error { return notBuilt("redirecting disks") }

// MergeDisks implements hypervisor.LiveDisks.
func (d *Driver) MergeDisks(context.Context, string, map[string]string) error { return notBuilt("merging disks") }

// MonitorCommand implements hypervisor.Monitor.
func (d *Driver) MonitorCommand(context.Context, string, []byte) ([]byte, error) { return nil, notBuilt("the monitor") }
