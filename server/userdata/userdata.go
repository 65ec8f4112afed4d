// Package userdata is the UserDataService: a file for each VM, and the one it replaced. The content is the owner's and may hold secrets: it is in no log, no
// error and no update.
package userdata

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"google.golang.org/grpc"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/atomicfile"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/pieces"
)

// The files in a VM's folder. A VM without user data has none of them, or an old one only.
const (
	File    = "user-data.raw"
	OldFile = "user-data.old"
)

// VMs knows the VMs.
type VMs interface {
	Info(ref string) (*hypervisorv1.VmInfo, error)
}

// Operations is what changes of a VM need.
type Operations interface {
	// Acquire takes the VM's lock; release gives it back.
	Acquire(ctx context.Context, ref string) (record *hypervisorv1.LocalVmInfo, release func(), err error)
	// Directory returns the folder for the VM's files.
	Directory(uuid string) (string, error)
}

// Service is the UserDataService.
type Service struct {
	hypervisorv1.UnimplementedUserDataServiceServer
	VMs        VMs
	Operations Operations
}

var _ hypervisorv1.UserDataServiceServer = (*Service)(nil)

// GetVmUserData implements UserDataService. What is sent is what was there at the call, also if it is replaced meanwhile.
func (s *Service) GetVmUserData(
	req *hypervisorv1.GetVmUserDataRequest, stream grpc.ServerStreamingServer[hypervisorv1.GetVmUserDataResponse],
) error {
	info, err := s.VMs.Info(req.GetVm())
	if err != nil {
		return err
	}
	dir, err := s.Operations.Directory(info.GetUuid())
	if err != nil {
		return err
	}
	f, err := os.Open(filepath.Join(dir, File))
	if errors.Is(err, fs.ErrNotExist) {
		return stream.Send(&hypervisorv1.GetVmUserDataResponse{})
	}
	if err != nil {
		return fault.Wrap(err, "vm %q: user data", req.GetVm())
	}
	defer f.Close() //nolint:errcheck // it was only read
	st, err := f.Stat()
	if err != nil {
		return fault.Wrap(err, "vm %q: user data", req.GetVm())
	}
	length := uint64(st.Size())
	if err := stream.Send(&hypervisorv1.GetVmUserDataResponse{Length: length}); err != nil {
		return err
	}
	return fault.Wrap(pieces.Send(f, length, func(piece []byte) error {
		return stream.Send(&hypervisorv1.GetVmUserDataResponse{Data: piece})
	}), "vm %q: user data", req.GetVm())
}

// RestoreVmUserData implements UserDataService. The present user data is lost, and there is no kept one afterwards.
func (s *Service) RestoreVmUserData(
	ctx context.Context, req *hypervisorv1.RestoreVmUserDataRequest,
) (*hypervisorv1.RestoreVmUserDataResponse, error) {
	err := s.inFolder(ctx, req.GetVm(), func(dir string) error {
		err := os.Rename(filepath.Join(dir, OldFile), filepath.Join(dir, File))
		if errors.Is(err, fs.ErrNotExist) {
			return fault.New(fault.NotFound, "there is none to restore; ReplaceVmUserData keeps one")
		}
		if err != nil {
			return err
		}
		return atomicfile.SyncDir(dir)
	})
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.RestoreVmUserDataResponse{}, nil
}

// DiscardVmOldUserData implements UserDataService. That there is none is no error.
func (s *Service) DiscardVmOldUserData(
	ctx context.Context, req *hypervisorv1.DiscardVmOldUserDataRequest,
) (*hypervisorv1.DiscardVmOldUserDataResponse, error) {
	err := s.inFolder(ctx, req.GetVm(), func(dir string) error {
		if err := os.Remove(filepath.Join(dir, OldFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return atomicfile.SyncDir(dir)
	})
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.DiscardVmOldUserDataResponse{}, nil
}

// inFolder changes the files of a VM under its lock.
func (s *Service) inFolder(ctx context.Context, vm string, change func(dir string) error) error {
	record, release, err := s.Operations.Acquire(ctx, vm)
	if err != nil {
		return err
	}
	defer release()
	dir, err := s.Operations.Directory(record.GetVmInfo().GetUuid())
	if err != nil {
		return err
	}
	return fault.Wrap(change(dir), "vm %q: user data", vm)
}
