package network

import "net/netip"

// Bridge returns the bridge of a subnet.
func (s *Service) Bridge(subnetID string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.choose(subnetID, netip.Addr{})
	if err != nil {
		return "", err
	}
	return p.Bridge, nil
}
