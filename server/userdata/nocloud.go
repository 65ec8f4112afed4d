package userdata

import (
	"context"
	"errors"

	"go.yaml.in/yaml/v3"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// WriteSeed makes the file of a seed disk, as Seed does for VMs, for a machine that is none. The file must not exist; after an error it does not.
func WriteSeed(ctx context.Context, path, instanceID, hostname string, content []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	meta, err := yaml.Marshal(metaData{InstanceID: instanceID, LocalHostname: hostname})
	if err != nil {
		return fault.As(fault.Internal, err, "meta-data")
	}
	if err := writeISO(path, map[string][]byte{"user-data": content, "meta-data": meta}); err != nil {
		return errors.Join(fault.Wrap(err, "seed disk"), discard(path))
	}
	return nil
}
