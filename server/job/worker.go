package job

import (
	"context"

	exportv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/export/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// Workers hands each job to the one who does its kind of work.
type Workers struct {
	Exports  *Exports
	Converts *Converts
}

var _ Worker = (*Workers)(nil)

// Prepare implements Worker.
func (w *Workers) Prepare(_ context.Context, spec *exportv1.JobSpec) (map[string]string, error) {
	switch work := spec.GetWork().(type) {
	case *exportv1.JobSpec_Export:
		return w.Exports.prepare(work.Export)
	case *exportv1.JobSpec_Convert:
		return nil, w.Converts.prepare(work.Convert)
	default:
		return nil, fault.New(fault.InvalidArgument, "spec: is missing; give spec.export or spec.convert")
	}
}

// Run implements Worker.
func (w *Workers) Run(ctx context.Context, t *Task) (*exportv1.JobResult, error) {
	switch work := t.Job.GetSpec().GetWork().(type) {
	case *exportv1.JobSpec_Export:
		return w.Exports.run(ctx, t, work.Export)
	case *exportv1.JobSpec_Convert:
		return w.Converts.run(ctx, t, work.Convert)
	default:
		return nil, fault.New(fault.Internal, "job %s: has no work", t.Job.GetId())
	}
}
