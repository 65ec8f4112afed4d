package vsphere

import (
	"fmt"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyperplane-project/hyperplane/providers/driver"
)

// blockers returns why the VM cannot be exported as it is.
func (d devices) blockers(power driver.PowerState) []string {
	var out []string
	if d.encrypted {
		out = append(out, "the VM is encrypted; vSphere exports only plain VMs, so decrypt it first (change its storage policy)")
	}
	for _, v := range d.virtualDisks() {
		if why := v.blocker(power); why != "" {
			out = append(out, fmt.Sprintf("%s (%s): %s", label(v.VirtualDevice), v.file(), why))
		}
	}
	return out
}

// backing holds those fields of the many backing types that can forbid an export.
type backing struct {
	mode      string
	sharing   string
	raw       bool
	encrypted bool
}

func (d disk) backing() backing {
	switch b := d.Backing.(type) {
	case *types.VirtualDiskFlatVer2BackingInfo:
		return backing{mode: b.DiskMode, sharing: b.Sharing, encrypted: b.KeyId != nil}
	case *types.VirtualDiskSeSparseBackingInfo:
		return backing{mode: b.DiskMode, encrypted: b.KeyId != nil}
	case *types.VirtualDiskSparseVer2BackingInfo:
		return backing{mode: b.DiskMode, encrypted: b.KeyId != nil}
	case *types.VirtualDiskFlatVer1BackingInfo:
		return backing{mode: b.DiskMode}
	case *types.VirtualDiskSparseVer1BackingInfo:
		return backing{mode: b.DiskMode}
	case *types.VirtualDiskRawDiskMappingVer1BackingInfo:
		return backing{mode: b.DiskMode, sharing: b.Sharing, raw: true}
	case *types.VirtualDiskRawDiskVer2BackingInfo, *types.VirtualDiskPartitionedRawDiskVer2BackingInfo, *types.VirtualDiskLocalPMemBackingInfo:
		return backing{raw: true}
	default:
		return backing{}
	}
}

func (d disk) blocker(power driver.PowerState) string {
	b := d.backing()
	independent := b.mode == string(types.VirtualDiskModeIndependent_persistent) || b.mode == string(types.VirtualDiskModeIndependent_nonpersistent)
	switch {
	case b.raw:
		return "it is a raw device, not a disk file; copy its content by other means, or detach it for the export"
	case b.encrypted:
		return "it is encrypted; decrypt it first (change its storage policy)"
	case b.sharing == string(types.VirtualDiskSharingSharingMultiWriter):
		return "it is shared by several VMs (multi-writer); detach it, or stop all of them and end the sharing"
	case d.on.sharedBus != "" && d.on.sharedBus != types.VirtualSCSISharingNoSharing:
		return "its controller shares the bus with other VMs; detach it, or end the sharing"
	case independent && power != driver.PowerOff:
		return "it is independent, so that no snapshot holds it; power the VM off for the export"
	default:
		return ""
	}
}
