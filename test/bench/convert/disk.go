package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/hyperplane-project/hyperplane/test/proc"
)

// makeDisk writes a disk like one in use: a partition table, a file system of a third of the disk that holds files of /usr, random bytes on a sixteenth,
// written zeros on a thirty-second, and the rest never written. It returns how many bytes of the file are allocated.
func makeDisk(ctx context.Context, path string, size int64) (data int64, err error) {
	files := path + ".files"
	defer func() { err = errors.Join(err, os.RemoveAll(files)) }()
	if err := copyFiles(files, size*5/16); err != nil {
		return 0, err
	}
	const partition = 1 << 20
	fsSize := size * 3 / 4
	if _, err := proc.Run(ctx, nil, "mke2fs", "-q", "-F", "-t", "ext4", "-d", files, "-E", fmt.Sprintf("offset=%d", partition), path,
		fmt.Sprintf("%dk", (fsSize-partition)>>10)); err != nil {
		return 0, err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Truncate(size); err != nil {
		return 0, err
	}
	if err := writeRest(f, fsSize, size); err != nil {
		return 0, err
	}
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Sys().(*syscall.Stat_t).Blocks * 512, nil
}

// writeRest writes the master boot record's mark, random bytes and zeros.
func writeRest(f *os.File, at, size int64) error {
	if _, err := f.WriteAt([]byte{0x55, 0xaa}, 510); err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(1, 2))
	block := make([]byte, 1<<20)
	for off := int64(0); off < size*3/32; off += int64(len(block)) {
		if off >= size/16 {
			clear(block)
		} else {
			for i := range block {
				block[i] = byte(r.Uint32())
			}
		}
		if _, err := f.WriteAt(block, at+off); err != nil {
			return err
		}
	}
	return nil
}

// copyFiles copies files of /usr into dir until they have about so many bytes.
func copyFiles(dir string, bytes int64) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	full := errors.New("full")
	n := 0
	err := filepath.WalkDir("/usr", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || strings.HasPrefix(path, "/usr/src/") {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		if bytes -= st.Size(); bytes < 0 {
			return full
		}
		n++
		return copyFile(path, filepath.Join(dir, fmt.Sprintf("%06d", n)))
	})
	if errors.Is(err, full) {
		return nil
	}
	return err
}

// copyFile copies without holding the file: the memory of this process is the least that is measured of its children.
func copyFile(from, to string) (err error) {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}
