package virtualisation

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/page"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// maxWait is how long a caller can have a measurement take.
const maxWait = time.Minute

// GetDomainStats implements VirtualisationService.
func (s *Service) GetDomainStats(ctx context.Context, req *hypervisorv1.GetDomainStatsRequest) (*hypervisorv1.GetDomainStatsResponse, error) {
	groups, wait, err := parseStats(req.GetGroups(), req.GetWait())
	if err != nil {
		return nil, err
	}
	dom, record, err := s.find(ctx, req.GetDomain())
	if err != nil {
		return nil, err
	}
	all, err := s.measure(ctx, dom.UUID, groups, wait)
	if err != nil {
		return nil, ofVM(record, err)
	}
	if len(all) == 0 {
		return nil, fault.New(fault.NotFound, "domain %q has gone", dom.Name)
	}
	return &hypervisorv1.GetDomainStatsResponse{Stats: all[0]}, nil
}

// ListDomainStats implements VirtualisationService.
func (s *Service) ListDomainStats(ctx context.Context, req *hypervisorv1.ListDomainStatsRequest) (*hypervisorv1.ListDomainStatsResponse, error) {
	groups, wait, err := parseStats(req.GetGroups(), req.GetWait())
	if err != nil {
		return nil, err
	}
	all, err := s.measure(ctx, "", groups, wait)
	if err != nil {
		return nil, err
	}
	all, next, err := page.Cut(all, req.GetPageSize(), req.GetPageToken(), (*hypervisorv1.DomainStats).GetUuid)
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.ListDomainStatsResponse{Stats: all, NextPageToken: next}, nil
}

func parseStats(wanted []hypervisorv1.DomainStatsGroup, wait *durationpb.Duration) (groups hypervisor.StatsGroup, d time.Duration, err error) {
	for _, g := range wanted {
		switch g {
		case hypervisorv1.DomainStatsGroup_DOMAIN_STATS_GROUP_CPU:
			groups |= hypervisor.StatsCPU
		case hypervisorv1.DomainStatsGroup_DOMAIN_STATS_GROUP_MEMORY:
			groups |= hypervisor.StatsMemory
		case hypervisorv1.DomainStatsGroup_DOMAIN_STATS_GROUP_DISKS:
			groups |= hypervisor.StatsDisks
		case hypervisorv1.DomainStatsGroup_DOMAIN_STATS_GROUP_INTERFACES:
			groups |= hypervisor.StatsInterfaces
		default:
			return 0, 0, fault.New(fault.InvalidArgument, "groups: %s is no group", g)
		}
	}
	if groups == 0 {
		groups = hypervisor.StatsAll
	}
	d, err = parseWait(wait)
	return groups, d, err
}

func parseWait(wait *durationpb.Duration) (time.Duration, error) {
	d := wait.AsDuration()
	if d < 0 || d > maxWait {
		return 0, fault.New(fault.InvalidArgument, "wait: %s is not between 0 and %s", d, maxWait)
	}
	return d, nil
}

// measure returns the figures of one domain, or of all that are alive, with rates since the samples before. If one has no such sample it may take two, as far
// apart as wait says.
func (s *Service) measure(ctx context.Context, uuid string, groups hypervisor.StatsGroup, wait time.Duration) ([]*hypervisorv1.DomainStats, error) {
	figures, now, err := s.sample(ctx, uuid, groups)
	if err != nil {
		return nil, err
	}
	if wait > 0 && s.lacksSample(figures, groups, now) {
		for _, f := range figures {
			s.sampler.keep(f, groups, now)
		}
		if err := s.Sleep(ctx, wait); err != nil {
			return nil, err
		}
		if figures, now, err = s.sample(ctx, uuid, groups); err != nil {
			return nil, err
		}
	}
	all := make([]*hypervisorv1.DomainStats, len(figures))
	alive := make(map[string]bool, len(figures))
	for i, f := range figures {
		all[i] = s.describeStats(f, groups, now)
		s.sampler.keep(f, groups, now)
		alive[f.UUID] = true
	}
	if uuid != "" {
		alive = nil
	}
	s.sampler.prune(now, alive)
	return all, nil
}

func (s *Service) sample(ctx context.Context, uuid string, groups hypervisor.StatsGroup) ([]hypervisor.DomainFigures, time.Time, error) {
	figures, err := s.Driver.MeasureDomains(ctx, uuid, groups)
	return figures, s.Now(), err
}

func (s *Service) lacksSample(figures []hypervisor.DomainFigures, groups hypervisor.StatsGroup, now time.Time) bool {
	for _, f := range figures {
		for _, group := range timed() {
			if _, ok := s.sampler.before(f, group, now); groups&group != 0 && !ok && f.State.Alive() {
				return true
			}
		}
	}
	return false
}

// GetHostStats implements VirtualisationService.
func (s *Service) GetHostStats(ctx context.Context, req *hypervisorv1.GetHostStatsRequest) (*hypervisorv1.GetHostStatsResponse, error) {
	wait, err := parseWait(req.GetWait())
	if err != nil {
		return nil, err
	}
	f, err := s.Driver.MeasureHost(ctx)
	if err != nil {
		return nil, err
	}
	now := s.Now()
	old, known := s.sampler.swapHost(f, now)
	if !known && wait > 0 {
		if err := s.Sleep(ctx, wait); err != nil {
			return nil, err
		}
		if f, err = s.Driver.MeasureHost(ctx); err != nil {
			return nil, err
		}
		now = s.Now()
		old, known = s.sampler.swapHost(f, now)
	}
	return &hypervisorv1.GetHostStatsResponse{Stats: describeHost(f, now, old, known)}, nil
}
