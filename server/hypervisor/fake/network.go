package fake

import (
	"fmt"
	"slices"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// network is guarded by its host's mutex.
type network struct {
	shape  hypervisor.Network
	leases []hypervisor.Lease
}

// dhcp returns the line that a guest says when its card number i got a lease, or nothing.
func (n *network) dhcp(i int, mac string) string {
	for _, l := range n.leases {
		if l.MAC != mac {
			continue
		}
		router, server, name := "none", n.shape.Gateway.Addr().String(), "none"
		if !n.shape.Isolated {
			router = server
		}
		if len(n.shape.DNS) > 0 {
			server = n.shape.DNS[0].String()
		}
		if l.Hostname != "" {
			name = l.Hostname
		}
		return fmt.Sprintf("GUEST IP eth%d %s/%d mac=%s router=%s dns=%s name=%s\r\n",
			i, l.Address, n.shape.Gateway.Bits(), mac, router, server, name)
	}
	return ""
}

func (h *Host) ensureNetwork(shape hypervisor.Network) error {
	for _, other := range h.networks {
		if other.shape.Bridge == shape.Bridge && other.shape.Name != shape.Name {
			return fault.New(fault.AlreadyExists, "bridge %s belongs to network %q", shape.Bridge, other.shape.Name)
		}
	}
	shape.DNS = slices.Clone(shape.DNS)
	n := h.networks[shape.Name]
	if n == nil {
		h.networks[shape.Name] = &network{shape: shape}
		return nil
	}
	if sameShape(n.shape, shape) {
		return nil
	}
	if err := h.needUnused(shape.Name); err != nil {
		return err
	}
	if n.shape.Gateway != shape.Gateway || shape.NoDHCP {
		n.leases = nil
	}
	n.shape = shape
	return nil
}

func sameShape(a, b hypervisor.Network) bool {
	return a.Bridge == b.Bridge && a.Gateway == b.Gateway && a.Gateway6 == b.Gateway6 && a.Domain == b.Domain && a.Isolated == b.Isolated && a.NoDHCP == b.NoDHCP &&
		slices.Equal(a.DNS, b.DNS)
}

func (h *Host) removeNetwork(name string) error {
	if h.networks[name] == nil {
		return nil
	}
	if err := h.needUnused(name); err != nil {
		return err
	}
	delete(h.networks, name)
	return nil
}

// needUnused reports whether a machine with a process is connected to the network.
func (h *Host) needUnused(name string) error {
	for _, m := range h.machines {
		uses := func(nic hypervisor.NIC) bool { return nic.Network == name }
		if m.state.Alive() && slices.ContainsFunc(m.spec.NICs, uses) {
			return fault.New(fault.FailedPrecondition, "network %q is used by machine %q; stop it first", name, m.spec.Name)
		}
	}
	return nil
}

func (h *Host) setLeases(name string, leases []hypervisor.Lease) error {
	n := h.networks[name]
	if n == nil {
		return fault.New(fault.NotFound, "network %q does not exist", name)
	}
	if n.shape.NoDHCP {
		return hypervisor.NoLeases(name)
	}
	if err := hypervisor.CheckLeases(name, n.shape.Gateway, leases); err != nil {
		return err
	}
	n.leases = slices.Clone(leases)
	return nil
}

// Network returns a network's shape and leases, and whether it exists.
func (h *Host) Network(name string) (shape hypervisor.Network, leases []hypervisor.Lease, exists bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := h.networks[name]
	if n == nil {
		return hypervisor.Network{}, nil, false
	}
	return n.shape, slices.Clone(n.leases), true
}
