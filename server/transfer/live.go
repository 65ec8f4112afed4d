package transfer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"google.golang.org/grpc"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/undo"
	"github.com/hyperplane-project/hyperplane/internal/units"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/vm"
)

// sourceSilence is how long a source may say nothing while it sends a VM; it tells its progress about once a second.
const sourceSilence = time.Minute

// live is a move of a VM that goes on running.
type live struct {
	*migration
	undo    *undo.Stack
	stream  grpc.BidiStreamingClient[hypervisorv1.SendVmRequest, hypervisorv1.SendVmResponse]
	cancel  context.CancelFunc // ends the stream
	arrival hypervisor.Arrival
	tunnels *tunnels
	// begun says that the client has agreed, and the source was told to begin.
	begun bool
}

// checkMode refuses modes that are not known or not possible, before anything is done. live says that a live move is to be tried.
func (m *migration) checkMode() (live bool, err error) {
	switch mode := m.start.GetMode(); mode {
	case hypervisorv1.MigrationMode_MIGRATION_MODE_UNSPECIFIED, hypervisorv1.MigrationMode_MIGRATION_MODE_COPY:
		return false, nil
	case hypervisorv1.MigrationMode_MIGRATION_MODE_LIVE:
		return true, vm.Require(m.from.info, "be moved while it runs (mode LIVE)", hypervisorv1.State_STATE_RUNNING)
	case hypervisorv1.MigrationMode_MIGRATION_MODE_LIVE_OR_COPY:
		if m.from.info.GetState() == hypervisorv1.State_STATE_RUNNING {
			return true, nil
		}
		return false, m.tell("it is copied, because it does not run")
	default:
		return false, fault.New(fault.InvalidArgument, "mode: %d is unknown; use LIVE, LIVE_OR_COPY or COPY", mode)
	}
}

// tryLive moves the VM while it runs. copyIt says that nothing has happened and that it is to be copied instead.
func (m *migration) tryLive(ctx context.Context, u *undo.Stack) (copyIt bool, err error) {
	var l *live
	err = m.Operations.Finish(context.WithoutCancel(ctx), func(context.Context) error { // to a safe end, if the daemon ends meanwhile
		stream, cancel := context.WithCancel(ctx)
		defer cancel()
		l = &live{migration: m, undo: u, cancel: cancel}
		return l.move(stream)
	})
	if err == nil || l.begun || ctx.Err() != nil || m.start.GetMode() != hypervisorv1.MigrationMode_MIGRATION_MODE_LIVE_OR_COPY {
		return false, err
	}
	// What was made for the move must not be taken for a part of the copy.
	if clearErr := l.clear(ctx); clearErr != nil {
		return false, errors.Join(err, clearErr)
	}
	return true, m.tell("it is copied, because it can not be moved while it runs: " + err.Error())
}

func (l *live) clear(ctx context.Context) error {
	errs := []error{l.Machines.Undefine(ctx, l.info.GetUuid())}
	for i := range l.from.info.GetVolumes() {
		if err := os.Remove(l.file(i)); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, l.Operations.Enter(ctx, l.info.GetUuid(), hypervisorv1.State_STATE_MIGRATING, l.info.GetStateReason()))...)
}

// move does all of it. When it returns the VM runs at one of the two hosts, as far as that is in this one's hands.
func (l *live) move(ctx context.Context) error {
	err := l.prepare(ctx)
	if err == nil {
		err = l.askCommit()
	}
	var result []byte
	if err == nil {
		l.begun = true
		result, err = l.receive(ctx)
	}
	if err != nil {
		return errors.Join(err, l.giveUp(ctx))
	}
	work := context.WithoutCancel(ctx)
	figures, err := l.take(work, result)
	l.endTunnels()
	if err != nil {
		return err
	}
	return l.settle(work, figures)
}

// prepare has the source begin and this host make ready.
func (l *live) prepare(ctx context.Context) (err error) {
	if l.stream, err = l.from.peers.SendVm(ctx); err != nil {
		return l.from.fault(err, "send the VM")
	}
	if err := l.stream.Send(&hypervisorv1.SendVmRequest{Vm: l.from.ref(), AccessToken: l.from.token}); err != nil && !isEnd(err) {
		return l.from.fault(err, "send the VM")
	}
	m, err := l.stream.Recv()
	if err != nil {
		return l.from.fault(err, "send the VM")
	}
	begin := m.GetBegin()
	if len(begin.GetVolumeSizes()) != len(l.from.info.GetVolumes()) {
		return fault.New(fault.DataLoss, "source_hypervisor %s: begins to send %d volumes, and the VM has %d", l.from.address, len(begin.GetVolumeSizes()), len(l.from.info.GetVolumes()))
	}
	if err := l.makeFiles(ctx, begin.GetVolumeSizes()); err != nil {
		return err
	}
	if err := l.furnish(ctx); err != nil {
		return err
	}
	// It takes its memory from now on.
	if err := l.Operations.Enter(ctx, l.info.GetUuid(), hypervisorv1.State_STATE_STARTING, l.info.GetStateReason()); err != nil {
		return err
	}
	spec, err := l.Operations.MachineSpec(ctx, l.info.GetUuid())
	if err != nil {
		return err
	}
	offer := hypervisor.Offer{Description: begin.GetDescription(), Cookie: begin.GetCookie(), DiskSizes: begin.GetVolumeSizes()}
	if l.arrival, err = l.Machines.Arrive(ctx, spec, offer); err != nil {
		return err
	}
	l.tunnels = &tunnels{from: l.from, session: begin.GetSession(), connect: l.arrival.Connect}
	l.tunnels.keep(ctx)
	return nil
}

