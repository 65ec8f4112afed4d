package image_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/guestfs"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/image"
	"github.com/hyperplane-project/hyperplane/server/vm"
)

// machine is one VM with its operations, volumes that are text files, and guests whose file systems are those texts.
type machine struct {
	image.Service
	t      *testing.T
	dir    string
	record *hypervisorv1.LocalVmInfo
	fail   map[string]error // by method
	calls  []string
}

func newMachine(t *testing.T, state hypervisorv1.State) *machine {
	t.Helper()
	m := &machine{t: t, dir: t.TempDir(), fail: make(map[string]error)}
	m.record = &hypervisorv1.LocalVmInfo{
		VmInfo:          &hypervisorv1.VmInfo{Uuid: "u", State: state, ImageName: "first", Volumes: []*hypervisorv1.Volume{{Size: 5, VirtualSize: 5}}},
		VolumeLocations: []*hypervisorv1.LocalVolume{{Filename: filepath.Join(m.dir, "root")}},
	}
	m.write("root", "first")
	m.Service = image.Service{
		Log: slog.New(slog.DiscardHandler), Operations: m, Volumes: m, Guests: m, Images: m, VMs: m, Store: newStore(t),
	}
	return m
}

func (m *machine) write(name, text string) {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.dir, name), []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// files returns the VM's files with their contents.
func (m *machine) files() string {
	m.t.Helper()
	entries, err := os.ReadDir(m.dir)
	if err != nil {
		m.t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		raw, err := os.ReadFile(filepath.Join(m.dir, e.Name()))
		if err != nil {
			m.t.Fatal(err)
		}
		all = append(all, e.Name()+"="+strings.TrimSpace(string(raw)))
	}
	return strings.Join(all, " ")
}

func (m *machine) called(what string) error {
	m.calls = append(m.calls, what)
	return m.fail[what]
}

func (m *machine) List() []*hypervisorv1.VmInfo { return []*hypervisorv1.VmInfo{m.record.GetVmInfo()} }

func (m *machine) Acquire(context.Context, string) (*hypervisorv1.LocalVmInfo, func(), error) {
	return m.record, func() {}, nil
}

func (m *machine) Change(_ context.Context, _ string, change func(*hypervisorv1.LocalVmInfo) error) (*hypervisorv1.LocalVmInfo, error) {
	if err := m.fail["change"]; err != nil {
		return nil, err
	}
	m.record = proto.CloneOf(m.record)
	return m.record, change(m.record)
}

func (m *machine) Finish(ctx context.Context, op func(context.Context) error) error {
	return op(context.WithoutCancel(ctx))
}
func (m *machine) Directory(string) (string, error) { return m.dir, nil }

func (m *machine) state(what string, s hypervisorv1.State) error {
	if err := m.called(what); err != nil {
		return err
	}
	m.record = proto.CloneOf(m.record)
	m.record.VmInfo.State = s
	return nil
}

func (m *machine) Halt(context.Context, string) error {
	return m.state("halt", hypervisorv1.State_STATE_STOPPED)
}

func (m *machine) CheckLease(string, time.Duration) error { return nil }

func (m *machine) Resume(_ context.Context, _ string, d time.Duration) (bool, error) {
	return d > 0, m.state("resume", hypervisorv1.State_STATE_RUNNING)
}

func (m *machine) ResumeDebugging(_ context.Context, _ string, d time.Duration) (bool, error) {
	return d > 0, m.state("debug", hypervisorv1.State_STATE_DEBUGGING)
}

func (m *machine) FromImage(_ context.Context, name string, v vm.VolumeSpec) (uint64, error) {
	if err := m.fail["image"]; err != nil {
		return 0, err
	}
	return uint64(len(name)), os.WriteFile(v.File, []byte(name), 0o600)
}

func (m *machine) FromURL(ctx context.Context, url string, v vm.VolumeSpec) (uint64, error) {
	return m.FromImage(ctx, url, v)
}

func (m *machine) FromReader(_ context.Context, r io.Reader, size uint64, v vm.VolumeSpec) (uint64, error) {
	raw, err := io.ReadAll(io.LimitReader(r, int64(size)))
	if err != nil {
		return 0, err
	}
	return size, os.WriteFile(v.File, raw, 0o600)
}

func (m *machine) Duplicate(_ context.Context, from, to string) (uint64, error) {
	raw, err := os.ReadFile(from)
	if err != nil {
		return 0, err
	}
	return uint64(len(raw)), os.WriteFile(to, raw, 0o600) //nolint:gosec // a path in the test's own folder
}

func (m *machine) Size(_ context.Context, file string, _ hypervisorv1.VolumeFormat) (uint64, error) {
	st, err := os.Stat(file)
	if err != nil {
		return 0, err
	}
	return uint64(st.Size()), nil
}

