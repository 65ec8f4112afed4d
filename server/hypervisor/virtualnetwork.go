package hypervisor

import (
	"context"
	"net/netip"
)

// ForwardMode is how a virtual network is connected to the outside.
type ForwardMode uint8

// The modes; see libvirt's formatnetwork. The first five can be made.
const (
	ForwardIsolated ForwardMode = iota
	ForwardNAT
	ForwardRoute
	ForwardOpen
	ForwardBridge
	ForwardPrivate
	ForwardVEPA
	ForwardPassthrough
	ForwardHostdev
)

// String returns libvirt's word for the mode.
func (m ForwardMode) String() string {
	return nameOf(m, "isolated", "nat", "route", "open", "bridge", "private", "vepa", "passthrough", "hostdev")
}

// AddressRange is a range of addresses, both ends included. The zero value is none.
type AddressRange struct{ Start, End netip.Addr }

// VirtualNetwork is a network of the virtualisation service, whoever made it.
type VirtualNetwork struct {
	Name, UUID, Bridge            string
	Forward                       ForwardMode
	Active, Persistent, Autostart bool
	// Addresses are the host's.
	Addresses []netip.Prefix
	Ranges    []AddressRange
}

// VirtualNetworkSpec is the wish for a virtual network.
type VirtualNetworkSpec struct {
	// Bridge may be empty: the service chooses one. With ForwardBridge it is a bridge of the host, and there is no gateway.
	Name, Bridge string
	Forward      ForwardMode
	Gateway      netip.Prefix
	DHCP         AddressRange
	Autostart    bool
}

// VirtualNetworks manages networks of any shape, which are named by their names. EnsureNetwork's are among them.
type VirtualNetworks interface {
	// ListNetworks returns all networks in the order of their names.
	ListNetworks(ctx context.Context) ([]VirtualNetwork, error)
	GetNetwork(ctx context.Context, name string) (VirtualNetwork, error)
	// CreateNetwork makes and starts a network. AlreadyExists if the name or the bridge belongs to another one.
	CreateNetwork(ctx context.Context, spec VirtualNetworkSpec) error
	// StartNetwork starts a network; one that is active is no error.
	StartNetwork(ctx context.Context, name string) error
	// StopNetwork stops a network; FailedPrecondition while machines are connected. DeleteNetwork forgets it as well. Other than with RemoveNetwork a
	// network that does not exist is NotFound.
	StopNetwork(ctx context.Context, name string) error
	DeleteNetwork(ctx context.Context, name string) error
}

// Check reports what is wrong with the wish: InvalidArgument.
func (s VirtualNetworkSpec) Check() error {
	if err := checkNetworkName(s.Name); err != nil {
		return err
	}
	if s.Bridge != "" || s.Forward == ForwardBridge {
		if err := checkInterfaceName(s.Bridge); err != nil {
			return err
		}
	}
	switch {
	case s.Forward > ForwardBridge:
		return invalid("network %q: forward mode %s cannot be made here; use isolated, nat, route, open or bridge", s.Name, s.Forward)
	case s.Forward == ForwardBridge:
		if s.Gateway.IsValid() || s.DHCP != (AddressRange{}) {
			return invalid("network %q: on a bridge of the host it has no addresses of its own; leave subnet and range away", s.Name)
		}
		return nil
	case !s.Gateway.IsValid():
		return invalid("network %q: subnet: is missing", s.Name)
	case !s.Gateway.Addr().Is4():
		return invalid("network %q: subnet %s is not IPv4", s.Name, s.Gateway)
	}
	if err := checkHost(s.Gateway, s.Gateway.Addr()); err != nil {
		return invalid("network %q: subnet: %s", s.Name, err.Error())
	}
	return s.checkRange()
}

func (s VirtualNetworkSpec) checkRange() error {
	if s.DHCP == (AddressRange{}) {
		return nil
	}
	for _, a := range []netip.Addr{s.DHCP.Start, s.DHCP.End} {
		if !a.IsValid() {
			return invalid("network %q: the range of addresses has one end only", s.Name)
		}
		if err := checkHost(s.Gateway, a); err != nil {
			return invalid("network %q: range: %s", s.Name, err.Error())
		}
	}
	if s.DHCP.End.Less(s.DHCP.Start) {
		return invalid("network %q: the range ends at %s, before it starts at %s", s.Name, s.DHCP.End, s.DHCP.Start)
	}
	return nil
}
