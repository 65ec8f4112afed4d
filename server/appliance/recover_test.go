package appliance

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"

	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/hypervisor/fake"
	"github.com/hyperplane-project/hyperplane/server/store"
	"github.com/hyperplane-project/hyperplane/server/store/bolt"
)

// reopened is a service on the state that another one has left.
func reopened(t *testing.T, d *fake.Driver, leave func(s *Service)) *Service {
	t.Helper()
	dir := t.TempDir()
	st, err := bolt.Open(filepath.Join(dir, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	deps := Deps{
		Driver: d, Store: st, BackupDir: filepath.Join(dir, "b"), TemplateDir: filepath.Join(dir, "t"), ISODir: filepath.Join(dir, "i"), NewUUID: uuid.NewString,
	}
	first, err := Open(t.Context(), deps)
	if err != nil {
		t.Fatal(err)
	}
	leave(first)
	second, err := Open(t.Context(), deps)
	if err != nil {
		t.Fatal(err)
	}
	return second
}

func touch(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func TestRecoverRemovesWhatIsHalfMade(t *testing.T) {
	t.Parallel()
	_, d := fake.New(fake.Options{})
	dir := t.TempDir()
	half := touch(t, filepath.Join(dir, ".half"), "x")
	linked := touch(t, filepath.Join(dir, ".linked"), "x")
	final := filepath.Join(dir, "final")
	if err := os.Link(linked, final); err != nil {
		t.Fatal(err)
	}
	others := touch(t, filepath.Join(dir, "others"), "x")
	var upload string
	s := reopened(t, d, func(s *Service) {
		touch(t, filepath.Join(s.BackupDir, makingPrefix+"1", "a"), "x")
		upload = touch(t, filepath.Join(s.ISODir, uploadPrefix+"1"), "x")
		touch(t, filepath.Join(s.TemplateDir, deletedPrefix+"1", "a"), "x")
		w := work{Machine: uuid.NewString(), Files: []staged{{half, others}, {linked, final}}, Folders: []string{filepath.Join(s.BackupDir, makingPrefix+"1")}}
		if err := s.note(t.Context(), workPrefix+"1", w); err != nil {
			t.Fatal(err)
		}
	})
	if err := s.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{half, linked, final, upload, filepath.Join(s.BackupDir, makingPrefix+"1"), filepath.Join(s.TemplateDir, deletedPrefix+"1")} {
		if exists(path) {
			t.Errorf("%s is still there", path)
		}
	}
	if !exists(others) {
		t.Error("a file of somebody else has gone")
	}
	empty(t, s)
}

func empty(t *testing.T, s *Service) {
	t.Helper()
	if err := s.Store.View(t.Context(), func(r store.Reader) error {
		for e := range r.Scan(workPrefix, "") {
			t.Errorf("note %s is left", e.Key)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

func TestRecoverKeepsAMachineThatIsWhole(t *testing.T) {
	t.Parallel()
	_, d := fake.New(fake.Options{})
	dir, id := t.TempDir(), uuid.NewString()
	file := touch(t, filepath.Join(dir, ".disk"), "x")
	final := filepath.Join(dir, "disk")
	if err := os.Link(file, final); err != nil {
		t.Fatal(err)
	}
	if err := d.Define(t.Context(), hypervisor.Spec{UUID: id, Name: "a", CPUs: 1, MemoryBytes: 64 << 20, Disks: []hypervisor.Disk{{File: final}}}); err != nil {
		t.Fatal(err)
	}
	s := reopened(t, d, func(s *Service) {
		if err := s.note(t.Context(), workPrefix+"1", work{Machine: id, Files: []staged{{file, final}}}); err != nil {
			t.Fatal(err)
		}
	})
	if err := s.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if exists(file) || !exists(final) {
		t.Error("the working name is left, or the disk has gone")
	}
	empty(t, s)
}

func TestRecoverEndsARestore(t *testing.T) {
	t.Parallel()
	_, d := fake.New(fake.Options{})
	dir, id := t.TempDir(), uuid.NewString()
	final := touch(t, filepath.Join(dir, "disk"), "old")
	file := touch(t, filepath.Join(dir, ".disk"), "new")
	spec := hypervisor.Spec{UUID: id, Name: "a", CPUs: 1, MemoryBytes: 64 << 20, Disks: []hypervisor.Disk{{File: final}}}
	if err := d.Define(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	definition, err := d.Definition(context.WithoutCancel(t.Context()), id)
	if err != nil {
		t.Fatal(err)
	}
	spec.CPUs = 2 // the definition has changed since the backup
	if err := d.Define(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	s := reopened(t, d, func(s *Service) {
		w := work{Files: []staged{{file, final}}, Swap: &swap{UUID: id, Definition: definition, Disks: []string{final}}}
		if err := s.note(t.Context(), workPrefix+"1", w); err != nil {
			t.Fatal(err)
		}
	})
	if err := s.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(final)
	m, getErr := d.Get(t.Context(), id)
	if err != nil || getErr != nil || string(raw) != "new" || m.Spec.CPUs != 1 || exists(file) {
		t.Errorf("%q %v %v %+v", raw, err, getErr, m.Spec)
	}
	empty(t, s)
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"version":1,"name":"a","disks":[{"file":"vda.qcow2","target":"vda","source":"/a/b","format":"raw"}]}`))
	f.Add([]byte(`{"version":1,"disks":[{"file":"../x","target":"vda","source":"/a"}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := parseManifest(raw)
		if err != nil {
			return
		}
		for _, p := range m.parts() {
			if p.File != filepath.Base(p.File) || p.File == ".." {
				t.Errorf("file %q", p.File)
			}
		}
		for _, d := range m.Disks {
			if !filepath.IsAbs(d.Source) {
				t.Errorf("source %q", d.Source)
			}
		}
	})
}
