package fake

import (
	"context"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/hypervisor/watch"
)

// Driver is a connection to a Host. Make one with Host.Open.
type Driver struct {
	host *Host
	hub  watch.Hub

	closers map[*connection]struct{} // guarded by the host's mutex

	displays sync.WaitGroup // the goroutines that serve them
}

var _ hypervisor.Driver = (*Driver)(nil)

// do runs f under the host's mutex, if the call is allowed.
func (d *Driver) do(ctx context.Context, m Method, f func(*Host) error) error {
	if err := d.host.enter(ctx, d, m); err != nil {
		return err
	}
	d.host.mu.Lock()
	defer d.host.mu.Unlock()
	return f(d.host)
}

// doMachine is do for a method that needs an existing machine.
func (d *Driver) doMachine(ctx context.Context, method Method, uuid string, f func(*Host, *machine) error) error {
	return d.do(ctx, method, func(h *Host) error {
		m := h.machines[uuid]
		if m == nil {
			return unknownMachine(uuid)
		}
		return f(h, m)
	})
}

// Host describes the host.
func (d *Driver) Host(ctx context.Context) (host hypervisor.Host, err error) {
	err = d.do(ctx, MethodHost, func(h *Host) error {
		free := h.opts.MemoryBytes - min(h.opts.MemoryBytes, h.others)
		for _, m := range h.machines {
			if m.state.Alive() {
				free -= min(free, m.spec.MemoryBytes)
			}
		}
		host = hypervisor.Host{
			Hostname: h.opts.Hostname, CPUs: h.opts.CPUs, MemoryBytes: h.opts.MemoryBytes, FreeBytes: free, Arch: h.opts.Arch,
			Why: "machines are simulated in memory", NoNVMe: h.opts.NoNVMe, Version: "fake",
		}
		return nil
	})
	return host, err
}

// Define implements hypervisor.Driver.
func (d *Driver) Define(ctx context.Context, spec hypervisor.Spec) error {
	return d.do(ctx, MethodDefine, func(h *Host) error {
		resolved, err := spec.Resolve(h.opts.Arch)
		if err == nil {
			err = hypervisor.Host{NoNVMe: h.opts.NoNVMe}.CheckDisks(spec.Disks)
		}
		if err != nil {
			return err
		}
		return h.define(cloneSpec(resolved))
	})
}

// Adjust implements hypervisor.Driver.
func (d *Driver) Adjust(ctx context.Context, uuid string, r hypervisor.Resources) error {
	return d.doMachine(ctx, MethodAdjust, uuid, func(_ *Host, m *machine) error {
		if err := m.need("adjusted", hypervisor.Running, hypervisor.Paused); err != nil {
			return err
		}
		if err := m.spec.CheckAdjust(r); err != nil {
			return err
		}
		m.spec = m.spec.With(r)
		return nil
	})
}

// Undefine implements hypervisor.Driver.
func (d *Driver) Undefine(ctx context.Context, uuid string) error {
	return d.do(ctx, MethodUndefine, func(h *Host) error {
		if m := h.machines[uuid]; m != nil {
			return h.undefine(m)
		}
		return nil
	})
}

// Start implements hypervisor.Driver.
func (d *Driver) Start(ctx context.Context, uuid string) error {
	return d.doMachine(ctx, MethodStart, uuid, (*Host).start)
}

// Shutdown implements hypervisor.Driver.
func (d *Driver) Shutdown(ctx context.Context, uuid string) error {
	return d.doMachine(ctx, MethodShutdown, uuid, (*Host).shutdown)
}

// Kill implements hypervisor.Driver.
func (d *Driver) Kill(ctx context.Context, uuid string) error {
	return d.doMachine(ctx, MethodKill, uuid, (*Host).kill)
}

// Reboot implements hypervisor.Driver.
func (d *Driver) Reboot(ctx context.Context, uuid string) error {
	return d.doMachine(ctx, MethodReboot, uuid, (*Host).reboot)
}

// Reset implements hypervisor.Driver.
func (d *Driver) Reset(ctx context.Context, uuid string) error {
	return d.doMachine(ctx, MethodReset, uuid, (*Host).reset)
}

