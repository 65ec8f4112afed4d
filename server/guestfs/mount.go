package guestfs

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/procexec"
)

// mounted is a file system that no path leads to. Its *os.File is its root directory.
type mounted struct {
	*os.File
	mount    int // the mount ends when it is closed
	device   *os.File
	readOnly bool
}

// mountRoot mounts a disk's root file system; for writing it is repaired first.
func mountRoot(ctx context.Context, d *openedDisk, label string) (*mounted, error) {
	where, err := findRoot(d, d.size, label)
	if err != nil {
		return nil, err
	}
	device, err := attachLoop(d, where.Start, where.Size)
	if err != nil {
		return nil, err
	}
	if !d.readOnly {
		err = repair(ctx, device.Name())
	}
	var m *mounted
	if err == nil {
		m, err = mountDevice(device, d.readOnly)
	}
	if err != nil {
		return nil, join(err, device.Close())
	}
	return m, nil
}

// mountDevice mounts without a place (fsopen(2)). What the file system itself says should happen on an error, which may be the end of the host
// (tune2fs -e panic), is overruled. Reading leaves a journal that was not replayed alone.
func mountDevice(device *os.File, readOnly bool) (*mounted, error) {
	fs, err := unix.Fsopen("ext4", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fault.As(fault.Internal, err, "mount")
	}
	defer unix.Close(fs) //nolint:errcheck // the mount has its own reference
	attributes := unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC
	err = errors.Join(unix.FsconfigSetString(fs, "source", device.Name()), unix.FsconfigSetString(fs, "errors", "remount-ro"))
	if readOnly {
		attributes |= unix.MOUNT_ATTR_RDONLY
		err = errors.Join(err, unix.FsconfigSetFlag(fs, "ro"), unix.FsconfigSetFlag(fs, "noload"))
	}
	if err != nil {
		return nil, fault.As(fault.Internal, err, "mount")
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, fault.As(fault.FailedPrecondition, err, "the guest's file system can not be mounted")
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attributes)
	if err != nil {
		return nil, fault.As(fault.Internal, err, "mount")
	}
	// The mount is a path only; this opens its root directory for reading.
	root, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fault.As(fault.Internal, errors.Join(err, unix.Close(fd)), "mount")
	}
	return &mounted{File: os.NewFile(uintptr(root), "/"), mount: fd, device: device, readOnly: readOnly}, nil
}

func (m *mounted) unmount() error {
	var err error
	if !m.readOnly {
		err = unix.Syncfs(int(m.Fd()))
	}
	err = join(err, m.Close())
	err = join(err, unix.Close(m.mount))
	if !m.readOnly && err == nil {
		err = m.device.Sync()
	}
	return fault.Wrap(join(err, m.device.Close()), "guest's file system")
}

// repair checks a file system and repairs what is safe to. It goes over all of it if force is given in more. Exit statuses 0 and 1 mean that it is in order
// now (e2fsck(8)).
func repair(ctx context.Context, device string, more ...string) error {
	_, err := procexec.Runner{}.Run(ctx, procexec.Command{Program: tool("e2fsck"), Args: append([]string{"-p"}, more...), Operands: []string{device}})
	exit, failed := errors.AsType[*procexec.ExitError](err)
	switch {
	case failed && exit.Status == 1:
		return nil
	case failed:
		return fault.As(fault.FailedPrecondition, err, "the guest's file system is damaged; repair it from within the VM")
	}
	return err
}

// tool finds a program for administrators, whose folder is not in everybody's PATH.
func tool(name string) string {
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if path := filepath.Join(dir, name); executable(path) {
			return path
		}
	}
	return name
}

func executable(path string) bool { return unix.Access(path, unix.X_OK) == nil }

// readExact reads at an offset; what lies behind the end is an error.
func readExact(r io.ReaderAt, n int, off int64) ([]byte, error) {
	b := make([]byte, n)
	_, err := r.ReadAt(b, off)
	return b, err
}
