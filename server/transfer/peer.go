package transfer

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"time"

	"google.golang.org/grpc"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/vm"
)

// finishPatience is how long the destination may take to say whether a VM that was sent runs there. The guest stands still meanwhile.
const finishPatience = 2 * time.Minute

type sendStream = grpc.BidiStreamingServer[hypervisorv1.SendVmRequest, hypervisorv1.SendVmResponse]

// SendVm implements PeerService.
func (s *Service) SendVm(stream sendStream) error {
	first, err := stream.Recv()
	if err != nil {
		return endMeans(err, "vm: is missing; name the VM in the first message")
	}
	ctx := stream.Context()
	// Whatever becomes of the caller, the VM must not be left half-way.
	return s.Operations.Finish(context.WithoutCancel(ctx), func(context.Context) error {
		record, release, err := s.Operations.Acquire(ctx, first.GetVm())
		if err != nil {
			return err
		}
		defer release()
		info := record.GetVmInfo()
		p := &sending{Service: s, stream: stream, info: info}
		return fault.Wrap(p.run(ctx), "vm %s: send it", vm.Name(info))
	})
}

// endMeans returns err, or what it means that a stream has ended.
func endMeans(err error, text string) error {
	if isEnd(err) {
		return fault.New(fault.InvalidArgument, "%s", text)
	}
	return err
}

// sending is one SendVm.
type sending struct {
	*Service
	stream    sendStream
	info      *hypervisorv1.VmInfo
	departure hypervisor.Departure
}

// fate is what has become of a VM that was to leave.
type fate uint8

const (
	stays   fate = iota // it runs here
	moved               // it runs at the destination
	unknown             // one of the two
)

func (p *sending) run(ctx context.Context) (err error) {
	if err := vm.Require(p.info, "be moved while it runs", hypervisorv1.State_STATE_RUNNING); err != nil {
		return err
	}
	if p.info.GetUncommitted() {
		return fault.New(fault.FailedPrecondition, "it is not committed; call CommitImportedVm first")
	}
	if p.departure, err = p.Machines.Depart(ctx, p.info.GetUuid()); err != nil {
		return err
	}
	work := context.WithoutCancel(ctx)
	became := stays
	if err = p.Operations.Enter(work, p.info.GetUuid(), hypervisorv1.State_STATE_MIGRATING, "moves to another host"); err == nil {
		became, err = p.move(ctx)
	}
	return errors.Join(err, p.end(work, became))
}

// move has the VM sent, and says what has become of it.
func (p *sending) move(ctx context.Context) (fate, error) {
	session := p.sessions.open(p.info.GetUuid())
	defer p.sessions.close(session)
	offer := p.departure.Offer()
	begin := &hypervisorv1.SendVmBegin{
		Session: session.id, Description: offer.Description, Cookie: offer.Cookie, VolumeSizes: offer.DiskSizes,
	}
	if err := p.stream.Send(&hypervisorv1.SendVmResponse{Part: &hypervisorv1.SendVmResponse_Begin{Begin: begin}}); err != nil {
		return stays, err
	}
	answer, err := p.stream.Recv()
	if err == nil && answer.GetPrepared() == nil {
		err = io.EOF
	}
	if err != nil {
		return stays, endMeans(err, "prepared: is missing; the destination gave up")
	}
	result, err := p.departure.Perform(ctx, answer.GetPrepared().GetCookie(), session.connect, func(now hypervisor.MigrationProgress) {
		_ = p.stream.Send(&hypervisorv1.SendVmResponse{Part: &hypervisorv1.SendVmResponse_Progress{Progress: &hypervisorv1.SendVmProgress{
			VolumesDone: now.DisksDone, VolumesTotal: now.DisksTotal, MemoryDone: now.MemoryDone, MemoryTotal: now.MemoryTotal,
		}}}) // a caller who has gone ends ctx
	})
	if err != nil {
		return stays, err
	}
	performed := &hypervisorv1.SendVmPerformed{Cookie: result}
	if err := p.stream.Send(&hypervisorv1.SendVmResponse{Part: &hypervisorv1.SendVmResponse_Performed{Performed: performed}}); err != nil {
		return unknown, err
	}
	return p.awaitFinished()
}

// awaitFinished waits for the destination to say whether the VM runs there.
func (p *sending) awaitFinished() (fate, error) {
	type answer struct {
		m   *hypervisorv1.SendVmRequest
		err error
	}
	came := make(chan answer, 1)
	go func() { // ends with the call
		m, err := p.stream.Recv()
		came <- answer{m, err}
	}()
	patience := time.NewTimer(finishPatience)
	defer patience.Stop()
	select {
	case a := <-came:
		switch {
		case a.err != nil:
			return unknown, endMeans(a.err, "finished: is missing")
		case a.m.GetFinished() == nil:
			return unknown, fault.New(fault.InvalidArgument, "finished: is missing")
		case a.m.GetFinished().GetOk():
			return moved, nil
		default:
			return stays, fault.New(fault.Aborted, "the destination could not let it run")
		}
	case <-patience.C:
		return unknown, fault.New(fault.DeadlineExceeded, "the destination did not say within %v whether it runs there", finishPatience)
	}
}

// end does what follows from what has become of the VM.
func (p *sending) end(ctx context.Context, became fate) error {
	uuid := p.info.GetUuid()
	switch became {
	case moved:
		if err := p.departure.Finish(ctx, true); err != nil {
			return err
		}
		if err := p.setMigrating(ctx, p.info, hypervisorv1.State_STATE_MIGRATING, "has moved to another host", true); err != nil {
			return err
		}
		if err := p.Operations.SurrenderAddresses(ctx, uuid); err != nil {
			return err
		}
		return p.stream.Send(&hypervisorv1.SendVmResponse{Part: &hypervisorv1.SendVmResponse_Confirmed{Confirmed: &hypervisorv1.SendVmConfirmed{}}})
	case unknown:
		const reason = "it stands still, because it may run at the host that it was moved to: if it does, destroy it here; if not, put it back into service (PrepareVmForMigration)"
		p.Log.LogAttrs(ctx, slog.LevelError, "it is not known whether a VM that was moved runs at its destination", slog.String("vm", uuid))
		return errors.Join(p.departure.Close(), p.Operations.Enter(ctx, uuid, hypervisorv1.State_STATE_MIGRATING, reason))
	default:
		if err := p.departure.Finish(ctx, false); err != nil {
			return err // the state follows the virtualiser
		}
		return p.Operations.Enter(ctx, uuid, hypervisorv1.State_STATE_RUNNING, "")
	}
}

// newSessionID makes what calls of Tunnel must know.
func newSessionID() []byte {
	id := make([]byte, 32)
	_, _ = rand.Read(id) // never fails
	return id
}
