package libvirt

import (
	"context"
	"strings"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// ListInterfaces implements hypervisor.DomainInterfaces.
func (d *Driver) ListInterfaces(ctx context.Context, machine string) (all []hypervisor.DomainInterface, err error) {
	err = d.queries.do(ctx, func(c *conn) error {
		dom, err := lookup(c, machine)
		if err != nil {
			return err
		}
		x, err := readXML(c, dom, 0)
		if err == nil {
			all = describeInterfaces(x)
		}
		return err
	})
	return all, err
}

func describeInterfaces(x *libvirtxml.Domain) (all []hypervisor.DomainInterface) {
	if x.Devices == nil {
		return nil
	}
	for _, i := range x.Devices.Interfaces {
		var nic hypervisor.DomainInterface
		if i.MAC != nil {
			nic.MAC = i.MAC.Address
		}
		if i.Model != nil {
			nic.Model = i.Model.Type
		}
		if i.Target != nil {
			nic.Device = i.Target.Dev
		}
		describeSource(i.Source, &nic)
		all = append(all, nic)
	}
	return all
}

func describeSource(s *libvirtxml.DomainInterfaceSource, nic *hypervisor.DomainInterface) {
	switch {
	case s == nil:
	case s.Network != nil:
		nic.Type, nic.Network, nic.Bridge = "network", s.Network.Network, s.Network.Bridge
	case s.Bridge != nil:
		nic.Type, nic.Bridge = "bridge", s.Bridge.Bridge
	case s.User != nil:
		nic.Type = "user"
	case s.Ethernet != nil:
		nic.Type = "ethernet"
	case s.Direct != nil:
		nic.Type = "direct"
	case s.VHostUser != nil:
		nic.Type = "vhostuser"
	case s.Hostdev != nil:
		nic.Type = "hostdev"
	}
}

// AttachInterface implements hypervisor.DomainInterfaces.
func (d *Driver) AttachInterface(ctx context.Context, machine string, nic hypervisor.NIC) error {
	iface := buildInterfaces(hypervisor.Spec{NICs: []hypervisor.NIC{nic}})[0]
	iface.Alias = nil // the place in the definition is libvirt's to choose
	text, err := iface.Marshal()
	if err != nil {
		return fault.As(fault.Internal, err, "network card %s", nic.MAC)
	}
	return d.changeInterfaces(ctx, machine, func(c *conn, dom golibvirt.Domain, alive bool) error {
		x, err := readXML(c, dom, 0)
		if err != nil {
			return err
		}
		if _, taken := findInterface(x, nic.MAC); taken {
			return fault.New(fault.AlreadyExists, "domain %q: has a network card %s", dom.Name, nic.MAC)
		}
		how, err := modify(c, dom, alive)
		if err != nil {
			return err
		}
		err = c.DomainAttachDeviceFlags(dom, text, how)
		if isNumber(err, golibvirt.ErrNoNetwork) {
			return fault.As(fault.NotFound, err, "domain %q: attach a network card", dom.Name)
		}
		return classify(err, "domain %q: attach a network card", dom.Name)
	})
}

// changeInterfaces calls f with whether the domain is alive.
func (d *Driver) changeInterfaces(ctx context.Context, machine string, f func(*conn, golibvirt.Domain, bool) error) error {
	state, _, err := d.see(ctx, machine, nil)
	if err != nil {
		return err
	}
	return d.onSlow(ctx, func(c *conn) error {
		dom, err := lookup(c, machine)
		if err != nil {
			return err
		}
		return f(c, dom, state.Alive())
	})
}

// modify says that a change is for later starts if there will be any, and for this run if the domain is alive.
func modify(c *conn, dom golibvirt.Domain, alive bool) (uint32, error) {
	persistent, err := c.DomainIsPersistent(dom)
	if err != nil {
		return 0, classify(err, "domain %q", dom.Name)
	}
	var how golibvirt.DomainDeviceModifyFlags
	if persistent != 0 {
		how |= golibvirt.DomainDeviceModifyConfig
	}
	if alive {
		how |= golibvirt.DomainDeviceModifyLive
	}
	return uint32(how), nil
}

func findInterface(x *libvirtxml.Domain, mac string) (libvirtxml.DomainInterface, bool) {
	if x.Devices != nil {
		for _, i := range x.Devices.Interfaces {
			if i.MAC != nil && strings.EqualFold(i.MAC.Address, mac) {
				return i, true
			}
		}
	}
	return libvirtxml.DomainInterface{}, false
}

// DetachInterface implements hypervisor.DomainInterfaces. As with disks the live domain's description says when the guest has let the card go, not libvirt's
// answer.
func (d *Driver) DetachInterface(ctx context.Context, machine, mac string) error {
	wasAlive := false
	err := d.changeInterfaces(ctx, machine, func(c *conn, dom golibvirt.Domain, alive bool) error {
		wasAlive = alive
		return detachInterface(c, dom, mac, alive)
	})
	if err != nil || !wasAlive {
		return err
	}
	patience, cancel := context.WithTimeout(ctx, detachPatience)
	defer cancel()
	for {
		there, err := d.hasInterface(ctx, machine, mac)
		if err != nil || !there {
			return err
		}
		if err := pause(patience, detachPoll); err != nil {
			if ctx.Err() != nil {
				return classify(ctx.Err(), "domain %s: waiting for the guest to let network card %s go", machine, mac)
			}
			return fault.New(fault.FailedPrecondition,
				"domain %s: the guest does not let network card %s go; its definition has lost it, so that it has gone after the next start", machine, mac)
		}
	}
}

// detachInterface takes a card out of the definition, and out of the live domain. One of them may not have it, but not both.
func detachInterface(c *conn, dom golibvirt.Domain, mac string, alive bool) error {
	found := false
	remove := func(read golibvirt.DomainXMLFlags, how golibvirt.DomainDeviceModifyFlags) error {
		x, err := readXML(c, dom, read)
		if err != nil {
			return err
		}
		i, there := findInterface(x, mac)
		if !there {
			return nil
		}
		found = true
		device := libvirtxml.DomainInterface{MAC: i.MAC, Source: i.Source, Model: i.Model, Address: i.Address}
		text, err := device.Marshal()
		if err != nil {
			return fault.As(fault.Internal, err, "network card %s", mac)
		}
		return classify(c.DomainDetachDeviceFlags(dom, text, uint32(how)), "domain %q: detach network card %s", dom.Name, mac)
	}
	if persistent, err := c.DomainIsPersistent(dom); err != nil {
		return classify(err, "domain %q", dom.Name)
	} else if persistent != 0 {
		if err := remove(golibvirt.DomainXMLInactive, golibvirt.DomainDeviceModifyConfig); err != nil {
			return err
		}
	}
	if alive {
		if err := remove(0, golibvirt.DomainDeviceModifyLive); err != nil {
			return err
		}
	}
	if !found {
		return fault.New(fault.NotFound, "domain %q: has no network card %s", dom.Name, mac)
	}
	return nil
}

func (d *Driver) hasInterface(ctx context.Context, machine, mac string) (there bool, err error) {
	err = d.queries.do(ctx, func(c *conn) error {
		dom, err := lookup(c, machine)
		if err != nil {
			return err
		}
		x, err := readXML(c, dom, 0)
		if err == nil {
			_, there = findInterface(x, mac)
		}
		return err
	})
	return there, err
}
