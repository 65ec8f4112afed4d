package image_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"

	convertersall "github.com/hyperplane-project/hyperplane/converters/all"
	exportv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/export/v1"
	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/image"
	"github.com/hyperplane-project/hyperplane/server/store"
	"github.com/hyperplane-project/hyperplane/server/store/bolt"
)

// world is what the library works with.
type world struct {
	image.Deps
	t    *testing.T
	web  map[string][]byte
	jobs map[string]*exportv1.Job
	vms  []*hypervisorv1.VmInfo
}

func (w *world) Open(_ context.Context, url string) (io.ReadCloser, int64, error) {
	content, ok := w.web[url]
	if !ok {
		return nil, 0, fault.New(fault.NotFound, "no such page")
	}
	return io.NopCloser(bytes.NewReader(content)), -1, nil
}

func (w *world) LocalImage(url string) (string, bool, error) {
	path, local := strings.CutPrefix(url, "file://")
	return path, local, nil
}

func (w *world) Get(id string) (*exportv1.Job, error) { return w.jobs[id], nil }
func (w *world) List() []*hypervisorv1.VmInfo         { return w.vms }

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, web: make(map[string][]byte), jobs: make(map[string]*exportv1.Job)}
	w.Deps = image.Deps{
		Dir: filepath.Join(t.TempDir(), "images"), Store: newStore(t), Formats: convertersall.Formats(), Fetch: w, URLs: w, Jobs: w, VMs: w,
		Now: func() time.Time { return time.Unix(1e9, 0) }, NewID: uuid.NewString,
	}
	return w
}

