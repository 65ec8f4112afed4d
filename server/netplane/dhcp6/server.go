package dhcp6

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync/atomic"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// Server serves a bridge. Make one with Listen.
type Server struct {
	handler *Handler
	device  *net.Interface
	// port keeps other servers from the port, and has the bridge receive what goes to all servers. Nothing is read from it: it does not tell MAC addresses.
	port net.PacketConn
	// wire receives and sends packets of the link layer. Nothing is put into the host's table of neighbours, which a guest could fill.
	wire   *os.File
	closed atomic.Bool
}

// Listen opens the sockets on a network interface. join makes a UDP socket on it that is a member of a group.
func Listen(
	ctx context.Context, device string, join func(ctx context.Context, device string, group netip.AddrPort) (net.PacketConn, error), h *Handler,
) (*Server, error) {
	link, err := net.InterfaceByName(device)
	if err != nil {
		return nil, fault.As(fault.FailedPrecondition, err, "interface %s", device)
	}
	port, err := join(ctx, device, netip.AddrPortFrom(Servers(), serverPort))
	if err != nil {
		return nil, fault.Wrap(err, "DHCPv6 server on %s", device)
	}
	wire, err := openWire(link)
	if err != nil {
		return nil, errors.Join(fault.As(fault.Unavailable, err, "DHCPv6 server on %s", device), port.Close())
	}
	return &Server{handler: h, device: link, port: port, wire: wire}, nil
}

// openWire makes a socket that receives the DHCPv6 packets that come in through an interface, without the link layer's header (packet(7)).
func openWire(link *net.Interface) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), link.Name)
	err = filter(fd)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_IPV6), Ifindex: link.Index})
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// filter lets only UDP datagrams to the servers' port through.
func filter(fd int) error {
	program, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 6, Size: 1}, // next header
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_UDP, SkipTrue: 3},
		bpf.LoadAbsolute{Off: ipHeader + 2, Size: 2}, // destination port
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: serverPort, SkipTrue: 1},
		bpf.RetConstant{Val: 0xffff},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		return err
	}
	all := make([]unix.SockFilter, len(program))
	for i, p := range program {
		all[i] = unix.SockFilter{Code: p.Op, Jt: p.Jt, Jf: p.Jf, K: p.K}
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(all)), Filter: &all[0]})
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// Serve answers packets until Close.
func (s *Server) Serve(ctx context.Context) {
	buf := make([]byte, 2048)
	for {
		n, from, err := s.receive(buf)
		if s.closed.Load() {
			return
		}
		if err != nil || from == nil {
			continue // an error of one packet
		}
		payload, client, ok := Payload(buf[:n])
		if !ok {
			continue
		}
		reply := s.handler.Handle(ctx, from, payload)
		if reply == nil {
			continue
		}
		if err := s.send(from, client, reply); err != nil {
			s.handler.log.LogAttrs(ctx, slog.LevelWarn, "DHCPv6 answer not sent", slog.String("mac", from.String()), slog.Any("error", err))
		}
	}
}

// receive returns a packet's length and the MAC address that it came from; nil if it did not come from a card.
func (s *Server) receive(buf []byte) (n int, from net.HardwareAddr, err error) {
	control, err := s.wire.SyscallConn()
	if err != nil {
		return 0, nil, err
	}
	var at unix.Sockaddr
	var failed error
	err = control.Read(func(fd uintptr) bool {
		n, at, failed = unix.Recvfrom(int(fd), buf, 0)
		return !errors.Is(failed, unix.EAGAIN)
	})
	if err = errors.Join(err, failed); err != nil {
		return 0, nil, err
	}
	if a, ok := at.(*unix.SockaddrLinklayer); ok && a.Halen == 6 && a.Pkttype != unix.PACKET_OUTGOING && a.Addr[0]&1 == 0 {
		from = append(from, a.Addr[:6]...)
	}
	return n, from, nil
}

func (s *Server) send(mac net.HardwareAddr, client netip.Addr, payload []byte) error {
	own, err := s.linkLocal()
	if err != nil {
		return err
	}
	control, err := s.wire.SyscallConn()
	if err != nil {
		return err
	}
	to := &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_IPV6), Ifindex: s.device.Index, Halen: uint8(len(mac))}
	copy(to.Addr[:], mac)
	var failed error
	err = control.Write(func(fd uintptr) bool {
		failed = unix.Sendto(int(fd), Datagram(own, client, payload), 0, to)
		return !errors.Is(failed, unix.EAGAIN)
	})
	return errors.Join(err, failed)
}

// linkLocal is the host's address on the bridge. A bridge without ports has none yet.
func (s *Server) linkLocal() (netip.Addr, error) {
	all, err := s.device.Addrs()
	if err != nil {
		return netip.Addr{}, fault.As(fault.Unavailable, err, "addresses of %s", s.device.Name)
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok && ip.Is6() && ip.IsLinkLocalUnicast() {
				return ip, nil
			}
		}
	}
	return netip.Addr{}, fault.New(fault.Unavailable, "interface %s: has no link-local address yet", s.device.Name)
}

// Close ends Serve.
func (s *Server) Close() error {
	s.closed.Store(true)
	return errors.Join(s.wire.Close(), s.port.Close())
}
