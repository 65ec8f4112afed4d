package vsphere

import (
	"context"
	"crypto/sha1" //nolint:gosec // vSphere gives the thumbprints of its hosts as SHA-1
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// fingerprint is the digest of a certificate: 20 bytes of SHA-1 or 32 of SHA-256. Empty means none.
type fingerprint string

func parseFingerprint(text string) (fingerprint, error) {
	plain := strings.NewReplacer(":", "", " ", "", "-", "").Replace(text)
	sum, err := hex.DecodeString(plain)
	if err != nil || (len(sum) != sha1.Size && len(sum) != sha256.Size) {
		return "", fault.New(fault.InvalidArgument, "vsphere: thumbprint is not valid; give the SHA-256 or SHA-1 of the certificate as hex digits with or without colons")
	}
	return fingerprint(sum), nil
}

func (f fingerprint) matches(cert *x509.Certificate) bool {
	if len(f) == sha1.Size {
		sum := sha1.Sum(cert.Raw) //nolint:gosec // see the import
		return string(f) == string(sum[:])
	}
	sum := sha256.Sum256(cert.Raw)
	return string(f) == string(sum[:])
}

// String gives the form that browsers and the vSphere client show.
func (f fingerprint) String() string {
	var b strings.Builder
	for i := range len(f) {
		if i > 0 {
			b.WriteByte(':')
		}
		fmt.Fprintf(&b, "%02X", f[i])
	}
	return b.String()
}

// trust decides whether a server is the one that is meant. It is safe for concurrent use.
type trust struct {
	insecure bool
	roots    *x509.CertPool // nil: the system's
	addr     string         // host:port that pin is for
	pin      fingerprint
	chain    bool // the pinned certificate must chain to roots as well

	mu    sync.Mutex
	hosts map[string]fingerprint // by host:port, as told by a lease
}

// addHost notes the thumbprint of a host that holds disks. It comes over the verified connection to vCenter, so it is as good as vCenter's own.
func (t *trust) addHost(addr, thumbprint, certPEM string) {
	pin, err := parseFingerprint(thumbprint)
	if block, _ := pem.Decode([]byte(certPEM)); err != nil && block != nil {
		sum := sha256.Sum256(block.Bytes)
		pin, err = fingerprint(sum[:]), nil
	}
	if err != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.hosts[addr] = pin
}

func (t *trust) verify(addr string, cs tls.ConnectionState) error {
	if t.insecure {
		return nil
	}
	leaf := cs.PeerCertificates[0]
	if t.pin != "" && addr == t.addr {
		if !t.pin.matches(leaf) {
			return &certificateError{addr: addr, seen: leaf, pinned: true}
		}
		if !t.chain {
			return nil
		}
	}
	t.mu.Lock()
	host := t.hosts[addr]
	t.mu.Unlock()
	if host != "" && host.matches(leaf) {
		return nil
	}
	return t.verifyChain(addr, cs)
}

func (t *trust) verifyChain(addr string, cs tls.ConnectionState) error {
	name, _, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	opts := x509.VerifyOptions{Roots: t.roots, DNSName: name, Intermediates: x509.NewCertPool()}
	for _, c := range cs.PeerCertificates[1:] {
		opts.Intermediates.AddCert(c)
	}
	if _, err := cs.PeerCertificates[0].Verify(opts); err != nil {
		return &certificateError{addr: addr, seen: cs.PeerCertificates[0], cause: err}
	}
	return nil
}

// certificateError says that a server's certificate is not the expected one.
type certificateError struct {
	addr   string
	seen   *x509.Certificate
	pinned bool
	cause  error
}

func (e *certificateError) Error() string {
	sum := sha256.Sum256(e.seen.Raw)
	seen := fingerprint(sum[:])
	if e.pinned {
		return fmt.Sprintf("the certificate of %s is not the one with the thumbprint given; its SHA-256 is %s", e.addr, seen)
	}
	return fmt.Sprintf("the certificate of %s is not trusted (%v); give its CA as ca_file, or its thumbprint after you compared it: SHA-256 %s", e.addr, e.cause, seen)
}

func (e *certificateError) Unwrap() error { return e.cause }

// transport makes the connections of a session, API and disks alike. There is no limit on the time of a request: calls have a context with
// one, and a disk takes as long as it takes.
func (t *trust) transport(timeout time.Duration) *http.Transport {
	dialer := &net.Dialer{Timeout: timeout, KeepAlive: 15 * time.Second}
	return &http.Transport{
		DialContext: dialer.DialContext,
		DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			raw, err := dialer.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			conn := tls.Client(raw, t.config(addr))
			if err := handshake(ctx, conn, timeout); err != nil {
				_ = raw.Close()
				return nil, err
			}
			return conn, nil
		},
		DisableCompression:  true,
		MaxIdleConnsPerHost: 8,
		IdleConnTimeout:     time.Minute,
		ReadBufferSize:      64 << 10,
	}
}

func handshake(ctx context.Context, conn *tls.Conn, timeout time.Duration) error {
	limited, cancel := context.WithTimeoutCause(ctx, timeout, fault.New(fault.Unavailable, "the server did not finish the TLS handshake within %s", timeout))
	defer cancel()
	err := conn.HandshakeContext(limited)
	if err != nil && limited.Err() != nil {
		return context.Cause(limited)
	}
	return err
}

func (t *trust) config(addr string) *tls.Config {
	name, _, err := net.SplitHostPort(addr)
	if err != nil {
		name = addr
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         name,
		InsecureSkipVerify: true, //nolint:gosec // verify below does it, with thumbprints as well
		VerifyConnection:   func(cs tls.ConnectionState) error { return t.verify(addr, cs) },
	}
}