func (m *machine) Open(_ context.Context, name string) (*hypervisorv1.LocalImage, string, func(), error) {
	i := &hypervisorv1.LocalImage{Name: name, FilterLines: []string{"/x"}}
	if name == "unfiltered" {
		i.FilterLines = nil
	}
	return i, name, func() { m.calls = append(m.calls, "released") }, nil
}

func (m *machine) Overlay(context.Context, hypervisor.Disk, []string, map[string][]byte) error {
	return m.fail["overlay"]
}

func (m *machine) OverlayRoot(context.Context, guestfs.Root, []string, map[string][]byte) error {
	return m.fail["overlay"]
}

func (m *machine) GrowFilesystem(context.Context, hypervisor.Disk) error { return m.fail["grow"] }

func (m *machine) Patch(_ context.Context, r guestfs.Root, i hypervisor.Disk, _ []string, log io.Writer) error {
	_, _ = io.WriteString(log, "log of "+i.File)
	return errors.Join(os.WriteFile(r.Disk.File, []byte("patched"), 0o600), m.fail["patch"])
}

func (m *machine) Scan(context.Context, guestfs.Root, []string, func(*hypervisorv1.FileEntry) error) error {
	return nil
}

// dialogue is the server's side of a stream both ways.
type dialogue[I, O any] struct {
	answers[O]
	in []*I
}

func (d *dialogue[I, O]) Recv() (*I, error) {
	if len(d.in) == 0 {
		return nil, io.EOF
	}
	m := d.in[0]
	d.in = d.in[1:]
	return m, nil
}

func (m *machine) replace(in ...*hypervisorv1.ReplaceVmImageRequest) error {
	d := &dialogue[hypervisorv1.ReplaceVmImageRequest, hypervisorv1.ReplaceVmImageResponse]{in: in}
	d.ctx = m.t.Context()
	return m.ReplaceVmImage(d)
}

func named(name string) *hypervisorv1.ReplaceVmImageRequest {
	return &hypervisorv1.ReplaceVmImageRequest{Vm: "u", Source: &hypervisorv1.ImageSource{ImageName: name, OverlayFiles: map[string][]byte{"/x": nil}}}
}

const running, stopped = hypervisorv1.State_STATE_RUNNING, hypervisorv1.State_STATE_STOPPED

func TestReplaceAndRestore(t *testing.T) {
	t.Parallel()
	m := newMachine(t, running)
	if err := m.replace(named("second")); err != nil {
		t.Fatal(err)
	}
	if got := m.files(); got != "root=second root.old=first" || strings.Join(m.calls, " ") != "halt resume" {
		t.Errorf("files: %s, calls: %v", got, m.calls)
	}
	if i := m.record.GetVmInfo(); i.GetImageName() != "second" || i.GetVolumes()[0].GetSize() != 6 || i.GetState() != running {
		t.Errorf("info: %v", i)
	}
	m.record.VmInfo.State = stopped
	if _, err := m.RestoreVmImage(t.Context(), &hypervisorv1.RestoreVmImageRequest{}); err != nil {
		t.Fatal(err)
	}
	if i := m.record.GetVmInfo(); i.GetImageName() != "first" || i.GetVolumes()[0].GetSize() != 5 || m.files() != "root=first" {
		t.Errorf("info: %v, files: %s", i, m.files())
	}
	if _, err := m.RestoreVmImage(t.Context(), &hypervisorv1.RestoreVmImageRequest{}); !fault.Is(err, fault.FailedPrecondition) {
		t.Errorf("a second time: %v", err)
	}
}

func TestReplaceByUpload(t *testing.T) {
	t.Parallel()
	m := newMachine(t, stopped)
	head := &hypervisorv1.ReplaceVmImageRequest{Source: &hypervisorv1.ImageSource{ImageDataSize: 6}, SkipBackup: true}
	err := m.replace(head, &hypervisorv1.ReplaceVmImageRequest{ImageData: []byte("abc")}, &hypervisorv1.ReplaceVmImageRequest{ImageData: []byte("def")})
	if err != nil || m.files() != "root=abcdef" || m.record.GetVmInfo().GetImageName() != "" || len(m.calls) != 0 {
		t.Errorf("%v: %s, %v", err, m.files(), m.record)
	}
	if err := m.replace(head, &hypervisorv1.ReplaceVmImageRequest{ImageData: []byte("too long")}); !fault.Is(err, fault.InvalidArgument) {
		t.Errorf("too long: %v", err)
	}
	if got := m.files(); got != "root=abcdef" {
		t.Errorf("files: %s", got)
	}
}

