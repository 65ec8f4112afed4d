package legacy

import (
	"context"
	"net/netip"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/enumtext"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

type networkView struct {
	Name       string `json:"name"`
	UUID       string `json:"uuid"`
	Active     bool   `json:"active"`
	Persistent bool   `json:"persistent"`
	Autostart  bool   `json:"autostart"`
	Bridge     string `json:"bridge"`

	Forward   string   `json:"forward"`
	Addresses []string `json:"addresses"`
	Managed   bool     `json:"managed"`
}

func networkViewOf(n *hypervisorv1.VirtualNetwork) networkView {
	return networkView{
		Name: n.GetName(), UUID: n.GetUuid(), Active: n.GetActive(), Persistent: n.GetPersistent(), Autostart: n.GetAutostart(), Bridge: n.GetBridge(),
		Forward: enumtext.Of(n.GetForwardMode()), Addresses: n.GetAddresses(), Managed: n.GetSubnetId() != "",
	}
}

func (h *host) networks(ctx context.Context, _ query) (any, error) {
	res, err := h.virt.ListVirtualNetworks(ctx, &hypervisorv1.ListVirtualNetworksRequest{})
	return listed("networks", res.GetNetworks(), networkViewOf), err
}

func (h *host) network(ctx context.Context, q query) (any, error) {
	res, err := h.virt.GetVirtualNetwork(ctx, &hypervisorv1.GetVirtualNetworkRequest{Network: q["name"]})
	return networkViewOf(res.GetNetwork()), err
}

type newNetwork struct {
	Name    string `json:"name"`
	Bridge  string `json:"bridge"`
	Forward string `json:"forward"`
	IPStart string `json:"ip_start"`
	IPEnd   string `json:"ip_end"`
	Subnet  string `json:"subnet"`
}

func (h *host) createNetwork(ctx context.Context, b newNetwork) (any, error) {
	req := &hypervisorv1.CreateVirtualNetworkRequest{Name: b.Name, Bridge: b.Bridge, Subnet: b.Subnet, DhcpStart: b.IPStart, DhcpEnd: b.IPEnd}
	switch b.Forward {
	case "":
		req.ForwardMode = hypervisorv1.ForwardMode_FORWARD_MODE_NAT
	case "none":
		req.ForwardMode = hypervisorv1.ForwardMode_FORWARD_MODE_ISOLATED
	default:
		var ok bool
		if req.ForwardMode, ok = enumtext.Parse[hypervisorv1.ForwardMode](b.Forward); !ok {
			return nil, fault.New(fault.InvalidArgument, "forward: %q is not nat, route, open, bridge or none", b.Forward)
		}
	}
	// HyperSDK takes the host's address alone, in a network of 256.
	if _, err := netip.ParseAddr(b.Subnet); err == nil {
		req.Subnet = b.Subnet + "/24"
	}
	if _, err := h.virt.CreateVirtualNetwork(ctx, req); err != nil {
		return nil, err
	}
	return created{map[string]any{"status": "success", "message": "Network " + b.Name + " created", "name": b.Name}}, nil
}

func (h *host) deleteNetwork(ctx context.Context, b named) (any, error) {
	_, err := h.virt.DeleteVirtualNetwork(ctx, &hypervisorv1.DeleteVirtualNetworkRequest{Network: b.Name})
	return answered(err, "Network %s deleted", b.Name)
}

func (h *host) startNetwork(ctx context.Context, b named) (any, error) {
	_, err := h.virt.StartVirtualNetwork(ctx, &hypervisorv1.StartVirtualNetworkRequest{Network: b.Name})
	return answered(err, "Network %s started", b.Name)
}

func (h *host) stopNetwork(ctx context.Context, b named) (any, error) {
	_, err := h.virt.StopVirtualNetwork(ctx, &hypervisorv1.StopVirtualNetworkRequest{Network: b.Name})
	return answered(err, "Network %s stopped", b.Name)
}

type interfaceView struct {
	MAC     string `json:"mac"`
	Network string `json:"network"`
	Bridge  string `json:"bridge"`
	Model   string `json:"model"`
	Device  string `json:"device"`
	Type    string `json:"type"`
}

func interfaceViewOf(i *hypervisorv1.DomainInterface) interfaceView {
	return interfaceView{i.GetMacAddress(), i.GetNetwork(), i.GetBridge(), i.GetModel(), i.GetDevice(), i.GetType()}
}

func (h *host) interfaces(ctx context.Context, q query) (any, error) {
	res, err := h.virt.ListDomainInterfaces(ctx, &hypervisorv1.ListDomainInterfacesRequest{Domain: q["name"]})
	return listed("interfaces", res.GetInterfaces(), interfaceViewOf), err
}

type newInterface struct {
	VMName  string `json:"vm_name"`
	Network string `json:"network"`
	Model   string `json:"model"`
}

func (h *host) attachInterface(ctx context.Context, b newInterface) (any, error) {
	res, err := h.virt.AttachDomainInterface(ctx, &hypervisorv1.AttachDomainInterfaceRequest{Domain: b.VMName, Network: b.Network, Model: b.Model})
	if err != nil {
		return nil, err
	}
	return map[string]any{"status": "success", "message": "Interface attached to " + b.VMName, "mac": res.GetInterface().GetMacAddress()}, nil
}

type interfaceRef struct {
	VMName string `json:"vm_name"`
	MAC    string `json:"mac"`
}

func (h *host) detachInterface(ctx context.Context, b interfaceRef) (any, error) {
	_, err := h.virt.DetachDomainInterface(ctx, &hypervisorv1.DetachDomainInterfaceRequest{Domain: b.VMName, MacAddress: b.MAC})
	return answered(err, "Interface detached from %s", b.VMName)
}
