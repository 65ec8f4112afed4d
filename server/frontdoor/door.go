// Package frontdoor is the one way in: on every listener the first bytes of a connection say which protocol it speaks, and the connection
// is handed on. It knows no service.
//
//	TLS, and the client offers h2 but not http/1.1   → gRPC's own transport
//	other TLS                                         → HTTP (REST; also gRPC from clients that offer both)
//	CONNECT                                           → SRPC, which does its own TLS after its answer
//	HTTP/2 preface, or other HTTP in plain text       → gRPC, HTTP; on loopback and the Unix socket only, unless configured
package frontdoor

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/hyperplane-project/hyperplane/internal/principal"
)

// greeting is how long a client may take to say what it speaks and to finish the TLS handshake.
const greeting = 15 * time.Second

// breath is how long nothing is accepted when there was no room for a connection.
const breath = 50 * time.Millisecond

// refusal is what a plain-text client gets where only TLS is spoken.
const refusal = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nThis port speaks TLS. Use https.\n"

// Door hands connections on. Its methods are called after all fields are set.
type Door struct {
	Log *slog.Logger
	// TLS is the configuration for TLS from the first byte, without NextProtos.
	TLS *tls.Config
	// Identify says whom a TLS connection's client certificate stands for.
	Identify func(*tls.ConnectionState) (principal.Principal, error)
	// SRPC serves a connection that began with CONNECT and closes it; nil = such connections are refused.
	SRPC func(ctx context.Context, conn net.Conn)
	// AllowPlain accepts plain text from anywhere.
	AllowPlain bool
	// GRPC and HTTP are where connections are handed to.
	GRPC, HTTP *Handoff
	// MaxWaiting bounds the connections whose clients have not said who they are; zero = 2048. Those that have waited longest make room for others.
	MaxWaiting int

	waiting waiting
}

// Serve accepts connections until ctx ends. socket says that the listener is the Unix socket, whose clients are administrators.
func (d *Door) Serve(ctx context.Context, ln net.Listener, socket bool) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() }) // the error of a closed listener is what ends the loop
	defer stop()
	for {
		conn, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
				continue
			}
			if full(err) {
				d.pause(ctx, err)
				continue
			}
			return err
		}
		waiting := &Conn{Conn: conn, reader: bufio.NewReaderSize(conn, 4096)}
		d.waiting.add(waiting, cmp.Or(d.MaxWaiting, defaultWaiting))
		wg.Go(func() { d.greet(ctx, waiting, socket) })
	}
}

// full says whether there is no room for a connection now. That passes, and must not end the server.
func full(err error) bool {
	return slices.ContainsFunc([]error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM}, func(e error) bool { return errors.Is(err, e) })
}

// pause makes room, and waits for some.
func (d *Door) pause(ctx context.Context, err error) {
	d.Log.LogAttrs(ctx, slog.LevelWarn, "no connection can be accepted at present", slog.Any("error", err))
	d.waiting.relieve()
	timer := time.NewTimer(breath)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// greet finds out what the connection speaks and hands it on.
func (d *Door) greet(ctx context.Context, conn *Conn, socket bool) {
	raw := conn.Conn
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) }) // ends the greeting; handed-on connections have their own end
	conn.who.Local = socket || isLoopback(raw.RemoteAddr())
	if socket {
		conn.who = principal.Principal{Name: "root", Admin: true, Local: true, Via: "socket"}
	}
	defer d.waiting.remove(conn)
	_ = raw.SetDeadline(time.Now().Add(greeting))
	handOn, err := d.choose(ctx, conn)
	if !stop() || err != nil {
		d.Log.LogAttrs(ctx, slog.LevelDebug, "connection refused", slog.String("remote", raw.RemoteAddr().String()), slog.Any("error", err))
		_ = raw.Close()
		return
	}
	_ = raw.SetDeadline(time.Time{})
	if conn.admitted == nil { // what comes next has its own ways to find out who the client is
		d.waiting.remove(conn)
	}
	handOn()
}

// choose looks at the first bytes and returns what to do with the connection.
func (d *Door) choose(ctx context.Context, conn *Conn) (func(), error) {
	first, err := conn.reader.Peek(1)
	if err != nil {
		return nil, err
	}
	if first[0] == 0x16 { // a TLS handshake record
		return d.secure(ctx, conn)
	}
	start, err := conn.reader.Peek(4)
	if err != nil {
		return nil, err
	}
	switch {
	case string(start) == "CONN" && d.SRPC != nil:
		conn.admitted = func() { d.waiting.remove(conn) }
		return func() { d.SRPC(principal.With(ctx, conn.who), conn) }, nil
	case !d.AllowPlain && !conn.who.Local:
		_, err := conn.Write([]byte(refusal))
		return nil, errors.Join(errors.New("plain text is not accepted from this address"), err)
	case string(start) == "PRI ":
		return func() { d.GRPC.give(conn) }, nil
	default:
		return func() { d.HTTP.give(conn) }, nil
	}
}

// secure does the TLS handshake and chooses by what the client offers.
func (d *Door) secure(ctx context.Context, conn *Conn) (func(), error) {
	onlyH2 := false
	cfg := d.TLS.Clone()
	cfg.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		c := d.TLS.Clone()
		onlyH2 = slices.Contains(hello.SupportedProtos, "h2") && !slices.Contains(hello.SupportedProtos, "http/1.1")
		if c.NextProtos = []string{"h2", "http/1.1"}; onlyH2 {
			c.NextProtos = []string{"h2"}
		}
		return c, nil
	}
	secured := tls.Server(conn, cfg)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	state := secured.ConnectionState()
	who, err := d.Identify(&state)
	if err != nil {
		return nil, err
	}
	local := conn.who.Local
	if who.Authenticated() || !conn.who.Authenticated() {
		conn.who = who
	}
	conn.who.Local = local
	if onlyH2 {
		return func() { d.GRPC.give(&Conn{Conn: secured, who: conn.who, tls: &state}) }, nil
	}
	// net/http recognises HTTP/2 only on a *tls.Conn itself; ConnOf finds the principal through it.
	return func() { d.HTTP.give(secured) }, nil
}

func isLoopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}
