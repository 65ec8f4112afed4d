package vm

import (
	"context"
	"slices"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// change changes a VM's record under its lock.
func (s *Service) change(ctx context.Context, ref string, change func(*hypervisorv1.VmInfo) error) error {
	record, unlock, err := s.lock(ctx, ref)
	if err != nil {
		return err
	}
	defer unlock()
	_, err = s.registry.Change(ctx, record.GetVmInfo().GetUuid(), func(r *hypervisorv1.LocalVmInfo) error { return change(r.GetVmInfo()) })
	return err
}

// ChangeVmTags implements VmConfigurationService.
func (s *Service) ChangeVmTags(ctx context.Context, req *hypervisorv1.ChangeVmTagsRequest) (*hypervisorv1.ChangeVmTagsResponse, error) {
	if err := checkTags(req.GetTags()); err != nil {
		return nil, err
	}
	err := s.change(ctx, req.GetVm(), func(info *hypervisorv1.VmInfo) error {
		info.Tags = req.GetTags()
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.ChangeVmTagsResponse{}, nil
}

// ChangeVmOwnerUsers implements VmConfigurationService.
func (s *Service) ChangeVmOwnerUsers(ctx context.Context, req *hypervisorv1.ChangeVmOwnerUsersRequest) (*hypervisorv1.ChangeVmOwnerUsersResponse, error) {
	if slices.Contains(req.GetOwnerUsers(), "") {
		return nil, fault.New(fault.InvalidArgument, "owner_users: contains an empty name")
	}
	err := s.change(ctx, req.GetVm(), func(info *hypervisorv1.VmInfo) error {
		owners := slices.Clone(info.GetOwnerUsers()[:min(1, len(info.GetOwnerUsers()))])
		for _, u := range req.GetOwnerUsers() {
			if !slices.Contains(owners, u) {
				owners = append(owners, u)
			}
		}
		info.OwnerUsers = owners
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.ChangeVmOwnerUsersResponse{}, nil
}

// ChangeVmSize implements VmConfigurationService.
func (s *Service) ChangeVmSize(ctx context.Context, req *hypervisorv1.ChangeVmSizeRequest) (*hypervisorv1.ChangeVmSizeResponse, error) {
	record, unlock, err := s.lock(ctx, req.GetVm())
	if err != nil {
		return nil, err
	}
	defer unlock()
	_, err = s.registry.Change(ctx, record.GetVmInfo().GetUuid(), func(r *hypervisorv1.LocalVmInfo) error {
		return s.resize(ctx, r, req)
	})
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.ChangeVmSizeResponse{}, nil
}

// resize puts the sizes into the record and, where that changes the machine, lets the virtualiser judge the result.
func (s *Service) resize(ctx context.Context, record *hypervisorv1.LocalVmInfo, req *hypervisorv1.ChangeVmSizeRequest) error {
	info := record.GetVmInfo()
	before, memory := virtualCPUs(info), info.GetMemoryInMib()
	if req.GetMemoryInMib() > 0 {
		info.MemoryInMib = req.GetMemoryInMib()
	}
	if req.GetMilliCpus() > 0 {
		info.MilliCpus = req.GetMilliCpus()
	}
	if req.GetVirtualCpus() > 0 {
		info.VirtualCpus = req.GetVirtualCpus()
	}
	if err := checkSizes(info); err != nil {
		return err
	}
	if virtualCPUs(info) == before && info.GetMemoryInMib() == memory && info.GetState() != hypervisorv1.State_STATE_STOPPED {
		return nil // the share of processor time takes effect with the next start
	}
	if err := require(info, "change memory or the number of processors", hypervisorv1.State_STATE_STOPPED); err != nil {
		return err
	}
	spec, err := s.spec(ctx, record)
	if err != nil {
		return err
	}
	return fault.Wrap(s.Driver.Define(ctx, spec), "vm %s: resize", name(info))
}
