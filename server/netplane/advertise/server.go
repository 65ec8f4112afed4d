package advertise

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/ipv6"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

const (
	// minInterval and maxInterval bound the time between advertisements that nobody asked for (RFC 4861, section 6.2.1). It is chosen anew each time.
	minInterval, maxInterval = 200 * time.Second, 600 * time.Second
	// gap is the least time between two advertisements (MIN_DELAY_BETWEEN_RAS, section 10): all go to everybody, so any number of solicitations costs one in
	// that time.
	gap = 3 * time.Second
	// retry is when one that could not be sent is tried again: a bridge has no address of its own until it has a port.
	retry = time.Second
)

// Server serves a bridge. Make one with Listen.
type Server struct {
	cfg  Config
	conn *ipv6.PacketConn
	link *net.Interface
	log  *slog.Logger
}

// Listen opens the socket on a network interface. join makes one for a kind of ICMPv6 messages to a group.
func Listen(
	ctx context.Context, device string, join func(context.Context, string, netip.Addr, ipv6.ICMPType) (*ipv6.PacketConn, error), cfg Config, log *slog.Logger,
) (*Server, error) {
	link, err := net.InterfaceByName(device)
	if err != nil {
		return nil, fault.As(fault.FailedPrecondition, err, "interface %s", device)
	}
	conn, err := join(ctx, device, netip.MustParseAddr("ff02::2"), ipv6.ICMPTypeRouterSolicitation) // all routers
	if err != nil {
		return nil, fault.Wrap(err, "router advertisements on %s", device)
	}
	if err := errors.Join(conn.SetMulticastHopLimit(255), conn.SetHopLimit(255)); err != nil {
		return nil, errors.Join(fault.As(fault.Unavailable, err, "router advertisements on %s", device), conn.Close())
	}
	return &Server{cfg: cfg, conn: conn, link: link, log: log}, nil
}

// Serve advertises until ctx ends and Close is called. It says no farewell: guests go on while the daemon is restarted.
func (s *Server) Serve(ctx context.Context) {
	asked := make(chan struct{}, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.hear(ctx, asked)
	}()
	s.speak(ctx, asked)
	<-done
}

// hear passes on that there was a solicitation.
func (s *Server) hear(ctx context.Context, asked chan<- struct{}) {
	buf := make([]byte, 1500)
	for ctx.Err() == nil {
		n, control, from, err := s.conn.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || control == nil || !IsSolicitation(buf[:n], control.HopLimit) || !onThisLink(from) {
			continue
		}
		select {
		case asked <- struct{}{}:
		default: // there is one already
		}
	}
}

// onThisLink says whether a sender may be a host of the link that has no address yet, or only its link-local one.
func onThisLink(from net.Addr) bool {
	a, ok := from.(*net.IPAddr)
	return ok && (a.IP.IsUnspecified() || a.IP.IsLinkLocalUnicast())
}

// speak advertises at once, now and then, and when somebody asks.
func (s *Server) speak(ctx context.Context, asked <-chan struct{}) {
	var last time.Time // monotonic: it is not told to anybody
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-asked:
			timer.Reset(max(0, gap-time.Since(last)))
			continue
		case <-timer.C:
		}
		next := minInterval + rand.N(maxInterval-minInterval) //nolint:gosec // that routers do not speak in step is all that is wanted
		if err := s.send(); err != nil {
			s.log.LogAttrs(ctx, slog.LevelDebug, "router advertisement not sent", slog.String("interface", s.link.Name), slog.Any("error", err))
			next = retry
		} else {
			last = time.Now()
		}
		timer.Reset(next)
	}
}

func (s *Server) send() error {
	to := &net.IPAddr{IP: netip.MustParseAddr("ff02::1").AsSlice(), Zone: s.link.Name} // all nodes
	_, err := s.conn.WriteTo(Advertisement(s.cfg), &ipv6.ControlMessage{HopLimit: 255, IfIndex: s.link.Index}, to)
	return err
}

// Close ends what waits for solicitations.
func (s *Server) Close() error { return s.conn.Close() }
