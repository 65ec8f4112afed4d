package client_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/srpcshim/client"
	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest/fakepeer"
)

func TestCertificates(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		server func(*site) tls.Certificate
		client func(*site) tls.Certificate
		want   string
	}{
		"no alternative names": {func(s *site) tls.Certificate { return s.Peer() }, nil, ""},
		"its address":          {func(s *site) tls.Certificate { return s.Peer(net.IPv4(127, 0, 0, 1)) }, nil, ""},
		"another address":      {func(s *site) tls.Certificate { return s.Peer(net.IPv4(127, 0, 0, 2)) }, nil, "not believed"},
		"another authority":    {func(s *site) tls.Certificate { return fakepeer.NewAuthority(s.t).Peer() }, nil, "not believed"},
		"a client's": {func(s *site) tls.Certificate {
			return s.Sign(&x509.Certificate{Subject: pkix.Name{CommonName: "x"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		}, nil, "not believed"},
		"a client it does not know": {
			func(s *site) tls.Certificate { return s.Peer() }, func(s *site) tls.Certificate { return fakepeer.NewAuthority(s.t).Client("host") }, "does not believe this host",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, nil)
			s.peer = fakepeer.Start(t, fakepeer.Options{Certificate: test.server(s), Trust: s.Pool})
			mine := s.Client("host")
			if test.client != nil {
				mine = test.client(s)
			}
			c, err := client.Dial(t.Context(), client.Config{Address: s.peer.Addr, TLS: s.config(mine)})
			if err == nil { // with TLS 1.3 a client's certificate is refused later
				defer c.Close()
				if _, err = info(t, c, address); err != nil && strings.Contains(err.Error(), "no VM with") {
					err = nil
				}
			}
			if (test.want == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), test.want)) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

// TestAnswersToConnect are those of servers that are something else.
func TestAnswersToConnect(t *testing.T) {
	t.Parallel()
	for answer, code := range map[string]fault.Code{
		"":                                    fault.Unavailable,
		"\x15\x03\x01\x00\x02\x02\x46\n":      fault.Unavailable,
		"HTTP/1.0 404 Not Found\r\n\r\n":      fault.Unavailable,
		"HTTP/1.0 200 OK\r\n\r\n":             fault.Unavailable,
		"HTTP/1.0 401 Unauthorized\nX: y\n\n": fault.PermissionDenied,
		"HTTP/1.0 200 Connected to Go SRPC\n\nand more":      fault.Unavailable,
		"HTTP/1.0 200 Connected to Go SRPC\n\n":              fault.Unavailable,
		"HTTP/1.0 " + strings.Repeat("x", 1<<20):             fault.Unavailable,
		"HTTP/1.0 200 Fine\n" + strings.Repeat("a: b\n", 99): fault.Unavailable,
	} {
		listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = bufio.NewReader(conn).ReadString('\n') // whatever it is
			_, _ = io.WriteString(conn, answer)           // the client may have enough of it
			_ = conn.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, conn) // until the client has ended
			_ = conn.Close()
		}()
		_, err = client.Dial(t.Context(), client.Config{Address: listener.Addr().String(), TLS: &tls.Config{MinVersion: tls.VersionTLS12}})
		if !fault.Is(err, code) {
			t.Errorf("%.40q: %v, want code %d", answer, err, code)
		}
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := client.Dial(t.Context(), client.Config{Address: "127.0.0.1:1", TLS: &tls.Config{MinVersion: tls.VersionTLS12}}); !fault.Is(err, fault.Unavailable) {
		t.Errorf("nobody there: %v", err)
	}
}
