package guestfs

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// maxLoopTries is how often somebody else may take a free loop device before we do.
const maxLoopTries = 64

// attachLoop makes a part of a disk a block device, which goes when it is closed (loop(4), LO_FLAGS_AUTOCLEAR).
func attachLoop(d *openedDisk, offset, size int64) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fault.As(fault.FailedPrecondition, err, "loop devices are not available; load the kernel's module loop")
	}
	defer control.Close() //nolint:errcheck // nothing was written
	config := unix.LoopConfig{Fd: uint32(d.Fd())}
	config.Info.Offset, config.Info.Sizelimit = uint64(offset), uint64(size)
	config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR
	mode := os.O_RDWR
	if d.readOnly {
		config.Info.Flags |= unix.LO_FLAGS_READ_ONLY
		mode = os.O_RDONLY
	}
	for range maxLoopTries {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fault.As(fault.ResourceExhausted, err, "no free loop device")
		}
		device, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), mode|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fault.As(fault.Internal, err, "loop device")
		}
		err = unix.IoctlLoopConfigure(int(device.Fd()), &config)
		if err == nil {
			return device, nil
		}
		if err = errors.Join(err, device.Close()); !errors.Is(err, unix.EBUSY) {
			return nil, fault.As(fault.Internal, err, "loop device %d", n)
		}
	}
	return nil, fault.New(fault.ResourceExhausted, "no free loop device: others took %d of them", maxLoopTries)
}
