// Package dhcp6 is a DHCPv6 server (RFC 8415) for one subnet on one bridge. It leases the addresses that its Book knows and no others, and answers nobody
// but the book's cards.
//
// A card is known by the MAC address that its frames come from. Nothing else will do: a DUID belongs to a guest, not to a card (one with two cards has the
// same on both), guests make it as they like (from a UUID, a serial number, or the MAC address of a card they no longer have), and copies of a disk share it;
// link-local addresses are seldom made of MAC addresses any more (RFC 7217); and the option with a client's link-layer address comes from relays.
package dhcp6

import (
	"crypto/sha256"
	"log/slog"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
)

// Lease times. An address is its VM's own as long as that exists. T1 and T2 are the shares of it that RFC 8415, section 14.2 recommends.
const (
	leaseTime  = 24 * time.Hour
	renewTime  = leaseTime / 2
	rebindTime = leaseTime * 4 / 5
)

// Card is what a known network card is given.
type Card struct {
	// Address is its address; the zero value = it has none.
	Address netip.Addr
}

// Book knows the network cards of a subnet. It is asked from one goroutine.
type Book interface {
	// Card returns what the card with a MAC address (lower case, colons) is given. It is false for one that gets no answer.
	Card(mac string) (Card, bool)
}

// Config describes the subnet.
type Config struct {
	// Gateway is the router's address, with the prefix length.
	Gateway netip.Prefix
	DNS     []netip.Addr
	// Domain is the search list; empty = none.
	Domain string
}

// Handler answers messages. Make one with NewHandler. Handle is called from one goroutine at a time.
type Handler struct {
	cfg    Config
	book   Book
	log    *slog.Logger
	duid   dhcpv6.DUID
	limits limits
}

// NewHandler makes a handler.
func NewHandler(cfg Config, book Book, now func() time.Time, log *slog.Logger) *Handler {
	return &Handler{cfg: cfg, book: book, log: log, duid: serverDUID(cfg.Gateway), limits: limits{now: now, cards: make(map[string]*bucket)}}
}

// serverDUID is by which clients know the server: a UUID (RFC 6355) made of the subnet's router. So it outlives restarts and new bridges, and a VM that moves
// to another host of the subnet renews its lease there.
func serverDUID(gateway netip.Prefix) dhcpv6.DUID {
	sum := sha256.Sum256([]byte("hyperplane " + gateway.String()))
	d := &dhcpv6.DUIDUUID{}
	copy(d.UUID[:], sum[:])
	d.UUID[6], d.UUID[8] = d.UUID[6]&0x0f|0x80, d.UUID[8]&0x3f|0x80 // version 8, RFC 9562
	return d
}
