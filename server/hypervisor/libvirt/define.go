package libvirt

import (
	"context"
	"errors"
	"io/fs"
	"os"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/undo"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// Define implements hypervisor.Driver. A machine that exists keeps its UUID, the version of its board and its UEFI variables.
func (d *Driver) Define(ctx context.Context, spec hypervisor.Spec) error {
	s, err := spec.Resolve(hostArch())
	if err != nil {
		return err
	}
	if err := d.checkNVMe(ctx, s); err != nil {
		return err
	}
	env, err := d.domainEnv(ctx, s)
	if err != nil {
		return err
	}
	if err := d.need(ctx, s.UUID, "changed", isOff); err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	var back undo.Stack
	err = d.slow.do(ctx, func(c *conn) error { return d.define(c, s, env, &back) })
	if err != nil {
		return errors.Join(err, back.Run(ctx))
	}
	_, _, err = d.see(ctx, s.UUID, nil)
	return err
}

func (d *Driver) define(c *conn, s hypervisor.Spec, env domainEnv, back *undo.Stack) error {
	if err := checkNameFree(c, s); err != nil {
		return err
	}
	dom, err := lookup(c, s.UUID)
	switch {
	case fault.Is(err, fault.NotFound):
	case err != nil:
		return err
	default:
		if env.old, err = definition(c, dom); err != nil {
			return err
		}
		if err := checkOverlays(env.old, s); err != nil {
			return err
		}
	}
	text, err := domainText(s, env)
	if err != nil {
		return err
	}
	if env.old != nil {
		if err := d.rename(c, dom, s.Name, back); err != nil {
			return err
		}
	}
	return defineText(c, s, text)
}

func domainText(s hypervisor.Spec, env domainEnv) (string, error) {
	domain, err := buildDomain(s, env)
	if err != nil {
		return "", err
	}
	text, err := domain.Marshal()
	return text, fault.As(fault.Internal, err, "machine %q: write its definition", s.Name)
}

func defineText(c *conn, s hypervisor.Spec, text string) error {
	_, err := c.DomainDefineXMLFlags(text, golibvirt.DomainDefineValidate)
	return classify(err, "machine %q: define it", s.Name)
}

// checkNameFree reports whether the name belongs to another machine. libvirt would refuse it too, with an error that has no number of its own.
func checkNameFree(c *conn, s hypervisor.Spec) error {
	owner, err := c.DomainLookupByName(s.Name)
	switch {
	case isNumber(err, golibvirt.ErrNoDomain):
		return nil
	case err != nil:
		return classify(err, "machine %q", s.Name)
	case uuidText(owner.UUID) != s.UUID:
		return fault.New(fault.AlreadyExists, "machine name %q is taken by machine %s", s.Name, uuidText(owner.UUID))
	default:
		return nil
	}
}

// rename gives a machine another name, because libvirt defines no known UUID under a new one.
func (d *Driver) rename(c *conn, dom golibvirt.Domain, name string, back *undo.Stack) error {
	if dom.Name == name {
		return nil
	}
	if _, err := c.DomainRename(dom, golibvirt.OptString{name}, 0); err != nil {
		return classify(err, "machine %q: rename it to %q", dom.Name, name)
	}
	renamed := dom
	renamed.Name = name
	back.Add(func(ctx context.Context) error {
		return d.slow.do(ctx, func(c *conn) error {
			_, err := c.DomainRename(renamed, golibvirt.OptString{dom.Name}, 0)
			return classify(err, "machine %q: rename it back to %q", name, dom.Name)
		})
	})
	return nil
}

// domainEnv gathers what a definition takes from the host.
func (d *Driver) domainEnv(ctx context.Context, s hypervisor.Spec) (domainEnv, error) {
	accel, err := d.acceleration.get(ctx, d.askAcceleration)
	if err != nil {
		return domainEnv{}, err
	}
	env := domainEnv{virtType: accel.virtType, files: d.opts.files(s.UUID), nvram: d.opts.nvram(s.UUID)}
	if s.Arch != hostArch() {
		env.virtType = virtQEMU // another architecture is always emulated
	}
	if s.CPUMillis != 0 || s.CPUPriority != 0 {
		limit, err := d.cpuLimit.get(ctx, d.askCPULimit)
		if err != nil {
			return domainEnv{}, err
		}
		env.limitCPU, env.unified = limit.enforced, hasUnifiedCgroups()
	}
	return env, nil
}

// Undefine implements hypervisor.Driver.
func (d *Driver) Undefine(ctx context.Context, machine string) error {
	err := d.need(ctx, machine, "undefined", isOff)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	err = d.slow.do(ctx, func(c *conn) error {
		dom, err := lookup(c, machine)
		if err != nil {
			return err
		}
		return classify(c.DomainUndefineFlags(dom, golibvirt.DomainUndefineManagedSave|golibvirt.DomainUndefineSnapshotsMetadata|
			golibvirt.DomainUndefineCheckpointsMetadata|golibvirt.DomainUndefineNvram), "machine %q: undefine it", dom.Name)
	})
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	d.tracker.forget(machine)
	// libvirt has removed the UEFI variables of a machine that still had UEFI; those of one that had it before are left.
	nvramErr := os.Remove(d.opts.nvram(machine))
	if errors.Is(nvramErr, fs.ErrNotExist) {
		nvramErr = nil
	}
	return errors.Join(d.opts.files(machine).remove(), fault.As(fault.Internal, nvramErr, "remove the machine's UEFI variables"))
}

// ensureVirtType defines a machine anew if it was made when the host had another acceleration.
func ensureVirtType(c *conn, old *libvirtxml.Domain, env domainEnv) error {
	if old.Type == env.virtType || !isOurs(old) {
		return nil
	}
	env.old = old
	s := parseDomain(old)
	text, err := domainText(s, env)
	if err != nil {
		return err
	}
	return defineText(c, s, text)
}
