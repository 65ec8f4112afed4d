package vmvolume

import (
	"context"
	"errors"
	"math"
	"os"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// ChangeVmVolumeSize implements VolumeService. A volume of a VM that runs only grows, and the file system in it is then the guest's to grow; in a volume of
// one that is stopped an ext2, ext3 or ext4 file system at the end follows, where the host can. Snapshots keep the size that they were made with.
func (s *Service) ChangeVmVolumeSize(
	ctx context.Context, req *hypervisorv1.ChangeVmVolumeSizeRequest,
) (*hypervisorv1.ChangeVmVolumeSizeResponse, error) {
	size := req.GetVolumeSize()
	if size == 0 || size%hypervisor.SectorSize != 0 || size > math.MaxInt64 {
		return nil, fault.New(fault.InvalidArgument, "volume_size: %d is no multiple of %d bytes above 0 and below 2^63", size, hypervisor.SectorSize)
	}
	i := req.GetVolumeIndex()
	err := s.change(ctx, req.GetVm(), "change the size of a volume", func(ctx context.Context, record *hypervisorv1.LocalVmInfo) error {
		if err := index(record, i); err != nil {
			return err
		}
		return fault.Wrap(s.resize(ctx, record, i, size), "volume %d", i)
	}, running)
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.ChangeVmVolumeSizeResponse{}, nil
}

func (s *Service) resize(ctx context.Context, record *hypervisorv1.LocalVmInfo, i uint32, size uint64) error {
	info := record.GetVmInfo()
	v, disk := info.GetVolumes()[i], describe(info, info.GetVolumes()[i], record.GetVolumeLocations()[i].GetFilename())
	note := func(size uint64) error {
		_, err := s.Operations.Change(ctx, info.GetUuid(), func(r *hypervisorv1.LocalVmInfo) error {
			v := r.GetVmInfo().GetVolumes()[i]
			v.Size, v.VirtualSize = size, size
			return nil
		})
		return err
	}
	switch {
	case size == v.GetVirtualSize():
		return nil
	case size < v.GetVirtualSize():
		return s.shrink(ctx, record, disk, v.GetVirtualSize(), size, note)
	case runs(record):
		// The file first: if the record cannot be kept, a repetition finds the disk as large as it is to be.
		if err := s.Driver.ResizeDisk(ctx, info.GetUuid(), disk.File, size); err != nil {
			return err
		}
		return note(size)
	}
	if err := s.Files.Grow(ctx, disk.File, v.GetFormat(), size); err != nil {
		return err
	}
	if err := note(size); err != nil || s.Filesystems == nil {
		return err
	}
	return fault.Wrap(s.Filesystems.GrowFilesystem(ctx, disk), "has %d bytes now, but the file system in it is as large as before", size)
}

// shrink cuts a raw volume, after what is in it was made smaller.
func (s *Service) shrink(
	ctx context.Context, record *hypervisorv1.LocalVmInfo, disk hypervisor.Disk, old, size uint64, note func(uint64) error,
) error {
	switch {
	case runs(record):
		return fault.New(fault.FailedPrecondition, "making it smaller, from %d to %d bytes, needs the VM stopped", old, size)
	case disk.Format != hypervisor.DiskRaw:
		return fault.New(fault.FailedPrecondition, "format %s cannot be made smaller, only raw can; add a smaller volume and copy in the guest", disk.Format)
	case s.Filesystems == nil:
		return fault.New(fault.Unimplemented, "making it smaller, from %d to %d bytes, would cut off what is in it and is not available; "+
			"add a smaller volume and copy in the guest", old, size)
	}
	if err := s.Filesystems.ShrinkFilesystem(ctx, disk, size); err != nil {
		return err
	}
	if err := os.Truncate(disk.File, int64(size)); err != nil {
		return fault.Wrap(err, "cut")
	}
	if err := note(size); err != nil {
		// The file system does not use what was cut off, so zeros may take its place.
		return errors.Join(err, fault.Wrap(os.Truncate(disk.File, int64(old)), "lengthen it again"))
	}
	return nil
}
