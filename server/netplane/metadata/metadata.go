// Package metadata tells guests about themselves, over HTTP at a link-local address on each bridge: in the manner of SmallStack, of EC2 and of cloud-init's
// NoCloud. Who asks is known by his IP address, and by the MAC address that it is at, so that no VM can ask in another's name.
package metadata

import (
	"crypto/rand"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
)

// Address is where guests of every cloud look for metadata.
func Address() netip.Addr { return netip.AddrFrom4([4]byte{169, 254, 169, 254}) }

// Port is the port of it.
const Port = 80

// VMs knows the VMs, also by their IP addresses.
type VMs interface {
	Info(ref string) (*hypervisorv1.VmInfo, error)
}

// Service tells guests about themselves. Set all fields.
type Service struct {
	Log *slog.Logger
	VMs VMs
	// Folder returns the folder with a VM's files.
	Folder func(uuid string) (string, error)
	// Document returns a VM as JSON in the legacy protocol's words.
	Document func(*hypervisorv1.VmInfo) ([]byte, error)
	Now      func() time.Time
	Tracer   *Tracer

	once   sync.Once
	tokens tokens
	limits limits
}

// Handler serves one subnet. neighbour returns the MAC address that an IP address is at.
func (s *Service) Handler(subnet string, neighbour func(netip.Addr) (string, error)) http.Handler {
	s.once.Do(func() {
		s.tokens = tokens{now: s.Now}
		_, _ = rand.Read(s.tokens.key[:]) // never fails
		s.limits = limits{now: s.Now, buckets: make(map[string]*bucket)}
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "EC2ws") // cloud-init's and others' probes look for it
		info, status := s.caller(r, subnet, neighbour)
		if info == nil {
			http.Error(w, http.StatusText(status), status)
			return
		}
		s.Tracer.saw(info.GetUuid(), r.URL.EscapedPath())
		if !s.limits.allow(info.GetUuid()) {
			w.Header().Set("Retry-After", "1")
			http.Error(w, http.StatusText(http.StatusTooManyRequests), http.StatusTooManyRequests)
			return
		}
		s.serve(w, r, info)
	})
}

// caller returns who asks, or the status of the refusal.
func (s *Service) caller(r *http.Request, subnet string, neighbour func(netip.Addr) (string, error)) (*hypervisorv1.VmInfo, int) {
	// Whoever relays requests of others (EC2 does the same) must not get his own secrets for them.
	if r.Header.Get("X-Forwarded-For") != "" {
		return nil, http.StatusForbidden
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return nil, http.StatusBadRequest
	}
	address := from.Addr().Unmap()
	info, err := s.VMs.Info(address.String())
	if err != nil {
		return nil, http.StatusNotFound
	}
	mac, known := card(info, subnet, address)
	if !known {
		return nil, http.StatusNotFound
	}
	if at, err := neighbour(address); err != nil || at != mac {
		s.Log.LogAttrs(r.Context(), slog.LevelWarn, "somebody asks for a VM's metadata in its name", slog.String("vm", info.GetUuid()),
			slog.String("address", address.String()), slog.String("mac", at))
		return nil, http.StatusForbidden
	}
	return info, 0
}

// card returns the MAC address of a VM's card that has an address in a subnet.
func card(info *hypervisorv1.VmInfo, subnet string, address netip.Addr) (mac string, ok bool) {
	for i, a := range append([]*hypervisorv1.Address{info.GetAddress()}, info.GetSecondaryAddresses()...) {
		in := info.GetSubnetId()
		if i > 0 && i <= len(info.GetSecondarySubnetIds()) {
			in = info.GetSecondarySubnetIds()[i-1]
		}
		if a.GetIpAddress() == address.String() && in == subnet {
			return a.GetMacAddress(), true
		}
	}
	return "", false
}

func (s *Service) serve(w http.ResponseWriter, r *http.Request, info *hypervisorv1.VmInfo) {
	if r.URL.Path == tokenPath {
		s.tokens.give(w, r, info.GetUuid())
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
		return
	}
	if t := r.Header.Get(tokenHeader); t != "" && !s.tokens.valid(t, info.GetUuid()) {
		http.Error(w, http.StatusText(http.StatusUnauthorized), http.StatusUnauthorized)
		return
	}
	content, found, err := s.read(info, r.URL.Path)
	switch {
	case err != nil:
		s.Log.LogAttrs(r.Context(), slog.LevelError, "metadata not readable", slog.String("vm", info.GetUuid()), slog.String("path", r.URL.Path), slog.Any("error", err))
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
	case !found:
		http.NotFound(w, r)
	default:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write(content) //nolint:gosec // plain text, and nothing in it comes from the request; a guest that has gone asks again
	}
}
