package dhcp6

import (
	"context"
	"log/slog"
	"net"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
)

// maxIAs is how many identity associations of a message are answered. Clients have one for each card and kind.
const maxIAs = 8

// Handle returns the answer to the message that came from a MAC address, or nil if there is none. Messages that make no sense are dropped, and so are those
// of relays: they are for servers with more than one link.
func (h *Handler) Handle(ctx context.Context, mac net.HardwareAddr, raw []byte) []byte {
	req, err := dhcpv6.MessageFromBytes(raw)
	if err != nil || !h.valid(req) {
		return nil
	}
	card, known := h.book.Card(mac.String())
	if !known || !h.limits.allow(mac.String()) {
		return nil
	}
	switch req.MessageType {
	case dhcpv6.MessageTypeSolicit:
		return h.solicit(req, card)
	case dhcpv6.MessageTypeRequest:
		return h.reply(req, h.lease(req, card, false)...)
	case dhcpv6.MessageTypeRenew, dhcpv6.MessageTypeRebind:
		return h.reply(req, h.lease(req, card, true)...)
	case dhcpv6.MessageTypeConfirm:
		return h.confirm(req, card)
	case dhcpv6.MessageTypeRelease:
		return h.giveUp(req, card, "released")
	case dhcpv6.MessageTypeDecline:
		// It stays the card's: nobody else is ever given it, so somebody took it.
		h.log.LogAttrs(ctx, slog.LevelWarn, "a guest says that its IPv6 address is in use by another",
			slog.String("mac", mac.String()), slog.String("address", card.Address.String()))
		return h.giveUp(req, card, "declined")
	case dhcpv6.MessageTypeInformationRequest:
		return h.reply(req)
	default:
		return nil
	}
}

// valid says whether a message has the identifiers of its kind (RFC 8415, section 16).
func (h *Handler) valid(req *dhcpv6.Message) bool {
	client, server := req.Options.ClientID(), req.Options.ServerID()
	ours := server != nil && server.Equal(h.duid)
	ias := len(req.Options.IANA()) + len(req.Options.IATA()) + len(req.Options.IAPD())
	if ias > maxIAs {
		return false
	}
	switch req.MessageType {
	case dhcpv6.MessageTypeSolicit, dhcpv6.MessageTypeConfirm, dhcpv6.MessageTypeRebind:
		return client != nil && server == nil
	case dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeRenew, dhcpv6.MessageTypeRelease, dhcpv6.MessageTypeDecline:
		return client != nil && ours
	case dhcpv6.MessageTypeInformationRequest:
		return (server == nil || ours) && ias == 0
	default:
		return false
	}
}

// solicit offers the address, or leases it at once if the client wishes so.
func (h *Handler) solicit(req *dhcpv6.Message, card Card) []byte {
	ias := h.lease(req, card, false)
	if req.GetOneOption(dhcpv6.OptionRapidCommit) != nil && card.Address.IsValid() && len(req.Options.IANA()) > 0 {
		return h.reply(req, append(ias, &dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionRapidCommit})...)
	}
	if card.Address.IsValid() {
		ias = append(ias, dhcpv6.OptPreference(255)) // nobody else knows the card, so it need not wait for other offers
	}
	return h.answer(req, dhcpv6.MessageTypeAdvertise, ias)
}

// confirm says whether a client that has been away has its address still (RFC 8415, section 18.3.3). An address within the prefix that is not the card's is
// none that it may go on with.
func (h *Handler) confirm(req *dhcpv6.Message, card Card) []byte {
	code, named := iana.StatusSuccess, false
	for _, ia := range req.Options.IANA() {
		for _, a := range ia.Options.Addresses() {
			named = true
			if addr(a.IPv6Addr) != card.Address {
				code = iana.StatusNotOnLink
			}
		}
	}
	if !named {
		return nil
	}
	return h.reply(req, &dhcpv6.OptStatusCode{StatusCode: code})
}

// giveUp acknowledges that a client does not use its address. It is not given to others.
func (h *Handler) giveUp(req *dhcpv6.Message, card Card, what string) []byte {
	options := []dhcpv6.Option{&dhcpv6.OptStatusCode{StatusCode: iana.StatusSuccess, StatusMessage: what}}
	for _, ia := range req.Options.IANA() {
		for _, a := range ia.Options.Addresses() {
			if addr(a.IPv6Addr) != card.Address {
				options = append(options, &dhcpv6.OptIANA{IaId: ia.IaId, Options: status(iana.StatusNoBinding, "not leased to this card")})
				break
			}
		}
	}
	return h.reply(req, options...)
}

func addr(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip.To16())
	return a
}
