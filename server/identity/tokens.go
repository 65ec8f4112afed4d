package identity

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"sync"
	"time"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
)

// tokenSize is the length of an access token in bytes.
const tokenSize = 32

// The limits of a token's lifetime.
const (
	minLifetime = time.Minute
	maxLifetime = 24 * time.Hour
)

// Tokens are the access tokens of VMs, at most one for each. They are in memory only: a restart makes them void. The bytes of a token that has ended are
// overwritten.
type Tokens struct {
	now    func() time.Time
	mu     sync.Mutex
	byUUID map[string]*token
}

type token struct {
	secret  [tokenSize]byte
	expires time.Time
	timer   *time.Timer // overwrites it when nobody asks for it
}

// NewTokens makes an empty set.
func NewTokens(now func() time.Time) *Tokens {
	return &Tokens{now: now, byUUID: make(map[string]*token)}
}

// Make makes a VM's token. AlreadyExists if it has one, InvalidArgument if the lifetime is not within the limits.
func (t *Tokens) Make(uuid string, lifetime time.Duration) ([]byte, error) {
	if lifetime < minLifetime || lifetime > maxLifetime {
		return nil, fault.New(fault.InvalidArgument, "lifetime: %v; give at least %v and at most %v", lifetime, minLifetime, maxLifetime)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.current(uuid); old != nil {
		return nil, fault.New(fault.AlreadyExists, "there is an access token, good until %s; use it or discard it first",
			old.expires.UTC().Format(time.RFC3339))
	}
	made := &token{expires: t.now().Add(lifetime)}
	if _, err := rand.Read(made.secret[:]); err != nil {
		return nil, fault.As(fault.Internal, err, "random bytes")
	}
	made.timer = time.AfterFunc(lifetime, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.byUUID[uuid] == made {
			t.drop(uuid)
		}
	})
	t.byUUID[uuid] = made
	return append([]byte(nil), made.secret[:]...), nil
}

// Valid says whether secret is the VM's token now.
func (t *Tokens) Valid(uuid string, secret []byte) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	have := t.current(uuid)
	return have != nil && subtle.ConstantTimeCompare(have.secret[:], secret) == 1
}

// Discard makes a VM's token void. That there is none is no error.
func (t *Tokens) Discard(uuid string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drop(uuid)
}

// current returns the VM's token if it has one that is still good. The caller holds the mutex.
func (t *Tokens) current(uuid string) *token {
	have := t.byUUID[uuid]
	if have != nil && !t.now().Before(have.expires) {
		t.drop(uuid)
		return nil
	}
	return have
}

// drop forgets a token and overwrites its bytes. The caller holds the mutex.
func (t *Tokens) drop(uuid string) {
	if have := t.byUUID[uuid]; have != nil {
		have.timer.Stop()
		clear(have.secret[:])
		delete(t.byUUID, uuid)
	}
}

// Owners knows who owns a VM. *vm.Registry is one.
type Owners interface {
	AuthorizeVM(ctx context.Context, vm string, p principal.Principal, token []byte) error
}

// Authorizer implements intercept.VMAuthorizer: the bearer of a VM's token, and whom the owners' judge lets in.
type Authorizer struct {
	VMs    VMs
	Tokens *Tokens
	Owners Owners
}

// AuthorizeVM implements intercept.VMAuthorizer. secret is nil where a token does not count.
func (a *Authorizer) AuthorizeVM(ctx context.Context, vm string, p principal.Principal, secret []byte) error {
	if secret != nil {
		info, err := a.VMs.Info(vm)
		if err != nil {
			return err
		}
		if a.Tokens.Valid(info.GetUuid(), secret) {
			return nil
		}
	}
	return a.Owners.AuthorizeVM(ctx, vm, p, secret)
}

// GetVmAccessToken implements IdentityService.
func (s *Service) GetVmAccessToken(
	_ context.Context, req *hypervisorv1.GetVmAccessTokenRequest,
) (*hypervisorv1.GetVmAccessTokenResponse, error) {
	info, err := s.VMs.Info(req.GetVm())
	if err != nil {
		return nil, err
	}
	secret, err := s.Tokens.Make(info.GetUuid(), req.GetLifetime().AsDuration())
	if err != nil {
		return nil, fault.Wrap(err, "vm %q: access token", req.GetVm())
	}
	return &hypervisorv1.GetVmAccessTokenResponse{Token: secret}, nil
}

// DiscardVmAccessToken implements IdentityService. That there is none is no error.
func (s *Service) DiscardVmAccessToken(
	_ context.Context, req *hypervisorv1.DiscardVmAccessTokenRequest,
) (*hypervisorv1.DiscardVmAccessTokenResponse, error) {
	info, err := s.VMs.Info(req.GetVm())
	if err != nil {
		return nil, err
	}
	s.Tokens.Discard(info.GetUuid())
	return &hypervisorv1.DiscardVmAccessTokenResponse{}, nil
}
