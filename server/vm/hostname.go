package vm

import (
	"context"

	"google.golang.org/protobuf/proto"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/undo"
)

// ChangeVmHostname implements VmConfigurationService. The virtualiser's name of the machine follows with its next start.
func (s *Service) ChangeVmHostname(ctx context.Context, req *hypervisorv1.ChangeVmHostnameRequest) (*hypervisorv1.ChangeVmHostnameResponse, error) {
	if err := checkHostname("hostname", req.GetHostname()); err != nil {
		return nil, err
	}
	err := s.detached(ctx, func(ctx context.Context) error {
		record, unlock, err := s.lock(ctx, req.GetVm())
		if err != nil {
			return err
		}
		defer unlock()
		return s.rename(ctx, record, req.GetHostname())
	})
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.ChangeVmHostnameResponse{}, nil
}

// rename changes the record and the name that the DHCP server tells the guest. The caller holds the lock.
func (s *Service) rename(ctx context.Context, record *hypervisorv1.LocalVmInfo, hostname string) error {
	info := record.GetVmInfo()
	if info.GetUncommitted() || info.GetHostname() == hostname {
		// The addresses of a VM that is not committed are not its own yet.
		return s.setHostname(ctx, info.GetUuid(), hostname)
	}
	changed := proto.CloneOf(info)
	changed.Hostname = hostname
	var u undo.Stack
	u.Add(func(ctx context.Context) error { return s.tellName(ctx, info) })
	err := s.tellName(ctx, changed)
	if err == nil {
		err = s.setHostname(ctx, info.GetUuid(), hostname)
	}
	if err != nil {
		return errJoin(fault.Wrap(err, "vm %s: can not change its host name to %q", name(info), hostname), u.Run(ctx))
	}
	return nil
}

func (s *Service) setHostname(ctx context.Context, uuid, hostname string) error {
	_, err := s.registry.Change(ctx, uuid, func(r *hypervisorv1.LocalVmInfo) error {
		r.VmInfo.Hostname = hostname
		return nil
	})
	return err
}

// tellName tells the leases of a VM's addresses its name, also those of the DHCP servers.
func (s *Service) tellName(ctx context.Context, info *hypervisorv1.VmInfo) error {
	s.Network.Restore([]*hypervisorv1.VmInfo{info})
	for _, subnet := range append([]string{info.GetSubnetId()}, info.GetSecondarySubnetIds()...) {
		if _, err := s.Network.Attach(ctx, subnet); err != nil {
			return err
		}
	}
	return nil
}
