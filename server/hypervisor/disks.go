package hypervisor

import "context"

// LiveDisks changes the disks of machines that are Running or Paused, without the guest being stopped. All of it changes the machine's definition in the
// same way, so that a later start finds the same disks. A machine in another state is FailedPrecondition, a disk that the machine does not have NotFound.
type LiveDisks interface {
	// AttachDisk connects a further disk, behind those that are there. AlreadyExists if the machine has the file. FailedPrecondition if the board can not take
	// a disk on this bus while it runs.
	AttachDisk(ctx context.Context, uuid string, d Disk) error
	// DetachDisk takes a disk away and returns when the guest has let it go and the file is no longer open. FailedPrecondition if the guest does not let it go
	// in the time that the driver gives it; then the disk is there as before. The first disk can not be taken.
	DetachDisk(ctx context.Context, uuid, file string) error
	// ResizeDisk makes a disk larger, its file included, and tells the guest. size is in bytes, a multiple of 512. InvalidArgument if it would shrink,
	// FailedPrecondition if guests cannot be told of it on this bus.
	ResizeDisk(ctx context.Context, uuid, file string, size uint64) error
	// MoveDisk copies a disk into another file while the guest goes on, and has the machine use that one when both are equal. The driver makes the file to;
	// it must not exist. The old file is left to the caller. progress, which may be nil, gets bytes. After an error, or when ctx ends before the change over,
	// the machine uses the old file and the new one has gone.
	MoveDisk(ctx context.Context, uuid, file, to string, progress func(done, total uint64)) error
	// AbandonMove ends a move of the disk that a driver has begun which is no more; the disk stays in its file. Without one, or for a machine that is not
	// alive, there is nothing to do.
	AbandonMove(ctx context.Context, uuid, file string) error
	// RedirectDisks has the machine write all changes of the disks into files that the driver makes (file to overlay, qcow2), all from one point in time on.
	// The disks' own files then change no more until MergeDisks. FailedPrecondition if one of them is redirected already.
	RedirectDisks(ctx context.Context, uuid string, overlays map[string]string) error
	// MergeDisks ends what RedirectDisks began: the changes come into the disks' own files, which the machine uses again, and the overlays are removed.
	// Disks that are not redirected are no error, so that a merge that was interrupted can be repeated, also for a machine that is Off or Crashed.
	MergeDisks(ctx context.Context, uuid string, overlays map[string]string) error
}

// Monitor speaks with a machine's emulator.
type Monitor interface {
	// MonitorCommand sends a command of the QEMU Machine Protocol, one JSON object, to a machine that is Running or Paused and returns the answer, one JSON
	// object. An answer of the emulator that is an error is no error of this call. InvalidArgument for what is no JSON object.
	MonitorCommand(ctx context.Context, uuid string, command []byte) ([]byte, error)
}
