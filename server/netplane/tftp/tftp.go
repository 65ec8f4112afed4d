// Package tftp is a read-only TFTP server (RFC 1350 with the options of RFC 2347, 2348 and 2349) that serves files from memory, for machines that boot
// from the network.
package tftp

import (
	"context"
	"net"
	"net/netip"
	"sync"
)

// Port is where clients ask (RFC 1350, section 4).
const Port = 69

// maxTransfers bounds the transfers that run at once.
const maxTransfers = 64

// Server serves files. Set all fields, then call Serve.
type Server struct {
	// File returns a file that a client may have. The content must not change.
	File func(client netip.Addr, name string) ([]byte, bool)
	// Dial opens the socket for one transfer: each has a port of its own, by which client and server know it.
	Dial func(ctx context.Context) (net.PacketConn, error)
}

// Serve answers requests that come to conn until it is closed. Transfers that run then are ended.
func (s *Server) Serve(ctx context.Context, conn net.PacketConn) error {
	ctx, cancel := context.WithCancel(ctx)
	var transfers sync.WaitGroup
	defer transfers.Wait()
	defer cancel()
	slots := make(chan struct{}, maxTransfers)
	buf := make([]byte, 1024)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return err
		}
		req, err := parseRequest(buf[:n])
		if err != nil {
			continue // only a request may come here; anything else is answered by silence
		}
		select {
		case slots <- struct{}{}:
		default:
			continue // the client asks again
		}
		transfers.Go(func() {
			defer func() { <-slots }()
			s.transfer(ctx, from, req)
		})
	}
}

func (s *Server) transfer(ctx context.Context, to net.Addr, req request) {
	conn, err := s.Dial(ctx)
	if err != nil {
		return // the client asks again
	}
	defer conn.Close() //nolint:errcheck // every packet was sent or the client asks again
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	t := &transfer{conn: conn, to: to, blockSize: defaultBlock, timeout: defaultTimeout}
	udp, ok := to.(*net.UDPAddr)
	if !ok {
		return
	}
	switch content, found := s.File(udp.AddrPort().Addr().Unmap(), req.name); {
	case req.write:
		t.fail(errAccess, "this server only sends files")
	case !found:
		t.fail(errNotFound, "no such file for this machine")
	default:
		t.send(content, req)
	}
}
