package fake

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// ListNetworks implements hypervisor.VirtualNetworks.
func (d *Driver) ListNetworks(ctx context.Context) (all []hypervisor.VirtualNetwork, err error) {
	err = d.do(ctx, "ListNetworks", func(h *Host) error {
		for name := range h.networks {
			if h.virt.networks[name] == nil {
				all = append(all, h.virtualNetwork(name))
			}
		}
		for name := range h.virt.networks {
			all = append(all, h.virtualNetwork(name))
		}
		return nil
	})
	slices.SortFunc(all, func(a, b hypervisor.VirtualNetwork) int { return strings.Compare(a.Name, b.Name) })
	return all, err
}

// virtualNetwork describes a network that exists, made by CreateNetwork or EnsureNetwork.
func (h *Host) virtualNetwork(name string) hypervisor.VirtualNetwork {
	if made := h.virt.networks[name]; made != nil {
		found := *made
		found.Active = h.networks[name] != nil
		return found
	}
	shape := h.networks[name].shape
	found := hypervisor.VirtualNetwork{
		Name: name, UUID: uuid.NewSHA1(uuid.NameSpaceOID, []byte(name)).String(), Bridge: shape.Bridge, Active: true, Persistent: true, Autostart: true,
		Addresses: []netip.Prefix{shape.Gateway}, Forward: hypervisor.ForwardNAT,
	}
	if shape.Isolated {
		found.Forward = hypervisor.ForwardIsolated
	}
	return found
}

// GetNetwork implements hypervisor.VirtualNetworks.
func (d *Driver) GetNetwork(ctx context.Context, name string) (found hypervisor.VirtualNetwork, err error) {
	err = d.onNetwork(ctx, "GetNetwork", name, func(h *Host) error { found = h.virtualNetwork(name); return nil })
	return found, err
}

func (d *Driver) onNetwork(ctx context.Context, method Method, name string, f func(*Host) error) error {
	return d.do(ctx, method, func(h *Host) error {
		if h.virt.networks[name] == nil && h.networks[name] == nil {
			return fault.New(fault.NotFound, "network %q does not exist", name)
		}
		return f(h)
	})
}

// CreateNetwork implements hypervisor.VirtualNetworks.
func (d *Driver) CreateNetwork(ctx context.Context, spec hypervisor.VirtualNetworkSpec) error {
	return d.do(ctx, "CreateNetwork", func(h *Host) error {
		if err := spec.Check(); err != nil {
			return err
		}
		if h.networks[spec.Name] != nil || h.virt.networks[spec.Name] != nil {
			return fault.New(fault.AlreadyExists, "network %q exists", spec.Name)
		}
		made := &hypervisor.VirtualNetwork{
			Name: spec.Name, UUID: uuid.NewString(), Bridge: spec.Bridge, Forward: spec.Forward, Persistent: true, Autostart: spec.Autostart,
		}
		if made.Bridge == "" {
			made.Bridge = "virbr-" + made.UUID[:8]
		}
		if err := h.checkBridge(*made); err != nil {
			return err
		}
		if spec.Gateway.IsValid() {
			made.Addresses = []netip.Prefix{spec.Gateway}
		}
		if spec.DHCP.Start.IsValid() {
			made.Ranges = []hypervisor.AddressRange{spec.DHCP}
		}
		if h.virt.networks == nil {
			h.virt.networks = make(map[string]*hypervisor.VirtualNetwork)
		}
		h.virt.networks[spec.Name] = made
		h.activate(made)
		return nil
	})
}

func (h *Host) checkBridge(n hypervisor.VirtualNetwork) error {
	if n.Forward == hypervisor.ForwardBridge {
		return nil
	}
	for _, other := range h.networks {
		if other.shape.Bridge == n.Bridge {
			return fault.New(fault.AlreadyExists, "bridge %s belongs to network %q", n.Bridge, other.shape.Name)
		}
	}
	for _, other := range h.virt.networks {
		if other.Bridge == n.Bridge && other.Name != n.Name {
			return fault.New(fault.AlreadyExists, "bridge %s belongs to network %q", n.Bridge, other.Name)
		}
	}
	return nil
}

func (h *Host) activate(n *hypervisor.VirtualNetwork) {
	shape := hypervisor.Network{Name: n.Name, Bridge: n.Bridge, Isolated: n.Forward == hypervisor.ForwardIsolated}
	if len(n.Addresses) > 0 {
		shape.Gateway = n.Addresses[0]
	}
	h.networks[n.Name] = &network{shape: shape}
}

// StartNetwork implements hypervisor.VirtualNetworks.
func (d *Driver) StartNetwork(ctx context.Context, name string) error {
	return d.onNetwork(ctx, "StartNetwork", name, func(h *Host) error {
		if h.networks[name] == nil {
			h.activate(h.virt.networks[name])
		}
		return nil
	})
}

// StopNetwork implements hypervisor.VirtualNetworks.
func (d *Driver) StopNetwork(ctx context.Context, name string) error {
	return d.onNetwork(ctx, "StopNetwork", name, func(h *Host) error {
		if err := h.needUnused(name); err != nil {
			return err
		}
		if h.virt.networks[name] == nil { // one of EnsureNetwork's stays known
			if h.virt.networks == nil {
				h.virt.networks = make(map[string]*hypervisor.VirtualNetwork)
			}
			n := h.virtualNetwork(name)
			h.virt.networks[name] = &n
		}
		delete(h.networks, name)
		return nil
	})
}

// DeleteNetwork implements hypervisor.VirtualNetworks.
func (d *Driver) DeleteNetwork(ctx context.Context, name string) error {
	return d.onNetwork(ctx, "DeleteNetwork", name, func(h *Host) error {
		if err := h.needUnused(name); err != nil {
			return err
		}
		delete(h.networks, name)
		delete(h.virt.networks, name)
		return nil
	})
}
