package fakepeer

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest"
)

// Authority is the certificate authority of a site: hosts believe each other by it.
type Authority struct {
	*srpctest.Authority
	tb testing.TB
}

// NewAuthority makes one.
func NewAuthority(tb testing.TB) *Authority {
	tb.Helper()
	return &Authority{srpctest.NewAuthority(tb, "site"), tb}
}

// Peer makes a host's certificate for these addresses; without any it has no subject alternative names, as many hosts' have.
func (a *Authority) Peer(addresses ...net.IP) tls.Certificate {
	a.tb.Helper()
	return a.Sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "hypervisor"}, IPAddresses: addresses,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
}

// Client makes the certificate of a host or a user that lists methods, Service.Method with wildcards.
func (a *Authority) Client(name string, methods ...string) tls.Certificate {
	a.tb.Helper()
	return a.Authority.Client(name, nil, methods)
}

// Files writes a certificate, its key and the authority's certificate as PEM files.
func (a *Authority) Files(cert tls.Certificate) (certFile, keyFile, caFile string) {
	a.tb.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		a.tb.Fatal(err)
	}
	dir := a.tb.TempDir()
	write := func(name string, content []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, content, 0o600); err != nil {
			a.tb.Fatal(err)
		}
		return file
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
	return write("cert.pem", certPEM), write("key.pem", keyPEM), write("ca.pem", a.PEM())
}
