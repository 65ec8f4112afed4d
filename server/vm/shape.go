package vm

import (
	"context"

	"google.golang.org/protobuf/proto"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/undo"
)

// reshape changes what the machine of a STOPPED VM is. action completes "can not …".
func (s *Service) reshape(ctx context.Context, ref, action string, change func(*hypervisorv1.VmInfo) error) error {
	return s.detached(ctx, func(ctx context.Context) error {
		record, unlock, err := s.lock(ctx, ref)
		if err != nil {
			return err
		}
		defer unlock()
		return s.redefine(ctx, record, action, change)
	})
}

// redefine changes a STOPPED VM's record and lets the virtualiser judge the machine that results. The caller holds the lock.
func (s *Service) redefine(ctx context.Context, record *hypervisorv1.LocalVmInfo, action string, change func(*hypervisorv1.VmInfo) error) error {
	info := record.GetVmInfo()
	if err := require(info, action, hypervisorv1.State_STATE_STOPPED); err != nil {
		return err
	}
	changed := proto.CloneOf(record)
	if err := change(changed.GetVmInfo()); err != nil {
		return err
	}
	if proto.Equal(record, changed) {
		return nil
	}
	old, err := s.spec(ctx, record)
	if err != nil {
		return fault.Wrap(err, "vm %s: %s", name(info), action)
	}
	spec, err := s.spec(ctx, changed)
	if err != nil {
		return fault.Wrap(err, "vm %s: %s", name(info), action)
	}
	if err := s.Driver.Define(ctx, spec); err != nil {
		return fault.Wrap(err, "vm %s: %s", name(info), action)
	}
	var u undo.Stack
	u.Add(func(ctx context.Context) error { return s.Driver.Define(ctx, old) })
	if err := s.replace(ctx, changed); err != nil {
		return errJoin(err, u.Run(ctx))
	}
	return nil
}

// replace makes a changed copy the VM's record. The caller holds the lock.
func (s *Service) replace(ctx context.Context, changed *hypervisorv1.LocalVmInfo) error {
	_, err := s.registry.Change(ctx, changed.GetVmInfo().GetUuid(), func(r *hypervisorv1.LocalVmInfo) error {
		proto.Reset(r)
		proto.Merge(r, changed)
		return nil
	})
	return err
}

// ChangeVmConsoleType implements VmConfigurationService.
func (s *Service) ChangeVmConsoleType(
	ctx context.Context, req *hypervisorv1.ChangeVmConsoleTypeRequest,
) (*hypervisorv1.ChangeVmConsoleTypeResponse, error) {
	if err := checkEnum("console_type", req.GetConsoleType()); err != nil {
		return nil, err
	}
	err := s.reshape(ctx, req.GetVm(), "change its console", func(info *hypervisorv1.VmInfo) error {
		info.ConsoleType = req.GetConsoleType()
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.ChangeVmConsoleTypeResponse{}, nil
}

// ChangeVmMachineType implements VmConfigurationService.
func (s *Service) ChangeVmMachineType(
	ctx context.Context, req *hypervisorv1.ChangeVmMachineTypeRequest,
) (*hypervisorv1.ChangeVmMachineTypeResponse, error) {
	if err := checkEnum("machine_type", req.GetMachineType()); err != nil {
		return nil, err
	}
	err := s.reshape(ctx, req.GetVm(), "change its machine type", func(info *hypervisorv1.VmInfo) error {
		info.MachineType = req.GetMachineType()
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.ChangeVmMachineTypeResponse{}, nil
}

// ChangeVmNumNetworkQueues implements VmConfigurationService. Cards without a number get 0, which is one queue.
func (s *Service) ChangeVmNumNetworkQueues(
	ctx context.Context, req *hypervisorv1.ChangeVmNumNetworkQueuesRequest,
) (*hypervisorv1.ChangeVmNumNetworkQueuesResponse, error) {
	err := s.reshape(ctx, req.GetVm(), "change its network queues", func(info *hypervisorv1.VmInfo) error {
		cards, wanted := 1+len(info.GetSecondaryAddresses()), req.GetNumQueuesPerInterface()
		if len(wanted) > cards {
			return fault.New(fault.InvalidArgument, "num_queues_per_interface: %d numbers for the %d network cards of vm %s", len(wanted), cards, name(info))
		}
		info.NetworkEntries = make([]*hypervisorv1.NetworkEntry, cards)
		for i := range info.GetNetworkEntries() {
			info.NetworkEntries[i] = new(hypervisorv1.NetworkEntry)
			if i < len(wanted) {
				info.NetworkEntries[i].NumQueues = wanted[i]
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.ChangeVmNumNetworkQueuesResponse{}, nil
}
