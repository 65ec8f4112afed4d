package converters_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// files returns the names in a folder.
func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func hello(_ context.Context, f *os.File) error {
	_, err := f.WriteString("hello")
	return err
}

func TestWriteFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "disk.raw")
	err := converters.WriteFile(t.Context(), path, false, func(ctx context.Context, f *os.File) error {
		if names := files(t, dir); len(names) != 1 || names[0] == "disk.raw" || names[0][0] != '.' {
			t.Errorf("while it is written the folder has %q", names)
		}
		return hello(ctx, f)
	})
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	st, statErr := os.Stat(path)
	if err != nil || statErr != nil || string(b) != "hello" || st.Mode().Perm() != 0o600 {
		t.Errorf("the file has %q, mode %v, %v, %v", b, st.Mode(), err, statErr)
	}
	if names := files(t, dir); len(names) != 1 {
		t.Errorf("the folder has %q", names)
	}
}

func TestWriteFileDoesNotOverwrite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "disk.raw")
	old := func() {
		if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	old()
	err := converters.WriteFile(t.Context(), path, false, func(context.Context, *os.File) error {
		t.Error("write is called although the file exists")
		return nil
	})
	if !fault.Is(err, fault.AlreadyExists) {
		t.Errorf("error is %v, want AlreadyExists", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	err = converters.WriteFile(t.Context(), path, false, func(ctx context.Context, f *os.File) error {
		old() // somebody is faster
		return hello(ctx, f)
	})
	if !fault.Is(err, fault.AlreadyExists) {
		t.Errorf("error is %v, want AlreadyExists", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "old" || len(files(t, dir)) != 1 {
		t.Errorf("the file has %q, %v; the folder %q", b, err, files(t, dir))
	}
	if err := converters.WriteFile(t.Context(), path, true, hello); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "hello" {
		t.Errorf("with force the file has %q, %v", b, err)
	}
}

func TestWriteFileLeavesNothing(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	for name, write := range map[string]func(context.Context, context.CancelFunc, *os.File) error{
		"error":  func(context.Context, context.CancelFunc, *os.File) error { return boom },
		"cancel": func(_ context.Context, cancel context.CancelFunc, _ *os.File) error { cancel(); return nil },
		"closed": func(_ context.Context, _ context.CancelFunc, f *os.File) error { return f.Close() },
		"gone":   func(_ context.Context, _ context.CancelFunc, f *os.File) error { return os.Remove(f.Name()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			err := converters.WriteFile(ctx, filepath.Join(dir, "disk"), false, func(ctx context.Context, f *os.File) error { return write(ctx, cancel, f) })
			if err == nil {
				t.Error("there is no error")
			}
			if name == "error" && !errors.Is(err, boom) || name == "cancel" && !errors.Is(err, context.Canceled) {
				t.Errorf("error is %v", err)
			}
			if names := files(t, dir); len(names) != 0 {
				t.Errorf("the folder has %q", names)
			}
		})
	}
	if err := converters.WriteFile(t.Context(), filepath.Join(t.TempDir(), "none", "disk"), false, hello); !fault.Is(err, fault.NotFound) {
		t.Errorf("in a folder that is not there: %v", err)
	}
}
