// Package libvirt implements hypervisor.Driver on libvirt's QEMU driver, through libvirtd's Unix socket: no C library, no virsh, no shell.
//
// libvirtd must be of the same host: disks, sockets and logs are found by their paths, though the two may be in different mount or
// network namespaces as long as those paths mean the same in both. Names, states and definitions are libvirt's; the driver keeps only
// what libvirt cannot say (see memory). Nothing of owners, tags or jobs belongs here.
//
// # How it maps
//
// A machine is a persistent domain, found by its UUID. A network is a libvirt network with a dnsmasq that leases to known hosts only.
// Serial port 0 is a Unix socket, with a log that virtlogd keeps; the display is VNC on a Unix socket. Both lie in RunDir/UUID.
//
// CPUMillis is a quota on the machine's whole cgroup, CPUPriority its shares. Where the host lets libvirt use no cpu controller both are kept
// with the machine but not enforced: Host says so, and a warning is logged once. A machine grows by processors that its board has from the start,
// and by memory modules, never by its balloon: a guest without a balloon driver would have all the memory that it may grow to from the start.
//
// A disk on the NVMe bus is one of the virtio bus to libvirt; its definition replaces the device in QEMU's command line (see nvme.go).
//
// Disks come and go over PCI: a board with PCI Express has root ports for eight disks more than it starts with, one of type pc as many as its bus has places. What a
// guest wrote while its disks were redirected survives a crash: the definition names the overlays until MergeDisks, which needs qemu-img for a machine that is off.
//
// A state Crashed means: QEMU died, or was ended by a signal or through another libvirt client. What happened while no driver was
// connected is judged by the reason that libvirt keeps, which it forgets itself when libvirtd is restarted.
package libvirt

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/keylock"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// Defaults of Options.
const (
	DefaultSocket   = "/run/libvirt/libvirt-sock"
	DefaultNVRAMDir = "/var/lib/libvirt/qemu/nvram"
)

// Connections to libvirtd that may be in use at once, besides the one for events and one for each serial port and display.
const (
	queryConnections = 8 // calls that only ask
	slowConnections  = 8 // calls that change something and may take seconds
)

// maxSocketPath is what sun_path of unix(7) holds, without the final NUL.
const maxSocketPath = 107

// Options say how to reach libvirt and where to keep a machine's files.
type Options struct {
	// Socket is libvirtd's Unix socket; empty = DefaultSocket. In a libvirt URI it stands at qemu+unix:///system?socket=SOCKET.
	Socket string
	// RunDir gets a folder for each machine that was started, with its sockets and serial log. It must be writable, the same for
	// libvirtd, and short: a socket's path in it has at most 107 bytes. It may be emptied when the host boots.
	RunDir string
	// NVRAMDir is where libvirt keeps UEFI variables; empty = DefaultNVRAMDir.
	NVRAMDir string
	// Accel chooses between KVM and emulation; the zero value finds out.
	Accel Accel
	// Log gets what an operator should know. It must not be nil.
	Log *slog.Logger
	// Now is the time; nil = time.Now.
	Now func() time.Time
}

// Driver is a hypervisor.Driver. Make one with Open. One at a time should be open on a host, because a guest's serial port takes one
// connection; machines are safe with several.
type Driver struct {
	opts    Options
	queries *pool
	slow    *pool
	tracker *tracker
	// refresh orders the observations of one machine, by UUID.
	refresh keylock.Map[string]
	// networks orders the changes of one network, by name.
	networks keylock.Map[string]
	serials  serials
	// displays are the connections to VNC servers.
	displays connections

	acceleration once[acceleration]
	cpuLimit     once[cpuLimit]
	owner        once[owner]

	stop    context.CancelFunc // ends the event loop
	loop    sync.WaitGroup
	closing sync.Once
}

var _ hypervisor.Driver = (*Driver)(nil)

// Open makes a driver and begins to connect. It does not wait for libvirtd: calls fail with Unavailable until it answers.
// ctx gives the values that log handlers see; the driver lives until Close.
func Open(ctx context.Context, opts Options) (*Driver, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	// Others may pass through, because QEMU may run as another user, but not look around.
	if err := os.MkdirAll(opts.RunDir, 0o711); err != nil { //nolint:gosec // see above
		return nil, fault.As(fault.Internal, err, "make the run directory")
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	d := &Driver{
		opts:    opts,
		queries: newPool(opts.Socket, queryConnections),
		slow:    newPool(opts.Socket, slowConnections),
		tracker: newTracker(opts.Now),
		stop:    stop,
	}
	d.loop.Go(func() { d.followEvents(ctx) })
	return d, nil
}

func (o Options) withDefaults() (Options, error) {
	if o.Socket == "" {
		o.Socket = DefaultSocket
	}
	if o.NVRAMDir == "" {
		o.NVRAMDir = DefaultNVRAMDir
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		return o, fault.New(fault.InvalidArgument, "libvirt driver: Log is missing")
	}
	if o.Accel > AccelTCG {
		return o, fault.New(fault.InvalidArgument, "libvirt driver: acceleration %d is unknown", o.Accel)
	}
	if !filepath.IsAbs(o.RunDir) || !filepath.IsAbs(o.NVRAMDir) {
		return o, fault.New(fault.InvalidArgument, "libvirt driver: run directory %q or NVRAM directory %q is not absolute", o.RunDir, o.NVRAMDir)
	}
	longest := o.files("00000000-0000-0000-0000-000000000000").serial()
	if len(longest) > maxSocketPath {
		return o, fault.New(fault.InvalidArgument, "libvirt driver: run directory %q is too long by %d bytes for the sockets in it",
			o.RunDir, len(longest)-maxSocketPath)
	}
	return o, nil
}

// Watch implements hypervisor.Driver.
func (d *Driver) Watch(ctx context.Context) (<-chan hypervisor.Event, error) {
	if err := ctx.Err(); err != nil {
		return nil, classify(err, "watch")
	}
	if d.queries.isClosed() {
		return nil, errClosed()
	}
	return d.tracker.hub.Subscribe(ctx), nil
}

// Close ends the driver's connections. Calls under way fail; machines and networks live on.
func (d *Driver) Close() error {
	d.closing.Do(func() {
		d.stop()
		d.queries.close()
		d.slow.close()
		d.loop.Wait()
		d.serials.close()
		d.displays.close()
		d.tracker.hub.Close()
	})
	return nil
}

// hostArch is the architecture of the host, which is where this program runs.
func hostArch() hypervisor.Arch {
	if runtime.GOARCH == "arm64" {
		return hypervisor.ArchARM64
	}
	return hypervisor.ArchAMD64
}

// once keeps the first good answer to a question.
type once[T any] struct {
	lock  keylock.Map[struct{}]
	asked bool
	value T
}

// get returns the kept answer, or asks and keeps it. Callers wait for one who asks, as long as their context allows.
func (o *once[T]) get(ctx context.Context, ask func(context.Context) (T, error)) (T, error) {
	unlock, err := o.lock.Lock(ctx, struct{}{})
	if err != nil {
		var none T
		return none, classify(err, "waiting for the host's description")
	}
	defer unlock()
	if o.asked {
		return o.value, nil
	}
	o.value, err = ask(ctx)
	o.asked = err == nil
	return o.value, err
}
