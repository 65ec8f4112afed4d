package transfer

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
	"github.com/hyperplane-project/hyperplane/internal/undo"
	"github.com/hyperplane-project/hyperplane/server/vm"
)

type migrateStream = grpc.BidiStreamingServer[hypervisorv1.MigrateVmRequest, hypervisorv1.MigrateVmResponse]

// MigrateVm implements VmTransferService.
func (s *Service) MigrateVm(stream migrateStream) error {
	first, err := stream.Recv()
	if errors.Is(err, io.EOF) || (err == nil && first.GetStart() == nil) {
		return fault.New(fault.InvalidArgument, "start: is missing; send it in the first message")
	}
	if err != nil {
		return err
	}
	ctx, start := stream.Context(), first.GetStart()
	from, err := s.open(ctx, start.GetSourceHypervisor(), start.GetVm(), start.GetAccessToken())
	if err != nil {
		return err
	}
	defer from.close() //nolint:errcheck // everything that was asked was answered
	if err := checkSource(from.info, "be migrated"); err != nil {
		return err
	}
	for i, v := range from.info.GetVolumes() {
		if n := len(v.GetSnapshots()); n > 0 {
			return fault.New(fault.FailedPrecondition, "vm %s: can not be migrated: volume %d has %d snapshots, which would be lost; discard them first", vm.Name(from.info), i, n)
		}
	}
	info := proto.CloneOf(from.info)
	info.IdentityName, info.IdentityExpires = "", nil // the key stays behind
	if from.foreign() {
		info.Uuid = s.NewUUID()
	}
	if err := checkHere(info); err != nil {
		return fault.As(fault.FailedPrecondition, err, "vm %s: can not be migrated here", vm.Name(from.info))
	}
	m := &migration{start: start, recv: stream.Recv, send: stream.Send}
	m.arrival = arrival{Service: s, from: from, info: info, tell: func(text string) error {
		return stream.Send(&hypervisorv1.MigrateVmResponse{ProgressMessage: text})
	}}
	live, err := m.checkMode()
	if err != nil {
		return err
	}
	if err := m.run(ctx, live); err != nil {
		return err
	}
	return stream.Send(&hypervisorv1.MigrateVmResponse{Final: true})
}

// migration is one MigrateVm.
type migration struct {
	arrival
	start *hypervisorv1.MigrateVmStart
	recv  func() (*hypervisorv1.MigrateVmRequest, error)
	send  func(*hypervisorv1.MigrateVmResponse) error
}

// run moves the VM: afterwards it is here, or at the source as it was.
func (m *migration) run(ctx context.Context, live bool) error {
	// Who may take the VM from the source may bring it here: subnets are for those who create VMs.
	release, err := m.admit(ctx, principal.Caller{Principal: principal.CallerFrom(ctx).Principal, Power: true}, !m.start.GetSkipMemoryCheck())
	if err != nil {
		return err
	}
	defer release()
	var u undo.Stack
	u.Add(func(ctx context.Context) error { return m.Operations.Discard(ctx, m.info.GetUuid()) })
	err = m.Operations.CheckLease(m.info.GetUuid(), m.start.GetDhcpTimeout().AsDuration())
	copyIt := true
	if err == nil && live {
		copyIt, err = m.tryLive(ctx, &u)
	}
	if err == nil && copyIt {
		err = m.move(ctx, &u)
	}
	if err != nil {
		return errors.Join(err, u.Run(ctx))
	}
	return nil
}

func (m *migration) move(ctx context.Context, u *undo.Stack) error {
	if err := m.copyAndStop(ctx, u); err != nil {
		return err
	}
	if err := m.furnish(ctx); err != nil {
		return err
	}
	if err := m.tell("starting VM"); err != nil {
		return err
	}
	uuid := m.info.GetUuid()
	err := m.Operations.Enter(ctx, uuid, hypervisorv1.State_STATE_STOPPED, "")
	if err != nil {
		return err
	}
	timedOut, err := m.resume(m.start.GetSkipMemoryCheck())(ctx, uuid, m.start.GetDhcpTimeout().AsDuration())
	if err != nil {
		return err
	}
	if timedOut {
		if err := m.tell("the guest has not taken its address within " + m.start.GetDhcpTimeout().AsDuration().String()); err != nil {
			return err
		}
	}
	if err := m.askCommit(); err != nil {
		return err
	}
	return m.commit(context.WithoutCancel(ctx), u)
}

// copyAndStop brings the volumes here and takes the VM out of service at the source.
func (m *migration) copyAndStop(ctx context.Context, u *undo.Stack) error {
	running := m.from.info.GetState() == hypervisorv1.State_STATE_RUNNING
	what := "initial volume(s) copy"
	if err := m.tell(what); err != nil {
		return err
	}
	if running {
		if err := m.bring(ctx, what); err != nil {
			return err
		}
		what = "update volume(s)"
		if err := m.tell("stopping VM"); err != nil {
			return err
		}
		// It is started again also if only the answer was lost, and so below.
		u.Add(m.from.startAgain)
		if err := m.from.stop(ctx); err != nil {
			return err
		}
		if err := m.tell(what); err != nil {
			return err
		}
	}
	u.Add(m.from.putBack)
	if err := m.from.takeOut(ctx); err != nil {
		return err
	}
	return m.bring(ctx, what)
}

// askCommit has the client say whether the VM stays.
func (m *migration) askCommit() error {
	if err := m.send(&hypervisorv1.MigrateVmResponse{RequestCommit: true}); err != nil {
		return err
	}
	answer, err := m.recv()
	if err != nil && !isEnd(err) {
		return err
	}
	if !answer.GetCommit() {
		return fault.New(fault.Aborted, "VM migration abandoned")
	}
	return nil
}

// commit makes this host the VM's only one.
func (m *migration) commit(ctx context.Context, u *undo.Stack) error {
	uuid := m.info.GetUuid()
	_, err := m.Operations.Change(ctx, uuid, func(r *hypervisorv1.LocalVmInfo) error {
		r.VmInfo.Uncommitted = false
		return nil
	})
	if err == nil {
		err = m.Operations.Settle(ctx, uuid)
	}
	if err != nil {
		return err
	}
	u.Commit()
	m.adopt(ctx)
	return m.destroySource(ctx)
}

// adopt has the addresses of the VM, which stays, remain at this host when it ends. Without that somebody must give them to a host again.
func (a *arrival) adopt(ctx context.Context) {
	if err := a.Operations.AdoptAddresses(ctx, a.info.GetUuid()); err != nil {
		a.Log.LogAttrs(ctx, slog.LevelWarn, "the addresses of a VM that has come are not in the pool", slog.String("vm", a.info.GetUuid()), slog.Any("error", err))
	}
}

// destroySource removes what is left of the VM at the source.
func (m *migration) destroySource(ctx context.Context) error {
	if err := m.from.destroy(ctx); err != nil {
		// It runs here, and there it is out of service: nothing is wrong but the space it takes.
		m.Log.LogAttrs(ctx, slog.LevelWarn, "a VM that has come here is still at its source", slog.String("vm", m.info.GetUuid()), slog.Any("error", err))
		return m.tell("the VM could not be destroyed at the source, where it is out of service: " + err.Error())
	}
	return nil
}
