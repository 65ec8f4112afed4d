package libvirt

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// arrival is a hypervisor.Arrival.
type arrival struct {
	driver *Driver
	c      *conn
	uuid   string
	name   string
	files  machineFiles
	answer []byte
	ended  bool
	// abandon ends the machine whoever waits.
	abandon func() error
}

// Arrive implements hypervisor.Migration.
func (d *Driver) Arrive(ctx context.Context, spec hypervisor.Spec, o hypervisor.Offer) (hypervisor.Arrival, error) {
	s, err := spec.Resolve(hostArch())
	if err != nil {
		return nil, err
	}
	coming := new(libvirtxml.Domain)
	if err := coming.Unmarshal(string(o.Description)); err != nil {
		return nil, fault.As(fault.InvalidArgument, err, "machine %q: understand its description", s.Name)
	}
	if coming.UUID != s.UUID {
		return nil, fault.New(fault.InvalidArgument, "machine %q: the description is that of %s", s.Name, coming.UUID)
	}
	if err := checkFiles(s); err != nil {
		return nil, err
	}
	incoming, err := d.defineArriving(ctx, s, coming)
	if err != nil {
		return nil, err
	}
	c, err := d.connectAlone(ctx)
	if err != nil {
		return nil, err
	}
	a := &arrival{driver: d, c: c, uuid: s.UUID, name: s.Name, files: d.opts.files(s.UUID)}
	a.abandon = func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), migrateStep)
		defer cancel()
		return a.giveUp(ctx)
	}
	if err := c.run(ctx, func() error { return a.prepare(incoming, o.Cookie) }); err != nil {
		return nil, errors.Join(classify(err, "machine %q: prepare for it", s.Name), a.Close())
	}
	return a, nil
}

// defineArriving defines the machine as it will be at its next start, and describes it as it is to come.
func (d *Driver) defineArriving(ctx context.Context, s hypervisor.Spec, coming *libvirtxml.Domain) (incoming string, err error) {
	env, err := d.domainEnv(ctx, s)
	if err != nil {
		return "", err
	}
	if env.virtType != coming.Type {
		return "", fault.New(fault.FailedPrecondition, "machine %q: its guest runs by %s, and this host has %s", s.Name, coming.Type, env.virtType)
	}
	who, err := d.owner.get(ctx, d.askOwner)
	if err != nil {
		return "", err
	}
	env.old = coming // it keeps the version of its board
	text, incoming, err := describeArriving(s, env, coming)
	if err != nil {
		return "", fault.Wrap(err, "machine %q", s.Name)
	}
	err = d.slow.do(ctx, func(c *conn) error {
		if err := checkNameFree(c, s); err != nil {
			return err
		}
		if _, err := lookup(c, s.UUID); err == nil {
			return fault.New(fault.AlreadyExists, "machine %q is on this host", s.Name)
		}
		return defineText(c, s, text)
	})
	if err != nil {
		return "", err
	}
	if err := env.files.prepare(who); err != nil {
		return "", fault.Wrap(err, "machine %q", s.Name)
	}
	_, _, err = d.see(ctx, s.UUID, nil)
	return incoming, err
}

// describeArriving describes the machine for its next start and as it is to come.
func describeArriving(s hypervisor.Spec, env domainEnv, coming *libvirtxml.Domain) (next, incoming string, err error) {
	later, err := buildDomain(s, env)
	if err != nil {
		return "", "", err
	}
	here, err := buildDomain(s, env)
	if err != nil {
		return "", "", err
	}
	if err := graft(here, coming); err != nil {
		return "", "", err
	}
	if here.OS.Loader != nil {
		if _, err := os.Stat(here.OS.Loader.Path); err != nil {
			return "", "", fault.As(fault.FailedPrecondition, err, "this host lacks the firmware that it was started with")
		}
	}
	nameDisks(later, coming)
	if next, err = later.Marshal(); err == nil {
		incoming, err = here.Marshal()
	}
	return next, incoming, fault.As(fault.Internal, err, "write its description")
}

// prepare has libvirtd start QEMU, which waits for the machine.
func (a *arrival) prepare(text string, cookie []byte) (err error) {
	a.driver.tracker.note(a.uuid, func(r *run) { *r = run{killed: true} }) // until it runs nobody misses it
	params := append(a.files.uris(), textParam(golibvirt.MigrateParamDestXML, text), textParam(golibvirt.MigrateParamDestName, a.name))
	a.answer, _, err = a.c.DomainMigratePrepare3Params(params, cookie, uint32(migrateFlags))
	if isNumber(err, golibvirt.ErrOperationFailed) || isNumber(err, golibvirt.ErrNoNetwork) || isNumber(err, golibvirt.ErrCPUIncompatible) {
		return fault.As(fault.FailedPrecondition, err, "this host can not take it")
	}
	return err
}

