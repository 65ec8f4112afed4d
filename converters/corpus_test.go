package converters_test

import (
	"bufio"
	"encoding/hex"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

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

// readable reports whether files of a corpus format are read; the others must be refused.
func readable(format string) bool {
	switch {
	case format == "raw", strings.HasPrefix(format, "qcow2/"), format == "vmdk/monolithicSparse", format == "vmdk/streamOptimized":
		return true
	}
	return false
}

func checkCorpusFile(t *testing.T, path string, row corpusRow) {
	t.Helper()
	sum, info, err := digestFile(t, path)
	if err != nil && !imagetest.Refused(err) {
		t.Errorf("%v: is no error an image is refused with", err)
	}
	switch {
	case row.sum == anything:
		if err == nil {
			t.Errorf("a piece of an image or a damaged one is read as %s of %d bytes", info.Format, info.VirtualSize)
		}
	case row.sum == mustRefuse || !readable(row.format):
		if err == nil {
			t.Errorf("is read as %s of %d bytes, must be refused", info.Format, info.VirtualSize)
		}
	case err != nil:
		t.Error(err)
	case info.VirtualSize != row.size || sum != row.sum:
		t.Errorf("has %d bytes with sum %s, want %d with %s", info.VirtualSize, sum, row.size, row.sum)
	}
	if err != nil {
		t.Log(err)
		return
	}
	if info.Variant == "streamOptimized" {
		_, res := convert(t, converters.Source{Stream: openStream(t, info.Format, path)}, converters.Target{Format: "raw"}, converters.Options{SHA256: true})
		if sum := hex.EncodeToString(res.SHA256[:]); sum != row.sum {
			t.Errorf("read as a stream it has sum %s, want %s", sum, row.sum)
		}
	}
}

// digestFile opens a file as a user would: without saying its format, save that a file named -flat or -f001 is known to be raw.
func digestFile(t *testing.T, path string) (string, image.Info, error) {
	t.Helper()
	formats := all.Formats()
	info, inspectErr := formats.Inspect(path, converters.OpenOptions{})
	r, err := formats.Open(t.Context(), path, converters.OpenOptions{})
	if (err == nil) != (inspectErr == nil) {
		t.Errorf("Open says %v, Inspect says %v", err, inspectErr)
	}
	if err != nil {
		return "", info, err
	}
	defer func() { _ = r.Close() }()
	sum, err := converters.Digest(t.Context(), r)
	return hex.EncodeToString(sum[:]), info, err
}
