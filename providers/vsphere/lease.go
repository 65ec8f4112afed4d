package vsphere

import (
	"context"
	"log/slog"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// lease is a ready export lease that is kept alive until end.
type lease struct {
	c       *conn
	ref     types.ManagedObjectReference
	what    string            // for texts: the VM
	sources map[string]source // by disk id
	digests []string

	lost   atomic.Pointer[error] // why the lease is over, once it is
	stop   context.CancelFunc
	keeper sync.WaitGroup
}

// source is where a lease gives the content of one disk.
type source struct {
	key string // as in the manifest
	url *url.URL
}

// startLease starts an export lease: ExportVm of a VM, ExportSnapshot of a snapshot.
func (c *conn) startLease(ctx context.Context, of types.ManagedObjectReference) (types.ManagedObjectReference, error) {
	if of.Type == vmType {
		res, err := methods.ExportVm(ctx, c, &types.ExportVm{This: of})
		if err != nil {
			return types.ManagedObjectReference{}, err
		}
		return res.Returnval, nil
	}
	res, err := methods.ExportSnapshot(ctx, c, &types.ExportSnapshot{This: of})
	if err != nil {
		return types.ManagedObjectReference{}, err
	}
	return res.Returnval, nil
}

// waitReady waits until the server has prepared the lease.
func (c *conn) waitReady(ctx context.Context, ref types.ManagedObjectReference) (types.HttpNfcLeaseInfo, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.tune.leaseWait,
		fault.New(fault.Unavailable, "the lease did not become ready within %s", c.tune.leaseWait))
	defer cancel()
	var info types.HttpNfcLeaseInfo
	err := c.poll(ctx, func() (bool, error) {
		r, err := c.one(ctx, ref, "state", "info", "error")
		if err != nil {
			return false, err
		}
		switch state := prop[types.HttpNfcLeaseState](r, "state"); state {
		case types.HttpNfcLeaseStateReady:
			info = prop[types.HttpNfcLeaseInfo](r, "info")
			return true, nil
		case types.HttpNfcLeaseStateInitializing:
			return false, nil
		default:
			return false, leaseFailure(r, state)
		}
	})
	return info, err
}

func leaseFailure(r record, state types.HttpNfcLeaseState) error {
	if f, ok := r.props["error"].(types.LocalizedMethodFault); ok {
		return &taskError{f}
	}
	return fault.New(fault.Aborted, "the lease is in state %s", state)
}

// manifestHash asks for SHA-256 in the manifest, which servers since API 6.7 can give, and returns the names of the hashes to expect.
func (c *conn) manifestHash(ctx context.Context, ref types.ManagedObjectReference, sources map[string]source) []string {
	req := types.HttpNfcLeaseSetManifestChecksumType{This: ref}
	for _, s := range sources {
		req.DeviceUrlsToChecksumTypes = append(req.DeviceUrlsToChecksumTypes, types.KeyValue{
			Key: s.key, Value: string(types.HttpNfcLeaseManifestEntryChecksumTypeSha256),
		})
	}
	if _, err := methods.HttpNfcLeaseSetManifestChecksumType(ctx, c, &req); err != nil {
		return []string{"sha1"}
	}
	return []string{"sha256"}
}

// keep renews the lease until end. percent gives how much of the content was read, 0 to 100.
func (l *lease) keep(ctx context.Context, every time.Duration, percent func() int32) {
	ctx, l.stop = context.WithCancel(context.WithoutCancel(ctx))
	l.keeper.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if !l.renew(ctx, every, percent()) {
				return
			}
		}
	})
}

// renew reports whether there is still something to renew. A call that fails for another reason than the lease's end is repeated at the next
// tick; no call may take so long that the next one would come too late.
func (l *lease) renew(ctx context.Context, every time.Duration, percent int32) bool {
	limited, cancel := context.WithTimeout(ctx, 2*every)
	defer cancel()
	_, err := methods.HttpNfcLeaseProgress(limited, l.c, &types.HttpNfcLeaseProgress{This: l.ref, Percent: percent})
	switch {
	case err == nil:
		return true
	case ctx.Err() != nil:
		return false
	case leaseGone(err):
		l.markLost(err)
		l.c.log.WarnContext(ctx, "export lease is lost", slog.String("vm", l.what), slog.Any("error", err))
		return false
	default:
		l.c.log.WarnContext(ctx, "export lease could not be renewed, trying again", slog.String("vm", l.what), slog.Any("error", err))
		return true
	}
}

// markLost notes why the lease is over; the first reason stays.
func (l *lease) markLost(why error) { l.lost.CompareAndSwap(nil, &why) }

// over returns why the lease is over, or nil while it lives.
func (l *lease) over() error {
	if why := l.lost.Load(); why != nil {
		return *why
	}
	return nil
}

// check asks the server whether the lease lives, and returns why not. If the server cannot be asked, the lease counts as alive.
func (l *lease) check(ctx context.Context) error {
	if l.over() == nil {
		r, err := l.c.one(ctx, l.ref, "state", "error")
		state := prop[types.HttpNfcLeaseState](r, "state")
		switch {
		case err != nil && leaseGone(err):
			l.markLost(err)
		case err == nil && state != types.HttpNfcLeaseStateReady:
			l.markLost(leaseFailure(r, state))
		}
	}
	return l.over()
}

// end stops renewing and gives the lease back, as completed or as aborted. A lease that is over already is given back.
func (l *lease) end(ctx context.Context, complete bool) error {
	if l.stop != nil {
		l.stop()
		l.keeper.Wait()
	}
	return l.c.endLease(ctx, l.ref, complete)
}

func (c *conn) endLease(ctx context.Context, ref types.ManagedObjectReference, complete bool) error {
	var err error
	if complete {
		_, err = methods.HttpNfcLeaseComplete(ctx, c, &types.HttpNfcLeaseComplete{This: ref})
	} else {
		_, err = methods.HttpNfcLeaseAbort(ctx, c, &types.HttpNfcLeaseAbort{This: ref})
	}
	if leaseGone(err) {
		return nil
	}
	return err
}
