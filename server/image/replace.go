package image

import (
	"context"
	"errors"

	"google.golang.org/grpc"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/pieces"
	"github.com/hyperplane-project/hyperplane/server/vm"
)

type replaceStream = grpc.BidiStreamingServer[hypervisorv1.ReplaceVmImageRequest, hypervisorv1.ReplaceVmImageResponse]

// ReplaceVmImage implements ImageService. Images are whole disks with their own boot loaders: none is ever installed, so skip_bootloader changes nothing.
// With pre_delete nothing can be kept, and a failure leaves the VM without a root volume; another call makes one.
func (s *Service) ReplaceVmImage(stream replaceStream) error {
	req, err := firstOf(stream.Recv)
	if err != nil {
		return err
	}
	tell := whileThere(stream.Context(), func(what string) error {
		return stream.Send(&hypervisorv1.ReplaceVmImageResponse{ProgressMessage: what})
	})
	f := &fetching{Service: s, source: req.GetSource(), tell: tell, data: pieces.NewReader(req.GetImageData(), func() ([]byte, error) {
		m, err := stream.Recv()
		return m.GetImageData(), err
	})}
	timedOut, err := s.replace(stream.Context(), req, f)
	if err != nil {
		return err
	}
	return stream.Send(&hypervisorv1.ReplaceVmImageResponse{Final: true, DhcpTimedOut: timedOut})
}

func (s *Service) replace(ctx context.Context, req *hypervisorv1.ReplaceVmImageRequest, f *fetching) (timedOut bool, err error) {
	if err := f.check(); err != nil {
		return false, err
	}
	format := req.GetVolumeFormat()
	if _, ok := hypervisorv1.VolumeFormat_name[int32(format)]; !ok {
		return false, fault.New(fault.InvalidArgument, "volume_format: %d is no value of VolumeFormat", format)
	}
	record, release, err := s.Operations.Acquire(ctx, req.GetVm())
	if err != nil {
		return false, err
	}
	info := record.GetVmInfo()
	if running(record) {
		err = s.Operations.CheckLease(info.GetUuid(), f.source.GetDhcpTimeout().AsDuration())
	}
	var w swap
	if err == nil {
		w, err = s.prepare(ctx, req, record, f)
	}
	if err != nil {
		release()
		return false, fault.Wrap(err, "vm %s", vm.Name(info))
	}
	r := restart{Service: s, uuid: info.GetUuid(), was: running(record), dhcp: f.source.GetDhcpTimeout().AsDuration(), tell: f.tell}
	err = s.Operations.Finish(ctx, func(ctx context.Context) (err error) {
		defer release()
		timedOut, err = r.around(ctx, func() error { return s.swapRoot(ctx, info.GetUuid(), w) })
		return errors.Join(err, remove(newFile(w.Root)))
	})
	if err != nil {
		return false, fault.Wrap(err, "vm %s", vm.Name(info))
	}
	return timedOut, nil
}

// prepare checks what is asked of the VM and makes the new volume.
func (s *Service) prepare(ctx context.Context, req *hypervisorv1.ReplaceVmImageRequest, record *hypervisorv1.LocalVmInfo, f *fetching) (swap, error) {
	info := record.GetVmInfo()
	states := []hypervisorv1.State{hypervisorv1.State_STATE_STOPPED, hypervisorv1.State_STATE_RUNNING}
	action := "have its image replaced"
	if req.GetPreDelete() {
		states, action = states[:1], "have its image replaced with pre_delete"
	}
	if err := vm.Require(info, action, states...); err != nil {
		return swap{}, err
	}
	file, err := root(record)
	if err != nil {
		return swap{}, err
	}
	v, format := info.GetVolumes()[0], req.GetVolumeFormat()
	keep := !req.GetSkipBackup() && !req.GetPreDelete()
	switch {
	case format != v.GetFormat() && keep:
		return swap{}, fault.New(fault.FailedPrecondition, "volume_format: the root volume has another format, so it can not be kept; use skip_backup")
	case format != v.GetFormat() && len(v.GetSnapshots()) > 0:
		return swap{}, fault.New(fault.FailedPrecondition, "volume_format: the root volume has snapshots in another format; discard them first")
	}
	if req.GetPreDelete() {
		if err := remove(file); err != nil {
			return swap{}, err
		}
	}
	size, err := f.volume(ctx, newFile(file), format)
	if err != nil {
		if req.GetPreDelete() {
			err = fault.Wrap(err, "the old root volume was deleted first (pre_delete) and there is no new one; call again")
		}
		return swap{}, err
	}
	next := &hypervisorv1.VmInfo{Volumes: []*hypervisorv1.Volume{{Format: format, Size: size, VirtualSize: size}}}
	next.ImageName, next.ImageUrl = f.names()
	w, err := newSwap(record, file, keep, next)
	w.DropOld = format != v.GetFormat() // nobody could restore it
	return w, err
}

// RestoreVmImage implements ImageService. The present root volume is lost.
func (s *Service) RestoreVmImage(ctx context.Context, req *hypervisorv1.RestoreVmImageRequest) (*hypervisorv1.RestoreVmImageResponse, error) {
	err := s.Operations.Finish(ctx, func(ctx context.Context) error {
		record, release, err := s.Operations.Acquire(ctx, req.GetVm())
		if err != nil {
			return err
		}
		defer release()
		if err := vm.Require(record.GetVmInfo(), "have its old image restored", hypervisorv1.State_STATE_STOPPED); err != nil {
			return err
		}
		return fault.Wrap(s.restore(ctx, record), "vm %s", vm.Name(record.GetVmInfo()))
	})
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.RestoreVmImageResponse{}, nil
}

func (s *Service) restore(ctx context.Context, record *hypervisorv1.LocalVmInfo) error {
	uuid := record.GetVmInfo().GetUuid()
	file, err := root(record)
	if err != nil {
		return err
	}
	next, err := s.oldImage(ctx, uuid, file)
	if err != nil {
		return err
	}
	w, err := newSwap(record, file, false, next)
	if err != nil {
		return err
	}
	w.DropOld = true
	if err := errors.Join(remove(newFile(file)), link(oldFile(file), newFile(file))); err != nil {
		return err
	}
	return errors.Join(s.swapRoot(ctx, uuid, w), remove(newFile(file)))
}

// DiscardVmOldImage implements ImageService. That there is none is no error.
func (s *Service) DiscardVmOldImage(
	ctx context.Context, req *hypervisorv1.DiscardVmOldImageRequest,
) (*hypervisorv1.DiscardVmOldImageResponse, error) {
	record, release, err := s.Operations.Acquire(ctx, req.GetVm())
	if err != nil {
		return nil, err
	}
	defer release()
	file, err := root(record)
	if err != nil {
		return &hypervisorv1.DiscardVmOldImageResponse{}, nil // it has none
	}
	if err := s.dropOld(ctx, record.GetVmInfo().GetUuid(), file); err != nil {
		return nil, fault.Wrap(err, "vm %s", vm.Name(record.GetVmInfo()))
	}
	return &hypervisorv1.DiscardVmOldImageResponse{}, nil
}
