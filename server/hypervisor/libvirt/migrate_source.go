package libvirt

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// departure is a hypervisor.Departure.
type departure struct {
	driver *Driver
	c      *conn
	dom    golibvirt.Domain
	uuid   string
	files  machineFiles
	who    owner
	offer  hypervisor.Offer
	// result is Perform's, from then until Finish.
	result    []byte
	performed bool
	ended     bool
}

// Depart implements hypervisor.Migration.
func (d *Driver) Depart(ctx context.Context, machine string) (hypervisor.Departure, error) {
	if err := d.need(ctx, machine, "moved to another host", func(s hypervisor.State) bool { return s == hypervisor.Running }); err != nil {
		return nil, err
	}
	who, err := d.owner.get(ctx, d.askOwner)
	if err != nil {
		return nil, err
	}
	c, err := d.connectAlone(ctx)
	if err != nil {
		return nil, err
	}
	dep := &departure{driver: d, c: c, uuid: machine, files: d.opts.files(machine), who: who}
	if err := c.run(ctx, dep.begin); err != nil {
		c.close() // libvirtd takes back what was begun
		return nil, classify(err, "machine %s: leave", machine)
	}
	return dep, nil
}

func (p *departure) begin() error {
	l, err := readLive(p.c, p.uuid)
	if err != nil {
		return err
	}
	p.dom = l.dom
	if err := l.checkMovable(); err != nil {
		return err
	}
	if p.offer.DiskSizes, err = l.diskSizes(); err != nil {
		return err
	}
	cookie, text, err := p.c.DomainMigrateBegin3Params(p.dom, nil, uint32(migrateFlags))
	p.offer.Cookie, p.offer.Description = cookie, []byte(text)
	return classify(err, "begin")
}

// Offer implements hypervisor.Departure.
func (p *departure) Offer() hypervisor.Offer { return p.offer }

// Perform implements hypervisor.Departure.
func (p *departure) Perform(
	ctx context.Context, answer []byte, connect func(context.Context, hypervisor.Stream, io.ReadWriteCloser), progress func(hypervisor.MigrationProgress),
) ([]byte, error) {
	if p.performed || p.ended {
		return nil, fault.New(fault.FailedPrecondition, "machine %s: has left already", p.uuid)
	}
	if err := ctx.Err(); err != nil {
		return nil, classify(err, "machine %s: move it", p.uuid)
	}
	streams, stop := context.WithCancel(context.WithoutCancel(ctx))
	var carriers sync.WaitGroup
	err := p.listen(streams, &carriers, connect)
	if err == nil {
		err = p.perform(ctx, stop, answer, progress)
	}
	if err == nil {
		// QEMU has written all and closed its ends; what is still on its way must arrive. If it does not, the destination can not let the machine run.
		late := time.AfterFunc(migrateStep, stop)
		carriers.Wait()
		late.Stop()
	}
	stop()
	carriers.Wait()
	err = errors.Join(err, p.files.removeSockets())
	_, _, _ = p.driver.see(context.WithoutCancel(ctx), p.uuid, nil)
	if err != nil && !p.performed {
		return nil, classify(err, "machine %s: move it", p.uuid)
	}
	return p.result, nil
}

// listen makes the sockets to which libvirtd and QEMU connect.
func (p *departure) listen(ctx context.Context, carriers *sync.WaitGroup, connect func(context.Context, hypervisor.Stream, io.ReadWriteCloser)) error {
	if err := p.files.removeSockets(); err != nil {
		return err
	}
	for _, stream := range []hypervisor.Stream{hypervisor.MemoryStream, hypervisor.StorageStream} {
		path := p.files.socketOf(stream)
		l, err := new(net.ListenConfig).Listen(ctx, "unix", path)
		if err != nil {
			return fault.As(fault.Internal, err, "socket for a migration")
		}
		context.AfterFunc(ctx, func() { _ = l.Close() })
		if err := giveSocket(path, p.who); err != nil {
			return err
		}
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return // ctx has ended
				}
				carriers.Go(func() {
					defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
					connect(ctx, stream, conn)
					_ = conn.Close()
				})
			}
		}()
	}
	return nil
}

