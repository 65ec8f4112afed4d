package libvirt

import (
	"cmp"
	"context"
	"slices"

	golibvirt "github.com/digitalocean/go-libvirt"
	"github.com/google/uuid"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

var _ hypervisor.Virtualisation = (*Driver)(nil)

// sizes are the groups of figures that tell a domain's processors and memory, without a question to its emulator.
const sizes = golibvirt.DomainStatsVCPU | golibvirt.DomainStatsBalloon

// ListDomains implements hypervisor.Domains, with four calls for all domains together.
func (d *Driver) ListDomains(ctx context.Context) (all []hypervisor.Domain, err error) {
	err = d.queries.do(ctx, func(c *conn) error {
		if _, err := d.survey(c, false); err != nil {
			return err
		}
		all, err = d.describeDomains(c, nil)
		return err
	})
	slices.SortFunc(all, func(a, b hypervisor.Domain) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.UUID, b.UUID))
	})
	return all, err
}

// describeDomains describes some domains, or all (nil), whose states the tracker knows.
func (d *Driver) describeDomains(c *conn, some []golibvirt.Domain) ([]hypervisor.Domain, error) {
	records, err := c.ConnectGetAllDomainStats(some, uint32(sizes), 0)
	if err != nil {
		return nil, classify(err, "list the domains")
	}
	persistent, err := flagged(c, golibvirt.ConnectListDomainsPersistent)
	if err != nil {
		return nil, err
	}
	autostart, err := flagged(c, golibvirt.ConnectListDomainsAutostart)
	if err != nil {
		return nil, err
	}
	all := make([]hypervisor.Domain, 0, len(records))
	for _, r := range records {
		id := uuidText(r.Dom.UUID)
		state, _, known := d.tracker.get(id)
		if isProbe(r.Dom.Name) || !known {
			continue // the latter came this moment
		}
		p := figures(r.Params)
		all = append(all, hypervisor.Domain{
			UUID: id, Name: r.Dom.Name, ID: max(r.Dom.ID, 0), State: state, CPUs: uint32(p.number("vcpu.current")),
			MemoryBytes: p.number("balloon.maximum") << 10, Persistent: persistent[r.Dom.UUID], Autostart: autostart[r.Dom.UUID],
		})
	}
	return all, nil
}

func flagged(c *conn, flag golibvirt.ConnectListAllDomainsFlags) (map[golibvirt.UUID]bool, error) {
	domains, _, err := c.ConnectListAllDomains(1, flag)
	if err != nil {
		return nil, classify(err, "list the domains")
	}
	set := make(map[golibvirt.UUID]bool, len(domains))
	for _, dom := range domains {
		set[dom.UUID] = true
	}
	return set, nil
}

// FindDomain implements hypervisor.Domains.
func (d *Driver) FindDomain(ctx context.Context, ref string) (found hypervisor.Domain, err error) {
	var id string
	err = d.queries.do(ctx, func(c *conn) error {
		id, err = identify(c, ref)
		return err
	})
	if err != nil {
		return found, err
	}
	_, _, err = d.see(ctx, id, func(c *conn, dom golibvirt.Domain) error {
		state, err := askState(c, dom)
		if err != nil {
			return err
		}
		d.tracker.observe(id, state)
		all, err := d.describeDomains(c, []golibvirt.Domain{dom})
		if err == nil && len(all) == 0 {
			err = unknownDomain(ref)
		}
		if err == nil {
			found = all[0]
		}
		return err
	})
	return found, err
}

// identify returns the UUID of the domain that ref names.
func identify(c *conn, ref string) (string, error) {
	if id, err := uuid.Parse(ref); err == nil {
		if dom, err := c.DomainLookupByUUID(golibvirt.UUID(id)); err == nil {
			return uuidText(dom.UUID), nil
		} else if !isNumber(err, golibvirt.ErrNoDomain) {
			return "", classify(err, "domain %q", ref)
		}
	}
	dom, err := c.DomainLookupByName(ref)
	if isNumber(err, golibvirt.ErrNoDomain) || err == nil && isProbe(dom.Name) {
		return "", unknownDomain(ref)
	}
	return uuidText(dom.UUID), classify(err, "domain %q", ref)
}

func unknownDomain(ref string) error {
	return fault.New(fault.NotFound, "domain %q does not exist", ref)
}

// StartDomain implements hypervisor.Domains.
func (d *Driver) StartDomain(ctx context.Context, machine string) error {
	if err := d.need(ctx, machine, "started", isOff); err != nil {
		return err
	}
	who, err := d.owner.get(ctx, d.askOwner)
	if err != nil {
		return err
	}
	// libvirtd would go on with a start whose connection is closed, so the call itself is not cancelled.
	callCtx, done := linger(ctx)
	defer done()
	err = d.slow.do(callCtx, func(c *conn) error {
		dom, err := lookup(c, machine)
		if err != nil {
			return err
		}
		def, err := definition(c, dom)
		if err != nil {
			return err
		}
		if err := checkFiles(parseDomain(def)); err != nil {
			return err
		}
		if files := d.opts.files(machine); parseSerial(def).socket == files.serial() { // one that Define made
			if err := files.prepare(who); err != nil {
				return fault.Wrap(err, "domain %q", dom.Name)
			}
		}
		d.tracker.note(machine, func(r *run) { *r = run{} })
		err = c.DomainCreate(dom)
		if isNumber(err, golibvirt.ErrNoNetwork) { // the domain is there: what is missing is a precondition
			return fault.As(fault.FailedPrecondition, err, "domain %q cannot start", dom.Name)
		}
		return classify(err, "domain %q: start it", dom.Name)
	})
	return d.afterwards(context.WithoutCancel(ctx), machine, err)
}

// Pause implements hypervisor.Domains.
func (d *Driver) Pause(ctx context.Context, machine string) error {
	if err := d.need(ctx, machine, "paused", listens); err != nil {
		return err
	}
	err := d.control(ctx, machine, "pause it", func(c *conn, dom golibvirt.Domain) error { return c.DomainSuspend(dom) })
	return d.afterwards(ctx, machine, err)
}

// Unpause implements hypervisor.Domains.
func (d *Driver) Unpause(ctx context.Context, machine string) error {
	paused := func(s hypervisor.State) bool { return s == hypervisor.Paused }
	if err := d.need(ctx, machine, "resumed", paused); err != nil {
		return err
	}
	err := d.control(ctx, machine, "resume it", func(c *conn, dom golibvirt.Domain) error { return c.DomainResume(dom) })
	return d.afterwards(ctx, machine, err)
}
