package transfer

import (
	"context"
	"errors"
	"os"
	"time"

	"google.golang.org/grpc"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/undo"
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
