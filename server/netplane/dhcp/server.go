package dhcp

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// The ports of RFC 2131, section 4.1.
const (
	serverPort = 67
	clientPort = 68
)

// Server serves a bridge. Make one with Listen.
type Server struct {
	handler *Handler
	conn    net.PacketConn
	// out sends packets of the link layer: cards without an address answer no ARP.
	out   int
	index int
}

// Listen opens the sockets on a network interface. Other DHCP servers of the host on other interfaces are in nobody's way.
func Listen(ctx context.Context, device string, listen func(ctx context.Context, device, address string) (net.PacketConn, error), h *Handler) (*Server, error) {
	link, err := net.InterfaceByName(device)
	if err != nil {
		return nil, fault.As(fault.FailedPrecondition, err, "interface %s", device)
	}
	conn, err := listen(ctx, device, netip.AddrPortFrom(netip.IPv4Unspecified(), serverPort).String())
	if err != nil {
		return nil, fault.As(fault.Unavailable, err, "DHCP server on %s", device)
	}
	// Protocol 0: it only sends.
	out, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, errors.Join(fault.As(fault.Unavailable, err, "DHCP server on %s", device), conn.Close())
	}
	return &Server{handler: h, conn: conn, out: out, index: link.Index}, nil
}

// Serve answers packets until Close.
func (s *Server) Serve(ctx context.Context) {
	defer func() { _ = unix.Close(s.out) }()
	buf := make([]byte, 2048)
	for {
		n, _, err := s.conn.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an error of one packet
		}
		reply := s.handler.Handle(ctx, buf[:n])
		if reply == nil {
			continue
		}
		if err := s.send(reply); err != nil {
			s.handler.log.LogAttrs(ctx, slog.LevelWarn, "DHCP answer not sent", slog.String("mac", reply.MAC.String()), slog.Any("error", err))
		}
	}
}

// Close ends Serve.
func (s *Server) Close() error { return s.conn.Close() }

func (s *Server) send(r *Reply) error {
	to := &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_IP), Ifindex: s.index, Halen: uint8(len(r.MAC))}
	copy(to.Addr[:], r.MAC)
	return unix.Sendto(s.out, Datagram(s.handler.cfg.Server, r.Address, serverPort, clientPort, r.Payload), 0, to)
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// Datagram makes an IPv4 packet (RFC 791) with a UDP datagram (RFC 768).
func Datagram(from, to netip.Addr, fromPort, toPort uint16, payload []byte) []byte {
	const ipHeader, udpHeader = 20, 8
	p := make([]byte, ipHeader+udpHeader, ipHeader+udpHeader+len(payload))
	p = append(p, payload...)
	src, dst := from.As4(), to.As4()
	p[0], p[8], p[9] = 4<<4|ipHeader/4, 64, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	copy(p[12:], src[:])
	copy(p[16:], dst[:])
	binary.BigEndian.PutUint16(p[10:], ^sum(0, p[:ipHeader]))

	udp := p[ipHeader:]
	binary.BigEndian.PutUint16(udp[0:], fromPort)
	binary.BigEndian.PutUint16(udp[2:], toPort)
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	pseudo := sum(uint32(sum(uint32(unix.IPPROTO_UDP+len(udp)), p[12:20])), udp)
	if pseudo = ^pseudo; pseudo == 0 {
		pseudo = 0xffff // 0 would mean: none
	}
	binary.BigEndian.PutUint16(udp[6:], pseudo)
	return p
}

// sum adds 16-bit words in ones' complement (RFC 1071).
func sum(total uint32, b []byte) uint16 {
	for ; len(b) > 1; b = b[2:] {
		total += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		total += uint32(b[0]) << 8
	}
	for total > 0xffff {
		total = total>>16 + total&0xffff
	}
	return uint16(total)
}
