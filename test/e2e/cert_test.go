package e2e

import (
	"crypto/tls"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest"
	"github.com/hyperplane-project/hyperplane/test/proc"
)

// TestCertificates makes a site's certificates with hyperctl and lets a daemon that has them judge their holders, over gRPC and SRPC.
func TestCertificates(t *testing.T) {
	t.Parallel()
	pki, users := t.TempDir(), t.TempDir()
	cert := func(args ...string) string {
		out, err := proc.Run(t.Context(), nil, program(t, "hyperctl"), append([]string{"cert"}, args...)...)
		if err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
		return out
	}
	cert("ca", "--dir", pki)
	cert("identity-ca", "--dir", pki)
	cert("server", "127.0.0.1", "hv1.example.com", "--dir", pki, "--out", pki, "--lifetime", "24h")
	cert("user", "root", "--method", "*.*", "--dir", pki, "--out", users)
	cert("user", "reader", "--method", "Hypervisor.Get*", "--method", "Hypervisor.List*", "--dir", pki, "--out", users)
	cert("user", "alice", "--identity", "--group", "team-a", "--dir", pki, "--out", users)
	if out := cert("show", filepath.Join(users, "alice.cert"), filepath.Join(users, "reader.cert"), filepath.Join(pki, "cert.pem")); !strings.Contains(out, "team-a") ||
		!strings.Contains(out, "Hypervisor.Get*,Hypervisor.List*") || !strings.Contains(out, "hv1.example.com") {
		t.Errorf("show:\n%s", out)
	}
	for _, wrong := range [][]string{
		{"ca", "--dir", pki},                                   // is there
		{"user", "eve", "--identity", "--method", "*.*"},       // counts for nothing
		{"user", "eve", "--method", "StopVm", "--dir", pki},    // no service
		{"user", "eve", "--dir", users, "--out", t.TempDir()},  // no authority there
		{"server", "no good", "--dir", pki, "--out", users},    // no name
		{"user", "../eve", "--dir", pki, "--out", t.TempDir()}, // leaves the directory
	} {
		if out, err := proc.Run(t.Context(), nil, program(t, "hyperctl"), append([]string{"cert"}, wrong...)...); err == nil {
			t.Errorf("%q is no error: %s", wrong, out)
		}
	}
	for _, key := range []string{filepath.Join(pki, "CA.key"), filepath.Join(users, "root.key")} {
		if st, err := os.Stat(key); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", key, st.Mode(), err)
		}
	}

	config := filepath.Join(t.TempDir(), "config.yaml")
	write(t, config, "hypervisor: {driver: fake}\nclient_ca_file: "+filepath.Join(pki, "CA.pem")+"\nidentity_ca_file: "+filepath.Join(pki, "IdentityCA.pem")+
		"\ncert_file: "+filepath.Join(pki, "cert.pem")+"\nkey_file: "+filepath.Join(pki, "key.pem")+"\n")
	d := startDaemon(t, nil, "--config", config)
	address, err := d.File(t.Context(), filepath.Join(d.dir, "address"))
	if err != nil {
		t.Fatal(err)
	}
	as := func(user string, args ...string) error {
		_, err := proc.Run(t.Context(), nil, program(t, "hyperctl"), append([]string{
			"--server", address, "--ca", filepath.Join(pki, "CA.pem"), "--cert", filepath.Join(users, user+".cert"), "--key", filepath.Join(users, user+".key"),
		}, args...)...)
		return err
	}
	if err := errors.Join(as("root", "host", "disable"), as("root", "host", "enable"), as("reader", "vm", "list"), as("alice", "vm", "list")); err != nil {
		t.Error(err)
	}
	for _, user := range []string{"alice", "reader"} {
		if err := as(user, "host", "disable"); err == nil {
			t.Errorf("%s could disable the host", user)
		}
		pair, err := tls.LoadX509KeyPair(filepath.Join(users, user+".cert"), filepath.Join(users, user+".key"))
		if err != nil {
			t.Fatal(err)
		}
		c, err := srpctest.Dial(t.Context(), t, "tcp", address, srpctest.SecureGob, srpctest.Shows(pair))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Call("Hypervisor.ListVMs", struct{ Sort bool }{true}, new(srpctest.ListVMsReply)); err != nil {
			t.Errorf("%s: %v", user, err)
		}
		if err := c.Start("Hypervisor.SetDisabledState"); err == nil || err.Error() != "access to method denied" {
			t.Errorf("%s: %v", user, err)
		}
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(pki, "cert.pem"), filepath.Join(pki, "key.pem"))
	if err != nil || time.Until(pair.Leaf.NotAfter) > 25*time.Hour {
		t.Errorf("the server's certificate: %v", err)
	}
}
