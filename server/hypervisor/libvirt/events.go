package libvirt

import (
	"context"
	"log/slog"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"golang.org/x/sync/errgroup"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// The wait between two attempts to reach libvirtd grows from the first to the second. A restarted libvirtd is back within a second.
const (
	firstRetry = 50 * time.Millisecond
	lastRetry  = 5 * time.Second
)

// After it has connected, the driver asks for all states again after the first of these times, then after four times as long, and at last
// whenever the last has passed. A restarted libvirtd lists machines that have died in the meantime as running at first, and sends no
// event when it notices.
const (
	firstSurvey = 250 * time.Millisecond
	lastSurvey  = 32 * time.Second
)

// refreshers is how many machines are asked for their state at once when events come. libvirt answers for a machine that is
// busy only when it is done, so one is too few; callers' questions need connections too. refreshLimit is for a machine that hangs.
const (
	refreshers   = queryConnections / 2
	refreshLimit = 30 * time.Second
)

// followEvents keeps the tracker right until ctx ends, over all losses of the connection.
func (d *Driver) followEvents(ctx context.Context) {
	for wait := firstRetry; ctx.Err() == nil; wait = min(2*wait, lastRetry) {
		connected, err := d.followOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		if connected {
			wait = firstRetry
		}
		d.opts.Log.LogAttrs(ctx, slog.LevelWarn, "no events from libvirt", slog.Any("error", err), slog.Duration("retry", wait))
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// followOnce follows the events of one connection until it is lost.
func (d *Driver) followOnce(ctx context.Context) (connected bool, err error) {
	c, err := connect(ctx, d.opts.Socket)
	if err != nil {
		return false, err
	}
	defer c.close()
	stop := context.AfterFunc(ctx, c.close)
	defer stop()

	events, unsubscribe, err := subscribe(ctx, c)
	if err != nil {
		return false, err
	}
	defer unsubscribe()
	// From here on no change is missed; those before are found by asking.
	if _, err := d.survey(c, true); err != nil {
		return false, err
	}
	d.opts.Log.LogAttrs(ctx, slog.LevelInfo, "following libvirt's events")
	return true, d.consume(ctx, c, events)
}

// subscribe asks for the events of all domains. unsubscribe must be called; it closes the connection.
func subscribe(ctx context.Context, c *conn) (events <-chan golibvirt.DomainEventLifecycleMsg, unsubscribe func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	events, err = c.LifecycleEvents(ctx)
	if err != nil {
		cancel()
		return nil, nil, classify(err, "subscribe to events")
	}
	return events, func() {
		cancel()
		c.close()
		for range events { // the library's goroutine waits for its reader
		}
	}, nil
}

// consume asks for the state of each machine that an event is about, and of all from time to time.
func (d *Driver) consume(ctx context.Context, c *conn, events <-chan golibvirt.DomainEventLifecycleMsg) error {
	var g errgroup.Group
	g.SetLimit(refreshers)
	defer func() { _ = g.Wait() }()
	wait := firstSurvey
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case ev, open := <-events:
			if !open {
				return fault.New(fault.Unavailable, "the connection to libvirt was lost")
			}
			if isProbe(ev.Dom.Name) {
				continue
			}
			d.noteSignal(ev)
			g.Go(func() error { d.follow(ctx, c, uuidText(ev.Dom.UUID)); return nil })
		case <-timer.C:
			if _, err := d.survey(c, false); err != nil {
				return err
			}
			wait = min(4*wait, lastSurvey)
			timer.Reset(wait)
		}
	}
}

// noteSignal remembers that QEMU was told by a signal to end: libvirt's state does not tell that from a guest that powers off.
func (d *Driver) noteSignal(ev golibvirt.DomainEventLifecycleMsg) {
	if golibvirt.DomainEventType(ev.Event) == golibvirt.DomainEventShutdown &&
		golibvirt.DomainEventShutdownDetailType(ev.Detail) == golibvirt.DomainEventShutdownHost {
		d.tracker.note(uuidText(ev.Dom.UUID), func(r *run) { r.hostEnded = true })
	}
}

// follow asks for the state of one machine. If that fails the connection is closed, so that all are asked for again.
func (d *Driver) follow(ctx context.Context, c *conn, machine string) {
	ctx, cancel := context.WithTimeout(ctx, refreshLimit)
	defer cancel()
	if _, _, err := d.see(ctx, machine, nil); err != nil && !fault.Is(err, fault.NotFound) {
		c.close()
	}
}
