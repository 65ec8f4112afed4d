package appliance

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/atomicfile"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// swap is what is done when the files take their places. With a definition the domain is defined by it.
type swap struct {
	UUID       string   `json:"uuid,omitempty"`
	Definition []byte   `json:"definition,omitempty"`
	Disks      []string `json:"disks,omitempty"`
	Autostart  bool     `json:"autostart,omitempty"`
}

// stagedBeside names a file that is to take the place of another one.
func stagedBeside(file, uuid string) staged {
	return staged{Staged: filepath.Join(filepath.Dir(file), ".hyperplane-"+uuid[:min(8, len(uuid))]+"-restore-"+filepath.Base(file)), Final: file}
}

// swapping is the work of putting the disks back, whose files are still to be named.
func (r restoring) swapping() work {
	return work{Files: make([]staged, len(r.m.Disks)), Swap: new(swap)}
}

// inPlace gives a domain that is no VM its disks, its definition and its firmware variables back.
func (r restoring) inPlace(ctx context.Context) (*hypervisorv1.MadeDomain, error) {
	uuid := r.m.DomainUUID
	release, err := r.domains.Lock(ctx, uuid)
	if err != nil {
		return nil, fault.Wrap(err, "domain %q: something else is done with it", r.m.Domain)
	}
	defer release()
	layout, err := r.Driver.DescribeDefinition([]byte(r.m.Definition))
	if err != nil {
		return nil, err
	}
	w := r.swapping()
	w.Swap.UUID, w.Swap.Definition = uuid, []byte(r.m.Definition)
	for i, d := range layout.Disks {
		w.Files[i] = stagedBeside(d.File, uuid)
		w.Swap.Disks = append(w.Swap.Disks, d.File)
	}
	if r.m.Variables != nil && layout.Variables != "" {
		w.Files = append(w.Files, stagedBeside(layout.Variables, uuid))
	}
	dom, err := r.Driver.FindDomain(ctx, uuid)
	switch {
	case fault.Is(err, fault.NotFound):
		err = r.nameFree(ctx, layout.Name)
	case err == nil && dom.State.Alive():
		err = fault.New(fault.FailedPrecondition, "domain %q: is %s; stop it first, or give a new_name", dom.Name, dom.State)
	case err == nil:
		w.Swap.Autostart = dom.Autostart
	}
	if err == nil {
		err = r.unused(ctx, w.Files)
	}
	if err != nil {
		return nil, err
	}
	if err := r.put(ctx, w); err != nil {
		return nil, err
	}
	if r.start {
		r.tell.tell("starting the domain", 0, 0)
		if err := r.Driver.StartDomain(ctx, uuid); err != nil {
			return nil, fault.Wrap(err, "it is restored, but does not start")
		}
	}
	return &hypervisorv1.MadeDomain{Name: layout.Name, Uuid: uuid, Files: w.Swap.Disks}, nil
}

// unused refuses files that another domain has.
func (r restoring) unused(ctx context.Context, files []staged) error {
	users, err := r.users(ctx)
	if err != nil {
		return err
	}
	for _, f := range files {
		for _, user := range users[f.Final] {
			if user.UUID != r.m.DomainUUID {
				return fault.New(fault.FailedPrecondition, "the file %s is domain %q's, which is %s; give a new_name", f.Final, user.Name, user.State)
			}
		}
	}
	return nil
}

// put makes all files, and has them take their places when all are there. Until then nothing has changed.
func (r restoring) put(ctx context.Context, w work) error {
	w.Swap.UUID = r.m.DomainUUID
	key := workPrefix + r.NewUUID()
	making := work{}
	for _, f := range w.Files {
		making.Files = append(making.Files, staged{Staged: f.Staged})
		if err := os.MkdirAll(filepath.Dir(f.Final), 0o711); err != nil { //nolint:gosec // QEMU may run as another user, who must get through
			return fault.Wrap(err, "folder of a disk")
		}
	}
	if err := r.note(ctx, key, making); err != nil {
		return err
	}
	err := r.fillAll(ctx, w)
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = r.note(ctx, key, w)
	}
	ctx = context.WithoutCancel(ctx)
	if err != nil {
		return errors.Join(err, making.clear(), r.forget(ctx, key))
	}
	r.tell.tell("putting the disks into their places", 0, 0)
	if err := r.finish(ctx, w); err != nil {
		return fault.Wrap(err, "not everything is in its place; the next start of the daemon tries again")
	}
	return r.forget(ctx, key)
}

func (r restoring) fillAll(ctx context.Context, w work) error {
	var to []string
	for _, f := range w.Files {
		to = append(to, f.Staged)
	}
	if err := r.fill(ctx, to[:len(r.m.Disks)]); err != nil {
		return err
	}
	if len(to) > len(r.m.Disks) {
		return fault.Wrap(copyBytes(r.path(r.m.Variables), to[len(r.m.Disks)]), "the firmware's variables")
	}
	return nil
}

// finish does what a swap is about; each step may be repeated.
func (s *Service) finish(ctx context.Context, w work) error {
	if w.Swap.Definition != nil {
		// Its firmware variables go with it, so this comes before the files; and its checkpoints, which are of disks that are no more.
		if err := s.Driver.Undefine(ctx, w.Swap.UUID); err != nil {
			return err
		}
	}
	for _, f := range w.Files {
		if err := os.Rename(f.Staged, f.Final); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fault.Wrap(err, "put back %s", f.Final)
		}
		if err := atomicfile.SyncDir(filepath.Dir(f.Final)); err != nil {
			return fault.Wrap(err, "put back %s", f.Final)
		}
	}
	if w.Swap.Definition == nil {
		return nil
	}
	if err := s.Driver.Redefine(ctx, w.Swap.Definition, w.Swap.Disks); err != nil {
		return err
	}
	if w.Swap.Autostart {
		return s.Driver.SetAutostart(ctx, w.Swap.UUID, true)
	}
	return nil
}
