package vmdk_test

import (
	"errors"
	"io"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
)

func fuzzHarness() imagetest.Harness {
	h := harness()
	h.Variants = []imagetest.Variant{{Options: image.CreateOptions{ClusterSize: 4096}}}
	return h
}

// FuzzOpen fuzzes everything that can be opened without other files. Descriptors are refused then, but not before they are read.
func FuzzOpen(f *testing.F) {
	h := plainHarness()
	h.Variants = []imagetest.Variant{{Options: image.CreateOptions{Variant: "monolithicSparse", ClusterSize: 4096}}}
	imagetest.AddSeeds(f, fuzzHarness())
	imagetest.AddSeeds(f, h)
	f.Add(both(put32(0, 0x564d444b), put32(4, 1), put64(12, 2048), put64(20, 8), put64(28, 1), put64(36, 1), put32(44, 512), put64(56, 2),
		putText(512, "createType=monolithicSparse\n"), put32(1024, 3), put32(1536, 4))(make([]byte, 16<<10)))
	for _, line := range descriptorLines() {
		f.Add(describe("custom", line))
	}
	imagetest.FuzzReader(f, h)
}

func FuzzStream(f *testing.F) {
	imagetest.AddSeeds(f, fuzzHarness())
	imagetest.FuzzStream(f, fuzzHarness())
}

func descriptorLines() []string {
	return []string{
		`RW 64 FLAT "x" 0`, `RW 5 VMFS "x"`, `RW 64 SPARSE "x"`, `RW 64 VMFSSPARSE "x"`, `RW 64 SESPARSE "x"`, "RW 64 ZERO\nRW 8 FLAT \"x\" 3", "RW 64 ZERO\n",
		`NOACCESS 3 FLAT "x"`, "RW 64 ZERO\nparentCID=1a2b3c4d\nparentFileNameHint=\"x\"",
	}
}

// anyFile are References by which each name is the same file, as a part of a disk or as a parent that needs no others.
type anyFile []byte

func (b anyFile) File(image.Reference) (image.File, error) {
	return files{"x": b}.File(image.Reference{Name: "x"})
}

func (b anyFile) Image(image.Reference, string) (image.Reader, error) {
	return files{"x": b}.openWith("x", nil)
}

// FuzzDescriptor fuzzes a descriptor together with the file it names.
func FuzzDescriptor(f *testing.F) {
	disk := make([]byte, 64*sector)
	disk[5000] = 1
	for _, line := range descriptorLines() {
		for _, file := range [][]byte{disk, cowd(disk, 8), seSparse(disk, nil), describe("custom", "RW 64 ZERO")} {
			f.Add(describe("custom", line), file)
		}
	}
	f.Fuzz(func(t *testing.T, text, file []byte) {
		r, err := files{"disk": text}.openWith("disk", anyFile(file))
		if err == nil {
			err = readSome(r)
		}
		if err != nil && !imagetest.Refused(err) {
			t.Fatalf("%v: is no error an image is refused with", err)
		}
	})
}

// readSome walks the map as far as it does not take long, and reads a little of each run.
func readSome(r image.Reader) error {
	p := make([]byte, 64<<10)
	for off, n := int64(0), 0; off < r.Info().VirtualSize && n < 100; n++ {
		e, err := r.NextExtent(off)
		if err != nil {
			return err
		}
		if got, err := r.ReadAt(p[:min(e.Len, int64(len(p)))], off); got == 0 && !errors.Is(err, io.EOF) {
			return err
		}
		off += e.Len
	}
	return r.Close()
}
