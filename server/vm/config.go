package vm

import (
	"context"
	"slices"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
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
	if err := checkNames("owner_users", req.GetOwnerUsers()); err != nil {
		return nil, err
	}
	err := s.change(ctx, req.GetVm(), func(info *hypervisorv1.VmInfo) error {
		primary := info.GetOwnerUsers()[:min(1, len(info.GetOwnerUsers()))]
		info.OwnerUsers = distinct(slices.Concat(primary, req.GetOwnerUsers()))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.ChangeVmOwnerUsersResponse{}, nil
}

// ChangeVmOwnerGroups implements VmConfigurationService.
func (s *Service) ChangeVmOwnerGroups(
	ctx context.Context, req *hypervisorv1.ChangeVmOwnerGroupsRequest,
) (*hypervisorv1.ChangeVmOwnerGroupsResponse, error) {
	if err := checkNames("owner_groups", req.GetOwnerGroups()); err != nil {
		return nil, err
	}
	err := s.change(ctx, req.GetVm(), func(info *hypervisorv1.VmInfo) error {
		info.OwnerGroups = distinct(req.GetOwnerGroups())
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.ChangeVmOwnerGroupsResponse{}, nil
}

// BecomePrimaryVmOwner implements VmConfigurationService. Who was the primary owner remains an owner.
func (s *Service) BecomePrimaryVmOwner(
	ctx context.Context, req *hypervisorv1.BecomePrimaryVmOwnerRequest,
) (*hypervisorv1.BecomePrimaryVmOwnerResponse, error) {
	caller := principal.CallerFrom(ctx).Name
	if caller == "" {
		return nil, fault.New(fault.InvalidArgument, "the caller has no name that an owner could have")
	}
	err := s.change(ctx, req.GetVm(), func(info *hypervisorv1.VmInfo) error {
		if owners := info.GetOwnerUsers(); len(owners) > 0 && owners[0] == caller {
			return fault.New(fault.FailedPrecondition, "vm %s: %s is already its primary owner", name(info), caller)
		}
		info.OwnerUsers = distinct(slices.Concat([]string{caller}, info.GetOwnerUsers()))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.BecomePrimaryVmOwnerResponse{}, nil
}

// ChangeVmDestroyProtection implements VmConfigurationService.
func (s *Service) ChangeVmDestroyProtection(
	ctx context.Context, req *hypervisorv1.ChangeVmDestroyProtectionRequest,
) (*hypervisorv1.ChangeVmDestroyProtectionResponse, error) {
	err := s.change(ctx, req.GetVm(), func(info *hypervisorv1.VmInfo) error {
		info.DestroyProtection = req.GetDestroyProtection()
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.ChangeVmDestroyProtectionResponse{}, nil
}

// distinct returns the names in their order, each once.
func distinct(names []string) []string {
	var once []string
	for _, n := range names {
		if !slices.Contains(once, n) {
			once = append(once, n)
		}
	}
	return once
}
