package hypervisor

import (
	"net/netip"
	"strings"
	"testing"
)

func TestVirtualNetworkSpecs(t *testing.T) {
	t.Parallel()
	addr := netip.MustParseAddr
	good := VirtualNetworkSpec{
		Name: "net", Bridge: "br0", Forward: ForwardNAT, Gateway: netip.MustParsePrefix("192.0.2.1/24"),
		DHCP: AddressRange{addr("192.0.2.10"), addr("192.0.2.20")},
	}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]struct {
		spoil func(*VirtualNetworkSpec)
		says  string
	}{
		"name":            {func(s *VirtualNetworkSpec) { s.Name = "n'/><x" }, "name"},
		"bridge":          {func(s *VirtualNetworkSpec) { s.Bridge = "a b" }, "bridge"},
		"mode":            {func(s *VirtualNetworkSpec) { s.Forward = ForwardHostdev }, "hostdev"},
		"no gateway":      {func(s *VirtualNetworkSpec) { s.Gateway = netip.Prefix{} }, "subnet"},
		"IPv6":            {func(s *VirtualNetworkSpec) { s.Gateway = netip.MustParsePrefix("fd00::1/64") }, "IPv4"},
		"broadcast":       {func(s *VirtualNetworkSpec) { s.Gateway = netip.MustParsePrefix("192.0.2.255/24") }, "broadcast"},
		"range outside":   {func(s *VirtualNetworkSpec) { s.DHCP.End = addr("192.0.3.1") }, "outside"},
		"range backwards": {func(s *VirtualNetworkSpec) { s.DHCP.Start = addr("192.0.2.30") }, "before"},
		"half a range":    {func(s *VirtualNetworkSpec) { s.DHCP.End = netip.Addr{} }, "one end"},
		"bridged range":   {func(s *VirtualNetworkSpec) { s.Forward = ForwardBridge }, "bridge of the host"},
	} {
		bad := good
		c.spoil(&bad)
		if err := bad.Check(); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}