// Answer implements hypervisor.Arrival.
func (a *arrival) Answer() []byte { return a.answer }

// Connect implements hypervisor.Arrival.
func (a *arrival) Connect(ctx context.Context, s hypervisor.Stream) (io.ReadWriteCloser, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", a.files.socketOf(s))
	return conn, classify(err, "machine %q: connect to its emulator", a.name)
}

// Finish implements hypervisor.Arrival.
func (a *arrival) Finish(ctx context.Context, result []byte) (hypervisor.MigrationFigures, error) {
	if a.ended {
		return hypervisor.MigrationFigures{}, fault.New(fault.FailedPrecondition, "machine %q: has been let go", a.name)
	}
	a.ended = true
	err := a.finish(ctx, result, 0)
	a.c.close()
	if err != nil {
		if runs, endErr := a.endUnlessRunning(ctx); endErr != nil {
			return hypervisor.MigrationFigures{}, fault.As(fault.Unavailable, errors.Join(hypervisor.ErrOutcomeUnknown, err, endErr), "machine %q", a.name)
		} else if !runs {
			return hypervisor.MigrationFigures{}, classify(err, "machine %q: let it run", a.name)
		}
	}
	ctx = context.WithoutCancel(ctx)
	a.driver.tracker.note(a.uuid, func(r *run) { *r = run{} })
	if _, _, err := a.driver.see(ctx, a.uuid, nil); err != nil {
		a.driver.opts.Log.LogAttrs(ctx, slog.LevelWarn, "state of a machine that has come", slog.String("machine", a.uuid), slog.Any("error", err))
	}
	if err := a.files.removeSockets(); err != nil {
		a.driver.opts.Log.LogAttrs(ctx, slog.LevelWarn, "sockets of a migration not removed", slog.String("machine", a.uuid), slog.Any("error", err))
	}
	return a.figures(ctx), nil
}

// endUnlessRunning makes sure of what has become of a machine when libvirtd's answer was bad or lost. libvirtd may be restarting.
func (a *arrival) endUnlessRunning(ctx context.Context) (runs bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), migrateStep)
	defer cancel()
	for {
		state, _, err := a.driver.see(ctx, a.uuid, nil)
		if err == nil && state == hypervisor.Running {
			return true, nil
		}
		if err == nil {
			err = a.driver.Kill(ctx, a.uuid)
		}
		if err == nil || fault.Is(err, fault.NotFound) {
			return false, nil
		}
		if pause(ctx, progressEvery) != nil {
			return false, err
		}
	}
}

func (a *arrival) finish(ctx context.Context, result []byte, cancelled int32) error {
	return toEnd(ctx, a.c, func() error {
		params := append(a.files.uris(), textParam(golibvirt.MigrateParamDestName, a.name))
		_, _, err := a.c.DomainMigrateFinish3Params(params, result, uint32(migrateFlags), cancelled)
		return err
	})
}

// figures asks libvirtd how the move was. It may not know.
func (a *arrival) figures(ctx context.Context) (f hypervisor.MigrationFigures) {
	_ = a.driver.queries.do(ctx, func(c *conn) error {
		dom, err := lookup(c, a.uuid)
		if err != nil {
			return err
		}
		_, figures, err := c.DomainGetJobStats(dom, golibvirt.DomainJobStatsCompleted)
		f.Downtime = time.Duration(jobNumber(figures, "downtime")) * time.Millisecond
		f.Total = time.Duration(jobNumber(figures, "time_elapsed")) * time.Millisecond
		return err
	})
	return f
}

// Close implements hypervisor.Arrival. libvirtd ends an incoming machine itself when its connection is closed; Kill is for the case that this takes its time.
func (a *arrival) Close() error {
	if a.ended {
		return nil
	}
	a.ended = true
	return a.abandon()
}

func (a *arrival) giveUp(ctx context.Context) error {
	if a.c.usable() && a.answer != nil {
		_ = a.finish(ctx, nil, 1) // Kill says whether it helped
	}
	a.c.close()
	err := a.driver.Kill(ctx, a.uuid)
	if fault.Is(err, fault.NotFound) {
		err = nil
	}
	return errors.Join(err, a.files.removeSockets())
}
