// Package pki makes and keeps what the daemon proves itself with, and what its first administrator proves himself with: a CA, a server
// certificate, an admin certificate and an admin token, all under the state directory and readable by their owner only.
package pki

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hyperplane-project/hyperplane/internal/certs"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
)

// The files below the directory.
const (
	CAFile        = "ca.pem"
	caKeyFile     = "ca.key"
	serverFile    = "server.pem"
	serverKeyFile = "server.key"
	AdminFile     = "admin.pem"
	AdminKeyFile  = "admin.key"
	TokenFile     = "admin.token"
)

// AdminName is the user whom the admin credentials stand for.
const AdminName = "admin"

// renewBefore is how long before its end a certificate is made anew at start.
const renewBefore = 30 * 24 * time.Hour

// Config says how the daemon identifies itself and whom it believes.
type Config struct {
	// Dir is where the files are; it is made with mode 0700.
	Dir string
	// Names are host names and addresses in the server certificate, beside the host's own name, localhost and the loopback addresses.
	Names []string
	// ClientCAs are further CAs whose client certificates are believed, method lists included; IdentityCAs are believed for user and groups only.
	ClientCAs, IdentityCAs string
	// CertFile and KeyFile are the server's certificate, PEM; empty = one of its own CA.
	CertFile, KeyFile string
	// Now is the clock.
	Now func() time.Time
}

// Authority is the daemon's identity and its judgement of others'.
type Authority struct {
	server         tls.Certificate
	clients        *x509.CertPool
	methodsIssuers map[string]bool // raw subjects of the CAs whose method lists count
	tokenHash      [sha256.Size]byte
}

// Open reads the files and makes those that are missing or about to end.
func Open(cfg Config) (*Authority, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fault.Wrap(err, "credentials")
	}
	m := maker{dir: cfg.Dir, now: cfg.Now()}
	ca, err := m.authority()
	if err != nil {
		return nil, err
	}
	server, err := m.server(ca, cfg)
	if err != nil {
		return nil, err
	}
	if _, err := m.leaf(ca, AdminFile, AdminKeyFile, nil, func() (certs.Pair, error) {
		return ca.NewUser(certs.User{Name: AdminName, Methods: []string{"*.*"}}, certs.Term{Now: m.now})
	}); err != nil {
		return nil, err
	}
	token, err := m.token()
	if err != nil {
		return nil, err
	}
	a := &Authority{server: server, clients: x509.NewCertPool(), methodsIssuers: make(map[string]bool), tokenHash: sha256.Sum256([]byte(token))}
	a.trust(ca.Cert, true)
	return a, errors.Join(a.trustFile(cfg.ClientCAs, true), a.trustFile(cfg.IdentityCAs, false))
}

func (a *Authority) trust(ca *x509.Certificate, methods bool) {
	a.clients.AddCert(ca)
	if methods {
		a.methodsIssuers[string(ca.RawSubject)] = true
	}
}

func (a *Authority) trustFile(path string, methods bool) error {
	if path == "" {
		return nil
	}
	all, err := certs.ReadCertificates(path)
	if err != nil {
		return err
	}
	for _, c := range all {
		a.trust(c, methods)
	}
	return nil
}

// ServerTLS returns the configuration of a listener whose clients may show a certificate. Those shown are verified.
func (a *Authority) ServerTLS() *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{a.server},
		ClientAuth:   tls.VerifyClientCertIfGiven,
		ClientCAs:    a.clients,
	}
}

// Identify returns whom a connection's client certificate stands for; nobody if none was shown.
func (a *Authority) Identify(state *tls.ConnectionState) (principal.Principal, error) {
	if state == nil || len(state.VerifiedChains) == 0 {
		return principal.Principal{}, nil
	}
	return principal.FromCertificate(state.VerifiedChains[0][0], func(issuer []byte) bool { return a.methodsIssuers[string(issuer)] })
}

