package dhcp

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

// Reply is an answer and where it goes.
type Reply struct {
	// Payload is the DHCP message.
	Payload []byte
	// MAC and Address are its receiver; the broadcast addresses if it can not be reached otherwise.
	MAC     net.HardwareAddr
	Address netip.Addr
}

// client is who sent a packet.
type client struct {
	mac   string
	host  Host
	known bool
}

// Handle returns the answer to a packet, or nil if there is none. Packets that make no sense are dropped.
func (h *Handler) Handle(ctx context.Context, raw []byte) *Reply {
	req, err := dhcpv4.FromBytes(raw)
	if err != nil || !sane(req) {
		return nil
	}
	c := client{mac: req.ClientHWAddr.String()}
	if c.host, c.known = h.book.Host(c.mac); c.host.Silent {
		return nil
	}
	switch req.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		return h.discover(req, c)
	case dhcpv4.MessageTypeRequest:
		return h.request(req, c)
	case dhcpv4.MessageTypeInform:
		return h.inform(req, c)
	case dhcpv4.MessageTypeDecline:
		h.decline(ctx, req, c)
	case dhcpv4.MessageTypeRelease:
		if !c.known && addr(req.ClientIPAddr) == h.dynamic.byMAC[c.mac].address {
			h.dynamic.release(c.mac)
		}
	default:
	}
	return nil
}

// sane says whether a packet is a client's, on Ethernet, and did not pass a relay: those are for a server with more than one subnet.
func sane(req *dhcpv4.DHCPv4) bool {
	return req.OpCode == dhcpv4.OpcodeBootRequest && req.HWType == iana.HWTypeEthernet && len(req.ClientHWAddr) == 6 &&
		req.ClientHWAddr[0]&1 == 0 && req.GatewayIPAddr.IsUnspecified() && req.HopCount == 0
}

func addr(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip.To4())
	return a
}

func (h *Handler) discover(req *dhcpv4.DHCPv4, c client) *Reply {
	address, lease := c.host.Address, hostLease
	if !c.known {
		var ok bool
		if address, ok = h.dynamic.choose(c.mac, addr(req.RequestedIPAddress()), h.now(), h.book.Busy); !ok {
			return nil
		}
		lease = dynamicLease
		h.dynamic.lend(c.mac, address, h.now().Add(offerTime))
	}
	return h.answer(req, c, dhcpv4.MessageTypeOffer, address, lease)
}

// request answers a REQUEST. RFC 2131, 4.3.2: what a client wants is told by which fields it fills in.
func (h *Handler) request(req *dhcpv4.DHCPv4, c client) *Reply {
	wanted, server := addr(req.RequestedIPAddress()), addr(req.ServerIdentifier())
	selecting := server.IsValid()
	if selecting && server != h.cfg.Server {
		if !c.known {
			h.dynamic.release(c.mac) // it has taken another server's offer
		}
		return nil
	}
	if !wanted.IsValid() {
		wanted = addr(req.ClientIPAddr) // it renews
	}
	if c.known {
		if wanted != c.host.Address {
			return h.refuse(req, "the address of this card is another one")
		}
		h.book.Acknowledged(c.mac, wanted)
		return h.answer(req, c, dhcpv4.MessageTypeAck, wanted, hostLease)
	}
	if !h.dynamic.contains(wanted) {
		if selecting || (!h.cfg.Subnet.Contains(wanted) && h.dynamic.first.IsValid()) {
			return h.refuse(req, "not an address that is leased here")
		}
		return nil // somebody else's client
	}
	if !h.dynamic.free(wanted, c.mac, h.now(), h.book.Busy) {
		return h.refuse(req, "the address is in use")
	}
	h.dynamic.lend(c.mac, wanted, h.now().Add(dynamicLease))
	return h.answer(req, c, dhcpv4.MessageTypeAck, wanted, dynamicLease)
}

// inform tells a card that has its address from elsewhere everything but an address (RFC 2131, 4.3.5).
func (h *Handler) inform(req *dhcpv4.DHCPv4, c client) *Reply {
	if !h.cfg.Subnet.Contains(addr(req.ClientIPAddr)) {
		return nil
	}
	return h.answer(req, c, dhcpv4.MessageTypeAck, netip.Addr{}, 0)
}

func (h *Handler) decline(ctx context.Context, req *dhcpv4.DHCPv4, c client) {
	wanted := addr(req.RequestedIPAddress())
	if c.known {
		// It stays the card's: nobody else is ever given it, so somebody took it.
		h.log.LogAttrs(ctx, slog.LevelWarn, "a guest says that its address is in use by another",
			slog.String("mac", c.mac), slog.String("address", wanted.String()))
		return
	}
	h.dynamic.decline(c.mac, wanted, h.now().Add(declineTime))
}

func (h *Handler) refuse(req *dhcpv4.DHCPv4, why string) *Reply {
	reply, err := dhcpv4.NewReplyFromRequest(req, dhcpv4.WithMessageType(dhcpv4.MessageTypeNak), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(ip(h.cfg.Server))),
		dhcpv4.WithOption(dhcpv4.OptMessage(why)))
	if err != nil {
		return nil
	}
	return &Reply{Payload: reply.ToBytes(), MAC: broadcastMAC(), Address: broadcast()} // RFC 2131, 4.1: always broadcast
}

// answer makes an OFFER or ACK. Without an address it is the answer to an INFORM.
func (h *Handler) answer(req *dhcpv4.DHCPv4, c client, kind dhcpv4.MessageType, address netip.Addr, lease time.Duration) *Reply {
	reply, err := dhcpv4.NewReplyFromRequest(req, dhcpv4.WithMessageType(kind))
	if err != nil {
		return nil
	}
	for _, o := range h.options(c) {
		reply.UpdateOption(o)
	}
	to := &Reply{MAC: req.ClientHWAddr, Address: address}
	if address.IsValid() {
		reply.YourIPAddr = ip(address)
		reply.UpdateOption(dhcpv4.OptIPAddressLeaseTime(lease))
	} else {
		reply.ClientIPAddr = req.ClientIPAddr
		to.Address = addr(req.ClientIPAddr)
	}
	h.boot(req, reply, c.host.Files)
	if req.IsBroadcast() {
		to.MAC, to.Address = broadcastMAC(), broadcast()
	}
	to.Payload = reply.ToBytes()
	return to
}

func ip(a netip.Addr) net.IP { return a.AsSlice() }

func broadcastMAC() net.HardwareAddr { return net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff} }

func broadcast() netip.Addr { return netip.AddrFrom4([4]byte{255, 255, 255, 255}) }