func TestReplaceFails(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"image", "overlay", "halt"} {
		m := newMachine(t, running)
		m.fail[where] = errors.New("it does not work")
		if err := m.replace(named("second")); err == nil {
			t.Errorf("%s: no error", where)
		}
		if i := m.record.GetVmInfo(); m.files() != "root=first" || i.GetState() != running || i.GetImageName() != "first" {
			t.Errorf("%s: files: %s, info: %v", where, m.files(), i)
		}
	}
	m := newMachine(t, running)
	for name, req := range map[string]*hypervisorv1.ReplaceVmImageRequest{
		"no source": {}, "pre_delete of a running VM": {Source: named("x").GetSource(), PreDelete: true},
		"another format":           {Source: named("x").GetSource(), VolumeFormat: hypervisorv1.VolumeFormat_VOLUME_FORMAT_QCOW2},
		"no format":                {Source: named("x").GetSource(), VolumeFormat: 7},
		"absurd roundup":           {Source: &hypervisorv1.ImageSource{ImageName: "x", RoundupPower: 99}},
		"an image that is endless": {Source: &hypervisorv1.ImageSource{ImageDataSize: 1 << 20}, ImageData: []byte("x"), VolumeFormat: 9},
	} {
		if err := m.replace(req); err == nil || m.files() != "root=first" {
			t.Errorf("%s: %v, %s", name, err, m.files())
		}
	}
}

// TestInterruptedSwap fails where a daemon would be killed, and starts anew.
func TestInterruptedSwap(t *testing.T) {
	t.Parallel()
	m := newMachine(t, stopped)
	m.fail["change"] = errors.New("killed")
	if err := m.replace(named("second")); err == nil {
		t.Error("no error")
	}
	delete(m.fail, "change")
	m.write("root.patch-log", "x")
	m.write(".image-123", "x")
	for range 2 { // a second start finds nothing to do
		if err := m.Recover(t.Context()); err != nil {
			t.Fatal(err)
		}
		if i := m.record.GetVmInfo(); m.files() != "root=second root.old=first" || i.GetImageName() != "second" || i.GetVolumes()[0].GetSize() != 6 {
			t.Errorf("files: %s, info: %v", m.files(), i)
		}
	}
	m.write("root.replacing", "half")
	if err := m.Recover(t.Context()); err != nil || m.files() != "root=second root.old=first" {
		t.Errorf("%v, files: %s", err, m.files())
	}
}

func TestPatch(t *testing.T) {
	t.Parallel()
	for _, failure := range []string{"", "patch", "overlay"} {
		m := newMachine(t, running)
		m.fail[failure] = errors.New("it does not work")
		a := &answers[hypervisorv1.PatchVmImageResponse]{ctx: t.Context()}
		err := m.PatchVmImage(&hypervisorv1.PatchVmImageRequest{ImageName: "second", OverlayFiles: map[string][]byte{"/x": nil}}, a)
		want := "root=first"
		if failure == "" {
			want = "patch.log=log of second root=patched root.old=first"
		}
		if (err == nil) != (failure == "") || m.files() != want || m.record.GetVmInfo().GetState() != running {
			t.Errorf("%q: %v, files: %s, info: %v", failure, err, m.files(), m.record)
		}
		if got := strings.Join(m.calls, " "); got != "halt resume released" {
			t.Errorf("calls: %s", got)
		}
	}
	m := newMachine(t, running)
	a := &answers[hypervisorv1.PatchVmImageResponse]{ctx: t.Context()}
	if err := m.PatchVmImage(&hypervisorv1.PatchVmImageRequest{ImageName: "unfiltered"}, a); !fault.Is(err, fault.FailedPrecondition) {
		t.Errorf("without a filter: %v", err)
	}
}

func TestDebug(t *testing.T) {
	t.Parallel()
	debug := func(m *machine) error {
		d := &dialogue[hypervisorv1.DebugVmImageRequest, hypervisorv1.DebugVmImageResponse]{
			in: []*hypervisorv1.DebugVmImageRequest{{Source: &hypervisorv1.ImageSource{ImageName: "rescue"}}},
		}
		d.ctx = m.t.Context()
		return m.DebugVmImage(d)
	}
	m := newMachine(t, running)
	if err := debug(m); err != nil || m.files() != "root=first root.debug=rescue" || m.record.GetVmInfo().GetState() != hypervisorv1.State_STATE_DEBUGGING {
		t.Errorf("%v, files: %s, info: %v", err, m.files(), m.record)
	}
	m = newMachine(t, running)
	m.fail["debug"] = errors.New("it does not start")
	if err := debug(m); err == nil || m.files() != "root=first" || m.record.GetVmInfo().GetState() != running {
		t.Errorf("%v, files: %s, info: %v", err, m.files(), m.record)
	}
}
