package server

import (
	"context"
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/config"
	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest/fakepeer"
)

// listen starts a listener whose connections are served by serve.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // its end is the end of the test
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	return l.Addr().String()
}

// TestProbe: who speaks TLS at once speaks gRPC, who does not speaks SRPC.
func TestProbe(t *testing.T) {
	t.Parallel()
	a := fakepeer.NewAuthority(t)
	cfg := &tls.Config{RootCAs: a.Pool, MinVersion: tls.VersionTLS12}
	overTLS := func(cert tls.Certificate) string {
		return listen(t, func(c net.Conn) {
			_ = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"}}).HandshakeContext(t.Context())
		})
	}
	for name, test := range map[string]struct{ address, want string }{
		"a peer":            {fakepeer.Start(t, fakepeer.Options{Certificate: a.Peer(), Trust: a.Pool}).Addr, config.ProtocolSRPC},
		"ends":              {listen(t, func(c net.Conn) { _ = c.Close() }), config.ProtocolSRPC},
		"TLS":               {overTLS(a.Peer(net.IPv4(127, 0, 0, 1))), config.ProtocolGRPC},
		"TLS, not believed": {overTLS(fakepeer.NewAuthority(t).Peer()), config.ProtocolGRPC},
		"nobody":            {"127.0.0.1:1", ""},
		"no port":           {"127.0.0.1", ""},
	} {
		for range 20 { // what TLS begins with is chance, what is said to it is not
			got, err := probe(t.Context(), test.address, cfg)
			if got != test.want || (err == nil) != (test.want != "") || (err != nil && !fault.Is(err, fault.Unavailable)) {
				t.Errorf("%s: %q, want %q: %v", name, got, test.want, err)
			}
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	silent := listen(t, func(c net.Conn) {
		<-t.Context().Done()
		_ = c.Close()
	})
	if got, err := probe(ctx, silent, cfg); !fault.Is(err, fault.DeadlineExceeded) {
		t.Errorf("says nothing: %q %v", got, err)
	}
}
