package vmvolume

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strconv"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/undo"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/vm"
)

// AddVmVolumes implements VolumeService: raw volumes of zeros, which take no room until something is written. All are added or none. The guest of a VM that
// runs sees them at once.
func (s *Service) AddVmVolumes(ctx context.Context, req *hypervisorv1.AddVmVolumesRequest) (*hypervisorv1.AddVmVolumesResponse, error) {
	if len(req.GetVolumeSizes()) == 0 {
		return nil, fault.New(fault.InvalidArgument, "volume_sizes: is empty")
	}
	for i, size := range req.GetVolumeSizes() {
		if size == 0 || size%hypervisor.SectorSize != 0 || size > math.MaxInt64 {
			return nil, fault.New(fault.InvalidArgument, "volume_sizes[%d]: %d is no multiple of %d bytes above 0 and below 2^63", i, size, hypervisor.SectorSize)
		}
	}
	err := s.change(ctx, req.GetVm(), "add volumes", func(ctx context.Context, record *hypervisorv1.LocalVmInfo) error {
		return s.add(ctx, record, req.GetVolumeSizes())
	}, running)
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.AddVmVolumesResponse{}, nil
}

func (s *Service) add(ctx context.Context, record *hypervisorv1.LocalVmInfo, sizes []uint64) (err error) {
	if n := len(record.GetVolumeLocations()) + len(sizes); n > hypervisor.MaxDisks {
		return fault.New(fault.InvalidArgument, "volume_sizes: the VM would have %d volumes, more than %d", n, hypervisor.MaxDisks)
	}
	dir, err := s.Operations.Directory(record.GetVmInfo().GetUuid())
	if err != nil {
		return err
	}
	var made []string
	var back undo.Stack
	defer func() {
		if err != nil {
			err = errors.Join(err, back.Run(ctx))
		}
	}()
	for i, size := range sizes {
		file, err := freeName(dir)
		if err != nil {
			return err
		}
		if _, err := s.Files.Empty(ctx, vm.VolumeSpec{File: file, Size: size}); err != nil {
			return fault.Wrap(err, "new volume %d", i)
		}
		made = append(made, file)
		back.Add(func(context.Context) error { return remove(file) })
		if runs(record) {
			if err := s.attach(ctx, record, file, &back); err != nil {
				return fault.Wrap(err, "new volume %d", i)
			}
		}
	}
	_, err = s.Operations.Change(ctx, record.GetVmInfo().GetUuid(), func(r *hypervisorv1.LocalVmInfo) error {
		for i, size := range sizes {
			r.VmInfo.Volumes = append(r.VmInfo.Volumes, &hypervisorv1.Volume{Size: size, VirtualSize: size})
			r.VolumeLocations = append(r.VolumeLocations, &hypervisorv1.LocalVolume{DirectoryToCleanup: dir, Filename: made[i]})
		}
		return nil
	})
	return err
}

// attach gives a new raw volume to a VM that runs.
func (s *Service) attach(ctx context.Context, record *hypervisorv1.LocalVmInfo, file string, back *undo.Stack) error {
	info := record.GetVmInfo()
	err := s.Driver.AttachDisk(ctx, info.GetUuid(), describe(info, nil, file))
	if err == nil {
		back.Add(func(ctx context.Context) error { return s.Driver.DetachDisk(ctx, info.GetUuid(), file) })
	}
	return err
}

// freeName returns the first name of a secondary volume that no file has. After deletions and reorderings names do not follow the order.
func freeName(dir string) (string, error) {
	for i := range 10 * hypervisor.MaxDisks {
		file := filepath.Join(dir, "secondary-volume."+strconv.Itoa(i))
		if _, err := os.Lstat(file); errors.Is(err, os.ErrNotExist) {
			return file, nil
		}
	}
	return "", fault.New(fault.ResourceExhausted, "the folder %s has no free name for a volume", dir)
}
