package pki_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/pki"
)

func open(t *testing.T, dir string, now time.Time) *pki.Authority {
	t.Helper()
	a, err := pki.Open(pki.Config{Dir: dir, Names: []string{"hv1.example.com", "192.0.2.1"}, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for _, name := range []string{pki.CAFile, "server.pem", pki.AdminFile, pki.TokenFile} {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		all[name] = string(raw)
	}
	return all
}

func TestCredentialsStayAndAreRenewedInTime(t *testing.T) {
	t.Parallel()
	dir, now := t.TempDir(), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	open(t, dir, now)
	first := files(t, dir)
	open(t, dir, now.Add(100*24*time.Hour))
	for name, text := range files(t, dir) {
		if text != first[name] {
			t.Errorf("%s was made anew though it was good", name)
		}
	}
	open(t, dir, now.Add(340*24*time.Hour))
	later := files(t, dir)
	if later["server.pem"] == first["server.pem"] || later[pki.AdminFile] == first[pki.AdminFile] {
		t.Error("certificates about to end were not renewed")
	}
	if later[pki.CAFile] != first[pki.CAFile] || later[pki.TokenFile] != first[pki.TokenFile] {
		t.Error("CA or token was replaced")
	}
}

func TestServerCertificateHasItsNames(t *testing.T) {
	t.Parallel()
	cert := open(t, t.TempDir(), time.Now()).ServerTLS().Certificates[0].Leaf
	for _, name := range []string{"localhost", "127.0.0.1", "::1", "hv1.example.com", "192.0.2.1"} {
		if err := cert.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
}

func TestToken(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := open(t, dir, time.Now())
	token := files(t, dir)[pki.TokenFile]
	if p, err := a.CheckToken(t.Context(), token[:len(token)-1]); err != nil || !p.Admin {
		t.Errorf("the admin's token: %v, %v", p, err)
	}
	for _, wrong := range []string{"", "x", token + "x"} {
		if p, err := a.CheckToken(t.Context(), wrong); !fault.Is(err, fault.Unauthenticated) || p.Authenticated() {
			t.Errorf("token %q: %v, %v", wrong, p, err)
		}
	}
}

func TestDamageIsNamed(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"ca.key", "server.key", pki.CAFile, pki.TokenFile} {
		dir := t.TempDir()
		open(t, dir, time.Now())
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := pki.Open(pki.Config{Dir: dir, Now: time.Now}); err == nil {
			t.Errorf("an empty %s was accepted", name)
		}
	}
}
