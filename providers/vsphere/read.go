package vsphere

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/providers/driver"
)

// takeLease gets a lease of the frozen state, waits until it is ready and keeps it alive from then on. patient says that a lease of ours,
// lost or left by a run that died, may still lock the VM: the server forgets it after its time-out.
func (v *view) takeLease(ctx context.Context, patient bool) error {
	of := v.m.ref
	if v.snap != nil {
		of = *v.snap.ref
	}
	ref, err := v.startLease(ctx, of, patient)
	if err != nil {
		return v.classify(err, "get an export lease")
	}
	v.note("vm %s: waiting for the export lease", v.m.vm.Path)
	l, every, err := v.readyLease(ctx, ref)
	if err != nil {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), v.p.timeout)
		defer cancel()
		return v.classify(errors.Join(err, v.p.endLease(limited, ref, false)), "prepare the export lease")
	}
	v.lease = l
	l.keep(ctx, every, v.percent)
	return nil
}

func (v *view) startLease(ctx context.Context, of types.ManagedObjectReference, patient bool) (types.ManagedObjectReference, error) {
	if !patient {
		return v.p.startLease(ctx, of)
	}
	ctx, cancel := context.WithTimeout(ctx, v.p.tune.leaseWait)
	defer cancel()
	var ref types.ManagedObjectReference
	told := false
	err := v.p.poll(ctx, func() (bool, error) {
		var err error
		ref, err = v.p.startLease(ctx, of)
		if !lockedByOther(err) {
			return err == nil, err
		}
		if !told {
			v.note("vm %s is locked: waiting for the lease of before to end", v.m.vm.Path)
			told = true
		}
		return false, nil
	})
	return ref, err
}

func (v *view) readyLease(ctx context.Context, ref types.ManagedObjectReference) (*lease, time.Duration, error) {
	info, err := v.p.waitReady(ctx, ref)
	if err != nil {
		return nil, 0, err
	}
	found, guessed, err := v.p.sources(v.disks, info)
	if err != nil {
		return nil, 0, err
	}
	if guessed {
		v.note("vm %s: the lease names its disks in an unknown way; they are taken in the order of the device keys", v.m.vm.Path)
	}
	every := v.p.tune.progressEvery
	if quarter := time.Duration(info.LeaseTimeout) * time.Second / 4; quarter > 0 {
		every = min(every, quarter)
	}
	return &lease{c: v.p.conn, ref: ref, what: v.m.vm.Path, sources: found, digests: v.p.manifestHash(ctx, ref, found)}, every, nil
}

// current returns a live lease: the one there is, or a fresh one of the same frozen state.
func (v *view) current(ctx context.Context) (*lease, error) {
	if err := v.lock(ctx); err != nil {
		return nil, err
	}
	defer v.unlock()
	if v.closed {
		return nil, fault.New(fault.FailedPrecondition, "vm %q: the view is closed", v.m.vm.Path)
	}
	if v.lease != nil && v.lease.over() == nil {
		return v.lease, nil
	}
	if v.lease != nil {
		v.note("vm %s: the export lease was lost (%v), taking another", v.m.vm.Path, v.lease.over())
		if err := v.endLease(ctx, false); err != nil {
			return nil, err
		}
	}
	// A lease that only this session has lost may still lock the VM.
	if err := v.takeLease(ctx, true); err != nil {
		return nil, err
	}
	if v.snap == nil {
		if err := v.stillSame(ctx); err != nil {
			return nil, err
		}
	}
	return v.lease, nil
}

// stillSame refuses to go on with a VM that is no longer what the view has shown.
func (v *view) stillSame(ctx context.Context) error {
	same, why, err := v.unchanged(ctx, v.token)
	if err != nil {
		return err
	}
	if same {
		return nil
	}
	return errors.Join(
		fault.New(fault.FailedPrecondition, "vm %q: %s while no lease protected it; start the export from the beginning", v.m.vm.Path, why),
		v.endLease(ctx, false))
}

// OpenDisk implements driver.View. It waits for one of the session's Parallel turns; closing the Stream gives the turn back. A lost lease
// is replaced here; a stream that ends because its lease was lost says so with Aborted.
func (v *view) OpenDisk(ctx context.Context, id string) (driver.Content, error) {
	name, ok := v.diskName(id)
	if !ok {
		return driver.Content{}, fault.New(fault.NotFound, "vm %q has no disk with the id %q", v.m.vm.Path, id)
	}
	if err := v.p.slots.Acquire(ctx, 1); err != nil {
		return driver.Content{}, fault.Wrap(err, "vm %q: %s: wait for a turn to read", v.m.vm.Path, name)
	}
	c, err := v.openDisk(ctx, id)
	if err != nil {
		v.p.slots.Release(1)
		return driver.Content{}, classify(err, "vm %q: %s", v.m.vm.Path, name)
	}
	return c, nil
}

func (v *view) diskName(id string) (string, bool) {
	for _, d := range v.m.vm.Disks {
		if d.ID == id {
			return d.Label, true
		}
	}
	return "", false
}

func (v *view) openDisk(ctx context.Context, id string) (driver.Content, error) {
	for again := false; ; again = true {
		l, err := v.current(ctx)
		if err != nil {
			return driver.Content{}, err
		}
		c, err := v.get(ctx, l, id)
		if err == nil || again || l.check(ctx) == nil {
			return c, err
		}
	}
}

// get starts reading a disk from a lease.
func (v *view) get(ctx context.Context, l *lease, id string) (driver.Content, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	at := l.sources[id].url
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		cancel(nil)
		return driver.Content{}, err
	}
	patience := time.AfterFunc(v.p.timeout, func() {
		cancel(fault.New(fault.Unavailable, "%s did not answer within %s", at.Host, v.p.timeout))
	})
	res, err := v.p.http.Do(req)
	patience.Stop()
	if err == nil {
		err = checkAnswer(res, at.Host)
	}
	if err != nil {
		if why := context.Cause(ctx); why != nil {
			err = why
		}
		cancel(nil)
		return driver.Content{}, err
	}
	s := v.newStream(ctx, cancel, l, id, res.Body)
	return driver.Content{Stream: s, Format: "vmdk", StreamSize: res.ContentLength, Digests: l.digests}, nil
}

// checkAnswer refuses everything but a file whose end can be told from a cut connection.
func checkAnswer(res *http.Response, host string) error {
	var err error
	switch {
	case res.StatusCode != http.StatusOK:
		err = &statusError{status: res.StatusCode, host: host}
	case res.ContentLength < 0 && len(res.TransferEncoding) == 0:
		err = fault.New(fault.FailedPrecondition, "%s sends the disk without length and not in chunks, so that a cut would look like the end", host)
	default:
		return nil
	}
	_ = res.Body.Close()
	return err
}

// lockedByOther reports whether a lease was refused because another one, or a task, holds the VM.
func lockedByOther(err error) bool {
	switch vimFault(err).(type) {
	case *types.MethodDisabled, *types.TaskInProgress, *types.ConcurrentAccess:
		return true
	default:
		return false
	}
}