func newStore(t *testing.T) store.Store {
	t.Helper()
	s, err := bolt.Open(filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func (w *world) open() *image.Library {
	w.t.Helper()
	l, err := image.OpenLibrary(w.t.Context(), w.Deps)
	if err != nil {
		w.t.Fatal(err)
	}
	return l
}

func (w *world) files() []string {
	w.t.Helper()
	entries, err := os.ReadDir(w.Dir)
	if err != nil {
		w.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// answers is the server's side of a stream that is only written to.
type answers[M any] struct {
	grpc.ServerStream
	ctx context.Context
	all []*M
}

func (a *answers[M]) Context() context.Context { return a.ctx }

func (a *answers[M]) Send(m *M) error {
	a.all = append(a.all, m)
	return nil
}

// add adds an image from a URL.
func (w *world) add(l *image.Library, spec *hypervisorv1.LocalImageSpec, url string) (*hypervisorv1.LocalImage, error) {
	w.t.Helper()
	a := &answers[hypervisorv1.AddLocalImageResponse]{ctx: w.t.Context()}
	err := l.AddLocalImage(&hypervisorv1.AddLocalImageRequest{Spec: spec, Source: &hypervisorv1.AddLocalImageRequest_Url{Url: url}}, a)
	if err != nil {
		return nil, err
	}
	return a.all[len(a.all)-1].GetImage(), nil
}

const url = "https://user:secret@images.example.com/disk?signature=secret" //nolint:gosec // it opens nothing

func TestAdd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.open()
	content := bytes.Repeat([]byte{1, 2, 3, 4}, 1024)
	content = append(content, make([]byte, 1<<20)...)
	w.web[url] = content
	sum := sha256.Sum256(content)
	spec := &hypervisorv1.LocalImageSpec{Name: "a/b:1", ExpectedSha256: hex.EncodeToString(sum[:]), Description: "d", FilterLines: []string{"/x"}}
	i, err := w.add(l, spec, url)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(i.GetSha256(), sum[:]) || i.GetSize() != uint64(len(content)) || i.GetAllocatedBytes() > 1<<19 ||
		i.GetSource() != "https://images.example.com/disk" || i.GetOriginalFormat() != "raw" || i.GetCreatedOn().GetSeconds() != 1e9 {
		t.Errorf("image: %v", i)
	}
	if _, err := w.add(l, spec, url); !fault.Is(err, fault.AlreadyExists) {
		t.Errorf("a second time: %v", err)
	}
	l = w.open() // as after a restart
	if _, err := l.VerifyLocalImage(t.Context(), &hypervisorv1.VerifyLocalImageRequest{Name: "a/b:1"}); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(w.Dir, w.files()[0]), make([]byte, len(content)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := l.VerifyLocalImage(t.Context(), &hypervisorv1.VerifyLocalImageRequest{Name: "a/b:1"}); !fault.Is(err, fault.DataLoss) {
		t.Errorf("changed: %v", err)
	}
}

func TestAddRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.open()
	w.web[url] = make([]byte, 4096)
	w.web["odd"] = make([]byte, 100)
	for name, c := range map[string]struct {
		spec *hypervisorv1.LocalImageSpec
		url  string
		want fault.Code
	}{
		"no spec":    {nil, url, fault.InvalidArgument},
		"no name":    {&hypervisorv1.LocalImageSpec{}, url, fault.InvalidArgument},
		"dots":       {&hypervisorv1.LocalImageSpec{Name: "a/../b"}, url, fault.InvalidArgument},
		"slash":      {&hypervisorv1.LocalImageSpec{Name: "/a"}, url, fault.InvalidArgument},
		"percent":    {&hypervisorv1.LocalImageSpec{Name: "a%b"}, url, fault.InvalidArgument},
		"long":       {&hypervisorv1.LocalImageSpec{Name: strings.Repeat("a", 201)}, url, fault.InvalidArgument},
		"filter":     {&hypervisorv1.LocalImageSpec{Name: "a", FilterLines: []string{"("}}, url, fault.InvalidArgument},
		"format":     {&hypervisorv1.LocalImageSpec{Name: "a", Format: "floppy"}, url, fault.InvalidArgument},
		"digest":     {&hypervisorv1.LocalImageSpec{Name: "a", ExpectedSha256: "12"}, url, fault.InvalidArgument},
		"other sum":  {&hypervisorv1.LocalImageSpec{Name: "a", ExpectedSha256: strings.Repeat("0", 64)}, url, fault.DataLoss},
		"not there":  {&hypervisorv1.LocalImageSpec{Name: "a"}, "https://nowhere", fault.NotFound},
		"no disk":    {&hypervisorv1.LocalImageSpec{Name: "a"}, "odd", fault.InvalidArgument},
		"not qcow2":  {&hypervisorv1.LocalImageSpec{Name: "a", Format: "qcow2"}, url, fault.Unknown},
		"no such fs": {&hypervisorv1.LocalImageSpec{Name: "a"}, "file:///nowhere", fault.NotFound},
	} {
		if _, err := w.add(l, c.spec, c.url); err == nil || (c.want != fault.Unknown && !fault.Is(err, c.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if left := w.files(); len(left) != 0 {
		t.Errorf("files left: %v", left)
	}
}

func TestAddFromJob(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.open()
	disk := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(disk, append([]byte("QFI\xfb"), make([]byte, 4092)...), 0o600); err != nil { // looks like a qcow2, and is raw
		t.Fatal(err)
	}
	w.jobs["1"] = &exportv1.Job{State: exportv1.JobState_JOB_STATE_COMPLETED, Result: &exportv1.JobResult{
		Files: []*exportv1.OutputFile{{Path: "x.ovf", Format: "ovf"}, {Path: disk, Format: "raw", ContentSha256: "00"}},
	}}
	w.jobs["2"] = &exportv1.Job{State: exportv1.JobState_JOB_STATE_RUNNING}
	add := func(name, id string, n uint32) error {
		return l.AddLocalImage(&hypervisorv1.AddLocalImageRequest{
			Spec: &hypervisorv1.LocalImageSpec{Name: name}, Source: &hypervisorv1.AddLocalImageRequest_JobId{JobId: id}, JobDisk: n,
		}, &answers[hypervisorv1.AddLocalImageResponse]{ctx: t.Context()})
	}
	if err := add("a", "1", 0); err != nil {
		t.Error(err)
	}
	if err := add("b", "1", 1); !fault.Is(err, fault.InvalidArgument) {
		t.Errorf("no such disk: %v", err)
	}
	if err := add("c", "2", 0); !fault.Is(err, fault.FailedPrecondition) {
		t.Errorf("running job: %v", err)
	}
}

func TestReadersKeepTheirFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.open()
	w.web[url] = bytes.Repeat([]byte{1}, 4096)
	if _, err := w.add(l, &hypervisorv1.LocalImageSpec{Name: "a"}, url); err != nil {
		t.Fatal(err)
	}
	file, release, err := l.Locate(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	w.web[url] = bytes.Repeat([]byte{2}, 4096)
	if _, err := w.add(l, &hypervisorv1.LocalImageSpec{Name: "a", Replace: true}, url); err != nil {
		t.Fatal(err)
	}
	w.vms = []*hypervisorv1.VmInfo{{Uuid: "u", ImageName: "a"}}
	if _, err := l.DeleteLocalImage(t.Context(), &hypervisorv1.DeleteLocalImageRequest{Name: "a"}); !fault.Is(err, fault.FailedPrecondition) {
		t.Errorf("used: %v", err)
	}
	got, err := l.GetLocalImage(t.Context(), &hypervisorv1.GetLocalImageRequest{Name: "a"})
	if err != nil || !slices.Equal(got.GetImage().GetUsedBy(), []string{"u"}) {
		t.Errorf("image: %v, %v", got, err)
	}
	if _, err := l.DeleteLocalImage(t.Context(), &hypervisorv1.DeleteLocalImageRequest{Name: "a", Force: true}); err != nil {
		t.Fatal(err)
	}
	if raw, err := os.ReadFile(file); err != nil || raw[0] != 1 {
		t.Errorf("under its reader: %v", err)
	}
	release()
	release()
	if left := w.files(); len(left) != 0 {
		t.Errorf("files left: %v", left)
	}
	if _, _, err := l.Locate(t.Context(), "a"); !fault.Is(err, fault.NotFound) {
		t.Errorf("deleted: %v", err)
	}
}

func TestLeftoversOfAKilledDaemon(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.open()
	w.web[url] = make([]byte, 4096)
	for _, name := range []string{"b", "a", "c/d"} {
		if _, err := w.add(l, &hypervisorv1.LocalImageSpec{Name: name}, url); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{".arriving-1", ".x.raw.partial", "x%12345678.raw"} {
		if err := os.WriteFile(filepath.Join(w.Dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l = w.open()
	if left := w.files(); len(left) != 3 {
		t.Errorf("files: %v", left)
	}
	var names []string
	for token := ""; ; {
		res, err := l.ListLocalImages(t.Context(), &hypervisorv1.ListLocalImagesRequest{PageSize: 2, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range res.GetImages() {
			names = append(names, i.GetName())
		}
		if token = res.GetNextPageToken(); token == "" {
			break
		}
	}
	if !slices.Equal(names, []string{"a", "b", "c/d"}) {
		t.Errorf("names: %v", names)
	}
}
