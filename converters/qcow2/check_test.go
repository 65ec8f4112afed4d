package qcow2_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
	"github.com/hyperplane-project/hyperplane/internal/procexec"
)

// Offsets in the image of good: the refcount table and its block, of 16-bit counts.
const (
	refTableAt = 2 * cluster
	refBlockAt = 3 * cluster
)

func put16(at int, value uint16) func([]byte) []byte {
	return func(b []byte) []byte { binary.BigEndian.PutUint16(b[at:], value); return b }
}

// findings are the numbers of findings by severity.
type findings struct {
	Leaks       int `json:"leaks"`
	Corruptions int `json:"corruptions"`
}

// qemuCheck returns what "qemu-img check" finds.
func qemuCheck(t *testing.T, b []byte) (f findings) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.qcow2")
	if err := os.WriteFile(path, b, 0o600); err != nil { //nolint:gosec // the path is in the test's own folder
		t.Fatal(err)
	}
	out := &bytes.Buffer{}
	_, err := procexec.Runner{}.Run(t.Context(), procexec.Command{Program: "qemu-img", Args: []string{"check", "--output=json", "-f", "qcow2", path}, Stdout: out})
	var exit *procexec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out.Bytes(), &f); err != nil {
		t.Fatalf("qemu-img check: %v\n%s", err, out)
	}
	return f
}

// ownCheck returns what the Checker finds.
func ownCheck(t *testing.T, b []byte) (f findings) {
	t.Helper()
	r, err := openBytes(b, image.OpenOptions{InfoOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	err = r.(image.Checker).Check(t.Context(), func(found image.Finding) {
		t.Logf("%s at %d: %s", found.Severity, found.Offset, found.Text)
		if found.Severity == image.Leak {
			f.Leaks++
		} else {
			f.Corruptions++
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestCheckAgrees damages images and compares with what QEMU finds. Where QEMU counts one fault several times, or other effects of it, only whether there is a
// fault is compared.
func TestCheckAgrees(t *testing.T) {
	t.Parallel()
	plain, packed, old := good(t, ""), good(t, "zlib"), snapshotted(t, "compat=1.1")
	packedL2 := int(binary.BigEndian.Uint64(packed[l1At:]) &^ (1 << 63))
	oldTable := int(binary.BigEndian.Uint64(old[64:]))
	for name, c := range map[string]struct {
		b       []byte
		damage  func([]byte) []byte
		roughly bool
	}{
		"good":                        {plain, both(), false},
		"good compressed":             {packed, both(), false},
		"good with snapshots":         {old, both(), false},
		"refcount too high":           {plain, put16(refBlockAt+2*5, 2), false},
		"refcount too low":            {plain, put16(refBlockAt+2*5, 0), false},
		"refcount of the header":      {plain, put16(refBlockAt, 0), false},
		"leaked cluster":              {plain, put64(l2At, 0), false},
		"two leaked clusters":         {plain, both(put64(l2At, 0), put64(l2At+8, 1)), false},
		"leaked L2 table":             {plain, put64(l1At, 0), false},
		"cluster named twice":         {plain, put64(l2At+8*9, 1<<63|dataAt), false},
		"named twice, not as copied":  {plain, both(put64(l2At+8*9, dataAt), put64(l2At, dataAt)), true},
		"copied flag missing":         {plain, put64(l2At, dataAt), false},
		"copied flag of the L1":       {plain, put64(l1At, l2At), false},
		"copied flag, refcount two":   {plain, put16(refBlockAt+2*6, 2), false},
		"cluster past the end":        {plain, put64(l2At, 1<<63|1<<40), true},
		"cluster at no cluster":       {plain, put64(l2At, 1<<63|dataAt+512), true},
		"cluster is the header":       {plain, put64(l1At, 1<<63), true},
		"L2 at no cluster":            {plain, put64(l1At, 1<<63|l2At+512), true},
		"L2 is the L1":                {plain, put64(l1At, 1<<63|l1At), true},
		"reserved bits":               {plain, put64(l2At, 1<<63|dataAt|2), true},
		"reserved bits of the L1":     {plain, put64(l1At, 1<<63|l2At|1), true},
		"no refcount block":           {plain, put64(refTableAt, 0), true},
		"block at no cluster":         {plain, put64(refTableAt, refBlockAt+512), true},
		"block past the end":          {plain, put64(refTableAt, 1<<40), true},
		"two blocks are one":          {plain, put64(refTableAt+8, refBlockAt), true},
		"cluster at the end":          {plain, func(b []byte) []byte { return append(b, make([]byte, cluster)...) }, false},
		"compressed leaked":           {packed, put64(packedL2, 0), false},
		"compressed named twice":      {packed, func(b []byte) []byte { copy(b[packedL2+8*9:], b[packedL2:packedL2+8]); return b }, false},
		"compressed marked as copied": {packed, func(b []byte) []byte { b[packedL2] |= 0x80; return b }, false},
		"snapshot forgotten":          {old, put32(60, 1), true},
		"snapshots forgotten":         {old, put32(60, 0), true},
		"snapshot's L1 is another":    {old, put64(oldTable, l1At), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := c.damage(bytes.Clone(c.b))
			got, want := ownCheck(t, b), qemuCheck(t, b)
			if c.roughly {
				got, want = findings{min(got.Leaks, 1), min(got.Corruptions, 1)}, findings{min(want.Leaks, 1), min(want.Corruptions, 1)}
			}
			if got != want {
				t.Errorf("found %+v, qemu-img check finds %+v", got, want)
			}
		})
	}
}

// TestCheckClean examines what QEMU writes in ways that this package does not.
func TestCheckClean(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"refcounts of 1 bit":   {"-o", "refcount_bits=1"},
		"refcounts of 4 bits":  {"-o", "refcount_bits=4"},
		"refcounts of 8 bits":  {"-c", "-o", "refcount_bits=8"},
		"refcounts of 32 bits": {"-o", "refcount_bits=32"},
		"refcounts of 64 bits": {"-c", "-o", "refcount_bits=64"},
		"preallocated":         {"-o", "preallocation=metadata"},
		"small clusters":       {"-c", "-o", "cluster_size=512"},
		"v2":                   {"-o", "compat=0.10"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			place(t, dir, "disk.raw", imagetest.RandomDisk(91, 4_000_256))
			qemu(t, dir, append(append([]string{"convert", "-f", "raw", "-O", "qcow2"}, args...), "disk.raw", "disk.qcow2")...)
			if name == "v2" {
				qemu(t, dir, "snapshot", "-c", "first", "disk.qcow2")
			} else {
				qemu(t, dir, "bitmap", "--add", "disk.qcow2", "changes")
			}
			b, err := os.ReadFile(filepath.Join(dir, "disk.qcow2"))
			if err != nil {
				t.Fatal(err)
			}
			if got, want := ownCheck(t, b), qemuCheck(t, b); got != want {
				t.Errorf("found %+v, qemu-img check finds %+v", got, want)
			}
		})
	}
}
