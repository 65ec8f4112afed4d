package guestfs

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// Trace is files of a root file system that tell one machine from another.
type Trace struct {
	// Directory is the folder, Pattern that of path.Match for names in it. What is no regular file and no link stays.
	Directory, Pattern string
	// Below takes the same files in the folders below Directory too.
	Below bool
	// Empty leaves the files there, without content: programs take that for "to be made anew".
	Empty bool
}

// Seal removes files from a disk's root file system. Folders and files that do not exist are no error. After another error some may have gone: seal a copy.
func (s *Service) Seal(ctx context.Context, d hypervisor.Disk, traces []Trace) error {
	for _, t := range traces {
		if _, err := path.Match(t.Pattern, ""); err != nil || !path.IsAbs(t.Directory) {
			return fault.New(fault.Internal, "seal: %+v is no pattern in a folder", t)
		}
	}
	return s.run(ctx, request{Op: opSeal, Disk: Root{Disk: d}.request(), Traces: traces}, nil)
}

func seal(ctx context.Context, d *openedDisk, label string, traces []Trace) (err error) {
	m, err := mountRoot(ctx, d, label)
	if err != nil {
		return err
	}
	defer func() { err = join(err, m.unmount()) }()
	for _, t := range traces {
		// Links on the way are followed, but not out of the root.
		how := &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
		fd, err := unix.Openat2(int(m.Fd()), t.Directory, how)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
			continue
		}
		if err == nil {
			err = t.remove(ctx, os.NewFile(uintptr(fd), t.Directory), 0)
		}
		if err != nil {
			return fault.As(fault.FailedPrecondition, err, "seal: %s", t.Directory)
		}
	}
	return nil
}

// maxSealDepth bounds folders in folders; no guest's logs lie deeper.
const maxSealDepth = 64

// remove takes away what the trace names in a folder, which it closes.
func (t Trace) remove(ctx context.Context, dir *os.File, depth int) (err error) {
	defer func() { err = errors.Join(err, dir.Close()) }()
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		matches, _ := path.Match(t.Pattern, e.Name())
		switch {
		case e.IsDir() && t.Below && depth < maxSealDepth:
			err = t.descend(ctx, dir, e.Name(), depth)
		case !matches || !slices.Contains([]fs.FileMode{0, fs.ModeSymlink}, e.Type()):
		case t.Empty && e.Type() == 0:
			err = truncateAt(int(dir.Fd()), e.Name())
		default:
			err = unix.Unlinkat(int(dir.Fd()), e.Name(), 0)
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return nil
}

func (t Trace) descend(ctx context.Context, dir *os.File, name string, depth int) error {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return t.remove(ctx, os.NewFile(uintptr(fd), name), depth+1)
}

func truncateAt(dir int, name string) error {
	fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return errors.Join(unix.Ftruncate(fd, 0), unix.Close(fd))
}
