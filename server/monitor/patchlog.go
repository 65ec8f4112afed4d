package monitor

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/pieces"
)

// PatchLog is the file in a VM's folder for the log of its last PatchVmImage. Its time is that of the patch.
const PatchLog = "patch.log"

// Folders knows where the files of VMs are.
type Folders interface {
	// Directory returns the folder for the VM's files.
	Directory(uuid string) (string, error)
}

// GetVmLastPatchLog implements MonitoringService. A VM that was not patched has an empty answer.
func (s *Service) GetVmLastPatchLog(
	req *hypervisorv1.GetVmLastPatchLogRequest, stream grpc.ServerStreamingServer[hypervisorv1.GetVmLastPatchLogResponse],
) error {
	info, err := s.VMs.Info(req.GetVm())
	if err != nil {
		return err
	}
	dir, err := s.Folders.Directory(info.GetUuid())
	if err != nil {
		return err
	}
	f, err := os.Open(filepath.Join(dir, PatchLog))
	if errors.Is(err, fs.ErrNotExist) {
		return stream.Send(&hypervisorv1.GetVmLastPatchLogResponse{})
	}
	if err != nil {
		return fault.Wrap(err, "vm %q: patch log", req.GetVm())
	}
	defer f.Close() //nolint:errcheck // it was only read
	st, err := f.Stat()
	if err != nil {
		return fault.Wrap(err, "vm %q: patch log", req.GetVm())
	}
	length := uint64(st.Size())
	if err := stream.Send(&hypervisorv1.GetVmLastPatchLogResponse{Length: length, PatchTime: timestamppb.New(st.ModTime())}); err != nil {
		return err
	}
	return fault.Wrap(pieces.Send(f, length, func(piece []byte) error {
		return stream.Send(&hypervisorv1.GetVmLastPatchLogResponse{Data: piece})
	}), "vm %q: patch log", req.GetVm())
}
