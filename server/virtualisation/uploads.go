package virtualisation

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/store"
)

// uploadPrefix is where the volumes are noted that uploads make. libvirt can not rename a volume, so that it has its name from the beginning.
const uploadPrefix = "virtualisation/upload/"

// begunUpload is a volume that an upload makes.
type begunUpload struct{ Pool, Volume string }

func (u begunUpload) key() string { return uploadPrefix + u.Pool + "/" + u.Volume }

// begin notes a volume that an upload has just made.
func (s *Service) begin(ctx context.Context, u begunUpload) error {
	raw, err := json.Marshal(u)
	if err != nil {
		return err
	}
	s.uploads.Store(u, true)
	_, err = s.Store.Update(ctx, func(w store.Writer) error { return w.Put(u.key(), raw) })
	return fault.Wrap(err, "volume %s", u.Volume)
}

// end forgets it: it is whole, or has gone.
func (s *Service) end(ctx context.Context, u begunUpload) error {
	s.uploads.Delete(u)
	_, err := s.Store.Update(context.WithoutCancel(ctx), func(w store.Writer) error { return w.Delete(u.key()) })
	return fault.Wrap(err, "volume %s", u.Volume)
}

// Recover removes the volumes whose upload a daemon that was killed has not ended. What can not be removed now, because its pool does not run, is at the next
// start.
func (s *Service) Recover(ctx context.Context) error {
	var begun []begunUpload
	err := s.Store.View(ctx, func(r store.Reader) error {
		for e := range r.Scan(uploadPrefix, "") {
			var u begunUpload
			if err := json.Unmarshal(e.Value, &u); err != nil {
				return fault.As(fault.DataLoss, err, "%s", e.Key)
			}
			begun = append(begun, u)
		}
		return nil
	})
	for _, u := range begun {
		if _, goesOn := s.uploads.Load(u); !goesOn {
			err = errors.Join(err, s.remove(ctx, u))
		}
	}
	return err
}

// remove removes a volume whose upload has failed. If that fails too it is removed at the next start.
func (s *Service) remove(ctx context.Context, u begunUpload) error {
	s.uploads.Delete(u)
	err := s.Driver.DeleteVolume(ctx, u.Pool, u.Volume)
	if err == nil || fault.Is(err, fault.NotFound) {
		err = s.end(ctx, u)
	}
	return fault.Wrap(err, "half-uploaded volume %s in pool %s", u.Volume, u.Pool)
}
