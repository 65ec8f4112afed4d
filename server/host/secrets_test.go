package host_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
	"github.com/hyperplane-project/hyperplane/server/host"
)

func TestRootCookie(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "cookie")
	first, err := host.MakeRootCookie(path)
	if err != nil {
		t.Fatal(err)
	}
	s := &host.Service{Cookie: first}
	res, err := s.GetRootCookiePath(t.Context(), nil)
	if err != nil || res.GetPath() != path {
		t.Error(res, err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode() != 0o600 {
		t.Error(st, err)
	}
	secret, err := os.ReadFile(path)
	if err != nil || len(secret) != 32 || bytes.Equal(secret, make([]byte, 32)) {
		t.Errorf("%d bytes, %v", len(secret), err)
	}
	if err := first.Check(secret); err != nil {
		t.Error(err)
	}
	for _, wrong := range [][]byte{nil, secret[1:], make([]byte, 32)} {
		if err := first.Check(wrong); !fault.Is(err, fault.PermissionDenied) || bytes.Contains([]byte(err.Error()), secret) {
			t.Errorf("%d wrong bytes: %v", len(wrong), err)
		}
	}
	second, err := host.MakeRootCookie(path)
	if err != nil || second.Check(secret) == nil {
		t.Errorf("the cookie of an earlier daemon is still good; %v", err)
	}
	if _, err := host.MakeRootCookie(filepath.Join(path, "below")); err == nil {
		t.Error("made a cookie below a file")
	}
}

func TestOwners(t *testing.T) {
	t.Parallel()
	s := &host.Service{Owners: new(host.Owners)}
	alice, bob := principal.Principal{Name: "alice"}, principal.Principal{Name: "bob", Groups: []string{"ops"}}
	check := func(when string, wantAlice, wantBob bool) {
		t.Helper()
		if s.Owners.OwnsHost(alice) != wantAlice || s.Owners.OwnsHost(bob) != wantBob || s.Owners.OwnsHost(principal.Principal{}) {
			t.Errorf("%s: alice %v, bob %v", when, s.Owners.OwnsHost(alice), s.Owners.OwnsHost(bob))
		}
	}
	check("at start", false, false)
	for _, c := range []struct {
		users, groups []string
		alice, bob    bool
		want          fault.Code
	}{
		{[]string{"alice"}, nil, true, false, fault.OK},
		{[]string{""}, []string{"ops"}, true, false, fault.InvalidArgument},
		{nil, []string{"ops", ""}, true, false, fault.InvalidArgument},
		{nil, []string{"ops"}, false, true, fault.OK},
		{nil, nil, false, false, fault.OK},
	} {
		_, err := s.ChangeOwners(t.Context(), &hypervisorv1.ChangeOwnersRequest{OwnerUsers: c.users, OwnerGroups: c.groups})
		if !fault.Is(err, c.want) {
			t.Errorf("%v: %v", c, err)
		}
		check("after a change", c.alice, c.bob)
	}
}
