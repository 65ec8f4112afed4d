package vcentersim

import (
	"context"
	"errors"
	"net/http"
	"time"
)

var (
	errCut       = errors.New("cut on demand")
	errLeaseOver = errors.New("the lease is over")
	errStopping  = errors.New("the simulator stops")
)

// pacer passes a stream on as a plan wants it, and stops when the lease does.
type pacer struct {
	ctx   context.Context //nolint:containedctx // of the request it serves
	w     http.ResponseWriter
	sim   *Simulator
	lease *lease
	plan  plan
	sent  int64
}

// step is how much to write at once: much, unless the stream is slowed down.
func (p *pacer) step() int64 {
	if p.plan.perSecond > 0 {
		return max(1, p.plan.perSecond/20)
	}
	return 256 << 10
}

// Write implements io.Writer.
func (p *pacer) Write(b []byte) (int, error) {
	if err := p.stopped(); err != nil {
		return 0, err
	}
	if limit := p.plan.cutAt; limit >= 0 && p.sent+int64(len(b)) >= limit {
		n, err := p.w.Write(b[:limit-p.sent])
		p.sent += int64(n)
		if err == nil {
			err = p.end()
		}
		return n, err
	}
	n, err := p.w.Write(b)
	p.sent += int64(n)
	if err != nil || p.plan.perSecond == 0 {
		return n, err
	}
	return n, p.pause(n)
}

// end does what the plan wants done after the last byte it allows.
func (p *pacer) end() error {
	if p.plan.expire {
		p.lease.expireNow()
		return errLeaseOver
	}
	return errCut
}

func (p *pacer) stopped() error {
	select {
	case <-p.lease.ended:
		return errLeaseOver
	case <-p.sim.ctx.Done():
		return errStopping
	case <-p.ctx.Done():
		return p.ctx.Err()
	default:
		return nil
	}
}

// pause sends what was written and waits as long as n bytes shall take.
func (p *pacer) pause(n int) error {
	if err := http.NewResponseController(p.w).Flush(); err != nil {
		return err
	}
	timer := time.NewTimer(time.Duration(n) * time.Second / time.Duration(p.plan.perSecond))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-p.lease.ended:
		return errLeaseOver
	case <-p.sim.ctx.Done():
		return errStopping
	case <-p.ctx.Done():
		return p.ctx.Err()
	}
}
