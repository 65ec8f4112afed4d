package pki_test

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/pki"
)

func TestIssue(t *testing.T) {
	t.Parallel()
	dir, out, now := t.TempDir(), filepath.Join(t.TempDir(), "out"), time.Now()
	wish := pki.Wish{Name: "host-b", Methods: []string{"PeerService.SendVm", "PeerService.Tunnel"}, Lifetime: time.Hour}
	if err := pki.Issue(dir, out, now, wish); !fault.Is(err, fault.FailedPrecondition) {
		t.Errorf("without a CA: %v", err)
	}
	authority, err := pki.Open(pki.Config{Dir: dir, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	if err := pki.Issue(dir, out, now, wish); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(filepath.Join(out, pki.IssuedKeyFile)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("key: %v %v", st, err)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(out, pki.IssuedFile), filepath.Join(out, pki.IssuedKeyFile))
	if err != nil {
		t.Fatal(err)
	}
	chains, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: authority.ServerTLS().ClientCAs, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		t.Fatal(err)
	}
	p, err := authority.Identify(&tls.ConnectionState{VerifiedChains: chains})
	if err != nil || p.Name != "host-b" || p.Admin || !p.HasPower("PeerService.SendVm") || p.HasPower("VmService.DestroyVm") {
		t.Errorf("principal: %+v %v", p, err)
	}
	if !pair.Leaf.NotAfter.Equal(now.Add(time.Hour).Truncate(time.Second)) {
		t.Errorf("it ends %v", pair.Leaf.NotAfter)
	}
	if err := pki.Issue(dir, out, now, wish); !fault.Is(err, fault.AlreadyExists) {
		t.Errorf("once more: %v", err)
	}
	for _, bad := range []pki.Wish{{}, {Name: "admin"}, {Name: "x", Methods: []string{"SendVm"}}, {Name: "x", Lifetime: -1}} {
		if err := pki.Issue(dir, t.TempDir(), now, bad); !fault.Is(err, fault.InvalidArgument) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}
