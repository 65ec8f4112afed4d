package virtualisation

import (
	"sync"
	"time"

	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

const (
	// minInterval is how old a sample must be before a newer one replaces it: over less the figures of idle machines are noise.
	minInterval = time.Second
	// maxAge is when a sample is forgotten: a rate over more says nothing of now, and domains that nobody asks for any more need no memory.
	maxAge = time.Hour
)

// sampler keeps the last sample of each group of figures of each domain, and of the host: at most three for each domain that was asked for within maxAge.
type sampler struct {
	mu   *sync.Mutex
	last map[sampleKey]sample
	host hostSample
}

type sampleKey struct {
	uuid  string
	group hypervisor.StatsGroup
}

// sample is one group of a domain's figures; the others are empty.
type sample struct {
	at time.Time
	f  hypervisor.DomainFigures
}

type hostSample struct {
	at time.Time
	f  hypervisor.HostFigures
}

func newSampler() sampler {
	return sampler{mu: new(sync.Mutex), last: make(map[sampleKey]sample)}
}

// timed are the groups that have rates.
func timed() []hypervisor.StatsGroup {
	return []hypervisor.StatsGroup{hypervisor.StatsCPU, hypervisor.StatsDisks, hypervisor.StatsInterfaces}
}

// only returns the figures of one group.
func only(f hypervisor.DomainFigures, group hypervisor.StatsGroup) hypervisor.DomainFigures {
	one := hypervisor.DomainFigures{UUID: f.UUID, ID: f.ID}
	switch group {
	case hypervisor.StatsCPU:
		one.CPU = f.CPU
	case hypervisor.StatsDisks:
		one.Disks = f.Disks
	case hypervisor.StatsInterfaces:
		one.Interfaces = f.Interfaces
	default:
	}
	return one
}

// before returns the sample of a group to compare figures with, if there is one of the same run of the domain.
func (s *sampler) before(f hypervisor.DomainFigures, group hypervisor.StatsGroup, now time.Time) (sample, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, ok := s.last[sampleKey{f.UUID, group}]
	return old, ok && old.f.ID == f.ID && now.After(old.at)
}

// keep keeps figures as the sample for the next time, unless there is a very new one.
func (s *sampler) keep(f hypervisor.DomainFigures, groups hypervisor.StatsGroup, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, group := range timed() {
		key := sampleKey{f.UUID, group}
		switch old, ok := s.last[key]; {
		case !f.State.Alive():
			delete(s.last, key)
		case groups&group != 0 && (!ok || old.f.ID != f.ID || now.Sub(old.at) >= minInterval):
			s.last[key] = sample{now, only(f, group)}
		}
	}
}

// prune forgets what is old and, if alive is not nil, what is not in it.
func (s *sampler) prune(now time.Time, alive map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, old := range s.last {
		if now.Sub(old.at) > maxAge || alive != nil && !alive[key.uuid] {
			delete(s.last, key)
		}
	}
}

// swapHost keeps the host's figures and returns those to compare with.
func (s *sampler) swapHost(f hypervisor.HostFigures, now time.Time) (hostSample, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.host
	known := !old.at.IsZero() && now.After(old.at) && now.Sub(old.at) <= maxAge
	if !known || now.Sub(old.at) >= minInterval {
		s.host = hostSample{now, f}
	}
	return old, known
}
