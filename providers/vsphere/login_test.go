package vsphere_test

import (
	"crypto/sha1" //nolint:gosec // thumbprints may be SHA-1
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/providers/driver"
	"github.com/hyperplane-project/hyperplane/providers/vsphere"
	"github.com/hyperplane-project/hyperplane/providers/vsphere/vcentersim"
)

// refused logs in and returns the error, which there must be, after checking its code and that it shows no password.
func refused(t *testing.T, s driver.Settings, want fault.Code) string {
	t.Helper()
	d, err := vsphere.Open(t.Context(), s, logger(t))
	if err == nil {
		_ = d.Close(t.Context())
		t.Fatalf("logged in with %+v", s)
	}
	if !fault.Is(err, want) {
		t.Errorf("error has code %d, want %d: %v", fault.CodeOf(err), want, err)
	}
	if strings.Contains(err.Error(), password) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the error shows a password: %v", err)
	}
	return err.Error()
}

func TestSettingsRefused(t *testing.T) {
	t.Parallel()
	notPEM := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(notPEM, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	good := driver.Settings{URL: "vc.example.com", Username: user, Password: password}
	for name, change := range map[string]func(*driver.Settings){
		"no url":               func(s *driver.Settings) { s.URL = "" },
		"url without host":     func(s *driver.Settings) { s.URL = "https:///sdk" },
		"url not parsable":     func(s *driver.Settings) { s.URL = "https://root:hunter2@[::1" },
		"password in url":      func(s *driver.Settings) { s.URL = "https://root:hunter2@vc.example.com" },
		"http":                 func(s *driver.Settings) { s.URL = "http://vc.example.com" },
		"query":                func(s *driver.Settings) { s.URL = "https://vc.example.com/sdk?x=hunter2" },
		"no user":              func(s *driver.Settings) { s.Username = "" },
		"thumbprint short":     func(s *driver.Settings) { s.Thumbprint = "AA:BB" },
		"thumbprint not hex":   func(s *driver.Settings) { s.Thumbprint = strings.Repeat("zz", 32) },
		"insecure and pinned":  func(s *driver.Settings) { s.InsecureSkipVerify, s.Thumbprint = true, strings.Repeat("ab", 32) },
		"ca file without cert": func(s *driver.Settings) { s.CAFile = notPEM },
		"negative timeout":     func(s *driver.Settings) { s.Timeout = -1 },
		"negative parallel":    func(s *driver.Settings) { s.Parallel = -1 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := good
			change(&s)
			refused(t, s, fault.InvalidArgument)
		})
	}
	missing := good
	missing.CAFile = filepath.Join(t.TempDir(), "none.pem")
	if text := refused(t, missing, fault.NotFound); !strings.Contains(text, "none.pem") {
		t.Errorf("the error does not name the file: %s", text)
	}
}

// fingerprints returns the SHA-256 and the SHA-1 of a server's certificate.
func fingerprints(t *testing.T, sim *vcentersim.Simulator) (string, string) {
	t.Helper()
	block, _ := pem.Decode(sim.Certificate())
	long, short := sha256.Sum256(block.Bytes), sha1.Sum(block.Bytes) //nolint:gosec // see the import
	return hex.EncodeToString(long[:]), strings.ToUpper(hex.EncodeToString(short[:]))
}

func colons(digits string) string {
	var pairs []string
	for i := 0; i < len(digits); i += 2 {
		pairs = append(pairs, digits[i:i+2])
	}
	return strings.Join(pairs, ":")
}

