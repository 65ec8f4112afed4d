package identity_test

import (
	"crypto/tls"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
	"github.com/hyperplane-project/hyperplane/server/identity"
)

func TestCredentials(t *testing.T) {
	t.Parallel()
	s, v := newService(t)
	ctx := principal.WithCaller(t.Context(), principal.Caller{Principal: principal.Principal{Name: "alice"}})
	end := time.Now().Add(time.Hour).Truncate(time.Second)
	path := filepath.Join(v.dir, identity.File)
	give := func(vm string, cert, key []byte) error {
		_, err := s.ReplaceVmCredentials(ctx, &hypervisorv1.ReplaceVmCredentialsRequest{Vm: vm, IdentityCertificate: cert, IdentityKey: key})
		return err
	}
	cert, key := pair(t, "role", end)
	if err := give("web", cert, key); err != nil {
		t.Fatal(err)
	}
	check := func(name string) {
		t.Helper()
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		kept, err := tls.X509KeyPair(raw, raw)
		if err != nil || kept.Leaf.Subject.CommonName != name {
			t.Errorf("kept %v, %v", kept.Leaf.Subject, err)
		}
		if st, err := os.Stat(path); err != nil || st.Mode() != 0o600 {
			t.Errorf("%v, %v", st, err)
		}
		if i := v.record.GetVmInfo(); i.GetIdentityName() != name || !i.GetIdentityExpires().AsTime().Equal(end) {
			t.Errorf("record: %v", i)
		}
	}
	check("role")
	_, otherKey := pair(t, "role", end)
	own, ownKey := pair(t, "alice", end)
	nobody, nobodyKey := pair(t, "", end)
	old, oldKey := pair(t, "role", time.Now().Add(-time.Second))
	for name, c := range map[string]struct {
		cert, key []byte
		want      fault.Code
	}{
		"nothing":           {nil, nil, fault.InvalidArgument},
		"no key":            {cert, nil, fault.InvalidArgument},
		"another's key":     {cert, otherKey, fault.InvalidArgument},
		"the caller's own":  {own, ownKey, fault.PermissionDenied},
		"of nobody":         {nobody, nobodyKey, fault.InvalidArgument},
		"expired":           {old, oldKey, fault.InvalidArgument},
		"no certificate":    {key, key, fault.InvalidArgument},
		"garbage for a key": {cert, []byte("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"), fault.InvalidArgument},
	} {
		err := give("web", c.cert, c.key)
		if !fault.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "c2VjcmV0") {
			t.Errorf("%s: the error holds the key: %v", name, err)
		}
	}
	check("role")
	next, nextKey := pair(t, "next", end)
	if err := give("db", next, nextKey); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
	v.fail = errors.New("disk full")
	if err := give("web", next, nextKey); !errors.Is(err, v.fail) {
		t.Error(err)
	}
	if _, err := s.ReplaceVmIdentity(ctx, &hypervisorv1.ReplaceVmIdentityRequest{Vm: "web"}); !errors.Is(err, v.fail) {
		t.Error(err)
	}
	check("role")
	v.fail = nil
	if err := give("web", next, nextKey); err != nil {
		t.Fatal(err)
	}
	check("next")
}

func TestEraseIdentity(t *testing.T) {
	t.Parallel()
	s, v := newService(t)
	cert, key := pair(t, "role", time.Now().Add(time.Hour))
	if _, err := s.ReplaceVmCredentials(t.Context(), &hypervisorv1.ReplaceVmCredentialsRequest{Vm: "web", IdentityCertificate: cert, IdentityKey: key}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // nothing to erase is no error
		if _, err := s.ReplaceVmIdentity(t.Context(), &hypervisorv1.ReplaceVmIdentityRequest{Vm: "web"}); err != nil {
			t.Fatal(err)
		}
	}
	if i := v.record.GetVmInfo(); i.GetIdentityName() != "" || i.GetIdentityExpires() != nil {
		t.Errorf("record: %v", i)
	}
	if _, err := os.Stat(filepath.Join(v.dir, identity.File)); !errors.Is(err, os.ErrNotExist) {
		t.Error("the key is still there")
	}
}

func TestDrop(t *testing.T) {
	t.Parallel()
	s, v := newService(t)
	cert, key := pair(t, "role", time.Now().Add(time.Hour))
	if _, err := s.ReplaceVmCredentials(t.Context(), &hypervisorv1.ReplaceVmCredentialsRequest{Vm: "web", IdentityCertificate: cert, IdentityKey: key}); err != nil {
		t.Fatal(err)
	}
	token, err := s.Tokens.Make("u", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // nothing to drop is no error
		if err := s.Drop(t.Context(), "u"); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(filepath.Join(v.dir, identity.File)); !errors.Is(err, os.ErrNotExist) || s.Tokens.Valid("u", token) {
		t.Errorf("credentials: %v, token still good: %v", err, s.Tokens.Valid("u", token))
	}
}
