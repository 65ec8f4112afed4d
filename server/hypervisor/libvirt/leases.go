package libvirt

import (
	"context"
	"encoding/xml"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/undo"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// bulkLeases is how many changes are made one by one. libvirt makes its firewall rules anew for each, which takes about 0.2 s;
// starting a network that nobody uses anew takes as long as three.
const bulkLeases = 4

// SetLeases implements hypervisor.Driver. Nothing is done for leases that are there already. After an error a part may be done; the
// next call does the rest.
func (d *Driver) SetLeases(ctx context.Context, network string, leases []hypervisor.Lease) error {
	return d.changeNetwork(ctx, network, func(c *conn, back *undo.Stack) error { return d.setLeases(c, network, leases, back) })
}

func (d *Driver) setLeases(c *conn, network string, leases []hypervisor.Lease, back *undo.Stack) error {
	net, err := lookupNetwork(c, network)
	if err != nil {
		return err
	}
	x, err := networkXML(c, net)
	if err != nil {
		return err
	}
	shape, err := parseNetwork(x)
	if err != nil {
		return err
	}
	if shape.NoDHCP {
		return hypervisor.NoLeases(network)
	}
	if err := hypervisor.CheckLeases(network, shape.Gateway, leases); err != nil {
		return err
	}
	del, add := diffHosts(dhcpHosts(x), leases)
	if len(del)+len(add) > bulkLeases && needUnused(c, net) == nil {
		return d.replaceNetwork(c, x, buildNetwork(shape, x.UUID, buildHosts(leases)), back)
	}
	if err := updateHosts(c, net, golibvirt.NetworkUpdateCommandDelete, del); err != nil {
		return err
	}
	return updateHosts(c, net, golibvirt.NetworkUpdateCommandAddLast, add)
}

func updateHosts(c *conn, net golibvirt.Network, command golibvirt.NetworkUpdateCommand, hosts []libvirtxml.NetworkDHCPHost) error {
	active, err := c.NetworkIsActive(net)
	if err != nil {
		return classify(err, "network %q", net.Name)
	}
	flags := golibvirt.NetworkUpdateAffectConfig
	if active != 0 {
		flags |= golibvirt.NetworkUpdateAffectLive
	}
	for _, h := range hosts {
		text, err := xml.Marshal(h)
		if err != nil {
			return fault.As(fault.Internal, err, "network %q: write the lease of %s", net.Name, h.MAC)
		}
		const onlyIP = 0 // the <ip> element that the lease belongs to; ours have one
		err = c.NetworkUpdateCompat(net, command, golibvirt.NetworkSectionIPDhcpHost, onlyIP, string(text), flags)
		if err != nil {
			return classify(err, "network %q: change the lease of %s", net.Name, h.MAC)
		}
	}
	return nil
}
