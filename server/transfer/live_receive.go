package transfer

import (
	"context"
	"fmt"
	"time"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/units"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/vm"
)

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
		_, err := l.Files.Empty(ctx, vm.VolumeSpec{File: l.file(i), Format: v.GetFormat(), Size: sizes[i]})
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
