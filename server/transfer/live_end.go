package transfer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

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
	l.adopt(ctx)
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
