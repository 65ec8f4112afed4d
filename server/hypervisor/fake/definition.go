package fake

import (
	"context"
	"encoding/json"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// Definition implements hypervisor.Definitions: the Spec as JSON.
func (d *Driver) Definition(ctx context.Context, uuid string) (text []byte, err error) {
	err = d.doMachine(ctx, MethodGet, uuid, func(_ *Host, m *machine) error {
		text, err = json.Marshal(m.spec)
		return fault.As(fault.Internal, err, "definition")
	})
	return text, err
}

// Redefine implements hypervisor.Definitions.
func (d *Driver) Redefine(ctx context.Context, definition []byte, files []string) error {
	var spec hypervisor.Spec
	if err := json.Unmarshal(definition, &spec); err != nil {
		return fault.As(fault.InvalidArgument, err, "definition")
	}
	n := 0
	for i := range spec.Disks {
		if spec.Disks[i].CDROM {
			continue
		}
		if n < len(files) {
			spec.Disks[i].File = files[n]
		}
		n++
	}
	if n != len(files) {
		return fault.New(fault.InvalidArgument, "definition of machine %q: it has %d disks, not %d", spec.Name, n, len(files))
	}
	if _, err := d.Get(ctx, spec.UUID); err == nil {
		return fault.New(fault.AlreadyExists, "machine %q: one with its UUID %s is defined", spec.Name, spec.UUID)
	}
	return d.Define(ctx, spec)
}
