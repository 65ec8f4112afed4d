package monitor_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/monitor"
)

// download is a stream of pieces.
type download[M interface {
	GetLength() uint64
	GetData() []byte
}] struct {
	grpc.ServerStream
	ctx   context.Context
	first M
	any   bool
	data  bytes.Buffer
}

func (d *download[M]) Context() context.Context { return d.ctx }

func (d *download[M]) Send(m M) error {
	if !d.any {
		d.any, d.first = true, m
	}
	d.data.Write(m.GetData())
	return nil
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func logs(t *testing.T) (*monitor.Service, string) {
	t.Helper()
	dir := t.TempDir()
	return &monitor.Service{VMs: oneVM{}, Machines: oneVM{machine: "web-0000"}, LogDir: dir}, dir
}

func TestListLogFiles(t *testing.T) {
	t.Parallel()
	s, dir := logs(t)
	for name, text := range map[string]string{
		"web-0000.log": "new", "web-0000.log.1": "older", "web-0000.log.2.gz": "",
		"web-0000.log.1-1111.log": "of web-0000.log.1-1111", "web-00001.log": "of another", "web-0000.logs": "", "other.log": "",
	} {
		write(t, filepath.Join(dir, name), text)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "web-0000.log.3")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "web-0000.log.4"), 0o700); err != nil {
		t.Fatal(err)
	}
	res, err := s.ListVmVirtualiserLogFiles(t.Context(), &hypervisorv1.ListVmVirtualiserLogFilesRequest{Vm: "web"})
	if err != nil || !slices.Equal(res.GetFilenames(), []string{"web-0000.log", "web-0000.log.1", "web-0000.log.2.gz"}) ||
		!slices.Equal(res.GetLengths(), []uint64{3, 5, 0}) {
		t.Errorf("%v, %v", res, err)
	}
	page, err := s.ListVmVirtualiserLogFiles(t.Context(), &hypervisorv1.ListVmVirtualiserLogFilesRequest{Vm: "web", PageSize: 2})
	if err != nil || len(page.GetFilenames()) != 2 || len(page.GetLengths()) != 2 || page.GetNextPageToken() == "" {
		t.Errorf("%v, %v", page, err)
	}
	for name, c := range map[string]struct {
		vm      string
		machine string
		dir     string
		want    fault.Code
	}{
		"no such VM":         {"db", "web-0000", dir, fault.NotFound},
		"never started":      {"web", "", dir, fault.OK},
		"no virtualiser":     {"web", "!", dir, fault.Unavailable},
		"no logs at all":     {"web", "web-0000", dir + "/missing", fault.OK},
		"not of this driver": {"web", "nothing", dir, fault.OK},
	} {
		s := &monitor.Service{VMs: oneVM{}, Machines: oneVM{machine: c.machine}, LogDir: c.dir}
		res, err := s.ListVmVirtualiserLogFiles(t.Context(), &hypervisorv1.ListVmVirtualiserLogFilesRequest{Vm: c.vm})
		if !fault.Is(err, c.want) || len(res.GetFilenames()) != 0 {
			t.Errorf("%s: %v, %v", name, res, err)
		}
	}
}

func TestGetLogFile(t *testing.T) {
	t.Parallel()
	s, dir := logs(t)
	text := string(bytes.Repeat([]byte("line of a log\n"), 20000))
	write(t, filepath.Join(dir, "web-0000.log"), text)
	write(t, filepath.Join(dir, "web-0000.log.1"), "")
	write(t, filepath.Join(dir, "other.log"), "secret")
	if err := os.Symlink("other.log", filepath.Join(dir, "web-0000.log.2")); err != nil {
		t.Fatal(err)
	}
	get := func(filename string) (*download[*hypervisorv1.GetVmVirtualiserLogFileResponse], error) {
		d := &download[*hypervisorv1.GetVmVirtualiserLogFileResponse]{ctx: t.Context()}
		return d, s.GetVmVirtualiserLogFile(&hypervisorv1.GetVmVirtualiserLogFileRequest{Vm: "web", Filename: filename}, d)
	}
	for name, want := range map[string]string{"web-0000.log": text, "web-0000.log.1": ""} {
		d, err := get(name)
		if err != nil || d.data.String() != want || d.first.GetLength() != uint64(len(want)) {
			t.Errorf("%s: %d bytes, %v", name, d.data.Len(), err)
		}
	}
	for name, want := range map[string]fault.Code{
		"": fault.InvalidArgument, ".": fault.InvalidArgument, "..": fault.InvalidArgument, "../x/web-0000.log": fault.InvalidArgument,
		"/etc/passwd": fault.InvalidArgument, "web-0000.log/": fault.InvalidArgument,
		"other.log": fault.NotFound, "web-0000.log.2": fault.NotFound, "web-0000.log.3": fault.NotFound,
	} {
		if d, err := get(name); !fault.Is(err, want) || d.any {
			t.Errorf("%q: %v, sent something: %v", name, err, d.any)
		}
	}
}

func TestLastPatchLog(t *testing.T) {
	t.Parallel()
	v := oneVM{dir: t.TempDir()}
	s := &monitor.Service{VMs: v, Folders: v}
	get := func(vm string) (*download[*hypervisorv1.GetVmLastPatchLogResponse], error) {
		d := new(download[*hypervisorv1.GetVmLastPatchLogResponse])
		return d, s.GetVmLastPatchLog(&hypervisorv1.GetVmLastPatchLogRequest{Vm: vm}, d)
	}
	if d, err := get("web"); err != nil || !d.any || d.first.GetLength() != 0 || d.first.GetPatchTime() != nil || d.data.Len() != 0 {
		t.Errorf("never patched: %v, %v", d.first, err)
	}
	path, when := filepath.Join(v.dir, monitor.PatchLog), time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	write(t, path, "patched")
	if err := os.Chtimes(path, when, when); err != nil {
		t.Fatal(err)
	}
	if d, err := get("web"); err != nil || d.first.GetLength() != 7 || !d.first.GetPatchTime().AsTime().Equal(when) || d.data.String() != "patched" {
		t.Errorf("%v, %q, %v", d.first, d.data.String(), err)
	}
	if _, err := get("db"); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
}
