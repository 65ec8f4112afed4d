package netplane

import (
	"bufio"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/undo"
	"github.com/hyperplane-project/hyperplane/server/netplane/dhcp"
	"github.com/hyperplane-project/hyperplane/server/netplane/link"
	"github.com/hyperplane-project/hyperplane/server/netplane/metadata"
	"github.com/hyperplane-project/hyperplane/server/netplane/tftp"
)

// served is a subnet that is served. Its plane's mutex guards it.
type served struct {
	plane  *Plane
	subnet Subnet
	index  int
	server netip.Addr
	stop   context.CancelFunc
	work   sync.WaitGroup
	undo   undo.Stack
	files  net.PacketConn // nil = none are served
	sends  sync.WaitGroup
}

// start opens the sockets on a bridge and serves them.
func (p *Plane) start(ctx context.Context, s Subnet, index int) (*served, error) {
	ctx, cancel := context.WithCancel(ctx)
	n := &served{plane: p, subnet: s, index: index, stop: cancel}
	if err := n.open(ctx); err != nil {
		n.close(ctx)
		return nil, err
	}
	go p.follow(ctx, n)
	return n, nil
}

// open opens the sockets; after an error some are open.
func (n *served) open(ctx context.Context) error {
	p, s := n.plane, n.subnet
	if err := n.addresses(); err != nil {
		return err
	}
	server, err := dhcp.Listen(ctx, s.Bridge, link.ListenPacket, dhcp.NewHandler(n.config(), s.Book, p.Now, p.Log))
	if err != nil {
		return err
	}
	n.undo.Add(func(context.Context) error { return server.Close() })
	n.work.Go(func() { server.Serve(ctx) })
	if err := n.open6(ctx); err != nil {
		return err
	}
	if s.Metadata {
		if err := n.serveMetadata(ctx); err != nil {
			return err
		}
	}
	if len(p.offers[s.ID]) > 0 {
		return n.serveFiles(ctx)
	}
	return nil
}

// addresses finds the host's address on the bridge, by which clients know it, and adds that of the metadata service. Without an address of its own in the
// subnet the host is known by the latter.
func (n *served) addresses() error {
	var err error
	if n.server, err = link.Address(n.subnet.Bridge, n.subnet.Gateway); err != nil {
		return err
	}
	if n.server.IsValid() && !n.subnet.Metadata {
		return nil
	}
	own := metadata.Address()
	added, err := link.AddAddress(n.subnet.Bridge, own)
	if err != nil {
		return err
	}
	if added {
		n.undo.Add(func(context.Context) error { return link.RemoveAddress(n.subnet.Bridge, own) })
	}
	if !n.server.IsValid() {
		n.server = own
	}
	return nil
}

func (n *served) config() dhcp.Config {
	s := n.subnet
	c := dhcp.Config{Subnet: s.Gateway.Masked(), Server: n.server, DNS: n.resolvers(s.DNS, netip.Addr.Is4), Domain: s.Domain, First: s.First, Last: s.Last}
	if !s.Isolated {
		c.Router = s.Gateway.Addr()
	}
	if s.Metadata {
		c.Metadata = metadata.Address()
	}
	return c
}

// resolvers are the name servers that guests are told: those of the subnet, or else the host's, as far as they are of the family and guests get there.
func (n *served) resolvers(own []netip.Addr, family func(netip.Addr) bool) []netip.Addr {
	if len(own) > 0 || n.subnet.Isolated {
		return own
	}
	all := n.plane.Resolvers
	if all == nil {
		all = hostResolvers
	}
	const most = 3 // resolv.conf(5): a resolver asks no more
	found := slices.DeleteFunc(slices.Clone(all()), func(a netip.Addr) bool { return !family(a) })
	return found[:min(most, len(found))]
}

func (n *served) serveMetadata(ctx context.Context) error {
	address := net.JoinHostPort(metadata.Address().String(), strconv.Itoa(metadata.Port))
	ln, err := link.Listen(ctx, n.subnet.Bridge, address)
	if err != nil {
		return fault.As(fault.FailedPrecondition, err, "metadata service on %s", n.subnet.Bridge)
	}
	bridge := n.subnet.Bridge
	handler := n.plane.Metadata.Handler(n.subnet.ID, func(a netip.Addr) (string, error) { return link.Neighbour(bridge, a) })
	n.work.Go(func() {
		if err := metadata.Serve(ctx, ln, handler); err != nil && ctx.Err() == nil {
			n.plane.Log.LogAttrs(ctx, slog.LevelError, "metadata service ended", slog.String("subnet", n.subnet.ID), slog.Any("error", err))
		}
	})
	return nil
}

// serveFiles begins to answer TFTP, if it does not yet.
func (n *served) serveFiles(ctx context.Context) error {
	if n.files != nil {
		return nil
	}
	conn, err := link.ListenPacket(ctx, n.subnet.Bridge, net.JoinHostPort(n.server.String(), strconv.Itoa(tftp.Port)))
	if err != nil {
		return fault.As(fault.FailedPrecondition, err, "TFTP server on %s", n.subnet.Bridge)
	}
	n.files = conn
	id, bridge, own := n.subnet.ID, n.subnet.Bridge, net.JoinHostPort(n.server.String(), "0")
	server := &tftp.Server{
		File: func(client netip.Addr, name string) ([]byte, bool) { return n.plane.file(id, client, name) },
		Dial: func(ctx context.Context) (net.PacketConn, error) { return link.ListenPacket(ctx, bridge, own) },
	}
	n.sends.Go(func() { _ = server.Serve(ctx, conn) }) // ends with the connection
	return nil
}

// endFiles ends TFTP. A transfer that asks for the plane's mutex meanwhile finds no file.
func (n *served) endFiles() {
	if n.files != nil {
		_ = n.files.Close() // it was only listened on
		n.files = nil
	}
}

// close ends the service and takes back what was made for it.
func (n *served) close(ctx context.Context) {
	n.stop()
	n.endFiles()
	if err := n.undo.Run(ctx); err != nil {
		n.plane.Log.LogAttrs(ctx, slog.LevelWarn, "a subnet's service leaves something behind", slog.String("subnet", n.subnet.ID), slog.Any("error", err))
	}
	n.work.Wait()
}

// hostResolvers returns the host's name servers (resolv.conf(5)) that others can reach too.
func hostResolvers() []netip.Addr {
	f, err := os.Open("/etc/resolv.conf")
	if err != nil {
		return nil // then there are none
	}
	defer f.Close() //nolint:errcheck // it was only read
	var all []netip.Addr
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(fields[1]); err == nil && !a.IsLoopback() && !a.IsLinkLocalUnicast() && a.Zone() == "" {
			all = append(all, a)
		}
	}
	return all
}
