// Package client connects to a Hyperplane server. The services' own clients are in gen/go; this package makes the connection they need, with
// the credential that fits.
package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/version"
)

// DefaultSocket is where the server's admin socket is unless it was told otherwise.
const DefaultSocket = "/run/hyperplane/hypervisord.sock"

// maxMessage is what one answer may hold: a list of very many VMs.
const maxMessage = 64 << 20

// Config says where the server is and who calls.
type Config struct {
	// Server is host:port, or unix:///path of the admin socket; empty = DefaultSocket.
	Server string
	// CAFile are the certificates to trust, PEM; empty = the system's.
	CAFile string
	// CertFile and KeyFile are a client certificate.
	CertFile, KeyFile string
	// Token is a bearer token.
	Token string
	// Plaintext speaks without TLS. A server takes that from its own host only, unless configured.
	Plaintext bool
}

// Dial makes a connection. It does not wait for the server: the first call does.
func Dial(c Config) (*grpc.ClientConn, error) {
	target := c.Server
	if target == "" {
		target = "unix://" + DefaultSocket
	}
	local := strings.HasPrefix(target, "unix:")
	if c.Token != "" && local {
		c.Token = "" // the socket itself makes the caller administrator
	}
	transport, err := c.transport(local)
	if err != nil {
		return nil, err
	}
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(transport), grpc.WithUserAgent("hyperplane/" + version.Text()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
	}
	if c.Token != "" {
		opts = append(opts, grpc.WithPerRPCCredentials(bearer{c.Token, !c.Plaintext}))
	}
	cc, err := grpc.NewClient(target, opts...)
	return cc, fault.As(fault.InvalidArgument, err, "server %s", target)
}

func (c Config) transport(local bool) (credentials.TransportCredentials, error) {
	if local || c.Plaintext {
		return insecure.NewCredentials(), nil
	}
	cfg, err := c.TLS()
	if err != nil {
		return nil, err
	}
	return credentials.NewTLS(cfg), nil
}

// TLS returns the TLS configuration.
func (c Config) TLS() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		raw, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fault.Wrap(err, "CA certificates")
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(raw) {
			return nil, fault.New(fault.InvalidArgument, "CA certificates %s: no certificate in PEM form", c.CAFile)
		}
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		return nil, fault.New(fault.InvalidArgument, "client certificate: give both certificate and key")
	}
	if c.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fault.As(fault.InvalidArgument, err, "client certificate")
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// ReadToken reads a token from a file.
func ReadToken(path string) (string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", fault.Wrap(err, "token")
	}
	token := strings.TrimSpace(string(raw))
	if token == "" {
		return "", errors.New("token file " + path + " is empty")
	}
	return token, nil
}

// bearer sends a token with each call.
type bearer struct {
	token  string
	secure bool
}

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + b.token}, nil
}

func (b bearer) RequireTransportSecurity() bool { return b.secure }
