// Package servertest starts a whole server on the fake hypervisor, on free loopback ports, for tests of what a caller sees.
package servertest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	convertersall "github.com/hyperplane-project/hyperplane/converters/all"
	"github.com/hyperplane-project/hyperplane/internal/principal"
	providersall "github.com/hyperplane-project/hyperplane/providers/all"
	"github.com/hyperplane-project/hyperplane/server"
	"github.com/hyperplane-project/hyperplane/server/config"
	"github.com/hyperplane-project/hyperplane/server/hypervisor/fake"
	"github.com/hyperplane-project/hyperplane/server/pki"
)

// Server is a running server. It ends with its test.
type Server struct {
	// Addr is host:port of the one TCP listener, Socket the admin socket.
	Addr, Socket string
	Config       config.Config
	Host         *fake.Host
	t            *testing.T
	stop         func()
}

// Start starts a server on an empty state, with the configuration changed by change (which may be nil).
func Start(t *testing.T, change func(*config.Config)) *Server {
	t.Helper()
	dir := t.TempDir()
	cfg := config.Default()
	cfg.StateDir = filepath.Join(dir, "state")
	cfg.Socket = filepath.Join(dir, "sock")
	cfg.Listen = []string{"127.0.0.1:0"}
	cfg.Hypervisor.Driver = "fake"
	if change != nil {
		change(&cfg)
	}
	s := &Server{Config: cfg, Host: fake.NewHost(fake.Options{}), t: t}
	s.Restart()
	t.Cleanup(func() { s.Stop() })
	return s
}

// Restart ends the server if it runs and starts it on the same state and host.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	if err := s.Config.Validate(); err != nil {
		s.t.Fatal(err)
	}
	driver := s.Host.Open()
	srv, err := server.New(s.t.Context(), s.Config, server.Deps{
		Log: slog.New(slog.NewTextHandler(s.t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})), Driver: driver,
		Providers: providersall.Registry(), Formats: convertersall.Formats(), Version: "test", Now: time.Now,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	listeners, err := srv.Listen(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	s.Addr, s.Socket = listeners.TCP[0].Addr().String(), s.Config.Socket
	ctx, cancel := context.WithCancel(context.Background()) //nolint:forbidigo // the server must outlive t.Context to be drained by Stop
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx, listeners) }()
	s.stop = func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Errorf("server: %v", err)
		}
		if err := driver.Close(); err != nil {
			s.t.Errorf("driver: %v", err)
		}
	}
}

// Stop ends the server.
func (s *Server) Stop() {
	if s.stop != nil {
		s.stop()
		s.stop = nil
	}
}

func (s *Server) pki(name string) string { return filepath.Join(s.Config.StateDir, "pki", name) }

// Token returns the admin token.
func (s *Server) Token() string {
	s.t.Helper()
	raw, err := os.ReadFile(s.pki(pki.TokenFile))
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.TrimSpace(string(raw))
}

// TLS returns a client configuration that trusts the server and, with asAdmin, shows the admin certificate.
func (s *Server) TLS(asAdmin bool) *tls.Config {
	s.t.Helper()
	raw, err := os.ReadFile(s.pki(pki.CAFile))
	if err != nil {
		s.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(raw) {
		s.t.Fatal("no CA certificate")
	}
	cfg := &tls.Config{RootCAs: pool, ServerName: "localhost", MinVersion: tls.VersionTLS12}
	if asAdmin {
		pair, err := tls.LoadX509KeyPair(s.pki(pki.AdminFile), s.pki(pki.AdminKeyFile))
		if err != nil {
			s.t.Fatal(err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg
}

// Dial connects over TLS, with the admin certificate or, without it, with nothing.
func (s *Server) Dial(asAdmin bool) *grpc.ClientConn {
	s.t.Helper()
	return s.dial(s.Addr, grpc.WithTransportCredentials(credentials.NewTLS(s.TLS(asAdmin))))
}

// DialSocket connects through the admin socket.
func (s *Server) DialSocket() *grpc.ClientConn {
	s.t.Helper()
	return s.dial("unix://"+s.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
}

// DialPlain connects in plain text.
func (s *Server) DialPlain() *grpc.ClientConn {
	s.t.Helper()
	return s.dial(s.Addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
}

func (s *Server) dial(target string, opts ...grpc.DialOption) *grpc.ClientConn {
	s.t.Helper()
	cc, err := grpc.NewClient(target, opts...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = cc.Close() }) // a test may have closed it
	return cc
}

// WithToken returns a context that carries the admin token.
func (s *Server) WithToken(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+s.Token())
}

// HTTP returns a client over TLS without a certificate, and the base URL.
func (s *Server) HTTP() (client *http.Client, base string) {
	s.t.Helper()
	tr := &http.Transport{TLSClientConfig: s.TLS(false), ForceAttemptHTTP2: true}
	s.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}, "https://" + s.Addr
}

// Raw opens a TCP connection.
func (s *Server) Raw() net.Conn {
	s.t.Helper()
	conn, err := new(net.Dialer).DialContext(s.t.Context(), "tcp", s.Addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() }) // a test may have closed it
	return conn
}

// ClientCertificate makes a certificate of the server's own CA for a user, with a method list if there is one.
func (s *Server) ClientCertificate(user string, methods ...string) tls.Certificate {
	s.t.Helper()
	ca, err := tls.LoadX509KeyPair(s.pki(pki.CAFile), s.pki("ca.key"))
	if err != nil {
		s.t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: user}, NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if len(methods) > 0 {
		list, err := asn1.Marshal(methods)
		if err != nil {
			s.t.Fatal(err)
		}
		template.ExtraExtensions = []pkix.Extension{{Id: principal.OIDMethods(), Value: list}}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.Leaf, &key.PublicKey, ca.PrivateKey)
	if err != nil {
		s.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// DialAs connects over TLS with a client certificate.
func (s *Server) DialAs(cert tls.Certificate) *grpc.ClientConn {
	s.t.Helper()
	cfg := s.TLS(false)
	cfg.Certificates = []tls.Certificate{cert}
	return s.dial(s.Addr, grpc.WithTransportCredentials(credentials.NewTLS(cfg)))
}
