package libvirt

import (
	"context"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// Console implements hypervisor.Domains.
func (d *Driver) Console(ctx context.Context, machine string) (found hypervisor.DomainConsole, err error) {
	_, _, err = d.see(ctx, machine, func(c *conn, dom golibvirt.Domain) error {
		live, err := readXML(c, dom, 0) // without the flag Secure libvirt leaves passwords out
		if err == nil {
			found = describeConsole(live)
		}
		return err
	})
	return found, err
}

func describeConsole(x *libvirtxml.Domain) (found hypervisor.DomainConsole) {
	if x.Devices == nil {
		return found
	}
	for _, g := range x.Devices.Graphics {
		switch {
		case g.VNC != nil && !found.VNC:
			found.VNC, found.VNCSocket, found.VNCAddress, found.VNCPort = true, g.VNC.Socket, g.VNC.Listen, port(g.VNC.Port)
			for _, l := range g.VNC.Listeners {
				if l.Socket != nil {
					found.VNCSocket = l.Socket.Socket
				}
			}
		case g.Spice != nil && !found.SPICE:
			found.SPICE, found.SPICEAddress, found.SPICEPort = true, g.Spice.Listen, port(g.Spice.Port)
		}
	}
	for _, s := range x.Devices.Serials {
		if s.Target != nil && s.Target.Port != nil && *s.Target.Port != 0 {
			continue
		}
		found.Serial = true
		if s.Source != nil && s.Source.UNIX != nil {
			found.SerialSocket = s.Source.UNIX.Path
		}
		if s.Source != nil && s.Source.Pty != nil {
			found.SerialDevice = s.Source.Pty.Path
		}
		break
	}
	return found
}

// port returns a TCP port; libvirt writes -1 for one that is chosen at the next start.
func port(p int) uint16 {
	if p < 0 || p > 65535 {
		return 0
	}
	return uint16(p)
}
