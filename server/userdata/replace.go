package userdata

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"google.golang.org/grpc"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/atomicfile"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// MaxSize is how many bytes of user data a VM may have. An upload is held in memory until it is complete.
const MaxSize = 16 << 20

const (
	stagedFile = ".user-data.upload" // a complete upload
	keptFile   = ".user-data.kept"   // another name of the user data that is about to be the old one
)

type upload = grpc.ClientStreamingServer[hypervisorv1.ReplaceVmUserDataRequest, hypervisorv1.ReplaceVmUserDataResponse]

// ReplaceVmUserData implements UserDataService. Size 0 takes the user data away. An upload that does not end with exactly the size announced is
// InvalidArgument and changes nothing.
func (s *Service) ReplaceVmUserData(stream upload) error {
	vm, content, err := receive(stream)
	if err != nil {
		return err
	}
	err = s.inFolder(stream.Context(), vm, func(dir string) error {
		if len(content) == 0 {
			return remove(dir)
		}
		return replace(dir, content)
	})
	if err != nil {
		return err
	}
	return stream.SendAndClose(&hypervisorv1.ReplaceVmUserDataResponse{})
}

// receive reads an upload to its end.
func receive(stream upload) (vm string, content []byte, err error) {
	m, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return "", nil, fault.New(fault.InvalidArgument, "vm: is missing; send vm and size in the first message")
	}
	if err != nil {
		return "", nil, err
	}
	vm, size := m.GetVm(), m.GetSize()
	if size > MaxSize {
		return "", nil, fault.New(fault.InvalidArgument, "size: %d bytes of user data; %d is the most a VM may have", size, MaxSize)
	}
	for {
		content = append(content, m.GetData()...)
		if uint64(len(content)) > size {
			return "", nil, fault.New(fault.InvalidArgument, "data: is longer than the %d bytes that size announced", size)
		}
		m, err = stream.Recv()
		switch {
		case errors.Is(err, io.EOF) && uint64(len(content)) < size:
			return "", nil, fault.New(fault.InvalidArgument, "data: ended after %d of the %d bytes that size announced", len(content), size)
		case errors.Is(err, io.EOF):
			return vm, content, nil
		case err != nil:
			return "", nil, err
		case m.GetVm() != "" || m.GetSize() != 0:
			return "", nil, fault.New(fault.InvalidArgument, "vm, size: belong into the first message only")
		}
	}
}

// replace makes content the user data, and what it was the old one. There is a whole file under the name at every moment, also if the host fails.
func replace(dir string, content []byte) error {
	current, staged, kept := filepath.Join(dir, File), filepath.Join(dir, stagedFile), filepath.Join(dir, keptFile)
	if err := discard(staged, kept); err != nil {
		return err
	}
	if err := atomicfile.Write(staged, content); err != nil {
		return err
	}
	err := os.Link(current, kept)
	none := errors.Is(err, fs.ErrNotExist)
	if none || err == nil {
		err = os.Rename(staged, current)
	}
	if err != nil {
		return errors.Join(err, discard(staged, kept))
	}
	if none {
		return atomicfile.SyncDir(dir)
	}
	if err := os.Rename(kept, filepath.Join(dir, OldFile)); err != nil {
		return errors.Join(err, os.Rename(kept, current)) // as it was
	}
	return atomicfile.SyncDir(dir)
}

// remove makes the user data the old one.
func remove(dir string) error {
	if err := os.Rename(filepath.Join(dir, File), filepath.Join(dir, OldFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return atomicfile.SyncDir(dir)
}

// discard removes files that may not exist.
func discard(paths ...string) error {
	var errs []error
	for _, p := range paths {
		if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
