package image

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"google.golang.org/grpc"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/pieces"
	"github.com/hyperplane-project/hyperplane/server/store"
	"github.com/hyperplane-project/hyperplane/server/vm"
)

type debugStream = grpc.BidiStreamingServer[hypervisorv1.DebugVmImageRequest, hypervisorv1.DebugVmImageResponse]

// DebugVmImage implements ImageService. The temporary root volume is always raw. What is known of the VM's own image stays as it is.
func (s *Service) DebugVmImage(stream debugStream) error {
	req, err := firstOf(stream.Recv)
	if err != nil {
		return err
	}
	tell := whileThere(stream.Context(), func(what string) error {
		return stream.Send(&hypervisorv1.DebugVmImageResponse{ProgressMessage: what})
	})
	f := &fetching{Service: s, source: req.GetSource(), tell: tell, data: pieces.NewReader(req.GetImageData(), func() ([]byte, error) {
		m, err := stream.Recv()
		return m.GetImageData(), err
	})}
	timedOut, err := s.debug(stream.Context(), req.GetVm(), f)
	if err != nil {
		return err
	}
	return stream.Send(&hypervisorv1.DebugVmImageResponse{Final: true, DhcpTimedOut: timedOut})
}

func (s *Service) debug(ctx context.Context, ref string, f *fetching) (timedOut bool, err error) {
	if err := f.check(); err != nil {
		return false, err
	}
	record, release, err := s.Operations.Acquire(ctx, ref)
	if err != nil {
		return false, err
	}
	info := record.GetVmInfo()
	err = vm.Require(info, "be debugged", hypervisorv1.State_STATE_STOPPED, hypervisorv1.State_STATE_RUNNING)
	if err == nil {
		err = s.Operations.CheckLease(info.GetUuid(), f.source.GetDhcpTimeout().AsDuration())
	}
	var file string
	if err == nil {
		file, err = root(record)
	}
	file = vm.DebugFile(file)
	if err == nil {
		_, err = f.volume(ctx, newFile(file), hypervisorv1.VolumeFormat_VOLUME_FORMAT_UNSPECIFIED)
	}
	if err != nil {
		release()
		return false, fault.Wrap(err, "vm %s", vm.Name(info))
	}
	err = s.Operations.Finish(ctx, func(ctx context.Context) (err error) {
		defer release()
		timedOut, err = s.startDebugging(ctx, record, file, f)
		return errors.Join(err, remove(newFile(file)))
	})
	if err != nil {
		return false, fault.Wrap(err, "vm %s", vm.Name(info))
	}
	return timedOut, nil
}

// startDebugging starts the VM from the temporary volume, or brings it back to what it was.
func (s *Service) startDebugging(ctx context.Context, record *hypervisorv1.LocalVmInfo, file string, f *fetching) (timedOut bool, err error) {
	uuid, dhcp := record.GetVmInfo().GetUuid(), f.source.GetDhcpTimeout().AsDuration()
	if running(record) {
		_ = f.tell("stopping VM") // a client that has gone does not see it
		if err := s.Operations.Halt(ctx, uuid); err != nil {
			return false, err
		}
	}
	_ = f.tell("starting VM")
	if err = os.Rename(newFile(file), file); err == nil {
		if timedOut, err = s.Operations.ResumeDebugging(ctx, uuid, dhcp); err == nil {
			return timedOut, nil
		}
	}
	return false, errors.Join(err, remove(file), s.backTo(ctx, uuid, running(record)))
}

// backTo brings a VM whose start failed to STOPPED, and from there to RUNNING if it was that.
func (s *Service) backTo(ctx context.Context, uuid string, run bool) error {
	if err := s.Operations.Halt(ctx, uuid); err != nil && !fault.Is(err, fault.FailedPrecondition) { // it is STOPPED already
		return err
	}
	if !run {
		return nil
	}
	_, err := s.Operations.Resume(ctx, uuid, 0)
	return err
}

// oldImage says what a VM's record says once its old root volume is restored.
func (s *Service) oldImage(ctx context.Context, uuid, file string) (*hypervisorv1.VmInfo, error) {
	if _, err := os.Lstat(oldFile(file)); errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.FailedPrecondition, "there is no old image to restore; ReplaceVmImage and PatchVmImage keep one")
	}
	next, err := s.old(ctx, uuid)
	if errors.Is(err, store.ErrNotFound) {
		return nil, fault.New(fault.DataLoss, "nobody knows what the old image is: its description has gone")
	}
	if err != nil {
		return nil, err
	}
	v := next.GetVolumes()[0]
	v.Size, err = s.Volumes.Size(ctx, oldFile(file), v.GetFormat())
	v.VirtualSize = v.GetSize()
	return next, err
}

func link(from, to string) error { return fault.Wrap(os.Link(from, to), "volume") }