// CheckToken implements intercept.TokenChecker for the admin token.
func (a *Authority) CheckToken(_ context.Context, token string) (principal.Principal, error) {
	hash := sha256.Sum256([]byte(token))
	if subtle.ConstantTimeCompare(hash[:], a.tokenHash[:]) != 1 {
		return principal.Principal{}, fault.New(fault.Unauthenticated, "bearer token is not valid")
	}
	return principal.Principal{Name: AdminName, Admin: true, Via: "token"}, nil
}

// maker makes what is missing in a directory.
type maker struct {
	dir string
	now time.Time
}

func (m maker) path(name string) string { return filepath.Join(m.dir, name) }

// authority reads the CA, or makes it if there is none. One that exists is never replaced: certificates hang on it.
func (m maker) authority() (certs.Pair, error) {
	pair, err := certs.Read(m.path(CAFile), m.path(caKeyFile))
	if !errors.Is(err, fs.ErrNotExist) {
		return pair, err
	}
	if pair, err = certs.NewCA("Hyperplane CA", certs.Term{Now: m.now}); err != nil {
		return pair, err
	}
	return pair, pair.Write(m.path(CAFile), m.path(caKeyFile))
}

// leaf reads a certificate, or makes it if it is missing, about to end, of another CA, or lacks a name.
func (m maker) leaf(ca certs.Pair, certFile, keyFile string, names []string, fresh func() (certs.Pair, error)) (tls.Certificate, error) {
	pair, err := certs.Read(m.path(certFile), m.path(keyFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return tls.Certificate{}, err
	}
	if err != nil || m.now.Add(renewBefore).After(pair.Cert.NotAfter) || pair.Cert.CheckSignatureFrom(ca.Cert) != nil || !covers(pair.Cert, names) {
		if pair, err = fresh(); err != nil {
			return tls.Certificate{}, err
		}
		if err := pair.Write(m.path(certFile), m.path(keyFile)); err != nil {
			return tls.Certificate{}, err
		}
	}
	return tls.Certificate{Certificate: [][]byte{pair.Cert.Raw, ca.Cert.Raw}, PrivateKey: pair.Key, Leaf: pair.Cert}, nil
}

// server returns the certificate that the configuration names, or our own.
func (m maker) server(ca certs.Pair, cfg Config) (tls.Certificate, error) {
	if cfg.CertFile == "" {
		names := serverNames(cfg.Names)
		return m.leaf(ca, serverFile, serverKeyFile, names, func() (certs.Pair, error) { return ca.NewServer(names, nil, certs.Term{Now: m.now}) })
	}
	pair, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
	if err != nil {
		return pair, fault.As(fault.InvalidArgument, err, "the server's certificate (cert_file, key_file)")
	}
	if m.now.After(pair.Leaf.NotAfter) {
		return pair, fault.New(fault.FailedPrecondition, "%s: the server's certificate ended on %s", cfg.CertFile, pair.Leaf.NotAfter.Format(time.DateOnly))
	}
	return pair, nil
}

func (m maker) token() (string, error) {
	path := filepath.Join(m.dir, TokenFile)
	raw, err := os.ReadFile(path)
	if err == nil {
		if token := strings.TrimSpace(string(raw)); token != "" {
			return token, nil
		}
		return "", fault.New(fault.FailedPrecondition, "%s is empty; remove it to have a token made", path)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fault.Wrap(err, "admin token")
	}
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		return "", err
	}
	token := base64.RawURLEncoding.EncodeToString(secret)
	return token, fault.Wrap(os.WriteFile(path, []byte(token+"\n"), 0o600), "admin token")
}

// covers says whether the certificate holds all names.
func covers(cert *x509.Certificate, names []string) bool {
	for _, name := range names {
		if cert.VerifyHostname(name) != nil {
			return false
		}
	}
	return true
}

// serverNames adds what every server is called.
func serverNames(more []string) []string {
	names := []string{"localhost", "127.0.0.1", "::1"}
	if host, err := os.Hostname(); err == nil {
		names = append([]string{host}, names...)
	}
	for _, n := range more {
		if !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return names
}
