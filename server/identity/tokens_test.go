package identity_test

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
	"github.com/hyperplane-project/hyperplane/server/identity"
)

func TestToken(t *testing.T) {
	t.Parallel()
	s, v := newService(t)
	a := &identity.Authorizer{VMs: v, Tokens: s.Tokens, Owners: v}
	bob := principal.Principal{Name: "bob"}
	give := func(vm string, lifetime time.Duration) ([]byte, error) {
		res, err := s.GetVmAccessToken(t.Context(), &hypervisorv1.GetVmAccessTokenRequest{Vm: vm, Lifetime: durationpb.New(lifetime)})
		return res.GetToken(), err
	}
	if _, err := give("db", time.Hour); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
	for _, lifetime := range []time.Duration{0, -time.Hour, time.Minute - 1, 24*time.Hour + 1} {
		if _, err := give("web", lifetime); !fault.Is(err, fault.InvalidArgument) {
			t.Errorf("%v: %v", lifetime, err)
		}
	}
	token, err := give("web", time.Minute)
	if err != nil || len(token) != 32 {
		t.Fatalf("%d bytes, %v", len(token), err)
	}
	if _, err := give("web", time.Minute); !fault.Is(err, fault.AlreadyExists) {
		t.Errorf("a second token: %v", err)
	}
	for _, wrong := range [][]byte{nil, {}, token[:31], append(bytes.Clone(token), 0), make([]byte, 32)} {
		if err := a.AuthorizeVM(t.Context(), "web", bob, wrong); !fault.Is(err, fault.PermissionDenied) {
			t.Errorf("token of %d bytes: %v", len(wrong), err)
		}
		if err := a.AuthorizeVM(t.Context(), "web", principal.Principal{Name: "alice"}, wrong); err != nil {
			t.Errorf("the owner with a wrong token: %v", err)
		}
	}
	if err := a.AuthorizeVM(t.Context(), "web", bob, token); err != nil {
		t.Error(err)
	}
	if err := a.AuthorizeVM(t.Context(), "db", bob, token); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
	for range 2 { // nothing to discard is no error
		if _, err := s.DiscardVmAccessToken(t.Context(), &hypervisorv1.DiscardVmAccessTokenRequest{Vm: "web"}); err != nil {
			t.Error(err)
		}
	}
	if err := a.AuthorizeVM(t.Context(), "web", bob, token); !fault.Is(err, fault.PermissionDenied) {
		t.Errorf("after its discard: %v", err)
	}
	if second, err := give("web", 24*time.Hour); err != nil || bytes.Equal(second, token) {
		t.Errorf("after a discard: %v", err)
	}
	s.Tokens.Discard("u")
}

func TestTokenIsOfOneVM(t *testing.T) {
	t.Parallel()
	tokens := identity.NewTokens(time.Now)
	token, err := tokens.Make("a", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if !tokens.Valid("a", token) || tokens.Valid("b", token) {
		t.Error("not exactly good for its VM")
	}
	tokens.Discard("a")
}

func TestTokenExpiresByTheClockAlone(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	tokens := identity.NewTokens(func() time.Time { return now })
	token, err := tokens.Make("a", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Hour - 1)
	if !tokens.Valid("a", token) {
		t.Error("ended early")
	}
	now = now.Add(1)
	if tokens.Valid("a", token) {
		t.Error("outlived its end")
	}
	if _, err := tokens.Make("a", time.Hour); err != nil {
		t.Errorf("after the end: %v", err)
	}
	tokens.Discard("a")
}

func TestTokenNobodyAsksForEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		clock := time.Now()
		tokens := identity.NewTokens(func() time.Time { return clock }) // stands still: only the timer can end the token
		token, err := tokens.Make("a", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute - 1)
		if !tokens.Valid("a", token) {
			t.Error("ended early")
		}
		<-time.After(1)
		synctest.Wait()
		if tokens.Valid("a", token) {
			t.Error("was not overwritten")
		}
	})
}
