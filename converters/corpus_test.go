package converters_test

import (
	"bufio"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hyperplane-project/hyperplane/converters"
	"github.com/hyperplane-project/hyperplane/converters/all"
	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
)

// corpusRow is a line of the corpus' expected.tsv: what reading a file must give.
type corpusRow struct {
	file, format string
	size         int64
	sum          string // SHA-256 of the content, or one of the words below
}

const (
	mustRefuse = "-"       // an error that says why
	anything   = "ANY"     // anything but a crash or a wrong success
	allZero    = "ALLZERO" // zeros, too many to hash
)

// TestCorpus reads images that other products made. They are kept beside the project; HYPERPLANE_CORPUS names another folder, or "none" to go without.
func TestCorpus(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("HYPERPLANE_CORPUS")
	switch dir {
	case "none":
		t.Log("the corpus was left out: HYPERPLANE_CORPUS is none")
		return
	case "":
		dir = filepath.Join(moduleRoot(t), "..", "shared", "corpus")
	}
	for _, row := range readCorpus(t, dir) {
		t.Run(row.file, func(t *testing.T) {
			t.Parallel()
			checkCorpusFile(t, filepath.Join(dir, row.file), row)
		})
	}
}

func moduleRoot(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("there is no go.mod in this folder or one above it")
		}
		dir = up
	}
}

func readCorpus(t *testing.T, dir string) []corpusRow {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, "expected.tsv")) //nolint:gosec // the folder is the developer's choice
	if err != nil {
		t.Fatalf("%v: the corpus of disk images is needed; set HYPERPLANE_CORPUS to its folder, or to none to go without", err)
	}
	defer func() { _ = f.Close() }()
	var rows []corpusRow
	for s := bufio.NewScanner(f); s.Scan(); {
		c := strings.Split(s.Text(), "\t")
		if strings.HasPrefix(c[0], "#") || len(c) < 4 {
			continue
		}
		row := corpusRow{file: c[0], format: c[1], sum: c[3]}
		if c[2] != "-" {
			if row.size, err = strconv.ParseInt(c[2], 10, 64); err != nil {
				t.Fatalf("expected.tsv: %v", err)
			}
		}
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		t.Fatal("expected.tsv has no rows")
	}
	return rows
}

// overlook are the files that are refused unless their checksums are not looked at.
func overlook(file string) bool { return file == "dfvfs/image.vhd" }

func checkCorpusFile(t *testing.T, path string, row corpusRow) {
	t.Helper()
	o := converters.OpenOptions{SameFolder: true}
	if overlook(row.file) {
		if _, _, err := digestFile(t, path, o); !errors.Is(err, image.ErrCorrupt) {
			t.Errorf("with wrong checksums: %v", err)
		}
		o.Force = true
	}
	sum, info, err := digestFile(t, path, o)
	if err != nil && !imagetest.Refused(err) {
		t.Errorf("%v: is no error an image is refused with", err)
	}
	switch {
	case row.sum == anything:
		if err == nil {
			t.Errorf("a piece of an image or a damaged one is read as %s of %d bytes", info.Format, info.VirtualSize)
		}
	case row.sum == mustRefuse:
		if err == nil {
			t.Errorf("is read as %s of %d bytes, must be refused", info.Format, info.VirtualSize)
		}
	case err != nil:
		t.Error(err)
	case row.sum == allZero:
		checkZeros(t, path, row.size)
	case info.VirtualSize != row.size || sum != row.sum:
		t.Errorf("has %d bytes with sum %s, want %d with %s", info.VirtualSize, sum, row.size, row.sum)
	}
	if err != nil {
		t.Log(err)
		return
	}
	if len(info.References) > 0 {
		if _, _, err := digestFile(t, path, converters.OpenOptions{}); !errors.Is(err, image.ErrReference) {
			t.Errorf("without permission its other files are opened: %v", err)
		}
	}
	if info.Variant == "streamOptimized" {
		_, res := convert(t, converters.Source{Stream: openStream(t, info.Format, path)}, converters.Target{Format: "raw"}, converters.Options{SHA256: true})
		if sum := hex.EncodeToString(res.SHA256[:]); sum != row.sum {
			t.Errorf("read as a stream it has sum %s, want %s", sum, row.sum)
		}
	}
}

// checkZeros converts a disk of zeros to raw: the file must take no room.
func checkZeros(t *testing.T, path string, size int64) {
	t.Helper()
	r, err := all.Formats().Open(t.Context(), path, converters.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	out := filepath.Join(t.TempDir(), "zeros.raw")
	writeImage(t, r, out, converters.Target{Format: "raw"}, converters.Options{})
	var st unix.Stat_t
	if err := unix.Stat(out, &st); err != nil || st.Size != size || st.Blocks != 0 {
		t.Errorf("the disk of zeros becomes a file of %d bytes in %d blocks, want %d and none: %v", st.Size, st.Blocks, size, err)
	}
}

// digestFile opens a file as a user would: without saying its format. A disk too large to read is not.
func digestFile(t *testing.T, path string, o converters.OpenOptions) (string, image.Info, error) {
	t.Helper()
	formats := all.Formats()
	if _, err := formats.Inspect(path, o); err != nil && !imagetest.Refused(err) {
		t.Errorf("inspect: %v", err)
	}
	r, err := formats.Open(t.Context(), path, o)
	if err != nil {
		return "", image.Info{}, err
	}
	defer func() { _ = r.Close() }()
	const large = 10 << 30
	if r.Info().VirtualSize > large {
		return "", r.Info(), nil
	}
	sum, err := converters.Digest(t.Context(), r)
	return hex.EncodeToString(sum[:]), r.Info(), err
}
