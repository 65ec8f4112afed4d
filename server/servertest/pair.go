package servertest

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/hyperplane-project/hyperplane/server/config"
)

// StartPair starts two servers; there may call here, where it has method power on the methods.
func StartPair(t *testing.T, powers ...string) (here, there *Server) {
	t.Helper()
	return StartPairWith(t, nil, powers...)
}

// StartPairWith is StartPair with a change of the configuration of there, which may be nil.
func StartPairWith(t *testing.T, change func(*config.Config), powers ...string) (here, there *Server) {
	t.Helper()
	here = Start(t, nil)
	dir := t.TempDir()
	cert := here.ClientCertificate("host-there", powers...)
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: cert.Certificate[0]}, "key.pem": {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	there = Start(t, func(c *config.Config) {
		c.Peers = config.Peers{CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem"), CAFile: here.pki("ca.pem")}
		if change != nil {
			change(c)
		}
	})
	return here, there
}
