package transfer

import (
	"context"
	"errors"

	"google.golang.org/protobuf/proto"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
	"github.com/hyperplane-project/hyperplane/server/vm"
)

// PrepareVmForMigration implements VmTransferService.
func (s *Service) PrepareVmForMigration(
	ctx context.Context, req *hypervisorv1.PrepareVmForMigrationRequest,
) (*hypervisorv1.PrepareVmForMigrationResponse, error) {
	err := s.Operations.Finish(ctx, func(ctx context.Context) error {
		record, release, err := s.Operations.Acquire(ctx, req.GetVm())
		if err != nil {
			return err
		}
		defer release()
		if req.GetEnable() {
			return s.leave(ctx, record.GetVmInfo())
		}
		return s.stay(ctx, record.GetVmInfo())
	})
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.PrepareVmForMigrationResponse{}, nil
}

// leave takes a VM out of service. Its addresses are this host's no more: the VM takes them along.
func (s *Service) leave(ctx context.Context, info *hypervisorv1.VmInfo) error {
	const action = "be prepared for migration"
	if err := vm.Require(info, action, hypervisorv1.State_STATE_STOPPED); err != nil {
		return err
	}
	if info.GetUncommitted() {
		return fault.New(fault.FailedPrecondition, "vm %s: can not %s: it is not committed; call CommitImportedVm first", vm.Name(info), action)
	}
	if err := s.setMigrating(ctx, info, hypervisorv1.State_STATE_MIGRATING, "prepared for migration", true); err != nil {
		return err
	}
	if err := s.Operations.SurrenderAddresses(ctx, info.GetUuid()); err != nil {
		return errors.Join(err, s.setMigrating(context.WithoutCancel(ctx), info, hypervisorv1.State_STATE_STOPPED, "", false))
	}
	return nil
}

// stay puts a VM back into service.
func (s *Service) stay(ctx context.Context, info *hypervisorv1.VmInfo) error {
	if err := vm.Require(info, "be put back into service", hypervisorv1.State_STATE_MIGRATING); err != nil {
		return err
	}
	if !info.GetUncommitted() {
		return s.goOn(ctx, info)
	}
	// All its addresses or none: somebody may have got one of them meanwhile.
	if err := s.Operations.GiveAddresses(proto.CloneOf(info), principal.Caller{Power: true}); err != nil {
		return fault.Wrap(err, "vm %s: can not be put back into service", vm.Name(info))
	}
	err := s.Operations.AdoptAddresses(ctx, info.GetUuid())
	if err != nil {
		s.Operations.TakeAddresses(info.GetUuid())
		return err
	}
	if err = s.setMigrating(ctx, info, hypervisorv1.State_STATE_STOPPED, "", false); err != nil {
		return errors.Join(err, s.Operations.SurrenderAddresses(context.WithoutCancel(ctx), info.GetUuid()))
	}
	return nil
}

// goOn lets a VM run that a live migration has left standing still, because it does not run at the destination. Its machine may have ended meanwhile.
func (s *Service) goOn(ctx context.Context, info *hypervisorv1.VmInfo) error {
	state := hypervisorv1.State_STATE_RUNNING
	err := s.Machines.Continue(ctx, info.GetUuid())
	if fault.Is(err, fault.FailedPrecondition) {
		state, err = hypervisorv1.State_STATE_STOPPED, nil
	}
	if err != nil {
		return fault.Wrap(err, "vm %s: put it back into service", vm.Name(info))
	}
	return s.Operations.Enter(ctx, info.GetUuid(), state, "")
}

func (s *Service) setMigrating(ctx context.Context, info *hypervisorv1.VmInfo, state hypervisorv1.State, reason string, uncommitted bool) error {
	_, err := s.Operations.Change(ctx, info.GetUuid(), func(r *hypervisorv1.LocalVmInfo) error {
		r.VmInfo.Uncommitted = uncommitted
		return nil
	})
	if err != nil {
		return err
	}
	return s.Operations.Enter(ctx, info.GetUuid(), state, reason)
}
