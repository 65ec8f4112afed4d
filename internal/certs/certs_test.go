package certs_test

import (
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hyperplane-project/hyperplane/internal/certs"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
)

func TestCertificates(t *testing.T) {
	t.Parallel()
	term := certs.Term{Now: time.Now(), Lifetime: time.Hour}
	ca, err := certs.NewCA("Site", certs.Term{Now: term.Now})
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.Cert)
	user, err := ca.NewUser(certs.User{Name: "alice", Groups: []string{"a", "b"}, Methods: []string{"Hypervisor.Get*"}}, term)
	if err != nil {
		t.Fatal(err)
	}
	server, err := ca.NewServer([]string{"hv1.example.com", "192.0.2.1"}, &certs.User{Name: "hv1", Methods: []string{"Hypervisor.*"}}, term)
	if err != nil {
		t.Fatal(err)
	}
	for usage, cert := range map[x509.ExtKeyUsage]*x509.Certificate{x509.ExtKeyUsageClientAuth: user.Cert, x509.ExtKeyUsageServerAuth: server.Cert} {
		if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
			t.Error(err)
		}
	}
	if err := errors.Join(server.Cert.VerifyHostname("hv1.example.com"), server.Cert.VerifyHostname("192.0.2.1")); err != nil {
		t.Error(err)
	}
	who, err := principal.FromCertificate(user.Cert, func([]byte) bool { return true })
	if diff := cmp.Diff(principal.Principal{Name: "alice", Groups: []string{"a", "b"}, Powers: []string{"Hypervisor.Get*"}, Via: "certificate"}, who); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	if got := user.Cert.NotAfter.Sub(term.Now.Truncate(time.Second)); got != time.Hour {
		t.Errorf("it is good for %v", got)
	}
}

func TestWrongWishes(t *testing.T) {
	t.Parallel()
	term := certs.Term{Now: time.Now()}
	ca, err := certs.NewCA("Site", term)
	if err != nil {
		t.Fatal(err)
	}
	for name, wish := range map[string]func() (certs.Pair, error){
		"nameless CA":   func() (certs.Pair, error) { return certs.NewCA("", term) },
		"nameless user": func() (certs.Pair, error) { return ca.NewUser(certs.User{}, term) },
		"no method": func() (certs.Pair, error) {
			return ca.NewUser(certs.User{Name: "a", Methods: []string{"StopVm"}}, term)
		},
		"past": func() (certs.Pair, error) {
			return ca.NewUser(certs.User{Name: "a"}, certs.Term{Now: term.Now, Lifetime: -1})
		},
		"no names": func() (certs.Pair, error) { return ca.NewServer(nil, nil, term) },
		"no host":  func() (certs.Pair, error) { return ca.NewServer([]string{"a b"}, nil, term) },
	} {
		if _, err := wish(); !fault.Is(err, fault.InvalidArgument) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFiles(t *testing.T) {
	t.Parallel()
	ca, err := certs.NewCA("Site", certs.Term{Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	cert, key := filepath.Join(t.TempDir(), "ca.pem"), filepath.Join(t.TempDir(), "ca.key")
	if _, err := certs.Read(cert, key); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing there: %v", err)
	}
	if err := ca.Write(cert, key); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(key); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
	if again, err := certs.Read(cert, key); err != nil || !again.Cert.Equal(ca.Cert) || !again.Key.Equal(ca.Key) {
		t.Errorf("read again: %v", err)
	}
	for name, content := range map[string]string{"empty": "", "no PEM": "x", "another key": ""} {
		if name == "another key" {
			other, err := certs.NewCA("Other", certs.Term{Now: time.Now()})
			if err != nil {
				t.Fatal(err)
			}
			if err := other.Write(filepath.Join(t.TempDir(), "x"), key); err != nil {
				t.Fatal(err)
			}
		} else if err := os.WriteFile(key, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := certs.Read(cert, key); !fault.Is(err, fault.DataLoss) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
