package fake

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"os"

	"golang.org/x/sync/errgroup"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// departure is a hypervisor.Departure.
type departure struct {
	driver    *Driver
	uuid      string
	offer     hypervisor.Offer
	disks     []hypervisor.Disk
	performed bool
	ended     bool
}

// Depart implements hypervisor.Migration.
func (d *Driver) Depart(ctx context.Context, uuid string) (hypervisor.Departure, error) {
	p := &departure{driver: d, uuid: uuid}
	err := d.doMachine(ctx, MethodDepart, uuid, func(_ *Host, m *machine) (err error) {
		if err := m.need("moved to another host", hypervisor.Running); err != nil {
			return err
		}
		for file := range m.redirects {
			return fault.New(fault.FailedPrecondition, "machine %q: disk %s lies over another file; merge it first", m.spec.Name, file)
		}
		if err := m.spec.CheckState(); err != nil {
			return fault.Wrap(err, "machine %q", m.spec.Name)
		}
		p.offer.Description, err = json.Marshal(m.spec)
		p.offer.Cookie = []byte("departure of " + uuid)
		for _, disk := range m.spec.Disks {
			if disk.CDROM || disk.ReadOnly {
				continue
			}
			p.disks = append(p.disks, disk)
			p.offer.DiskSizes = append(p.offer.DiskSizes, diskSize(disk))
		}
		return fault.As(fault.Internal, err, "description")
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Offer implements hypervisor.Departure.
func (p *departure) Offer() hypervisor.Offer { return p.offer }

// Perform implements hypervisor.Departure. Memory is the Spec, which nobody reads; disks are their files.
func (p *departure) Perform(
	ctx context.Context, _ []byte, connect func(context.Context, hypervisor.Stream, io.ReadWriteCloser), progress func(hypervisor.MigrationProgress),
) ([]byte, error) {
	if err := p.driver.host.enter(ctx, p.driver, MethodPerform); err != nil {
		return nil, err
	}
	g, ctx := errgroup.WithContext(ctx)
	now := hypervisor.MigrationProgress{MemoryTotal: uint64(len(p.offer.Description))}
	for _, size := range p.offer.DiskSizes {
		now.DisksTotal += size
	}
	progress(now)
	for i, disk := range p.disks {
		g.Go(func() error {
			content, err := os.ReadFile(disk.File)
			if err != nil {
				return fault.Wrap(err, "disk %d", i)
			}
			return sendPiece(ctx, hypervisor.StorageStream, connect, piece{Disk: i, Content: content})
		})
	}
	g.Go(func() error {
		return sendPiece(ctx, hypervisor.MemoryStream, connect, piece{Content: p.offer.Description})
	})
	if err := g.Wait(); err != nil {
		return nil, fault.Wrap(err, "machine %s: move it", p.uuid)
	}
	now.DisksDone, now.MemoryDone = now.DisksTotal, now.MemoryTotal
	progress(now)
	err := p.driver.host.withMachine(p.uuid, func(m *machine) error {
		if err := m.need("moved to another host", hypervisor.Running); err != nil {
			return err
		}
		p.driver.host.enterState(m, hypervisor.Paused)
		return nil
	})
	p.performed = err == nil
	return []byte("performed"), err
}

// piece is what one stream carries.
type piece struct {
	Disk    int    `json:"disk"`
	Content []byte `json:"content"`
}

// sendPiece sends something over a stream and waits until it was taken.
func sendPiece(ctx context.Context, s hypervisor.Stream, connect func(context.Context, hypervisor.Stream, io.ReadWriteCloser), what piece) error {
	ctx, cancel := context.WithCancel(ctx)
	near, far := net.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		connect(ctx, s, far)
		_ = far.Close()
	}()
	defer func() { cancel(); _ = near.Close(); <-ended }()
	defer context.AfterFunc(ctx, func() { _ = near.Close() })()
	taken := make([]byte, 1)
	err := json.NewEncoder(near).Encode(what)
	if err == nil {
		_, err = io.ReadFull(near, taken)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fault.As(fault.Unavailable, err, "the stream to the destination broke")
}

// Finish implements hypervisor.Departure.
func (p *departure) Finish(_ context.Context, moved bool) error {
	if p.ended {
		return nil
	}
	p.ended = true
	return p.driver.host.withMachine(p.uuid, func(m *machine) error {
		switch {
		case moved && !p.performed:
			return fault.New(fault.FailedPrecondition, "machine %q: has not been moved", m.spec.Name)
		case moved:
			return p.driver.host.kill(m)
		case p.performed && m.state == hypervisor.Paused:
			p.driver.host.enterState(m, hypervisor.Running)
		}
		return nil
	})
}

// Close implements hypervisor.Departure.
func (p *departure) Close() error {
	p.ended = true
	return nil
}

// Continue implements hypervisor.Migration.
func (d *Driver) Continue(ctx context.Context, uuid string) error {
	return d.doMachine(ctx, MethodContinue, uuid, func(h *Host, m *machine) error {
		if m.state == hypervisor.Running {
			return nil
		}
		if err := m.need("continued", hypervisor.Paused); err != nil {
			return err
		}
		h.enterState(m, hypervisor.Running)
		return nil
	})
}