func TestTrust(t *testing.T) {
	t.Parallel()
	data := noise(9, 1<<20)
	sim := startSim(t, vcentersim.Config{LeaseHost: "localhost", VMs: []vcentersim.VM{{Name: "vm", Disks: []vcentersim.Disk{diskOf(data)}}}})
	other := startSim(t, vcentersim.Config{})
	long, short := fingerprints(t, sim)
	plain := settings(t, sim)
	plain.CAFile = ""

	t.Run("unknown CA", func(t *testing.T) {
		t.Parallel()
		text := refused(t, plain, fault.FailedPrecondition)
		for _, want := range []string{"ca_file", "thumbprint", strings.ToUpper(colons(long))} {
			if !strings.Contains(text, want) {
				t.Errorf("the error does not say %q: %s", want, text)
			}
		}
	})
	t.Run("other CA", func(t *testing.T) {
		t.Parallel()
		s := plain
		s.CAFile = caFile(t, other)
		refused(t, s, fault.FailedPrecondition)
	})
	t.Run("other thumbprint", func(t *testing.T) {
		t.Parallel()
		s := plain
		s.Thumbprint, _ = fingerprints(t, other)
		refused(t, s, fault.FailedPrecondition)
	})
	t.Run("right thumbprint but other CA", func(t *testing.T) {
		t.Parallel()
		s := plain
		s.Thumbprint, s.CAFile = long, caFile(t, other)
		refused(t, s, fault.FailedPrecondition)
	})
	// The disks are at another host name than the API: only the lease's thumbprint, or the CA, vouches for that.
	for name, change := range map[string]func(*driver.Settings){
		"sha256":   func(s *driver.Settings) { s.Thumbprint = long },
		"sha1":     func(s *driver.Settings) { s.Thumbprint = colons(short) },
		"ca":       func(s *driver.Settings) { s.CAFile = caFile(t, sim) },
		"both":     func(s *driver.Settings) { s.CAFile, s.Thumbprint = caFile(t, sim), colons(long) },
		"insecure": func(s *driver.Settings) { s.InsecureSkipVerify = true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := plain
			change(&s)
			d := connect(t, s)
			all, err := d.ListVMs(t.Context(), "")
			if err != nil || len(all) != 1 {
				t.Fatalf("%d VMs are listed: %v", len(all), err)
			}
		})
	}
}

// TestOtherHost reads a disk from a host whose certificate only the lease vouches for, and whose cookie jar is empty.
func TestOtherHost(t *testing.T) {
	t.Parallel()
	data := noise(9, 1<<20)
	for _, host := range []string{"localhost", "*"} {
		t.Run(host, func(t *testing.T) {
			t.Parallel()
			sim := startSim(t, vcentersim.Config{LeaseHost: host, ContentLength: true, VMs: []vcentersim.VM{{Name: "vm", Disks: []vcentersim.Disk{diskOf(data)}}}})
			s := settings(t, sim)
			s.CAFile = ""
			s.Thumbprint, _ = fingerprints(t, sim)
			v := openView(t, connect(t, s), "vm", driver.OpenOptions{})
			c, err := v.OpenDisk(t.Context(), v.VM().Disks[0].ID)
			if err != nil {
				t.Fatal(err)
			}
			got, err := decode(t, c)
			if err != nil || string(got) != string(data) {
				t.Errorf("%d bytes were read that differ: %v", len(got), err)
			}
			if err := c.Stream.Close(); err != nil || c.StreamSize <= 0 {
				t.Errorf("stream of size %d: %v", c.StreamSize, err)
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	text := refused(t, driver.Settings{URL: addr, Username: user, Password: password}, fault.Unavailable)
	if !strings.Contains(text, addr) {
		t.Errorf("the error does not name %s: %s", addr, text)
	}
}

func TestNotTLS(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.NotFoundHandler())
	defer srv.Close()
	refused(t, driver.Settings{URL: srv.Listener.Addr().String(), Username: user, Password: password}, fault.FailedPrecondition)
}

// TestSilentServer connects to a server that accepts and then says nothing.
func TestSilentServer(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	refused(t, driver.Settings{URL: l.Addr().String(), Username: user, Password: password, Timeout: 100 * time.Millisecond}, fault.Unavailable)
}

// TestNotAVCenter talks to a web server that knows nothing of the API.
func TestNotAVCenter(t *testing.T) {
	t.Parallel()
	srv := httptest.NewTLSServer(http.NotFoundHandler())
	defer srv.Close()
	_, err := vsphere.Open(t.Context(), driver.Settings{URL: srv.Listener.Addr().String(), Username: user, Password: password, InsecureSkipVerify: true}, logger(t))
	if err == nil || strings.Contains(err.Error(), password) {
		t.Fatalf("error: %v", err)
	}
}
