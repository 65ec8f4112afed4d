package hypervisortest

import (
	"path/filepath"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// nvmeDisks has a machine with disks on the NVMe bus run, and asks for what such disks can not do meanwhile.
func nvmeDisks(t *suite) {
	spec, ctx := blank(), t.Context()
	for i := range 4 {
		d := t.rawDisk(1<<20, byte(i+1))
		if i != 2 {
			d.Bus = hypervisor.BusNVMe
		}
		d.ReadOnly = i == 3
		spec.Disks = append(spec.Disks, d)
	}
	t.define(spec)
	t.expectDefined(spec)
	t.must(t.Driver.Start(ctx, spec.UUID))
	t.expectDisks(spec.UUID, spec.Disks...)

	more := t.rawDisk(1<<20, 7)
	more.Bus = hypervisor.BusNVMe
	t.expectCode("attach", t.Driver.AttachDisk(ctx, spec.UUID, more), fault.FailedPrecondition)
	t.expectCode("grow", t.Driver.ResizeDisk(ctx, spec.UUID, spec.Disks[1].File, 2<<20), fault.FailedPrecondition)
	_, err := t.Driver.Depart(ctx, spec.UUID)
	t.expectCode("depart", err, fault.FailedPrecondition)
	_, err = t.Driver.CreateSnapshot(ctx, spec.UUID, "one", "")
	t.expectCode("snapshot", err, fault.FailedPrecondition)
	t.expectDisks(spec.UUID, spec.Disks...)
	figures, err := t.Driver.MeasureDomains(ctx, spec.UUID, hypervisor.StatsDisks)
	t.must(err)
	if len(figures) != 1 || len(figures[0].Disks) != len(spec.Disks) {
		t.Errorf("figures: %+v", figures)
	}

	overlays := map[string]string{spec.Disks[1].File: spec.Disks[1].File + ".redirect", spec.Disks[2].File: spec.Disks[2].File + ".redirect"}
	t.must(t.Driver.RedirectDisks(ctx, spec.UUID, overlays))
	t.must(t.Driver.MergeDisks(ctx, spec.UUID, overlays))
	to := filepath.Join(t.TempDir(), "moved.raw")
	t.must(t.Driver.MoveDisk(ctx, spec.UUID, spec.Disks[1].File, to, nil))
	t.expectSecond(to)
	spec.Disks[1].File = to
	more.Bus = hypervisor.BusVirtio
	t.must(t.Driver.AttachDisk(ctx, spec.UUID, more))
	spec.Disks = append(spec.Disks, more)
	t.expectDisks(spec.UUID, spec.Disks...)

	t.must(t.Driver.Kill(ctx, spec.UUID))
	t.must(t.Driver.Start(ctx, spec.UUID))
	t.expectDisks(spec.UUID, spec.Disks...)
	t.must(t.Driver.Kill(ctx, spec.UUID))
	for i := range spec.Disks {
		spec.Disks[i].Bus = hypervisor.BusVirtio
	}
	t.must(t.Driver.Define(ctx, spec))
	t.expectDefined(spec)
}
