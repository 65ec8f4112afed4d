package store

import (
	"context"
	"encoding/binary"
	"errors"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

const schemaKey = "meta/schema"

// Migration brings the state from one schema version to the next.
type Migration func(Writer) error

// Migrate brings the state to the schema version len(migrations), each step in a transaction of its own. An empty store starts at the newest
// version. A store of a later version is refused: it was written by a later release.
func Migrate(ctx context.Context, s Store, migrations []Migration) error {
	target := uint64(len(migrations))
	for {
		done := false
		_, err := s.Update(ctx, func(w Writer) error {
			version, err := schemaVersion(w, target)
			if err != nil {
				return err
			}
			if version > target {
				return fault.New(fault.FailedPrecondition,
					"state has schema version %d, this release knows up to %d; start the release that wrote it, or a later one", version, target)
			}
			if version < target {
				if err := migrations[version](w); err != nil {
					return fault.Wrap(err, "state: migration from schema version %d", version)
				}
				version++
			}
			done = version == target
			return w.Put(schemaKey, binary.BigEndian.AppendUint64(nil, version))
		})
		if err != nil || done {
			return err
		}
	}
}

func schemaVersion(r Reader, target uint64) (uint64, error) {
	e, err := r.Get(schemaKey)
	if err == nil {
		if len(e.Value) != 8 {
			return 0, fault.New(fault.DataLoss, "state: schema version has %d bytes instead of 8", len(e.Value))
		}
		return binary.BigEndian.Uint64(e.Value), nil
	}
	if !errors.Is(err, ErrNotFound) {
		return 0, err
	}
	for range r.Scan("", "") {
		return 0, nil // state from before there were versions
	}
	return target, nil
}
