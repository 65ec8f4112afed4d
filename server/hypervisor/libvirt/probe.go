package libvirt

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"github.com/google/uuid"
	"libvirt.org/go/libvirtxml"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// Accel chooses how guests are run.
type Accel uint8

// The choices.
const (
	// AccelAuto uses KVM if a probe guest runs with it, and emulates otherwise.
	AccelAuto Accel = iota
	// AccelKVM uses KVM without a probe; a host that cannot makes Start fail.
	AccelKVM
	// AccelTCG emulates the processor, and never touches KVM.
	AccelTCG
)

// libvirt's names of the two ways.
const (
	virtKVM  = "kvm"
	virtQEMU = "qemu"
)

// probePrefix begins the name of every probe guest. They are no machines: List and Watch leave them out.
const probePrefix = "hyperplane-probe-"

// probeLimit is how long a probe guest may take to run through its firmware, which takes well below a second even if emulated.
const probeLimit = 3 * time.Second

func isProbe(name string) bool { return strings.HasPrefix(name, probePrefix) }

// acceleration is how guests are run and why.
type acceleration struct {
	virtType string
	why      string
}

// askAcceleration finds out how guests are run on this host.
func (d *Driver) askAcceleration(ctx context.Context) (acceleration, error) {
	// libvirt examines its emulators when it is first asked for them. That may take seconds, which are not the probe guest's.
	if _, err := d.owner.get(ctx, d.askOwner); err != nil {
		return acceleration{}, err
	}
	a, err := decideAcceleration(ctx, d.opts.Accel, kvmExists, d.probeRuns)
	if err == nil {
		d.opts.Log.LogAttrs(ctx, slog.LevelInfo, "guests will run", slog.String("with", a.virtType), slog.String("why", a.why))
	}
	return a, err
}

// kvmExists reports whether the kernel offers KVM at all. That the device is there, or even opens, does not prove that guests run.
func kvmExists() bool {
	_, err := os.Stat("/dev/kvm")
	return err == nil
}

// decideAcceleration chooses. probe runs a guest of the given virtualisation type, within a time limit of its own; its error is a
// reason against KVM unless it is Unavailable or a context's end, in which case nothing is decided.
func decideAcceleration(ctx context.Context, choice Accel, kvmExists func() bool, probe func(ctx context.Context, virtType string) error) (
	acceleration, error,
) {
	switch {
	case choice == AccelKVM:
		return acceleration{virtKVM, "KVM is configured"}, nil
	case choice == AccelTCG:
		return acceleration{virtQEMU, "emulation is configured"}, nil
	case !kvmExists():
		return acceleration{virtQEMU, "/dev/kvm does not exist, so guests are emulated"}, nil
	}
	err := probe(ctx, virtKVM)
	switch {
	case err == nil:
		return acceleration{virtKVM, "a probe guest ran with KVM"}, nil
	case fault.Is(err, fault.Unavailable), ctx.Err() != nil:
		return acceleration{}, err
	default:
		return acceleration{virtQEMU, fmt.Sprintf("a probe guest did not run with KVM, so guests are emulated: %v", err)}, nil
	}
}

// probeRuns starts a guest without a disk, whose firmware gives up and resets the board at once. libvirt is told to end the guest
// on a reset, so a guest that ends in order has executed its firmware.
func (d *Driver) probeRuns(ctx context.Context, virtType string) error {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	if hostArch() != hypervisor.ArchAMD64 {
		// Other boards' firmware waits for ever. That libvirt accepts the type is all that is known there.
		return d.withProbe(ctx, buildProbe(virtType), golibvirt.DomainStartPaused, nil)
	}
	return d.withProbe(ctx, buildProbe(virtType), 0, awaitOrderlyEnd)
}