// Get implements hypervisor.Driver.
func (d *Driver) Get(ctx context.Context, uuid string) (found hypervisor.Machine, err error) {
	err = d.doMachine(ctx, MethodGet, uuid, func(_ *Host, m *machine) error {
		found = m.snapshot()
		return nil
	})
	return found, err
}

// List implements hypervisor.Driver.
func (d *Driver) List(ctx context.Context) (all []hypervisor.Machine, err error) {
	err = d.do(ctx, MethodList, func(h *Host) error {
		for _, m := range h.machines {
			all = append(all, m.snapshot())
		}
		return nil
	})
	slices.SortFunc(all, func(a, b hypervisor.Machine) int { return strings.Compare(a.Name, b.Name) })
	return all, err
}

// Watch implements hypervisor.Driver.
func (d *Driver) Watch(ctx context.Context) (<-chan hypervisor.Event, error) {
	if err := d.host.enter(ctx, d, MethodWatch); err != nil {
		return nil, err
	}
	return d.hub.Subscribe(ctx), nil
}

// OpenSerial implements hypervisor.Driver.
func (d *Driver) OpenSerial(ctx context.Context, uuid string, takeover bool) (conn io.ReadWriteCloser, err error) {
	err = d.doMachine(ctx, MethodOpenSerial, uuid, func(_ *Host, m *machine) error {
		if m.port == nil {
			return m.need("connected to", hypervisor.Running)
		}
		session, err := m.port.Connect(takeover)
		if err != nil {
			return fault.Wrap(err, "machine %q", m.spec.Name)
		}
		conn = d.track(session)
		return nil
	})
	return conn, err
}

// OpenDisplay implements hypervisor.Driver.
func (d *Driver) OpenDisplay(ctx context.Context, uuid string) (conn io.ReadWriteCloser, err error) {
	err = d.doMachine(ctx, MethodOpenDisplay, uuid, func(_ *Host, m *machine) error {
		if m.port == nil {
			return m.need("connected to", hypervisor.Running)
		}
		if m.spec.Console != hypervisor.ConsoleVNC {
			return fault.New(fault.FailedPrecondition, "machine %q has console %s, not vnc", m.spec.Name, m.spec.Console)
		}
		conn = d.track(d.openDisplay(m))
		return nil
	})
	return conn, err
}

// EnsureNetwork implements hypervisor.Driver.
func (d *Driver) EnsureNetwork(ctx context.Context, n hypervisor.Network) error {
	return d.do(ctx, MethodEnsureNetwork, func(h *Host) error {
		if err := n.Check(); err != nil {
			return err
		}
		return h.ensureNetwork(n)
	})
}

// RemoveNetwork implements hypervisor.Driver.
func (d *Driver) RemoveNetwork(ctx context.Context, name string) error {
	return d.do(ctx, MethodRemoveNetwork, func(h *Host) error { return h.removeNetwork(name) })
}

// SetLeases implements hypervisor.Driver.
func (d *Driver) SetLeases(ctx context.Context, network string, leases []hypervisor.Lease) error {
	return d.do(ctx, MethodSetLeases, func(h *Host) error { return h.setLeases(network, leases) })
}

// Close ends the driver's watches and connections. Machines and networks live on.
func (d *Driver) Close() error {
	d.host.mu.Lock()
	delete(d.host.drivers, d)
	open := d.closers
	d.closers = nil
	d.host.mu.Unlock()
	for c := range open {
		_ = c.ReadWriteCloser.Close()
	}
	d.hub.Close()
	d.displays.Wait()
	return nil
}

// track makes a connection end with the driver. The host's mutex is held.
func (d *Driver) track(conn io.ReadWriteCloser) io.ReadWriteCloser {
	c := &connection{ReadWriteCloser: conn, driver: d}
	d.closers[c] = struct{}{}
	return c
}

// connection is a serial or display connection that its driver knows of.
type connection struct {
	io.ReadWriteCloser

	driver *Driver
}

// Close ends the connection.
func (c *connection) Close() error {
	c.driver.host.mu.Lock()
	delete(c.driver.closers, c)
	c.driver.host.mu.Unlock()
	return c.ReadWriteCloser.Close()
}
