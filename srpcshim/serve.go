package srpcshim

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"time"

	"google.golang.org/grpc/peer"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
)

// admitted is a connection whose listener wants to know that the client has said who it is.
type admitted interface{ Admitted() }

// session is one connection.
type session struct {
	mux      *Mux
	life     lifetime
	conn     net.Conn // with TLS, once there is TLS
	in       *bufio.Reader
	below    *buffered // what TLS reads from; nil without TLS
	codec    codec
	encoding encoding
	// owed says that the end of the last message may still come.
	owed bool
	// farewell says that the connection ends with an answer to something that the client may not have sent to its end.
	farewell bool
}

// ServeConn serves a connection that begins with CONNECT, and closes it. ctx carries a principal that says what is known of the peer already
// (that it is local; who it is, if it came through the admin socket). When ctx ends, the call under way may finish. TCP keep-alive is the
// listener's business; net.ListenConfig's default does it.
func (m *Mux) ServeConn(ctx context.Context, conn net.Conn) {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	s := &session{mux: m, conn: conn, in: bufio.NewReaderSize(conn, lineSize), life: lifetime{conn: conn}}
	stop := context.AfterFunc(ctx, func() { s.drain(work, cancel) })
	defer stop()
	defer func() {
		if r := recover(); r != nil {
			m.opts.Log.LogAttrs(work, slog.LevelError, "SRPC connection panicked", slog.Any("panic", r), slog.String("stack", string(debug.Stack())))
		}
		s.linger()
		_ = s.conn.Close() // the peer may have closed it
		_ = conn.Close()
	}()
	err := s.serve(peer.NewContext(work, &peer.Peer{Addr: conn.RemoteAddr(), LocalAddr: conn.LocalAddr()}))
	s.farewell = told(err)
	if err != nil {
		m.opts.Log.LogAttrs(work, slog.LevelDebug, "SRPC connection ended", slog.String("remote", conn.RemoteAddr().String()), slog.Any("error", err))
	}
}

// drain lets the call under way finish for a while, then cuts it.
func (s *session) drain(work context.Context, cancel context.CancelFunc) {
	s.life.end()
	timer := time.NewTimer(s.mux.opts.Limits.Drain)
	defer timer.Stop()
	select {
	case <-work.Done():
	case <-timer.C:
		cancel()
		s.life.cut()
	}
}

func (s *session) serve(ctx context.Context) error {
	ctx, err := s.greet(ctx)
	if err != nil {
		return err
	}
	if a, ok := s.life.conn.(admitted); ok {
		a.Admitted()
	}
	for {
		if !s.life.rest(s.mux.opts.Limits.Idle) {
			return nil
		}
		if _, err := s.in.Peek(1); err != nil {
			return ended(err)
		}
		if !s.life.work(s.mux.opts.Limits.Request) {
			return nil
		}
		if err := s.call(ctx); err != nil {
			return err
		}
	}
}

// ended forgives the ends that a connection may have between two calls.
func ended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// greet answers the CONNECT request, does the TLS handshake if the endpoint has TLS, and returns a context that carries the caller.
func (s *session) greet(ctx context.Context) (context.Context, error) {
	if !s.life.rest(s.mux.opts.Limits.Greeting) {
		return nil, fault.New(fault.Unavailable, "the server ends")
	}
	e, err := readConnect(s.in)
	if err == nil {
		err = s.mux.open(ctx, e)
	}
	if r, ok := errors.AsType[*refusal](err); ok {
		return nil, errors.Join(err, s.write([]byte(r.answer())))
	}
	if err != nil {
		return nil, err
	}
	if err := s.write([]byte(connected)); err != nil {
		return nil, err
	}
	s.encoding, s.codec = e.encoding, s.mux.codecs[e.encoding]
	who, _ := principal.From(ctx)
	if e.secure {
		if who, err = s.secure(ctx, who); err != nil {
			return nil, err
		}
	}
	if e.noPowers {
		who.Admin, who.Powers = false, nil
	}
	return principal.With(ctx, who), nil
}

// open refuses endpoints without TLS to callers whom nothing identifies.
func (m *Mux) open(ctx context.Context, e endpoint) error {
	who, _ := principal.From(ctx)
	if e.secure || m.opts.OpenReads || who.Authenticated() {
		return nil
	}
	return &refusal{http.StatusMethodNotAllowed, "this server wants TLS and a client certificate"}
}

// secure does the TLS handshake and returns whom the client's certificate stands for; who is what is known without it.
func (s *session) secure(ctx context.Context, who principal.Principal) (principal.Principal, error) {
	if !s.life.rest(s.mux.opts.Limits.Handshake) {
		return who, fault.New(fault.Unavailable, "the server ends")
	}
	s.below = &buffered{Conn: s.conn, in: s.in}
	secured := tls.Server(s.below, s.mux.secure)
	if err := s.deadline(s.mux.opts.Limits.Handshake); err != nil {
		return who, err
	}
	if err := secured.HandshakeContext(ctx); err != nil {
		return who, fault.As(fault.Unauthenticated, err, "TLS handshake")
	}
	s.conn, s.in = secured, bufio.NewReaderSize(secured, lineSize)
	state := secured.ConnectionState()
	shown, err := s.mux.opts.Identify(&state)
	if err != nil || !shown.Authenticated() {
		return who, err
	}
	shown.Local = who.Local
	return shown, nil
}

// deadline bounds what is written from now on.
func (s *session) deadline(d time.Duration) error { return s.conn.SetWriteDeadline(time.Now().Add(d)) }

func (s *session) write(data []byte) error {
	if err := s.deadline(s.mux.opts.Limits.Reply); err != nil {
		return err
	}
	_, err := s.conn.Write(data)
	return err
}
