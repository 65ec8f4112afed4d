package vmvolume

import (
	"context"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

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
