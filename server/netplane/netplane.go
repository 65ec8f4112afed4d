// Package netplane serves subnets on their bridges: addresses (packages dhcp, dhcp6 and advertise), metadata, files for network boots (tftp). It knows nothing of VMs but what
// a Book and the metadata service tell it, and keeps nothing: whoever has subnets calls Serve for each, after a restart too.
package netplane

import (
	"context"
	"log/slog"
	"net/netip"
	"reflect"
	"sync"
	"time"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/netplane/dhcp"
	"github.com/hyperplane-project/hyperplane/server/netplane/dhcp6"
	"github.com/hyperplane-project/hyperplane/server/netplane/link"
	"github.com/hyperplane-project/hyperplane/server/netplane/metadata"
)

// Subnet is what is served on a bridge that exists.
type Subnet struct {
	ID, Bridge string
	// Gateway is the router's address, with the prefix length. The router may be this host.
	Gateway netip.Prefix
	// Isolated subnets are not told of the router.
	Isolated bool
	Domain   string
	// DNS are the name servers; none = the host's own, as far as guests can reach them.
	DNS []netip.Addr
	// First and Last bound the range for machines that are no VMs; zero = none.
	First, Last netip.Addr
	// Metadata says that there is a metadata service.
	Metadata bool
	// VLAN of the uplink is joined to the bridge, which is made if it is missing; 0 = none.
	VLAN uint32
	// Book knows who gets which address.
	Book dhcp.Book
	// Gateway6 is the router's IPv6 address, with the prefix length, and DNS6 are the IPv6 name servers, as above; zero = there is no IPv6.
	Gateway6 netip.Prefix
	DNS6     []netip.Addr
	// Book6 knows who gets which IPv6 address.
	Book6 dhcp6.Book
}

// linkCheck is how often it is looked whether a bridge is still the one that is served.
const linkCheck = 5 * time.Second

// Plane serves subnets. Set the fields, then use its methods; call Close at the end.
type Plane struct {
	Log *slog.Logger
	Now func() time.Time
	// Metadata tells guests about themselves.
	Metadata *metadata.Service
	// Uplink is the interface that carries VLANs; empty = there is none.
	Uplink string
	// Resolvers returns the name servers for subnets that name none; nil = those of /etc/resolv.conf that are not on the host itself.
	Resolvers func() []netip.Addr

	mu     sync.Mutex
	served map[string]*served
	offers map[string]map[netip.Addr]map[string][]byte // files by subnet and client
}

// Serve begins to serve a subnet, or goes on with it as it is described now. FailedPrecondition if the bridge is not there or another program has its ports.
func (p *Plane) Serve(ctx context.Context, s Subnet) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.serve(ctx, s)
}

func (p *Plane) serve(ctx context.Context, s Subnet) error {
	if s.VLAN != 0 {
		if p.Uplink == "" {
			return fault.New(fault.FailedPrecondition, "subnet %q: vlan_id %d: this host has no uplink for VLANs; set uplink in its configuration", s.ID, s.VLAN)
		}
		if err := link.JoinVLAN(ctx, p.Uplink, s.VLAN, s.Bridge); err != nil {
			return fault.Wrap(err, "subnet %q", s.ID)
		}
	}
	index, err := link.Index(s.Bridge)
	if err != nil {
		return fault.Wrap(err, "subnet %q", s.ID)
	}
	if old := p.served[s.ID]; old != nil {
		if old.index == index && reflect.DeepEqual(old.subnet, s) {
			return nil
		}
		old.close(ctx)
		delete(p.served, s.ID)
	}
	n, err := p.start(context.WithoutCancel(ctx), s, index)
	if err != nil {
		return fault.Wrap(err, "subnet %q", s.ID)
	}
	if p.served == nil {
		p.served = make(map[string]*served)
	}
	p.served[s.ID] = n
	return nil
}

// follow serves a bridge again that was made anew, as virtualisers do when they restart a network.
func (p *Plane) follow(ctx context.Context, n *served) {
	tick := time.NewTicker(linkCheck)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if index, err := link.Index(n.subnet.Bridge); err != nil || index == n.index {
			continue // one that has gone is made again when somebody needs it
		}
		p.mu.Lock()
		var err error
		if p.served[n.subnet.ID] == n {
			err = p.serve(ctx, n.subnet)
		}
		p.mu.Unlock()
		if err != nil {
			p.Log.LogAttrs(ctx, slog.LevelError, "a bridge was made anew and is not served", slog.String("subnet", n.subnet.ID), slog.Any("error", err))
		}
	}
}

// Stop ends the service of a subnet, and takes its VLAN from the bridge. An unknown one is no error.
func (p *Plane) Stop(ctx context.Context, id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.served[id]
	if n == nil {
		return nil
	}
	n.close(ctx)
	delete(p.served, id)
	if n.subnet.VLAN == 0 {
		return nil
	}
	return fault.Wrap(link.LeaveVLAN(p.Uplink, n.subnet.VLAN, n.subnet.Bridge), "subnet %q", id)
}

// Offer serves files by TFTP to one client of a served subnet until withdraw is called.
func (p *Plane) Offer(ctx context.Context, id string, client netip.Addr, files map[string][]byte) (withdraw func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.served[id]
	if n == nil {
		return nil, fault.New(fault.FailedPrecondition, "subnet %q: is not served by this host", id)
	}
	if p.offers[id][client] != nil {
		return nil, fault.New(fault.AlreadyExists, "address %s: is served files already; wait for their end", client)
	}
	if err := n.serveFiles(context.WithoutCancel(ctx)); err != nil {
		return nil, err
	}
	if p.offers == nil {
		p.offers = make(map[string]map[netip.Addr]map[string][]byte)
	}
	if p.offers[id] == nil {
		p.offers[id] = make(map[netip.Addr]map[string][]byte)
	}
	p.offers[id][client] = files
	return func() { p.withdraw(id, client) }, nil
}

func (p *Plane) withdraw(id string, client netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.offers[id], client)
	if len(p.offers[id]) > 0 {
		return
	}
	delete(p.offers, id)
	if n := p.served[id]; n != nil {
		n.endFiles()
	}
}

func (p *Plane) file(id string, client netip.Addr, name string) ([]byte, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	content, ok := p.offers[id][client][name]
	return content, ok
}

// Close ends everything. VLANs stay joined: VMs live on.
func (p *Plane) Close(ctx context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, n := range p.served {
		n.close(ctx)
		delete(p.served, id)
	}
}