func awaitOrderlyEnd(ctx context.Context, events <-chan golibvirt.DomainEventLifecycleMsg, name string) error {
	for {
		select {
		case ev, open := <-events:
			switch {
			case !open:
				return fault.New(fault.Unavailable, "the connection to libvirt was lost while a probe guest ran")
			case ev.Dom.Name != name || golibvirt.DomainEventType(ev.Event) != golibvirt.DomainEventStopped:
				continue
			case golibvirt.DomainEventStoppedDetailType(ev.Detail) == golibvirt.DomainEventStoppedShutdown:
				return nil
			default:
				return fault.New(fault.Internal, "the guest was stopped, libvirt's reason is number %d", ev.Detail)
			}
		case <-ctx.Done():
			return fault.New(fault.DeadlineExceeded, "the guest did not run through its firmware in %s", probeLimit)
		}
	}
}

// withProbe runs a probe guest while f, if not nil, watches. The guest belongs to a connection of its own, with which it ends.
func (d *Driver) withProbe(ctx context.Context, domain *libvirtxml.Domain, flags golibvirt.DomainCreateFlags,
	f func(context.Context, <-chan golibvirt.DomainEventLifecycleMsg, string) error,
) error {
	text, err := domain.Marshal()
	if err != nil {
		return fault.As(fault.Internal, err, "write a probe guest's definition")
	}
	c, err := connect(ctx, d.opts.Socket)
	if err != nil {
		return err
	}
	defer c.close()
	return c.run(ctx, func() error {
		events, unsubscribe, err := subscribe(ctx, c)
		if err != nil {
			return err
		}
		defer unsubscribe()
		_, err = c.DomainCreateXML(text, flags|golibvirt.DomainStartAutodestroy)
		if err != nil || f == nil {
			return classify(err, "start a probe guest")
		}
		return f(ctx, events, domain.Name)
	})
}

// buildProbe is the smallest guest: firmware alone.
func buildProbe(virtType string) *libvirtxml.Domain {
	reboot := 0
	id := uuid.NewString()
	d := &libvirtxml.Domain{
		Type: virtType, Name: probePrefix + id, UUID: id,
		Memory:   &libvirtxml.DomainMemory{Value: 16, Unit: "MiB"},
		VCPU:     &libvirtxml.DomainVCPU{Value: 1},
		OS:       &libvirtxml.DomainOS{Type: &libvirtxml.DomainOSType{Arch: archName(hostArch()), Machine: "pc", Type: "hvm"}},
		OnReboot: "destroy",
		Devices: &libvirtxml.DomainDeviceList{
			Controllers: []libvirtxml.DomainController{{Type: "usb", Model: "none"}},
			MemBalloon:  &libvirtxml.DomainMemBalloon{Model: "none"},
		},
	}
	if hostArch() == hypervisor.ArchAMD64 {
		d.OS.BootDevices = []libvirtxml.DomainBootDevice{{Dev: "hd"}}
		d.OS.BIOS = &libvirtxml.DomainBIOS{RebootTimeout: &reboot}
	} else {
		d.OS.Type.Machine = "virt"
	}
	return d
}

// cpuLimit says whether the host enforces CPUMillis and CPUPriority, and if not, why.
type cpuLimit struct {
	enforced bool
	why      string
}

// askCPULimit finds out by starting a guest with a limit, paused: libvirt says what it cannot do only then.
func (d *Driver) askCPULimit(ctx context.Context) (cpuLimit, error) {
	probe := buildProbe(virtQEMU)
	probe.CPUTune = buildQuota(1000)
	err := d.withProbe(ctx, probe, golibvirt.DomainStartPaused, nil)
	switch {
	case err == nil:
		return cpuLimit{enforced: true}, nil
	case isLibvirtError(err):
		d.opts.Log.LogAttrs(ctx, slog.LevelWarn, "limits and priorities of machines' CPU use are not enforced", slog.Any("error", err))
		return cpuLimit{why: err.Error()}, nil
	default:
		return cpuLimit{}, err
	}
}
