// Command dhcp6client is what a guest of the tests runs to get an IPv6 address, because its busybox has no DHCPv6 client: it asks on the card that it is
// given, and puts the address on it.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6/nclient6"
	"github.com/vishvananda/netlink"
)

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "dhcp6client:", err)
		os.Exit(1)
	}
}

func run(device string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) //nolint:forbidigo // the root of the program
	defer cancel()
	c, err := nclient6.New(device, nclient6.WithTimeout(3*time.Second), nclient6.WithRetry(10))
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // nothing is lost
	offer, err := c.Solicit(ctx)
	if err != nil {
		return err
	}
	reply, err := c.Request(ctx, offer)
	if err != nil {
		return err
	}
	ia := reply.Options.OneIANA()
	if ia == nil || ia.Options.OneAddress() == nil {
		return errors.New("no address in: " + reply.Summary())
	}
	address := ia.Options.OneAddress().IPv6Addr
	link, err := netlink.LinkByName(device)
	if err != nil {
		return err
	}
	if err := netlink.AddrReplace(link, &netlink.Addr{IPNet: &net.IPNet{IP: address, Mask: net.CIDRMask(128, 128)}}); err != nil {
		return err
	}
	_, err = fmt.Println("GUEST6", address, "dns", reply.Options.DNS(), "end") //nolint:forbidigo // a program for people
	return err
}
