package vmvolume

import (
	"context"
	"math"

	"golang.org/x/sys/unix"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// ChangeVmVolumeSize implements VolumeService: a volume can grow. The file system in it is the guest's to grow.
func (s *Service) ChangeVmVolumeSize(
	ctx context.Context, req *hypervisorv1.ChangeVmVolumeSizeRequest,
) (*hypervisorv1.ChangeVmVolumeSizeResponse, error) {
	size := req.GetVolumeSize()
	if size == 0 || size%sectorSize != 0 || size > math.MaxInt64 {
		return nil, fault.New(fault.InvalidArgument, "volume_size: %d is no multiple of %d bytes above 0 and below 2^63", size, sectorSize)
	}
	err := s.change(ctx, req.GetVm(), "change the size of a volume", func(ctx context.Context, record *hypervisorv1.LocalVmInfo) error {
		return s.resize(ctx, record, req.GetVolumeIndex(), size)
	})
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.ChangeVmVolumeSizeResponse{}, nil
}

func (s *Service) resize(ctx context.Context, record *hypervisorv1.LocalVmInfo, i uint32, size uint64) error {
	if err := index(record, i); err != nil {
		return err
	}
	v := record.GetVmInfo().GetVolumes()[i]
	switch {
	case size == v.GetVirtualSize():
		return nil
	case size < v.GetVirtualSize():
		return fault.New(fault.Unimplemented, "volume %d: making it smaller, from %d to %d bytes, would cut off what is in it and is not available; "+
			"add a smaller volume and copy in the guest", i, v.GetVirtualSize(), size)
	}
	if err := s.Files.Grow(ctx, record.GetVolumeLocations()[i].GetFilename(), v.GetFormat(), size); err != nil {
		return fault.Wrap(err, "volume %d", i)
	}
	_, err := s.Operations.Change(ctx, record.GetVmInfo().GetUuid(), func(r *hypervisorv1.LocalVmInfo) error {
		v := r.GetVmInfo().GetVolumes()[i]
		v.Size, v.VirtualSize = size, size
		return nil
	})
	return err
}

// ReorderVmVolumes implements VolumeService. Each index is that of a volume now, its place in the list that of the volume afterwards.
func (s *Service) ReorderVmVolumes(ctx context.Context, req *hypervisorv1.ReorderVmVolumesRequest) (*hypervisorv1.ReorderVmVolumesResponse, error) {
	err := s.change(ctx, req.GetVm(), "reorder the volumes", func(ctx context.Context, record *hypervisorv1.LocalVmInfo) error {
		order, err := permutation(req.GetVolumeIndices(), len(record.GetVolumeLocations()))
		if err != nil {
			return err
		}
		_, err = s.Operations.Change(ctx, record.GetVmInfo().GetUuid(), func(r *hypervisorv1.LocalVmInfo) error {
			volumes, places := r.GetVmInfo().GetVolumes(), r.GetVolumeLocations()
			r.VmInfo.Volumes, r.VolumeLocations = nil, nil
			for _, i := range order {
				r.VmInfo.Volumes = append(r.VmInfo.Volumes, volumes[i])
				r.VolumeLocations = append(r.VolumeLocations, places[i])
			}
			return nil
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.ReorderVmVolumesResponse{}, nil
}

// permutation checks the order of n volumes. With one index missing the root volume stays in front.
func permutation(indices []uint32, n int) ([]uint32, error) {
	order := indices
	if len(order) == n-1 {
		order = append([]uint32{0}, order...)
	}
	seen := make([]bool, n)
	for _, i := range order {
		if int(i) >= n || seen[i] {
			return nil, fault.New(fault.InvalidArgument, "volume_indices: %v names volume %d twice, or the VM does not have it", indices, i)
		}
		seen[i] = true
	}
	if len(order) != n {
		return nil, fault.New(fault.InvalidArgument, "volume_indices: has %d indices for %d volumes", len(indices), n)
	}
	return order, nil
}

// GetVmVolumeStorageConfiguration implements VolumeService.
func (s *Service) GetVmVolumeStorageConfiguration(
	_ context.Context, req *hypervisorv1.GetVmVolumeStorageConfigurationRequest,
) (*hypervisorv1.GetVmVolumeStorageConfigurationResponse, error) {
	record, err := s.VMs.Get(req.GetVm())
	if err != nil {
		return nil, err
	}
	res := new(hypervisorv1.GetVmVolumeStorageConfigurationResponse)
	devices := make([]uint64, len(s.Directories))
	for i, dir := range s.Directories {
		info, device, err := storage(dir)
		if err != nil {
			return nil, err
		}
		devices[i] = device
		res.StorageInfos = append(res.StorageInfos, info)
	}
	for i, p := range record.GetVolumeLocations() {
		found, err := deviceOf(p.GetFilename(), devices)
		if err != nil {
			return nil, fault.Wrap(err, "vm %q: volume %d", req.GetVm(), i)
		}
		res.VolumeStorageIndices = append(res.VolumeStorageIndices, found)
	}
	return res, nil
}

// storage describes the file system of a folder, and returns its device.
func storage(dir string) (*hypervisorv1.StorageInfo, uint64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return nil, 0, fault.Wrap(err, "volume directory %s", dir)
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return nil, 0, fault.Wrap(err, "volume directory %s", dir)
	}
	block := uint64(fs.Frsize)
	return &hypervisorv1.StorageInfo{
		AvailableBytes: fs.Bavail * block, FreeBytes: fs.Bfree * block, SizeBytes: fs.Blocks * block,
		// What root may use but others may not is not usable.
		UsableBytes: (fs.Blocks - fs.Bfree + fs.Bavail) * block,
	}, st.Dev, nil
}

// deviceOf returns the index of the device on which a file lies.
func deviceOf(file string, devices []uint64) (uint32, error) {
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		return 0, fault.Wrap(err, "%s", file)
	}
	for i, d := range devices {
		if d == st.Dev {
			return uint32(i), nil
		}
	}
	return 0, fault.New(fault.NotFound, "%s lies on none of the storage devices", file)
}
