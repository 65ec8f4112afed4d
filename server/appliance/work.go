package appliance

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/store"
)

// workPrefix is where the store keeps notes of work that is under way.
const workPrefix = "appliance-work/"

// work is what must be removed if it does not come to its end.
type work struct {
	// Source is the machine whose disks are copied.
	Source string `json:"source,omitempty"`
	// Machine is the one that is being made. When it is there, it is whole.
	Machine string `json:"machine,omitempty"`
	// Files are made under the first name and linked to the second one. The second one is ours only if both are the same file.
	Files []staged `json:"files,omitempty"`
	// Folders hold nothing but the work's own.
	Folders []string `json:"folders,omitempty"`
	// Swap says that the files are all there, and take the place of those of the second names: the work goes on to its end, whatever happens.
	Swap *swap `json:"swap,omitempty"`
}

type staged struct {
	Staged string `json:"staged"`
	Final  string `json:"final,omitempty"`
}

// do notes the work, has f do it, and takes everything back if that fails.
func (s *Service) do(ctx context.Context, w work, f func(ctx context.Context) error) error {
	key := workPrefix + s.NewUUID()
	if err := s.note(ctx, key, w); err != nil {
		return err
	}
	err := f(ctx)
	ctx = context.WithoutCancel(ctx)
	if err != nil {
		if w.Machine != "" {
			err = errors.Join(err, s.unmake(ctx, w.Machine))
		}
		if clearErr := w.clear(); clearErr != nil {
			return errors.Join(err, clearErr) // the note stays, so that the next start tries again
		}
		return errors.Join(err, s.forget(ctx, key))
	}
	return s.forget(ctx, key)
}

func (s *Service) note(ctx context.Context, key string, w work) error {
	raw, err := json.Marshal(w)
	if err != nil {
		return fault.As(fault.Internal, err, "note of work")
	}
	_, err = s.Store.Update(ctx, func(tx store.Writer) error { return tx.Put(key, raw) })
	return fault.Wrap(err, "note of work")
}

func (s *Service) forget(ctx context.Context, key string) error {
	_, err := s.Store.Update(ctx, func(tx store.Writer) error { return tx.Delete(key) })
	return fault.Wrap(err, "note of work")
}

// unmake removes a machine that was made a moment ago.
func (s *Service) unmake(ctx context.Context, uuid string) error {
	if err := s.Driver.Kill(ctx, uuid); err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	return s.Driver.Undefine(ctx, uuid)
}

// clear removes what was made.
func (w work) clear() error {
	var errs []error
	for _, f := range w.Files {
		made, err := os.Lstat(f.Staged)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if final, finalErr := os.Lstat(f.Final); err == nil && finalErr == nil && os.SameFile(made, final) {
			errs = append(errs, os.Remove(f.Final))
		}
		errs = append(errs, os.Remove(f.Staged))
	}
	for _, dir := range w.Folders {
		errs = append(errs, os.RemoveAll(dir))
	}
	return fault.Wrap(errors.Join(errs...), "remove what was half-made")
}

// publish gives all files their names.
func (w work) publish() error {
	for _, f := range w.Files {
		if err := syncFile(f.Staged); err != nil {
			return fault.Wrap(err, "%s", f.Staged)
		}
		if err := os.Link(f.Staged, f.Final); errors.Is(err, fs.ErrExist) {
			return fault.New(fault.AlreadyExists, "the file %s exists; choose another name, or remove it", f.Final)
		} else if err != nil {
			return fault.Wrap(err, "name a file")
		}
	}
	return nil
}

// settle drops the first names.
func (w work) settle() error {
	var errs []error
	for _, f := range w.Files {
		errs = append(errs, os.Remove(f.Staged))
	}
	return fault.Wrap(errors.Join(errs...), "drop the working name")
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
