package transfer

import (
	"context"
	"errors"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/vm"
)

// ExportLocalVm implements VmTransferService. The virtualiser forgets the VM's machine, so that its new owner may define one of the same name.
func (s *Service) ExportLocalVm(ctx context.Context, req *hypervisorv1.ExportLocalVmRequest) (*hypervisorv1.ExportLocalVmResponse, error) {
	if err := s.Cookie.Check(req.GetVerificationCookie()); err != nil {
		return nil, err
	}
	var exported *hypervisorv1.ExportLocalVmInfo
	err := s.Operations.Finish(ctx, func(ctx context.Context) error {
		record, release, err := s.Operations.Acquire(ctx, req.GetVm())
		if err != nil {
			return err
		}
		defer release()
		exported, err = s.handOver(ctx, record, req.GetRestoreDefinition())
		return fault.Wrap(err, "vm %s: export", vm.Name(record.GetVmInfo()))
	})
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.ExportLocalVmResponse{VmInfo: exported}, nil
}

func (s *Service) handOver(ctx context.Context, record *hypervisorv1.LocalVmInfo, restore bool) (*hypervisorv1.ExportLocalVmInfo, error) {
	info := record.GetVmInfo()
	if err := vm.Require(info, "be exported", hypervisorv1.State_STATE_STOPPED); err != nil {
		return nil, err
	}
	if info.GetUncommitted() {
		return nil, fault.New(fault.FailedPrecondition, "it is not committed; call CommitImportedVm first")
	}
	exported := new(hypervisorv1.ExportLocalVmInfo)
	for _, subnet := range append([]string{info.GetSubnetId()}, info.GetSecondarySubnetIds()...) {
		bridge, err := s.Bridges.Bridge(subnet)
		if err != nil {
			return nil, err
		}
		exported.Bridges = append(exported.Bridges, bridge)
	}
	kept, text, err := s.definition(info.GetUuid())
	if err != nil {
		return nil, err
	}
	if restore && kept == "" {
		return nil, fault.New(fault.FailedPrecondition, "restore_definition: it was not imported, so there is nothing to define again")
	}
	if err := s.Operations.Enter(ctx, info.GetUuid(), hypervisorv1.State_STATE_EXPORTING, "handed over"); err != nil {
		return nil, err
	}
	if err = s.Machines.Undefine(ctx, info.GetUuid()); err == nil && restore {
		var files []string
		for _, place := range record.GetVolumeLocations() {
			files = append(files, place.GetFilename())
		}
		err = s.Machines.Redefine(ctx, text, files)
	}
	if err != nil {
		return nil, errors.Join(err, s.Operations.Enter(context.WithoutCancel(ctx), info.GetUuid(), hypervisorv1.State_STATE_STOPPED, ""))
	}
	exported.LocalVmInfo, err = s.Operations.Change(ctx, info.GetUuid(), func(*hypervisorv1.LocalVmInfo) error { return nil })
	return exported, err
}
