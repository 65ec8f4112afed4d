package vcentersim

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// Encoder writes a disk in the form in which leases serve it.
type Encoder func(ctx context.Context, w io.Writer, disk image.Reader) error

// Config is what a simulator is made of. The zero value of a field is its default.
type Config struct {
	// Listen is the address to serve on, with port 0 for a free one; default 127.0.0.1:0.
	Listen string
	// Username and Password are what Login accepts; default user and pass.
	Username, Password string
	// LeaseTimeout is how long a lease lives without progress; default 300 s, vCenter's.
	LeaseTimeout time.Duration
	// LeaseDelay is how long a lease stays in the state initializing.
	LeaseDelay time.Duration
	// LeaseHost is the host name in the URLs of leases: "*" as a standalone ESXi host has it, localhost for another host than the one of the
	// API, or empty for the same.
	LeaseHost string
	// ContentLength sends the size of a stream in front of it instead of sending it in chunks, as vCenter does.
	ContentLength bool
	// Dir is where the folder for encoded streams is made, which Close removes; default the system's temporary folder.
	Dir string
	// Encode makes the streams; default streamOptimized VMDK.
	Encode Encoder
	// Log gets what the simulator does; default nothing.
	Log *slog.Logger
	// VMs are the machines to begin with.
	VMs []VM
}

// VM is a virtual machine to make.
type VM struct {
	// Name is the name in the inventory; Folder the path of the folder below the datacenter's VM folder, or empty.
	Name, Folder string
	// CPUs defaults to 1, MemoryMB to 128.
	CPUs     int32
	MemoryMB int64
	// Firmware is bios (default) or efi.
	Firmware   string
	SecureBoot bool
	// GuestID is a guest identifier of the vSphere API; default otherGuest64.
	GuestID string
	// PoweredOn starts the VM.
	PoweredOn bool
	Disks     []Disk
	NICs      []NIC
}

// Disk is a disk of a VM.
type Disk struct {
	// Content is what the disk holds; its virtual size, which must be a multiple of 512 bytes, is the disk's capacity. The simulator closes it.
	Content image.Reader
	// Bus is scsi (default), sata, nvme or ide; Controller the kind of SCSI controller: pvscsi (default), lsilogic, lsilogic-sas, buslogic.
	Bus, Controller string
	// Mode is a disk mode of the API; default persistent. Sharing is sharingNone (default) or sharingMultiWriter.
	Mode, Sharing string
	// Thick makes the disk thick; it is thin otherwise.
	Thick bool
}

// NIC is a network card of a VM.
type NIC struct {
	// MAC is made up if empty. Model is vmxnet3 (default), e1000 or e1000e.
	MAC, Model string
	// Network is "VM Network" (default) or DC0_DVPG0, a distributed port group.
	Network string
}

func (c Config) withDefaults() (Config, error) {
	if c.Listen == "" {
		c.Listen = "127.0.0.1:0"
	}
	if c.Username == "" && c.Password == "" {
		c.Username, c.Password = "user", "pass"
	}
	if c.LeaseTimeout == 0 {
		c.LeaseTimeout = 300 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Encode == nil {
		c.Encode = encodeVMDK
	}
	if c.Username == "" || c.Password == "" {
		return c, fault.New(fault.InvalidArgument, "vcentersim: give both a user name and a password, or none")
	}
	if c.LeaseTimeout < 0 || c.LeaseDelay < 0 {
		return c, fault.New(fault.InvalidArgument, "vcentersim: lease times must not be negative")
	}
	for _, vm := range c.VMs {
		if err := vm.check(); err != nil {
			return c, err
		}
	}
	return c, nil
}

func (vm VM) check() error {
	if vm.Name == "" {
		return fault.New(fault.InvalidArgument, "vcentersim: a VM has no name")
	}
	if vm.CPUs < 0 || vm.MemoryMB < 0 {
		return fault.New(fault.InvalidArgument, "vcentersim: vm %q: cpus and memory must not be negative", vm.Name)
	}
	switch vm.Firmware {
	case "", "bios", "efi":
	default:
		return fault.New(fault.InvalidArgument, "vcentersim: vm %q: firmware %q is not supported; use bios or efi", vm.Name, vm.Firmware)
	}
	for i, d := range vm.Disks {
		if d.Content == nil {
			return fault.New(fault.InvalidArgument, "vcentersim: vm %q: disk %d has no content", vm.Name, i)
		}
		if size := d.Content.Info().VirtualSize; size <= 0 || size%512 != 0 {
			return fault.New(fault.InvalidArgument, "vcentersim: vm %q: disk %d has %d bytes; it must be a multiple of 512", vm.Name, i, size)
		}
	}
	return nil
}

// closeContents closes the content of all disks.
func (c Config) closeContents() error {
	var errs []error
	for _, vm := range c.VMs {
		for _, d := range vm.Disks {
			if d.Content != nil {
				errs = append(errs, d.Content.Close())
			}
		}
	}
	return errors.Join(errs...)
}
