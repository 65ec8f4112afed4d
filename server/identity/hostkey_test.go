package identity_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"testing"
	"time"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
	"github.com/hyperplane-project/hyperplane/server/identity"
)

// withKey gives the host a key, which saves the time to make a long one.
func withKey(t *testing.T, path string) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return key
}

func TestRequestIdentity(t *testing.T) {
	t.Parallel()
	s, v := newService(t)
	host := withKey(t, s.Key.Path)
	ctx := principal.WithCaller(t.Context(), principal.Caller{Principal: principal.Principal{Name: "alice"}})
	ask := func(cert []byte) error {
		_, err := s.ReplaceVmIdentity(ctx, &hypervisorv1.ReplaceVmIdentityRequest{Vm: "web", IdentityRequestorCertificate: cert})
		return err
	}
	end := time.Now().Add(time.Hour)
	good := certify(t, "role", end, host, &host.PublicKey)
	if err := ask(good); !fault.Is(err, fault.FailedPrecondition) {
		t.Errorf("without a provider: %v", err)
	}
	s.Provider = "https://identity.example.com"
	if res, err := s.GetIdentityProvider(ctx, nil); err != nil || res.GetBaseUrl() != s.Provider {
		t.Error(res, err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		cert []byte
		want fault.Code
	}{
		"no PEM":         {[]byte("x"), fault.InvalidArgument},
		"no certificate": {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}), fault.InvalidArgument},
		"another's key":  {certify(t, "role", end, host, &other.PublicKey), fault.InvalidArgument},
		"the caller":     {certify(t, "alice", end, host, &host.PublicKey), fault.PermissionDenied},
		"expired":        {certify(t, "role", time.Now().Add(-time.Second), host, &host.PublicKey), fault.InvalidArgument},
		"good":           {good, fault.Unimplemented},
	} {
		if err := ask(c.cert); !fault.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if i := v.record.GetVmInfo(); i.GetIdentityName() != "" {
		t.Errorf("record: %v", i)
	}
}

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
