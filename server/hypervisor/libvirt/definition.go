package libvirt

import (
	"context"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// Definition implements hypervisor.Definitions: the domain's XML.
func (d *Driver) Definition(ctx context.Context, machine string) (text []byte, err error) {
	err = d.queries.do(ctx, func(c *conn) error {
		dom, err := lookup(c, machine)
		if err != nil {
			return err
		}
		xml, err := c.DomainGetXMLDesc(dom, golibvirt.DomainXMLInactive|golibvirt.DomainXMLSecure)
		text = []byte(xml)
		return classify(err, "machine %q: read its definition", dom.Name)
	})
	return text, err
}

// Redefine implements hypervisor.Definitions.
func (d *Driver) Redefine(ctx context.Context, text []byte, files []string) error {
	x := new(libvirtxml.Domain)
	if err := x.Unmarshal(string(text)); err != nil {
		return fault.As(fault.InvalidArgument, err, "definition")
	}
	if err := replaceFiles(x, files); err != nil {
		return fault.Wrap(err, "definition of machine %q", x.Name)
	}
	changed, err := x.Marshal()
	if err != nil {
		return fault.As(fault.Internal, err, "definition of machine %q", x.Name)
	}
	err = d.slow.do(ctx, func(c *conn) error {
		if _, err := lookup(c, x.UUID); err == nil {
			return fault.New(fault.AlreadyExists, "machine %q: one with its UUID %s is defined", x.Name, x.UUID)
		}
		_, err := c.DomainDefineXMLFlags(changed, 0)
		return classify(err, "machine %q: define it", x.Name)
	})
	if err != nil {
		return err
	}
	_, _, err = d.see(ctx, x.UUID, nil)
	return err
}

// replaceFiles gives the disks of a domain other files.
func replaceFiles(x *libvirtxml.Domain, files []string) error {
	var disks []*libvirtxml.DomainDisk
	if x.Devices != nil {
		for i := range x.Devices.Disks {
			if d := &x.Devices.Disks[i]; d.Device == "" || d.Device == "disk" {
				disks = append(disks, d)
			}
		}
	}
	if len(disks) != len(files) {
		return fault.New(fault.InvalidArgument, "it has %d disks, not %d", len(disks), len(files))
	}
	for i, d := range disks {
		d.Source = &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: files[i]}}
		d.BackingStore = nil
	}
	return nil
}
