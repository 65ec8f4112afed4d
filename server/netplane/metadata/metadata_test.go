package metadata_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/identity"
	"github.com/hyperplane-project/hyperplane/server/netplane/metadata"
	"github.com/hyperplane-project/hyperplane/server/userdata"
)

const mac = "52:54:00:00:00:01"

// oneVM is the VM 10.0.0.9 in subnet a.
type oneVM struct{ *hypervisorv1.VmInfo }

func (v oneVM) Info(ref string) (*hypervisorv1.VmInfo, error) {
	if ref != v.GetAddress().GetIpAddress() {
		return nil, fault.New(fault.NotFound, "no VM")
	}
	return v.VmInfo, nil
}

type fixture struct {
	t       *testing.T
	service *metadata.Service
	folder  string
	now     time.Time
	from    string
	at      string // the MAC address that is seen
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, folder: t.TempDir(), now: time.Unix(1000, 5), from: "10.0.0.9:1234", at: mac}
	f.service = &metadata.Service{
		Log: slog.New(slog.DiscardHandler), Tracer: metadata.NewTracer(), Now: func() time.Time { return f.now },
		VMs: oneVM{&hypervisorv1.VmInfo{
			Uuid: "uuid-1", Hostname: "web", SubnetId: "a", ImageName: "image", Address: &hypervisorv1.Address{IpAddress: "10.0.0.9", MacAddress: mac},
			Volumes: []*hypervisorv1.Volume{{}},
		}},
		Folder:   func(string) (string, error) { return f.folder, nil },
		Document: func(*hypervisorv1.VmInfo) ([]byte, error) { return []byte("{}"), nil },
	}
	return f
}

func (f *fixture) ask(method, path string, headers ...string) *httptest.ResponseRecorder {
	f.t.Helper()
	r := httptest.NewRequestWithContext(f.t.Context(), method, path, http.NoBody)
	r.RemoteAddr = f.from
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	f.service.Handler("a", func(netip.Addr) (string, error) { return f.at, nil }).ServeHTTP(w, r)
	return w
}

func TestPaths(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if got := f.ask("GET", "/latest/user-data"); got.Code != http.StatusNotFound {
		t.Errorf("without user data: %d", got.Code)
	}
	if err := os.WriteFile(filepath.Join(f.folder, userdata.File), []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/datasource/SmallStack": "true\n", "/latest/dynamic/epoch-time": "1000.000000005\n", "/latest/dynamic/instance-identity/document": "{}",
		"/latest/user-data": "data", "/nocloud/user-data": "data", "/nocloud/vendor-data": "", "/latest/is-externally-patchable": "true\n",
		"/latest/meta-data/instance-id": "uuid-1", "/latest/meta-data/local-hostname": "web", "/latest/meta-data/hostname": "web",
		"/latest/meta-data/local-ipv4": "10.0.0.9", "/latest/meta-data/mac": mac, "/latest/meta-data/ami-id": "image",
		"/latest/meta-data/": "ami-id\nhostname\ninstance-id\nlocal-hostname\nlocal-ipv4\nmac\n", "/latest": "dynamic/\nis-externally-patchable\nmeta-data/\nuser-data\n",
		"/nocloud/meta-data": "instance-id: \"uuid-1\"\nlocal-hostname: \"web\"\n",
	} {
		if got := f.ask("GET", path); got.Code != http.StatusOK || got.Body.String() != want {
			t.Errorf("%s: %d %q, want %q", path, got.Code, got.Body, want)
		}
	}
	if got := f.ask("GET", "/*").Body.String(); !strings.Contains(got, "/latest/user-data\n") || strings.Contains(got, "X.509") {
		t.Errorf("all: %q", got)
	}
	for _, path := range []string{"/latest/meta-data/public-keys", "/x", "/latest/dynamic/instance-identity/X.509-key"} {
		if got := f.ask("GET", path); got.Code != http.StatusNotFound {
			t.Errorf("%s: %d", path, got.Code)
		}
	}
	if got := f.ask("POST", "/latest/user-data"); got.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", got.Code)
	}
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("certificate")}))
	private := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err := os.WriteFile(filepath.Join(f.folder, identity.File), []byte(cert+private), 0o600); err != nil {
		t.Fatal(err)
	}
	const folder = "/latest/dynamic/instance-identity/"
	for name, want := range map[string]string{"X.509-certificate": cert, "X.509-key": private, "Ed25519-X.509-certificate": cert, "Ed25519-X.509-key": private} {
		if got := f.ask("GET", folder+name); got.Code != http.StatusOK || got.Body.String() != want {
			t.Errorf("%s: %d", name, got.Code)
		}
	}
	if got := f.ask("GET", folder+"RSA-X.509-key"); got.Code != http.StatusNotFound {
		t.Errorf("a key of another kind: %d", got.Code)
	}
}

func TestWhoIsRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		from, at string
		headers  []string
		want     int
	}{
		"the VM":       {"10.0.0.9:1", mac, nil, 200},
		"no VM":        {"10.0.0.8:1", mac, nil, 404},
		"another card": {"10.0.0.9:1", "52:54:00:00:00:02", nil, 403},
		"nobody there": {"10.0.0.9:1", "", nil, 403},
		"forwarded":    {"10.0.0.9:1", mac, []string{"X-Forwarded-For: 192.0.2.1"}, 403},
		"bad token":    {"10.0.0.9:1", mac, []string{"X-aws-ec2-metadata-token: x"}, 401},
	} {
		f := newFixture(t)
		f.from, f.at = c.from, c.at
		if got := f.ask("GET", "/latest/meta-data/mac", c.headers...); got.Code != c.want {
			t.Errorf("%s: %d, want %d", name, got.Code, c.want)
		}
	}
	f := newFixture(t)
	if got := f.service.Handler("b", func(netip.Addr) (string, error) { return mac, nil }); got != nil {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/latest/meta-data/mac", http.NoBody)
		r.RemoteAddr = f.from
		w := httptest.NewRecorder()
		got.ServeHTTP(w, r)
		if w.Code != http.StatusNotFound {
			t.Errorf("in another subnet: %d", w.Code)
		}
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const ttl = "X-aws-ec2-metadata-token-ttl-seconds: "
	for _, bad := range []string{"0", "21601", "x"} {
		if got := f.ask("PUT", "/latest/api/token", ttl+bad); got.Code != http.StatusBadRequest {
			t.Errorf("%s seconds: %d", bad, got.Code)
		}
	}
	token := "X-aws-ec2-metadata-token: " + f.ask("PUT", "/latest/api/token", ttl+"60").Body.String()
	if got := f.ask("GET", "/latest/meta-data/mac", token); got.Code != http.StatusOK {
		t.Errorf("with a token: %d", got.Code)
	}
	f.now = f.now.Add(time.Minute)
	if got := f.ask("GET", "/latest/meta-data/mac", token); got.Code != http.StatusUnauthorized {
		t.Errorf("with a token that has expired: %d", got.Code)
	}
}

func TestLimitAndTrace(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	paths, stop := f.service.Tracer.Trace("uuid-1")
	defer stop()
	slow, stopSlow := f.service.Tracer.Trace("uuid-1")
	defer stopSlow()
	codes := make(map[int]int)
	for range 300 {
		codes[f.ask("GET", "/a%0Ab").Code]++
		if got := <-paths; got != "/a%0Ab" {
			t.Fatalf("traced %q", got)
		}
	}
	if codes[404] != 200 || codes[429] != 100 {
		t.Errorf("answers: %v", codes)
	}
	for range 256 {
		<-slow
	}
	if _, open := <-slow; open {
		t.Error("a slow reader is still served")
	}
	f.now = f.now.Add(time.Second)
	if got := f.ask("GET", "/latest/meta-data/mac"); got.Code != http.StatusOK {
		t.Errorf("a second later: %d", got.Code)
	}
}
