package vm

import (
	"context"
	"log/slog"

	"google.golang.org/protobuf/proto"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
	"github.com/hyperplane-project/hyperplane/internal/undo"
	"github.com/hyperplane-project/hyperplane/server/network"
)

// ChangeVmSubnet implements VmConfigurationService.
func (s *Service) ChangeVmSubnet(ctx context.Context, req *hypervisorv1.ChangeVmSubnetRequest) (*hypervisorv1.ChangeVmSubnetResponse, error) {
	if req.GetSubnetId() == "" {
		return nil, fault.New(fault.InvalidArgument, "subnet_id: is empty; list the subnets with ListSubnets")
	}
	var res *hypervisorv1.ChangeVmSubnetResponse
	err := s.detached(ctx, func(ctx context.Context) error {
		record, unlock, err := s.lock(ctx, req.GetVm())
		if err != nil {
			return err
		}
		defer unlock()
		moved, err := s.moveToSubnet(ctx, record, req.GetSubnetId(), req.GetIpv6Address())
		if err != nil {
			return err
		}
		res = &hypervisorv1.ChangeVmSubnetResponse{
			NewIpAddress: moved.GetAddress().GetIpAddress(), OldIdentityName: record.GetVmInfo().GetIdentityName(),
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return res, nil
}

// moveToSubnet gives a STOPPED VM's first network card an address in another subnet, and an IPv6 address if six is one. The caller holds the lock.
func (s *Service) moveToSubnet(ctx context.Context, record *hypervisorv1.LocalVmInfo, subnet, six string) (*hypervisorv1.VmInfo, error) {
	const action = "change its subnet"
	info := record.GetVmInfo()
	if err := require(info, action, hypervisorv1.State_STATE_STOPPED); err != nil {
		return nil, err
	}
	switch {
	case info.GetUncommitted():
		return nil, fault.New(fault.FailedPrecondition, "vm %s: can not %s: it is not committed; call CommitImportedVm first", name(info), action)
	case info.GetSubnetId() == subnet:
		return nil, fault.New(fault.FailedPrecondition, "vm %s: can not %s: it is in subnet %q already", name(info), action, subnet)
	}
	address, subnet, err := s.Network.Allocate(network.Request{
		UUID: info.GetUuid(), Hostname: info.GetHostname(), SubnetID: subnet, Caller: principal.CallerFrom(ctx),
		Want: &hypervisorv1.Address{Ipv6Address: six},
	})
	if err != nil {
		return nil, fault.Wrap(err, "vm %s: can not %s", name(info), action)
	}
	var u undo.Stack
	u.Add(func(context.Context) error { s.keepAddresses(info); return nil })
	changed := proto.CloneOf(info)
	err = s.redefine(ctx, record, action, func(info *hypervisorv1.VmInfo) error {
		info.Address, info.SubnetId = address, subnet
		// An identity belongs to an address.
		info.IdentityName, info.IdentityExpires = "", nil
		changed = info
		return nil
	})
	if err != nil {
		return nil, errJoin(err, u.Run(ctx))
	}
	s.keepAddresses(changed)
	s.dropIdentity(ctx, info.GetUuid())
	return changed, nil
}

func (s *Service) dropIdentity(ctx context.Context, uuid string) {
	if s.Identity == nil {
		return
	}
	if err := s.Identity.Drop(ctx, uuid); err != nil {
		s.Log.LogAttrs(ctx, slog.LevelError, "the identity of a VM that has moved is still there", slog.String("vm", uuid), slog.Any("error", err))
	}
}

// keepAddresses frees all addresses of a VM that are not in info. Those that stay are never free meanwhile: they are held under another name.
func (s *Service) keepAddresses(info *hypervisorv1.VmInfo) {
	held := proto.CloneOf(info)
	held.Uuid = info.GetUuid() + " (changing)"
	s.Network.Restore([]*hypervisorv1.VmInfo{held})
	s.Network.Release(info.GetUuid())
	s.Network.Restore([]*hypervisorv1.VmInfo{info})
}
