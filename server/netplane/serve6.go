package netplane

import (
	"context"
	"net/netip"

	"github.com/hyperplane-project/hyperplane/server/netplane/advertise"
	"github.com/hyperplane-project/hyperplane/server/netplane/dhcp6"
	"github.com/hyperplane-project/hyperplane/server/netplane/link"
)

// open6 opens the sockets of IPv6, if the subnet has it; after an error some are open.
func (n *served) open6(ctx context.Context) error {
	p, s := n.plane, n.subnet
	if !s.Gateway6.IsValid() {
		return nil
	}
	router, err := link.HasIPv6(s.Bridge, s.Gateway6.Addr())
	if err != nil {
		return err
	}
	dns := n.resolvers(s.DNS6, netip.Addr.Is6)
	cfg := dhcp6.Config{Gateway: s.Gateway6, DNS: dns, Domain: s.Domain}
	server, err := dhcp6.Listen(ctx, s.Bridge, link.HoldPort, dhcp6.NewHandler(cfg, s.Book6, p.Now, p.Log))
	if err != nil {
		return err
	}
	n.undo.Add(func(context.Context) error { return server.Close() })
	n.work.Go(func() { server.Serve(ctx) })
	// Where somebody else is the router, he says so himself.
	speaker, err := advertise.Listen(ctx, s.Bridge, link.ListenICMP6, advertise.Config{Prefix: s.Gateway6, Router: router && !s.Isolated, DNS: dns}, p.Log)
	if err != nil {
		return err
	}
	n.undo.Add(func(context.Context) error { return speaker.Close() })
	n.work.Go(func() { speaker.Serve(ctx) })
	return nil
}
