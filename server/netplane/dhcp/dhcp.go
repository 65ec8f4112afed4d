// Package dhcp is a DHCPv4 server (RFC 2131) for one subnet on one bridge. It keeps no list of the VMs' leases: it asks its Book at each packet, so that
// what it says is what is true now. It leases addresses of its own only to cards that the book does not know, from the subnet's dynamic range.
package dhcp

import (
	"log/slog"
	"net/netip"
	"time"
)

// Lease times. A VM's address is its own as long as it exists; whatever else asks gives its address back soon.
const (
	hostLease    = 24 * time.Hour
	dynamicLease = time.Hour
	// offerTime is how long an offered dynamic address is kept for the card it was offered to.
	offerTime = 30 * time.Second
	// declineTime is how long a dynamic address that is in use by somebody unknown is not leased (RFC 2131, 3.1 step 5).
	declineTime = 10 * time.Minute
)

// Host is what a known network card is given.
type Host struct {
	Address netip.Addr
	// Hostname is told to the guest; empty = nothing.
	Hostname string
	// Silent cards get no answer at all.
	Silent bool
	// Files are the names that the card can fetch by TFTP from the server, to boot from one of them; none = it boots by itself.
	Files []string
}

// Book knows the network cards of a subnet. Its methods are called from one goroutine of each server.
type Book interface {
	// Host returns what the card with a MAC address (lower case, colons) is given.
	Host(mac string) (Host, bool)
	// Busy reports whether an address has an owner, so that it can not be leased to anybody else.
	Busy(address netip.Addr) bool
	// Acknowledged is told of each acknowledgement to a known card.
	Acknowledged(mac string, address netip.Addr)
}

// Config describes the subnet.
type Config struct {
	Subnet netip.Prefix
	// Server is the host's address on the bridge, by which clients know this server.
	Server netip.Addr
	// Router is the way out; the zero value = there is none.
	Router netip.Addr
	DNS    []netip.Addr
	Domain string
	// First and Last bound the dynamic range; zero = there is none.
	First, Last netip.Addr
	// Metadata is the address of the metadata service; zero = there is none. Guests are told a route to it where the router is not this host.
	Metadata netip.Addr
}

// Handler answers packets. Make one with NewHandler. Handle is called from one goroutine at a time.
type Handler struct {
	cfg     Config
	book    Book
	now     func() time.Time
	log     *slog.Logger
	dynamic *dynamic
}

// NewHandler makes a handler.
func NewHandler(cfg Config, book Book, now func() time.Time, log *slog.Logger) *Handler {
	return &Handler{cfg: cfg, book: book, now: now, log: log, dynamic: newDynamic(cfg.First, cfg.Last)}
}