// perform has libvirtd move the machine. The call itself is not cancelled by closing its connection: libvirtd would go on. stop ends the streams.
func (p *departure) perform(ctx context.Context, stop func(), answer []byte, progress func(hypervisor.MigrationProgress)) error {
	type outcome struct {
		result []byte
		err    error
	}
	done := make(chan outcome, 1)
	go func() {
		result, err := p.c.DomainMigratePerform3Params(p.dom, nil, p.files.uris(), answer, migrateFlags)
		done <- outcome{result, err}
	}()
	ticker := time.NewTicker(progressEvery)
	defer ticker.Stop()
	cancelled := ctx.Done()
	for {
		select {
		case o := <-done:
			p.result, p.performed = o.result, o.err == nil
			if o.err != nil && ctx.Err() != nil {
				return ctx.Err()
			}
			return classify(o.err, "perform")
		case <-cancelled:
			p.abort(ctx)
			cancelled = nil
		case <-ticker.C:
			if ctx.Err() != nil {
				// libvirtd does not come to the end of a job while QEMU waits for an answer over a stream.
				stop()
				p.abort(ctx)
				continue
			}
			if now, err := p.progress(ctx); err == nil {
				progress(now)
			}
		}
	}
}

// abort has libvirtd give up; perform then fails.
func (p *departure) abort(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), progressEvery)
	defer cancel()
	_ = p.driver.slow.do(ctx, func(c *conn) error { return c.DomainAbortJob(p.dom) })
}

func (p *departure) progress(ctx context.Context) (now hypervisor.MigrationProgress, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*progressEvery)
	defer cancel()
	err = p.driver.queries.do(ctx, func(c *conn) error {
		_, figures, err := c.DomainGetJobStats(p.dom, 0)
		now = hypervisor.MigrationProgress{
			DisksDone: jobNumber(figures, "disk_processed"), DisksTotal: jobNumber(figures, "disk_total"),
			MemoryDone: jobNumber(figures, "memory_processed"), MemoryTotal: jobNumber(figures, "memory_total"),
		}
		return err
	})
	return now, err
}

// Finish implements hypervisor.Departure: libvirt's Confirm.
func (p *departure) Finish(ctx context.Context, moved bool) error {
	if p.ended {
		return nil
	}
	if moved && !p.performed {
		return fault.New(fault.FailedPrecondition, "machine %s: has not been moved", p.uuid)
	}
	p.ended = true
	defer p.c.close()
	if !p.performed {
		return p.stay(ctx)
	}
	cancelled := int32(1)
	if moved {
		cancelled = 0
		p.driver.tracker.note(p.uuid, func(r *run) { r.killed = true })
	}
	err := toEnd(ctx, p.c, func() error {
		return p.c.DomainMigrateConfirm3Params(p.dom, p.files.uris(), p.result, uint32(migrateFlags), cancelled)
	})
	ctx = context.WithoutCancel(ctx)
	if moved {
		// What has moved must not stay as a second copy, whatever libvirtd said.
		return errors.Join(fault.Wrap(p.driver.Kill(ctx, p.uuid), "machine %s: end it, it has moved", p.uuid))
	}
	if continued := p.driver.Continue(ctx, p.uuid); continued != nil {
		return errors.Join(classify(err, "machine %s: confirm", p.uuid), continued)
	}
	return nil
}

// stay ends what Begin began. libvirtd ends a migration whose connection is closed.
func (p *departure) stay(ctx context.Context) error {
	p.c.close()
	_, _, err := p.driver.see(context.WithoutCancel(ctx), p.uuid, nil)
	return err
}

// Close implements hypervisor.Departure.
func (p *departure) Close() error {
	if !p.ended {
		p.ended = true
		p.c.close()
	}
	return nil
}
