package client

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

const (
	// endpoint is the path for gob over TLS. With powerless the server leaves the powers of the caller's certificate out of account.
	endpoint  = "/_go_TLS_SRPC_/"
	powerless = "?doNotUseMethodPowers=true"
	// connected is the reason text of the answer to a good CONNECT request; it is compared as it stands.
	connected = "Connected to Go SRPC"
	// bufferSize bounds a line, headerLines the lines of the answer to CONNECT.
	bufferSize  = 16 << 10
	headerLines = 64
)

// connect opens a connection, and proves who is there.
func (c *Conn) connect(ctx context.Context, powers bool) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", c.address)
	if err != nil {
		return nil, fault.As(reason(ctx), err, "connect to %s", c.address)
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	secured, err := c.secure(ctx, raw, powers)
	if err == nil {
		if stop() {
			l := &link{Conn: secured, in: bufio.NewReaderSize(secured, bufferSize), powers: powers}
			return l, c.register(l)
		}
		err = fault.New(reason(ctx), "%v", ctx.Err())
	}
	if ctx.Err() != nil {
		err = fault.As(reason(ctx), err, "in time")
	}
	return nil, errors.Join(fault.Wrap(err, "connect to %s", c.address), raw.Close())
}

// reason is the code of an error that the end of ctx, or else the network, has caused.
func reason(ctx context.Context) fault.Code {
	if err := ctx.Err(); err != nil {
		return fault.CodeOf(err)
	}
	return fault.Unavailable
}

// secure asks for the endpoint and goes over to TLS.
func (c *Conn) secure(ctx context.Context, raw net.Conn, powers bool) (net.Conn, error) {
	path := endpoint + powerless
	if powers {
		path = endpoint
	}
	if _, err := io.WriteString(raw, "CONNECT "+path+" HTTP/1.0\n\n"); err != nil {
		return nil, fault.As(fault.Unavailable, err, "CONNECT")
	}
	in := bufio.NewReaderSize(raw, bufferSize)
	if err := readAnswer(in); err != nil {
		return nil, err
	}
	if in.Buffered() > 0 {
		return nil, fault.New(fault.Unavailable, "the peer says something after its answer to CONNECT, where TLS should begin")
	}
	host, _, err := net.SplitHostPort(c.address)
	if err != nil {
		return nil, fault.As(fault.InvalidArgument, err, "address %q", c.address)
	}
	secured := tls.Client(raw, c.verifying(host))
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, handshakeFault(err)
	}
	return secured, nil
}

// readAnswer reads the answer to CONNECT.
func readAnswer(in *bufio.Reader) error {
	status, err := readLine(in)
	if err != nil {
		return fault.As(fault.Unavailable, err, "answer to CONNECT")
	}
	for range headerLines {
		line, err := readLine(in)
		if err != nil {
			return fault.As(fault.Unavailable, err, "answer to CONNECT")
		}
		if line == "" {
			return checkAnswer(status)
		}
	}
	return fault.New(fault.Unavailable, "the answer to CONNECT has more than %d lines", headerLines)
}

func checkAnswer(status string) error {
	version, rest, _ := strings.Cut(status, " ")
	code, text, _ := strings.Cut(rest, " ")
	n, err := strconv.Atoi(code)
	switch {
	case err != nil || !strings.HasPrefix(version, "HTTP/1."):
		return fault.New(fault.Unavailable, "it does not speak SRPC: it answers CONNECT with %q", printable(status))
	case n == http.StatusOK && text == connected:
		return nil
	case n == http.StatusUnauthorized:
		return fault.New(fault.PermissionDenied, "it refuses CONNECT: %s", printable(rest))
	default:
		return fault.New(fault.Unavailable, "it does not speak SRPC with TLS: it answers CONNECT with %q", printable(status))
	}
}

// verifying is the configuration that verifies the server as the package says.
func (c *Conn) verifying(host string) *tls.Config {
	cfg := c.tls.Clone()
	cfg.MinVersion = max(cfg.MinVersion, tls.VersionTLS12)
	cfg.NextProtos = nil
	// Small records would cut the digests of GetVmVolume in pieces, see volumeStream.ask.
	cfg.DynamicRecordSizingDisabled = true
	if net.ParseIP(host) == nil {
		cfg.ServerName = host
	}
	roots := cfg.RootCAs
	cfg.InsecureSkipVerify = true // the certificate is verified right below: only its name is another matter
	cfg.VerifyConnection = func(s tls.ConnectionState) error { return verify(s.PeerCertificates, roots, host) }
	return cfg
}

// oidSAN is the extension with the subject alternative names (RFC 5280, 4.2.1.6).
const oidSAN = "2.5.29.17"

func verify(chain []*x509.Certificate, roots *x509.CertPool, host string) error {
	if len(chain) == 0 {
		return errors.New("the server shows no certificate")
	}
	leaf, opts := chain[0], x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, c := range chain[1:] {
		opts.Intermediates.AddCert(c)
	}
	for _, e := range leaf.Extensions {
		if e.Id.String() == oidSAN {
			opts.DNSName = host
		}
	}
	if _, err := leaf.Verify(opts); err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: chain, Err: err}
	}
	return nil
}

// handshakeFault says who does not believe whom.
func handshakeFault(err error) error {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fault.As(fault.PermissionDenied, err, "the peer's certificate is not believed")
	}
	if refusedByPeer(err) {
		return fault.As(fault.PermissionDenied, err, "the peer does not believe this host's certificate")
	}
	return fault.As(fault.Unavailable, err, "TLS handshake")
}

// refusedByPeer says that an error is an alert of the other side. With TLS 1.3 the refusal of a client's certificate comes when the first answer is read.
func refusedByPeer(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "remote error"
}
