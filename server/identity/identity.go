// Package identity is the IdentityService: the tokens that let others act on a VM, the credentials that a VM proves itself with, and the host's own key.
// Secrets are in no log, no error and no update.
package identity

import (
	"context"
	"log/slog"
	"time"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
)

// VMs knows the VMs.
type VMs interface {
	Info(ref string) (*hypervisorv1.VmInfo, error)
}

// Operations is what changes of a VM need.
type Operations interface {
	// Acquire takes the VM's lock; release gives it back.
	Acquire(ctx context.Context, ref string) (record *hypervisorv1.LocalVmInfo, release func(), err error)
	// Change changes the VM's record. The caller holds the lock.
	Change(ctx context.Context, uuid string, change func(*hypervisorv1.LocalVmInfo) error) (*hypervisorv1.LocalVmInfo, error)
	// Directory returns the folder for the VM's files.
	Directory(uuid string) (string, error)
}

// Service is the IdentityService.
type Service struct {
	hypervisorv1.UnimplementedIdentityServiceServer
	VMs        VMs
	Operations Operations
	Tokens     *Tokens
	Key        *HostKey
	// Provider is the address of the identity provider; empty = none.
	Provider string
	// Issuer speaks with the provider.
	Issuer Issuer
	Log    *slog.Logger
	Now    func() time.Time
	// After sends when a time is over; nil = time.After.
	After func(d time.Duration) <-chan time.Time

	refreshers refreshers
}

var _ hypervisorv1.IdentityServiceServer = (*Service)(nil)

// GetIdentityProvider implements IdentityService.
func (s *Service) GetIdentityProvider(
	context.Context, *hypervisorv1.GetIdentityProviderRequest,
) (*hypervisorv1.GetIdentityProviderResponse, error) {
	return &hypervisorv1.GetIdentityProviderResponse{BaseUrl: s.Provider}, nil
}

// GetPublicKey implements IdentityService.
func (s *Service) GetPublicKey(context.Context, *hypervisorv1.GetPublicKeyRequest) (*hypervisorv1.GetPublicKeyResponse, error) {
	text, err := s.Key.PublicPEM()
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.GetPublicKeyResponse{KeyPem: text}, nil
}
