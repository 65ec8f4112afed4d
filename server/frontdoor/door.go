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
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/hyperplane-project/hyperplane/internal/principal"
)

// greeting is how long a client may take to say what it speaks and to finish the TLS handshake.
const greeting = 15 * time.Second

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
			return err
		}
		wg.Go(func() { d.greet(ctx, conn, socket) })
	}
}

// greet finds out what the connection speaks and hands it on.
func (d *Door) greet(ctx context.Context, raw net.Conn, socket bool) {
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) }) // ends the greeting; handed-on connections have their own end
	conn := &Conn{Conn: raw, reader: bufio.NewReaderSize(raw, 4096)}
	conn.who.Local = socket || isLoopback(raw.RemoteAddr())
	if socket {
		conn.who = principal.Principal{Name: "root", Admin: true, Local: true, Via: "socket"}
	}
	_ = raw.SetDeadline(time.Now().Add(greeting))
	handOn, err := d.choose(ctx, conn)
	if !stop() || err != nil {
		d.Log.LogAttrs(ctx, slog.LevelDebug, "connection refused", slog.String("remote", raw.RemoteAddr().String()), slog.Any("error", err))
		_ = raw.Close()
		return
	}
	_ = raw.SetDeadline(time.Time{})
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
