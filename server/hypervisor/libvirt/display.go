package libvirt

import (
	"context"
	"io"
	"net"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// OpenDisplay implements hypervisor.Driver. ctx bounds the connecting only. QEMU serves several connections at once.
func (d *Driver) OpenDisplay(ctx context.Context, machine string) (io.ReadWriteCloser, error) {
	var socket string
	var vnc bool
	state, _, err := d.see(ctx, machine, func(c *conn, dom golibvirt.Domain) error {
		live, err := readXML(c, dom, 0)
		if err == nil {
			socket, vnc = parseDisplay(live)
		}
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case !state.Alive():
		return nil, fault.New(fault.FailedPrecondition, "machine %s is %s and has no display", machine, state)
	case !vnc:
		return nil, fault.New(fault.FailedPrecondition, "machine %s has no VNC console", machine)
	case socket == "":
		return nil, fault.New(fault.Unimplemented, "machine %s has no VNC server on a Unix socket; it was not made by this driver", machine)
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, classify(err, "machine %s: connect to the VNC server", machine)
	}
	return d.displays.track(conn)
}

// parseDisplay finds the socket of the VNC server, and says whether there is a server at all.
func parseDisplay(d *libvirtxml.Domain) (socket string, vnc bool) {
	if d.Devices == nil {
		return "", false
	}
	for _, g := range d.Devices.Graphics {
		if g.VNC == nil {
			continue
		}
		for _, l := range g.VNC.Listeners {
			if l.Socket != nil {
				return l.Socket.Socket, true
			}
		}
		vnc = true
	}
	return "", vnc
}
