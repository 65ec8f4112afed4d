package hypervisortest

import (
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// roomy is a machine that can grow to three processors and by five steps of memory.
func roomy() hypervisor.Spec {
	spec := blank()
	spec.MaxCPUs, spec.MaxMemoryBytes = 3, spec.MemoryBytes+5*hypervisor.MemoryStep
	return spec
}

func adjustGrowsALiveMachine(t *suite) {
	spec := roomy()
	t.start(spec)
	for range 2 {
		spec.CPUs++
		spec.MemoryBytes += 2 * hypervisor.MemoryStep
		t.must(t.Driver.Adjust(t.Context(), spec.UUID, spec.Resources()))
		got, err := t.Driver.Get(t.Context(), spec.UUID)
		t.must(err)
		expectSame(t, "resources", got.Spec.Resources(), spec.Resources())
		t.expectState(spec.UUID, hypervisor.Running)
	}
	t.must(t.Driver.Adjust(t.Context(), spec.UUID, spec.Resources())) // once more changes nothing
	t.must(t.Driver.Kill(t.Context(), spec.UUID))
	t.expectDefined(spec)
	t.must(t.Driver.Start(t.Context(), spec.UUID)) // with what it has now
	t.expectState(spec.UUID, hypervisor.Running)
}

func adjustRefuses(t *suite) {
	spec, ctx := roomy(), t.Context()
	spec.CPUs, spec.MemoryBytes = 2, spec.MemoryBytes+2*hypervisor.MemoryStep
	t.define(spec)
	t.expectCode("machine that is off", t.Driver.Adjust(ctx, spec.UUID, spec.Resources()), fault.FailedPrecondition)
	t.must(t.Driver.Start(ctx, spec.UUID))
	for name, spoil := range map[string]func(*hypervisor.Resources) fault.Code{
		"fewer processors": func(r *hypervisor.Resources) fault.Code { r.CPUs = 1; return fault.FailedPrecondition },
		"less memory": func(r *hypervisor.Resources) fault.Code {
			r.MemoryBytes -= hypervisor.MemoryStep
			return fault.FailedPrecondition
		},
		"processors beyond the most": func(r *hypervisor.Resources) fault.Code {
			r.CPUs = 4
			return fault.FailedPrecondition
		},
		"memory beyond the most": func(r *hypervisor.Resources) fault.Code {
			r.MemoryBytes = spec.MaxMemoryBytes + hypervisor.MemoryStep
			return fault.FailedPrecondition
		},
		"half a step": func(r *hypervisor.Resources) fault.Code {
			r.MemoryBytes += hypervisor.MemoryStep / 2
			return fault.FailedPrecondition
		},
		"no processors": func(r *hypervisor.Resources) fault.Code { r.CPUs = 0; return fault.InvalidArgument },
		"no priority":   func(r *hypervisor.Resources) fault.Code { r.CPUPriority = -21; return fault.InvalidArgument },
	} {
		wish := spec.Resources()
		wish.CPUPriority, wish.CPUMillis = 7, 700
		want := spoil(&wish)
		t.expectCode(name, t.Driver.Adjust(ctx, spec.UUID, wish), want)
	}
	t.must(t.Driver.Kill(ctx, spec.UUID))
	t.expectDefined(spec) // nothing of it was done
}

func adjustChangesTheShare(t *suite) {
	spec := blank() // which can not grow
	t.start(spec)
	for _, share := range []hypervisor.Resources{{CPUPriority: 19}, {CPUPriority: -20, CPUMillis: 500}, {CPUMillis: 1500}, {}} {
		spec.CPUPriority, spec.CPUMillis = share.CPUPriority, share.CPUMillis
		t.must(t.Driver.Adjust(t.Context(), spec.UUID, spec.Resources()))
	}
	spec.CPUPriority, spec.CPUMillis = 3, 250
	t.must(t.Driver.Adjust(t.Context(), spec.UUID, spec.Resources()))
	t.must(t.Driver.Kill(t.Context(), spec.UUID))
	t.expectDefined(spec)
}
