package network

import "github.com/hyperplane-project/hyperplane/internal/fault"

// Lease implements vm.Network.
func (s *Service) Lease(string, bool) {}

// Acknowledged implements vm.Network.
func (s *Service) Acknowledged(string) (<-chan struct{}, func(), error) {
	return nil, nil, fault.New(fault.Unimplemented, "dhcp_timeout: waiting for a lease, or making none, is not available on this host; leave it at 0")
}
