package refs_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/internal/refs"
)

// chain opens files that hold the name of their parent, or nothing.
func chain(f image.File, _ string, o image.OpenOptions) (image.Reader, error) {
	b := make([]byte, f.Size())
	if _, err := f.ReadAt(b, 0); err != nil {
		return nil, err
	}
	if len(b) > 1 {
		parent, err := o.OpenImage(image.Reference{Kind: "parent", Name: string(b)}, "chain")
		if err != nil {
			return nil, err
		}
		return parent, f.Close()
	}
	return nil, errEnd
}

var errEnd = errors.New("the end of the chain was reached")

func folder(t *testing.T, main string) *refs.Folder {
	t.Helper()
	f, err := os.Open(main)
	if err != nil {
		t.Fatal(err)
	}
	l, err := image.NewLocalFile(f)
	if err != nil {
		t.Fatal(err)
	}
	d, err := refs.SameFolder(l, chain)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = d.Close(), f.Close() })
	return d
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestFile opens what may be opened and refuses everything else. A pipe does not block.
func TestFile(t *testing.T) {
	t.Parallel()
	outside := t.TempDir()
	dir := filepath.Join(outside, "images")
	for _, err := range []error{
		os.Mkdir(dir, 0o700), os.Mkdir(filepath.Join(dir, "sub"), 0o700), os.Symlink("good", filepath.Join(dir, "link")),
		os.Symlink("../secret", filepath.Join(dir, "leak")), unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(outside, "secret"), "s")
	write(t, filepath.Join(dir, "main"), "m")
	write(t, filepath.Join(dir, "good"), "g")
	write(t, filepath.Join(dir, "json:{}"), "j")
	for name, ok := range map[string]bool{
		"good": true, "./good": true, "json:{}": true,
		"main": false, "link": false, "leak": false, "pipe": false, "sub": false, "missing": false, "": false, ".": false, "..": false, "./": false,
		"../secret": false, "/etc/passwd": false, "sub/x": false, "../images/good": false, "good\x00": false, "nbd://localhost/x": false,
	} {
		d := folder(t, filepath.Join(dir, "main"))
		f, err := d.File(image.Reference{Kind: "extent", Name: name})
		if ok != (err == nil) || err != nil && !errors.Is(err, image.ErrReference) {
			t.Errorf("%q: %v", name, err)
		}
		if err != nil {
			continue
		}
		if _, err := d.File(image.Reference{Kind: "extent", Name: name}); !errors.Is(err, image.ErrReference) {
			t.Errorf("%q is opened twice: %v", name, err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestChain follows a chain of images: to its end, into a loop, and too deep.
func TestChain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := func(i int) string { return string(rune('a'+i)) + "-image" }
	const length = 20
	for i := range length {
		write(t, filepath.Join(dir, name(i)), name(i+1))
	}
	write(t, filepath.Join(dir, name(length)), "")
	write(t, filepath.Join(dir, "loop-1"), "loop-2")
	write(t, filepath.Join(dir, "loop-2"), "loop-1")
	for _, c := range []struct {
		main, parent string
		want         error
	}{
		{name(0), name(length - refs.MaxDepth + 2), errEnd},
		{name(0), name(length - refs.MaxDepth), image.ErrLimit},
		{"loop-1", "loop-2", image.ErrReference},
	} {
		d := folder(t, filepath.Join(dir, c.main))
		if _, err := d.Image(image.Reference{Kind: "parent", Name: c.parent}, "chain"); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.parent, err, c.want)
		}
	}
	d := folder(t, filepath.Join(dir, name(0)))
	if _, err := d.Image(image.Reference{Kind: "backing", Name: name(1)}, ""); !errors.Is(err, image.ErrReference) {
		t.Errorf("a format is guessed: %v", err)
	}
}
