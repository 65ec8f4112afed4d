package fake

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"sync"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/hypervisor/serial"
)

// arrival is a hypervisor.Arrival.
type arrival struct {
	driver *Driver
	uuid   string
	disks  []hypervisor.Disk
	ended  bool

	mu     sync.Mutex
	memory bool
	came   map[int]bool // disks, by their places
}

// Arrive implements hypervisor.Migration.
func (d *Driver) Arrive(ctx context.Context, spec hypervisor.Spec, o hypervisor.Offer) (hypervisor.Arrival, error) {
	a := &arrival{driver: d, uuid: spec.UUID, came: make(map[int]bool)}
	err := d.do(ctx, MethodArrive, func(h *Host) error {
		resolved, err := spec.Resolve(h.opts.Arch)
		if err != nil {
			return err
		}
		var coming hypervisor.Spec
		if err := json.Unmarshal(o.Description, &coming); err != nil || coming.UUID != spec.UUID {
			return fault.New(fault.InvalidArgument, "machine %q: the description is not that of this machine (%v)", spec.Name, err)
		}
		if h.machines[spec.UUID] != nil {
			return fault.New(fault.AlreadyExists, "machine %q is on this host", spec.Name)
		}
		if err := h.checkResources(&machine{spec: resolved}); err != nil {
			return err
		}
		if err := h.define(cloneSpec(resolved)); err != nil {
			return err
		}
		h.enterState(h.machines[spec.UUID], hypervisor.Paused)
		for _, disk := range resolved.Disks {
			if !disk.CDROM && !disk.ReadOnly {
				a.disks = append(a.disks, disk)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return a, nil
}

// Answer implements hypervisor.Arrival.
func (a *arrival) Answer() []byte { return []byte("arrival of " + a.uuid) }

// Connect implements hypervisor.Arrival.
func (a *arrival) Connect(ctx context.Context, s hypervisor.Stream) (io.ReadWriteCloser, error) {
	if err := a.driver.host.enter(ctx, a.driver, MethodConnect); err != nil {
		return nil, err
	}
	near, far := net.Pipe()
	go func() {
		defer near.Close() //nolint:errcheck // a pipe
		var what piece
		if json.NewDecoder(near).Decode(&what) == nil && a.take(s, what) == nil {
			_, _ = near.Write([]byte{1}) // whoever does not get it fails
		}
	}()
	return far, nil
}

// take keeps what came over a stream.
func (a *arrival) take(s hypervisor.Stream, what piece) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s == hypervisor.MemoryStream {
		a.memory = true
		return nil
	}
	if what.Disk < 0 || what.Disk >= len(a.disks) {
		return fault.New(fault.DataLoss, "disk %d is none of this machine's", what.Disk)
	}
	a.came[what.Disk] = true
	return os.WriteFile(a.disks[what.Disk].File, what.Content, 0o600)
}

// Finish implements hypervisor.Arrival.
func (a *arrival) Finish(ctx context.Context, result []byte) (hypervisor.MigrationFigures, error) {
	err := a.driver.host.enter(context.WithoutCancel(ctx), a.driver, MethodFinish)
	if err == nil && !a.complete(result) {
		err = fault.New(fault.DataLoss, "machine %s: not all of it has come", a.uuid)
	}
	a.ended = true
	return hypervisor.MigrationFigures{}, a.driver.host.withMachine(a.uuid, func(m *machine) error {
		if err != nil {
			a.driver.host.enterState(m, hypervisor.Off)
			return err
		}
		m.port = serial.New(&keyboard{host: a.driver.host, uuid: a.uuid})
		a.driver.host.enterState(m, hypervisor.Running)
		return nil
	})
}

func (a *arrival) complete(result []byte) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range a.disks {
		if !a.came[i] {
			return false
		}
	}
	return a.memory && string(result) == "performed"
}

// Close implements hypervisor.Arrival.
func (a *arrival) Close() error {
	if a.ended {
		return nil
	}
	a.ended = true
	err := a.driver.host.withMachine(a.uuid, a.driver.host.kill)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}
