package vsphere

import (
	"context"
	"log/slog"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/hyperplane-project/hyperplane/providers/driver"
)

var _ driver.Driver = (*platform)(nil)

// platform implements driver.Driver.
type platform struct {
	*conn

	slots *semaphore.Weighted // one for each disk that is read at the same time
	stop  context.CancelFunc  // ends the keep-alive
	alive sync.WaitGroup

	mu     sync.Mutex
	closed bool
	users  int // views that are open, and one for the driver itself; the last one logs out
}

// Open logs in to a vCenter or an ESXi host.
//
// Settings.URL is the address (https://host[:port][/sdk] or only a host), Username and Password are required. The server's certificate must
// be trusted by the system, chain to CAFile, or have the Thumbprint; with Thumbprint and CAFile it must do both. Timeout limits each API
// call (default two minutes). Parallel limits the disks that are read at once over this session (default four): View.OpenDisk waits for
// its turn, which ends when a Stream is closed.
//
// The codes of errors: InvalidArgument for settings that make no sense, Unauthenticated for a wrong password, FailedPrecondition for a
// certificate that is not trusted, Unavailable for a server that does not answer.
func Open(ctx context.Context, s driver.Settings, log *slog.Logger, opts ...Option) (driver.Driver, error) {
	tune := defaultTuning()
	for _, o := range opts {
		o(&tune)
	}
	ep, err := newEndpoint(s)
	if err != nil {
		return nil, err
	}
	c, err := dial(ctx, ep, tune, log)
	if err != nil {
		return nil, classify(err, "vsphere: %s", ep.url.Host)
	}
	p := &platform{conn: c, slots: semaphore.NewWeighted(int64(ep.parallel)), users: 1}
	bg, stop := context.WithCancel(context.WithoutCancel(ctx))
	p.stop = stop
	p.alive.Go(func() { c.keepAlive(bg) })
	return p, nil
}

// Close implements driver.Driver. While views are open the session stays; it ends with the last view.
func (p *platform) Close(ctx context.Context) error {
	p.mu.Lock()
	again := p.closed
	p.closed = true
	p.mu.Unlock()
	if again {
		return nil
	}
	return p.release(ctx)
}

func (p *platform) retain() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.users++
}

// release gives back one use of the session.
func (p *platform) release(ctx context.Context) error {
	p.mu.Lock()
	p.users--
	last := p.users == 0
	p.mu.Unlock()
	if !last {
		return nil
	}
	p.stop()
	p.alive.Wait()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.timeout)
	defer cancel()
	return classify(p.logout(ctx), "vsphere: %s: log out", p.inner.URL().Host)
}
