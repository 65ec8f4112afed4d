package image

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/hyperplane-project/hyperplane/converters"
	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/store"
	"github.com/hyperplane-project/hyperplane/server/vm"
)

// Recover ends, or takes back, what an earlier daemon had begun. It is called before the methods are.
func (s *Service) Recover(ctx context.Context) error {
	swaps, olds := make(map[string]swap), []string(nil)
	err := s.Store.View(ctx, func(r store.Reader) error {
		for e := range r.Scan(swapPrefix, "") {
			var w swap
			if err := json.Unmarshal(e.Value, &w); err != nil {
				return fault.As(fault.DataLoss, err, "state: %s", e.Key)
			}
			swaps[e.Key[len(swapPrefix):]] = w
		}
		for e := range r.Scan(oldPrefix, "") {
			olds = append(olds, e.Key[len(oldPrefix):])
		}
		return nil
	})
	if err != nil {
		return err
	}
	known := make(map[string]bool)
	for _, info := range s.VMs.List() {
		known[info.GetUuid()] = true
		w, begun := swaps[info.GetUuid()]
		if err := s.recoverVM(ctx, info.GetUuid(), w, begun); err != nil {
			return fault.Wrap(err, "vm %s: root volume", vm.Name(info))
		}
	}
	_, err = s.Store.Update(ctx, func(t store.Writer) error {
		for uuid := range swaps {
			if !known[uuid] {
				err = errors.Join(err, t.Delete(swapPrefix+uuid))
			}
		}
		for _, uuid := range olds {
			if !known[uuid] {
				err = errors.Join(err, t.Delete(oldPrefix+uuid))
			}
		}
		return err
	})
	return err
}

func (s *Service) recoverVM(ctx context.Context, uuid string, w swap, begun bool) error {
	record, release, err := s.Operations.Acquire(ctx, uuid)
	if err != nil {
		return err
	}
	defer release()
	if begun {
		s.Log.LogAttrs(ctx, slog.LevelWarn, "the change of a root volume was interrupted", slog.String("vm", uuid))
		_, err := os.Lstat(newFile(w.Root))
		switch {
		case errors.Is(err, fs.ErrNotExist): // it has its name already
			if err := s.settle(ctx, uuid, w); err != nil {
				return err
			}
		case err != nil:
			return err
		default:
			if err := s.forget(ctx, uuid); err != nil {
				return err
			}
		}
	}
	return sweep(record)
}

// sweep removes unfinished files beside a root volume.
func sweep(record *hypervisorv1.LocalVmInfo) error {
	r, err := root(record)
	if err != nil {
		return nil //nolint:nilerr // without a root volume nothing lies beside it
	}
	unfinished := []string{newFile(r), keptFile(r), newFile(vm.DebugFile(r)), r + patchLogSuffix}
	spools, err := filepath.Glob(filepath.Join(filepath.Dir(r), ".image-*"))
	if err != nil {
		return err
	}
	for _, f := range []string{newFile(r), newFile(vm.DebugFile(r))} {
		err = errors.Join(err, converters.DiscardPartial(f))
	}
	return errors.Join(err, remove(append(unfinished, spools...)...))
}
