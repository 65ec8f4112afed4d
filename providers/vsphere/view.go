package vsphere

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/providers/driver"
)

var _ driver.View = (*view)(nil)

// view implements driver.View. The source of its content is the VM itself while snap is nil, otherwise snap.
type view struct {
	p       *platform
	m       *machine
	disks   []disk
	note    func(format string, args ...any)
	token   token
	resumed bool
	snap    *frozen

	gate   chan struct{} // holds one element while lease, closed or what Close has done is looked at or changed
	lease  *lease
	closed bool
	done   bool // Close has ended without an error

	mu      sync.Mutex // guards what streams touch
	streams map[*stream]struct{}
	tracks  map[string]*track
}

// track is how far a disk was read.
type track struct {
	position int64  // of the stream that came furthest
	size     int64  // of the last stream that was read to its end
	from     *lease // that gave it; nil while none was
}

// Open implements driver.Driver.
func (p *platform) Open(ctx context.Context, ref string, opts driver.OpenOptions) (driver.View, error) {
	var old token
	if opts.Resume != nil {
		var err error
		if old, err = parseToken(opts.Resume); err != nil {
			return nil, err
		}
	}
	m, err := p.load(ctx, ref)
	if err != nil {
		return nil, err
	}
	v := newView(p, m, opts.Note)
	p.retain()
	if err := v.open(ctx, old, opts); err != nil {
		if left := v.Close(ctx, false); left != nil {
			err = errors.Join(err, left)
		}
		return nil, err
	}
	return v, nil
}

func newView(p *platform, m *machine, note func(string, ...any)) *view {
	if note == nil {
		note = func(string, ...any) {}
	}
	return &view{
		p: p, m: m, note: note, gate: make(chan struct{}, 1),
		disks:   newDevices(m.config).virtualDisks(),
		streams: make(map[*stream]struct{}), tracks: make(map[string]*track),
		token: token{Server: p.serverID(), VM: m.ref.Value},
	}
}

// open finds or makes the frozen state and takes the first lease of it.
func (v *view) open(ctx context.Context, old token, opts driver.OpenOptions) error {
	if err := v.adopt(ctx, old); err != nil {
		return err
	}
	switch {
	case v.snap != nil:
		v.resumed = true
	case v.m.vm.Power == driver.PowerOff:
		if err := v.useVM(ctx); err != nil {
			return err
		}
	default:
		if err := v.useSnapshot(ctx, opts); err != nil {
			return err
		}
	}
	if err := v.takeLease(ctx, old.VM != ""); err != nil {
		return err
	}
	if v.snap == nil && old.Power == powerOff && old.Server == v.token.Server && old.VM == v.token.VM {
		return v.continueOff(ctx, old)
	}
	return nil
}

// useVM reads the powered-off VM itself.
func (v *view) useVM(ctx context.Context) error {
	if err := v.blocked(); err != nil {
		return err
	}
	now, err := methods.GetCurrentTime(ctx, v.p)
	if err != nil {
		return v.classify(err, "ask for the time")
	}
	v.token.Power, v.token.ChangeVersion, v.token.Since = powerOff, v.m.vm.ChangeVersion, *now
	v.note("vm %s is off: it is read as it is", v.m.vm.Path)
	return nil
}

// useSnapshot makes a snapshot and reads that.
func (v *view) useSnapshot(ctx context.Context, opts driver.OpenOptions) error {
	if err := v.blocked(); err != nil {
		return err
	}
	v.token.Power, v.token.Mark = powerOn, uuid.NewString()
	if err := created(opts, v.token); err != nil {
		return err
	}
	v.snap = &frozen{vm: v.m.ref, mark: v.token.Mark}
	quiesce := opts.Quiesce && v.m.vm.Power == driver.PowerOn
	v.note("vm %s is not off: a snapshot is made (quiesce: %t)", v.m.vm.Path, quiesce)
	if v.m.snapshot != nil {
		v.note("vm %s has other snapshots; they are not touched", v.m.vm.Path)
	}
	if err := v.p.createSnapshot(ctx, v.snap, opts.SnapshotName, quiesce); err != nil {
		return v.classify(err, "make a snapshot")
	}
	if v.snap.ref == nil {
		return fault.New(fault.Internal, "vm %q: the platform says that it made a snapshot but does not list it", v.m.vm.Path)
	}
	v.token.Snapshot = v.snap.ref.Value
	if err := created(opts, v.token); err != nil {
		return err
	}
	return v.describeSnapshot(ctx)
}

