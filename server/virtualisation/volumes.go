package virtualisation

import (
	"context"
	"math"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/enumtext"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/page"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// ListStorageVolumes implements VirtualisationService.
func (s *Service) ListStorageVolumes(
	ctx context.Context, req *hypervisorv1.ListStorageVolumesRequest,
) (*hypervisorv1.ListStorageVolumesResponse, error) {
	if _, err := s.pool(ctx, req.GetPool()); err != nil {
		return nil, err
	}
	volumes, err := s.Driver.ListVolumes(ctx, req.GetPool())
	if err != nil {
		return nil, err
	}
	all := make([]*hypervisorv1.StorageVolume, len(volumes))
	for i, v := range volumes {
		all[i] = describeVolume(v)
	}
	all, next, err := page.Cut(all, req.GetPageSize(), req.GetPageToken(), (*hypervisorv1.StorageVolume).GetName)
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.ListStorageVolumesResponse{Volumes: all, NextPageToken: next}, nil
}

func describeVolume(v hypervisor.StorageVolume) *hypervisorv1.StorageVolume {
	return &hypervisorv1.StorageVolume{
		Pool: v.Pool, Name: v.Name, Path: v.Path, Type: v.Type, Format: v.Format, Capacity: v.Capacity, Allocation: v.Allocation, BackingPath: v.BackingPath,
	}
}

// volume returns a volume.
func (s *Service) volume(ctx context.Context, pool, name string) (hypervisor.StorageVolume, error) {
	if pool == "" {
		return hypervisor.StorageVolume{}, fault.New(fault.InvalidArgument, "pool: is empty; give the storage pool's name")
	}
	if name == "" {
		return hypervisor.StorageVolume{}, fault.New(fault.InvalidArgument, "volume: is empty; give the volume's name")
	}
	return s.Driver.GetVolume(ctx, pool, name)
}

// described returns a volume as it is after a change.
func (s *Service) described(ctx context.Context, pool, name string) (*hypervisorv1.StorageVolume, error) {
	v, err := s.Driver.GetVolume(ctx, pool, name)
	if err != nil {
		return nil, err
	}
	return describeVolume(v), nil
}

// GetStorageVolume implements VirtualisationService.
func (s *Service) GetStorageVolume(ctx context.Context, req *hypervisorv1.GetStorageVolumeRequest) (*hypervisorv1.GetStorageVolumeResponse, error) {
	v, err := s.volume(ctx, req.GetPool(), req.GetVolume())
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.GetStorageVolumeResponse{Volume: describeVolume(v)}, nil
}

// CreateStorageVolume implements VirtualisationService.
func (s *Service) CreateStorageVolume(
	ctx context.Context, req *hypervisorv1.CreateStorageVolumeRequest,
) (*hypervisorv1.CreateStorageVolumeResponse, error) {
	if err := checkName("name", req.GetName()); err != nil {
		return nil, err
	}
	if err := checkCapacity(req.GetCapacity()); err != nil {
		return nil, err
	}
	if _, err := s.pool(ctx, req.GetPool()); err != nil {
		return nil, err
	}
	spec := hypervisor.StorageVolumeSpec{Pool: req.GetPool(), Name: req.GetName(), Capacity: req.GetCapacity(), Preallocate: req.GetPreallocate()}
	switch req.GetFormat() {
	case hypervisorv1.VolumeFormat_VOLUME_FORMAT_UNSPECIFIED:
	case hypervisorv1.VolumeFormat_VOLUME_FORMAT_QCOW2:
		spec.Format = hypervisor.DiskQCOW2
	default:
		return nil, fault.New(fault.InvalidArgument, "format: %s is not raw or qcow2", req.GetFormat())
	}
	if err := s.Driver.CreateVolume(ctx, spec); err != nil {
		return nil, err
	}
	v, err := s.described(ctx, spec.Pool, spec.Name)
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.CreateStorageVolumeResponse{Volume: v}, nil
}

func checkCapacity(bytes uint64) error {
	if bytes == 0 || bytes%hypervisor.SectorSize != 0 || bytes > math.MaxInt64 {
		return fault.New(fault.InvalidArgument, "capacity: %d bytes are not a multiple of %d above 0", bytes, hypervisor.SectorSize)
	}
	return nil
}

// CloneStorageVolume implements VirtualisationService.
func (s *Service) CloneStorageVolume(
	ctx context.Context, req *hypervisorv1.CloneStorageVolumeRequest,
) (*hypervisorv1.CloneStorageVolumeResponse, error) {
	if err := checkName("target_volume", req.GetTargetVolume()); err != nil {
		return nil, err
	}
	v, err := s.volume(ctx, req.GetPool(), req.GetVolume())
	if err != nil {
		return nil, err
	}
	target := req.GetTargetPool()
	if target == "" {
		target = req.GetPool()
	}
	if _, err := s.pool(ctx, target); err != nil {
		return nil, err
	}
	if err := s.needUnwritten(ctx, v, "copied"); err != nil {
		return nil, err
	}
	if err := s.Driver.CloneVolume(ctx, req.GetPool(), req.GetVolume(), target, req.GetTargetVolume()); err != nil {
		return nil, err
	}
	made, err := s.described(ctx, target, req.GetTargetVolume())
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.CloneStorageVolumeResponse{Volume: made}, nil
}

// ResizeStorageVolume implements VirtualisationService.
func (s *Service) ResizeStorageVolume(
	ctx context.Context, req *hypervisorv1.ResizeStorageVolumeRequest,
) (*hypervisorv1.ResizeStorageVolumeResponse, error) {
	if err := checkCapacity(req.GetCapacity()); err != nil {
		return nil, err
	}
	v, err := s.volume(ctx, req.GetPool(), req.GetVolume())
	if err != nil {
		return nil, err
	}
	if err := s.needResizable(ctx, v); err != nil {
		return nil, err
	}
	if err := s.Driver.ResizeVolume(ctx, req.GetPool(), req.GetVolume(), req.GetCapacity(), req.GetShrink()); err != nil {
		return nil, err
	}
	after, err := s.described(ctx, req.GetPool(), req.GetVolume())
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.ResizeStorageVolumeResponse{Volume: after}, nil
}

// DeleteStorageVolume implements VirtualisationService.
func (s *Service) DeleteStorageVolume(
	ctx context.Context, req *hypervisorv1.DeleteStorageVolumeRequest,
) (*hypervisorv1.DeleteStorageVolumeResponse, error) {
	v, err := s.volume(ctx, req.GetPool(), req.GetVolume())
	if err != nil {
		return nil, err
	}
	if err := s.needUnused(ctx, v, "deleted"); err != nil {
		return nil, err
	}
	if err := s.Driver.DeleteVolume(ctx, req.GetPool(), req.GetVolume()); err != nil {
		return nil, err
	}
	return &hypervisorv1.DeleteStorageVolumeResponse{}, nil
}

// WipeStorageVolume implements VirtualisationService.
func (s *Service) WipeStorageVolume(ctx context.Context, req *hypervisorv1.WipeStorageVolumeRequest) (*hypervisorv1.WipeStorageVolumeResponse, error) {
	algorithm := req.GetAlgorithm()
	if algorithm == hypervisorv1.WipeAlgorithm_WIPE_ALGORITHM_UNSPECIFIED {
		algorithm = hypervisorv1.WipeAlgorithm_WIPE_ALGORITHM_ZERO
	}
	if _, known := hypervisorv1.WipeAlgorithm_name[int32(algorithm)]; !known {
		return nil, fault.New(fault.InvalidArgument, "algorithm: %d is unknown", algorithm)
	}
	v, err := s.volume(ctx, req.GetPool(), req.GetVolume())
	if err != nil {
		return nil, err
	}
	if err := s.needUnused(ctx, v, "wiped"); err != nil {
		return nil, err
	}
	if err := s.Driver.WipeVolume(ctx, req.GetPool(), req.GetVolume(), hypervisor.WipeAlgorithm(enumtext.Of(algorithm))); err != nil {
		return nil, err
	}
	return &hypervisorv1.WipeStorageVolumeResponse{}, nil
}
