package dhcp6

import (
	"net"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/insomniacslk/dhcp/rfc1035label"
)

// lease answers the identity associations of a message. The first one of ordinary addresses gets the card's; there are no others, and neither temporary
// addresses nor prefixes. With extending, an address that is not the card's is taken from it.
func (h *Handler) lease(req *dhcpv6.Message, card Card, extending bool) []dhcpv6.Option {
	var all []dhcpv6.Option
	for i, ia := range req.Options.IANA() {
		if i > 0 {
			card = Card{}
		}
		all = append(all, leaseIA(ia, card, extending))
	}
	for _, ia := range req.Options.IATA() {
		all = append(all, &dhcpv6.OptIATA{IaId: ia.IaId, Options: status(iana.StatusNoAddrsAvail, "no temporary addresses")})
	}
	for _, ia := range req.Options.IAPD() {
		all = append(all, &dhcpv6.OptIAPD{IaId: ia.IaId, Options: dhcpv6.PDOptions{Options: status(iana.StatusNoPrefixAvail, "no prefixes").Options}})
	}
	return all
}

func leaseIA(ia *dhcpv6.OptIANA, card Card, extending bool) *dhcpv6.OptIANA {
	out := &dhcpv6.OptIANA{IaId: ia.IaId}
	if card.Address.IsValid() {
		out.T1, out.T2 = renewTime, rebindTime
		out.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: card.Address.AsSlice(), PreferredLifetime: leaseTime, ValidLifetime: leaseTime})
	}
	if extending {
		for _, a := range ia.Options.Addresses() {
			if addr(a.IPv6Addr) != card.Address {
				out.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: a.IPv6Addr}) // lifetimes of 0: RFC 8415, section 18.3.4
			}
		}
	}
	if len(out.Options.Options) > 0 {
		return out
	}
	code := iana.StatusNoAddrsAvail
	if extending {
		code = iana.StatusNoBinding
	}
	out.Options = status(code, "this card was given no IPv6 address")
	return out
}

func status(code iana.StatusCode, why string) dhcpv6.IdentityOptions {
	return dhcpv6.IdentityOptions{Options: dhcpv6.Options{&dhcpv6.OptStatusCode{StatusCode: code, StatusMessage: why}}}
}

func (h *Handler) reply(req *dhcpv6.Message, options ...dhcpv6.Option) []byte {
	return h.answer(req, dhcpv6.MessageTypeReply, options)
}

// answer makes a message with the client's and our identifiers, some options, and what every client of the subnet is told.
func (h *Handler) answer(req *dhcpv6.Message, kind dhcpv6.MessageType, options []dhcpv6.Option) []byte {
	m := &dhcpv6.Message{MessageType: kind, TransactionID: req.TransactionID}
	if id := req.Options.ClientID(); id != nil {
		m.AddOption(dhcpv6.OptClientID(id))
	}
	m.AddOption(dhcpv6.OptServerID(h.duid))
	for _, o := range options {
		m.AddOption(o)
	}
	if len(h.cfg.DNS) > 0 {
		servers := make([]net.IP, len(h.cfg.DNS))
		for i, d := range h.cfg.DNS {
			servers[i] = d.AsSlice()
		}
		m.AddOption(dhcpv6.OptDNS(servers...))
	}
	if h.cfg.Domain != "" {
		m.AddOption(dhcpv6.OptDomainSearchList(&rfc1035label.Labels{Labels: []string{h.cfg.Domain}}))
	}
	return m.ToBytes()
}
