package converters_test

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/hyperplane-project/hyperplane/converters"
	"github.com/hyperplane-project/hyperplane/converters/all"
	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/raw"
)

// A disk of any origin becomes an image file: the file appears when it is complete, or not at all.
func Example() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	content := bytes.Repeat([]byte("content "), 1<<17)
	disk := raw.New(bytes.NewReader(content), int64(len(content)))
	path := filepath.Join(dir, "disk.qcow2")
	err = converters.WriteFile(context.Background(), path, false, func(ctx context.Context, f *os.File) error {
		target := converters.Target{Format: "qcow2", Compression: "zlib", Out: f, Name: filepath.Base(path)}
		res, err := all.Formats().Convert(ctx, converters.Source{Reader: disk}, target, converters.Options{SHA256: true})
		fmt.Printf("%d bytes, SHA-256 %x…\n", res.VirtualSize, res.SHA256[:4])
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	info, err := all.Formats().Inspect(path, converters.OpenOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(info.Format, info.Variant, info.Compression)
	// Output:
	// 1048576 bytes, SHA-256 86e192ac…
	// qcow2 v3 zlib
}

// The map of a disk says where content is without reading it.
func ExampleFormats_Open() {
	f, err := os.CreateTemp("", "example-*.raw")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.Remove(f.Name()) }()
	if _, err := f.WriteAt(make([]byte, 4096), 1<<20); err != nil {
		log.Fatal(err)
	}
	if err := f.Close(); err != nil {
		log.Fatal(err)
	}
	r, err := all.Formats().Open(context.Background(), f.Name(), converters.OpenOptions{Format: "raw"})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	for off, size := int64(0), r.Info().VirtualSize; off < size; {
		e, err := r.NextExtent(off)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%7d: %d bytes, data: %t\n", e.Off, e.Len, e.Kind == image.Data)
		off += e.Len
	}
	// Output:
	//       0: 1048576 bytes, data: false
	// 1048576: 4096 bytes, data: true
}

// A stream needs no file: an image can go to standard output or into an upload.
func ExampleFormats_Convert_stream() {
	disk := raw.New(bytes.NewReader(make([]byte, 1<<20)), 1<<20)
	var upload bytes.Buffer
	target := converters.Target{Format: "vmdk", Stream: &upload, ContentID: [16]byte{1}}
	res, err := all.Formats().Convert(context.Background(), converters.Source{Reader: disk}, target, converters.Options{FileSHA256: true})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(res.FileSize == int64(upload.Len()))
	// Output: true
}
