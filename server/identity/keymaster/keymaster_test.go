package keymaster_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
	"github.com/hyperplane-project/hyperplane/server/identity"
	"github.com/hyperplane-project/hyperplane/server/identity/keymaster"
)

// host is a host with one VM, "web", whose clock the test turns.
type host struct {
	*identity.Service
	t        *testing.T
	dir      string
	provider *provider
	waits    chan time.Duration
	wake     chan time.Time

	mu     sync.Mutex
	record *hypervisorv1.LocalVmInfo
}

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{
		t: t, dir: t.TempDir(), provider: newProvider(t), waits: make(chan time.Duration, 100), wake: make(chan time.Time),
		record: &hypervisorv1.LocalVmInfo{VmInfo: &hypervisorv1.VmInfo{Uuid: "u"}},
	}
	h.restart()
	return h
}

// restart makes a service that knows what is in files only.
func (h *host) restart() {
	if h.Service != nil {
		h.Close()
	}
	h.Service = &identity.Service{
		VMs: h, Operations: h, Tokens: identity.NewTokens(time.Now), Now: time.Now, Key: &identity.HostKey{Path: filepath.Join(h.dir, "host.key")},
		Provider: h.provider.URL, Issuer: &keymaster.Client{BaseURL: h.provider.URL, Roots: roots(h.provider)},
		Log: slog.New(slog.NewTextHandler(h.t.Output(), nil)), After: func(d time.Duration) <-chan time.Time {
			h.waits <- d
			return h.wake
		},
	}
	h.t.Cleanup(h.Close)
}

func roots(p *provider) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(p.Certificate())
	return pool
}

func (h *host) Info(string) (*hypervisorv1.VmInfo, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.record.GetVmInfo(), nil
}

func (h *host) Acquire(context.Context, string) (*hypervisorv1.LocalVmInfo, func(), error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.record, func() {}, nil
}

func (h *host) Change(_ context.Context, _ string, change func(*hypervisorv1.LocalVmInfo) error) (*hypervisorv1.LocalVmInfo, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	record := proto.CloneOf(h.record)
	err := change(record)
	if err == nil {
		h.record = record
	}
	return record, err
}

func (h *host) Directory(string) (string, error) { return h.dir, nil }

// requestor is a certificate for the host's key.
func (h *host) requestor() []byte {
	h.t.Helper()
	res, err := h.GetPublicKey(h.t.Context(), &hypervisorv1.GetPublicKeyRequest{})
	if err != nil {
		h.t.Fatal(err)
	}
	block, _ := pem.Decode(res.GetKeyPem())
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		h.t.Fatal(err)
	}
	return h.provider.certificate("role-web", public)
}

func (h *host) replace(requestor []byte) error {
	ctx := principal.WithCaller(h.t.Context(), principal.Caller{Principal: principal.Principal{Name: "alice"}})
	_, err := h.ReplaceVmIdentity(ctx, &hypervisorv1.ReplaceVmIdentityRequest{Vm: "web", IdentityRequestorCertificate: requestor})
	return err
}

// pair reads what the VM has.
func (h *host) pair() tls.Certificate {
	h.t.Helper()
	raw, err := os.ReadFile(filepath.Join(h.dir, identity.File))
	if err != nil {
		h.t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(raw, raw)
	if err != nil {
		h.t.Fatal(err)
	}
	return pair
}

func TestIdentityIsRefreshed(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	if err := h.replace(h.requestor()); err != nil {
		t.Fatal(err)
	}
	first := h.pair()
	info, _ := h.Info("web")
	if first.Leaf.Subject.CommonName != "role-web" || info.GetIdentityName() != "role-web" || !info.GetIdentityExpires().AsTime().Equal(first.Leaf.NotAfter) {
		t.Errorf("identity: %v", info)
	}
	line, err := os.ReadFile(filepath.Join(h.dir, identity.SSHFile))
	if err != nil || !strings.Contains(string(line), "role-web") {
		t.Errorf("SSH certificate %q: %v", line, err)
	}
	if wait := <-h.waits; wait < 39*time.Minute || wait > 40*time.Minute {
		t.Errorf("it waits for %s, not two thirds of an hour", wait)
	}
	// While the provider is ill the VM keeps what it has, and the host asks again, ever later.
	h.provider.broken.Store(true)
	for _, want := range []time.Duration{5 * time.Second, 10 * time.Second, 20 * time.Second} {
		h.wake <- time.Now()
		if wait := <-h.waits; wait != want {
			t.Errorf("after a failure it waits for %s, want %s", wait, want)
		}
	}
	if !h.pair().Leaf.Equal(first.Leaf) {
		t.Error("the certificate has changed although the provider is ill")
	}
	h.provider.broken.Store(false)
	h.wake <- time.Now()
	if wait := <-h.waits; wait < 39*time.Minute || h.pair().Leaf.Equal(first.Leaf) || h.provider.renewed.Load() != 1 {
		t.Errorf("after the provider is well: waits for %s, %d renewals", wait, h.provider.renewed.Load())
	}

	h.restart()
	info, _ = h.Info("web")
	h.Resume(t.Context(), []*hypervisorv1.VmInfo{info})
	<-h.waits
	issued := h.provider.issued.Load()
	h.wake <- time.Now()
	<-h.waits
	if h.provider.issued.Load() != issued+1 {
		t.Error("it is not refreshed after a restart")
	}
	cert, key := h.pair().Certificate[0], h.pair().PrivateKey
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	_, err = h.ReplaceVmCredentials(t.Context(), &hypervisorv1.ReplaceVmCredentialsRequest{
		Vm: "web", IdentityCertificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), IdentityKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
	})
	if !fault.Is(err, fault.FailedPrecondition) {
		t.Errorf("credentials while the identity is refreshed: %v", err)
	}
	if err := h.replace(nil); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{identity.File, identity.SSHFile, identity.RequestorFile} {
		if _, err := os.Stat(filepath.Join(h.dir, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s after the erasure: %v", name, err)
		}
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	stranger := newProvider(t)
	good := h.requestor()
	block, _ := pem.Decode(good)
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	h.provider.lifetime = -time.Minute
	expired := h.provider.certificate("role-web", leaf.PublicKey)
	h.provider.lifetime = time.Hour
	for name, c := range map[string]struct {
		requestor []byte
		break_    func()
		code      fault.Code
	}{
		"no PEM":                    {[]byte("x"), nil, fault.InvalidArgument},
		"another key":               {h.provider.certificate("role-web", h.provider.ca.PublicKey), nil, fault.InvalidArgument},
		"expired":                   {expired, nil, fault.InvalidArgument},
		"the caller's own identity": {h.provider.certificate("alice", leaf.PublicKey), nil, fault.PermissionDenied},
		"of another provider":       {stranger.certificate("role-web", leaf.PublicKey), nil, fault.Unavailable},
		"the provider is ill":       {good, func() { h.provider.broken.Store(true) }, fault.Unavailable},
	} {
		if c.break_ != nil {
			c.break_()
		}
		if err := h.replace(c.requestor); !fault.Is(err, c.code) {
			t.Errorf("%s: %v, want code %v", name, err, c.code)
		}
		h.provider.broken.Store(false)
		if info, _ := h.Info("web"); info.GetIdentityName() != "" {
			t.Errorf("%s: the VM has become %q", name, info.GetIdentityName())
		}
		if _, err := os.Stat(filepath.Join(h.dir, identity.File)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
