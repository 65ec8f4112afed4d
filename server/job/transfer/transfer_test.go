package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	convertersall "github.com/hyperplane-project/hyperplane/converters/all"
	"github.com/hyperplane-project/hyperplane/converters/raw"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/providers/driver"
	"github.com/hyperplane-project/hyperplane/providers/ovf"
	"github.com/hyperplane-project/hyperplane/server/job/transfer"
)

// source is a provider of one VM whose disks are read anywhere. It counts what is open.
type source struct {
	vm     driver.VM
	fail   error // of the next OpenDisk
	opened int
	closed []bool // the complete argument of each Close
}

func (s *source) ListVMs(context.Context, string) ([]driver.VM, error) { return []driver.VM{s.vm}, nil }
func (s *source) GetVM(context.Context, string) (driver.VM, error)     { return s.vm, nil }
func (s *source) Close(context.Context) error                          { return nil }

func (s *source) Open(_ context.Context, _ string, o driver.OpenOptions) (driver.View, error) {
	s.opened++
	return &view{s, o.Resume != nil}, o.Created([]byte("token"))
}

type view struct {
	*source
	resumed bool
}

func (v *view) VM() driver.VM { return v.vm }
func (v *view) Token() []byte { return []byte("token") }
func (v *view) Resumed() bool { return v.resumed }
func (v *view) Verify(context.Context, string, map[string]string) ([]string, error) {
	return nil, nil
}
func (v *view) Detach(context.Context) error { return nil }

func (v *view) OpenDisk(context.Context, string) (driver.Content, error) {
	if v.fail != nil {
		return driver.Content{}, v.fail
	}
	return driver.Content{Reader: raw.New(strings.NewReader(strings.Repeat("x", 4096)), 4096)}, nil
}

func (v *view) Close(_ context.Context, complete bool) error {
	v.closed = append(v.closed, complete)
	return nil
}

// run exports the source's VM into dir. The journal is kept in state.
func run(ctx context.Context, s *source, dir string, state *transfer.State, keep bool) (*transfer.Result, error) {
	return transfer.Run(ctx, s, transfer.Plan{
		VM: "vm", Formats: convertersall.Formats(), Format: "qcow2", Parallel: 2, ManifestHash: "sha1", ID: "id", Attempts: 1,
		Folder: func(vm driver.VM) (string, error) { return filepath.Join(dir, ovf.SafeName(vm.Name)), nil },
	}, transfer.Hooks{
		Log:      func(slog.Level, string, ...any) {},
		Progress: func(transfer.Progress) {},
		Load: func(_ context.Context, into *transfer.State) (bool, error) {
			*into = *state
			return state.Stage != "", nil
		},
		Save: func(_ context.Context, from transfer.State) error { *state = from; return nil },
		Keep: func(context.Context) bool { return keep },
		Now:  time.Now,
	})
}

func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	if err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			all = append(all, strings.TrimPrefix(path, dir))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestHostileNamesStayInTheFolder(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"../../evil", "/etc/passwd", "a/b", ".hidden", "-rf", "nul\x00byte", strings.Repeat("n", 300), "..", ""} {
		outer := t.TempDir()
		dir := filepath.Join(outer, "out")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		s := &source{vm: driver.VM{ID: "vm-1", Name: name, MemoryBytes: 1 << 20, CPUs: 1, Disks: []driver.DiskInfo{{ID: "d", Label: "Hard disk 1", Capacity: 4096, Bus: "scsi"}}}}
		res, err := run(t.Context(), s, dir, new(transfer.State), false)
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		if got := names(t, outer); len(got) != 3 {
			t.Errorf("%q: files %v", name, got)
		}
		for _, f := range res.Files {
			if filepath.Dir(filepath.Dir(res.Path(f))) != dir {
				t.Errorf("%q: file %s is not in a folder of %s", name, res.Path(f), dir)
			}
		}
	}
}

func TestFailureLeavesNothingAndEndsTheView(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := &source{
		vm:   driver.VM{Name: "vm", Disks: []driver.DiskInfo{{ID: "a", Capacity: 4096}, {ID: "b", Capacity: 4096}, {ID: "c", Capacity: 4096}}},
		fail: fault.New(fault.Unavailable, "gone"),
	}
	if _, err := run(t.Context(), s, dir, new(transfer.State), false); !fault.Is(err, fault.Unavailable) {
		t.Errorf("error: %v, want the source's", err)
	}
	if got := names(t, dir); len(got) > 0 || len(s.closed) != 1 || s.closed[0] {
		t.Errorf("files %v, view closed %v", got, s.closed)
	}
}

func TestAbandonRemovesWhatAnEarlierRunLeft(t *testing.T) {
	t.Parallel()
	stage := filepath.Join(t.TempDir(), ".vm.partial-id")
	if err := os.Mkdir(stage, 0o700); err != nil {
		t.Fatal(err)
	}
	said := ""
	err := transfer.Abandon(t.Context(), transfer.Plan{ID: "id"}, transfer.Hooks{
		Load: func(_ context.Context, into *transfer.State) (bool, error) {
			*into = transfer.State{Stage: stage, Token: []byte("token")}
			return true, nil
		},
		Log: func(_ slog.Level, format string, args ...any) { said += fmt.Sprintf(format, args...) },
	})
	if _, gone := os.Stat(stage); err != nil || !errors.Is(gone, os.ErrNotExist) || !strings.Contains(said, "hyperplane-id") {
		t.Errorf("%v; stage: %v; log: %q", err, gone, said)
	}
}

func TestShutdownKeepsWhatIsComplete(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := &source{vm: driver.VM{Name: "vm", MemoryBytes: 1 << 20, CPUs: 1, Disks: []driver.DiskInfo{{ID: "a", Capacity: 4096, Bus: "scsi"}}}}
	state := new(transfer.State)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := run(ctx, s, dir, state, true); !errors.Is(err, context.Canceled) {
		t.Fatalf("error: %v", err)
	}
	if len(s.closed) != 0 || string(state.Token) != "token" {
		t.Errorf("the view was closed (%v) or forgotten (%q)", s.closed, state.Token)
	}
	if _, err := run(t.Context(), s, dir, state, true); err != nil {
		t.Fatal(err)
	}
	if got := names(t, dir); len(got) != 3 {
		t.Errorf("files %v", got)
	}
}
