package dhcp6

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// The ports of RFC 8415, section 7.2.
const (
	clientPort = 546
	serverPort = 547
)

const ipHeader, udpHeader = 40, 8

// Servers is the address of all servers and relays of a link (RFC 8415, section 7.1). Clients that were not told otherwise, as ours are not, use no other.
func Servers() netip.Addr { return netip.MustParseAddr("ff02::1:2") }

// Payload returns what an IPv6 packet from a client to the servers carries, and the client's link-local address. Packets with extension headers, fragments
// among them, are no client's. The checksum is not looked at: cards of VMs leave it to hardware that is not there.
func Payload(p []byte) (payload []byte, client netip.Addr, ok bool) {
	if len(p) < ipHeader+udpHeader || p[0]>>4 != 6 || p[6] != unix.IPPROTO_UDP {
		return nil, client, false
	}
	client = netip.AddrFrom16([16]byte(p[8:24]))
	udp := p[ipHeader:]
	length := int(binary.BigEndian.Uint16(udp[4:]))
	if netip.AddrFrom16([16]byte(p[24:40])) != Servers() || !client.IsLinkLocalUnicast() || binary.BigEndian.Uint16(udp[2:]) != serverPort ||
		length < udpHeader || length > len(udp) {
		return nil, client, false
	}
	return udp[udpHeader:length], client, true
}

// Datagram makes an IPv6 packet (RFC 8200) with a UDP datagram from the server's port to the client's.
func Datagram(from, to netip.Addr, payload []byte) []byte {
	const hopLimit = 255
	p := make([]byte, ipHeader+udpHeader, ipHeader+udpHeader+len(payload))
	p = append(p, payload...)
	src, dst := from.As16(), to.As16()
	udp := p[ipHeader:]
	p[0], p[6], p[7] = 6<<4, unix.IPPROTO_UDP, hopLimit
	binary.BigEndian.PutUint16(p[4:], uint16(len(udp)))
	copy(p[8:], src[:])
	copy(p[24:], dst[:])
	binary.BigEndian.PutUint16(udp[0:], serverPort)
	binary.BigEndian.PutUint16(udp[2:], clientPort)
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	sum := ^add(add(uint32(unix.IPPROTO_UDP+len(udp)), p[8:40]), udp)
	check := uint16(sum)
	if check == 0 {
		check = 0xffff // 0 would mean: none, which IPv6 does not allow
	}
	binary.BigEndian.PutUint16(udp[6:], check)
	return p
}

// add adds 16-bit words in ones' complement (RFC 1071).
func add(total uint32, b []byte) uint32 {
	for ; len(b) > 1; b = b[2:] {
		total += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		total += uint32(b[0]) << 8
	}
	for total > 0xffff {
		total = total>>16 + total&0xffff
	}
	return total
}