func created(opts driver.OpenOptions, t token) error {
	if opts.Created == nil {
		return nil
	}
	return opts.Created(t.encode())
}

// describeSnapshot replaces what is known of the VM's devices by what the snapshot has frozen.
func (v *view) describeSnapshot(ctx context.Context) error {
	r, err := v.p.one(ctx, *v.snap.ref, "config")
	if err != nil {
		return v.classify(err, "read the snapshot's configuration")
	}
	if cfg, ok := r.props["config"].(types.VirtualMachineConfigInfo); ok {
		v.m.describe(cfg)
		v.disks = newDevices(cfg).virtualDisks()
	}
	return nil
}

func (v *view) blocked() error {
	if len(v.m.vm.Blockers) == 0 {
		return nil
	}
	errs := make([]error, len(v.m.vm.Blockers))
	for i, b := range v.m.vm.Blockers {
		errs[i] = errors.New(b)
	}
	return fault.As(fault.FailedPrecondition, errors.Join(errs...), "vm %q cannot be exported", v.m.vm.Path)
}

// VM implements driver.View.
func (v *view) VM() driver.VM { return v.m.vm }

// Token implements driver.View.
func (v *view) Token() []byte { return v.token.encode() }

// Resumed implements driver.View.
func (v *view) Resumed() bool { return v.resumed }

func (v *view) classify(err error, doing string) error {
	return classify(err, "vm %q: %s", v.m.vm.Path, doing)
}

func (v *view) lock(ctx context.Context) error {
	select {
	case v.gate <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (v *view) unlock() { <-v.gate }

// Close implements driver.View. It has its own time limit, so that it does its work even if ctx has ended, and does nothing once it has
// succeeded.
func (v *view) Close(ctx context.Context, complete bool) error {
	return v.end(ctx, complete, v.thaw)
}

// Detach implements driver.View. Like Close it has its own time limit.
func (v *view) Detach(ctx context.Context) error {
	return v.end(ctx, false, func(context.Context) error {
		if v.snap != nil {
			v.note("vm %s: its snapshot is kept for a later run", v.m.vm.Path)
		}
		return nil
	})
}

// end cuts the streams, gives the lease back, does the rest, and lets the session go.
func (v *view) end(ctx context.Context, complete bool, rest func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), v.p.tune.cleanup)
	defer cancel()
	if err := v.lock(ctx); err != nil {
		return err
	}
	defer v.unlock()
	if v.done {
		return nil
	}
	v.closed = true
	v.cutStreams()
	if err := errors.Join(v.endLease(ctx, complete), rest(ctx)); err != nil {
		return err
	}
	v.done = true
	return v.p.release(ctx)
}

func (v *view) endLease(ctx context.Context, complete bool) error {
	if v.lease == nil {
		return nil
	}
	if err := v.lease.end(ctx, complete); err != nil {
		return v.classify(err, "end the export lease")
	}
	v.lease = nil
	return nil
}

func (v *view) thaw(ctx context.Context) error {
	if v.snap == nil {
		return nil
	}
	if err := v.p.removeSnapshot(ctx, v.snap); err != nil {
		v.p.log.ErrorContext(ctx, "snapshot of an export is left behind",
			slog.String("vm", v.m.vm.Path), slog.String("mark", v.snap.mark), slog.Any("error", err))
		return v.classify(err, "remove the snapshot")
	}
	v.snap = nil
	return nil
}
