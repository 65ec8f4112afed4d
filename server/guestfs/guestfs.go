package guestfs

import (
	"context"
	"fmt"
	"io"

	"google.golang.org/protobuf/types/known/timestamppb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/procexec"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// Service changes file systems in volumes. Its methods may be called at once for different volumes. It needs to be root. No file of a volume may be in use.
type Service struct {
	// Programs runs the child.
	Programs procexec.Runner
	// Self is this program, and the arguments with which it calls Main.
	Self Command
}

// Command is a program with its arguments.
type Command struct {
	Program string
	Args    []string
}

// Root is the root file system of a disk: the one with the label or, without one, the largest ext2, ext3 or ext4 file system.
type Root struct {
	Disk  hypervisor.Disk
	Label string
}

func (r Root) request() disk { return disk{File: r.Disk.File, Format: r.Disk.Format, Label: r.Label} }

// Scan calls emit for each entry of a root file system, in the order of their paths, component by component, but for those that the filter names and what
// is below them. Bytes of names that are no UTF-8 are written \xNN. The filter's lines are regular expressions that begin at the beginning of the path. It changes nothing, not even a journal.
func (s *Service) Scan(ctx context.Context, r Root, filter []string, emit func(*hypervisorv1.FileEntry) error) error {
	if _, err := CompileFilter(filter); err != nil {
		return err
	}
	return s.run(ctx, request{Op: opScan, Disk: r.request(), Filter: filter}, func(m reply) error {
		if m.Entry == nil {
			return nil
		}
		e := m.Entry
		return emit(&hypervisorv1.FileEntry{
			Path: printable(e.Path), Mode: e.Mode, UserId: e.UID, GroupId: e.GID, ModifiedOn: timestamppb.New(e.Modified), Size: e.Size, Sha512: e.SHA512,
			Symlink: printable(e.Symlink), Device: e.Device,
		})
	})
}

// Overlay makes directories (mode 0755) and writes files (0644, path to content) in a disk's root file system, with the directories above them. All belong
// to root. A file, or a link, of that name is replaced at once. After an error some may have been written.
func (s *Service) Overlay(ctx context.Context, d hypervisor.Disk, directories []string, files map[string][]byte) error {
	return s.OverlayRoot(ctx, Root{Disk: d}, directories, files)
}

// OverlayRoot is Overlay for a disk whose root file system has a label.
func (s *Service) OverlayRoot(ctx context.Context, r Root, directories []string, files map[string][]byte) error {
	for _, p := range directories {
		if err := checkPath(p); err != nil {
			return err
		}
	}
	for p := range files {
		if err := checkPath(p); err != nil {
			return err
		}
	}
	return s.run(ctx, request{Op: opOverlay, Disk: r.request(), Directories: directories, Files: files}, nil)
}

// Patch brings a root file system to the content of an image's: type, permissions, owner, content, links and extended attributes of every entry, except for
// those that the filter names (as for Scan) and /lost+found: they are neither taken from the image nor changed. What does not fit is found before anything
// is changed. Each change is a line in log. After another error some of the changes may have been made: patch a copy.
func (s *Service) Patch(ctx context.Context, r Root, image hypervisor.Disk, filter []string, log io.Writer) error {
	if _, err := CompileFilter(filter); err != nil {
		return err
	}
	return s.run(ctx, request{Op: opPatch, Disk: r.request(), Image: Root{Disk: image}.request(), Filter: filter}, func(m reply) error {
		if m.Log == "" {
			return nil
		}
		_, err := fmt.Fprintln(log, m.Log)
		return err
	})
}

// MakeFilesystem makes an ext4 file system on a whole disk. What was there is lost.
func (s *Service) MakeFilesystem(ctx context.Context, d hypervisor.Disk, init *hypervisorv1.VolumeInitialisationInfo) error {
	o := makeOptions{
		Label: init.GetLabel(), BytesPerInode: init.GetBytesPerInode(), ReservedPercent: init.GetReservedBlocksPercentage(),
		OwnerID: init.GetRootUserId(), GroupID: init.GetRootGroupId(),
	}
	if err := o.check(); err != nil {
		return err
	}
	return s.run(ctx, request{Op: opMake, Disk: Root{Disk: d}.request(), Make: o}, nil)
}

// GrowFilesystem has the last file system of a disk that became larger, and the partition that it is in, reach to the disk's end. A disk whose last part is
// no ext2, ext3 or ext4 file system, or a logical partition, stays as it is, which is no error: see Grow.
func (s *Service) GrowFilesystem(ctx context.Context, d hypervisor.Disk) error {
	_, err := s.Grow(ctx, d)
	return err
}

// Grow is GrowFilesystem and says whether it did something.
func (s *Service) Grow(ctx context.Context, d hypervisor.Disk) (grown bool, err error) {
	err = s.run(ctx, request{Op: opGrow, Disk: Root{Disk: d}.request()}, func(m reply) error {
		grown = grown || m.Grown
		return nil
	})
	return grown, err
}

// ShrinkFilesystem makes room at the end of a disk that is about to be cut to size bytes: its last file system, and the partition that it is in, will fit.
// FailedPrecondition, and nothing changed, if the content is too large or the last part is no ext2, ext3 or ext4 file system.
func (s *Service) ShrinkFilesystem(ctx context.Context, d hypervisor.Disk, size uint64) error {
	if size == 0 || size%512 != 0 || size > 1<<62 {
		return fault.New(fault.InvalidArgument, "size: %d is no multiple of 512 bytes above 0", size)
	}
	return s.run(ctx, request{Op: opShrink, Disk: Root{Disk: d}.request(), Size: size}, nil)
}
