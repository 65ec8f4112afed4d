package monitor

import (
	"context"
	"sync"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
)

// ExternalLeases serves addresses that are leased elsewhere.
type ExternalLeases interface {
	// ServeExternal serves leases besides those of others until drop is called. replace puts other leases into their place.
	ServeExternal() (replace func(context.Context, *hypervisorv1.ExternalLeases) error, drop func(context.Context) error)
}

// streamLeases are the leases that one stream has registered.
type streamLeases struct {
	service ExternalLeases

	mu      sync.Mutex
	ended   bool
	replace func(context.Context, *hypervisorv1.ExternalLeases) error
	drop    func(context.Context) error
}

// take serves the leases of a request, if it has some. Only who may register leases for good may do it for a stream.
func (l *streamLeases) take(ctx context.Context, req *hypervisorv1.GetUpdatesRequest) error {
	if req.GetExternalLeases() == nil {
		return nil
	}
	if !principal.CallerFrom(ctx).Power {
		return fault.New(fault.PermissionDenied, "external_leases: %s may not register leases", principal.CallerFrom(ctx).Name)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended { // the stream has ended while its last request came in
		return context.Canceled
	}
	if l.replace == nil {
		l.replace, l.drop = l.service.ServeExternal()
	}
	return fault.Wrap(l.replace(ctx, req.GetExternalLeases()), "external_leases")
}

// end drops the leases.
func (l *streamLeases) end(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	if l.drop == nil {
		return nil
	}
	return l.drop(context.WithoutCancel(ctx))
}
