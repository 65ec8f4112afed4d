package libvirt

import (
	"context"
	"encoding/xml"
	"errors"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/undo"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// Adjust implements hypervisor.Driver. Should the host run out of memory after it has given processors, the machine keeps those until it ends:
// guests give processors back only if they like.
func (d *Driver) Adjust(ctx context.Context, machine string, r hypervisor.Resources) error {
	if err := d.need(ctx, machine, "adjusted", adjustable); err != nil {
		return err
	}
	// The host is asked before the machine's connection is taken, and also when limits are taken away.
	limit, err := d.cpuLimit.get(ctx, d.askCPULimit)
	if err != nil {
		return err
	}
	// libvirtd would go on with a call whose connection is closed.
	callCtx, done := linger(ctx)
	defer done()
	var back undo.Stack
	err = d.slow.do(callCtx, func(c *conn) error {
		a, err := d.beginAdjust(ctx, c, machine, r)
		if err != nil {
			return err
		}
		return a.run(limit.enforced, &back)
	})
	if err != nil {
		return errors.Join(err, back.Run(ctx))
	}
	return nil
}

func adjustable(s hypervisor.State) bool { return s == hypervisor.Running || s == hypervisor.Paused }

// adjustment is one call of Adjust.
type adjustment struct {
	driver *Driver
	c      *conn
	dom    golibvirt.Domain
	// was is what the live machine has, wish what it gets; old and text are the definition of its later starts, before and after.
	was, wish hypervisor.Resources
	spec      hypervisor.Spec
	old, text string
}

// beginAdjust checks the wish against the live machine and prepares its definition.
func (d *Driver) beginAdjust(ctx context.Context, c *conn, machine string, r hypervisor.Resources) (*adjustment, error) {
	dom, err := lookup(c, machine)
	if err != nil {
		return nil, err
	}
	def, err := definition(c, dom)
	if err != nil {
		return nil, err
	}
	if !isOurs(def) {
		return nil, fault.New(fault.Unimplemented, "machine %q was not made by this driver and is not adjusted", dom.Name)
	}
	live, err := readXML(c, dom, 0)
	if err != nil {
		return nil, err
	}
	next, now := parseDomain(def), parseDomain(live)
	now.CPUMillis, now.CPUPriority = next.CPUMillis, next.CPUPriority // metadata is changed in the definition only
	if err := now.CheckAdjust(r); err != nil {
		return nil, err
	}
	a := &adjustment{driver: d, c: c, dom: dom, was: now.Resources(), wish: r, spec: next.With(r)}
	env, err := d.domainEnv(ctx, a.spec)
	if err != nil {
		return nil, err
	}
	if a.old, err = c.DomainGetXMLDesc(dom, golibvirt.DomainXMLInactive|golibvirt.DomainXMLSecure); err != nil {
		return nil, classify(err, "machine %q: read its definition", dom.Name)
	}
	env.old = def
	a.text, err = domainText(a.spec, env)
	return a, err
}

// run does first what can be taken back.
func (a *adjustment) run(tune bool, back *undo.Stack) error {
	if err := defineText(a.c, a.spec, a.text); err != nil {
		return err
	}
	back.Add(func(ctx context.Context) error {
		return a.driver.slow.do(ctx, func(c *conn) error { return defineText(c, a.spec, a.old) })
	})
	if tune {
		if err := setTune(a.c, a.dom, a.was, a.wish); err != nil {
			return err
		}
		back.Add(func(ctx context.Context) error {
			return a.driver.slow.do(ctx, func(c *conn) error { return setTune(c, a.dom, a.wish, a.was) })
		})
	}
	if a.wish.CPUs > a.was.CPUs {
		if err := a.c.DomainSetVcpusFlags(a.dom, a.wish.CPUs, uint32(golibvirt.DomainVCPULive)); err != nil {
			return classify(err, "machine %q: add processors", a.dom.Name)
		}
	}
	return a.plug()
}

// plug adds the memory that is wanted beyond what there is.
func (a *adjustment) plug() error {
	more := a.wish.MemoryBytes - a.was.MemoryBytes
	if more == 0 {
		return nil
	}
	text, err := xml.Marshal(buildModule(more))
	if err != nil {
		return fault.As(fault.Internal, err, "machine %q: describe memory", a.dom.Name)
	}
	err = a.c.DomainAttachDeviceFlags(a.dom, string(text), uint32(golibvirt.DomainDeviceModifyLive))
	return classify(err, "machine %q: add %d MiB of memory", a.dom.Name, more>>20)
}

// setTune tells the scheduler what has changed.
func setTune(c *conn, dom golibvirt.Domain, was, wish hypervisor.Resources) error {
	var params []golibvirt.TypedParam
	if wish.CPUMillis != was.CPUMillis {
		quota := int64(-1) // no limit
		if wish.CPUMillis != 0 {
			quota = buildQuota(wish.CPUMillis).GlobalQuota.Value
		}
		params = append(params,
			golibvirt.TypedParam{Field: "global_period", Value: *golibvirt.NewTypedParamValueUllong(quotaPeriod)},
			golibvirt.TypedParam{Field: "global_quota", Value: *golibvirt.NewTypedParamValueLlong(quota)})
	}
	if wish.CPUPriority != was.CPUPriority {
		weight := shares(wish.CPUPriority, hasUnifiedCgroups())
		params = append(params, golibvirt.TypedParam{Field: "cpu_shares", Value: *golibvirt.NewTypedParamValueUllong(weight)})
	}
	if len(params) == 0 {
		return nil
	}
	err := c.DomainSetSchedulerParametersFlags(dom, params, uint32(golibvirt.DomainAffectLive))
	return classify(err, "machine %q: change its share of the processors", dom.Name)
}
