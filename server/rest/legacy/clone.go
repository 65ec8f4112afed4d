package legacy

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/status"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/intercept"
)

// cloneBody is HyperSDK's request. What stands below preserve is Hyperplane's.
type cloneBody struct {
	Source string   `json:"source"`
	Target string   `json:"target"`
	Files  []string `json:"files"`
	// NewMAC asks for new network addresses, which there are unless it is false.
	NewMAC *bool `json:"new_mac"`
	// AutoClone chooses the files' names, which happens if there are none.
	AutoClone bool `json:"auto_clone"`
	// Preserve was virt-clone's --preserve-data: the files are there already.
	Preserve bool `json:"preserve"`

	Pool  string `json:"pool"`
	Start bool   `json:"start"`
}

func (a *appliances) clone(ctx context.Context, b cloneBody) (any, error) {
	switch {
	case b.Source == "":
		return nil, fault.New(fault.InvalidArgument, "source: is missing")
	case b.Target == "":
		return nil, fault.New(fault.InvalidArgument, "target: is missing")
	case b.Preserve:
		return nil, fault.New(fault.Unimplemented, "preserve: a clone's disks are always copied; leave it away")
	case b.AutoClone && len(b.Files) > 0:
		return nil, fault.New(fault.InvalidArgument, "auto_clone: chooses the files, and files names them; give one of them")
	}
	res, err := last(a.app.CloneDomain(ctx, &hypervisorv1.CloneDomainRequest{
		Domain: b.Source, Name: b.Target, Files: b.Files, Pool: b.Pool, KeepMacAddresses: b.NewMAC != nil && !*b.NewMAC, Start: b.Start,
	}))
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"status": "success", "message": fmt.Sprintf("Domain %s cloned to %s", b.Source, b.Target), "source": b.Source, "target": b.Target,
		"domain": madeViewOf(res.GetDomain()),
	}, nil
}

// maxClones is how many clones one request makes.
const maxClones = 100

type clonesBody struct {
	Source     string `json:"source"`
	NamePrefix string `json:"name_prefix"`
	Count      int    `json:"count"`
	StartIndex *int   `json:"start_index"`
	Pool       string `json:"pool"`
	Start      bool   `json:"start"`
}

// cloneMany makes clones one after the other: they all read the same disks. What fails does not end the others.
func (a *appliances) cloneMany(ctx context.Context, b clonesBody) (any, error) {
	switch {
	case b.Source == "":
		return nil, fault.New(fault.InvalidArgument, "source: is missing")
	case b.NamePrefix == "":
		return nil, fault.New(fault.InvalidArgument, "name_prefix: is missing")
	case b.Count < 1 || b.Count > maxClones:
		return nil, fault.New(fault.InvalidArgument, "count: %d is not 1 to %d", b.Count, maxClones)
	}
	first := 1
	if b.StartIndex != nil {
		first = *b.StartIndex
	}
	if first < 0 || first > 1<<30 {
		return nil, fault.New(fault.InvalidArgument, "start_index: %d is not 0 to %d", first, 1<<30)
	}
	began := time.Now()
	names, results, failed := []string{}, []batchResult{}, 0
	for i := range b.Count {
		name := fmt.Sprintf("%s-%d", b.NamePrefix, first+i)
		_, err := last(a.app.CloneDomain(ctx, &hypervisorv1.CloneDomainRequest{Domain: b.Source, Name: name, Pool: b.Pool, Start: b.Start}))
		r := batchResult{Domain: name, Success: err == nil}
		if err != nil {
			failed++
			r.Error = status.Convert(intercept.Status(err)).Message()
		} else {
			names = append(names, name)
		}
		results = append(results, r)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return map[string]any{
		"source": b.Source, "total": b.Count, "successful": len(names), "failed": failed, "clones": names, "results": results,
		"duration": time.Since(began).Round(time.Millisecond).String(),
	}, nil
}
