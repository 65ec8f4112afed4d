package appliance

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/store"
)

// Recover removes what an earlier daemon has left half-made. The virtualiser must answer.
func (s *Service) Recover(ctx context.Context) error {
	var errs []error
	for _, key := range s.left {
		if err := s.recoverOne(ctx, key); err != nil {
			errs = append(errs, fault.Wrap(err, "%s", key))
		}
	}
	return errors.Join(errs...)
}

func (s *Service) recoverOne(ctx context.Context, key string) error {
	var w work
	err := s.Store.View(ctx, func(r store.Reader) error {
		e, err := r.Get(key)
		if err != nil {
			return err
		}
		return fault.As(fault.DataLoss, json.Unmarshal(e.Value, &w), "note")
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if w.Swap != nil {
		if err := s.finish(ctx, w); err != nil {
			return err
		}
		return s.forget(ctx, key)
	}
	if w.Source != "" {
		if err := s.Driver.AbandonCopies(ctx, w.Source); err != nil {
			return err
		}
	}
	if w.Machine != "" {
		if _, err := s.Driver.FindDomain(ctx, w.Machine); err == nil { // it is whole; only the working names may be left
			for i := range w.Files {
				w.Files[i].Final = ""
			}
		} else if !fault.Is(err, fault.NotFound) {
			return err
		}
	}
	if err := w.clear(); err != nil {
		return err
	}
	return s.forget(ctx, key)
}
