package deflate_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	kflate "github.com/klauspost/compress/flate"
)

const unit = 64 << 10

// diskBlocks returns a few hundred blocks of what disks hold: programs, libraries and text of this machine; this test's own program where there is none.
func diskBlocks(b *testing.B) (blocks [][]byte) {
	b.Helper()
	for _, pattern := range []string{"/usr/bin/*", "/usr/lib/x86_64-linux-gnu/*.so*", "/usr/share/*/*", "/usr/share/perl/*/*/*"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			b.Fatal(err)
		}
		blocks = append(blocks, someBlocks(paths, 100)...)
	}
	if len(blocks) == 0 {
		path, err := os.Executable()
		if err != nil {
			b.Fatal(err)
		}
		blocks = someBlocks([]string{path}, 1)
	}
	return blocks
}

// someBlocks returns at most n blocks, from the middle of every so many files that are large enough.
func someBlocks(paths []string, n int) (blocks [][]byte) {
	var large []string
	for _, path := range paths {
		if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() && info.Size() >= unit {
			large = append(large, path)
		}
	}
	for i := 0; i < len(large); i += 1 + len(large)/n {
		data, err := os.ReadFile(large[i])
		if err != nil {
			continue
		}
		middle := (len(data) - unit) / 2
		blocks = append(blocks, data[middle:middle+unit])
	}
	return blocks
}

// BenchmarkCompress compresses the same blocks with klauspost/compress and with this package, which is the same up to level 4.
func BenchmarkCompress(b *testing.B) {
	blocks := diskBlocks(b)
	for level := 1; level <= 9; level++ {
		b.Run(fmt.Sprintf("klauspost/%d", level), func(b *testing.B) {
			w, err := kflate.NewWriter(io.Discard, level)
			if err != nil {
				b.Fatal(err)
			}
			var out bytes.Buffer
			benchmark(b, blocks, func(p []byte) (int, error) {
				out.Reset()
				w.Reset(&out)
				if _, err := w.Write(p); err != nil {
					return 0, err
				}
				err := w.Close()
				return out.Len(), err
			})
		})
		b.Run(fmt.Sprintf("deflate/%d", level), func(b *testing.B) {
			c := compressor(b, level, 32<<10)
			var dst []byte
			benchmark(b, blocks, func(p []byte) (n int, err error) {
				dst, err = c.Append(dst[:0], p)
				return len(dst), err
			})
		})
	}
}

// benchmark compresses all blocks in an operation and reports what they become.
func benchmark(b *testing.B, blocks [][]byte, compress func([]byte) (int, error)) {
	b.Helper()
	b.SetBytes(int64(len(blocks) * unit))
	total := 0
	for b.Loop() {
		total = 0
		for _, p := range blocks {
			n, err := compress(p)
			if err != nil {
				b.Fatal(err)
			}
			total += n
		}
	}
	b.ReportMetric(float64(total), "size")
}
