package dhcp

import (
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

// options are what a card is told besides its address (RFC 2132).
func (h *Handler) options(c client) []dhcpv4.Option {
	mask := net.CIDRMask(h.cfg.Subnet.Bits(), 32)
	all := []dhcpv4.Option{
		dhcpv4.OptServerIdentifier(ip(h.cfg.Server)), dhcpv4.OptSubnetMask(mask), dhcpv4.OptBroadcastAddress(ip(lastOf(h.cfg.Subnet))),
	}
	if h.cfg.Router.IsValid() {
		all = append(all, dhcpv4.OptRouter(ip(h.cfg.Router)))
	}
	if routes := h.routes(); len(routes) > 0 {
		all = append(all, dhcpv4.OptClasslessStaticRoute(routes...))
	}
	if len(h.cfg.DNS) > 0 {
		servers := make([]net.IP, len(h.cfg.DNS))
		for i, d := range h.cfg.DNS {
			servers[i] = ip(d)
		}
		all = append(all, dhcpv4.OptDNS(servers...))
	}
	if h.cfg.Domain != "" {
		all = append(all, dhcpv4.OptDomainName(h.cfg.Domain))
	}
	if name := strings.TrimSuffix(c.host.Hostname, "."+h.cfg.Domain); name != "" {
		all = append(all, dhcpv4.OptHostName(name))
	}
	return all
}

// routes are what RFC 3442 says: a client that knows this option ignores the router's, so the way out is in it too. It is needed only where what goes
// to the metadata service would not come to this host anyway.
func (h *Handler) routes() []*dhcpv4.Route {
	if !h.cfg.Metadata.IsValid() || h.cfg.Router == h.cfg.Server {
		return nil
	}
	via := ip(h.cfg.Server)
	if !h.cfg.Subnet.Contains(h.cfg.Server) {
		via = net.IPv4zero.To4() // on the link itself
	}
	routes := []*dhcpv4.Route{{Dest: &net.IPNet{IP: ip(h.cfg.Metadata), Mask: net.CIDRMask(32, 32)}, Router: via}}
	if h.cfg.Router.IsValid() {
		routes = append(routes, &dhcpv4.Route{Dest: &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}, Router: ip(h.cfg.Router)})
	}
	return routes
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	return netip.AddrFrom4(b)
}

// boot tells a machine that boots from the network which of its files to fetch.
func (h *Handler) boot(req, reply *dhcpv4.DHCPv4, files []string) {
	file := BootFile(files, req.ClientArch(), slices.Contains(req.UserClass(), "iPXE"))
	if file == "" {
		return
	}
	reply.ServerIPAddr, reply.BootFileName = ip(h.cfg.Server), file
	reply.UpdateOption(dhcpv4.OptTFTPServerName(h.cfg.Server.String()))
	reply.UpdateOption(dhcpv4.OptBootFileName(file))
}

// BootFile chooses which of some files a machine boots: by the names that boot loaders usually have, for its architecture (RFC 4578) and whether it is
// iPXE that asks; otherwise the only file there is. Empty = none.
func BootFile(files []string, archs []iana.Arch, ipxe bool) string {
	names := []string{"pxelinux.0", "lpxelinux.0", "undionly.kpxe", "grub2pxe"}
	for _, a := range archs {
		switch a {
		case iana.EFI_X86_64, iana.EFI_BC, iana.EFI_X86_64_HTTP:
			names = []string{"bootx64.efi", "shimx64.efi", "grubx64.efi", "syslinux.efi", "ipxe.efi"}
		case iana.EFI_ARM64, iana.EFI_ARM64_HTTP:
			names = []string{"bootaa64.efi", "shimaa64.efi", "grubaa64.efi", "ipxe-arm64.efi"}
		default:
		}
	}
	if ipxe {
		names = append([]string{"autoexec.ipxe", "boot.ipxe"}, names...)
	}
	for _, n := range names {
		for _, f := range files {
			if strings.EqualFold(f, n) || strings.HasSuffix(strings.ToLower(f), "/"+n) {
				return f
			}
		}
	}
	if len(files) == 1 {
		return files[0]
	}
	return ""
}
