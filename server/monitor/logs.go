package monitor

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/grpc"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/page"
	"github.com/hyperplane-project/hyperplane/internal/pieces"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// Machines knows the VMs' machines at the virtualiser.
type Machines interface {
	Get(ctx context.Context, uuid string) (hypervisor.Machine, error)
}

// ListVmVirtualiserLogFiles implements MonitoringService. A VM that was never started has none.
func (s *Service) ListVmVirtualiserLogFiles(
	ctx context.Context, req *hypervisorv1.ListVmVirtualiserLogFilesRequest,
) (*hypervisorv1.ListVmVirtualiserLogFilesResponse, error) {
	logs, err := s.logsOf(ctx, req.GetVm())
	if err != nil {
		return nil, err
	}
	all, err := logs.list()
	if err != nil {
		return nil, fault.Wrap(err, "vm %q: log files", req.GetVm())
	}
	all, next, err := page.Cut(all, req.GetPageSize(), req.GetPageToken(), fs.FileInfo.Name)
	if err != nil {
		return nil, err
	}
	res := &hypervisorv1.ListVmVirtualiserLogFilesResponse{NextPageToken: next}
	for _, info := range all {
		res.Filenames = append(res.Filenames, info.Name())
		res.Lengths = append(res.Lengths, uint64(info.Size()))
	}
	return res, nil
}

// GetVmVirtualiserLogFile implements MonitoringService. What is sent is what was written up to the call.
func (s *Service) GetVmVirtualiserLogFile(
	req *hypervisorv1.GetVmVirtualiserLogFileRequest, stream grpc.ServerStreamingServer[hypervisorv1.GetVmVirtualiserLogFileResponse],
) error {
	logs, err := s.logsOf(stream.Context(), req.GetVm())
	if err != nil {
		return err
	}
	f, length, err := logs.open(req.GetFilename())
	if err != nil {
		return fault.Wrap(err, "vm %q: log file %q", req.GetVm(), req.GetFilename())
	}
	defer f.Close() //nolint:errcheck // it was only read
	if err := stream.Send(&hypervisorv1.GetVmVirtualiserLogFileResponse{Length: length}); err != nil {
		return err
	}
	return fault.Wrap(pieces.Send(f, length, func(piece []byte) error {
		return stream.Send(&hypervisorv1.GetVmVirtualiserLogFileResponse{Data: piece})
	}), "vm %q: log file %q", req.GetVm(), req.GetFilename())
}

// machineLogs are the log files of one machine.
type machineLogs struct {
	dir, machine string // machine is empty if the virtualiser does not know it: then there are none
}

func (s *Service) logsOf(ctx context.Context, vm string) (machineLogs, error) {
	info, err := s.VMs.Info(vm)
	if err != nil {
		return machineLogs{}, err
	}
	m, err := s.Machines.Get(ctx, info.GetUuid())
	if err != nil && !fault.Is(err, fault.NotFound) {
		return machineLogs{}, fault.Wrap(err, "vm %q: log files", vm)
	}
	return machineLogs{s.LogDir, m.Name}, nil
}

// owns says whether a file name is one of this machine's log files: NAME.log, and those that were rotated away. Names of other machines that begin with
// this one's are not.
func (l machineLogs) owns(filename string) bool {
	suffix, ok := strings.CutPrefix(filename, l.machine+".log")
	return ok && l.machine != "" && regexp.MustCompile(`^(\.[0-9]+(\.gz)?)?$`).MatchString(suffix)
}

func (l machineLogs) list() ([]fs.FileInfo, error) {
	entries, err := os.ReadDir(l.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var all []fs.FileInfo
	for _, e := range entries {
		if !e.Type().IsRegular() || !l.owns(e.Name()) {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // rotated away meanwhile
		}
		if err != nil {
			return nil, err
		}
		all = append(all, info)
	}
	slices.SortFunc(all, func(a, b fs.FileInfo) int { return strings.Compare(a.Name(), b.Name()) })
	return all, nil
}

// open opens a log file and returns its length. Links are not followed.
func (l machineLogs) open(filename string) (*os.File, uint64, error) {
	if filename == "" || filename == "." || filename == ".." || filepath.Base(filename) != filename {
		return nil, 0, fault.New(fault.InvalidArgument, "filename: is no plain file name; list them with ListVmVirtualiserLogFiles")
	}
	missing := fault.New(fault.NotFound, "no such file; list them with ListVmVirtualiserLogFiles")
	if !l.owns(filename) {
		return nil, 0, missing
	}
	root, err := os.OpenRoot(l.dir)
	if err != nil {
		return nil, 0, err
	}
	defer root.Close() //nolint:errcheck // it was only read
	before, err := root.Lstat(filename)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && !before.Mode().IsRegular()) {
		return nil, 0, missing
	}
	if err != nil {
		return nil, 0, err
	}
	f, err := root.Open(filename)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil && !os.SameFile(before, info) {
		err = fault.New(fault.Aborted, "was replaced while it was opened; try again")
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, uint64(info.Size()), nil
}
