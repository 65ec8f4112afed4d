package libvirt

import (
	"context"
	"slices"
	"strings"

	golibvirt "github.com/digitalocean/go-libvirt"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// listers is how many definitions are asked for at once, over one connection; libvirtd serves five.
const listers = 4

// Get implements hypervisor.Driver.
func (d *Driver) Get(ctx context.Context, machine string) (hypervisor.Machine, error) {
	var m hypervisor.Machine
	state, since, err := d.see(ctx, machine, func(c *conn, dom golibvirt.Domain) error {
		def, err := definition(c, dom)
		if err == nil {
			m.Spec = parseDomain(def)
		}
		return err
	})
	if err != nil {
		return hypervisor.Machine{}, err
	}
	m.UUID, m.Name, m.State, m.Since = m.Spec.UUID, m.Spec.Name, state, since
	return m, nil
}

// List implements hypervisor.Driver.
func (d *Driver) List(ctx context.Context) ([]hypervisor.Machine, error) {
	var machines []hypervisor.Machine
	err := d.queries.do(ctx, func(c *conn) error {
		domains, err := d.survey(c, false)
		if err != nil {
			return err
		}
		machines = make([]hypervisor.Machine, len(domains))
		var g errgroup.Group
		g.SetLimit(listers)
		for i, dom := range domains {
			g.Go(func() (err error) {
				machines[i], err = d.listed(c, dom)
				return err
			})
		}
		return g.Wait()
	})
	if err != nil {
		return nil, err
	}
	machines = slices.DeleteFunc(machines, func(m hypervisor.Machine) bool { return m.UUID == "" })
	slices.SortFunc(machines, func(a, b hypervisor.Machine) int { return strings.Compare(a.Name, b.Name) })
	return machines, nil
}

// listed describes one machine of a list. It has no UUID if it went meanwhile.
func (d *Driver) listed(c *conn, dom golibvirt.Domain) (hypervisor.Machine, error) {
	def, err := definition(c, dom)
	if fault.Is(err, fault.NotFound) {
		return hypervisor.Machine{}, nil
	}
	if err != nil {
		return hypervisor.Machine{}, err
	}
	state, since, known := d.tracker.get(def.UUID)
	if !known {
		return hypervisor.Machine{}, nil
	}
	return hypervisor.Machine{UUID: def.UUID, Name: def.Name, State: state, Since: since, Spec: parseDomain(def)}, nil
}

// survey asks for all machines and their states at once, and remembers them. publish tells the watchers of each.
func (d *Driver) survey(c *conn, publish bool) ([]golibvirt.Domain, error) {
	asOf := d.tracker.moment()
	records, err := c.ConnectGetAllDomainStats(nil, uint32(golibvirt.DomainStatsState), 0)
	if err != nil {
		return nil, classify(err, "list the machines")
	}
	states := make(map[string]domainState, len(records))
	domains := make([]golibvirt.Domain, 0, len(records))
	for _, r := range records {
		if isProbe(r.Dom.Name) {
			continue
		}
		domains = append(domains, r.Dom)
		states[uuidText(r.Dom.UUID)] = parseState(r.Params)
	}
	d.tracker.observeAll(states, asOf, publish)
	return domains, nil
}

func parseState(params []golibvirt.TypedParam) (s domainState) {
	for _, p := range params {
		value, _ := p.Value.I.(int32)
		switch p.Field {
		case "state.state":
			s.state = golibvirt.DomainState(value)
		case "state.reason":
			s.reason = value
		}
	}
	return s
}

func uuidText(id golibvirt.UUID) string { return uuid.UUID(id).String() }

// describeAll describes what libvirt has listed. What goes meanwhile is left out.
func describeAll[H, T any](c *conn, handles []H, describe func(*conn, H) (T, error)) (all []T, err error) {
	for _, h := range handles {
		one, err := describe(c, h)
		if fault.Is(err, fault.NotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}
