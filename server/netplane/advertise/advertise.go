// Package advertise sends router advertisements (RFC 4861) on one bridge. They say that addresses come by DHCPv6 and from nowhere else, which addresses are
// on the link, who resolves names and, where this host is the router, that it is.
package advertise

import (
	"encoding/binary"
	"net/netip"
	"time"
)

const (
	// routeTime is how long guests keep this host as their router without another advertisement: the most that RFC 4861, section 6.2.1 allows, because their
	// packets are forwarded while the daemon is restarted, too.
	routeTime = 9000 * time.Second
	// validTime and preferredTime are those of the prefix: the defaults of the same section.
	validTime, preferredTime = 30 * 24 * time.Hour, 7 * 24 * time.Hour
)

// Config describes the subnet.
type Config struct {
	// Prefix is on the link.
	Prefix netip.Prefix
	// Router says that this host forwards the guests' packets.
	Router bool
	DNS    []netip.Addr
}

// The numbers of RFC 4861, sections 4.2 and 4.6, and RFC 8106, section 5.1.
const (
	typeSolicitation  = 133
	typeAdvertisement = 134
	managed           = 0x80 // addresses are given by DHCPv6
	otherConfig       = 0x40 // and everything else
	optionPrefix      = 3
	onLink            = 0x80
	optionDNS         = 25
	hopLimit          = 64
)

// Advertisement makes the message, without its checksum, which the kernel computes.
func Advertisement(c Config) []byte {
	m := make([]byte, 16, 128)
	m[0], m[4], m[5] = typeAdvertisement, hopLimit, managed|otherConfig
	if c.Router {
		binary.BigEndian.PutUint16(m[6:], uint16(routeTime/time.Second))
	}
	m = append(m, optionPrefix, 4, byte(c.Prefix.Bits()), onLink) // no A flag: nobody makes an address for himself
	m = binary.BigEndian.AppendUint32(m, uint32(validTime/time.Second))
	m = binary.BigEndian.AppendUint32(m, uint32(preferredTime/time.Second))
	prefix := c.Prefix.Masked().Addr().As16()
	m = append(append(m, 0, 0, 0, 0), prefix[:]...)
	if len(c.DNS) == 0 {
		return m
	}
	m = append(m, optionDNS, byte(1+2*len(c.DNS)), 0, 0)
	m = binary.BigEndian.AppendUint32(m, uint32(routeTime/time.Second))
	for _, d := range c.DNS {
		a := d.As16()
		m = append(m, a[:]...)
	}
	return m
}

// IsSolicitation reports whether a message that came with a hop limit is what asks for an advertisement (RFC 4861, section 6.1.1): one that a router has
// forwarded has a lower hop limit than 255.
func IsSolicitation(m []byte, hops int) bool {
	if hops != 255 || len(m) < 8 || m[0] != typeSolicitation || m[1] != 0 {
		return false
	}
	for rest := m[8:]; len(rest) > 0; {
		if len(rest) < 2 || rest[1] == 0 || len(rest) < 8*int(rest[1]) {
			return false
		}
		rest = rest[8*int(rest[1]):]
	}
	return true
}
