package link

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/net/ipv6"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// CheckIPv6 says whether IPv6 works on an interface: FailedPrecondition if the kernel has none, or it is switched off there.
func CheckIPv6(device string) error {
	if strings.ContainsAny(device, "/") {
		return fault.New(fault.InvalidArgument, "interface %q: no name of an interface", device)
	}
	// ip-sysctl(5): the directory is that of the caller's network.
	raw, err := os.ReadFile(filepath.Join("/proc/sys/net/ipv6/conf", device, "disable_ipv6"))
	if errors.Is(err, os.ErrNotExist) {
		return fault.New(fault.FailedPrecondition, "interface %s: has no IPv6, because it does not exist or the kernel was started without", device)
	}
	if err != nil {
		return fault.As(fault.Unavailable, err, "interface %s", device)
	}
	if strings.TrimSpace(string(raw)) != "0" {
		return fault.New(fault.FailedPrecondition, "interface %s: IPv6 is switched off there: set net.ipv6.conf.%s.disable_ipv6 to 0, and "+
			"net.ipv6.conf.default.disable_ipv6 for interfaces to come, or take ipv6_gateway from the subnet", device, device)
	}
	return nil
}

// HasIPv6 reports whether an interface has an IPv6 address of the host.
func HasIPv6(device string, address netip.Addr) (bool, error) {
	l, err := find(device)
	if err != nil {
		return false, err
	}
	all, err := netlink.AddrList(l, netlink.FAMILY_V6)
	if err != nil {
		return false, fault.As(fault.Unavailable, err, "addresses of %s", device)
	}
	for _, a := range all {
		if ip, ok := netip.AddrFromSlice(a.IP); ok && ip == address {
			return true, nil
		}
	}
	return false, nil
}

// HoldPort takes a UDP port of IPv6 for what comes in through an interface, and has the interface receive what goes to a group. The socket itself receives
// nothing. FailedPrecondition if another program has the port for itself, or there is no IPv6.
func HoldPort(ctx context.Context, device string, group netip.AddrPort) (net.PacketConn, error) {
	if err := CheckIPv6(device); err != nil {
		return nil, err
	}
	l, err := net.InterfaceByName(device)
	if err != nil {
		return nil, fault.As(fault.FailedPrecondition, err, "interface %s", device)
	}
	conn, err := bound(device).ListenPacket(ctx, "udp6", netip.AddrPortFrom(netip.IPv6Unspecified(), group.Port()).String())
	if err != nil {
		return nil, fault.As(fault.FailedPrecondition, err, "port %d", group.Port())
	}
	nothing, err := bpf.Assemble([]bpf.Instruction{bpf.RetConstant{Val: 0}})
	p := ipv6.NewPacketConn(conn)
	if err == nil {
		err = p.SetBPF(nothing)
	}
	if err == nil {
		err = p.JoinGroup(l, &net.UDPAddr{IP: group.Addr().AsSlice()})
	}
	if err != nil {
		return nil, errors.Join(fault.As(fault.Unavailable, err, "group %s", group.Addr()), conn.Close())
	}
	return conn, nil
}

// ListenICMP6 opens a socket that receives the ICMPv6 messages of one type that come in through an interface, to a group or the host.
func ListenICMP6(ctx context.Context, device string, group netip.Addr, kind ipv6.ICMPType) (*ipv6.PacketConn, error) {
	if err := CheckIPv6(device); err != nil {
		return nil, err
	}
	l, err := net.InterfaceByName(device)
	if err != nil {
		return nil, fault.As(fault.FailedPrecondition, err, "interface %s", device)
	}
	conn, err := bound(device).ListenPacket(ctx, "ip6:ipv6-icmp", "::")
	if err != nil {
		return nil, fault.As(fault.Unavailable, err, "ICMPv6 on %s", device)
	}
	p := ipv6.NewPacketConn(conn)
	var only ipv6.ICMPFilter
	only.SetAll(true)
	only.Accept(kind)
	err = errors.Join(p.SetICMPFilter(&only), p.JoinGroup(l, &net.IPAddr{IP: group.AsSlice()}), p.SetMulticastInterface(l),
		p.SetControlMessage(ipv6.FlagHopLimit, true), p.SetMulticastLoopback(false))
	if err != nil {
		return nil, errors.Join(fault.As(fault.Unavailable, err, "ICMPv6 on %s", device), p.Close())
	}
	return p, nil
}
