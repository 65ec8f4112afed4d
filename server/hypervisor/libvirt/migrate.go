package libvirt

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// A migration is libvirt's "managed direct" one, version 3 of its protocol: Begin, Prepare, Perform, Finish, Confirm
// (https://libvirt.org/migration.html and virDomainMigrateVersion3Full in libvirt's src/libvirt-domain.c). The two libvirtd never meet. QEMU's streams use
// Unix sockets in the machine's folder; what lies between those of the two hosts is the caller's.
//
// Each side keeps one connection to libvirtd from its first call to its last. If it is lost, libvirtd itself takes back what can be taken back: it ends the
// incoming machine, and ends an outgoing migration that has not been performed.

// migrateFlags are the same in all calls. The definition at the destination is made by ourselves, and the one at the source stays until the machine is undefined.
// A guest that changes its memory faster than it can be sent is slowed down.
const migrateFlags = golibvirt.MigrateLive | golibvirt.MigrateNonSharedDisk | golibvirt.MigrateChangeProtection | golibvirt.MigrateAutoConverge

const (
	// migrateStep is how long libvirtd may take for a call that only begins or ends something, when nobody waits for it any more.
	migrateStep = time.Minute
	// progressEvery is how often the progress is asked for.
	progressEvery = time.Second
)

func textParam(name, value string) golibvirt.TypedParam {
	return golibvirt.TypedParam{Field: name, Value: *golibvirt.NewTypedParamValueString(value)}
}

// uris are the sockets' places as libvirt wants them.
func (f machineFiles) uris() []golibvirt.TypedParam {
	return []golibvirt.TypedParam{
		textParam(golibvirt.MigrateParamURI, "unix://"+f.memory()), textParam(golibvirt.MigrateParamDisksURI, "unix://"+f.disks()),
	}
}

func (f machineFiles) socketOf(s hypervisor.Stream) string {
	if s == hypervisor.StorageStream {
		return f.disks()
	}
	return f.memory()
}

// removeSockets removes what a migration leaves in the machine's folder.
func (f machineFiles) removeSockets() error {
	return errors.Join(removeFile(f.memory()), removeFile(f.disks()))
}

// connectAlone makes a connection for one migration.
func (d *Driver) connectAlone(ctx context.Context) (*conn, error) {
	if d.queries.isClosed() {
		return nil, errClosed()
	}
	return connect(ctx, d.opts.Socket)
}

// toEnd makes a call that must be brought to its end even if its caller has gone.
func toEnd(ctx context.Context, c *conn, f func() error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), migrateStep)
	defer cancel()
	return c.run(ctx, f)
}

// checkMovable refuses machines that can not be moved while they run.
func (l live) checkMovable() error {
	if !isOurs(l.xml) {
		return fault.New(fault.Unimplemented, "was not made by this driver and is not moved while it runs")
	}
	s := parseDomain(l.xml)
	if s.Kernel != "" {
		return fault.New(fault.Unimplemented, "boots from a kernel of its host and is not moved while it runs")
	}
	if err := s.CheckState(); err != nil {
		return err
	}
	for _, d := range l.xml.Devices.Disks {
		switch {
		case d.Mirror != nil:
			return fault.New(fault.FailedPrecondition, "disk %s is being copied", fileOf(d))
		case d.Device == "cdrom" || d.ReadOnly != nil:
		case fileOf(d) == "":
			return fault.New(fault.Unimplemented, "has a disk that is no file and is not moved while it runs")
		case d.BackingStore != nil && d.BackingStore.Format != nil:
			return fault.New(fault.FailedPrecondition, "disk %s lies over another file; merge it first", fileOf(d))
		}
	}
	return nil
}

// diskSizes asks for the sizes that the guest sees.
func (l live) diskSizes() (sizes []uint64, err error) {
	for _, d := range l.disks() {
		if d.Device == "cdrom" || d.ReadOnly != nil {
			continue
		}
		_, size, _, err := l.c.DomainGetBlockInfo(l.dom, d.Target.Dev, 0)
		if err != nil {
			return nil, classify(err, "disk %s: ask for its size", fileOf(d))
		}
		sizes = append(sizes, size)
	}
	return sizes, nil
}

// jobNumber finds a figure in what DomainGetJobStats said.
func jobNumber(params []golibvirt.TypedParam, name string) uint64 {
	i := slices.IndexFunc(params, func(p golibvirt.TypedParam) bool { return p.Field == name })
	if i < 0 {
		return 0
	}
	n, _ := params[i].Value.I.(uint64)
	return n
}

// Continue implements hypervisor.Migration.
func (d *Driver) Continue(ctx context.Context, machine string) error {
	state, _, err := d.see(ctx, machine, nil)
	if err != nil || state == hypervisor.Running {
		return err
	}
	if state != hypervisor.Paused {
		return fault.New(fault.FailedPrecondition, "machine %s is %s and cannot be continued", machine, state)
	}
	err = d.control(ctx, machine, "continue it", func(c *conn, dom golibvirt.Domain) error { return c.DomainResume(dom) })
	return d.afterwards(ctx, machine, err)
}

// giveSocket lets QEMU's user connect to a socket.
func giveSocket(path string, who owner) error {
	if err := os.Chmod(path, 0o600); err != nil {
		return fault.As(fault.Internal, err, "socket for a migration")
	}
	if !who.known {
		return nil
	}
	return fault.As(fault.Internal, os.Chown(path, who.uid, who.gid), "socket for a migration")
}