// makeFiles makes empty files for the volumes, of the sizes that the guest sees.
func (l *live) makeFiles(ctx context.Context, sizes []uint64) error {
	for i, v := range l.from.info.GetVolumes() {
		err := l.Files.Empty(ctx, vm.VolumeSpec{File: l.file(i), Format: v.GetFormat(), Size: sizes[i]})
		if err != nil {
			return fault.Wrap(err, "volume %d", i)
		}
	}
	return nil
}

// receive has the source send the VM, and returns when all of it is here.
func (l *live) receive(ctx context.Context) ([]byte, error) {
	silence := time.AfterFunc(sourceSilence, l.cancel)
	defer silence.Stop()
	prepared := &hypervisorv1.SendVmPrepared{Cookie: l.arrival.Answer()}
	err := l.stream.Send(&hypervisorv1.SendVmRequest{Part: &hypervisorv1.SendVmRequest_Prepared{Prepared: prepared}})
	if err != nil && !isEnd(err) {
		return nil, l.from.fault(err, "send the VM")
	}
	if err := l.tell("moving the VM while it runs"); err != nil {
		return nil, err
	}
	for {
		m, err := l.stream.Recv()
		if err != nil {
			return nil, l.from.fault(err, "send the VM")
		}
		silence.Reset(sourceSilence)
		if done := m.GetPerformed(); done != nil {
			return done.GetCookie(), nil
		}
		if p := m.GetProgress(); p != nil {
			text := fmt.Sprintf("volumes: %s of %s; memory: %s of %s", units.Bytes(p.GetVolumesDone()), units.Bytes(p.GetVolumesTotal()),
				units.Bytes(p.GetMemoryDone()), units.Bytes(p.GetMemoryTotal()))
			if err := l.tell(text); err != nil {
				return nil, err
			}
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
}

// take lets the VM run here. From the first line on a daemon that starts anew does not take it for something that was not finished.
func (l *live) take(ctx context.Context, result []byte) (hypervisor.MigrationFigures, error) {
	uuid := l.info.GetUuid()
	err := l.Operations.Enter(ctx, uuid, hypervisorv1.State_STATE_MIGRATING, "has come from "+l.from.address+"; it is not known whether it runs")
	if err == nil {
		err = l.Operations.Settle(ctx, uuid)
	}
	if err != nil {
		return hypervisor.MigrationFigures{}, errors.Join(err, l.refuse(ctx))
	}
	figures, err := l.arrival.Finish(ctx, result)
	switch {
	case errors.Is(err, hypervisor.ErrOutcomeUnknown):
		l.undo.Commit() // it stays, here and there
		return figures, err
	case err != nil:
		return figures, errors.Join(err, l.refuse(ctx))
	}
	l.undo.Commit()
	return figures, nil
}

// settle makes this host the VM's only one. The VM runs here whatever happens now.
func (l *live) settle(ctx context.Context, figures hypervisor.MigrationFigures) error {
	uuid := l.info.GetUuid()
	_, err := l.Operations.Change(ctx, uuid, func(r *hypervisorv1.LocalVmInfo) error {
		r.VmInfo.Uncommitted = false
		return nil
	})
	if err = errors.Join(err, l.Operations.Enter(ctx, uuid, hypervisorv1.State_STATE_RUNNING, "")); err != nil {
		l.Log.LogAttrs(ctx, slog.LevelError, "record of a VM that has come", slog.String("vm", uuid), slog.Any("error", err))
	}
	if err := l.tellSource(true); err != nil {
		l.Log.LogAttrs(ctx, slog.LevelWarn, "the source of a VM that has come did not confirm", slog.String("vm", uuid), slog.Any("error", err))
	}
	l.cancel()
	l.Log.LogAttrs(ctx, slog.LevelInfo, "a VM has come while it ran", slog.String("vm", uuid), slog.String("source", l.from.address),
		slog.Duration("downtime", figures.Downtime), slog.Duration("total", figures.Total))
	text := "the VM runs here"
	if figures.Total > 0 {
		text = fmt.Sprintf("the VM runs here; it stood still for %v of %v", figures.Downtime, figures.Total)
	}
	_ = l.tell(text) // a client that has gone changes nothing
	return l.destroySource(ctx)
}

// tellSource says whether the VM runs here, and waits for the end of the call.
func (l *live) tellSource(ok bool) error {
	silence := time.AfterFunc(sourceSilence, l.cancel)
	defer silence.Stop()
	finished := &hypervisorv1.SendVmFinished{Ok: ok}
	if err := l.stream.Send(&hypervisorv1.SendVmRequest{Part: &hypervisorv1.SendVmRequest_Finished{Finished: finished}}); err != nil && !isEnd(err) {
		return l.from.fault(err, "say whether the VM runs here")
	}
	m, err := l.stream.Recv()
	if err == nil && m.GetConfirmed() == nil {
		err = fault.New(fault.DataLoss, "it does not confirm")
	}
	return l.from.fault(err, "say whether the VM runs here")
}

// refuse tells the source that the VM does not run here.
func (l *live) refuse(ctx context.Context) error {
	if err := l.arrival.Close(); err != nil {
		return err // it may run
	}
	_ = l.tellSource(false) // the call ends with an error, as it should; what counts is the VM's state
	return l.giveUp(ctx)
}

// giveUp ends everything here, and makes sure that the VM is in service at the source.
func (l *live) giveUp(ctx context.Context) error {
	if l.arrival != nil {
		if err := l.arrival.Close(); err != nil {
			return err
		}
	}
	l.cancel()
	l.endTunnels()
	if l.stream == nil {
		return nil
	}
	return l.from.backInService(context.WithoutCancel(ctx))
}

func (l *live) endTunnels() {
	if l.tunnels != nil {
		l.tunnels.end()
	}
}
