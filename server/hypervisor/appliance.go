package hypervisor

import "context"

// Appliances is what copies of whole machines need. A machine may be anybody's; a definition is what Definitions.Definition returned, perhaps on another day.
type Appliances interface {
	// DescribeDefinition says what a definition describes. Nothing of it needs to exist. InvalidArgument for what is none.
	DescribeDefinition(definition []byte) (Appliance, error)
	// ReviseDefinition returns the definition of another machine made after this one.
	ReviseDefinition(definition []byte, r Revision) ([]byte, error)
	// CopyDisks copies disks of a machine that is Running or Paused as they all are at one moment, while the guest goes on. After an error, or when ctx ends
	// before it is done, the copies have gone. FailedPrecondition for a machine in another state, and while it copies already.
	CopyDisks(ctx context.Context, uuid string, c DiskCopies) error
	// AbandonCopies ends copies that a driver has begun which is no more. Without any, or for a machine that is not alive or not known, there is nothing to do.
	AbandonCopies(ctx context.Context, uuid string) error
	// DropCheckpoint has a machine forget a checkpoint of CopyDisks. One that does not exist is no error, nor is a machine that is not known.
	DropCheckpoint(ctx context.Context, uuid, name string) error
	// SetAutostart says whether a machine starts with the host.
	SetAutostart(ctx context.Context, uuid string, on bool) error
	// ChangeMedium puts a file into a CD drive of a machine in any state, in the place of what is there; empty takes it out. A guest that has locked the drive is
	// not asked. Without a device a machine that is Off gets a further drive. It returns the drive's device.
	ChangeMedium(ctx context.Context, uuid, device, file string) (string, error)
}

// Appliance is a machine as a definition describes it.
type Appliance struct {
	UUID, Name  string
	CPUs        uint32
	MemoryBytes uint64
	// Disks are those that Redefine takes files for, in its order.
	Disks  []ApplianceDisk
	Drives []Drive
	// Variables is the file with the firmware's variables; empty = it has none.
	Variables string
	// MACs are the addresses of its network cards, in their order.
	MACs []string
}

// ApplianceDisk is a disk of an Appliance.
type ApplianceDisk struct {
	// Target names it in the machine, like vda. File is empty if it is not a file; then Source says what it is.
	Target, File, Source string
	Format               DiskFormat
	ReadOnly             bool
}

// Drive is a CD drive. File is what is in it; empty = nothing.
type Drive struct{ Device, File string }

// Revision is how the definition of a machine becomes that of another one. What is zero stays, but the places of sockets on the host, which no two machines can
// have, change with the UUID.
type Revision struct {
	UUID, Name string
	// Variables is the file for the firmware's variables.
	Variables string
	// MACs are new addresses of the network cards, in their order.
	MACs        []string
	CPUs        uint32
	MemoryBytes uint64
	// Network is the virtual network that all cards are connected to.
	Network string
	// Seed is a file that a further CD drive has in it.
	Seed string
	// Eject empties the CD drives first.
	Eject bool
}

// DiskCopies is the wish for copies.
type DiskCopies struct {
	Disks []DiskCopy
	// Since is a checkpoint of the machine: only what changed since then is copied, into QCOW2 images. NotFound if the machine does not have it.
	Since string
	// Checkpoint, if not empty, has the machine note from the same moment on what changes. Its disks must be QCOW2.
	Checkpoint string
	// Progress may be nil; it gets bytes.
	Progress func(done, total uint64)
}

// DiskCopy is the copy of one disk. The driver makes the file To; it must not exist.
type DiskCopy struct {
	File, To string
	Format   DiskFormat
	// Base is what To says it is based on, relative to its folder; with Since only.
	Base string
}
