package image

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/proto"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/atomicfile"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/store"
)

const (
	// swapPrefix is where the store notes which root volumes are just being swapped, by UUID.
	swapPrefix = "image-swaps/"
	// oldPrefix is where it keeps what is known of old root volumes, as VmInfo with names of images and one volume, by UUID.
	oldPrefix = "old-images/"
)

// The files beside a root volume.
func newFile(root string) string  { return root + ".replacing" }     // about to become the root volume
func oldFile(root string) string  { return root + ".old" }           // what RestoreVmImage puts back
func keptFile(root string) string { return root + ".old.replacing" } // another name of the root volume while it is swapped

// swap is the change of a root volume: newFile becomes it.
type swap struct {
	Root string
	// Keep has the root volume become the old one; otherwise an old one stays as it is, unless DropOld is set.
	Keep, DropOld bool
	// Was and Next are VmInfo messages with what the record says before and afterwards: names of images, and one volume.
	Was, Next []byte
}

func newSwap(record *hypervisorv1.LocalVmInfo, root string, keep bool, next *hypervisorv1.VmInfo) (swap, error) {
	info := record.GetVmInfo()
	was, err := proto.Marshal(&hypervisorv1.VmInfo{
		ImageName: info.GetImageName(), ImageUrl: info.GetImageUrl(),
		Volumes: []*hypervisorv1.Volume{{Format: info.GetVolumes()[0].GetFormat()}},
	})
	if err != nil {
		return swap{}, err
	}
	raw, err := proto.Marshal(next)
	return swap{Root: root, Keep: keep, Was: was, Next: raw}, err
}

// swapRoot makes newFile the root volume, or leaves everything as it is but for newFile, which is the caller's. The caller holds the VM's lock.
func (s *Service) swapRoot(ctx context.Context, uuid string, w swap) error {
	note, err := json.Marshal(w)
	if err != nil {
		return err
	}
	if _, err := s.Store.Update(ctx, func(t store.Writer) error { return t.Put(swapPrefix+uuid, note) }); err != nil {
		return fault.Wrap(err, "root volume")
	}
	if err := w.rename(); err != nil {
		return errors.Join(fault.Wrap(err, "root volume"), s.forget(ctx, uuid))
	}
	if err := s.settle(ctx, uuid, w); err != nil {
		// The note stays: the next start ends what was begun.
		return fault.Wrap(err, "root volume: it was replaced, but that could not be written down")
	}
	return nil
}

// rename gives the new file its name. The old content stays under keptFile.
func (w swap) rename() error {
	if err := remove(keptFile(w.Root)); err != nil {
		return err
	}
	if err := os.Link(w.Root, keptFile(w.Root)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(newFile(w.Root), w.Root); err != nil {
		return errors.Join(err, remove(keptFile(w.Root)))
	}
	return atomicfile.SyncDir(filepath.Dir(w.Root))
}

// settle does what follows once the new file has its name. It may be repeated.
func (s *Service) settle(ctx context.Context, uuid string, w swap) error {
	next := new(hypervisorv1.VmInfo)
	if err := proto.Unmarshal(w.Next, next); err != nil {
		return fault.As(fault.DataLoss, err, "state: %s%s", swapPrefix, uuid)
	}
	_, err := s.Operations.Change(ctx, uuid, func(r *hypervisorv1.LocalVmInfo) error {
		info := r.GetVmInfo()
		v, to := info.GetVolumes()[0], next.GetVolumes()[0]
		v.Format, v.Size, v.VirtualSize = to.GetFormat(), to.GetSize(), to.GetVirtualSize()
		info.ImageName, info.ImageUrl = next.GetImageName(), next.GetImageUrl()
		return nil
	})
	if err != nil {
		return err
	}
	if w.Keep {
		err = s.keepOld(ctx, uuid, w)
	} else {
		err = remove(keptFile(w.Root))
	}
	if err == nil && w.DropOld {
		err = s.dropOld(ctx, uuid, w.Root)
	}
	return errors.Join(err, s.forget(ctx, uuid))
}

// keepOld makes what is kept the old root volume. That nothing is kept any more says that this has been done.
func (s *Service) keepOld(ctx context.Context, uuid string, w swap) error {
	if _, err := os.Lstat(keptFile(w.Root)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if _, err := s.Store.Update(ctx, func(t store.Writer) error { return t.Put(oldPrefix+uuid, w.Was) }); err != nil {
		return err
	}
	return os.Rename(keptFile(w.Root), oldFile(w.Root))
}

// dropOld removes the old root volume.
func (s *Service) dropOld(ctx context.Context, uuid, root string) error {
	err := remove(oldFile(root))
	if err == nil {
		_, err = s.Store.Update(ctx, func(t store.Writer) error { return t.Delete(oldPrefix + uuid) })
	}
	return err
}

func (s *Service) forget(ctx context.Context, uuid string) error {
	_, err := s.Store.Update(ctx, func(t store.Writer) error { return t.Delete(swapPrefix + uuid) })
	return err
}

// old returns what is known of a VM's old root volume.
func (s *Service) old(ctx context.Context, uuid string) (*hypervisorv1.VmInfo, error) {
	info := new(hypervisorv1.VmInfo)
	err := s.Store.View(ctx, func(r store.Reader) error {
		e, err := r.Get(oldPrefix + uuid)
		if err != nil {
			return err
		}
		return fault.As(fault.DataLoss, proto.Unmarshal(e.Value, info), "state: %s", e.Key)
	})
	return info, err
}

// remove removes files. One that is missing is no error.
func remove(files ...string) error {
	var errs []error
	for _, f := range files {
		if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fault.Wrap(err, "volume"))
		}
	}
	return errors.Join(errs...)
}
