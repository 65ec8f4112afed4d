package libvirt

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/undo"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// ListNetworks implements hypervisor.VirtualNetworks.
func (d *Driver) ListNetworks(ctx context.Context) (all []hypervisor.VirtualNetwork, err error) {
	err = d.queries.do(ctx, func(c *conn) error {
		networks, _, err := c.ConnectListAllNetworks(1, 0)
		if err != nil {
			return classify(err, "list the networks")
		}
		all, err = describeAll(c, networks, describeNetwork)
		return err
	})
	slices.SortFunc(all, func(a, b hypervisor.VirtualNetwork) int { return strings.Compare(a.Name, b.Name) })
	return all, err
}

// GetNetwork implements hypervisor.VirtualNetworks.
func (d *Driver) GetNetwork(ctx context.Context, name string) (found hypervisor.VirtualNetwork, err error) {
	err = d.queries.do(ctx, func(c *conn) error {
		n, err := lookupNetwork(c, name)
		if err == nil {
			found, err = describeNetwork(c, n)
		}
		return err
	})
	return found, err
}

func describeNetwork(c *conn, n golibvirt.Network) (found hypervisor.VirtualNetwork, err error) {
	text, err := c.NetworkGetXMLDesc(n, 0)
	if err != nil {
		return found, classify(err, "network %q: read its definition", n.Name)
	}
	x := new(libvirtxml.Network)
	if err := x.Unmarshal(text); err != nil {
		return found, fault.As(fault.Internal, err, "network %q: understand its definition", n.Name)
	}
	found = parseVirtualNetwork(x)
	found.UUID = uuidText(n.UUID)
	for _, q := range []struct {
		ask  func(golibvirt.Network) (int32, error)
		into *bool
	}{{c.NetworkIsActive, &found.Active}, {c.NetworkIsPersistent, &found.Persistent}, {c.NetworkGetAutostart, &found.Autostart}} {
		answer, err := q.ask(n)
		if err != nil {
			return found, classify(err, "network %q", n.Name)
		}
		*q.into = answer != 0
	}
	return found, nil
}

// parseVirtualNetwork takes any definition. What is no address in it is left out.
func parseVirtualNetwork(x *libvirtxml.Network) hypervisor.VirtualNetwork {
	n := hypervisor.VirtualNetwork{Name: x.Name, Forward: parseForward(x.Forward)}
	if x.Bridge != nil {
		n.Bridge = x.Bridge.Name
	}
	for _, ip := range x.IPs {
		if gateway, err := parseGateway(ip); err == nil {
			n.Addresses = append(n.Addresses, gateway)
		}
		if ip.DHCP == nil {
			continue
		}
		for _, r := range ip.DHCP.Ranges {
			start, err := netip.ParseAddr(r.Start)
			end, err2 := netip.ParseAddr(r.End)
			if err == nil && err2 == nil {
				n.Ranges = append(n.Ranges, hypervisor.AddressRange{Start: start, End: end})
			}
		}
	}
	return n
}

func parseForward(f *libvirtxml.NetworkForward) hypervisor.ForwardMode {
	if f == nil {
		return hypervisor.ForwardIsolated
	}
	for m := hypervisor.ForwardNAT; m <= hypervisor.ForwardHostdev; m++ {
		if m.String() == f.Mode {
			return m
		}
	}
	return hypervisor.ForwardNAT // what libvirt takes an empty mode for
}

// CreateNetwork implements hypervisor.VirtualNetworks.
func (d *Driver) CreateNetwork(ctx context.Context, spec hypervisor.VirtualNetworkSpec) error {
	if err := spec.Check(); err != nil {
		return err
	}
	return d.changeNetwork(ctx, spec.Name, func(c *conn, back *undo.Stack) error {
		if _, err := lookupNetwork(c, spec.Name); err == nil {
			return fault.New(fault.AlreadyExists, "network %q exists", spec.Name)
		} else if !fault.Is(err, fault.NotFound) {
			return err
		}
		if spec.Bridge != "" && spec.Forward != hypervisor.ForwardBridge {
			if err := checkBridgeFree(c, hypervisor.Network{Name: spec.Name, Bridge: spec.Bridge}); err != nil {
				return err
			}
		}
		back.Add(func(ctx context.Context) error {
			return d.slow.do(ctx, func(c *conn) error { return removeNetwork(c, spec.Name) })
		})
		return createNetwork(c, spec)
	})
}

func createNetwork(c *conn, spec hypervisor.VirtualNetworkSpec) error {
	if err := makeNetwork(c, buildVirtualNetwork(spec)); err != nil || spec.Autostart {
		return err
	}
	n, err := lookupNetwork(c, spec.Name)
	if err != nil {
		return err
	}
	return classify(c.NetworkSetAutostart(n, 0), "network %q", spec.Name)
}

func buildVirtualNetwork(spec hypervisor.VirtualNetworkSpec) *libvirtxml.Network {
	x := &libvirtxml.Network{Name: spec.Name}
	if spec.Forward != hypervisor.ForwardIsolated {
		x.Forward = &libvirtxml.NetworkForward{Mode: spec.Forward.String()}
	}
	if spec.Forward == hypervisor.ForwardBridge {
		x.Bridge = &libvirtxml.NetworkBridge{Name: spec.Bridge}
		return x
	}
	// With the spanning tree protocol a new port would pass nothing for seconds.
	x.Bridge = &libvirtxml.NetworkBridge{Name: spec.Bridge, STP: "off", Delay: "0"}
	ip := libvirtxml.NetworkIP{Address: spec.Gateway.Addr().String(), Prefix: uint(spec.Gateway.Bits())}
	if spec.DHCP.Start.IsValid() {
		ip.DHCP = &libvirtxml.NetworkDHCP{Ranges: []libvirtxml.NetworkDHCPRange{{Start: spec.DHCP.Start.String(), End: spec.DHCP.End.String()}}}
	}
	x.IPs = []libvirtxml.NetworkIP{ip}
	return x
}

// StartNetwork implements hypervisor.VirtualNetworks.
func (d *Driver) StartNetwork(ctx context.Context, name string) error {
	return d.changeNetwork(ctx, name, func(c *conn, _ *undo.Stack) error {
		n, err := lookupNetwork(c, name)
		if err != nil {
			return err
		}
		active, err := c.NetworkIsActive(n)
		if err == nil && active == 0 {
			err = c.NetworkCreate(n)
		}
		return classify(err, "network %q: start it", name)
	})
}

// StopNetwork implements hypervisor.VirtualNetworks.
func (d *Driver) StopNetwork(ctx context.Context, name string) error {
	return d.changeNetwork(ctx, name, func(c *conn, _ *undo.Stack) error {
		n, err := lookupNetwork(c, name)
		if err != nil {
			return err
		}
		if err := needUnused(c, n); err != nil {
			return err
		}
		return stopNetwork(c, n)
	})
}

// DeleteNetwork implements hypervisor.VirtualNetworks.
func (d *Driver) DeleteNetwork(ctx context.Context, name string) error {
	return d.changeNetwork(ctx, name, func(c *conn, _ *undo.Stack) error {
		n, err := lookupNetwork(c, name)
		if err != nil {
			return err
		}
		persistent, err := c.NetworkIsPersistent(n)
		if err != nil {
			return classify(err, "network %q", name)
		}
		if persistent == 0 {
			if err := needUnused(c, n); err != nil {
				return err
			}
			return stopNetwork(c, n)
		}
		return removeNetwork(c, name)
	})
}
