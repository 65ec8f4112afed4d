package vm

import (
	"context"
	"errors"
	"log/slog"

	"google.golang.org/protobuf/proto"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/store"
)

const (
	// requestPrefix is where the store keeps the requests that VMs were created by.
	requestPrefix = "vm-requests/"
	// creatingPrefix is where the store notes VMs whose creation has not ended, so that a daemon that was killed cleans up after itself.
	creatingPrefix = "vm-creations/"
)

// creating notes, with a VM's first record, that its creation has begun.
func creating(uuid string) func(store.Writer) error {
	return func(w store.Writer) error { return w.Put(creatingPrefix+uuid, nil) }
}

// created notes that a VM's creation has ended, and keeps the request; nil = there is none that can be repeated.
func created(uuid string, request *hypervisorv1.CreateVmSpec) func(store.Writer) error {
	return func(w store.Writer) error {
		if request == nil {
			return w.Delete(creatingPrefix + uuid)
		}
		kept := proto.CloneOf(request)
		kept.IdentityKey = nil
		raw, err := proto.Marshal(kept)
		if err != nil {
			return fault.As(fault.Internal, err, "vm %s: create request", uuid)
		}
		return errors.Join(w.Put(requestPrefix+uuid, raw), w.Delete(creatingPrefix+uuid))
	}
}

// forget notes that a creation has ended with nothing, or with a VM that no request can make again.
func (s *Service) forget(ctx context.Context, uuid string) error {
	_, err := s.registry.store.Update(ctx, func(w store.Writer) error { return w.Delete(creatingPrefix + uuid) })
	return err
}

// recoverInterrupted removes what an earlier daemon left of creations that it could not end.
func (s *Service) recoverInterrupted(ctx context.Context) {
	var uuids []string
	err := s.registry.store.View(ctx, func(r store.Reader) error {
		for e := range r.Scan(creatingPrefix, "") {
			uuids = append(uuids, e.Key[len(creatingPrefix):])
		}
		return nil
	})
	for _, uuid := range uuids {
		err = errJoin(err, s.removeInterrupted(ctx, uuid))
	}
	if err != nil {
		s.Log.LogAttrs(ctx, slog.LevelError, "interrupted creations not removed", slog.Any("error", err))
	}
}

// removeInterrupted removes a VM whose creation an earlier daemon could not end, if it is one. A creation of this daemon holds the VM's lock
// until its note has gone, so a note that is seen under the lock belongs to nobody any more.
func (s *Service) removeInterrupted(ctx context.Context, uuid string) error {
	unlock, err := s.hold(ctx, uuid, uuid)
	if err != nil {
		return err
	}
	defer unlock()
	err = s.registry.store.View(ctx, func(r store.Reader) error {
		_, err := r.Get(creatingPrefix + uuid)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err := errJoin(err, s.remove(ctx, uuid)); err != nil {
		return fault.Wrap(err, "vm %s: remove what an interrupted creation left", uuid)
	}
	s.Log.LogAttrs(ctx, slog.LevelWarn, "removed a VM whose creation was interrupted", slog.String("vm", uuid))
	return s.forget(ctx, uuid)
}
