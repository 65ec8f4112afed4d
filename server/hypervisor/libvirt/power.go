package libvirt

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// startGrace is how long a start that was cancelled may take to finish, so that it can be taken back.
const startGrace = 10 * time.Second

// Start implements hypervisor.Driver. If ctx ends while the machine is being started, it is killed again before Start returns.
func (d *Driver) Start(ctx context.Context, machine string) error {
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
	err = d.slow.do(callCtx, func(c *conn) error { return d.start(ctx, c, machine, who) })
	if ctx.Err() != nil {
		return errors.Join(classify(ctx.Err(), "machine %s: start", machine), d.takeBack(ctx, machine))
	}
	_, _, seeErr := d.see(ctx, machine, nil)
	return errors.Join(err, seeErr)
}

func (d *Driver) start(ctx context.Context, c *conn, machine string, who owner) error {
	dom, err := lookup(c, machine)
	if err != nil {
		return err
	}
	def, err := definition(c, dom)
	if err != nil {
		return err
	}
	spec := parseDomain(def)
	if err := checkFiles(spec); err != nil {
		return err
	}
	env, err := d.domainEnv(ctx, spec)
	if err != nil {
		return err
	}
	if err := ensureVirtType(c, def, env); err != nil {
		return err
	}
	if err := env.files.prepare(who); err != nil {
		return fault.Wrap(err, "machine %q", dom.Name)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	d.tracker.note(machine, func(r *run) { *r = run{} })
	err = c.DomainCreate(dom)
	if isNumber(err, golibvirt.ErrNoNetwork) { // the machine is there: what is missing is a precondition
		return fault.As(fault.FailedPrecondition, err, "machine %q cannot start", dom.Name)
	}
	return classify(err, "machine %q: start it", dom.Name)
}

// checkFiles reports which file a machine lacks. libvirt's own error for that has no number of its own.
func checkFiles(s hypervisor.Spec) error {
	files := []string{s.Kernel, s.Initrd}
	for _, disk := range s.Disks {
		files = append(files, disk.File)
	}
	for _, file := range files {
		if file == "" {
			continue
		}
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			return fault.New(fault.FailedPrecondition, "machine %q cannot start: file %s does not exist", s.Name, file)
		}
	}
	return nil
}

// linger returns a context that ends startGrace after ctx does.
func linger(ctx context.Context) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(startGrace, cancel)
		context.AfterFunc(longer, func() { timer.Stop() })
	})
	return longer, func() {
		stop()
		cancel()
	}
}

// takeBack kills a machine whose start was cancelled.
func (d *Driver) takeBack(ctx context.Context, machine string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startGrace)
	defer cancel()
	return d.Kill(ctx, machine)
}

// Shutdown implements hypervisor.Driver.
func (d *Driver) Shutdown(ctx context.Context, machine string) error {
	if err := d.need(ctx, machine, "shut down", listens); err != nil {
		return err
	}
	d.tracker.note(machine, func(r *run) { r.asked = true })
	err := d.control(ctx, machine, "shut it down", func(c *conn, dom golibvirt.Domain) error {
		return c.DomainShutdownFlags(dom, golibvirt.DomainShutdownAcpiPowerBtn)
	})
	if err != nil {
		d.tracker.note(machine, func(r *run) { r.asked = false })
	}
	return d.afterwards(ctx, machine, err)
}

// Kill implements hypervisor.Driver.
func (d *Driver) Kill(ctx context.Context, machine string) error {
	state, _, err := d.see(ctx, machine, nil)
	if err != nil || !state.Alive() {
		return err
	}
	d.tracker.note(machine, func(r *run) { r.killed = true })
	err = d.control(ctx, machine, "kill it", func(c *conn, dom golibvirt.Domain) error {
		return c.DomainDestroyFlags(dom, golibvirt.DomainDestroyDefault)
	})
	state, _, seeErr := d.see(ctx, machine, nil)
	switch {
	case err == nil:
		return seeErr
	case seeErr == nil && !state.Alive():
		return nil // it ended by itself meanwhile, or libvirtd's answer was lost
	default:
		d.tracker.note(machine, func(r *run) { r.killed = false })
		return err
	}
}

// Reboot implements hypervisor.Driver. A guest that does not listen ignores it.
func (d *Driver) Reboot(ctx context.Context, machine string) error {
	return d.restart(ctx, machine, "reboot it", func(c *conn, dom golibvirt.Domain) error {
		return c.DomainReboot(dom, golibvirt.DomainRebootAcpiPowerBtn)
	})
}

// Reset implements hypervisor.Driver.
func (d *Driver) Reset(ctx context.Context, machine string) error {
	return d.restart(ctx, machine, "reset it", func(c *conn, dom golibvirt.Domain) error { return c.DomainReset(dom, 0) })
}

// restart does what makes the guest begin anew; a wish to power off is forgotten.
func (d *Driver) restart(ctx context.Context, machine, what string, call func(*conn, golibvirt.Domain) error) error {
	if err := d.need(ctx, machine, "restarted", listens); err != nil {
		return err
	}
	err := d.control(ctx, machine, what, call)
	if err == nil {
		d.tracker.note(machine, func(r *run) { r.asked = false })
	}
	return d.afterwards(ctx, machine, err)
}

// control calls libvirt for one machine.
func (d *Driver) control(ctx context.Context, machine, what string, call func(*conn, golibvirt.Domain) error) error {
	return d.slow.do(ctx, func(c *conn) error {
		dom, err := lookup(c, machine)
		if err != nil {
			return err
		}
		return classify(call(c, dom), "machine %q: %s", dom.Name, what)
	})
}

// afterwards makes what a call did seen by Get and Watch at once.
func (d *Driver) afterwards(ctx context.Context, machine string, err error) error {
	if _, _, seeErr := d.see(ctx, machine, nil); err == nil {
		return seeErr
	}
	return err
}
