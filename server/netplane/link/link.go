// Package link is what the network plane does to the host's network interfaces, through netlink(7): it looks, gives bridges the metadata address, and joins
// VLANs to bridges.
package link

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// Index returns an interface's number, which a bridge that was made anew does not keep. FailedPrecondition if there is none of this name.
func Index(device string) (int, error) {
	l, err := find(device)
	if err != nil {
		return 0, err
	}
	return l.Attrs().Index, nil
}

func find(device string) (netlink.Link, error) {
	l, err := netlink.LinkByName(device)
	if _, missing := errors.AsType[netlink.LinkNotFoundError](err); missing {
		return nil, fault.New(fault.FailedPrecondition, "interface %s: does not exist in the network that the daemon runs in", device)
	}
	return l, fault.As(fault.Unavailable, err, "interface %s", device)
}

// Address returns the host's address in a gateway's subnet on an interface; the zero value if it has none. On a loopback interface the host has every
// address.
func Address(device string, gateway netip.Prefix) (netip.Addr, error) {
	l, err := find(device)
	if err != nil {
		return netip.Addr{}, err
	}
	all, err := netlink.AddrList(l, netlink.FAMILY_V4)
	if err != nil {
		return netip.Addr{}, fault.As(fault.Unavailable, err, "addresses of %s", device)
	}
	for _, a := range all {
		if l.Attrs().Flags&net.FlagLoopback != 0 && a.Contains(gateway.Addr().AsSlice()) {
			return gateway.Addr(), nil
		}
		if ip, ok := netip.AddrFromSlice(a.IP.To4()); ok && gateway.Masked().Contains(ip) {
			return ip, nil
		}
	}
	return netip.Addr{}, nil
}

// AddAddress gives an interface an address of its own, without a network around it. It says whether it was not there before.
func AddAddress(device string, address netip.Addr) (added bool, err error) {
	l, err := find(device)
	if err != nil {
		return false, err
	}
	err = netlink.AddrAdd(l, single(address))
	if errors.Is(err, syscall.EEXIST) {
		return false, nil
	}
	return err == nil, fault.As(fault.Unavailable, err, "address %s for %s", address, device)
}

// RemoveAddress takes back what AddAddress did. An interface or address that has gone is no error.
func RemoveAddress(device string, address netip.Addr) error {
	l, err := find(device)
	if fault.Is(err, fault.FailedPrecondition) {
		return nil
	}
	if err == nil {
		err = netlink.AddrDel(l, single(address))
	}
	if errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.ENODEV) {
		return nil
	}
	return fault.As(fault.Unavailable, err, "address %s of %s", address, device)
}

func single(address netip.Addr) *netlink.Addr {
	return &netlink.Addr{IPNet: &net.IPNet{IP: address.AsSlice(), Mask: net.CIDRMask(32, 32)}, Scope: unix.RT_SCOPE_LINK}
}

// Neighbour returns the MAC address that an IP address was last seen at on an interface; empty if it was not.
func Neighbour(device string, address netip.Addr) (string, error) {
	index, err := Index(device)
	if err != nil {
		return "", err
	}
	all, err := netlink.NeighList(index, netlink.FAMILY_V4)
	if err != nil {
		return "", fault.As(fault.Unavailable, err, "neighbours on %s", device)
	}
	for _, n := range all {
		if ip, ok := netip.AddrFromSlice(n.IP.To4()); ok && ip == address && len(n.HardwareAddr) == 6 {
			return n.HardwareAddr.String(), nil
		}
	}
	return "", nil
}

// ListenPacket opens a UDP socket that receives only what comes in through an interface.
func ListenPacket(ctx context.Context, device, address string) (net.PacketConn, error) {
	return bound(device, unix.SO_BROADCAST).ListenPacket(ctx, "udp4", address)
}

// Listen opens a TCP listener for what comes in through an interface. Several interfaces may have listeners on one address.
func Listen(ctx context.Context, device, address string) (net.Listener, error) {
	return bound(device).Listen(ctx, "tcp4", address)
}

func bound(device string, options ...int) *net.ListenConfig {
	return &net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		controlErr := c.Control(func(fd uintptr) {
			err = unix.BindToDevice(int(fd), device)
			for _, o := range append(options, unix.SO_REUSEADDR) {
				err = errors.Join(err, unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, o, 1))
			}
		})
		return errors.Join(controlErr, err)
	}}
}
