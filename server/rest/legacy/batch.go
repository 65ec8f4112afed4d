package legacy

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc/status"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/intercept"
)

const (
	// batchWorkers is how many domains a batch works on at once.
	batchWorkers = 8
	maxBatch     = 1000
)

// batch is the part that all batch requests have.
type batch struct {
	Domains []string `json:"domains"`
}

func (b batch) check() error {
	if len(b.Domains) == 0 || len(b.Domains) > maxBatch {
		return fault.New(fault.InvalidArgument, "domains: has %d entries; 1 to %d are possible", len(b.Domains), maxBatch)
	}
	seen := make(map[string]bool)
	for i, d := range b.Domains {
		if d == "" || seen[d] {
			return fault.New(fault.InvalidArgument, "domains[%d]: %q is empty, or is there twice", i, d)
		}
		seen[d] = true
	}
	return nil
}

// batchResult is what became of one domain.
type batchResult struct {
	Domain   string `json:"domain"`
	Success  bool   `json:"success"`
	Error    string `json:"error,omitempty"`
	Snapshot string `json:"snapshot,omitempty"`
}

// batchAnswer is what became of a batch.
type batchAnswer struct {
	Operation  string        `json:"operation"`
	Total      int           `json:"total"`
	Successful int           `json:"successful"`
	Failed     int           `json:"failed"`
	Results    []batchResult `json:"results"`
	StartTime  time.Time     `json:"start_time"`
	EndTime    time.Time     `json:"end_time"`
	Duration   string        `json:"duration"`
}

// each does something to all domains, some at once. The results are in the order of the domains.
func (b batch) each(ctx context.Context, operation string, do func(ctx context.Context, domain string) error) (batchAnswer, error) {
	if err := b.check(); err != nil {
		return batchAnswer{}, err
	}
	answer := batchAnswer{Operation: operation, Total: len(b.Domains), Results: make([]batchResult, len(b.Domains)), StartTime: time.Now().UTC()}
	places := make(chan int)
	var workers sync.WaitGroup
	for range min(batchWorkers, len(b.Domains)) {
		workers.Go(func() {
			for i := range places {
				err := ctx.Err()
				if err == nil {
					err = do(ctx, b.Domains[i])
				}
				answer.Results[i] = batchResult{Domain: b.Domains[i], Success: err == nil}
				if err != nil {
					answer.Results[i].Error = status.Convert(intercept.Status(err)).Message()
				}
			}
		})
	}
	for i := range b.Domains {
		places <- i
	}
	close(places)
	workers.Wait()
	answer.finish()
	return answer, ctx.Err()
}

func (a *batchAnswer) finish() {
	a.Successful, a.Failed = 0, 0
	for _, r := range a.Results {
		if r.Success {
			a.Successful++
		} else {
			a.Failed++
		}
	}
	a.EndTime = time.Now().UTC()
	a.Duration = a.EndTime.Sub(a.StartTime).Round(time.Millisecond).String()
}

func (a *appliances) batchStart(ctx context.Context, b struct {
	batch
	Paused bool `json:"paused"`
},
) (any, error) {
	if b.Paused {
		return nil, fault.New(fault.Unimplemented, "paused: a domain cannot be started paused; start it, then pause it")
	}
	return b.each(ctx, "start", func(ctx context.Context, domain string) error {
		_, err := a.virt.StartDomain(ctx, &hypervisorv1.StartDomainRequest{Domain: domain})
		return err
	})
}

// forced is a batch that can do without the guests' help.
type forced struct {
	batch
	Force bool `json:"force"`
}

func (a *appliances) batchStop(ctx context.Context, b forced) (any, error) {
	return b.each(ctx, "stop", func(ctx context.Context, domain string) error {
		if b.Force {
			return a.kill(ctx, domain)
		}
		_, err := a.virt.ShutdownDomain(ctx, &hypervisorv1.ShutdownDomainRequest{Domain: domain})
		return err
	})
}

func (a *appliances) kill(ctx context.Context, domain string) error {
	_, err := a.virt.KillDomain(ctx, &hypervisorv1.KillDomainRequest{Domain: domain})
	return err
}

// batchReboot with force ends the domain and starts it again.
func (a *appliances) batchReboot(ctx context.Context, b forced) (any, error) {
	return b.each(ctx, "reboot", func(ctx context.Context, domain string) error {
		if !b.Force {
			_, err := a.virt.RebootDomain(ctx, &hypervisorv1.RebootDomainRequest{Domain: domain})
			return err
		}
		res, err := a.virt.GetDomain(ctx, &hypervisorv1.GetDomainRequest{Domain: domain})
		if err != nil {
			return err
		}
		if s := res.GetDomain().GetState(); s == hypervisorv1.DomainState_DOMAIN_STATE_OFF || s == hypervisorv1.DomainState_DOMAIN_STATE_CRASHED {
			return fault.New(fault.FailedPrecondition, "domain %q: is %s", domain, domainState(s))
		}
		if err := a.kill(ctx, domain); err != nil {
			return err
		}
		_, err = a.virt.StartDomain(ctx, &hypervisorv1.StartDomainRequest{Domain: domain})
		return err
	})
}

func (a *appliances) batchPause(ctx context.Context, b batch) (any, error) {
	return b.each(ctx, "pause", func(ctx context.Context, domain string) error {
		_, err := a.virt.PauseDomain(ctx, &hypervisorv1.PauseDomainRequest{Domain: domain})
		return err
	})
}

func (a *appliances) batchResume(ctx context.Context, b batch) (any, error) {
	return b.each(ctx, "resume", func(ctx context.Context, domain string) error {
		_, err := a.virt.ResumeDomain(ctx, &hypervisorv1.ResumeDomainRequest{Domain: domain})
		return err
	})
}
