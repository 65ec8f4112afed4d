package libvirt

import (
	"context"
	"encoding/xml"
	"errors"
	"io/fs"
	"os"
	"slices"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// Changes of a live machine's devices are made in its definition too.
const liveAndDefinition = uint32(golibvirt.DomainDeviceModifyLive | golibvirt.DomainDeviceModifyConfig)

// live is a machine that is alive, as libvirt describes it.
type live struct {
	c   *conn
	dom golibvirt.Domain
	xml *libvirtxml.Domain
	// text is what xml was read from.
	text string
}

// withLive calls f for a machine that is Running or Paused. what completes "cannot be …".
func (d *Driver) withLive(ctx context.Context, machine, what string, f func(live) error) error {
	if err := d.need(ctx, machine, what, adjustable); err != nil {
		return err
	}
	return d.slow.do(ctx, func(c *conn) error {
		l, err := readLive(c, machine)
		if err != nil {
			return err
		}
		return fault.Wrap(f(l), "machine %q", l.dom.Name)
	})
}

func readLive(c *conn, machine string) (live, error) {
	dom, err := lookup(c, machine)
	if err != nil {
		return live{}, err
	}
	l := live{c: c, dom: dom, xml: &libvirtxml.Domain{}}
	if l.text, err = c.DomainGetXMLDesc(dom, 0); err != nil {
		return live{}, classify(err, "machine %q: read its description", dom.Name)
	}
	return l, fault.As(fault.Internal, l.xml.Unmarshal(l.text), "machine %q: understand its description", dom.Name)
}

// disks are the machine's disks in files, CD-ROMs among them, in the order of its Spec.
func (l live) disks() []libvirtxml.DomainDisk { return fileDisks(l.xml) }

func fileDisks(d *libvirtxml.Domain) []libvirtxml.DomainDisk {
	if d.Devices == nil {
		return nil
	}
	disks := slices.DeleteFunc(slices.Clone(d.Devices.Disks), func(disk libvirtxml.DomainDisk) bool { return fileOf(disk) == "" || disk.Target == nil })
	slices.SortStableFunc(disks, func(a, b libvirtxml.DomainDisk) int { return diskPlace(a) - diskPlace(b) })
	return disks
}

func fileOf(d libvirtxml.DomainDisk) string {
	if d.Source == nil || d.Source.File == nil {
		return ""
	}
	return d.Source.File.File
}

// disk finds a disk by its file.
func (l live) disk(file string) (libvirtxml.DomainDisk, error) {
	for _, d := range l.disks() {
		if fileOf(d) == file {
			return d, nil
		}
	}
	return libvirtxml.DomainDisk{}, fault.New(fault.NotFound, "has no disk %s", file)
}

// AttachDisk implements hypervisor.LiveDisks.
func (d *Driver) AttachDisk(ctx context.Context, machine string, disk hypervisor.Disk) error {
	return d.withLive(ctx, machine, "given a disk", func(l live) error {
		if err := parseDomain(l.xml).CheckAttach(disk); err != nil {
			return err
		}
		if _, err := os.Stat(disk.File); errors.Is(err, fs.ErrNotExist) {
			return fault.New(fault.FailedPrecondition, "disk %s does not exist", disk.File)
		}
		if err := l.makeRoom(disk); err != nil {
			return err
		}
		wish, err := l.newDisk(disk)
		if err != nil {
			return err
		}
		return l.attach(wish, "attach "+disk.File)
	})
}

// newDisk describes a further disk, behind those that are there.
func (l live) newDisk(disk hypervisor.Disk) (libvirtxml.DomainDisk, error) {
	prefix, err := targetPrefix(disk.Bus)
	if err != nil {
		return libvirtxml.DomainDisk{}, err
	}
	taken, place := make(map[string]bool), 0
	for _, d := range l.xml.Devices.Disks {
		if p := diskPlace(d); p < noPlace {
			place = max(place, p+1)
		}
		if d.Target != nil {
			taken[d.Target.Dev] = true
		}
	}
	letter := 0
	for taken[prefix+driveLetters(letter)] {
		letter++
	}
	return describeDisk(disk, prefix+driveLetters(letter), place), nil
}

// makeRoom makes sure of a place for the disk on the board.
func (l live) makeRoom(disk hypervisor.Disk) error {
	if disk.Bus == hypervisor.BusSCSI {
		return l.ensureSCSI()
	}
	free, limited, err := freePorts(l.text)
	if err == nil && limited && free == 0 {
		err = fault.New(fault.FailedPrecondition, "the board has no free port for a further disk; a restart gives it %d", sparePorts)
	}
	return err
}

// ensureSCSI makes sure of a controller for SCSI disks; libvirt by itself would add one of a kind that guests may not know.
func (l live) ensureSCSI() error {
	for _, c := range l.xml.Devices.Controllers {
		if c.Type == "scsi" && c.Model == "virtio-scsi" {
			return nil
		}
	}
	return l.attach(libvirtxml.DomainController{Type: "scsi", Model: "virtio-scsi", Index: new(uint(0))}, "attach a SCSI controller")
}

func (l live) attach(device any, what string) error {
	text, err := xml.Marshal(device)
	if err != nil {
		return fault.As(fault.Internal, err, "%s", what)
	}
	err = l.c.DomainAttachDeviceFlags(l.dom, string(text), liveAndDefinition)
	return classify(err, "%s", what)
}

// ResizeDisk implements hypervisor.LiveDisks. libvirt would also make a disk smaller that a guest is using.
func (d *Driver) ResizeDisk(ctx context.Context, machine, file string, size uint64) error {
	if size == 0 || size%hypervisor.SectorSize != 0 {
		return fault.New(fault.InvalidArgument, "disk %s: %d bytes are no multiple of %d", file, size, hypervisor.SectorSize)
	}
	return d.withLive(ctx, machine, "given larger disks", func(l live) error {
		disk, err := l.disk(file)
		if err != nil {
			return err
		}
		if err := (hypervisor.Disk{File: file, Bus: busOf(l.xml, disk)}).CheckGrow(); err != nil {
			return err
		}
		_, now, _, err := l.c.DomainGetBlockInfo(l.dom, disk.Target.Dev, 0)
		switch {
		case err != nil:
			return classify(err, "disk %s: ask for its size", file)
		case size < now:
			return fault.New(fault.InvalidArgument, "disk %s: has %d bytes and cannot shrink to %d while it is used", file, now, size)
		case size == now:
			return nil
		}
		return classify(l.c.DomainBlockResize(l.dom, disk.Target.Dev, size, golibvirt.DomainBlockResizeBytes), "disk %s: resize it to %d bytes", file, size)
	})
}
