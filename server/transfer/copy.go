package transfer

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
)

// CopyVm implements VmTransferService.
func (s *Service) CopyVm(req *hypervisorv1.CopyVmRequest, stream grpc.ServerStreamingServer[hypervisorv1.CopyVmResponse]) error {
	ctx := stream.Context()
	from, err := s.open(ctx, req.GetSourceHypervisor(), req.GetVm(), req.GetAccessToken())
	if err != nil {
		return err
	}
	defer from.close() //nolint:errcheck // everything that was asked was answered
	if err := checkSource(from.info, "be copied"); err != nil {
		return err
	}
	info, err := s.copied(from.info, req.GetVmInfo(), principal.CallerFrom(ctx))
	if err != nil {
		return err
	}
	a := &arrival{Service: s, from: from, info: info, tell: func(text string) error {
		return stream.Send(&hypervisorv1.CopyVmResponse{ProgressMessage: text})
	}}
	release, err := a.admit(ctx, principal.CallerFrom(ctx), !req.GetSkipMemoryCheck())
	if err != nil {
		return err
	}
	defer release()
	if err := a.copy(ctx); err != nil {
		return errors.Join(err, s.Operations.Discard(ctx, info.GetUuid()))
	}
	return stream.Send(&hypervisorv1.CopyVmResponse{Final: true, IpAddress: info.GetAddress().GetIpAddress()})
}

// copied is what the copy of a VM is: the source, changed by what was asked for, and owned by the caller.
func (s *Service) copied(from, wish *hypervisorv1.VmInfo, caller principal.Caller) (*hypervisorv1.VmInfo, error) {
	info := proto.CloneOf(from)
	info.SecondaryAddresses, info.Address, info.Volumes, info.OwnerUsers, info.OwnerGroups = nil, nil, nil, nil, nil
	info.IdentityName, info.IdentityExpires = "", nil
	if len(wish.GetVolumes()) > 0 {
		return nil, fault.New(fault.InvalidArgument, "vm_info.volumes: a copy has the volumes of its source; leave it empty")
	}
	if len(wish.GetSecondarySubnetIds()) > 0 {
		info.SecondarySubnetIds = nil
	}
	if len(wish.GetTags()) > 0 {
		info.Tags = nil
	}
	if len(wish.GetNetworkEntries()) > 0 {
		info.NetworkEntries = nil
	}
	if wish != nil {
		proto.Merge(info, wish)
	}
	info.Uuid, info.CreatedOn, info.ChangedStateOn = s.NewUUID(), timestamppb.New(s.Now()), timestamppb.New(s.Now())
	info.OwnerUsers = []string{caller.Name}
	for _, u := range wish.GetOwnerUsers() {
		if u != caller.Name {
			info.OwnerUsers = append(info.OwnerUsers, u)
		}
	}
	return info, checkHere(info)
}

// copy fills the copy. A VM that runs at the source is stopped for the last part and started again, whatever happens.
func (a *arrival) copy(ctx context.Context) error {
	if err := a.tell("initial volume(s) copy"); err != nil {
		return err
	}
	if err := a.bring(ctx, "initial volume(s) copy"); err != nil {
		return err
	}
	if a.from.info.GetState() == hypervisorv1.State_STATE_RUNNING {
		if err := a.copyRest(ctx); err != nil {
			return err
		}
	}
	if err := a.furnish(ctx); err != nil {
		return err
	}
	_, err := a.Operations.Change(ctx, a.info.GetUuid(), func(r *hypervisorv1.LocalVmInfo) error {
		r.VmInfo.Uncommitted = false
		return nil
	})
	if err == nil {
		err = a.Operations.Enter(ctx, a.info.GetUuid(), hypervisorv1.State_STATE_STOPPED, "")
	}
	if err != nil {
		return err
	}
	return a.Operations.Settle(context.WithoutCancel(ctx), a.info.GetUuid())
}

// copyRest copies what has changed, while the VM is stopped.
func (a *arrival) copyRest(ctx context.Context) (err error) {
	if err := a.tell("stopping VM"); err != nil {
		return err
	}
	// It is started again also if only the answer was lost.
	defer func() { err = errors.Join(err, a.from.startAgain(context.WithoutCancel(ctx))) }()
	if err := a.from.stop(ctx); err != nil {
		return err
	}
	if err := a.tell("update volume(s)"); err != nil {
		return err
	}
	return a.bring(ctx, "update volume(s)")
}
