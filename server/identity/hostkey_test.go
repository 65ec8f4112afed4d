package identity_test

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"testing"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/identity"
)

func TestHostKeyIsMadeOnceAndKept(t *testing.T) {
	t.Parallel()
	s, _ := newService(t)
	first, err := s.GetPublicKey(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	block, rest := pem.Decode(first.GetKeyPem())
	if block == nil || block.Type != "PUBLIC KEY" || len(rest) > 0 {
		t.Fatalf("%s", first.GetKeyPem())
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if key, ok := public.(*rsa.PublicKey); !ok || key.N.BitLen() != 3072 {
		t.Errorf("%T", public)
	}
	if st, err := os.Stat(s.Key.Path); err != nil || st.Mode() != 0o600 {
		t.Error(st, err)
	}
	again, err := (&identity.HostKey{Path: s.Key.Path}).PublicPEM()
	if err != nil || string(again) != string(first.GetKeyPem()) {
		t.Errorf("after a restart: %s, %v", again, err)
	}
	for _, damage := range []string{"", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		if err := os.WriteFile(s.Key.Path, []byte(damage), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := (&identity.HostKey{Path: s.Key.Path}).PublicPEM(); !fault.Is(err, fault.DataLoss) {
			t.Errorf("damaged file: %v", err)
		}
	}
}
