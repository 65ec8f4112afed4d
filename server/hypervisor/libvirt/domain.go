package libvirt

import (
	"context"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"github.com/google/uuid"
	"libvirt.org/go/libvirtxml"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// lookup finds a machine's domain. A text that is no UUID is that of no machine.
func lookup(c *conn, machine string) (golibvirt.Domain, error) {
	id, err := uuid.Parse(machine)
	if err != nil {
		return golibvirt.Domain{}, unknownMachine(machine)
	}
	dom, err := c.DomainLookupByUUID(golibvirt.UUID(id))
	if isNumber(err, golibvirt.ErrNoDomain) {
		return golibvirt.Domain{}, unknownMachine(machine)
	}
	return dom, classify(err, "machine %s", machine)
}

func unknownMachine(machine string) error {
	return fault.New(fault.NotFound, "machine %q does not exist", machine)
}

// definition reads what a domain is when it starts the next time.
func definition(c *conn, dom golibvirt.Domain) (*libvirtxml.Domain, error) {
	return readXML(c, dom, golibvirt.DomainXMLInactive)
}

func readXML(c *conn, dom golibvirt.Domain, flags golibvirt.DomainXMLFlags) (*libvirtxml.Domain, error) {
	text, err := c.DomainGetXMLDesc(dom, flags)
	if err != nil {
		return nil, classify(err, "machine %q: read its definition", dom.Name)
	}
	d := &libvirtxml.Domain{}
	if err := d.Unmarshal(text); err != nil {
		return nil, fault.As(fault.Internal, err, "machine %q: understand its definition", dom.Name)
	}
	return d, nil
}

// see asks libvirt for a machine's state, and remembers it. more, if not nil, asks for more in the same breath.
func (d *Driver) see(ctx context.Context, machine string, more func(*conn, golibvirt.Domain) error) (
	state hypervisor.State, since time.Time, err error,
) {
	unlock, err := d.refresh.Lock(ctx, machine)
	if err != nil {
		return 0, since, classify(err, "machine %q", machine)
	}
	defer unlock()
	var now domainState
	err = d.queries.do(ctx, func(c *conn) error {
		dom, err := lookup(c, machine)
		if err != nil {
			return err
		}
		if now, err = askState(c, dom); err != nil || more == nil {
			return err
		}
		return more(c, dom)
	})
	if fault.Is(err, fault.NotFound) {
		d.tracker.forget(machine)
	}
	if err != nil {
		return 0, since, err
	}
	state, since = d.tracker.observe(machine, now)
	return state, since, nil
}

func askState(c *conn, dom golibvirt.Domain) (domainState, error) {
	state, reason, err := c.DomainGetState(dom, 0)
	return domainState{golibvirt.DomainState(state), reason}, classify(err, "machine %q: ask for its state", dom.Name)
}

// need sees a machine and reports whether it is in one of the states that an operation needs.
func (d *Driver) need(ctx context.Context, machine, what string, allowed func(hypervisor.State) bool) error {
	state, _, err := d.see(ctx, machine, nil)
	if err == nil && !allowed(state) {
		err = fault.New(fault.FailedPrecondition, "machine %s is %s and cannot be %s", machine, state, what)
	}
	return err
}

func isOff(s hypervisor.State) bool { return !s.Alive() }

// listens says whether the guest executes, so that it can be asked for something.
func listens(s hypervisor.State) bool { return s == hypervisor.Running || s == hypervisor.Stopping }
